/**
 * The engine of the laboratory: the threads of a trace run on it, and the very pager of leapd pages them. Time is
 * virtual: each command and each turn costs the pager's thread what `Costs` says, reads and writes take what the store
 * model says, and meanwhile the other threads run on.
 *
 * A thread makes the accesses of its part of the trace in order, with the trace's own time between them; at a page that
 * is out it stops until the pager maps it. Since the engine sees every access, it knows what the pager can only guess:
 * which prefetched pages were used, and when.
 */
import type { Engine, Mapping } from '../src/core/engine.js';
import { Command, COMMAND_WORDS, Errno, Event, EVENT_WORDS, HASH_WORDS } from '../src/core/layout.js';
import { Advice } from '../src/tables/regions.js';
import { NONE, PAGE_SIZE, type Vpn, vpn } from '../src/core/types.js';
import { StoreChannel, type StoreModel } from './store-model.js';
import type { Workload } from './workload.js';

/** What the machine takes for each step, ns: of the size that bench/ measures on one. */
export interface Costs {
  /** From the touch to the moment when the pager can read of it. */
  readonly fault: number;
  /** From the end of the copy to the moment when the thread runs on. */
  readonly wake: number;
  readonly turn: number;
  readonly mapRun: number;
  readonly mapPage: number;
  readonly moveRun: number;
  readonly movePage: number;
  /** To submit one read or write. */
  readonly submit: number;
}

const COSTS: Costs = {
  fault: 3_500,
  wake: 3_500,
  turn: 2_000,
  mapRun: 900,
  mapPage: 400,
  moveRun: 3_000,
  movePage: 600,
  submit: 600,
};

/** Where regions are placed: far enough apart that none touches another. */
const FIRST_VPN = 0x7f0000000;
const GAP_PAGES = 512;

interface Transfer {
  readonly at: number;
  readonly slot: number;
  readonly frame: number;
  readonly count: number;
  readonly isRead: boolean;
}

/** What the engine knows of the prefetches, whoever asked for them. */
export class Truth {
  demandReads = 0;
  prefetched = 0;
  /** Prefetched pages that were used; of these, the ones that the thread still had to wait for. */
  used = 0;
  late = 0;
  /**
   * Prefetched pages that left again unused, and how many of those had been mapped: each took a resident page's place.
   */
  dropped = 0;
  droppedMapped = 0;
  stallNs = 0;
  /** How long pages that were used in time had been there, ns. */
  readonly early: number[] = [];
  /** For the curves, at each fault served: accesses made so far, stall so far. */
  readonly stalls: [number, number][] = [];
}

export class ReplayEngine implements Engine {
  readonly commands = new Int32Array(8192 * COMMAND_WORDS);
  readonly events = new Int32Array(16384 * EVENT_WORDS);
  readonly clock = new Float64Array(2);
  readonly frameHashes: Int32Array;
  readonly zeroHash = new Int32Array(HASH_WORDS);
  readonly canMove = true;
  readonly canPoison = true;
  readonly readsOverlap = true;
  readonly truth = new Truth();
  /** Until this is set the threads wait. */
  running = false;
  /** Accesses that the threads have made. */
  accesses = 0;

  private now = 1;
  private words = 0;
  private readonly channel: StoreChannel;
  private readonly mapped: Mapping[];
  // One entry a page:
  private readonly present: Uint8Array;
  /** Threads that wait for it. */
  private readonly waiters: Uint8Array;
  /** Version of its bytes; 0: zeros. */
  private readonly content: Int32Array;
  /** 1: prefetched, and not used yet. */
  private readonly unused: Uint8Array;
  private readonly arrivedAt: Float64Array;
  // What stands in each frame and slot:
  private readonly framePage: Int32Array;
  private readonly slotPage: Int32Array;
  private readonly slotContent: Int32Array;
  private transfers: Transfer[] = [];
  // One entry a thread:
  private readonly next: Int32Array;
  private readonly readyAt: Float64Array;
  private readonly waitsFor: Int32Array;
  private readonly faultedAt: Float64Array;
  private readonly told: Uint8Array;
  private runningThreads: number;

  constructor(
    private readonly workload: Workload,
    store: StoreModel,
    frames: number,
    private readonly costs: Costs = COSTS,
  ) {
    const { pages, threads, firstTouchIsZero } = workload;
    this.channel = new StoreChannel(store);
    this.frameHashes = new Int32Array(frames * HASH_WORDS);
    this.framePage = new Int32Array(frames).fill(NONE);
    this.present = new Uint8Array(pages).map((_, page) =>
      workload.isTouched[page] === 1 && firstTouchIsZero[page] === 0 ? 1 : 0,
    );
    this.content = new Int32Array(pages).map((_, page) => this.present[page]);
    this.waiters = new Uint8Array(pages);
    this.unused = new Uint8Array(pages);
    this.arrivedAt = new Float64Array(pages);
    const slots = pages * 2 + 4096; // spare slots are few
    this.slotPage = new Int32Array(slots).fill(NONE);
    this.slotContent = new Int32Array(slots);
    this.next = new Int32Array(threads.length);
    this.readyAt = Float64Array.from(threads, (thread) => thread.startNs);
    this.waitsFor = new Int32Array(threads.length).fill(NONE);
    this.faultedAt = new Float64Array(threads.length);
    this.told = new Uint8Array(threads.length);
    this.runningThreads = threads.filter(({ accesses }) => accesses.length > 0).length;
    let start = FIRST_VPN;
    this.mapped = workload.regions.map(({ count, advice }) => {
      const mapping = {
        start: vpn(start),
        end: vpn(start + count),
        permissions: 'rw-p',
        inode: 0,
        path: '',
        flags: flagsOf(advice),
      };
      start += count + GAP_PAGES;
      return mapping;
    });
  }

  /** Whether every thread has made its last access. */
  get done(): boolean {
    return this.runningThreads === 0;
  }

  get nowNs(): number {
    return this.now;
  }

  /** Io that is under way. */
  get inFlight(): number {
    return this.transfers.length;
  }

  /** The threads begin now. */
  start(): void {
    this.running = true;
    for (let thread = 0; thread < this.readyAt.length; thread++) this.readyAt[thread] += this.now;
  }

  turn(commandWords: number, waitNs: number): number {
    this.words = 0;
    const began = this.now;
    for (let at = 0; at < commandWords; at += COMMAND_WORDS) {
      this.runThreads();
      this.execute(this.commands[at], this.commands[at + 1], this.commands[at + 2], this.commands[at + 3]);
    }
    this.clock[1] = this.now;
    const told = this.words;
    this.now += this.costs.turn;
    const deadline = began + waitNs;
    for (let guard = 0; ; guard++) {
      this.runThreads();
      this.complete();
      this.deliverFaults();
      if (this.words > told || waitNs <= 0 || this.now >= deadline || (this.done && this.inFlight === 0)) break;
      this.now = Math.min(deadline, Math.max(this.now + 1, this.nextMoment()));
      if (guard > 1e6) throw new Error('the model stands still');
    }
    this.clock[0] = this.now;
    return this.words;
  }

  private nextMoment(): number {
    let moment = Infinity;
    for (const { at } of this.transfers) moment = Math.min(moment, at);
    if (!this.running) return moment;
    for (let thread = 0; thread < this.readyAt.length; thread++) {
      if (this.waitsFor[thread] === NONE) {
        if (this.next[thread] < this.workload.threads[thread].accesses.length)
          moment = Math.min(moment, this.readyAt[thread]);
      } else if (this.told[thread] === 0) moment = Math.min(moment, this.faultedAt[thread] + this.costs.fault);
    }
    return moment;
  }

  /** Each thread runs until now, or until it touches a page that is out. */
  private runThreads(): void {
    if (!this.running) return;
    const { threads } = this.workload;
    for (let thread = 0; thread < threads.length; thread++) {
      if (this.waitsFor[thread] !== NONE) continue;
      const { accesses, writes, gaps } = threads[thread];
      let at = this.next[thread];
      let time = this.readyAt[thread];
      if (at === accesses.length) continue;
      while (at < accesses.length && time <= this.now) {
        const page = accesses[at];
        if (this.present[page] === 0) {
          this.waitsFor[thread] = page;
          this.waiters[page]++;
          this.faultedAt[thread] = time;
          this.told[thread] = 0;
          break;
        }
        if (this.unused[page] === 1) this.use(page, time);
        if (writes[at] === 1) this.content[page] += 2;
        time += gaps[at];
        at++;
      }
      this.accesses += at - this.next[thread];
      this.next[thread] = at;
      this.readyAt[thread] = time;
      if (at === accesses.length) this.runningThreads--;
    }
  }

  private deliverFaults(): void {
    for (let told = 0; told < this.waitsFor.length; told++) {
      // The oldest fault first.
      let oldest = NONE;
      for (let thread = 0; thread < this.waitsFor.length; thread++) {
        if (
          this.waitsFor[thread] === NONE ||
          this.told[thread] === 1 ||
          this.faultedAt[thread] + this.costs.fault > this.now
        )
          continue;
        if (oldest === NONE || this.faultedAt[thread] < this.faultedAt[oldest]) oldest = thread;
      }
      if (oldest === NONE) return;
      this.told[oldest] = 1;
      const { id, writes } = this.workload.threads[oldest];
      this.emit(Event.fault, this.waitsFor[oldest], id, writes[this.next[oldest]], 0, 0);
    }
  }

  private complete(): void {
    const due = this.transfers.filter(({ at }) => at <= this.now);
    if (due.length === 0) return;
    this.transfers = this.transfers.filter(({ at }) => at > this.now);
    due.sort((a, b) => a.at - b.at);
    for (const { at, slot, frame, count, isRead } of due) {
      for (let i = 0; i < count; i++) {
        const page = this.framePage[frame + i];
        if (isRead) this.hash(frame + i, this.slotContent[slot + i]);
        if (isRead && page !== NONE) this.arrivedAt[page] = at;
      }
      this.emit(isRead ? Event.readDone : Event.writeDone, slot, frame, count, Errno.ok, 0);
    }
  }

  private execute(command: number, first: number, frame: number, count: number): void {
    const { costs } = this;
    switch (command) {
      case Command.map:
        this.now += costs.mapRun + count * costs.mapPage;
        for (let i = 0; i < count; i++) this.map(first + i, this.frameHashes[(frame + i) * HASH_WORDS]);
        return this.emit(Event.mapped, first, frame, count, Errno.ok, count);
      case Command.zero:
        this.now += costs.mapRun + count * costs.mapPage;
        for (let i = 0; i < count; i++) this.map(first + i, 0);
        return this.emit(Event.mapped, first, NONE, count, Errno.ok, count);
      case Command.moveOut:
        this.now += costs.moveRun + count * costs.movePage;
        for (let i = 0; i < count; i++) this.moveOut(first + i, frame + i);
        return this.emit(Event.evicted, first, frame, count, Errno.ok, command);
      case Command.read:
        this.now += costs.submit;
        for (let i = 0; i < count; i++) this.read(first + i, frame + i);
        this.transfers.push({
          at: this.channel.submit(this.now, count * PAGE_SIZE),
          slot: first,
          frame,
          count,
          isRead: true,
        });
        return;
      case Command.write:
        this.now += costs.submit;
        for (let i = 0; i < count; i++) {
          this.slotPage[first + i] = this.framePage[frame + i];
          this.slotContent[first + i] = this.frameHashes[(frame + i) * HASH_WORDS];
        }
        this.transfers.push({
          at: this.channel.submit(this.now, count * PAGE_SIZE),
          slot: first,
          frame,
          count,
          isRead: false,
        });
        return;
      case Command.wake:
      case Command.unprotect:
        return;
      default:
        throw new Error(`command ${command} was not expected`);
    }
  }

  private map(page: number, content: number): void {
    if (this.present[page] === 1) throw new Error(`page ${page} is mapped already`);
    if (content !== this.content[page]) throw new Error(`page ${page} is given another page's bytes`);
    this.present[page] = 1;
    if (this.waiters[page] === 0) return;
    this.waiters[page] = 0;
    for (let thread = 0; thread < this.waitsFor.length; thread++) {
      if (this.waitsFor[thread] !== page) continue;
      const resumes = this.now + this.costs.wake;
      if (this.unused[page] === 1) this.use(page, this.faultedAt[thread]);
      this.truth.stallNs += resumes - this.faultedAt[thread];
      this.readyAt[thread] = resumes;
      this.waitsFor[thread] = NONE;
    }
    this.truth.stalls.push([this.accesses, this.truth.stallNs]);
  }

  private use(page: number, time: number): void {
    const { truth } = this;
    this.unused[page] = 0;
    truth.used++;
    if (this.arrivedAt[page] > time || Number.isNaN(this.arrivedAt[page])) truth.late++;
    else truth.early.push(time - this.arrivedAt[page]);
  }

  private moveOut(page: number, frame: number): void {
    if (this.present[page] === 0) throw new Error(`page ${page} is moved out and is not there`);
    this.present[page] = 0;
    this.framePage[frame] = page;
    this.hash(frame, this.content[page]);
    if (this.unused[page] === 0) return;
    this.unused[page] = 0;
    this.truth.dropped++;
    this.truth.droppedMapped++;
  }

  private read(slot: number, frame: number): void {
    const page = this.slotPage[slot];
    const { truth } = this;
    this.framePage[frame] = page;
    if (this.unused[page] === 1) truth.dropped++;
    this.unused[page] = this.waiters[page] > 0 ? 0 : 1;
    this.arrivedAt[page] = Number.NaN;
    if (this.waiters[page] > 0) truth.demandReads++;
    else truth.prefetched++;
  }

  private hash(frame: number, content: number): void {
    this.frameHashes.fill(0, frame * HASH_WORDS, (frame + 1) * HASH_WORDS);
    this.frameHashes[frame * HASH_WORDS] = content;
  }

  private emit(kind: number, a: number, b: number, c: number, d: number, e: number): void {
    const { events } = this;
    const at = this.words;
    events[at] = kind;
    events[at + 1] = a;
    events[at + 2] = b;
    events[at + 3] = c;
    events[at + 4] = d;
    events[at + 5] = e;
    this.words = at + EVENT_WORDS;
  }

  register(): number {
    return Errno.ok;
  }
  unregister(): number {
    return Errno.ok;
  }
  protect(): number {
    return Errno.ok;
  }
  bind(): void {}
  unbind(): void {}
  mappingList(): string {
    return 'the mappings of a trace never change';
  }
  mappings(): Mapping[] {
    return this.mapped;
  }
  ownArea(): { start: Vpn; end: Vpn } {
    return { start: vpn(0), end: vpn(0) };
  }
  residency(_space: number, start: number, count: number, out: Uint8Array): number {
    let first = 0;
    for (const mapping of this.mapped) {
      if (mapping.start === start) break;
      first += mapping.end - mapping.start;
    }
    out.set(this.present.subarray(first, first + count));
    return Errno.ok;
  }
  canEvict(): boolean {
    return true;
  }
  adopt(): boolean {
    return false;
  }
  isAlive(): boolean {
    return true;
  }
  drop(): void {}
  mapChunk(): void {}
  unmapChunk(): void {}
}

const flagsOf = (advice: number): string[] => [
  'rd',
  'wr',
  ...(advice === Advice.sequential ? ['sr'] : advice === Advice.random ? ['rr'] : []),
];
