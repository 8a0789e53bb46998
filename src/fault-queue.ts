/**
 * The pages that threads wait for, in the order of their faults, each with the thread and the kind of its fault. A ring of integers that
 * doubles when it is full (rare: it never holds more entries than the target has threads and a page no more than once).
 */
import { type PageIndex, pageIndex } from './types.js';

/** In place of a thread: this page has been seen before; the prefetcher is not asked again. */
export const SEEN = -1;
const WORDS = 3;

export class FaultQueue {
  length = 0;
  /** Of the entry that `shift` took out last. */
  thread = 0;
  flags = 0;
  private ring = new Int32Array(256 * WORDS);
  private head = 0;

  push(page: PageIndex, thread: number, flags: number): void {
    if ((this.length + 1) * WORDS > this.ring.length) this.grow();
    const at = ((this.head + this.length) * WORDS) % this.ring.length;
    this.ring[at] = page;
    this.ring[at + 1] = thread;
    this.ring[at + 2] = flags;
    this.length++;
  }

  /** The queue must not be empty. */
  shift(): PageIndex {
    const at = this.head * WORDS;
    this.thread = this.ring[at + 1];
    this.flags = this.ring[at + 2];
    this.head = (this.head + 1) % (this.ring.length / WORDS);
    this.length--;
    return pageIndex(this.ring[at]);
  }

  private grow(): void {
    const wider = new Int32Array(this.ring.length * 2);
    const tail = this.ring.subarray(this.head * WORDS);
    wider.set(tail);
    wider.set(this.ring.subarray(0, this.head * WORDS), tail.length);
    this.ring = wider;
    this.head = 0;
  }
}
