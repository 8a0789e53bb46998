/**
 * The index space: page indices given out to regions and to spare slots, and tables large enough for all of them.
 * A page and its home slot have the same index, so the tables grow together.
 */
import type { PageTable } from '../tables/page-table.js';
import type { RegionTable } from '../tables/regions.js';
import type { SlotTable } from '../tables/slot-table.js';
import type { VictimPolicy } from '../policy/victim/victim.js';

/** Indices that are added at once when spare slots run out. */
const SPARE_SLOTS = 256;
/** Most indices (4 TiB): an array holds at most 2^32 elements, and a slot's hash takes HASH_WORDS of them. */
const INDICES_MOST = 2 ** 30 - 1;
/** Regions leave the indices above to spare slots. */
const REGION_INDICES_MOST = INDICES_MOST - 2 ** 24;

/** The tables that have one entry an index. */
interface IndexedTables {
  readonly regions: RegionTable;
  readonly pages: PageTable;
  readonly slots: SlotTable;
  readonly victims: VictimPolicy;
}

export class IndexSpace {
  /** @param tables asked for when needed, because the slot table is made with `takeSpares` */
  constructor(private readonly tables: () => IndexedTables) {}

  /**
   * Makes every table large enough for a region of so many pages.
   * @returns false: there are not so many indices, or there is not enough memory for tables of them
   */
  makeRoom(pages: number): boolean {
    const end = this.tables().regions.indexEnd + pages;
    if (end > REGION_INDICES_MOST) return false;
    try {
      this.reserve(end);
      return true;
    } catch (error) {
      if (error instanceof RangeError) return false; // the array is too large for this machine
      throw error;
    }
  }

  /** Gives a run of indices to spare slots. @returns [first, count] */
  takeSpares(): readonly [number, number] {
    const { regions } = this.tables();
    const first = regions.takeIndices(SPARE_SLOTS);
    this.reserve(regions.indexEnd);
    return [first, SPARE_SLOTS];
  }

  /** Makes every table large enough for the indices below `end`. */
  private reserve(end: number): void {
    const { pages, slots, victims } = this.tables();
    if (end <= pages.capacity && end <= slots.capacity) return;
    const capacity = Math.min(INDICES_MOST, Math.ceil(end * 1.25) + SPARE_SLOTS);
    victims.reserve(capacity);
    slots.reserve(capacity);
    pages.reserve(capacity);
  }
}
