/** No prefetching: every fault is served alone. */
import type { PageIndex } from '../../core/types.js';
import type { Plan, PrefetchCounters, Prefetcher } from './prefetcher.js';

export class NoPrefetcher implements Prefetcher {
  readonly name = 'none';
  readonly counters: PrefetchCounters = { trendsFound: 0, trendsTried: 0 };

  fault(_page: PageIndex, _thread: number, _kind: number, _ahead: number, plan: Plan): void {
    plan.clear();
  }

  configure(): void {}
}
