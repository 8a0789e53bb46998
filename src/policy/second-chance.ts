/**
 * The second chance of evicted pages: their frames, once their bytes are in the store, are kept until they are needed
 * for something else. What is kept, and what only passes through, is decided by how long pages stay away:
 *
 *     FIFO over F frames finds every page that is wanted again within F evictions, and none that comes back later: of a
 *     loop that is larger than memory and frames together, none at all. Where only every n-th page is kept, it finds
 *     one page in n, but up to n * F evictions later.
 *
 * So the *share* kept is the n that would have found most, going by the distances, in evictions, at which a sample of
 * the victims has come back lately. The other pages pass: their frames are the first to be given up.
 */
import { FrameList } from '../tables/frame-list.js';
import { NONE, type FrameIndex, type PageIndex } from '../core/types.js';

/**
 * Pages under observation: a direct-mapped table, a power of two. Of more pages than this, so many in F frames are
 * observed.
 */
const ENTRIES_SHIFT = 13;
const ENTRIES = 2 ** ENTRIES_SHIFT;
const OBSERVED = 256;
/** One page in 2^k is kept, k up to this. */
const SHIFT_MAX = 5;
/** A smaller share has to find 5/4 times as many pages: chance moves the counts by as much. */
const MARGIN = 5;
const MARGIN_OF = 4;
/** Returns before they are believed, and at which their counts are halved, so that what was true once is forgotten. */
const LEAST_RETURNS = 64;
const HALVE_AT = 512;
/** So many pages that are evicted one after the other are kept or pass together: they are often neighbours. */
const RUN_SHIFT = 5;
/** Distances are counted by their two highest bits. */
const BUCKETS = 64;

export class SecondChance {
  /** One page in 2^shift is kept. */
  shift = 0;
  private readonly kept: FrameList;
  private readonly passing: FrameList;
  private readonly page = new Int32Array(ENTRIES).fill(NONE);
  private readonly since = new Int32Array(ENTRIES);
  private readonly counts = new Int32Array(BUCKETS);
  private returns = 0;
  /** Evictions, modulo 2^32. */
  private clock = 0;
  private added = 0;
  /** One page in mask + 1 is observed. */
  private readonly mask: number;

  /**
   * @param frames how many frames there are in the arena
   * @param room frames that are here, on average
   */
  constructor(
    frames: number,
    private room = frames,
  ) {
    this.kept = new FrameList(frames);
    this.passing = new FrameList(frames);
    this.mask = 2 ** Math.max(0, Math.ceil(Math.log2(room / OBSERVED))) - 1;
  }

  get size(): number {
    return this.kept.size + this.passing.size;
  }

  has(frame: FrameIndex): boolean {
    return this.kept.has(frame) || this.passing.has(frame);
  }

  /** The frame's page is in the store too. @throws Error when it is in already */
  add(frame: FrameIndex): void {
    const run = this.added++ >>> RUN_SHIFT;
    if ((run & ((1 << this.shift) - 1)) === 0) this.kept.add(frame);
    else this.passing.add(frame);
  }

  /** @returns whether it was in */
  remove(frame: FrameIndex): boolean {
    return this.kept.remove(frame) || this.passing.remove(frame);
  }

  /**
   * Takes a frame out because of where it lies, unless others are to go before it. @returns whether it was in, and is
   * out now
   */
  cede(frame: FrameIndex): boolean {
    return this.passing.remove(frame) || (this.shift === 0 && this.kept.remove(frame));
  }

  /** Takes out the frame whose page is least likely to be wanted. @returns it, or NONE */
  reclaim(): FrameIndex {
    return this.passing.size > 0 ? this.passing.reclaim() : this.kept.reclaim();
  }

  /** The page has been evicted. */
  left(page: PageIndex): void {
    this.clock = (this.clock + 1) | 0;
    const at = this.entryOf(page);
    if (at === NONE) return;
    this.page[at] = page;
    this.since[at] = this.clock;
  }

  /** The page is resident again. */
  returned(page: PageIndex): void {
    const at = this.entryOf(page);
    if (at === NONE || this.page[at] !== page) return;
    this.page[at] = NONE;
    this.counts[bucketOf((this.clock - this.since[at]) >>> 0)]++;
    if (++this.returns % LEAST_RETURNS === 0) this.choose();
  }

  /** Where an observed page stands in the table; NONE: it is not one. */
  private entryOf(page: PageIndex): number {
    const hash = Math.imul(page, 0x9e3779b1);
    return ((hash >>> 8) & this.mask) === 0 ? hash >>> (32 - ENTRIES_SHIFT) : NONE;
  }

  private choose(): void {
    const { counts } = this;
    this.room += (this.size - this.room) >> 2;
    let best = 0;
    let most = 0;
    let found = 0;
    let bucket = 0;
    for (let shift = 0; shift <= SHIFT_MAX; shift++) {
      for (const end = bucketOf(this.room << shift); bucket < end; bucket++) found += counts[bucket];
      const share = found << (SHIFT_MAX - shift); // whole numbers: others would be allocated
      if (share * MARGIN_OF <= most * MARGIN) continue;
      best = shift;
      most = share;
    }
    this.shift = best;
    if (this.returns < HALVE_AT) return;
    this.returns >>= 1;
    for (let i = 0; i < BUCKETS; i++) counts[i] >>= 1;
  }
}

const bucketOf = (distance: number): number => {
  const high = 31 - Math.clz32(distance | 1);
  return high * 2 + ((distance >>> Math.max(0, high - 1)) & 1);
};
