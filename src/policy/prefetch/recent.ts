/**
 * The beginnings of streams: the newest fault in each neighbourhood, of those faults that belong to no known stream,
 * and where it led.
 *
 *     near    three in a line, P, P-d, P-2d, d at most NEAR pages; faults in other neighbourhoods may have come between
 *     far     the same one right after the other, whatever d
 *     loose   three that go the same way in steps of at most LOOSE pages: a stream that jumps over pages that are
 *             resident
 *     known   two that lie a few strides apart, of the stride that the owner has gone by before: it does so elsewhere,
 *             over pages that are resident
 *     jump    not found here: the thread has left a stream that paid, and may go on elsewhere as it did there
 *
 * A neighbourhood is a block of NEAR pages of one owner (a thread, or a region for all of its threads); a direct-mapped
 * table holds those of late. A line that crosses into the next block takes its entry with it. A handful of steps a
 * fault, whatever the pattern.
 */
export const Sign = { none: 0, near: 1, far: 2, loose: 3, jump: 4, known: 5 } as const;
export const SIGNS = 6;

const NEAR_SHIFT = 6;
const NEAR = 1 << NEAR_SHIFT;
/** Steps of at most so many pages are loose ones. */
export const LOOSE = 8;
/** So many of its strides lie between two faults of a known stride at most. */
const KNOWN_STEPS = 4;
/** Chance makes such lines too, given time: they have to come so many times as fast. */
const LOOSE_HASTE = 4;
const ENTRIES = 1024;

export class RecentFaults {
  /** What `search` found: a Sign, the stride, and whether a fourth fault stands in the same line. */
  sign: number = Sign.none;
  stride = 0;
  certain = false;
  // One entry a neighbourhood:
  private readonly owner = new Int32Array(ENTRIES);
  private readonly block = new Int32Array(ENTRIES).fill(-1);
  private readonly last = new Int32Array(ENTRIES);
  /** From the fault before it to the last one; 0: there is none. */
  private readonly delta = new Int32Array(ENTRIES);
  private readonly repeats = new Uint8Array(ENTRIES);
  private readonly time = new Int32Array(ENTRIES);
  // One entry a row of owners: the last fault, wherever it was.
  private readonly lastOf: Int32Array;
  private readonly deltaOf: Int32Array;
  private readonly repeatsOf: Uint8Array;

  /** @param memory after so many faults, one has nothing to do with the next */
  constructor(
    rows: number,
    public memory: number,
  ) {
    this.lastOf = new Int32Array(rows);
    this.deltaOf = new Int32Array(rows);
    this.repeatsOf = new Uint8Array(rows);
  }

  clear(row: number): void {
    this.lastOf[row] = 0;
    this.deltaOf[row] = 0;
    this.repeatsOf[row] = 0;
  }

  /**
   * Looks for a stream that `page` continues, and remembers it.
   * @param now the number of the fault @param known a stride of the owner's streams, 0: none @returns the sign
   */
  search(row: number, owner: number, page: number, now: number, known: number): number {
    this.sign = Sign.none;
    this.certain = false;
    const delta = page - this.lastOf[row];
    this.repeatsOf[row] = delta === this.deltaOf[row] ? Math.min(2, this.repeatsOf[row] + 1) : 0;
    this.lastOf[row] = page;
    this.deltaOf[row] = delta;
    this.searchNear(owner, page, now, known);
    if (this.sign === Sign.near || this.repeatsOf[row] === 0 || delta === 0) return this.sign;
    return this.found(Sign.far, delta, this.repeatsOf[row] > 1);
  }

  private searchNear(owner: number, page: number, now: number, known: number): void {
    const { last, delta, repeats, time } = this;
    const block = page >> NEAR_SHIFT;
    const here = entryOf(owner, block);
    let at = this.isOf(here, owner, block, now) ? here : this.beside(owner, page, block, now);
    if (at < 0) {
      at = here;
      delta[at] = 0;
      repeats[at] = 0;
    } else {
      const step = page - last[at];
      const before = delta[at];
      if (step === 0) return;
      const same = step === before;
      const count = same ? Math.min(2, repeats[at] + 1) : 0;
      if (same) this.found(Sign.near, step, count > 1);
      else if ((now - time[at]) * LOOSE_HASTE <= this.memory) {
        if (step * before > 0 && Math.abs(step) <= LOOSE && Math.abs(before) <= LOOSE)
          this.found(Sign.loose, Math.sign(step) * commonDivisor(step, before), false);
        else if (
          known !== 0 &&
          step % known === 0 &&
          step * known > 0 &&
          Math.abs(step) <= KNOWN_STEPS * Math.abs(known)
        )
          this.found(Sign.known, known, false);
      }
      if (at !== here) this.block[at] = -1;
      at = here;
      delta[at] = step;
      repeats[at] = count;
    }
    this.owner[at] = owner;
    this.block[at] = block;
    last[at] = page;
    time[at] = now;
  }

  /** The entry of a block beside this one, when its last fault is near enough. */
  private beside(owner: number, page: number, block: number, now: number): number {
    for (let side = -1; side <= 1; side += 2) {
      const at = entryOf(owner, block + side);
      if (this.isOf(at, owner, block + side, now) && Math.abs(page - this.last[at]) <= NEAR) return at;
    }
    return -1;
  }

  private isOf(at: number, owner: number, block: number, now: number): boolean {
    return this.block[at] === block && this.owner[at] === owner && ((now - this.time[at]) | 0) <= this.memory;
  }

  private found(sign: number, stride: number, certain: boolean): number {
    this.sign = sign;
    this.stride = stride;
    this.certain = certain;
    return sign;
  }
}

const entryOf = (owner: number, block: number): number =>
  (Math.imul(block ^ Math.imul(owner, 0x85ebca6b), 0x9e3779b1) >>> 22) & (ENTRIES - 1);

function commonDivisor(one: number, other: number): number {
  let a = Math.abs(one);
  let b = Math.abs(other);
  while (b !== 0) {
    const rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}
