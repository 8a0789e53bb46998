/**
 * The marker of each thread's stream: after pages have been mapped ahead, the first page along the trend that was left out. A fault of that thread on
 * that page says that the pages before it were used, without a fault of theirs. A small direct-mapped table: a collision costs a prediction.
 */
import { NONE, type PageIndex } from './types.js';

const ENTRIES = 64;

export class Streams {
  private readonly thread = new Int32Array(ENTRIES);
  private readonly marker = new Int32Array(ENTRIES).fill(NONE);
  private readonly count = new Int32Array(ENTRIES);
  private readonly prefetchedCount = new Int32Array(ENTRIES);
  /** How many of the pages that `confirm` confirmed last had been prefetched; the others had only just been evicted. */
  prefetched = 0;

  /** `count` pages before `marker` were mapped ahead on this thread's stream, `prefetched` of them from the prefetch buffer. */
  set(thread: number, marker: PageIndex, count: number, prefetched: number): void {
    const at = thread & (ENTRIES - 1);
    this.thread[at] = thread;
    this.marker[at] = marker;
    this.count[at] = count;
    this.prefetchedCount[at] = prefetched;
  }

  /** The thread has faulted on `page`. @returns the pages mapped ahead whose use that confirms; 0 when it is not the marker. */
  confirm(thread: number, page: PageIndex): number {
    const at = thread & (ENTRIES - 1);
    this.prefetched = 0;
    if (this.thread[at] !== thread || this.marker[at] !== page) return 0;
    const count = this.count[at];
    this.marker[at] = NONE;
    this.prefetched = this.prefetchedCount[at];
    return count;
  }
}
