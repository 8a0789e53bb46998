/**
 * The mapping scan: finds mappings that are new or have grown, registers them, and learns which of their pages are
 * resident. The kernel reports no event for a new mapping.
 */
import { Residency, type Mapping } from '../core/engine.js';
import { Errno } from '../core/layout.js';
import { NONE, type SpaceId, pageIndex, vpn } from '../core/types.js';
import type { Family } from '../family/family.js';
import { PageFlag, State } from '../tables/page-table.js';
import { Advice, type Region } from '../tables/regions.js';
import type { MappingCache } from './mapping-cache.js';
import { isAnonymous, isPageable } from './pageable.js';
import { Registrar, type Span } from './registrar.js';

export class MappingScan {
  /** The mappings of each space at its last scan; the same array means that nothing has changed since. */
  private readonly scanned = new Map<SpaceId, readonly Mapping[]>();
  private readonly registrar: Registrar;

  constructor(
    private readonly family: Family,
    private readonly cache: MappingCache,
  ) {
    this.registrar = new Registrar(family, cache);
  }

  /**
   * Scans one space. Regions without a mapping are left to their event: the mappings change before their event can be
   * read, so such a region may have just been moved, its stored pages with it.
   * @param faultAt a fault at an address of no region; it proves that the mapping there is registered with leapd
   */
  run(space: SpaceId, faultAt = NONE): void {
    const { regions } = this.family;
    const mappings = this.cache.read(space);
    if (mappings.length === 0 || mappings === this.scanned.get(space)) return;
    this.scanned.set(space, mappings);
    for (const mapping of mappings) {
      if (!this.isOurs(space, mapping, faultAt)) continue;
      for (const [start, end] of regions.gaps(space, mapping.start, mapping.end))
        this.take({ space, start: vpn(start), count: end - start });
    }
    regions.advise([...this.scanned].flatMap(([of, theirs]) => theirs.flatMap((one) => this.adviceIn(of, one))));
  }

  /** The next scan of the space looks at every mapping, whether or not the list has changed. */
  expire(space: SpaceId): void {
    this.scanned.delete(space);
  }

  /** Whether a mapping is to be paged: it is pageable, or leapd has registered it already. */
  private isOurs(space: SpaceId, mapping: Mapping, faultAt: number): boolean {
    const { engine, regions } = this.family;
    const { start, end, flags } = mapping;
    const touched = faultAt >= start && faultAt < end;
    // Another kind of memory, which appeared beside a mapping of ours and was registered together with that one.
    if (touched && !isAnonymous(mapping)) engine.unregister(space, start, end - start);
    if (isPageable(mapping)) return true;
    if (!isAnonymous(mapping) || !flags.includes('um')) return false;
    return touched || regions.inside(space, start, end).length > 0;
  }

  /** What the target has said of a mapping with madvise: first page, end, advice of each region in it. */
  private adviceIn(space: SpaceId, { flags, start, end }: Mapping): number[] {
    const advice = flags.includes('sr') ? Advice.sequential : flags.includes('rr') ? Advice.random : Advice.none;
    if (advice === Advice.none) return [];
    return this.family.regions.inside(space, start, end).flatMap(({ first, count }) => [first, first + count, advice]);
  }

  private take(span: Span): void {
    if (!this.registrar.take(span)) return;
    const { regions, pages, engine } = this.family;
    const region = regions.add(span.space, span.start, span.count);
    for (let i = 0; i < region.count; i++) {
      const page = pageIndex(region.first + i);
      pages.setState(page, State.empty);
      if (!engine.canEvict(span.space)) pages.raise(page, PageFlag.fixed);
    }
    engine.bind(span.space, span.start, span.count, region.first);
    this.learn(region);
  }

  /** EMPTY -> RESIDENT for the pages of a new region that are mapped or in the kernel's swap. */
  private learn(region: Region): void {
    const { family } = this;
    const { pages } = family;
    const residency = new Uint8Array(region.count);
    if (family.engine.residency(region.space, region.start, region.count, residency) !== Errno.ok) return;
    for (let i = 0; i < region.count; i++) {
      const page = pageIndex(region.first + i);
      if (residency[i] === Residency.absent) continue;
      if (pages.state[page] !== State.empty || pages.has(page, PageFlag.mapping)) continue;
      pages.locate(page, NONE);
      family.becomeResident(page, true);
    }
    family.limit.raiseCeiling();
  }
}
