/**
 * A FIFO of frames with a capacity: Leap's prefetch buffer, and also what the second chance of evicted pages is made of (second-chance.ts).
 *
 * Eager eviction: a frame whose page has been mapped leaves at once (`remove`), from wherever it stands; only frames that nobody wanted grow
 * old, and leave oldest first (`reclaim`). It does not know pages: the pager maps frames to pages.
 *
 * A doubly linked list through two arrays indexed by frame; the last index is the list's sentinel, so the ends are no special case:
 *
 *     sentinel -> oldest -> ... -> newest -> sentinel
 */
import { NONE, frameIndex, type FrameIndex } from '../core/types.js';

export const DEFAULT_PREFETCH_BUFFER = 8000;
const OUT = -2;

export class PrefetchBuffer {
  /** Frames that left by `reclaim`: prefetched and never used. */
  unused = 0;
  private readonly newer: Int32Array;
  private readonly older: Int32Array;
  private readonly sentinel: number;
  private count = 0;
  private limit = DEFAULT_PREFETCH_BUFFER;

  /** @param frames how many frames there are in the arena */
  constructor(frames: number, capacity = DEFAULT_PREFETCH_BUFFER) {
    this.sentinel = frames;
    this.newer = new Int32Array(frames + 1).fill(OUT);
    this.older = new Int32Array(frames + 1).fill(OUT);
    this.newer[frames] = frames;
    this.older[frames] = frames;
    this.capacity = capacity;
  }

  get size(): number {
    return this.count;
  }

  get capacity(): number {
    return this.limit;
  }

  /** At run time; 0 switches the buffer off. When it shrinks, the surplus stays until it is reclaimed. */
  set capacity(frames: number) {
    if (!Number.isInteger(frames) || frames < 0) throw new RangeError(`a prefetch buffer of ${frames} frames`);
    this.limit = frames;
  }

  /** How many frames may still be added; negative by the surplus after the capacity has shrunk. */
  get room(): number {
    return this.limit - this.count;
  }

  has(frame: FrameIndex): boolean {
    return this.newer[frame] !== OUT;
  }

  /** Adds a frame as the newest. The caller makes room first. @throws Error when it is in already */
  add(frame: FrameIndex): void {
    if (this.has(frame)) throw new Error(`frame ${frame} is in the buffer already`);
    const { newer, older, sentinel } = this;
    const newest = older[sentinel];
    newer[newest] = frame;
    older[frame] = newest;
    newer[frame] = sentinel;
    older[sentinel] = frame;
    this.count++;
  }

  /** Takes a frame out, wherever it stands. @returns whether it was in */
  remove(frame: FrameIndex): boolean {
    const { newer, older } = this;
    const next = newer[frame];
    if (next === OUT) return false;
    const previous = older[frame];
    newer[previous] = next;
    older[next] = previous;
    newer[frame] = OUT;
    older[frame] = OUT;
    this.count--;
    return true;
  }

  /** The frame that has been in for longest, or NONE. */
  oldest(): FrameIndex {
    return frameIndex(this.count === 0 ? NONE : this.newer[this.sentinel]);
  }

  /** The frame after this one in age, or NONE: to look past a frame that cannot be reclaimed now. */
  next(frame: FrameIndex): FrameIndex {
    const next = this.newer[frame];
    return frameIndex(next === this.sentinel || next === OUT ? NONE : next);
  }

  /** Takes the oldest frame out as never used. @returns it, or NONE */
  reclaim(): FrameIndex {
    const frame = this.oldest();
    if (frame !== NONE) {
      this.remove(frame);
      this.unused++;
    }
    return frame;
  }
}
