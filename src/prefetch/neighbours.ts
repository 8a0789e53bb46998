/**
 * Which neighbours of a page are wanted soon after it, learnt without reading one: for each distance d up to REACH on either side, how often the page
 * at P - d had faulted not long before P did. A fault that belongs to no stream brings the unbroken run of neighbours that come often enough.
 *
 * It knows the faults that no stream explains, newest first by page, in a direct-mapped table; and counts per row (a region), halved now and then so
 * that what was true once is forgotten.
 */
export const REACH = 8;
/** A neighbour that followed at least this often is worth its read. */
const WORTH = 0.3;
const SEEN = 1 << 13;
/** "Not long before": in faults that no stream explains. */
const HORIZON = 2048;
/** Faults before a row is believed, and at which its counts are halved. */
const LEAST_FAULTS = 64;
const HALVE_AT = 1024;
const WIDTH = 2 * REACH + 1;

export class Neighbours {
  /** How many pages below and above the page the last `fault` thinks worth reading. */
  below = 0;
  above = 0;
  private readonly page = new Int32Array(SEEN).fill(-1);
  private readonly when = new Int32Array(SEEN);
  private readonly follows: Int32Array;
  private readonly faults: Int32Array;
  private now = 0;

  constructor(rows: number) {
    this.follows = new Int32Array(rows * WIDTH);
    this.faults = new Int32Array(rows);
  }

  clear(row: number): void {
    this.faults[row] = 0;
    this.follows.fill(0, row * WIDTH, (row + 1) * WIDTH);
  }

  fault(row: number, page: number): void {
    const { follows } = this;
    const base = row * WIDTH + REACH;
    this.now = (this.now + 1) | 0;
    for (let distance = -REACH; distance <= REACH; distance++) if (distance !== 0 && this.isRecent(page - distance)) follows[base + distance]++;
    this.page[page & (SEEN - 1)] = page;
    this.when[page & (SEEN - 1)] = this.now;
    const faults = ++this.faults[row];
    this.below = 0;
    this.above = 0;
    if (faults < LEAST_FAULTS) return;
    const enough = faults * WORTH;
    while (this.above < REACH && follows[base + this.above + 1] >= enough) this.above++;
    while (this.below < REACH && follows[base - this.below - 1] >= enough) this.below++;
    if (faults >= HALVE_AT) this.halve(row);
  }

  private isRecent(page: number): boolean {
    const at = page & (SEEN - 1);
    return this.page[at] === page && ((this.now - this.when[at]) | 0) < HORIZON;
  }

  private halve(row: number): void {
    this.faults[row] >>= 1;
    for (let at = row * WIDTH; at < (row + 1) * WIDTH; at++) this.follows[at] >>= 1;
  }
}
