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
 * A frame whose page has gone on (mapped, removed) while io is in flight, or while a fork child needs its slot written,
 * has page NONE.
 *
 * Runs of neighbours make one read, one copy, one write. Reads give their frames back soon, pages on their way out keep
 * theirs for long; mixed, they would cut each other's runs to pieces. So reads take the first free frames from the
 * bottom, and the others go round and round above them. On the way round most frames hold a page that is in the store
 * as well: such a one is given up rather than to end the run before it.
 */
import {
  type FrameIndex,
  NONE,
  type PageIndex,
  type SlotIndex,
  frameIndex,
  pageIndex,
  slotIndex,
} from '../core/types.js';

export const FrameState = { free: 0, filling: 1, evicting: 2, clean: 3, dirty: 4, writing: 5, mending: 6 } as const;

/** The most frames at the bottom that are left to reads, as a share of all: a quarter. */
const READ_SHIFT = 2;

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
  /** Where the round above goes on, and where it begins anew. */
  private cursor = 0;
  private base = 0;
  /** Free frames among those that are left to reads. */
  freeBelow = 0;
  /** No frame below this one is free. */
  private lowest = 0;
  /**
   * Bit f & 31 of word f >> 5: frame f is free. Most frames hold something at most times, so that looking at one after
   * the other would take long.
   */
  private readonly freeBits: Int32Array;

  constructor(readonly count: number) {
    this.state = new Uint8Array(count);
    this.freeBits = new Int32Array((count + 31) >> 5).fill(-1);
    this.page = new Int32Array(count).fill(NONE);
    this.slot = new Int32Array(count).fill(NONE);
    this.writingTo = new Uint8Array(count);
    this.faultedAt = new Float64Array(count);
    this.aheadStride = new Int32Array(count);
    this.aheadThread = new Int32Array(count);
    this.free = count;
  }

  /** Free frames among the others. */
  get freeAbove(): number {
    return this.free - this.freeBelow;
  }

  /** From now on so many frames at the bottom are left to reads, or as many as there may be. */
  leaveToReads(frames: number): void {
    const base = Math.min(this.count >> READ_SHIFT, frames);
    for (let frame = this.base; frame < base; frame++) if (this.state[frame] === FrameState.free) this.freeBelow++;
    for (let frame = base; frame < this.base; frame++) if (this.state[frame] === FrameState.free) this.freeBelow--;
    this.base = base;
    this.cursor = Math.max(base, this.cursor);
  }

  /**
   * Takes a run of at most `want` neighbouring free frames for pages on their way out and gives them `state`; its
   * length stands in `runLength`.
   * @param vacate asked for each frame that would end the run: releases it if it can be, and says so
   * @returns the first, or NONE when no frame is free.
   */
  takeRun(want: number, state: number, vacate: (frame: FrameIndex) => boolean): FrameIndex {
    if (this.freeAbove === 0) return this.takeReadRun(want, state);
    const first = this.take(this.cursor, this.base, want, state, vacate);
    const end = first + this.runLength;
    this.cursor = end === this.count ? this.base : end;
    return first;
  }

  /** The same for reads. */
  takeReadRun(want: number, state: number): FrameIndex {
    if (this.free === 0) {
      this.runLength = 0;
      return frameIndex(NONE);
    }
    const first = this.take(this.lowest, 0, want, state);
    this.lowest = first + this.runLength;
    return first;
  }

  /** From `at` on, and when that is all taken, from `again` on: there is one to be found. */
  private take(
    at: number,
    again: number,
    want: number,
    state: number,
    vacate?: (frame: FrameIndex) => boolean,
  ): FrameIndex {
    const { state: states, freeBits, count } = this;
    const found = this.nextFree(at);
    const first = found < count ? found : this.nextFree(again);
    const end = Math.min(count, first + want);
    for (at = first; at < end && (states[at] === FrameState.free || vacate?.(frameIndex(at)) === true); at++) {
      states[at] = state;
      freeBits[at >> 5] &= ~(1 << (at & 31));
    }
    this.runLength = at - first;
    this.free -= this.runLength;
    if (first < this.base) this.freeBelow -= Math.min(at, this.base) - first;
    return frameIndex(first);
  }

  /** The first free frame from `at` on, or `count` or more: there is none. */
  private nextFree(at: number): number {
    const { freeBits } = this;
    let word = at >> 5;
    let bits = freeBits[word] & (-1 << (at & 31));
    while (bits === 0 && ++word < freeBits.length) bits = freeBits[word];
    return bits === 0 ? this.count : word * 32 + 31 - Math.clz32(bits & -bits);
  }

  release(frame: FrameIndex): void {
    if (this.state[frame] === FrameState.free) throw new Error(`frame ${frame} freed twice`);
    this.state[frame] = FrameState.free;
    this.freeBits[frame >> 5] |= 1 << (frame & 31);
    this.page[frame] = NONE;
    this.slot[frame] = NONE;
    this.aheadStride[frame] = 0;
    this.faultedAt[frame] = 0;
    this.free++;
    if (frame < this.base) this.freeBelow++;
    if (frame < this.lowest) this.lowest = frame;
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
