/** First in, first out, of page indices; a ring that grows when it is full (rare) and never shrinks. */
import { type PageIndex, pageIndex } from '../core/types.js';

export class PageQueue {
  private ring: Int32Array;
  private head = 0;
  length = 0;

  /** @param capacity a power of two */
  constructor(capacity = 1024) {
    this.ring = new Int32Array(capacity);
  }

  push(page: PageIndex): void {
    if (this.length === this.ring.length) this.grow();
    this.ring[(this.head + this.length++) & (this.ring.length - 1)] = page;
  }

  /** The queue must not be empty. */
  shift(): PageIndex {
    const page = this.ring[this.head];
    this.head = (this.head + 1) & (this.ring.length - 1);
    this.length--;
    return pageIndex(page);
  }

  private grow(): void {
    const wider = new Int32Array(this.ring.length * 2);
    for (let i = 0; i < this.length; i++) wider[i] = this.ring[(this.head + i) & (this.ring.length - 1)];
    this.ring = wider;
    this.head = 0;
  }
}
