/**
 * The markers of the streams: after pages have been mapped ahead, the first page along the trend that was left out. A
 * fault of that thread on that page says that the pages before it were used, without a fault of theirs. One thread may
 * have several streams, so markers are found by their page; the table is small and direct-mapped: a collision costs a
 * prediction.
 */
import { NONE, type PageIndex } from '../core/types.js';

const ENTRIES = 1024;
const entryOf = (page: number): number => (Math.imul(page, 0x9e3779b1) >>> 22) & (ENTRIES - 1);

export class Streams {
  private readonly thread = new Int32Array(ENTRIES);
  private readonly marker = new Int32Array(ENTRIES).fill(NONE);
  private readonly count = new Int32Array(ENTRIES);
  private readonly prefetchedCount = new Int32Array(ENTRIES);
  private readonly wasLate = new Uint8Array(ENTRIES);
  /** How many of the pages that `confirm` confirmed last had been prefetched; the others had only just been evicted. */
  prefetched = 0;
  /** Whether the thread had to wait for the pages before the marker that `confirm` confirmed last. */
  late = false;

  /**
   * `count` pages before `marker` were mapped ahead on this thread's stream, `prefetched` of them from the prefetch
   * buffer; `late`: not soon enough.
   */
  set(thread: number, marker: PageIndex, count: number, prefetched: number, late: boolean): void {
    const at = entryOf(marker);
    this.thread[at] = thread;
    this.marker[at] = marker;
    this.count[at] = count;
    this.prefetchedCount[at] = prefetched;
    this.wasLate[at] = Number(late);
  }

  /**
   * The thread has faulted on `page`. @returns the pages mapped ahead whose use that confirms; 0 when it is not the
   * marker.
   */
  confirm(thread: number, page: PageIndex): number {
    const at = entryOf(page);
    this.prefetched = 0;
    this.late = false;
    if (this.thread[at] !== thread || this.marker[at] !== page) return 0;
    const count = this.count[at];
    this.marker[at] = NONE;
    this.prefetched = this.prefetchedCount[at];
    this.late = this.wasLate[at] === 1;
    return count;
  }
}
