/**
 * The streams that are known: a bounded table of columns, one row a stream. When it is full, the stream that has gone
 * on least recently gives up its row.
 *
 *              at    expected          frontier         beyond
 *     | behind | mapped | planned        | jumped over?   |
 *     low ---------------------------------------------- high   a fault here, on a multiple of the stride, may be its
 */
import { NONE } from '../../core/types.js';

/**
 * A stream on which no fault has come for so many faults is no stream any more: what comes there now comes by chance.
 */
const STALE = 256;
/** Steps beyond the frontier at which a stream may come up again, having jumped over pages that are resident. */
const BEYOND = 16;
/**
 * A fault behind the expected page is so many times as surprising as one beyond it, where the pages between may be
 * resident.
 */
const BACKWARD = 4;
/** As many equal skips in a row, after the first, are the stream's stride. */
const REGULAR = 2;
/** Threads that share a stream go along it side by side: a fault that surprises it more is none of theirs. */
const SHARED = 8;

export class StreamTable {
  readonly thread: Int32Array;
  /** 0: no stream. */
  readonly stride: Int32Array;
  /** The page of its last plan, the last page that was planned then, and the steps between the two. */
  readonly at: Int32Array;
  readonly frontier: Int32Array;
  readonly planned: Int32Array;
  readonly window: Int32Array;
  /** Windows that are planned behind the one in use: more where it had to wait for one. */
  readonly lead: Uint8Array;
  /** Steps looked at for each page fetched by the last plan, 1 or more: the others are resident. */
  readonly pace: Float64Array;
  /** Prefetched pages used since the last plan. */
  readonly hits: Int32Array;
  /** Plans in a row that did not pay. */
  readonly failures: Uint8Array;
  /** The Sign that it was found by; none once a plan of it has paid. */
  readonly sign: Uint8Array;
  /** What was mapped ahead with the last plan, and the first page that was not. */
  readonly ahead: Int32Array;
  readonly marker: Int32Array;
  /** The page of its last fault, the steps from the one before to it, and how often in a row they were as many. */
  readonly last: Int32Array;
  readonly skip: Int32Array;
  readonly repeats: Uint8Array;
  /** Faults that are still to be seen one by one before anything is mapped ahead again. */
  readonly doubt: Uint8Array;
  /** Share of its pages that are touched, as far as that is seen: at its markers, or where nothing is mapped ahead. */
  readonly touched: Float64Array;
  private readonly low: Int32Array;
  private readonly high: Int32Array;
  /** The number of the fault that came last. */
  private readonly seen: Int32Array;
  private used = 0;
  private now = 0;

  constructor(readonly rows: number) {
    const column = (): Int32Array => new Int32Array(rows);
    this.thread = column();
    this.stride = column();
    this.at = column();
    this.frontier = column();
    this.planned = column();
    this.window = column();
    this.lead = new Uint8Array(rows);
    this.hits = column();
    this.ahead = column();
    this.marker = column();
    this.last = column();
    this.skip = column();
    this.repeats = new Uint8Array(rows);
    this.doubt = new Uint8Array(rows);
    this.touched = new Float64Array(rows);
    this.low = column();
    this.high = column();
    this.pace = new Float64Array(rows);
    this.failures = new Uint8Array(rows);
    this.sign = new Uint8Array(rows);
    this.seen = column();
  }

  /**
   * The stream that a fault of this thread belongs to, or NONE: one of its own first, then one of another thread; the
   * least surprised of several.
   */
  match(page: number, thread: number): number {
    const { low, high, stride, used } = this;
    const now = ++this.now;
    let best = NONE;
    let least = Infinity;
    for (let row = 0; row < used; row++) {
      if (page < low[row] || page > high[row]) continue;
      const by = stride[row];
      if (now - this.seen[row] > STALE) {
        this.drop(row);
        continue;
      }
      if (by !== 1 && by !== -1 && (page - this.at[row]) % by !== 0) continue;
      const skipped = (page - this.expected(row)) / by;
      let surprise = skipped < 0 ? -skipped * BACKWARD : skipped;
      if (this.thread[row] !== thread) {
        if (surprise > SHARED) continue;
        surprise += 2 ** 31;
      }
      if (surprise >= least) continue;
      best = row;
      least = surprise;
    }
    return best;
  }

  /** Where the stream's next fault is expected: at its marker, or one step on. */
  expected(row: number): number {
    return this.marker[row] === NONE ? this.at[row] + this.stride[row] : this.marker[row];
  }

  add(page: number, thread: number, stride: number, window: number, sign: number, touched: number): number {
    const row = this.take();
    this.thread[row] = thread;
    this.stride[row] = stride;
    this.window[row] = window;
    this.lead[row] = 1;
    this.sign[row] = sign;
    this.planned[row] = 0;
    this.hits[row] = 0;
    this.failures[row] = 0;
    this.pace[row] = 1;
    this.ahead[row] = 0;
    this.marker[row] = NONE;
    this.last[row] = page;
    this.skip[row] = 1;
    this.repeats[row] = 0;
    this.doubt[row] = 0;
    this.touched[row] = touched;
    return row;
  }

  /** The stream has come to `at` and is planned up to `frontier`. */
  place(row: number, at: number, frontier: number): void {
    const stride = this.stride[row];
    this.at[row] = at;
    this.frontier[row] = frontier;
    this.planned[row] = (frontier - at) / stride;
    const back = at - stride * this.window[row];
    const beyond = frontier + stride * BEYOND;
    this.low[row] = Math.min(back, beyond);
    this.high[row] = Math.max(back, beyond);
    this.touch(row);
  }

  /**
   * Notes a fault of the stream. @param mapped whether pages before this one were mapped ahead: their faults were not
   * seen
   * @returns the steps that it always goes at a time, when it has shown so; 1 otherwise.
   */
  note(row: number, page: number, mapped: boolean): number {
    const skip = (page - this.last[row]) / this.stride[row];
    this.repeats[row] = skip > 1 && skip === this.skip[row] && !mapped ? Math.min(REGULAR, this.repeats[row] + 1) : 0;
    this.last[row] = page;
    this.skip[row] = skip;
    return this.repeats[row] === REGULAR ? skip : 1;
  }

  touch(row: number): void {
    this.seen[row] = this.now;
  }

  drop(row: number): void {
    this.stride[row] = 0;
    this.low[row] = 1;
    this.high[row] = 0;
    this.seen[row] = 0;
  }

  dropAll(): void {
    for (let row = 0; row < this.used; row++) this.drop(row);
  }

  private take(): number {
    if (this.used < this.rows) return this.used++;
    let oldest = 0;
    for (let row = 1; row < this.rows; row++) if (this.seen[row] < this.seen[oldest]) oldest = row;
    return oldest;
  }
}
