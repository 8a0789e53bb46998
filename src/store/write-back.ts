/**
 * Write-back: which slot holds a page's copy, and how an evicted page's bytes get there.
 *
 * A page that comes back from the target unchanged (its hash equals that of its slot) is clean and is not written
 * again. Any other becomes the
 * *source* of a slot, which is pending until that frame has been written to every place where it ought to be
 * (chunks.ts); the frame is kept until then, whatever becomes of its page. A pending slot is read from its source
 * frame, never from a place, and is never written by two frames at once.
 *
 * What a loss has left in too few places, and what only the swap file has although a donor is there, becomes pending
 * again with its bytes unchanged: then only the missing places are written.
 */
import { Place, placeAt, placeIndex, REPLICAS } from '../tables/chunks.js';
import type { Family } from '../family/family.js';
import { FrameState } from '../tables/frame-table.js';
import { Command, Errno, PLACE_SHIFT } from '../core/layout.js';
import { PageFlag, State } from '../tables/page-table.js';
import { SlotState } from '../tables/slot-table.js';
import { type FrameIndex, NONE, type PageIndex, type SlotIndex, frameIndex, slotIndex } from '../core/types.js';

/**
 * Fewer dirty frames than this wait for company, unless frames are short or the pager is idle: neighbours make one
 * write.
 */
const FLUSH_FRAMES = 64;
/** The most frames of one turn's writes. */
const BATCH_FRAMES = 256;
/** After a failed write nothing is evicted and nothing written for this long. */
const RETRY_NS = 1e9;
/** A swap file that fails now and then is not reported more often than this. */
const SAY_AGAIN_NS = 60e9;

export class WriteBack {
  /** Frames whose write is in flight. */
  inFlight = 0;
  /** The last write to the swap file failed, and none has gone well since. */
  private failed = false;
  /** Nothing is written before this time, and eviction waits for it. */
  private retryAt = 0;
  private saidAt = -Infinity;
  private readonly batch = new Int32Array(BATCH_FRAMES);

  /** @param replicaFailed a write to a replica (its place) came back with an error: its donor is as good as gone */
  constructor(
    private readonly family: Family,
    private readonly replicaFailed: (place: number, slot: SlotIndex) => void,
  ) {}

  get failing(): boolean {
    return this.failed && this.family.now < this.retryAt;
  }

  /**
   * A page has been taken away into `frame`, which knows the slot of its last copy: clean, or the new source of a slot.
   */
  keep(page: PageIndex, frame: FrameIndex): void {
    const { slots, frames, counters, chunks } = this.family;
    const last = frames.slotOf(frame);
    if (last !== NONE && slots.matches(last, frame)) {
      counters.cleanEvictions++;
      if (slots.state[last] === SlotState.valid && chunks.lacks(last)) return this.spread(last, frame);
      frames.state[frame] = FrameState.clean;
      this.family.evicted.add(frame);
      return;
    }
    frames.assign(frame, page, this.takeSlot(page, last, frame));
    frames.state[frame] = FrameState.dirty;
    this.family.dirty.add(frame);
  }

  /** A valid slot's bytes, which `frame` holds too, go to the places that lack them. */
  spread(slot: SlotIndex, frame: FrameIndex): void {
    this.family.slots.spread(slot, frame);
    this.family.frames.state[frame] = FrameState.dirty;
    this.family.dirty.add(frame);
  }

  /**
   * The page leaves its frame, mapped into the target again (`mapped`) or removed.
   * @returns the slot that still holds a copy of it, or NONE.
   */
  leave(frame: FrameIndex, mapped: boolean): SlotIndex {
    const { frames, slots, chunks } = this.family;
    const slot = frames.slotOf(frame);
    if (frames.state[frame] === FrameState.clean) {
      this.family.clean.unlist(frame);
      frames.release(frame);
      if (mapped) return slot;
      this.release(slot);
      return slotIndex(NONE);
    }
    const orphaned = frames.state[frame] === FrameState.writing || slots.isShared(slot);
    if (!orphaned) {
      // Some place has these bytes already: the page keeps that copy.
      if (mapped && chunks.places[slot] !== 0) {
        this.family.dirty.remove(frame);
        slots.becomeValid(slot);
        frames.release(frame);
        return slot;
      }
      this.cancel(slot, frame);
      return slotIndex(NONE);
    }
    frames.assign(frame, NONE as PageIndex, slot);
    if (mapped) return slot;
    slots.drop(slot);
    return slotIndex(NONE);
  }

  /** A page gives up its copy in `slot`. */
  release(slot: SlotIndex): void {
    const { slots, frames } = this.family;
    if (slots.drop(slot) > 0 || slots.state[slot] !== SlotState.pending) return;
    const source = slots.sourceOf(slot);
    if (frames.state[source] === FrameState.dirty) this.cancel(slot, source);
  }

  /** Writes what is dirty, when enough has come together or `now` is asked for. */
  flush(now: boolean): void {
    const { dirty, frames, commands } = this.family;
    if (dirty.size === 0 || this.failing) return;
    if (!now && dirty.size < FLUSH_FRAMES && dirty.size * 4 < frames.count) return;
    while (dirty.size > 0 && commands.room > FLUSH_FRAMES) {
      const count = this.begin(Math.min(BATCH_FRAMES, dirty.size, commands.room >> 2));
      for (let place = 0; place <= (this.family.chunks.used > 0 ? REPLICAS : 0); place++)
        this.write(placeAt(place), count);
    }
  }

  /**
   * Takes the oldest dirty frames into the batch, and notes where each is to go. Those that have nowhere left to go are
   * done.
   */
  private begin(most: number): number {
    const { dirty, frames, chunks } = this.family;
    let count = 0;
    for (let left = most; left > 0; left--) {
      const frame = dirty.oldest();
      const slot = frames.slotOf(frame);
      dirty.remove(frame);
      frames.state[frame] = FrameState.writing;
      frames.writingTo[frame] = chunks.wantedOf(slot) & ~chunks.places[slot];
      chunks.use(slot, true);
      if (frames.writingTo[frame] === 0) this.settle(slot, frame);
      else this.batch[count++] = frame;
    }
    this.inFlight += count;
    return count;
  }

  /** Commands the batch's writes to one place: neighbours make one, but never across the edge of a chunk. */
  private write(place: number, count: number): void {
    const { frames, chunks, commands } = this.family;
    const command = Command.write | (placeIndex(place) << PLACE_SHIFT);
    for (let i = 0; i < count; i++) {
      const frame = frameIndex(this.batch[i]);
      if ((frames.writingTo[frame] & place) === 0) continue;
      const slot = frames.slotOf(frame);
      chunks.move(place, slot, 1);
      commands.put(command, slot, frame, !chunks.begins(slot), !chunks.begins(slot + 1));
    }
  }

  written(firstSlot: number, firstFrame: number, count: number, errno: number, index: number): void {
    const { counters, chunks } = this.family;
    const place = placeAt(index);
    chunks.move(place, slotIndex(firstSlot), -count);
    for (let i = 0; i < count; i++) this.writtenOne(slotIndex(firstSlot + i), frameIndex(firstFrame + i), errno, place);
    if (errno === Errno.ok) {
      if (place === Place.swap) {
        counters.swapWrites += count;
        // In a full file what it has already can still be written over, in the same turn: that says nothing of new
        // pages.
        if (!this.failing) this.failed = false;
      } else counters.remoteWrites += count;
    } else if (place === Place.swap) this.fail(errno);
    else if (errno !== Errno.ECANCELED) this.replicaFailed(place, slotIndex(firstSlot));
  }

  private writtenOne(slot: SlotIndex, frame: FrameIndex, errno: number, place: number): void {
    const { frames, chunks } = this.family;
    frames.writingTo[frame] &= ~place;
    if (errno === Errno.ok) chunks.wrote(slot, place);
    if (frames.writingTo[frame] !== 0) return;
    this.inFlight--;
    this.settle(slot, frame);
  }

  /** Every write of the frame has been answered: its slot is valid, or they were not enough and it is dirty again. */
  private settle(slot: SlotIndex, frame: FrameIndex): void {
    const { frames, slots, pages, chunks } = this.family;
    if (slots.referencesOf(slot) > 0 && chunks.lacks(slot)) {
      frames.state[frame] = FrameState.dirty;
      this.family.dirty.add(frame);
      return;
    }
    slots.becomeValid(slot);
    if (frames.pageOf(frame) === NONE) return frames.release(frame);
    frames.state[frame] = FrameState.clean;
    // A page that is wanted, or about to be mapped, keeps its frame to itself.
    if (!pages.has(frames.pageOf(frame), PageFlag.waiting | PageFlag.mapping)) this.family.evicted.add(frame);
  }

  private fail(errno: number): void {
    this.family.counters.writeErrors++;
    if (!this.failed && this.family.now - this.saidAt >= SAY_AGAIN_NS) {
      this.saidAt = this.family.now;
      const full = errno === Errno.ENOSPC;
      this.family.notify(
        'warn',
        full
          ? 'the swap file is full: eviction stops, the limit may be exceeded, no page is lost; free space on its disk'
          : 'a write to the swap file failed',
        {
          errno,
        },
      );
    }
    this.failed = true;
    this.retryAt = this.family.now + RETRY_NS;
  }

  /** The slot that `frame` becomes the source of. `last` is the slot of the page's previous copy, or NONE. */
  private takeSlot(page: PageIndex, last: SlotIndex, frame: FrameIndex): SlotIndex {
    const { slots, frames } = this.family;
    if (last === NONE) return slots.allocate(page, frame);
    if (!slots.isShared(last)) {
      if (slots.state[last] === SlotState.valid) {
        slots.becomePending(last, frame);
        return last;
      }
      const source = slots.sourceOf(last);
      if (frames.state[source] === FrameState.dirty) {
        this.family.dirty.remove(source);
        frames.release(source);
        slots.becomePending(last, frame);
        return last;
      }
    }
    slots.drop(last);
    return slots.allocate(page, frame);
  }

  /** The write of a slot that nobody will read is not needed. */
  private cancel(slot: SlotIndex, source: FrameIndex): void {
    this.family.dirty.remove(source);
    this.family.frames.release(source);
    this.family.slots.cancel(slot);
  }

  /** For tests: the invariants of sources and slots. @throws Error */
  check(): void {
    const { frames, slots, pages } = this.family;
    for (let f = 0; f < frames.count; f++) {
      const state = frames.state[f];
      const frame = frameIndex(f);
      if (state !== FrameState.dirty && state !== FrameState.writing) continue;
      if (slots.sourceOf(frames.slotOf(frame)) !== frame)
        throw new Error(`frame ${f} is not the source of its slot ${frames.slotOf(frame)}`);
      if ((state === FrameState.dirty) !== this.family.dirty.has(frame))
        throw new Error(`frame ${f}: dirty, and in the list or not`);
      const page = frames.pageOf(frame);
      if (page !== NONE && pages.state[page] !== State.buffered)
        throw new Error(`frame ${f} is held by page ${page}, which is not BUFFERED`);
    }
  }
}
