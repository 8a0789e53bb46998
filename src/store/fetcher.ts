/**
 * Fetching: reads from the store into frames, on demand and ahead, and the check that what came back is what went out.
 * A page whose hash differs, or whose read fails, is read from another place that has it; from the last one again
 * (retries.ts). Then it is lost: a touch raises SIGBUS, wrong bytes are never mapped.
 */
import { Place, placeAt, placeIndex } from '../tables/chunks.js';
import type { Family } from '../family/family.js';
import { FrameState } from '../tables/frame-table.js';
import { Command, Errno, PLACE_SHIFT } from '../core/layout.js';
import { DEMAND_FRAMES } from '../core/pager-options.js';
import { PageFlag, State } from '../tables/page-table.js';
import { ReadCost } from './read-cost.js';
import { Retries } from './retries.js';
import { SlotState } from '../tables/slot-table.js';
import {
  type FrameIndex,
  NONE,
  type PageIndex,
  type SlotIndex,
  frameIndex,
  pageIndex,
  slotIndex,
} from '../core/types.js';
import type { WriteBack } from './write-back.js';

/** A 16th. */
const PEAK_SHIFT = 4;

export class Fetcher {
  /** Pages whose prefetch is in flight. */
  prefetching = 0;
  /** Frames whose read is in flight. */
  inFlight = 0;
  /** Frames whose read a thread waits for, as far as that was known when it was asked for. */
  get demanded(): number {
    return this.inFlight - this.prefetching - this.mending;
  }
  /** Those of the reads in flight that the repairer asked for. */
  mending = 0;
  /** What reads cost, measured. */
  readonly cost: ReadCost;
  /** Pages whose read has failed. */
  private readonly retries = new Retries();
  /** Slots whose read for the repairer has. */
  readonly mends = new Retries();
  /** The last read that was commanded. */
  private readAlone = false;
  /** Frames that prefetch and eviction leave to demand reads. */
  readonly reserve: number;
  /** The most frames that reads ahead have held, of late: in flight, or with a page that nobody has used yet. */
  private peak = 0;
  private run: FrameIndex = frameIndex(NONE);
  private runLeft = 0;

  constructor(
    private readonly family: Family,
    private readonly writeBack: WriteBack,
    /** @see FaultPath.arrived */
    private readonly arrived: (page: PageIndex, frame: FrameIndex, at: number) => void,
    /** A read from a replica came back with an error: its donor is as good as gone. */
    private readonly replicaFailed: (place: number, slot: SlotIndex) => void,
  ) {
    this.cost = new ReadCost(family.frames.count, family.engine.clock);
    this.reserve = Math.max(1, Math.min(DEMAND_FRAMES, family.frames.count >> 2));
  }

  /**
   * Reads a STORED page whose slot is valid. @returns false when no frame can be had, or the command buffer is full:
   * try again next turn.
   */
  demand(page: PageIndex): boolean {
    const { family } = this;
    if (family.commands.room < 2 || !family.clean.reclaim(1)) return false;
    this.read(page, family.frames.takeReadRun(1, FrameState.filling));
    family.counters.demandReads++;
    return true;
  }

  /**
   * Reads STORED pages ahead of need: `queue[0..count)`, in the order given. Stops when frames or commands run short,
   * or the prefetch buffer is full; then its oldest unused pages are given up first.
   * @returns how many of the queue it came to
   */
  prefetch(queue: Int32Array, count: number): number {
    const { family } = this;
    const { prefetched, frames } = family;
    // A stream that goes down fills its frames from above: pages and frames rise together, and neighbours make one read
    // and one copy.
    const isDownward = count > 1 && queue[1] < queue[0];
    let issued = 0;
    let at = 0;
    for (; at < count && family.commands.room > 2; at++) {
      const page = queue[at] as PageIndex;
      if (family.pages.state[page] !== State.stored || this.pauses(page)) continue; // a list may name a page twice
      if (this.runLeft === 0 && !this.nextRun(count - at)) break;
      issued++;
      this.runLeft--;
      const frame = isDownward ? this.run + this.runLeft : this.run;
      if (!isDownward) this.run = frameIndex(this.run + 1);
      this.read(page, frameIndex(frame));
      family.pages.raise(page, PageFlag.prefetched);
      this.prefetching++;
    }
    while (this.runLeft > 0) {
      frames.release(this.run);
      this.run = frameIndex(this.run + 1);
      this.runLeft--;
    }
    while (prefetched.size > 0 && prefetched.size + this.prefetching > prefetched.capacity)
      family.clean.giveUp(prefetched.reclaim());
    family.counters.prefetchIssued += issued;
    return at;
  }

  /** Takes the next run of frames for a prefetch of `want` pages, leaving the demand reserve alone. */
  private nextRun(want: number): boolean {
    const { family } = this;
    const { prefetched, frames } = family;
    const allowed = Math.min(want, prefetched.capacity - this.prefetching);
    if (allowed <= 0) return false;
    this.peak = Math.max(this.peak, this.prefetching + prefetched.size + allowed);
    if (frames.free < allowed + this.reserve) family.clean.reclaim(allowed + this.reserve);
    const spare = Math.min(allowed, frames.free - this.reserve);
    if (spare <= 0) return false;
    this.run = frames.takeReadRun(spare, FrameState.filling);
    this.runLeft = frames.runLength;
    return this.runLeft > 0;
  }

  /**
   * Frames to be left to reads: what reads ahead have held at most of late, and half as many again, so that a window
   * finds a run that is as long. Each time that this is asked, once a batch of victims, a part is forgotten.
   */
  recentNeed(): number {
    const { peak } = this;
    this.peak -= peak >> PEAK_SHIFT;
    return peak + (peak >> 1);
  }

  private read(page: PageIndex, frame: FrameIndex): void {
    const { pages, frames } = this.family;
    const slot = pages.slotOf(page);
    pages.setState(page, State.fetching);
    pages.locate(page, frame);
    frames.assign(frame, page, slot);
    this.readSlot(slot, frame, this.retries.has(page));
  }

  /**
   * Commands the read of a slot that is in some place. @param alone it has failed before: its neighbours are not to
   * fail with it
   */
  private readSlot(slot: SlotIndex, frame: FrameIndex, alone: boolean): void {
    const { chunks, commands } = this.family;
    const place = chunks.sourceOf(slot);
    chunks.move(place, slot, 1);
    chunks.use(slot, false);
    const joins = !alone && !this.readAlone;
    commands.put(
      Command.read | (placeIndex(place) << PLACE_SHIFT),
      slot,
      frame,
      joins && !chunks.begins(slot),
      joins && !chunks.begins(slot + 1),
    );
    this.readAlone = alone;
    this.cost.begin(frame, this.inFlight++);
  }

  /** Pages whose read has failed and is to be tried again. */
  get failing(): number {
    return this.retries.size;
  }

  /** When the next of them may be, ns. */
  get resumesAt(): number {
    return this.retries.next;
  }

  /**
   * The read of this page has failed, and is not to be tried again yet. Who waits for it is served when `resume` says
   * so.
   */
  pauses(page: PageIndex): boolean {
    return this.retries.againAt(page) > this.family.now;
  }

  /**
   * Once a turn: the pages whose pause is over. Those that were only to be read ahead are forgotten: who waits for one
   * later waits as long as any.
   */
  resume(): void {
    const { pages, now } = this.family;
    this.retries.resume(now, (page) => {
      if (pages.state[page] !== State.stored) return;
      if (pages.has(pageIndex(page), PageFlag.waiting)) this.arrived(pageIndex(page), frameIndex(NONE), 0);
      else this.retries.forget(page);
    });
  }

  /**
   * No place has the bytes of this STORED page, and none that was distrusted is left to ask: the donors that had them
   * are gone. It is lost.
   */
  isNowhere(page: PageIndex): boolean {
    const { pages, slots, chunks } = this.family;
    const slot = pages.slotOf(page);
    if (slots.state[slot] !== SlotState.valid || chunks.sourceOf(slot) !== 0 || chunks.resort(slot)) return false;
    this.lose(page, slot, 'a page of the target was on donors that are gone, and is lost: a touch raises SIGBUS', 0);
    return true;
  }

  private lose(page: PageIndex, slot: SlotIndex, what: string, errno: number): void {
    this.retries.forget(page);
    this.family.pages.raise(page, PageFlag.lost);
    this.family.lost.add(page);
    this.family.counters.lostPages++;
    this.family.notify('error', what, { page, slot, errno });
  }

  /** Reads have completed: slots and frames in runs. */
  readDone(firstSlot: number, firstFrame: number, count: number, errno: number, index: number): void {
    const { chunks, counters, frames } = this.family;
    const place = placeAt(index);
    chunks.move(place, slotIndex(firstSlot), -count);
    this.inFlight -= count;
    for (let i = 0; i < count; i++) {
      const frame = frameIndex(firstFrame + i);
      if (frames.state[frame] === FrameState.mending) this.mended(slotIndex(firstSlot + i), frame, errno, place);
      else this.readOne(slotIndex(firstSlot + i), frame, errno, place);
    }
    if (errno === Errno.ok) {
      this.cost.end(firstFrame, count);
      if (place === Place.swap) counters.swapReads += count;
      else counters.remoteReads += count;
    } else if (place !== Place.swap && errno !== Errno.ECANCELED) this.replicaFailed(place, slotIndex(firstSlot));
  }

  private readOne(slot: SlotIndex, frame: FrameIndex, errno: number, place: number): void {
    const { frames, pages, slots } = this.family;
    const page = frames.pageOf(frame);
    if (page === NONE) {
      // Removed while the read was in flight; the read kept the slot from being written over.
      this.writeBack.release(slot);
      frames.release(frame);
      return;
    }
    if (pages.has(page, PageFlag.prefetched)) this.prefetching--;
    if (errno !== Errno.ok || !slots.matches(slot, frame)) return this.failed(page, frame, slot, errno, place);
    this.retries.forget(page);
    pages.setState(page, State.buffered);
    frames.state[frame] = FrameState.clean;
    this.arrived(page, frame, frames.faultedAt[frame]);
  }

  /** The page is not wanted any more while its read is in flight: the frame and the slot wait for the read alone. */
  orphan(page: PageIndex, frame: FrameIndex): void {
    const { frames, pages } = this.family;
    if (pages.has(page, PageFlag.prefetched)) this.prefetching--;
    frames.assign(frame, NONE as PageIndex, frames.slotOf(frame));
    // Who waited for the read is served at once: with zeros, or a wake.
    if (pages.has(page, PageFlag.waiting)) this.arrived(page, frameIndex(NONE), frames.faultedAt[frame]);
  }

  private failed(page: PageIndex, frame: FrameIndex, slot: SlotIndex, errno: number, place: number): void {
    const { frames, pages, chunks } = this.family;
    let again = this.distrust(slot, place, errno) || this.retries.failed(page, errno, this.family.now);
    if (!again && chunks.resort(slot, place)) {
      this.retries.forget(page);
      again = true;
    }
    pages.lower(page, PageFlag.prefetched);
    pages.setState(page, State.stored);
    pages.locate(page, slot);
    const at = frames.faultedAt[frame];
    frames.release(frame);
    if (!again) {
      const what = errno === Errno.ok ? 'came back wrong' : 'could not be read';
      this.lose(
        page,
        slot,
        `a page of the target ${what} from ${place === Place.swap ? 'the swap file' : 'its donor'} and is lost: a touch raises SIGBUS`,
        errno,
      );
    }
    this.arrived(page, frameIndex(NONE), at);
  }

  /**
   * A place did not give back what it was given: it counts no more if another one has the slot, and these were wrong
   * bytes. @returns whether one has
   */
  private distrust(slot: SlotIndex, place: number, errno: number): boolean {
    const { chunks, slots, counters } = this.family;
    if (errno === Errno.ok) counters.hashMismatches++;
    else if (errno !== Errno.ECANCELED) counters.readErrors++;
    if (slots.state[slot] !== SlotState.valid) return true;
    if (chunks.slotsPerChunk === 0 || (chunks.places[slot] & ~place) === 0) return false;
    if (errno !== Errno.ok) return true; // it may pass; a donor whose read fails is as good as gone, and told of
    chunks.distrust(slot, place);
    return true;
  }

  // ---- for the repairer: reads of slots into frames that belong to no page

  /**
   * A slot that has too few copies is read, to be written again. The read counts as a user of the slot. @returns false
   * when that cannot be now
   */
  mend(slot: SlotIndex, frame: FrameIndex): boolean {
    const { frames, slots } = this.family;
    if (!slots.share(slot)) return false;
    frames.state[frame] = FrameState.mending;
    frames.assign(frame, NONE as PageIndex, slot);
    this.readSlot(slot, frame, this.mends.has(slot));
    this.mending++;
    return true;
  }

  private mended(slot: SlotIndex, frame: FrameIndex, errno: number, place: number): void {
    const { frames, slots, chunks } = this.family;
    this.mending--;
    const usable = errno === Errno.ok && slots.matches(slot, frame);
    if (usable && slots.state[slot] === SlotState.valid && slots.referencesOf(slot) > 1 && chunks.lacks(slot))
      this.writeBack.spread(slot, frame);
    else frames.release(frame);
    if (usable) this.mends.forget(slot);
    else if (!this.distrust(slot, place, errno)) this.mends.failed(slot, errno, this.family.now);
    this.writeBack.release(slot);
  }

  /**
   * Nothing is to be read of the page any more. Who waits for the next try, or because it is lost, is served at once:
   * with zeros, or a wake.
   */
  forget(page: PageIndex): void {
    const { lost, pages } = this.family;
    const failed = this.retries.forget(page);
    if (((lost.size > 0 && lost.delete(page)) || failed) && pages.has(page, PageFlag.waiting))
      this.arrived(page, frameIndex(NONE), 0);
  }
}
