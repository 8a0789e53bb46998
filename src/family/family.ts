/**
 * The family: the target and its forked children, where each of their pages is, and the moves that change several
 * tables together. The paths (faults, eviction, write-back, fork, detach) work on it, each in a module of its own.
 */
import { CommandWriter } from '../core/command-writer.js';
import { Counters } from '../core/counters.js';
import type { Engine } from '../core/engine.js';
import { Command } from '../core/layout.js';
import type { PagerOptions } from '../core/pager-options.js';
import { type FrameIndex, type PageIndex, type SpaceId, spaceId } from '../core/types.js';
import { SecondChance } from '../policy/second-chance.js';
import { createVictimPolicy } from '../policy/victim/index.js';
import type { VictimPolicy } from '../policy/victim/victim.js';
import { Chunks } from '../tables/chunks.js';
import { FrameTable } from '../tables/frame-table.js';
import { PageFlag, PageTable, State } from '../tables/page-table.js';
import { FrameList } from '../tables/frame-list.js';
import { PrefetchBuffer } from '../tables/prefetch-buffer.js';
import { RegionTable } from '../tables/regions.js';
import { SlotTable } from '../tables/slot-table.js';
import { CleanFrames } from './clean-frames.js';
import { IndexSpace } from './index-space.js';
import { Limit } from './limit.js';

export class Family {
  readonly pages = new PageTable();
  readonly regions = new RegionTable();
  readonly counters = new Counters();
  readonly limit = new Limit();
  readonly frames: FrameTable;
  readonly slots: SlotTable;
  readonly chunks: Chunks;
  readonly commands: CommandWriter;
  readonly victims: VictimPolicy;
  readonly indices: IndexSpace;
  /** Frames of prefetched pages that no thread has used yet, oldest first. */
  readonly prefetched: PrefetchBuffer;
  /** Frames of evicted pages whose bytes their slots have: kept until the frame is needed. */
  readonly evicted: SecondChance;
  /** Both lists above together. */
  readonly clean: CleanFrames;
  /** Source frames of slots that are still to be written. */
  readonly dirty: FrameList;
  /** Spaces that are alive. */
  readonly spaces: SpaceId[] = [spaceId(0)];
  /** Pages with the flag `lost`: no site gives their bytes back, and the target has not removed them. */
  readonly lost = new Set<PageIndex>();

  /** When the events now being digested were harvested, in ns. */
  now = 0;
  detaching = false;
  /** False for one turn after a run was refused: it may have crossed two mappings of one region (mprotect). */
  joining = true;
  /** A page with the flag `refused` has left RESIDENT by another way than the evictor. */
  refusedLeft = false;
  /** A mapping scan is needed before the next regular one. */
  rescan = false;

  constructor(
    readonly engine: Engine,
    readonly options: PagerOptions,
  ) {
    const { frames, prefetchBuffer, copies, victims } = options;
    this.frames = new FrameTable(frames);
    this.chunks = new Chunks(copies);
    this.indices = new IndexSpace(() => this);
    this.slots = new SlotTable(engine.frameHashes, this.chunks, () => this.indices.takeSpares());
    this.commands = new CommandWriter(engine.commands);
    this.victims = createVictimPolicy(victims);
    this.prefetched = new PrefetchBuffer(frames, prefetchBuffer);
    this.evicted = new SecondChance(frames);
    this.clean = new CleanFrames(this.pages, this.frames, this.prefetched, this.evicted, this.counters);
    this.dirty = new FrameList(frames);
  }

  notify(level: 'info' | 'warn' | 'error', message: string, facts: Record<string, unknown> = {}): void {
    this.options.notify?.(level, message, facts);
  }

  /** Whether this page may be mapped now; otherwise it waits until the evictor has made room. */
  mayMap(page: PageIndex): boolean {
    return this.limit.admits || this.detaching || this.pages.has(page, PageFlag.fixed | PageFlag.kept);
  }

  /** Writes a command for one page; joins it with the record before it except across the edge of a region. */
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
    this.fill(Command.map, page, frame);
  }

  zero(page: PageIndex): void {
    this.fill(Command.zero, page, 0);
  }

  /** Makes every touch of a lost page raise SIGBUS. */
  poison(page: PageIndex): void {
    this.fill(Command.poison, page, 0);
  }

  private fill(command: number, page: PageIndex, frame: FrameIndex | 0): void {
    this.pages.raise(page, PageFlag.mapping);
    this.limit.beginMapping();
    this.command(command, page, frame);
  }

  /**
   * EMPTY, BUFFERED or STORED -> RESIDENT. The caller has set the location.
   * @param ahead no thread has touched it yet
   */
  becomeResident(page: PageIndex, ahead: boolean): void {
    this.pages.setState(page, State.resident);
    if (this.pages.has(page, PageFlag.fixed)) return;
    this.count(page, ahead);
  }

  /** Counts a RESIDENT page that is not `fixed`, or no longer, and offers it to the victim policy. */
  count(page: PageIndex, ahead: boolean): void {
    this.limit.enter();
    this.evicted.returned(page);
    if (!this.pages.has(page, PageFlag.kept)) this.victims.inserted(page, ahead);
  }

  /** Takes a RESIDENT page off the count and out of the victim policy. The caller changes its state. */
  leaveResident(page: PageIndex): void {
    if (this.pages.has(page, PageFlag.refused)) this.refusedLeft = true;
    if (this.pages.has(page, PageFlag.fixed)) return;
    this.limit.leave();
    this.victims.removed(page);
  }
}
