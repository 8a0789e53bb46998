/**
 * Leap's prefetcher: a majority trend over the faulting thread's own history, and a window that grows with its hits.
 *
 * A stream with trend d. The fault at P continues it, and the plan is the next window (W pages), behind what was
 * planned before:
 *
 *     P  P+d ........... F  F+d ........... F+W*d        F: the frontier, the last page planned; P after a miss
 *     |  already planned   |  the plan: start = F + d, count = W; at most its lead and one largest window ahead of P
 *
 * When to plan. A miss always does. A hit only does in the newest windows of the thread's stream, as many as its
 * *lead*, and normally at their first page: the marker. Other hits are counted, and what stands ready behind them is
 * mapped: the fetch that they would ask for is under way. So a stream costs one plan a window, made a whole window
 * early. A thread that had to wait for a window is faster than that: at the marker behind it its lead becomes a window
 * longer, so that while one window is mapped the next ones are being read.
 *
 * With map-ahead no fault is seen between two markers, and the distance between them is a window, not a stride. So a
 * fault at the marker is logged as one step of the stream, and brings `ahead` hits. A second fault on the same page
 * says nothing about direction and is not logged.
 *
 * Pages that cannot be prefetched because they are not in the store (never written, or still in a frame after eviction)
 * count as hits when they were in the plan: the prediction was right. So a first pass over fresh memory is mapped ahead
 * as well.
 */
import type { PageIndex } from '../../core/types.js';
import { History } from './history.js';
import { FaultKind, type Plan, type PrefetchCounters, type Prefetcher, type PrefetchOptions } from './prefetcher.js';
import { ThreadTable } from './threads.js';
import { NO_TREND, findTrend } from './trend.js';
import { nextWindow } from './window.js';

/** The most windows that are on their way behind the one that is being used. */
const LEAD_MAX = 3;

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
  /**
   * Where the stream is planned to: its last page, and how many steps that was from the page of the last plan (0: that
   * was a guess).
   */
  private readonly planned = new Int32Array(THREADS);
  private readonly frontier = new Int32Array(THREADS);
  /** The stream was proven when it was last looked at: what has arrived of it may be mapped ahead. */
  private readonly trusted = new Uint8Array(THREADS);
  /** Windows to be planned behind the one that the thread is in. */
  private readonly lead = new Int32Array(THREADS).fill(1);

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
    if (atMarker && plan.late) this.lead[row] = Math.min(LEAD_MAX, this.lead[row] + 1);
    const inNewest = atMarker || (left >= 0 && left < this.lead[row] * this.window[row]);
    if (predicted && !inNewest) {
      plan.stride = this.stride[row];
      plan.mapAhead = this.trusted[row] === 1;
      return;
    }

    this.counters.trendsTried++;
    const trend = findTrend(
      this.history.deltas,
      this.history.newest(row),
      this.history.length(row),
      this.history.capacity,
    );
    const follows = trend !== NO_TREND && delta === trend;
    const proven = follows && this.isProven(row, left, ahead);
    const next = nextWindow(this.hits[row], follows, this.window[row], this.windowMax);
    // A marker in the midst of a window says that the rest of it was late, not that it was wrong.
    this.window[row] =
      proven && atMarker && this.lead[row] > 1 ? Math.max(next, Math.min(this.window[row], this.windowMax)) : next;
    this.trusted[row] = Number(proven);
    this.hits[row] = 0;
    if (trend === NO_TREND) {
      this.guess(row, page, plan);
    } else {
      this.counters.trendsFound++;
      const goesOn = left >= 0 && inNewest && trend === this.stride[row];
      // A marker that was not planned: the stream is faster than its plans. This window will be mapped as a whole; the
      // one behind it must be on its way when its marker is touched, or every window is a miss.
      const windows = ahead > 0 && kind === FaultKind.miss && proven ? 2 : 1;
      this.follow(row, page, trend, goesOn ? left : 0, proven ? Math.max(windows, this.lead[row]) : windows, plan);
      plan.mapAhead = proven && plan.count > 0;
    }
  }

  /** Steps from the page to the end of the last plan; -1 when the page is not in it. */
  private left(row: number, page: number): number {
    const planned = this.planned[row];
    if (planned === 0) return -1;
    const steps = (this.frontier[row] - page) / this.stride[row];
    return steps >= 0 && steps < planned && Number.isInteger(steps) ? steps : -1;
  }

  /** Of the steps that the thread took since the last plan, at least half were hits: the stream may be mapped ahead. */
  private isProven(row: number, left: number, ahead: number): boolean {
    const hits = this.hits[row];
    const steps = left >= 0 ? this.planned[row] - left : ahead > 0 ? hits : this.window[row];
    return hits > 0 && hits * 2 >= steps;
  }

  /** Along the trend, from the page or from the end of what is left of the last plan. */
  private follow(row: number, page: number, trend: number, left: number, windows: number, plan: Plan): void {
    const window = this.window[row];
    const lead = this.lead[row];
    // Topped up to the lead where the stream goes on; from the page on where it has to begin again.
    const wanted = left > 0 && windows > 1 ? (windows + 1) * window - 1 - left : windows * window;
    const count = Math.max(0, Math.min(wanted, (lead + 1) * this.windowMax - left));
    plan.start = page + trend * (left + 1);
    plan.stride = trend;
    plan.count = count;
    this.window[row] = Math.min(count, window);
    this.stride[row] = trend;
    this.planned[row] = left + count;
    this.frontier[row] = page + trend * (left + count);
  }

  /**
   * No trend: what is left of the window is spent around the page, on the stride of the last trend; half of it on
   * either side.
   */
  private guess(row: number, page: number, plan: Plan): void {
    this.planned[row] = 0;
    this.lead[row] = 1;
    const window = this.window[row];
    const stride = this.stride[row];
    if (window === 0 || stride === 0) return;
    plan.stride = stride;
    plan.start = page - stride * (window >> 1);
    // The page itself stands in the middle and is skipped.
    plan.count = window + 1;
  }

  private forget(row: number, page: number): void {
    this.history.clear(row);
    this.lastPage[row] = page;
    this.hits[row] = 0;
    this.window[row] = 0;
    this.stride[row] = 0;
    this.planned[row] = 0;
    this.lead[row] = 1;
    this.trusted[row] = 0;
  }
}
