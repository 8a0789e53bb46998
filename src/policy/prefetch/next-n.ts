/** The next N pages after every fault, whatever the pattern: the simplest baseline. */
import type { PageIndex } from '../../core/types.js';
import type { Plan, PrefetchCounters, Prefetcher, PrefetchOptions } from './prefetcher.js';

/** More than this, prefetched blindly, would hurt any other pattern too much to be a fair baseline. */
const NEXT_MAX = 8;

export class NextNPrefetcher implements Prefetcher {
  readonly name = 'next-n';
  readonly counters: PrefetchCounters = { trendsFound: 0, trendsTried: 0 };
  private count = 0;

  constructor(options: PrefetchOptions) {
    this.configure(options);
  }

  configure(options: PrefetchOptions): void {
    this.count = Math.min(options.windowMax, NEXT_MAX);
  }

  fault(page: PageIndex, _thread: number, _kind: number, _ahead: number, plan: Plan): void {
    plan.clear();
    plan.stride = 1;
    plan.start = page + 1;
    plan.count = this.count;
  }
}
