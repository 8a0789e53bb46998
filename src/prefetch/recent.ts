/**
 * The newest faults that belong to no known stream, a ring for each row (a thread, a region), and the search in them for the beginning of a stream.
 *
 *     near    P, P-d, P-2d among them, in this order, d at most NEAR pages: other streams' faults may stand between
 *     far     P, P-d, P-2d, one right after the other, whatever d
 *     loose   three that go the same way in steps of at most LOOSE pages: a stream that jumps over pages that are resident
 *     jump    not found here: the thread has left a stream that paid, and may go on elsewhere as it did there
 */
export const Sign = { none: 0, near: 1, far: 2, loose: 3, jump: 4 } as const;
export const SIGNS = 5;

const NEAR = 64;
const LOOSE = 8;
/** A fault of so many faults ago has nothing to do with this one. */
const OLD = 128;

export class RecentFaults {
  /** What `search` found: a Sign, the stride, and whether a fourth fault stands in the same line. */
  sign: number = Sign.none;
  stride = 0;
  certain = false;
  // Each row is written downwards and twice, so that the newest lie in one piece, newest first; see history.ts.
  private readonly pages: Int32Array;
  private readonly times: Int32Array;
  private readonly heads: Int32Array;
  private readonly lengths: Int32Array;

  constructor(
    rows: number,
    readonly capacity: number,
  ) {
    this.pages = new Int32Array(rows * capacity * 2);
    this.times = new Int32Array(rows * capacity * 2);
    this.heads = new Int32Array(rows);
    this.lengths = new Int32Array(rows);
  }

  /** @param now the number of the fault */
  push(row: number, page: number, now: number): void {
    const { capacity, pages, times } = this;
    const head = this.heads[row] === 0 ? capacity - 1 : this.heads[row] - 1;
    const at = row * capacity * 2 + head;
    pages[at] = page;
    pages[at + capacity] = page;
    times[at] = now;
    times[at + capacity] = now;
    this.heads[row] = head;
    if (this.lengths[row] < capacity) this.lengths[row]++;
  }

  clear(row: number): void {
    this.lengths[row] = 0;
  }

  /** Looks for a stream that `page`, not pushed yet, continues. @returns the sign */
  search(row: number, page: number, now: number): number {
    const { pages, times } = this;
    const first = row * this.capacity * 2 + this.heads[row];
    let end = first + this.lengths[row];
    while (end > first && ((now - times[end - 1]) | 0) > OLD) end--;
    let loose = 0;
    this.certain = false;
    for (let at = first; at < end - 1; at++) {
      const delta = page - pages[at];
      if (delta === 0 || delta > NEAR || delta < -NEAR) continue;
      const third = this.find(at + 1, end, pages[at] - delta);
      if (third >= 0) {
        this.certain = this.find(third + 1, end, pages[at] - 2 * delta) >= 0;
        return this.found(Sign.near, delta);
      }
      if (loose === 0 && delta <= LOOSE && delta >= -LOOSE) loose = this.looseStride(at, end, delta);
    }
    const delta = page - pages[first];
    if (end - first >= 2 && delta !== 0 && pages[first] - pages[first + 1] === delta) {
      this.certain = end - first >= 3 && pages[first + 1] - pages[first + 2] === delta;
      return this.found(Sign.far, delta);
    }
    return loose === 0 ? this.found(Sign.none, 0) : this.found(Sign.loose, loose);
  }

  private looseStride(at: number, end: number, delta: number): number {
    const page = this.pages[at];
    for (let older = at + 1; older < end; older++) {
      const before = page - this.pages[older];
      if (before * delta > 0 && before <= LOOSE && before >= -LOOSE) return Math.sign(delta) * commonDivisor(Math.abs(delta), Math.abs(before));
    }
    return 0;
  }

  private find(from: number, end: number, page: number): number {
    for (let at = from; at < end; at++) if (this.pages[at] === page) return at;
    return -1;
  }

  private found(sign: number, stride: number): number {
    this.sign = sign;
    this.stride = stride;
    return sign;
  }
}

function commonDivisor(a: number, b: number): number {
  while (b !== 0) {
    const rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}
