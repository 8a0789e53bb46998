/**
 * The fault path: the pages that threads wait for, served by where each is.
 *
 *   RESIDENT   write-protect fault: unprotect. Missing all the same: the target has dropped it (MADV_DONTNEED between
 *              its event and its effect): zeros
 *   EMPTY      zeros
 *   BUFFERED   copied from its frame
 *   FETCHING   when it arrives
 *   STORED     slot pending: copied from the slot's source frame; valid: a demand read
 *   EVICTING   (never here: the result of an eviction comes before the faults of its turn are served)
 *
 * Event handlers only note who waits; `serve` acts, once a turn, when all that happened in the turn is known.
 */
import { PageQueue, SEEN } from '../tables/page-queue.js';
import type { Family } from '../family/family.js';
import { Fetcher } from '../store/fetcher.js';
import { FrameState } from '../tables/frame-table.js';
import { Command, Errno, FAULT_WP, FAULT_WRITE } from '../core/layout.js';
import { PageFlag, State } from '../tables/page-table.js';
import { FaultKind } from '../policy/prefetch/prefetcher.js';
import { PrefetchPath } from './prefetch-path.js';
import { SlotState } from '../tables/slot-table.js';
import { type FrameIndex, NONE, type PageIndex, type SlotIndex, frameIndex, pageIndex } from '../core/types.js';
import type { WriteBack } from '../store/write-back.js';

export class FaultPath {
  readonly fetcher: Fetcher;
  readonly prefetch: PrefetchPath;
  private readonly queue = new PageQueue();
  /** When the fault of a page came that has waited since with no frame to keep that in, ns. */
  private readonly since = new Map<number, number>();

  constructor(
    private readonly family: Family,
    private readonly writeBack: WriteBack,
    replicaFailed: (place: number, slot: SlotIndex) => void,
  ) {
    this.fetcher = new Fetcher(family, writeBack, (page, frame, at) => this.arrived(page, frame, at), replicaFailed);
    this.prefetch = new PrefetchPath(family, this.fetcher);
  }

  /** Pages that wait to be served. */
  get waiting(): number {
    return this.queue.length;
  }

  /** A thread has faulted on `page`. */
  fault(page: PageIndex, thread: number, flags: number): void {
    const { pages, counters } = this.family;
    counters.faults++;
    if (pages.has(page, PageFlag.waiting)) return; // another thread of the same page: one copy wakes both
    if (this.since.size > 0) this.since.delete(page);
    this.want(page, thread, flags, this.family.now);
  }

  /**
   * Puts a page in the queue (again). A page that waits for its data keeps `waiting`, and is queued when that arrives.
   * @param at when the fault came, ns
   */
  private want(page: PageIndex, thread: number, flags: number, at: number): void {
    const { pages } = this.family;
    pages.raise(page, PageFlag.waiting);
    if (pages.has(page, PageFlag.queued)) return;
    pages.raise(page, PageFlag.queued);
    if (pages.state[page] === State.buffered) this.family.clean.unlist(pages.frameOf(page));
    this.queue.push(page, thread, flags, at);
  }

  /** Detach: the page is to go back into the target, as if a thread waited for it. */
  restore(page: PageIndex): void {
    this.want(page, SEEN, 0, this.family.now);
  }

  /** Serves what is in the queue now; what cannot be served goes back to its end. */
  serve(): void {
    this.fetcher.resume();
    for (let left = this.queue.length; left > 0 && this.family.commands.room > 256; left--) {
      const page = this.queue.shift();
      this.family.pages.lower(page, PageFlag.queued);
      this.serveOne(page, this.queue.thread, this.queue.flags, this.queue.at);
    }
  }

  private serveOne(page: PageIndex, thread: number, flags: number, at: number): void {
    const { family } = this;
    const { pages, slots, counters } = family;
    if (!pages.has(page, PageFlag.waiting) || pages.has(page, PageFlag.mapping)) return;
    const state = pages.state[page];
    switch (state) {
      case State.unused:
        pages.lower(page, PageFlag.waiting);
        return;
      case State.resident:
        if (flags & FAULT_WP) family.command(Command.unprotect, page, 0);
        else family.zero(page);
        return;
      case State.empty:
        if (flags & FAULT_WP) {
          // Removed, there all the same (MADV_FREE), and written to again: it is the target's own once more.
          pages.locate(page, NONE);
          family.becomeResident(page, false);
          family.command(Command.unprotect, page, 0);
          return;
        }
        if (!family.mayMap(page)) break;
        this.waits(page, at);
        family.zero(page);
        if (thread !== SEEN)
          this.prefetch.fault(page, thread, FaultKind.zero, (flags & FAULT_WRITE) !== 0, this.queue.length);
        return;
      case State.buffered: {
        if (!family.mayMap(page)) break;
        const frame = pages.frameOf(page);
        const used = this.noteUse(page);
        if (thread !== SEEN && !used) counters.secondChances++;
        family.frames.faultedAt[frame] = family.frames.faultedAt[frame] || at;
        family.map(page, frame);
        const stride = family.frames.aheadStride[frame];
        if (thread !== SEEN)
          this.prefetch.fault(
            page,
            thread,
            used ? FaultKind.prefetchHit : FaultKind.evictedHit,
            (flags & FAULT_WRITE) !== 0,
            this.queue.length,
          );
        else if (stride !== 0)
          this.prefetch.arrived(
            page,
            family.frames.aheadThread[frame],
            stride,
            family.now - family.frames.faultedAt[frame],
          );
        return;
      }
      case State.fetching: {
        const frame = pages.frameOf(page);
        family.frames.faultedAt[frame] = at;
        if (thread === SEEN) return;
        if (pages.has(page, PageFlag.prefetched)) this.fetcher.prefetching--;
        const used = this.noteUse(page);
        this.prefetch.fault(
          page,
          thread,
          used ? FaultKind.prefetchHit : FaultKind.miss,
          (flags & FAULT_WRITE) !== 0,
          this.queue.length,
        );
        return;
      }
      case State.stored: {
        if (pages.has(page, PageFlag.lost)) {
          if (!family.engine.canPoison) return; // the thread waits: better than wrong bytes
          family.poison(page);
          return;
        }
        const slot = pages.slotOf(page);
        if (this.fetcher.isNowhere(page)) break;
        if (slots.state[slot] === SlotState.pending) {
          if (!family.mayMap(page)) break;
          this.waits(page, at);
          family.map(page, slots.sourceOf(slot));
          if (thread !== SEEN)
            this.prefetch.fault(page, thread, FaultKind.evictedHit, (flags & FAULT_WRITE) !== 0, this.queue.length);
          return;
        }
        if (this.fetcher.pauses(page)) return this.waits(page, at);
        if (!this.fetcher.demand(page)) break;
        const frame = pages.frameOf(page);
        family.frames.faultedAt[frame] = at;
        if (thread !== SEEN)
          this.prefetch.fault(page, thread, FaultKind.miss, (flags & FAULT_WRITE) !== 0, this.queue.length);
        return;
      }
      default:
        throw new Error(`page ${page} is EVICTING while faults are served`);
    }
    this.want(page, thread, flags, at);
  }

  /** Keeps the time of a fault that is older than this turn. */
  private waits(page: PageIndex, at: number): void {
    if (at < this.family.now) this.since.set(page, at);
  }

  /** The page was prefetched, and this is its first use. */
  private noteUse(page: PageIndex): boolean {
    const { pages, counters } = this.family;
    if (!pages.has(page, PageFlag.prefetched)) return false;
    pages.lower(page, PageFlag.prefetched);
    counters.prefetchHits++;
    return true;
  }

  /**
   * A read is over: the page is BUFFERED in `frame`, or STORED again (NONE) when it failed. @param at when its fault
   * came, ns; 0: not known
   */
  private arrived(page: PageIndex, frame: FrameIndex, at: number): void {
    const { pages, prefetched, evicted, now } = this.family;
    if (pages.has(page, PageFlag.waiting)) return this.want(page, SEEN, 0, at || (this.since.get(page) ?? now));
    if (frame === NONE) return;
    if (pages.has(page, PageFlag.prefetched)) prefetched.add(frame);
    else evicted.add(frame);
  }

  /** The result of a map or zero command: `done` pages from the front, then `errno` for the one that stopped it. */
  mapped(firstPage: number, firstFrame: number, done: number, errno: number, asked: number): void {
    const { family } = this;
    family.limit.endMapping(asked);
    const now = family.engine.clock[1];
    for (let i = 0; i < asked; i++) {
      const page = pageIndex(firstPage + i);
      const frame = frameIndex(firstFrame < 0 ? NONE : firstFrame + i);
      family.pages.lower(page, PageFlag.mapping);
      if (i < done) this.mappedOne(page, frame, now);
      else if (i === done && errno === Errno.EEXIST) {
        family.command(Command.wake, page, 0);
        this.mappedOne(page, frame, now);
      } else {
        if (i === done && errno === Errno.ENOENT && asked > 1) family.joining = false;
        this.notMapped(page, frame, i === done ? errno : Errno.EAGAIN);
      }
    }
  }

  /** The result of an unprotect command. */
  unprotected(firstPage: number, count: number, errno: number): void {
    // perhaps only because the run crosses two mappings
    if (errno === Errno.ENOENT && count > 1) this.family.joining = false;
    for (let i = 0; i < count; i++) {
      const page = pageIndex(firstPage + i);
      if (errno === Errno.EAGAIN || (errno === Errno.ENOENT && count > 1))
        this.want(page, SEEN, FAULT_WP, this.family.now);
      else this.family.pages.lower(page, PageFlag.waiting);
    }
  }

  private mappedOne(page: PageIndex, frame: FrameIndex, now: number): void {
    const { pages, frames, counters } = this.family;
    const waited = pages.has(page, PageFlag.waiting);
    pages.lower(page, PageFlag.waiting);
    const state = pages.state[page];
    if (pages.has(page, PageFlag.lost)) return this.poisoned(page);
    // dropped by the target and zeros again: its old copy no longer matches, and the hash will say so
    if (state === State.resident) return;
    if (waited) counters.faultLatency.record(now - this.faultTime(page, frame));
    if (this.since.size > 0) this.since.delete(page);
    if (state === State.buffered) {
      frames.faultedAt[frame] = 0;
      pages.lower(page, PageFlag.prefetched);
      pages.locate(page, this.writeBack.leave(frame, true));
      this.family.becomeResident(page, !waited);
      return;
    }
    // EMPTY: zeros; STORED: copied from its slot's source, of which it keeps the slot as its copy.
    if (state === State.empty) pages.locate(page, NONE);
    this.fetcher.forget(page);
    this.family.becomeResident(page, !waited);
  }

  /**
   * A touch of the page raises SIGBUS from now on, until the target removes or unmaps it; then it is like any other.
   */
  private poisoned(page: PageIndex): void {
    const { pages } = this.family;
    this.writeBack.release(pages.slotOf(page));
    pages.setState(page, State.empty);
    pages.locate(page, NONE);
    pages.lower(page, PageFlag.lost);
    this.family.lost.delete(page);
  }

  private faultTime(page: PageIndex, frame: FrameIndex): number {
    const { frames, now } = this.family;
    const at = frame === NONE || frames.pageOf(frame) !== page ? 0 : frames.faultedAt[frame];
    return at || (this.since.get(page) ?? now);
  }

  private notMapped(page: PageIndex, frame: FrameIndex, errno: number): void {
    const { family } = this;
    const { pages } = family;
    if (pages.has(page, PageFlag.waiting)) {
      // ENOENT: the mapping is gone, its event on its way; ESRCH: the process is. EAGAIN: events have to be read first.
      if (errno !== Errno.EAGAIN) family.rescan = true;
      return this.want(page, SEEN, 0, this.faultTime(page, frame));
    }
    if (pages.state[page] !== State.buffered || family.frames.pageOf(frame) !== page) return;
    if (pages.has(page, PageFlag.prefetched)) family.prefetched.add(frame);
    else if (family.frames.state[frame] === FrameState.clean) family.evicted.add(frame);
  }
}
