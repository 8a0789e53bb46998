/**
 * What Leap's kernel patch does, with its defects: a baseline to measure the paper's rule and ours against.
 *
 *   - one history for all threads, of every fault, hit or miss
 *   - a young history is voted on with the zeros that it was born with, and a majority of zeros is a trend: it leads to
 *     the page itself
 *   - on a miss, as many pages as Linux's read-ahead would read (at most 8): along the trend, or as Linux does where
 *     there is none
 */
import type { PageIndex } from '../../core/types.js';
import { History } from './history.js';
import { FaultKind, type Plan, type PrefetchCounters, type Prefetcher, type PrefetchOptions } from './prefetcher.js';
import { ReadaheadPrefetcher } from './readahead.js';
import { SPLIT } from './trend.js';

/** 2^page_cluster, as Linux has it. */
const CLUSTER = 8;

export class LeapKernelPrefetcher implements Prefetcher {
  readonly name = 'leap-kernel';
  readonly counters: PrefetchCounters = { trendsFound: 0, trendsTried: 0 };
  private readonly readahead: ReadaheadPrefetcher;
  private history: History;
  private last: number | undefined;
  private trend = 0;

  constructor({ history, windowMax }: PrefetchOptions) {
    this.history = new History(1, history);
    this.readahead = new ReadaheadPrefetcher({ history, windowMax: Math.min(windowMax, CLUSTER) });
  }

  configure({ history, windowMax }: PrefetchOptions): void {
    if (history !== this.history.capacity) this.history = new History(1, history);
    this.readahead.configure({ history, windowMax: Math.min(windowMax, CLUSTER) });
  }

  fault(page: PageIndex, thread: number, kind: number, ahead: number, plan: Plan): void {
    this.history.log(0, this.last === undefined ? 0 : page - this.last);
    this.last = page;
    this.readahead.fault(page, thread, kind, ahead, plan);
    if (kind !== FaultKind.miss) return;
    this.counters.trendsTried++;
    if (!this.findTrend()) return;
    this.counters.trendsFound++;
    // The page itself is one of the window.
    plan.count = this.trend === 0 ? 0 : Math.max(0, plan.count - 1);
    if (plan.count === 0) return;
    plan.stride = this.trend;
    plan.start = page + this.trend;
  }

  private findTrend(): boolean {
    const { capacity } = this.history;
    for (let window = Math.max(1, Math.floor(capacity / SPLIT)); window <= capacity; window *= 2)
      if (this.isMajority(window)) return true;
    return false;
  }

  private isMajority(window: number): boolean {
    const { deltas } = this.history;
    const first = this.history.newest(0);
    let candidate = 0;
    let votes = 0;
    for (let at = first; at < first + window; at++) {
      if (votes === 0) candidate = deltas[at];
      votes += deltas[at] === candidate ? 1 : -1;
    }
    let count = 0;
    for (let at = first; at < first + window; at++) if (deltas[at] === candidate) count++;
    this.trend = candidate;
    return count > window >> 1;
  }
}
