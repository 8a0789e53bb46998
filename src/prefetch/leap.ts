/**
 * Leap's prefetcher: a majority trend over the faulting thread's own history, and a window that grows with its hits.
 *
 * The plan of a stream with trend d, when the fault at P continues it (W: the new window):
 *
 *     P  P+d ........... F  F+d ........... F+W*d        F: the frontier, the last page of the plan before
 *     |  already planned   |  the new window            start = P + d; count reaches the end of the new window
 *
 * What was planned before is part of the new plan, so that the pager finds in one plan both what has arrived (and may be mapped ahead) and what
 * it must fetch; it skips the pages that are not in the store. A plan has at most 2 * windowMax pages.
 *
 * When to plan. A miss always does. A hit only does in the newest window of the thread's stream, which is normally its first page: the marker.
 * Other hits are counted and left alone: the fetch that they would ask for is under way. So a stream costs one plan a window, made a whole
 * window early.
 *
 * With map-ahead no fault is seen between two markers and the distance between them is a window, not a stride. So a fault at the marker is
 * logged as one step of the stream, and brings `ahead` hits. A second fault on the same page says nothing about direction and is not logged.
 *
 * Pages that cannot be prefetched because they are not in the store (never written, or still in a frame after eviction) count as hits when
 * they were in the plan: the prediction was right. So a first pass over fresh memory is mapped ahead as well.
 */
import type { PageIndex } from '../types.js';
import { History } from './history.js';
import { FaultKind, type Plan, type PrefetchCounters, type Prefetcher, type PrefetchOptions } from './prefetcher.js';
import { ThreadTable } from './threads.js';
import { NO_TREND, findTrend } from './trend.js';
import { nextWindow } from './window.js';

/** Threads that are told apart at a time. */
export const THREADS = 64;

export class LeapPrefetcher implements Prefetcher {
  readonly name = 'leap';
  readonly counters: PrefetchCounters = { trendsFound: 0, trendsTried: 0 };
  private readonly threads = new ThreadTable(THREADS);
  private history: History;
  private windowMax: number;
  // One entry a thread:
  private readonly lastPage = new Int32Array(THREADS);
  /** Prefetched pages used since the last plan. */
  private readonly hits = new Int32Array(THREADS);
  private readonly window = new Int32Array(THREADS);
  /** The trend found last; the stride of the stream. */
  private readonly stride = new Int32Array(THREADS);
  /** Pages of the last plan that followed a trend, 0 when the last plan was a guess; and the last of them. */
  private readonly planned = new Int32Array(THREADS);
  private readonly frontier = new Int32Array(THREADS);

  constructor(options: PrefetchOptions) {
    this.history = new History(THREADS, options.history);
    this.windowMax = options.windowMax;
  }

  configure(options: PrefetchOptions): void {
    if (options.history !== this.history.capacity) this.history = new History(THREADS, options.history);
    this.windowMax = options.windowMax;
  }

  fault(page: PageIndex, thread: number, kind: number, ahead: number, plan: Plan): void {
    plan.clear();
    const row = this.threads.row(thread);
    if (this.threads.isNew) {
      this.forget(row, page);
      return;
    }
    const left = this.left(row, page);
    const atMarker = ahead > 0 || (left >= 0 && left === this.window[row] - 1);
    const delta = atMarker ? this.stride[row] : page - this.lastPage[row];
    this.lastPage[row] = page;
    if (delta !== 0) this.history.log(row, delta);

    const predicted = kind === FaultKind.prefetchHit || (kind !== FaultKind.miss && left >= 0);
    this.hits[row] += ahead + (predicted ? 1 : 0);
    const inNewest = atMarker || (left >= 0 && left < this.window[row]);
    if (predicted && !inNewest) return;

    this.counters.trendsTried++;
    const trend = findTrend(this.history.deltas, this.history.newest(row), this.history.length(row), this.history.capacity);
    const goesOn = atMarker && trend === this.stride[row];
    this.resize(row, trend !== NO_TREND && delta === trend, plan);
    if (trend === NO_TREND) {
      this.guess(row, page, plan);
    } else {
      this.counters.trendsFound++;
      this.follow(row, page, trend, goesOn ? Math.min(Math.max(left, 0), this.windowMax) : 0, plan);
    }
  }

  /** Steps from the page to the end of the last plan; -1 when the page is not in it. */
  private left(row: number, page: number): number {
    const planned = this.planned[row];
    if (planned === 0) return -1;
    const steps = (this.frontier[row] - page) / this.stride[row];
    return steps >= 0 && steps < planned && Number.isInteger(steps) ? steps : -1;
  }

  /** Sets the thread's window, and in the plan whether the last window was good enough to map ahead. */
  private resize(row: number, follows: boolean, plan: Plan): void {
    const hits = this.hits[row];
    const last = this.window[row];
    plan.mapAhead = hits > 0 && hits * 2 >= last;
    this.window[row] = nextWindow(hits, follows, last, this.windowMax);
    this.hits[row] = 0;
  }

  /** Along the trend from the page: what is left of the last plan, then the new window. */
  private follow(row: number, page: number, trend: number, left: number, plan: Plan): void {
    const window = this.window[row];
    const count = window === 0 ? 0 : left + window;
    plan.start = page + trend;
    plan.stride = trend;
    plan.count = count;
    if (count === 0) plan.mapAhead = false;
    this.stride[row] = trend;
    this.planned[row] = count;
    this.frontier[row] = page + trend * count;
  }

  /** No trend: what is left of the window is spent around the page, on the stride of the last trend; half of it on either side. */
  private guess(row: number, page: number, plan: Plan): void {
    const window = this.stride[row] === 0 ? 0 : this.window[row];
    plan.mapAhead = false;
    plan.stride = window === 0 ? 1 : this.stride[row];
    plan.start = page - plan.stride * (window >> 1);
    // The page itself stands in the middle and is skipped.
    plan.count = window === 0 ? 0 : window + 1;
    this.planned[row] = 0;
  }

  private forget(row: number, page: number): void {
    this.history.clear(row);
    this.lastPage[row] = page;
    this.hits[row] = 0;
    this.window[row] = 0;
    this.stride[row] = 0;
    this.planned[row] = 0;
  }
}
