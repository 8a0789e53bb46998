/**
 * Where each page is. The state machine of design: one function writes the state, and counts.
 *
 *   UNUSED    the index belongs to no region
 *   EMPTY     never written, all zeros when it was evicted, or removed by the target: a fault gets zeros; nothing is
 *             kept
 *   RESIDENT  mapped in the target                     location: the slot of its last copy, or none
 *   EVICTING  being moved out                          location: the frame it goes to; the frame knows the slot of the
 *             last copy
 *   BUFFERED  in a frame, not mapped                   location: that frame; the frame knows the slot
 *   FETCHING  being read into a frame                  location: that frame; the frame knows the slot
 *   STORED    in the store only                        location: the slot
 *
 *             UNUSED  EMPTY     RESIDENT  EVICTING  BUFFERED  FETCHING  STORED     (columns: to)
 *   UNUSED      .     found     found       .         .         .       forked
 *   EMPTY     unmap     .       fault       .         .         .         .
 *   RESIDENT  unmap   removed     .       victim      .         .         .
 *   EVICTING    .     zeros     refused     .       taken       .         .
 *   BUFFERED  unmap   removed   mapped      .         .         .       reclaimed
 *   FETCHING  unmap   removed   there         .       read        .       failed
 *   STORED    unmap   removed   there         .         .       read        .        (removed: also poisoned)
 *
 * "there": the page turned out to be mapped after all (a forked child's, or a race that the kernel won). Events are
 * digested only after the results of the turn's commands, so an EVICTING page is never unmapped or removed: its result
 * has always come first.
 */
import { type FrameIndex, type PageIndex, type SlotIndex, type NONE, frameIndex, slotIndex } from '../core/types.js';
import { widened } from './widened.js';

export const State = { unused: 0, empty: 1, resident: 2, evicting: 3, buffered: 4, fetching: 5, stored: 6 } as const;
export const STATES = 7;
export const STATE_NAMES = ['UNUSED', 'EMPTY', 'RESIDENT', 'EVICTING', 'BUFFERED', 'FETCHING', 'STORED'] as const;

/** Row: from, column: to. The table above as data; `setState` refuses the rest. */
export const TRANSITIONS: readonly (readonly boolean[])[] = [
  [false, true, true, false, false, false, true],
  [true, false, true, false, false, false, false],
  [true, true, false, true, false, false, false],
  [false, true, true, false, true, false, false],
  [true, true, true, false, false, false, true],
  [true, true, true, false, true, false, true],
  [true, true, true, false, false, true, false],
];

/** The same, a bit for each state that may follow: what `setState` looks at. */
const FOLLOWERS = Uint8Array.from(TRANSITIONS, (row) => row.reduce((mask, may, to) => mask | (Number(may) << to), 0));

export const PageFlag = {
  /**
   * A thread of the target waits for this page, and it is in the queue of pages to be served or will be when its data
   * arrives.
   */
  waiting: 1,
  /** The page stands in the service queue. */
  queued: 2,
  /** A map or zero command for it is in the command buffer. */
  mapping: 4,
  /** It was prefetched and nobody is known to have used it yet. */
  prefetched: 8,
  /** Its space has no helper: it is resident but cannot be evicted, and is not in the victim policy. */
  fixed: 16,
  /** The store could not give it back; a touch raises SIGBUS. */
  lost: 32,
  /** It could not be moved away, and waits to be discarded (evictor.ts). */
  refused: 64,
  /**
   * The kernel needs it when a thread exits, and does not wait for it then: it is resident, counts, and is not in the
   * victim policy.
   */
  kept: 128,
} as const;

export class PageTable {
  capacity = 0;
  state: Uint8Array = new Uint8Array(0);
  flags: Uint8Array = new Uint8Array(0);
  /** Slot + 1 or frame + 1 by state; 0 for none, so that untouched memory stays untouched. */
  private location: Int32Array = new Int32Array(0);
  readonly counts = new Int32Array(STATES);

  /** Makes room for indices [0, pages). Allocates; control plane only. */
  reserve(pages: number): void {
    if (pages <= this.capacity) return;
    this.state = widened(this.state, pages);
    this.flags = widened(this.flags, pages);
    this.location = widened(this.location, pages);
    this.capacity = pages;
  }

  setState(page: PageIndex, to: number): void {
    const from = this.state[page];
    if (((FOLLOWERS[from] >> to) & 1) === 0)
      throw new Error(`page ${page}: ${STATE_NAMES[from]} to ${STATE_NAMES[to]} is not a transition`);
    this.state[page] = to;
    this.counts[from]--;
    this.counts[to]++;
  }

  has(page: PageIndex, flag: number): boolean {
    return (this.flags[page] & flag) !== 0;
  }
  raise(page: PageIndex, flag: number): void {
    this.flags[page] |= flag;
  }
  lower(page: PageIndex, flag: number): void {
    this.flags[page] &= ~flag;
  }

  frameOf(page: PageIndex): FrameIndex {
    return frameIndex(this.location[page] - 1);
  }
  slotOf(page: PageIndex): SlotIndex {
    return slotIndex(this.location[page] - 1);
  }
  locate(page: PageIndex, where: FrameIndex | SlotIndex | typeof NONE): void {
    this.location[page] = where + 1;
  }
}
