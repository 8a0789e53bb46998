/**
 * A prefetch policy: pure, told of every fault, answers with a plan. The policies are in index.ts.
 * All run on the fault path: no allocation, no clock, no system call.
 */
import type { PageIndex } from '../../core/types.js';

/** What the pager found when the fault came. */
export const FaultKind = {
  /** The page was in the store: a demand read. */
  miss: 0,
  /** The page had been prefetched and was in the buffer, or on its way. */
  prefetchHit: 1,
  /** The page was in the buffer because it had just been evicted. */
  evictedHit: 2,
  /** Never written: zeros. */
  zero: 3,
} as const;

/** Plan.leastUse until the first read was measured. */
export const LEAST_USE = 0.15;

/** The most pages that a plan may list. */
export const LIST_MOST = 64;

/**
 * The answer to a fault at page P: prefetch start, start + stride, ... `count` pages. Made once and filled again at
 * each fault. The pager cuts it at the region's edges, skips pages that are not in the store, and tells the policy what
 * came of it with `carriedOut`.
 */
export class Plan {
  /** Pages between one prefetched page and the next; never 0 when count > 0. */
  stride = 1;
  /** How many pages to prefetch, the demand page not counted. */
  count = 0;
  /**
   * First page of the plan. Leap: demand page + stride, or behind what the stream has planned already. Readahead: the
   * aligned cluster's start; the demand page is skipped where it is met.
   */
  start = 0;
  /**
   * The trend is trusted: pages on the stride that have arrived may be mapped before they are touched, up to the
   * marker; also when `count` is 0. Of a list the first half.
   */
  mapAhead = false;
  /**
   * The faulting page is one of many that a stream passes one by one: its thread, once it has gone on, will not want it
   * before the stream comes by again. The victim policy is told (VictimPolicy.streamed).
   */
  streamed = false;
  /**
   * Instead of a stride: the pages that are wanted next, in their order, wherever they are; the first `listed` of
   * these. Then `count` is 0.
   */
  readonly list = new Int32Array(LIST_MOST);
  listed = 0;
  /** How many pages may be looked at to find `count` that are in the store; 0: as many as `count`. */
  steps = 0;
  // What the pager knows of the place, filled in before the policy is asked; a plan is cut at the region's edges
  // whatever the policy says.
  /** First page of the region, and the page behind its last one. */
  regionFirst = 0;
  regionEnd = 0x7fffffff;
  /** What the target has said of this range with madvise (an Advice). */
  advice = 0;
  /** The pages before this marker came too late: their thread had to wait for them. */
  late = false;
  /**
   * Faults that wait for the pager besides this one, a moving average: 0 with one thread; the more, the more it is the
   * pager that they all wait for. An array of one: a field that is no whole number would be allocated anew each time.
   */
  readonly crowd = new Float64Array(1);
  /**
   * Least probability of use at which reading a page ahead pays: what it costs / the latency that it saves. An array
   * for the same reason.
   */
  readonly leastUse = new Float64Array(1).fill(LEAST_USE);
  // What came of the plan, filled in before the policy is told with `carriedOut`.
  /** The last page that was looked at, how many pages are being fetched, and how many of the others are resident. */
  last = 0;
  fetched = 0;
  resident = 0;
  /** How many pages were mapped ahead, and the page behind them: the marker. */
  mapped = 0;
  marker = 0;
  /** Of a list: how many of it are resident now, or will be, the marker coming next. */
  passed = 0;

  clear(): void {
    this.count = 0;
    this.listed = 0;
    this.steps = 0;
    this.mapped = 0;
    this.passed = 0;
    this.resident = 0;
    this.mapAhead = false;
    this.streamed = false;
  }
}

export interface PrefetchCounters {
  /** Faults on which a trend was found / looked for. */
  trendsFound: number;
  trendsTried: number;
}

export interface Prefetcher {
  readonly name: string;
  readonly counters: PrefetchCounters;
  /**
   * @param page the faulting page
   * @param thread thread id of the fault, 0 when unknown
   * @param kind a FaultKind
   * @param ahead pages that were mapped ahead on this thread's stream and whose use this fault confirms (it came at the
   * stream's marker);
   *        they count as hits. 0 otherwise.
   * @param plan filled with the answer
   */
  fault(page: PageIndex, thread: number, kind: number, ahead: number, plan: Plan): void;
  /** Called after a plan was carried out, by a pager that can say how far. */
  carriedOut?(plan: Plan): void;
  /** Run-time knobs (Leap's): history size in faults, largest window in pages. */
  configure(options: PrefetchOptions): void;
}

export interface PrefetchOptions {
  /** Entries of the access history per thread. */
  history: number;
  /** Largest window in pages. */
  windowMax: number;
}
