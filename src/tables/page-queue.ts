/**
 * A queue of pages, first in, first out: those that threads wait for, each with the thread, the flags and the time of
 * its fault, and those that UFFDIO_MOVE refused. A ring that doubles when it is full (rare) and never shrinks.
 */
import { type PageIndex, pageIndex } from '../core/types.js';
import { widened } from './widened.js';

/** Instead of a thread: the prefetcher knows this fault already, or there was none. */
export const SEEN = -1;

export class PageQueue {
  length = 0;
  /** Thread, flags and time (ns) of the fault of the page that `shift` returned last. */
  thread = SEEN;
  flags = 0;
  at = 0;
  private pages: Int32Array;
  private threads: Int32Array;
  private flagsOf: Int32Array;
  private times: Float64Array;
  private head = 0;

  /** @param capacity a power of two */
  constructor(capacity = 256) {
    this.pages = new Int32Array(capacity);
    this.threads = new Int32Array(capacity);
    this.flagsOf = new Int32Array(capacity);
    this.times = new Float64Array(capacity);
  }

  push(page: PageIndex, thread = SEEN, flags = 0, at = 0): void {
    if (this.length === this.pages.length) this.grow();
    const entry = (this.head + this.length++) & (this.pages.length - 1);
    this.pages[entry] = page;
    this.threads[entry] = thread;
    this.flagsOf[entry] = flags;
    this.times[entry] = at;
  }

  /** Removes the first page; the queue must not be empty. */
  shift(): PageIndex {
    const entry = this.head;
    this.thread = this.threads[entry];
    this.flags = this.flagsOf[entry];
    this.at = this.times[entry];
    this.head = (entry + 1) & (this.pages.length - 1);
    this.length--;
    return pageIndex(this.pages[entry]);
  }

  private grow(): void {
    this.pages = unrolled(this.pages, this.head);
    this.threads = unrolled(this.threads, this.head);
    this.flagsOf = unrolled(this.flagsOf, this.head);
    this.times = unrolled(this.times, this.head);
    this.head = 0;
  }
}

/** @returns a ring twice as long as this full one, which begins at `head`, with its entries at the front */
function unrolled<T extends Int32Array | Float64Array>(ring: T, head: number): T {
  const wider = widened(ring, ring.length * 2);
  wider.copyWithin(ring.length, 0, head);
  wider.copyWithin(0, head, head + ring.length);
  return wider;
}
