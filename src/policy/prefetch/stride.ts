/**
 * Reference prediction, one entry a thread: a stride that was seen twice in a row is believed until it fails.
 *
 *     state      | the delta is the stride    | it is not
 *     -----------+----------------------------+---------------------------------------
 *     initial    | steady                     | transient, the delta becomes the stride
 *     transient  | steady                     | transient, the delta becomes the stride
 *     steady     | steady: prefetch           | initial, the stride is kept: one odd fault does not end it
 */
import type { PageIndex } from '../../core/types.js';
import type { Plan, PrefetchCounters, Prefetcher, PrefetchOptions } from './prefetcher.js';
import { ThreadTable } from './threads.js';

const THREADS = 64;
const INITIAL = 0;
const TRANSIENT = 1;
const STEADY = 2;

export class StridePrefetcher implements Prefetcher {
  readonly name = 'stride';
  readonly counters: PrefetchCounters = { trendsFound: 0, trendsTried: 0 };
  private readonly threads = new ThreadTable(THREADS);
  private readonly lastPage = new Int32Array(THREADS);
  private readonly stride = new Int32Array(THREADS);
  private readonly state = new Uint8Array(THREADS);
  private count: number;

  constructor(options: PrefetchOptions) {
    this.count = options.windowMax;
  }

  configure(options: PrefetchOptions): void {
    this.count = options.windowMax;
  }

  fault(page: PageIndex, thread: number, _kind: number, _ahead: number, plan: Plan): void {
    plan.clear();
    const row = this.threads.row(thread);
    if (this.threads.isNew) {
      this.state[row] = INITIAL;
      this.stride[row] = 0;
      this.lastPage[row] = page;
      return;
    }
    const delta = page - this.lastPage[row];
    if (delta === 0) return;
    this.lastPage[row] = page;
    this.counters.trendsTried++;
    if (delta === this.stride[row]) {
      this.state[row] = STEADY;
    } else if (this.state[row] === STEADY) {
      this.state[row] = INITIAL;
    } else {
      this.state[row] = TRANSIENT;
      this.stride[row] = delta;
    }
    if (this.state[row] !== STEADY) return;
    this.counters.trendsFound++;
    plan.stride = delta;
    plan.start = page + delta;
    plan.count = this.count;
  }
}
