/**
 * The slots of the backing store. Slot s is the home of page s, so that neighbours in memory are neighbours in the
 * store; a page whose home is taken (it is shared with a forked child, or an older write to it is still in flight) gets
 * a spare one.
 *
 *   free      nobody refers to it
 *   valid     holds a page's bytes, durable, and their hash is known
 *   pending   its bytes are in its source frame; the write is queued or in flight
 *
 * `references` counts the pages that have it as their copy: more than one after a fork. While a slot is pending its
 * hash words hold the source frame instead of a hash; the frame's own hash is the slot's.
 */
import type { Chunks } from './chunks.js';
import { HASH_WORDS } from '../core/layout.js';
import { type FrameIndex, NONE, type PageIndex, type SlotIndex, frameIndex, slotIndex } from '../core/types.js';
import { widened } from './widened.js';

export const SlotState = { free: 0, valid: 1, pending: 2 } as const;
const MAX_REFERENCES = 255;

export class SlotTable {
  capacity = 0;
  state: Uint8Array = new Uint8Array(0);
  private references: Uint8Array = new Uint8Array(0);
  private hashes: Int32Array = new Int32Array(0);
  private readonly spares: number[] = [];

  /**
   * @param frameHashes the engine's hashes of the frames  @param chunks knows in which places a slot's bytes are
   * @param takeSpares gives a run of page indices that no page will use: [first, count]
   */
  constructor(
    private readonly frameHashes: Int32Array,
    private readonly chunks: Chunks,
    private readonly takeSpares: () => readonly [number, number],
  ) {}

  reserve(slots: number): void {
    if (slots <= this.capacity) return;
    this.chunks.reserve(slots);
    this.state = widened(this.state, slots);
    this.references = widened(this.references, slots);
    this.hashes = widened(this.hashes, slots * HASH_WORDS);
    this.capacity = slots;
  }

  /**
   * Another page has this slot as its copy. False when no more can be counted; then the page must be kept otherwise.
   */
  share(slot: SlotIndex): boolean {
    if (this.references[slot] === MAX_REFERENCES) return false;
    this.references[slot]++;
    return true;
  }

  isShared(slot: SlotIndex): boolean {
    return this.references[slot] > 1;
  }

  referencesOf(slot: SlotIndex): number {
    return this.references[slot];
  }

  /**
   * One page less refers to it. A valid slot that nobody refers to is free; a pending one is the write-back's to finish
   * or cancel. @returns references left
   */
  drop(slot: SlotIndex): number {
    if (this.references[slot] === 0) throw new Error(`slot ${slot} dropped too often`);
    const left = --this.references[slot];
    if (left === 0 && this.state[slot] === SlotState.valid) this.becomeFree(slot);
    return left;
  }

  /** A free slot for `page`, now pending with `source`, and referred to once. */
  allocate(page: PageIndex, source: FrameIndex): SlotIndex {
    const slot = this.state[page] === SlotState.free ? slotIndex(page) : this.spare();
    this.references[slot] = 1;
    this.becomePending(slot, source);
    return slot;
  }

  /** The slot takes new bytes, which are in no place yet. */
  becomePending(slot: SlotIndex, source: FrameIndex): void {
    this.chunks.forget(slot);
    this.spread(slot, source);
  }

  /** The slot is to have the bytes it has in more places; `source` holds the same. */
  spread(slot: SlotIndex, source: FrameIndex): void {
    this.state[slot] = SlotState.pending;
    this.hashes[slot * HASH_WORDS] = source;
  }

  /** The source frame of a pending slot. */
  sourceOf(slot: SlotIndex): FrameIndex {
    return frameIndex(this.state[slot] === SlotState.pending ? this.hashes[slot * HASH_WORDS] : NONE);
  }

  /** The write of its source has completed: the slot has that frame's hash. Nobody refers to it any more: free. */
  becomeValid(slot: SlotIndex): void {
    const source = this.sourceOf(slot);
    if (this.references[slot] === 0) return this.becomeFree(slot);
    for (let word = 0; word < HASH_WORDS; word++)
      this.hashes[slot * HASH_WORDS + word] = this.frameHashes[source * HASH_WORDS + word];
    this.state[slot] = SlotState.valid;
  }

  /** A pending slot whose write is not needed any more. */
  cancel(slot: SlotIndex): void {
    this.references[slot] = 0;
    this.becomeFree(slot);
  }

  /** Whether the frame's bytes are those of the slot (or of its source). */
  matches(slot: SlotIndex, frame: FrameIndex): boolean {
    const pending = this.state[slot] === SlotState.pending;
    const theirs = pending ? this.frameHashes : this.hashes;
    const at = (pending ? this.hashes[slot * HASH_WORDS] : slot) * HASH_WORDS;
    const ours = frame * HASH_WORDS;
    for (let word = 0; word < HASH_WORDS; word++) if (theirs[at + word] !== this.frameHashes[ours + word]) return false;
    return true;
  }

  private becomeFree(slot: SlotIndex): void {
    this.state[slot] = SlotState.free;
    this.chunks.forget(slot);
    if (this.isSpare(slot)) this.spares.push(slot);
  }

  private spareRanges: [number, number][] = [];
  private isSpare(slot: number): boolean {
    for (const [first, count] of this.spareRanges) if (slot >= first && slot < first + count) return true;
    return false;
  }

  private spare(): SlotIndex {
    while (this.spares.length === 0) {
      const [first, count] = this.takeSpares();
      this.spareRanges.push([first, count]);
      // Where a page was before, its home slot may still be a forked child's: that one becomes a spare when it is free.
      for (let slot = first + count - 1; slot >= first; slot--)
        if (this.state[slot] === SlotState.free) this.spares.push(slot);
    }
    return slotIndex(this.spares.pop()!);
  }
}
