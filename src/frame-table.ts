/**
 * The frames: 4 KiB buffers for pages on their way in, on their way out, or kept for a while.
 *
 *   free      in nobody's hands
 *   filling   a read into it is in flight
 *   evicting  a page is being moved into it
 *   clean     holds a page; its slot has, or is about to have, the same bytes from another frame
 *   dirty     holds a page; it is the source of its slot: the only copy until it is written
 *   writing   as dirty, with writes in flight
 *   mending   a read into it is in flight, for the repairer: it belongs to a slot and to no page
 *
 * A frame whose page has gone on (mapped, removed) while io is in flight, or while a fork child needs its slot written, has page NONE.
 * Free frames are found next-fit over a bitmap, so that runs of neighbours stay likely: one read, one copy for a run.
 */
import { type FrameIndex, NONE, type PageIndex, type SlotIndex, frameIndex, pageIndex, slotIndex } from './types.js';

export const FrameState = { free: 0, filling: 1, evicting: 2, clean: 3, dirty: 4, writing: 5, mending: 6 } as const;

export class FrameTable {
  readonly state: Uint8Array;
  free: number;
  /** Length of the run that `takeRun` gave last. */
  runLength = 0;
  private readonly page: Int32Array;
  private readonly slot: Int32Array;
  /** Places (a mask, see chunks.ts) that a write of this frame is on its way to. */
  readonly writingTo: Uint8Array;
  /** When the fault that waits for this frame's page came, ns. */
  readonly faultedAt: Float64Array;
  /** Stride along which neighbours may be mapped ahead when this frame's page arrives; 0: none. */
  readonly aheadStride: Int32Array;
  /** Thread whose stream that is. */
  readonly aheadThread: Int32Array;
  private cursor = 0;

  constructor(readonly count: number) {
    this.state = new Uint8Array(count);
    this.page = new Int32Array(count).fill(NONE);
    this.slot = new Int32Array(count).fill(NONE);
    this.writingTo = new Uint8Array(count);
    this.faultedAt = new Float64Array(count);
    this.aheadStride = new Int32Array(count);
    this.aheadThread = new Int32Array(count);
    this.free = count;
  }

  /**
   * Takes a run of at most `want` neighbouring free frames and gives them `state`; its length stands in `runLength`.
   * @returns the first, or NONE when no frame is free.
   */
  takeRun(want: number, state: number): FrameIndex {
    this.runLength = 0;
    if (this.free === 0 || want <= 0) return frameIndex(NONE);
    const states = this.state;
    let at = this.cursor;
    while (states[at] !== FrameState.free) at = at + 1 === this.count ? 0 : at + 1; // ends: free > 0
    const first = at;
    let length = 0;
    while (length < want && at < this.count && states[at] === FrameState.free) {
      states[at++] = state;
      length++;
    }
    this.cursor = at === this.count ? 0 : at;
    this.free -= length;
    this.runLength = length;
    return frameIndex(first);
  }

  release(frame: FrameIndex): void {
    if (this.state[frame] === FrameState.free) throw new Error(`frame ${frame} freed twice`);
    this.state[frame] = FrameState.free;
    this.page[frame] = NONE;
    this.slot[frame] = NONE;
    this.aheadStride[frame] = 0;
    this.faultedAt[frame] = 0;
    this.free++;
  }

  pageOf(frame: FrameIndex): PageIndex {
    return pageIndex(this.page[frame]);
  }
  slotOf(frame: FrameIndex): SlotIndex {
    return slotIndex(this.slot[frame]);
  }
  assign(frame: FrameIndex, page: PageIndex | typeof NONE, slot: SlotIndex | typeof NONE): void {
    this.page[frame] = page;
    this.slot[frame] = slot;
  }
}
