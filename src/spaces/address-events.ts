/**
 * What the target does to its address space, as the kernel reports it: madvise, munmap, mremap; see userfaultfd(2).
 * The events of one turn come after all results, in the order in which the kernel queued them.
 */
import { Residency } from '../core/engine.js';
import { Errno } from '../core/layout.js';
import { type SpaceId, type Vpn, pageIndex, vpn } from '../core/types.js';
import type { Family } from '../family/family.js';
import { State } from '../tables/page-table.js';
import type { Region } from '../tables/regions.js';
import type { MappingCache } from './mapping-cache.js';
import type { MappingScan } from './mapping-scan.js';
import type { PageRemoval } from './page-removal.js';

/** How long a move waits for its second event, in ns. With MREMAP_DONTUNMAP the old place stays, and none comes. */
const ECHO_NS = 1e9;
/** Most ranges that are rechecked one by one; beyond it every region is rechecked. */
const RECHECK_MAX = 1024;

interface AddressRange {
  readonly space: SpaceId;
  readonly start: number;
  readonly end: number;
}

export class AddressEvents {
  /** Ranges that were removed and may have pages all the same: after MADV_FREE, or before the removal takes effect. */
  private rechecks: AddressRange[] = [];
  /** Old places of moves whose second event, the unmapping of the old place, has not come. */
  private echoes: (AddressRange & { readonly since: number })[] = [];

  constructor(
    private readonly family: Family,
    private readonly cache: MappingCache,
    private readonly scan: MappingScan,
    private readonly removal: PageRemoval,
  ) {}

  /** MADV_DONTNEED or MADV_FREE: from now on these pages are zeros. */
  removed(space: SpaceId, start: number, end: number): void {
    const { regions } = this.family;
    for (const part of regions.inside(space, start, end))
      for (let i = 0; i < part.count; i++) this.removal.empty(pageIndex(part.first + i));
    if (this.rechecks.length < RECHECK_MAX) this.rechecks.push({ space, start, end });
    else this.rechecks = regions.all().map((one) => ({ ...one, end: one.start + one.count }));
  }

  /**
   * munmap, or the second event of a move (mremap): the old place is gone. If another thread has moved something to the
   * old place meanwhile, and the event of that move has come first, what stands there now is not what is gone.
   */
  unmapEvent(space: SpaceId, start: number, end: number): void {
    this.echoes = this.echoes.filter((echo) => this.family.now - echo.since < ECHO_NS);
    const at = this.echoes.findIndex((echo) => echo.space === space && echo.start === start && echo.end === end);
    if (at < 0) return this.unmapped(space, start, end);
    this.echoes.splice(at, 1);
    for (const [from, to] of this.unregistered(space, start, end)) this.unmapped(space, from, to);
  }

  /** The parts of [start, end) where no registered mapping stands now. */
  private unregistered(space: SpaceId, start: number, end: number): [number, number][] {
    const parts: [number, number][] = [];
    let at = start;
    for (const mapping of this.cache.read(space, true)) {
      if (!mapping.flags.includes('um') || mapping.end <= at || mapping.start >= end) continue;
      if (mapping.start > at) parts.push([at, mapping.start]);
      at = mapping.end;
    }
    if (at < end) parts.push([at, end]);
    return parts;
  }

  /** Forgets the regions in [start, end). */
  unmapped(space: SpaceId, start: number, end: number): void {
    const { regions, engine } = this.family;
    this.scan.expire(space); // a new mapping may stand there already
    for (const part of regions.remove(space, start, end)) {
      for (let i = 0; i < part.count; i++) this.removal.forget(pageIndex(part.first + i));
      engine.unbind(space, part.start, part.count);
    }
  }

  /** mremap: the regions in [from, from + count) stand at `to` now, with their pages. */
  moved(space: SpaceId, from: Vpn, to: Vpn, count: number): void {
    const { family } = this;
    this.echoes.push({ space, start: from, end: from + count, since: family.now });
    this.unmapped(space, to, to + count); // MREMAP_FIXED over a mapping of ours
    for (const part of family.regions.move(space, from, to, count)) {
      family.engine.unbind(space, part.start, part.count);
      family.engine.bind(space, vpn(to + (part.start - from)), part.count, part.first);
    }
    family.rescan = true;
  }

  /** Looks what has become of the ranges that were removed. */
  recheck(): void {
    const ranges = this.rechecks;
    this.rechecks = [];
    for (const { space, start, end } of ranges)
      for (const part of this.family.regions.inside(space, start, end)) this.recheckRegion(part);
  }

  /**
   * Write-protects the EMPTY pages of a region that are mapped all the same. Either they were given to MADV_FREE, and
   * may be used again; or MADV_DONTNEED has yet to take effect, and a page evicted now would come back with its old
   * bytes. Nothing tells the two apart. So the page stays EMPTY until it is written to; then its bytes are the target's
   * own again, and the write-protect fault makes it RESIDENT.
   */
  private recheckRegion({ space, start, count, first }: Region): void {
    const { engine, pages } = this.family;
    const residency = new Uint8Array(count);
    if (engine.residency(space, start, count, residency) !== Errno.ok) return;
    const isThere = (i: number): boolean =>
      residency[i] === Residency.present && pages.state[first + i] === State.empty;
    for (let i = 0; i < count; i++) {
      if (!isThere(i)) continue;
      let end = i + 1;
      while (end < count && isThere(end)) end++;
      if (engine.protect(space, vpn(start + i), end - i) === Errno.EAGAIN)
        this.rechecks.push({ space, start: start + i, end: start + end });
      i = end;
    }
  }

  /** The space is gone. */
  drop(space: SpaceId): void {
    this.rechecks = this.rechecks.filter((range) => range.space !== space);
  }
}
