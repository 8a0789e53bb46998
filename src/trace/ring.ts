/**
 * What the pager's thread writes down while it records: fixed-size records into a ring that another thread drains. No
 * allocation, no system call, no waiting: when the ring is full the record is counted as lost.
 *
 *     record   words: tag and bits | time, low 30 bits of the ns | time, the rest | a | b | c
 *     fault    kind and write      |                                              | page | thread | 0
 *     regions  a new list begins: what was known of regions is replaced as far as the new ones reach
 *     region   space and advice    | first address (page number), low and rest    | first page | pages | 0
 */
import type { RegionTable } from '../tables/regions.js';
import { vpnHigh, vpnLow } from '../core/layout.js';

const RECORD_WORDS = 6;
const RecordTag = { fault: 1, regions: 2, region: 3 } as const;
/** Where the bits of the first word begin: below them the tag, above them what is said of the record. */
export const TAG_BITS = 4;
const WRITE_BIT = 4; // above the two bits of the fault's kind
const ADVICE_BITS = 2;

/**
 * Words of the shared state: how many records were written, how many were drained (both modulo 2^32), how many were
 * lost.
 */
const WRITTEN = 0;
const DRAINED = 1;
const LOST = 2;
const STATE_WORDS = 3;
/** A list of regions is not written more often than this. */
const REGIONS_NS = 50e6;

/** Both ends of the ring stand on this; it can be posted to another thread. */
export interface RecordMemory {
  readonly state: Int32Array;
  readonly words: Int32Array;
}

/** @param records a power of two */
export function recordMemory(records: number): RecordMemory {
  if (!Number.isInteger(Math.log2(records))) throw new RangeError(`a ring of ${records} records`);
  return {
    state: new Int32Array(new SharedArrayBuffer(STATE_WORDS * 4)),
    words: new Int32Array(new SharedArrayBuffer(records * RECORD_WORDS * 4)),
  };
}

/** The pager's end. */
export class Recorder {
  private readonly mask: number;
  private written = 0;
  private regionsVersion = -1;
  private regionsAt = -Infinity;

  constructor(private readonly memory: RecordMemory) {
    this.mask = memory.words.length / RECORD_WORDS - 1;
  }

  /** @param kind a FaultKind  @param write whether the thread wanted to write  @param now ns */
  fault(page: number, thread: number, kind: number, write: boolean, now: number, regions: RegionTable): void {
    if (regions.version !== this.regionsVersion && now - this.regionsAt > REGIONS_NS) this.regions(regions, now);
    this.put(RecordTag.fault | ((kind | (write ? WRITE_BIT : 0)) << TAG_BITS), now, page, thread);
  }

  private regions(regions: RegionTable, now: number): void {
    this.regionsVersion = regions.version;
    this.regionsAt = now;
    this.put(RecordTag.regions, now, 0, 0);
    for (const { space, start, count, first } of regions.all()) {
      const advice = regions.adviceOf(first);
      this.put(RecordTag.region | ((advice | (space << ADVICE_BITS)) << TAG_BITS), start, first, count);
    }
  }

  private put(tag: number, big: number, a: number, b: number): void {
    const { state, words } = this.memory;
    if (((this.written - Atomics.load(state, DRAINED)) | 0) > this.mask) {
      Atomics.add(state, LOST, 1);
      return;
    }
    const at = (this.written & this.mask) * RECORD_WORDS;
    words[at] = tag;
    words[at + 1] = vpnLow(big);
    words[at + 2] = vpnHigh(big);
    words[at + 3] = a;
    words[at + 4] = b;
    this.written = (this.written + 1) | 0;
    Atomics.store(state, WRITTEN, this.written);
  }
}

/** Who reads the ring is told of each record; `big` is the time in ns, or a region's first page number. */
export interface RecordSink {
  fault(kind: number, write: boolean, timeNs: number, page: number, thread: number): void;
  regions(): void;
  region(space: number, advice: number, start: number, first: number, count: number): void;
}

/** The other end: takes everything that is in the ring now. @returns how many records were lost so far. */
export function drainRecords({ state, words }: RecordMemory, sink: RecordSink): number {
  const mask = words.length / RECORD_WORDS - 1;
  const end = Atomics.load(state, WRITTEN);
  let drained = Atomics.load(state, DRAINED);
  for (; drained !== end; drained = (drained + 1) | 0) {
    const at = (drained & mask) * RECORD_WORDS;
    const bits = words[at] >> TAG_BITS;
    const big = words[at + 2] * 2 ** 30 + words[at + 1];
    const tag = words[at] & ((1 << TAG_BITS) - 1);
    if (tag === RecordTag.fault) sink.fault(bits & 3, (bits & WRITE_BIT) !== 0, big, words[at + 3], words[at + 4]);
    else if (tag === RecordTag.regions) sink.regions();
    else sink.region(bits >> ADVICE_BITS, bits & 3, big, words[at + 3], words[at + 4]);
  }
  Atomics.store(state, DRAINED, drained);
  return Atomics.load(state, LOST);
}
