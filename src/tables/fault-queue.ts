/**
 * The pages that threads wait for, in the order of their faults, each with the thread, the kind and the time of its fault. A ring of numbers that
 * doubles when it is full (rare: it never holds more entries than the target has threads and a page no more than once).
 */
import { type PageIndex, pageIndex } from '../core/types.js';

/** In place of a thread: this page has been seen before; the prefetcher is not asked again. */
export const SEEN = -1;
const WORDS = 3;

export class FaultQueue {
  length = 0;
  /** Of the entry that `shift` took out last. */
  thread = 0;
  flags = 0;
  /** ns */
  at = 0;
  private ring = new Int32Array(256 * WORDS);
  private times = new Float64Array(256);
  private head = 0;

  push(page: PageIndex, thread: number, flags: number, at: number): void {
    if (this.length === this.times.length) this.grow();
    const entry = (this.head + this.length) % this.times.length;
    this.ring[entry * WORDS] = page;
    this.ring[entry * WORDS + 1] = thread;
    this.ring[entry * WORDS + 2] = flags;
    this.times[entry] = at;
    this.length++;
  }

  /** The queue must not be empty. */
  shift(): PageIndex {
    const at = this.head * WORDS;
    this.thread = this.ring[at + 1];
    this.flags = this.ring[at + 2];
    this.at = this.times[this.head];
    this.head = (this.head + 1) % this.times.length;
    this.length--;
    return pageIndex(this.ring[at]);
  }

  private grow(): void {
    this.ring = unrolled(this.ring, new Int32Array(this.ring.length * 2), this.head * WORDS);
    this.times = unrolled(this.times, new Float64Array(this.times.length * 2), this.head);
    this.head = 0;
  }
}

/** @returns `wider`, with what is in the ring at its front */
function unrolled<T extends Int32Array | Float64Array>(ring: T, wider: T, head: number): T {
  const tail = ring.subarray(head);
  wider.set(tail);
  wider.set(ring.subarray(0, head), tail.length);
  return wider;
}
