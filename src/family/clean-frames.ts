/**
 * Clean frames: frames whose bytes the store has too, so that they can be given up when a frame is needed. They hold
 * prefetched pages that no thread has used yet, and evicted pages in their second chance.
 */
import type { Counters } from '../core/counters.js';
import { type FrameIndex, NONE } from '../core/types.js';
import type { SecondChance } from '../policy/second-chance.js';
import type { FrameTable } from '../tables/frame-table.js';
import { PageFlag, type PageTable, State } from '../tables/page-table.js';
import type { PrefetchBuffer } from '../tables/prefetch-buffer.js';

export class CleanFrames {
  constructor(
    private readonly pages: PageTable,
    private readonly frames: FrameTable,
    private readonly prefetched: PrefetchBuffer,
    private readonly evicted: SecondChance,
    private readonly counters: Counters,
  ) {}

  /** Takes a frame out of whichever list it stands in. */
  unlist(frame: FrameIndex): void {
    if (!this.prefetched.remove(frame)) this.evicted.remove(frame);
  }

  /**
   * Gives up clean frames until `want` frames are free: those of evicted pages first, then those of prefetched pages.
   * @returns whether that many are free now.
   */
  reclaim(want: number): boolean {
    while (this.frames.free < want) {
      const frame = this.evicted.size > 0 ? this.evicted.reclaim() : this.prefetched.reclaim();
      if (frame === NONE) return false;
      this.giveUp(frame);
    }
    return true;
  }

  /** Gives up the frame of an evicted page in its second chance. @returns false: it is another kind of frame */
  vacate(frame: FrameIndex): boolean {
    if (!this.evicted.cede(frame)) return false;
    this.giveUp(frame);
    return true;
  }

  /** BUFFERED -> STORED: frees a frame of no list; its page stays in its slot or in its slot's source. */
  giveUp(frame: FrameIndex): void {
    const { pages, frames } = this;
    const page = frames.pageOf(frame);
    if (pages.has(page, PageFlag.prefetched)) {
      pages.lower(page, PageFlag.prefetched);
      this.counters.prefetchUnused++;
    }
    pages.setState(page, State.stored);
    pages.locate(page, frames.slotOf(frame));
    frames.release(frame);
  }
}
