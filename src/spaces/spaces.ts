/**
 * The address spaces: which mappings are paged, and what the target does to them. Events come from the kernel (userfaultfd(2)); new mappings have
 * none and are found by reading /proc/PID/smaps.
 */
import { Residency, type Mapping } from '../core/engine.js';
import type { Family } from '../family/family.js';
import type { Fetcher } from '../store/fetcher.js';
import { Errno } from '../core/layout.js';
import { PageFlag, State } from '../tables/page-table.js';
import { Advice, type Region } from '../tables/regions.js';
import { NONE, type PageIndex, type SpaceId, type Vpn, pageIndex, vpn } from '../core/types.js';
import type { WriteBack } from '../store/write-back.js';

/** VmFlags of mappings that are left alone: locked, huge, shared, io, pfn, device, wiped or not copied on fork, grows down, shadow stack. */
const SKIPPED_FLAGS = ['lo', 'ht', 'sh', 'io', 'pf', 'mm', 'wf', 'dc', 'gd', 'ss'] as const;
/** A move that leaves the old place mapped (MREMAP_DONTUNMAP) has no second event: it is not waited for longer than this. */
const ECHO_NS = 1e9;
const RECHECK_MAX = 1024;
/** A child that waits in a system call for a page of ours cannot be stopped: its helper is tried again later, so many times. */
const ADOPT_TRIES = 10;
const ADOPT_AGAIN_NS = 1e9;

/** Private memory with no file behind it, in pages of the usual size: another kind must never stay registered. */
function isAnonymous({ inode, permissions, flags }: Mapping): boolean {
  return inode === 0 && permissions[3] === 'p' && !flags.includes('ht');
}

/** Whether a mapping is private anonymous memory that can be paged: heap, mmap, thread stacks. */
function isPageable(mapping: Mapping): boolean {
  if (!isAnonymous(mapping) || mapping.permissions[1] !== 'w') return false;
  if (
    mapping.path !== '' &&
    mapping.path !== '[heap]' &&
    !mapping.path.startsWith('[anon:') &&
    !mapping.path.startsWith('[stack:')
  )
    return false;
  return !SKIPPED_FLAGS.some((flag) => mapping.flags.includes(flag));
}

export class Spaces {
  /** What was seen of each space last; the same array means that nothing has changed. */
  private readonly seen = new Map<SpaceId, Mapping[]>();
  /** Ranges that are left alone, and that this was said of: registered by somebody else with a userfaultfd of their own, or too large. */
  private readonly leftAlone = new Set<string>();
  /** Ranges that were removed and may have pages all the same: after MADV_FREE, or because the removal is still to take effect. */
  private rechecks: { space: SpaceId; start: number; end: number }[] = [];
  /** Moves whose second event, the end of the old place, is still to come. */
  private echoes: { space: SpaceId; start: number; end: number; since: number }[] = [];
  /** Children that have no helper yet: how often one was tried, and when it may be tried again, ns. */
  private readonly adoptions = new Map<SpaceId, { tries: number; again: number }>();

  constructor(
    private readonly family: Family,
    private readonly fetcher: Fetcher,
    private readonly writeBack: WriteBack,
  ) {}

  /**
   * Finds mappings that are new or have grown, registers them, and learns what is resident in them. What has gone is left to its event: the mappings
   * change before their event can be read, so a region without a mapping may be one that has just been moved, its stored pages with it.
   */
  scan(space: SpaceId, faultAt = NONE): void {
    const { family } = this;
    const { engine, regions } = family;
    const mappings = engine.mappings(space);
    if (mappings.length === 0 || mappings === this.seen.get(space)) return;
    this.seen.set(space, mappings);
    for (const mapping of mappings) {
      // A fault of ours, or a region of ours in it, says that it is we who have registered it.
      const touched = faultAt >= mapping.start && faultAt < mapping.end;
      // Of another kind: it appeared beside one of ours while that was being registered, and was caught with it.
      if (touched && !isAnonymous(mapping)) engine.unregister(space, mapping.start, mapping.end - mapping.start);
      const ours =
        isAnonymous(mapping) &&
        mapping.flags.includes('um') &&
        (touched || regions.inside(space, mapping.start, mapping.end).length > 0);
      if (!isPageable(mapping) && !ours) continue;
      for (const [start, end] of regions.gaps(space, mapping.start, mapping.end))
        this.take(space, vpn(start), end - start);
    }
    regions.advise([...this.seen].flatMap(([of, theirs]) => theirs.flatMap((mapping) => this.adviceIn(of, mapping))));
  }

  /** What the target has said of a mapping: first page, end, advice of each region in it. */
  private adviceIn(space: SpaceId, { flags, start, end }: Mapping): number[] {
    const advice = flags.includes('sr') ? Advice.sequential : flags.includes('rr') ? Advice.random : Advice.none;
    if (advice === Advice.none) return [];
    return this.family.regions.inside(space, start, end).flatMap(({ first, count }) => [first, first + count, advice]);
  }

  private take(space: SpaceId, start: Vpn, count: number): void {
    const { family } = this;
    const key = `large:${space}:${start}:${count}`;
    if (this.leftAlone.has(key)) return;
    if (!family.indices.makeRoom(count)) {
      family.engine.unregister(space, start, count); // where a mapping of ours has grown in place it is registered, and has nothing of ours
      return this.leaveAlone(key, 'warn', 'a mapping is too large to be paged: it stays resident', start, count);
    }
    const errno = family.engine.register(space, start, count);
    if (errno !== Errno.ok) return this.leaveUnregistered(space, start, count, errno);
    const region = family.regions.add(space, start, count);
    for (let i = 0; i < count; i++) {
      const page = pageIndex(region.first + i);
      family.pages.setState(page, State.empty);
      if (!family.engine.canEvict(space)) family.pages.raise(page, PageFlag.fixed);
    }
    family.engine.bind(space, start, count, region.first);
    this.learn(region);
  }

  private leaveUnregistered(space: SpaceId, start: Vpn, count: number, errno: number): void {
    const key = `${space}:${start}:${count}`;
    if (errno === Errno.EBUSY)
      this.leaveAlone(
        key,
        'info',
        'the target uses userfaultfd on a mapping itself: it stays resident',
        start,
        count,
        errno,
      );
    else this.leaveAlone(key, 'warn', 'a mapping could not be registered: it stays resident', start, count, errno);
  }

  /** Says so, once. */
  private leaveAlone(
    key: string,
    level: 'info' | 'warn',
    what: string,
    start: Vpn,
    pages: number,
    errno?: number,
  ): void {
    if (this.leftAlone.has(key)) return;
    this.leftAlone.add(key);
    this.family.notify(level, what, {
      start: `0x${(start * 4096).toString(16)}`,
      pages,
      ...(errno !== undefined && { errno }),
    });
  }

  /** EMPTY pages of the region that are there all the same become RESIDENT. */
  private learn(region: Region): void {
    const { family } = this;
    const there = new Uint8Array(region.count);
    if (family.engine.residency(region.space, region.start, region.count, there) !== Errno.ok) return;
    for (let i = 0; i < region.count; i++) {
      const page = pageIndex(region.first + i);
      if (
        there[i] === Residency.absent ||
        family.pages.state[page] !== State.empty ||
        family.pages.has(page, PageFlag.mapping)
      )
        continue;
      family.pages.locate(page, NONE);
      family.becomeResident(page, true);
    }
    family.limit.raiseCeiling();
  }

  /**
   * A range was removed. Pages that are there all the same were given to MADV_FREE, and may be used again; or MADV_DONTNEED has yet to take effect, and
   * the same pages taken out now would come back with their old bytes. Nothing tells the two apart, so such a page stays EMPTY, write-protected: only a
   * write, after which its bytes are the target's own again, makes it RESIDENT.
   */
  private recheck(region: Region): void {
    const { engine, pages } = this.family;
    const there = new Uint8Array(region.count);
    if (engine.residency(region.space, region.start, region.count, there) !== Errno.ok) return;
    const lost = (i: number): boolean =>
      there[i] === Residency.present && pages.state[region.first + i] === State.empty;
    for (let i = 0; i < region.count; i++) {
      if (!lost(i)) continue;
      let end = i + 1;
      while (end < region.count && lost(end)) end++;
      const start = vpn(region.start + i);
      if (engine.protect(region.space, start, end - i) === Errno.EAGAIN)
        this.rechecks.push({ space: region.space, start, end: start + (end - i) });
      i = end;
    }
  }

  /** A fault at an address that is registered but unknown: a mapping grew in place. */
  grown(space: SpaceId, faultAt: number): void {
    this.seen.delete(space);
    this.scan(space, faultAt);
  }

  /** MADV_DONTNEED or MADV_FREE: from now on these pages are zeros. */
  removed(space: SpaceId, start: number, end: number): void {
    for (const part of this.family.regions.inside(space, start, end)) {
      for (let i = 0; i < part.count; i++) this.empty(pageIndex(part.first + i));
    }
    if (this.rechecks.length < RECHECK_MAX) this.rechecks.push({ space, start, end });
    else this.rechecks = [...this.spansOfAll()];
  }

  /**
   * munmap. After a move (mremap) the kernel also says that the old place is gone; if another thread has moved something there meanwhile, and its
   * event has come first, then that is not what is gone.
   */
  unmapEvent(space: SpaceId, start: number, end: number): void {
    const { family } = this;
    this.echoes = this.echoes.filter((echo) => family.now - echo.since < ECHO_NS);
    const at = this.echoes.findIndex((echo) => echo.space === space && echo.start === start && echo.end === end);
    if (at < 0) return this.unmapped(space, start, end);
    this.echoes.splice(at, 1);
    for (const [from, to] of this.unregistered(space, start, end)) this.unmapped(space, from, to);
  }

  /** The parts of [start, end) where no registered mapping stands now. */
  private unregistered(space: SpaceId, start: number, end: number): [number, number][] {
    const parts: [number, number][] = [];
    let at = start;
    for (const mapping of this.family.engine.mappings(space)) {
      if (!mapping.flags.includes('um') || mapping.end <= at || mapping.start >= end) continue;
      if (mapping.start > at) parts.push([at, mapping.start]);
      at = mapping.end;
    }
    if (at < end) parts.push([at, end]);
    return parts;
  }

  unmapped(space: SpaceId, start: number, end: number): void {
    const { family } = this;
    this.seen.delete(space); // something new may stand there already
    for (const part of family.regions.remove(space, start, end)) {
      for (let i = 0; i < part.count; i++) this.forget(pageIndex(part.first + i));
      family.engine.unbind(space, part.start, part.count);
    }
  }

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

  /** The target has called fork, which waits: there is no descriptor for the child. */
  forkWaits(errno: number): void {
    this.family.notify(
      'error',
      'leapd has no descriptor left for a forked child: the fork waits until one is free; start leapd with a higher limit (ulimit -n)',
      { errno },
    );
  }

  /** The target has forked: the child has the same regions; what is stored is shared, slot by slot. */
  forked(parent: SpaceId, child: SpaceId): void {
    const { family } = this;
    const { regions } = family;
    const theirs = regions.of(parent);
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
    const kept = this.keptBack(parent);
    for (const region of theirs) {
      let at: number = region.start;
      for (const { start, end, flags } of kept) {
        if (end <= at || start >= region.start + region.count) continue;
        this.inheritRun(child, region, at, start);
        at = Math.min(end, region.start + region.count);
        if (flags.includes('wf')) this.inheritNothing(child, vpn(Math.max(start, region.start)), at);
      }
      this.inheritRun(child, region, at, region.start + region.count);
    }
    family.notify('info', 'the target has forked; the child is paged too', { spaces: family.spaces.length });
  }

  /** What a child gets nothing of (MADV_DONTFORK), or zeros (MADV_WIPEONFORK): the target may have said so since the mapping was taken. */
  private keptBack(parent: SpaceId): Mapping[] {
    const mappings = this.family.engine.mappings(parent, true);
    return mappings
      .filter(({ flags }) => flags.includes('um') && (flags.includes('dc') || flags.includes('wf')))
      .sort((a, b) => a.start - b.start);
  }

  /** The part of the parent's region from `start` to `end`. */
  private inheritRun(child: SpaceId, region: Region, start: number, end: number): void {
    if (end <= start) return;
    const { regions, engine } = this.family;
    const copy = regions.add(child, vpn(start), end - start);
    const first = region.first + (start - region.start);
    for (let i = 0; i < copy.count; i++) this.inherit(pageIndex(first + i), pageIndex(copy.first + i));
    engine.bind(child, copy.start, copy.count, copy.first);
  }

  /** Pages that are zeros in the child. */
  private inheritNothing(child: SpaceId, start: Vpn, end: number): void {
    const { regions, engine, pages } = this.family;
    const empty = regions.add(child, start, end - start);
    for (let i = 0; i < empty.count; i++) {
      pages.setState(pageIndex(empty.first + i), State.empty);
      pages.raise(pageIndex(empty.first + i), PageFlag.fixed);
    }
    engine.bind(child, empty.start, empty.count, empty.first);
  }

  private inherit(from: PageIndex, to: PageIndex): void {
    const { pages, frames, slots } = this.family;
    const state = pages.state[from];
    pages.flags[to] = PageFlag.fixed | (pages.flags[from] & PageFlag.lost);
    if (pages.has(from, PageFlag.lost)) this.family.lost.add(to);
    if (state === State.resident || state === State.empty) {
      pages.setState(to, state);
      const slot = state === State.resident ? pages.slotOf(from) : NONE;
      pages.locate(to, slot !== NONE && slots.share(pages.slotOf(from)) ? slot : NONE);
      return;
    }
    const slot = state === State.stored ? pages.slotOf(from) : frames.slotOf(pages.frameOf(from));
    if (!slots.share(slot)) throw new Error(`slot ${slot} is shared by more processes than can be counted`);
    pages.setState(to, State.stored);
    pages.locate(to, slot);
  }

  /** A fault of a child that cannot be evicted from yet: give it a helper, and count its pages. */
  adopt(space: SpaceId, thread: number): void {
    const { family } = this;
    const { tries, again } = this.adoptions.get(space) ?? { tries: 0, again: 0 };
    if (tries === ADOPT_TRIES || family.now < again) return;
    this.adoptions.set(space, { tries: tries + 1, again: family.now + ADOPT_AGAIN_NS });
    if (!family.engine.adopt(space, thread)) return;
    for (const region of family.regions.of(space)) {
      for (let i = 0; i < region.count; i++) {
        const page = pageIndex(region.first + i);
        if (!family.pages.has(page, PageFlag.fixed)) continue; // counted: the loss of the helper before this one has not been told yet
        family.pages.lower(page, PageFlag.fixed);
        if (family.pages.state[page] !== State.resident) continue;
        family.count(page, true);
      }
    }
    family.limit.raiseCeiling();
  }

  /** The space has lost its helper: its pages cannot be taken away any more, and no longer count. */
  fix(space: SpaceId): void {
    const { family } = this;
    for (const region of family.regions.of(space)) {
      for (let i = 0; i < region.count; i++) {
        const page = pageIndex(region.first + i);
        if (family.pages.state[page] === State.resident) family.leaveResident(page);
        family.pages.raise(page, PageFlag.fixed);
      }
    }
  }

  /** The process is gone, or has called exec. */
  gone(space: SpaceId): void {
    const { family } = this;
    const at = family.spaces.indexOf(space);
    if (at < 0) return;
    family.spaces.splice(at, 1);
    for (const region of family.regions.of(space)) this.unmapped(space, region.start, region.start + region.count);
    this.seen.delete(space);
    this.adoptions.delete(space);
    this.rechecks = this.rechecks.filter((range) => range.space !== space);
    family.engine.drop(space);
  }

  /** Now and then: are the spaces alive, what is new in them, what came of the ranges that were removed. */
  tick(): void {
    const { family } = this;
    for (const space of [...family.spaces]) if (!family.engine.isAlive(space)) this.gone(space);
    for (const space of family.spaces) this.scan(space);
    const due = this.rechecks;
    this.rechecks = [];
    for (const { space, start, end } of due)
      for (const part of family.regions.inside(space, start, end)) this.recheck(part);
    family.rescan = false;
  }

  /** RESIDENT, BUFFERED, FETCHING, STORED -> EMPTY: nothing is kept of the page. A thread that waits for it gets zeros. */
  private empty(page: PageIndex): void {
    const { family } = this;
    const { pages } = family;
    const state = pages.state[page];
    if (state === State.empty) return;
    this.dropCopies(page, state);
    pages.setState(page, State.empty);
    pages.locate(page, NONE);
    pages.lower(page, PageFlag.prefetched | PageFlag.lost | PageFlag.kept);
  }

  private forget(page: PageIndex): void {
    const { pages } = this.family;
    this.dropCopies(page, pages.state[page]);
    pages.setState(page, State.unused);
    pages.locate(page, NONE);
    pages.flags[page] &= PageFlag.queued; // its entry in the queue of faults finds it UNUSED
  }

  private dropCopies(page: PageIndex, state: number): void {
    const { family } = this;
    const { pages } = family;
    if (state === State.resident) {
      family.leaveResident(page);
      const slot = pages.slotOf(page);
      if (slot !== NONE) this.writeBack.release(slot);
    } else if (state === State.stored) this.writeBack.release(pages.slotOf(page));
    else if (state === State.buffered) this.writeBack.leave(pages.frameOf(page), false);
    else if (state === State.fetching) this.fetcher.orphan(page, pages.frameOf(page));
    else if (state === State.evicting) throw new Error(`page ${page} is removed while it is EVICTING`);
    this.fetcher.forget(page);
  }

  private *spansOfAll(): Generator<{ space: SpaceId; start: number; end: number }> {
    for (const region of this.family.regions.all())
      yield { space: region.space, start: region.start, end: region.start + region.count };
  }
}
