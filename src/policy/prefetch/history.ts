/**
 * The access history: for each row (a thread) the newest `capacity` deltas between one faulting page and the next.
 *
 * Each row is written downwards and twice, `capacity` apart, so that the newest deltas always lie in one piece, newest
 * first:
 *
 *     row of capacity 4 after deltas a b c d e:   [ d c b e | d c b e ]
 *                                                         ^ newest: e d c b
 */
export class History {
  readonly deltas: Int32Array;
  private readonly heads: Int32Array;
  private readonly lengths: Int32Array;

  constructor(
    readonly rows: number,
    readonly capacity: number,
  ) {
    if (!Number.isInteger(capacity) || capacity < 1) throw new RangeError(`a history of ${capacity} entries`);
    this.deltas = new Int32Array(rows * capacity * 2);
    this.heads = new Int32Array(rows);
    this.lengths = new Int32Array(rows);
  }

  log(row: number, delta: number): void {
    const { capacity, deltas } = this;
    const head = this.heads[row] === 0 ? capacity - 1 : this.heads[row] - 1;
    const at = row * capacity * 2 + head;
    deltas[at] = delta;
    deltas[at + capacity] = delta;
    this.heads[row] = head;
    if (this.lengths[row] < capacity) this.lengths[row]++;
  }

  clear(row: number): void {
    this.lengths[row] = 0;
  }

  /** How many deltas the row holds: only these may be voted on. */
  length(row: number): number {
    return this.lengths[row];
  }

  /** Index into `deltas` of the row's newest one; the older ones follow. */
  newest(row: number): number {
    return row * this.capacity * 2 + this.heads[row];
  }
}
