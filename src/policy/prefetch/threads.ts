/**
 * A bounded table of threads: a thread id on one side, a small dense row number on the other. When it is full, the
 * thread that has not faulted for longest gives up its row. Nothing is allocated after construction.
 */
const HINTS = 256;

export class ThreadTable {
  /** True when the last `row` call gave the thread a row it did not have: what stood there is somebody else's. */
  isNew = false;
  private readonly ids: Int32Array;
  private readonly seen: Float64Array;
  /** Where a thread was found last, by the low bits of its id: a guess, checked before it is believed. */
  private readonly hints = new Int32Array(HINTS);
  private used = 0;
  private now = 0;

  constructor(readonly rows: number) {
    this.ids = new Int32Array(rows);
    this.seen = new Float64Array(rows);
  }

  /** The row of a thread, taken over from the least recent one if need be. */
  row(thread: number): number {
    const hint = this.hints[thread & (HINTS - 1)];
    const known = hint < this.used && this.ids[hint] === thread ? hint : this.find(thread);
    this.isNew = known < 0;
    const row = this.isNew ? this.take() : known;
    this.ids[row] = thread;
    this.seen[row] = ++this.now;
    this.hints[thread & (HINTS - 1)] = row;
    return row;
  }

  private find(thread: number): number {
    for (let row = 0; row < this.used; row++) if (this.ids[row] === thread) return row;
    return -1;
  }

  private take(): number {
    if (this.used < this.rows) return this.used++;
    let oldest = 0;
    for (let row = 1; row < this.rows; row++) if (this.seen[row] < this.seen[oldest]) oldest = row;
    return oldest;
  }
}
