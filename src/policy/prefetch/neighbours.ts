/**
 * Which neighbours of a page are wanted soon after it, learnt without reading one: for each distance d up to REACH on
 * either side, how often the page at P - d had faulted not long before P did. A fault that belongs to no stream brings
 * the unbroken run of neighbours that come often enough.
 *
 * The faults that no stream explains are bits, 32 pages a word, in a direct-mapped table. The counts are kept per row
 * (a region) and halved now and then, so that what was true once is forgotten.
 */
const REACH = 8;
/**
 * A page of the region so far away is any page: what faulted there not long before did so by chance, as many pages of a
 * small region do.
 */
const ANYWHERE = 997;
const WORDS = 2048;
/** "Not long before": in this generation of so many faults that no stream explains, or in the one before. */
const GENERATION_SHIFT = 10;
/** Faults before a row is believed, and at which its counts are halved. */
const LEAST_FAULTS = 64;
const HALVE_AT = 1024;
const WIDTH = 2 * REACH + 1;
const WINDOW = 2 ** WIDTH - 1;

export class Neighbours {
  /** How many pages below and above the page the last `fault` thinks worth reading. */
  below = 0;
  above = 0;
  private readonly bits = new Int32Array(WORDS);
  private readonly word = new Int32Array(WORDS).fill(-1);
  private readonly older = new Int32Array(WORDS);
  private readonly generation = new Int32Array(WORDS);
  private readonly follows: Int32Array;
  private readonly faults: Int32Array;
  /** How often a page ANYWHERE away had faulted not long before. */
  private readonly chance: Int32Array;
  private now = 0;

  constructor(rows: number) {
    this.follows = new Int32Array(rows * WIDTH);
    this.faults = new Int32Array(rows);
    this.chance = new Int32Array(rows);
  }

  clear(row: number): void {
    this.faults[row] = 0;
    this.chance[row] = 0;
    this.follows.fill(0, row * WIDTH, (row + 1) * WIDTH);
  }

  /** @param first @param end of the region */
  fault(row: number, page: number, first: number, end: number, leastUse: Float64Array): void {
    const { follows } = this;
    const base = row * WIDTH + REACH;
    this.now = (this.now + 1) | 0;
    // Bit j: the page at distance j - REACH has faulted of late, so this one is its neighbour at REACH - j.
    for (let seen = this.around(page); seen !== 0; seen &= seen - 1)
      follows[base + REACH - (31 - Math.clz32(seen & -seen))]++;
    const far = Math.min(ANYWHERE, (end - first) >> 1);
    this.chance[row] += this.has(page + far < end ? page + far : page - far);
    this.set(page);
    const faults = ++this.faults[row];
    this.below = 0;
    this.above = 0;
    if (faults < LEAST_FAULTS) return;
    const enough = faults * leastUse[0] + this.chance[row];
    while (this.above < REACH && follows[base + this.above + 1] >= enough) this.above++;
    while (this.below < REACH && follows[base - this.below - 1] >= enough) this.below++;
    if (faults >= HALVE_AT) this.halve(row);
  }

  /** The bits of the pages from REACH below to REACH above, the page itself in the middle and 0. */
  private around(page: number): number {
    const word = page >> 5;
    const shift = (page & 31) - REACH;
    let bits = this.recent(word);
    if (shift < 0) bits = (bits << -shift) | (this.recent(word - 1) >>> (32 + shift));
    else if (shift > 0) bits = (bits >>> shift) | (shift > 32 - WIDTH ? this.recent(word + 1) << (32 - shift) : 0);
    return bits & WINDOW & ~(1 << REACH);
  }

  private has(page: number): number {
    return (this.recent(page >> 5) >>> (page & 31)) & 1;
  }

  private recent(word: number): number {
    const at = word & (WORDS - 1);
    if (this.word[at] !== word) return 0;
    const age = (this.now >> GENERATION_SHIFT) - this.generation[at];
    return age === 0 ? this.bits[at] | this.older[at] : age === 1 ? this.bits[at] : 0;
  }

  private set(page: number): void {
    const word = page >> 5;
    const at = word & (WORDS - 1);
    const generation = this.now >> GENERATION_SHIFT;
    if (this.word[at] !== word || this.generation[at] !== generation) {
      this.older[at] = this.word[at] === word && this.generation[at] === generation - 1 ? this.bits[at] : 0;
      this.bits[at] = 0;
      this.word[at] = word;
      this.generation[at] = generation;
    }
    this.bits[at] |= 1 << (page & 31);
  }

  private halve(row: number): void {
    this.faults[row] >>= 1;
    this.chance[row] >>= 1;
    for (let at = row * WIDTH; at < (row + 1) * WIDTH; at++) this.follows[at] >>= 1;
  }
}
