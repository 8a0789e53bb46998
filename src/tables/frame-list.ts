/**
 * A list of frames in the order in which they were added: the prefetch buffer (prefetch-buffer.ts), the dirty frames,
 * and the frames of evicted pages in their second chance. It knows no pages.
 *
 * A doubly linked list in two arrays indexed by frame. The last index is the sentinel, so the ends are no special case:
 *
 *     sentinel -> oldest -> ... -> newest -> sentinel
 */
import { NONE, frameIndex, type FrameIndex } from '../core/types.js';

const OUT = -2;

export class FrameList {
  private readonly newer: Int32Array;
  private readonly older: Int32Array;
  private readonly sentinel: number;
  private count = 0;

  /** @param frames number of frames in the arena */
  constructor(frames: number) {
    this.sentinel = frames;
    this.newer = new Int32Array(frames + 1).fill(OUT);
    this.older = new Int32Array(frames + 1).fill(OUT);
    this.newer[frames] = frames;
    this.older[frames] = frames;
  }

  get size(): number {
    return this.count;
  }

  has(frame: FrameIndex): boolean {
    return this.newer[frame] !== OUT;
  }

  /** Adds a frame as the newest. @throws Error: it is in the list already */
  add(frame: FrameIndex): void {
    if (this.has(frame)) throw new Error(`frame ${frame} is in the list already`);
    const { newer, older, sentinel } = this;
    const newest = older[sentinel];
    newer[newest] = frame;
    older[frame] = newest;
    newer[frame] = sentinel;
    older[sentinel] = frame;
    this.count++;
  }

  /** Removes a frame, wherever it is in the list. @returns whether it was in */
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

  /** The frame that was added first, or NONE. */
  oldest(): FrameIndex {
    return frameIndex(this.count === 0 ? NONE : this.newer[this.sentinel]);
  }

  /** Removes the oldest frame. @returns it, or NONE */
  reclaim(): FrameIndex {
    const frame = this.oldest();
    if (frame !== NONE) this.remove(frame);
    return frame;
  }
}
