/**
 * Fetching: reads from the store into frames, on demand and ahead, and the check that what came back is what went out.
 * A page whose hash differs, or whose read fails, is read again a few times; then it is lost: a touch raises SIGBUS, wrong bytes are never mapped.
 */
import type { Family } from './family.js';
import { FrameState } from './frame-table.js';
import { Command, Errno } from './layout.js';
import { DEMAND_FRAMES } from './options.js';
import { PageFlag, State } from './page-table.js';
import { SlotState } from './slot-table.js';
import { type FrameIndex, NONE, type PageIndex, type SlotIndex, frameIndex, slotIndex } from './types.js';
import type { WriteBack } from './write-back.js';

const READ_ATTEMPTS = 4;

export class Fetcher {
  /** Pages whose prefetch is in flight. */
  prefetching = 0;
  /** Frames whose read is in flight. */
  inFlight = 0;
  /** Failed attempts by page: only of pages that have failed. */
  private readonly failures = new Map<number, number>();
  /** Frames that prefetch and eviction leave to demand reads. */
  readonly reserve: number;
  private run: FrameIndex = frameIndex(NONE);
  private runLeft = 0;

  constructor(
    private readonly family: Family,
    private readonly writeBack: WriteBack,
    private readonly arrived: (page: PageIndex, frame: FrameIndex) => void,
  ) {
    this.reserve = Math.max(1, Math.min(DEMAND_FRAMES, family.frames.count >> 2));
  }

  /**
   * Reads a STORED page whose slot is valid. @returns false when no frame can be had, or the command buffer is full: try again next turn.
   */
  demand(page: PageIndex): boolean {
    const { family } = this;
    if (family.commands.room < 2 || !family.reclaim(1)) return false;
    this.read(page, family.frames.takeRun(1, FrameState.filling));
    family.counters.demandReads++;
    return true;
  }

  /**
   * Reads STORED pages ahead of need: `queue[0..count)`, in the order given. Stops when frames or commands run short, or the prefetch buffer is
   * full; then its oldest unused pages are given up first.
   * @returns how many were issued
   */
  prefetch(queue: Int32Array, count: number): number {
    const { family } = this;
    const { prefetched, frames } = family;
    let issued = 0;
    for (; issued < count && family.commands.room > 2; issued++) {
      if (this.runLeft === 0 && !this.nextRun(count - issued)) break;
      const page = queue[issued] as PageIndex;
      const frame = this.run;
      this.run = frameIndex(frame + 1);
      this.runLeft--;
      this.read(page, frame);
      family.pages.raise(page, PageFlag.prefetched);
      this.prefetching++;
    }
    while (this.runLeft > 0) {
      frames.release(this.run);
      this.run = frameIndex(this.run + 1);
      this.runLeft--;
    }
    while (prefetched.size > 0 && prefetched.size + this.prefetching > prefetched.capacity) family.giveUp(prefetched.reclaim());
    family.counters.prefetchIssued += issued;
    return issued;
  }

  /** Takes the next run of frames for a prefetch of `want` pages, leaving the demand reserve alone. */
  private nextRun(want: number): boolean {
    const { family } = this;
    const { prefetched, frames } = family;
    const allowed = Math.min(want, prefetched.capacity - this.prefetching);
    if (allowed <= 0) return false;
    if (frames.free < allowed + this.reserve) family.reclaim(allowed + this.reserve);
    const spare = Math.min(allowed, frames.free - this.reserve);
    if (spare <= 0) return false;
    this.run = frames.takeRun(spare, FrameState.filling);
    this.runLeft = frames.runLength;
    return this.runLeft > 0;
  }

  private read(page: PageIndex, frame: FrameIndex): void {
    const { pages, frames, commands } = this.family;
    const slot = pages.slotOf(page);
    pages.setState(page, State.fetching);
    pages.locate(page, frame);
    frames.assign(frame, page, slot);
    commands.put(Command.read, slot, frame, true);
    this.inFlight++;
  }

  /** Reads have completed: slots and frames in runs. */
  readDone(firstSlot: number, firstFrame: number, count: number, errno: number): void {
    for (let i = 0; i < count; i++) this.readOne(slotIndex(firstSlot + i), frameIndex(firstFrame + i), errno);
    this.family.counters.swapReads += errno === Errno.ok ? count : 0;
  }

  private readOne(slot: SlotIndex, frame: FrameIndex, errno: number): void {
    const { frames, pages, slots } = this.family;
    const page = frames.pageOf(frame);
    this.inFlight--;
    if (page === NONE) {
      // Removed while the read was in flight; the read kept the slot from being written over.
      this.writeBack.release(slot);
      frames.release(frame);
      return;
    }
    if (pages.has(page, PageFlag.prefetched)) this.prefetching--;
    if (errno !== Errno.ok || slots.state[slot] !== SlotState.valid || !slots.matches(slot, frame)) return this.failed(page, frame, slot, errno);
    if (this.failures.size > 0) this.failures.delete(page);
    pages.setState(page, State.buffered);
    frames.state[frame] = FrameState.clean;
    this.arrived(page, frame);
  }

  /** The page is not wanted any more while its read is in flight: the frame and the slot wait for the read alone. */
  orphan(page: PageIndex, frame: FrameIndex): void {
    const { frames, pages } = this.family;
    if (pages.has(page, PageFlag.prefetched)) this.prefetching--;
    frames.assign(frame, NONE as PageIndex, frames.slotOf(frame));
    // Who waited for the read is served at once: with zeros, or a wake.
    if (pages.has(page, PageFlag.waiting)) this.arrived(page, frameIndex(NONE));
  }

  private failed(page: PageIndex, frame: FrameIndex, slot: SlotIndex, errno: number): void {
    const { frames, pages, counters } = this.family;
    if (errno === Errno.ok) counters.hashMismatches++;
    else counters.readErrors++;
    const attempts = (this.failures.get(page) ?? 0) + 1;
    this.failures.set(page, attempts);
    pages.lower(page, PageFlag.prefetched);
    pages.setState(page, State.stored);
    pages.locate(page, slot);
    frames.release(frame);
    if (attempts === READ_ATTEMPTS) {
      pages.raise(page, PageFlag.lost);
      counters.lostPages++;
      this.family.notify('error', 'a page of the target came back wrong from the swap file and is lost: a touch raises SIGBUS', { page, slot, errno });
    }
    this.arrived(page, frameIndex(NONE));
  }

  forget(page: PageIndex): void {
    if (this.failures.size > 0) this.failures.delete(page);
  }
}
