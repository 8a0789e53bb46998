/**
 * Write-back: which slot holds a page's copy, and how an evicted page's bytes get there.
 *
 * A page that comes back from the target unchanged (its hash equals that of its slot) is clean and is not written again. Any other becomes the
 * *source* of a slot, which is pending until the write of that frame has completed; the frame is kept until then, whatever becomes of its page.
 * A pending slot is read from its source frame, never from the store, and is never written by two frames at once.
 */
import type { Family } from './family.js';
import { FrameState } from './frame-table.js';
import { Command, Errno } from './layout.js';
import { PageFlag, State } from './page-table.js';
import { SlotState } from './slot-table.js';
import { type FrameIndex, NONE, type PageIndex, type SlotIndex, frameIndex, slotIndex } from './types.js';

/** Fewer dirty frames than this wait for company, unless frames are short or the pager is idle: neighbours make one write. */
const FLUSH_FRAMES = 64;
/** After a failed write nothing is evicted and nothing written for this long. */
const RETRY_NS = 1e9;

export class WriteBack {
  /** Frames whose write is in flight. */
  inFlight = 0;
  /** Writes fail: retried after this time, and eviction waits for it. 0: all is well. */
  failedUntil = 0;

  constructor(private readonly family: Family) {}

  get failing(): boolean {
    return this.failedUntil > 0;
  }

  /** A page has been taken away into `frame`, which knows the slot of its last copy: clean, or the new source of a slot. */
  keep(page: PageIndex, frame: FrameIndex): void {
    const { slots, frames, counters } = this.family;
    const last = frames.slotOf(frame);
    if (last !== NONE && slots.matches(last, frame)) {
      frames.state[frame] = FrameState.clean;
      this.family.evicted.add(frame);
      counters.cleanEvictions++;
      return;
    }
    frames.assign(frame, page, this.takeSlot(page, last, frame));
    frames.state[frame] = FrameState.dirty;
    this.family.dirty.add(frame);
  }

  /**
   * The page leaves its frame, mapped into the target again (`mapped`) or removed.
   * @returns the slot that still holds a copy of it, or NONE.
   */
  leave(frame: FrameIndex, mapped: boolean): SlotIndex {
    const { frames, slots } = this.family;
    const slot = frames.slotOf(frame);
    if (frames.state[frame] === FrameState.clean) {
      this.family.unlist(frame);
      frames.release(frame);
      if (mapped) return slot;
      this.release(slot);
      return slotIndex(NONE);
    }
    const orphaned = frames.state[frame] === FrameState.writing || slots.isShared(slot);
    if (!orphaned) {
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
    if (dirty.size === 0 || (this.failing && this.family.now < this.failedUntil)) return;
    if (!now && dirty.size < FLUSH_FRAMES && dirty.size * 4 < frames.count) return;
    this.failedUntil = 0;
    while (dirty.size > 0 && commands.room > FLUSH_FRAMES) {
      const frame = dirty.oldest();
      dirty.remove(frame);
      frames.state[frame] = FrameState.writing;
      commands.put(Command.write, frames.slotOf(frame), frame, true);
      this.inFlight++;
    }
  }

  written(firstSlot: number, firstFrame: number, count: number, errno: number): void {
    for (let i = 0; i < count; i++) this.writtenOne(slotIndex(firstSlot + i), frameIndex(firstFrame + i), errno);
    if (errno !== Errno.ok) this.fail(errno);
    else this.family.counters.swapWrites += count;
  }

  private writtenOne(slot: SlotIndex, frame: FrameIndex, errno: number): void {
    const { frames, slots, pages } = this.family;
    this.inFlight--;
    const orphan = frames.pageOf(frame) === NONE;
    if (errno !== Errno.ok && slots.referencesOf(slot) > 0) {
      frames.state[frame] = FrameState.dirty;
      this.family.dirty.add(frame);
      return;
    }
    slots.becomeValid(slot);
    if (orphan) return frames.release(frame);
    frames.state[frame] = FrameState.clean;
    // A page that is wanted, or about to be mapped, keeps its frame to itself.
    if (!pages.has(frames.pageOf(frame), PageFlag.waiting | PageFlag.mapping)) this.family.evicted.add(frame);
  }

  private fail(errno: number): void {
    this.family.counters.writeErrors++;
    if (!this.failing) {
      const full = errno === Errno.ENOSPC;
      this.family.notify('warn', full ? 'the swap file is full: eviction stops, the limit may be exceeded, no page is lost' : 'a write to the swap file failed', {
        errno,
      });
    }
    this.failedUntil = this.family.now + RETRY_NS;
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
      if (slots.sourceOf(frames.slotOf(frame)) !== frame) throw new Error(`frame ${f} is not the source of its slot ${frames.slotOf(frame)}`);
      if ((state === FrameState.dirty) !== this.family.dirty.has(frame)) throw new Error(`frame ${f}: dirty, and in the list or not`);
      const page = frames.pageOf(frame);
      if (page !== NONE && pages.state[page] !== State.buffered) throw new Error(`frame ${f} is held by page ${page}, which is not BUFFERED`);
    }
  }
}
