/** fork: the child gets the regions of its parent, and shares with it, slot by slot, what is stored. */
import type { Mapping } from '../core/engine.js';
import { NONE, type PageIndex, type SpaceId, pageIndex, vpn } from '../core/types.js';
import type { Family } from '../family/family.js';
import { PageFlag, State } from '../tables/page-table.js';
import type { Region } from '../tables/regions.js';
import type { MappingCache } from './mapping-cache.js';

export class Fork {
  constructor(
    private readonly family: Family,
    private readonly cache: MappingCache,
  ) {}

  /** The target has called fork, which waits: there is no descriptor for the child. */
  waits(errno: number): void {
    this.family.notify(
      'error',
      'leapd has no descriptor left for a forked child: the fork waits until one is free; ' +
        'start leapd with a higher limit (ulimit -n)',
      { errno },
    );
  }

  /** A space has forked. @param child negative when the engine has no space left for it */
  forked(parent: SpaceId, child: SpaceId): void {
    const { family } = this;
    const theirs = family.regions.of(parent);
    if (child < 0 || !family.indices.makeRoom(theirs.reduce((sum, { count }) => sum + count, 0))) {
      family.notify(
        'error',
        'the target has forked more children than can be followed: a child that touches a stored page waits for ever',
        {},
      );
      return;
    }
    family.spaces.push(child);
    family.counters.forks++;
    const withheld = this.withheld(parent);
    for (const region of theirs) this.inheritRegion(child, region, withheld);
    family.notify('info', 'the target has forked; the child is paged too', { spaces: family.spaces.length });
  }

  /**
   * Mappings that the child does not get (MADV_DONTFORK) or gets as zeros (MADV_WIPEONFORK), by address. The target may
   * have called madvise after the mapping was registered.
   */
  private withheld(parent: SpaceId): Mapping[] {
    return this.cache
      .read(parent, true)
      .filter(({ flags }) => flags.includes('um') && (flags.includes('dc') || flags.includes('wf')))
      .sort((a, b) => a.start - b.start);
  }

  private inheritRegion(child: SpaceId, region: Region, withheld: readonly Mapping[]): void {
    const regionEnd = region.start + region.count;
    let at: number = region.start;
    for (const { start, end, flags } of withheld) {
      if (end <= at || start >= regionEnd) continue;
      this.inheritRun(child, region, at, start);
      at = Math.min(end, regionEnd);
      if (flags.includes('wf')) this.inheritZeros(child, Math.max(start, region.start), at);
    }
    this.inheritRun(child, region, at, regionEnd);
  }

  /** The part of the parent's region from `start` to `end`. */
  private inheritRun(child: SpaceId, region: Region, start: number, end: number): void {
    if (end <= start) return;
    const { regions, engine } = this.family;
    const copy = regions.add(child, vpn(start), end - start);
    const first = region.first + (start - region.start);
    for (let i = 0; i < copy.count; i++) this.inheritPage(pageIndex(first + i), pageIndex(copy.first + i));
    engine.bind(child, copy.start, copy.count, copy.first);
  }

  /** Pages that are zeros in the child. */
  private inheritZeros(child: SpaceId, start: number, end: number): void {
    const { regions, engine, pages } = this.family;
    const zeros = regions.add(child, vpn(start), end - start);
    for (let i = 0; i < zeros.count; i++) {
      pages.setState(pageIndex(zeros.first + i), State.empty);
      pages.raise(pageIndex(zeros.first + i), PageFlag.fixed);
    }
    engine.bind(child, zeros.start, zeros.count, zeros.first);
  }

  /** The child's page `to` is what the parent's page `from` is; what is in a frame or slot is shared by its slot. */
  private inheritPage(from: PageIndex, to: PageIndex): void {
    const { pages, frames, slots, lost } = this.family;
    const state = pages.state[from];
    pages.flags[to] = PageFlag.fixed | (pages.flags[from] & PageFlag.lost);
    if (pages.has(from, PageFlag.lost)) lost.add(to);
    if (state === State.resident || state === State.empty) {
      pages.setState(to, state);
      const slot = state === State.resident ? pages.slotOf(from) : NONE;
      pages.locate(to, slot !== NONE && slots.share(slot) ? slot : NONE);
      return;
    }
    const slot = state === State.stored ? pages.slotOf(from) : frames.slotOf(pages.frameOf(from));
    if (!slots.share(slot)) throw new Error(`slot ${slot} is shared by more processes than can be counted`);
    pages.setState(to, State.stored);
    pages.locate(to, slot);
  }
}
