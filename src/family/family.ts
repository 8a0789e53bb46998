/**
 * The family: the target, its forked children, and where each of their pages is. The tables and the few moves that keep them consistent with
 * one another; the policies and paths (faults, eviction, write-back, fork, detach) stand on it, each in a module of its own.
 */
import { Chunks } from '../tables/chunks.js';
import { CommandWriter } from '../core/command-writer.js';
import { Counters } from '../core/counters.js';
import type { Engine } from '../core/engine.js';
import { FrameTable } from '../tables/frame-table.js';
import { Command } from '../core/layout.js';
import type { PagerOptions } from '../core/pager-options.js';
import { PageFlag, PageTable, State } from '../tables/page-table.js';
import { PrefetchBuffer } from '../tables/prefetch-buffer.js';
import { RegionTable } from '../tables/regions.js';
import { SecondChance } from '../policy/second-chance.js';
import { SlotTable } from '../tables/slot-table.js';
import { type FrameIndex, NONE, type PageIndex, type SpaceId, spaceId } from '../core/types.js';
import { createVictimPolicy } from '../policy/victim/index.js';
import type { VictimPolicy } from '../policy/victim/victim.js';

/** Indices that are added at once when spare slots run out. */
const SPARE_SLOTS = 256;
/** The most indices: a slot has HASH_WORDS words, and an array no more than 2^32 of them. 4 TiB. */
const INDICES_MOST = 2 ** 30 - 1;
/** Regions leave as many of them to spare slots. */
const REGION_INDICES_MOST = INDICES_MOST - 2 ** 24;

export class Family {
  readonly pages = new PageTable();
  readonly regions = new RegionTable();
  readonly counters = new Counters();
  readonly frames: FrameTable;
  readonly slots: SlotTable;
  readonly chunks: Chunks;
  readonly commands: CommandWriter;
  readonly victims: VictimPolicy;
  /** Prefetched pages that nobody has used yet, oldest first. */
  readonly prefetched: PrefetchBuffer;
  /** Evicted pages whose slot has their bytes: their frames are kept until they are needed. */
  readonly evicted: SecondChance;
  /** Source frames of slots still to be written. */
  readonly dirty: PrefetchBuffer;
  /** Spaces that are alive. */
  readonly spaces: SpaceId[] = [spaceId(0)];

  /** Pages that the store could not give back, as long as nobody has removed them: those with the flag `lost`. */
  readonly lost = new Set<PageIndex>();
  /** Resident pages that count against the limit: those of spaces that can be evicted from. */
  resident = 0;
  /** Pages in map and zero commands of this step: they will be resident. */
  mapping = 0;
  limit = Number.MAX_SAFE_INTEGER;
  /**
   * What a fault may bring `resident` to. The limit; but where that has been lowered, or has only begun to hold, far more is resident, and a fault must not
   * wait until all of that has left: then the ceiling comes down from there by half of what is evicted, and the other half is for faults.
   */
  private ceiling = Number.MAX_SAFE_INTEGER;
  /** When the events now being digested were harvested, ns. */
  now = 0;
  detaching = false;
  /** Nothing could be evicted lately: the limit gives way rather than the target. */
  evictionStalled = false;
  /** Off for one step after a run was refused: it may have crossed two mappings of one region (mprotect splits them), which no single copy may. */
  joining = true;
  /** A page with the flag `refused` is no longer what was refused. */
  refusedLeft = false;
  /** The mappings have to be read again soon. */
  rescan = false;

  constructor(
    readonly engine: Engine,
    readonly options: PagerOptions,
  ) {
    this.frames = new FrameTable(options.frames);
    this.chunks = new Chunks(options.copies);
    this.slots = new SlotTable(engine.frameHashes, this.chunks, () => this.takeSpares());
    this.commands = new CommandWriter(engine.commands);
    this.victims = createVictimPolicy(options.victims);
    this.prefetched = new PrefetchBuffer(options.frames, options.prefetchBuffer);
    this.evicted = new SecondChance(options.frames);
    this.dirty = new PrefetchBuffer(options.frames, options.frames);
  }

  notify(level: 'info' | 'warn' | 'error', message: string, facts: Record<string, unknown> = {}): void {
    this.options.notify?.(level, message, facts);
  }

  /** Makes every table large enough for the indices given out so far. */
  reserve(): void {
    this.reserveTo(this.regions.indexEnd);
  }

  /** Makes room for a region of so many pages. @returns false: there are not so many indices, or not the memory to keep tables of them */
  makeRoom(pages: number): boolean {
    const end = this.regions.indexEnd + pages;
    if (end > REGION_INDICES_MOST) return false;
    try {
      this.reserveTo(end);
      return true;
    } catch (error) {
      if (error instanceof RangeError) return false; // an array cannot be had
      throw error;
    }
  }

  private reserveTo(end: number): void {
    if (end <= this.pages.capacity && end <= this.slots.capacity) return;
    const capacity = Math.min(INDICES_MOST, Math.ceil(end * 1.25) + SPARE_SLOTS);
    this.victims.reserve(capacity);
    this.slots.reserve(capacity);
    this.pages.reserve(capacity);
  }

  setLimit(pages: number): void {
    this.limit = pages;
    this.ceiling = pages;
    this.raiseCeiling();
  }

  /** Pages have become resident by other ways than faults. */
  raiseCeiling(): void {
    this.ceiling = Math.max(this.ceiling, this.resident + this.mapping);
  }

  /** Pages have been evicted. */
  lowerCeiling(evicted: number): void {
    if (this.ceiling > this.limit) this.ceiling = Math.max(this.limit, this.ceiling - evicted / 2);
  }

  /** Pages that may still be mapped before the limit is reached. */
  get room(): number {
    return this.limit - this.resident - this.mapping;
  }

  /** Whether this page may be mapped now; while it may not, the evictor makes room. */
  mayMap(page: PageIndex): boolean {
    return (
      this.resident + this.mapping < this.ceiling ||
      this.evictionStalled ||
      this.detaching ||
      this.pages.has(page, PageFlag.fixed | PageFlag.kept)
    );
  }

  /** Writes a command for one page; joined with the record before it except across the edge of a region. */
  command(command: number, page: PageIndex, frame: FrameIndex | 0): void {
    const region = this.joining ? this.regions.find(page) : undefined;
    this.commands.put(
      command,
      page,
      frame,
      region !== undefined && page !== region.first,
      region !== undefined && page + 1 !== region.first + region.count,
    );
  }

  map(page: PageIndex, frame: FrameIndex): void {
    this.pages.raise(page, PageFlag.mapping);
    this.mapping++;
    this.command(Command.map, page, frame);
  }

  zero(page: PageIndex): void {
    this.pages.raise(page, PageFlag.mapping);
    this.mapping++;
    this.command(Command.zero, page, 0);
  }

  /** Any state with nothing kept elsewhere -> RESIDENT. The caller has set the location. */
  becomeResident(page: PageIndex, ahead: boolean): void {
    this.pages.setState(page, State.resident);
    if (this.pages.has(page, PageFlag.fixed)) return;
    this.count(page, ahead);
  }

  /** A RESIDENT page that is not `fixed`, or no longer, counts and may be a victim. */
  count(page: PageIndex, ahead: boolean): void {
    this.resident++;
    this.evicted.returned(page);
    if (!this.pages.has(page, PageFlag.kept)) this.victims.inserted(page, ahead);
  }

  /** RESIDENT -> EMPTY or UNUSED follows; takes the page off the count and out of the victim policy. */
  leaveResident(page: PageIndex): void {
    if (this.pages.has(page, PageFlag.refused)) this.refusedLeft = true;
    if (this.pages.has(page, PageFlag.fixed)) return;
    this.resident--;
    this.victims.removed(page);
  }

  /** Takes a frame out of whichever list it stands in. */
  unlist(frame: FrameIndex): void {
    if (!this.prefetched.remove(frame)) this.evicted.remove(frame);
  }

  /**
   * Sees to it that `want` frames are free, by giving up clean ones: evicted pages first, then prefetched ones that nobody used.
   * @returns whether that many are free now.
   */
  reclaim(want: number): boolean {
    while (this.frames.free < want) {
      const frame = this.evicted.size > 0 ? this.evicted.reclaim() : this.prefetched.reclaim();
      if (frame === NONE) return false;
      this.giveUp(frame);
    }
    return true;
  }

  /** Frees a frame that an evicted page is kept in only until the frame is needed. @returns false: it is another one */
  vacate(frame: FrameIndex): boolean {
    if (!this.evicted.cede(frame)) return false;
    this.giveUp(frame);
    return true;
  }

  /** BUFFERED -> STORED: the page stays in its slot (or its slot's source) only. The frame is in no list any more. */
  giveUp(frame: FrameIndex): void {
    const page = this.frames.pageOf(frame);
    if (this.pages.has(page, PageFlag.prefetched)) {
      this.pages.lower(page, PageFlag.prefetched);
      this.counters.prefetchUnused++;
    }
    this.pages.setState(page, State.stored);
    this.pages.locate(page, this.frames.slotOf(frame));
    this.frames.release(frame);
  }

  private takeSpares(): readonly [number, number] {
    const first = this.regions.takeIndices(SPARE_SLOTS);
    this.reserve();
    return [first, SPARE_SLOTS];
  }
}
