/**
 * What Linux does at a swap fault: read the aligned cluster around the page, as large as the hits since the last miss
 * have earned. One window for the whole process, and no direction. A baseline; the rule is Linux's, the words are ours:
 *
 *   hits since the last miss   cluster
 *   none                       2 if the fault is next to the miss before it, else 1
 *   h                          the power of two that holds h + 2: 4 or more
 *   and                        never more than windowMax (2^page_cluster there), never less than half of the cluster
 *                              before
 */
import type { PageIndex } from '../../core/types.js';
import { FaultKind, type Plan, type PrefetchCounters, type Prefetcher, type PrefetchOptions } from './prefetcher.js';
import { powerOfTwoFrom } from './window.js';

export class ReadaheadPrefetcher implements Prefetcher {
  readonly name = 'readahead';
  readonly counters: PrefetchCounters = { trendsFound: 0, trendsTried: 0 };
  private clusterMax = 1;
  private cluster = 0;
  private hits = 0;
  private lastMiss = -2;

  constructor(options: PrefetchOptions) {
    this.configure(options);
  }

  /** A cluster is aligned to its size, so its largest size is the power of two within windowMax. */
  configure(options: PrefetchOptions): void {
    this.clusterMax = 1 << (31 - Math.clz32(Math.max(1, options.windowMax)));
  }

  fault(page: PageIndex, _thread: number, kind: number, ahead: number, plan: Plan): void {
    plan.clear();
    this.hits += ahead;
    if (kind === FaultKind.prefetchHit) this.hits++;
    if (kind !== FaultKind.miss) return;
    const cluster = this.next(page);
    this.lastMiss = page;
    this.cluster = cluster;
    this.hits = 0;
    if (cluster === 1) return;
    plan.stride = 1;
    plan.start = page - (page % cluster);
    plan.count = cluster;
  }

  private next(page: number): number {
    const adjacent = Math.abs(page - this.lastMiss) === 1;
    const earned = this.hits > 0 ? powerOfTwoFrom(this.hits + 2) : adjacent ? 2 : 1;
    return Math.max(1, Math.min(earned, this.clusterMax), Math.min(this.cluster >> 1, this.clusterMax));
  }
}
