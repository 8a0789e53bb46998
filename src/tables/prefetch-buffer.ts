/**
 * Leap's prefetch buffer: the frames of pages that were read ahead and that no thread has used yet, with a capacity.
 *
 * Eager eviction: a frame whose page has been mapped leaves at once (`remove`). Only frames that no thread has used
 * grow old; they leave oldest first (`reclaim`).
 */
import { FrameList } from './frame-list.js';

export const DEFAULT_PREFETCH_BUFFER = 8000;

export class PrefetchBuffer extends FrameList {
  private limit = DEFAULT_PREFETCH_BUFFER;

  /** @param frames number of frames in the arena  @param capacity in frames */
  constructor(frames: number, capacity = DEFAULT_PREFETCH_BUFFER) {
    super(frames);
    this.capacity = capacity;
  }

  get capacity(): number {
    return this.limit;
  }

  /**
   * How many frames the buffer may hold; 0 switches it off. The caller makes room before it adds a frame, and reclaims
   * the surplus after the capacity has shrunk. @throws RangeError
   */
  set capacity(frames: number) {
    if (!Number.isInteger(frames) || frames < 0) throw new RangeError(`a prefetch buffer of ${frames} frames`);
    this.limit = frames;
  }
}
