/** The schedule of a run: the program that lives in the simulated target, and what it does next. */
import {
  Access,
  ANONYMOUS,
  APART,
  Bit,
  HEAP,
  KINDS,
  OWN,
  OnFork,
  ThreadState,
  WINDOW,
  type Area,
  type SimSpace,
  type SimThread,
} from './space.js';
import { CALLS, type CallName } from './config.js';
import type { Calls } from './calls.js';
import type { SimKernel } from './sim-kernel.js';
import type { World } from './world.js';

const STRIDES = [1, 1, 1, -1, 2, 3, 10];
const MOST_MAPPED = 1100;
const GO_ON_NS = 5e8;

/**
 * The program: threads that walk over their memory, and now and then change what it is. It is correct: it touches
 * nothing that it may not.
 */
export class Program {
  /** No calls that change the address space: for the end of a run. */
  settled = false;
  private readonly totalWeight: number;

  constructor(
    private readonly world: World,
    private readonly kernel: SimKernel,
    private readonly calls: Calls,
  ) {
    this.totalWeight = CALLS.reduce((sum, call) => sum + world.config.weights[call], 0);
  }

  /** Lays out a process: its areas with holes between, and the mappings that must be left alone. */
  populate(space: SimSpace): void {
    const { random, config } = this.world;
    let at = random.between(2, 20);
    for (const pages of config.regions) {
      this.calls.map(space, at, pages, random.pick([ANONYMOUS, ANONYMOUS, APART, HEAP]), Access.write);
      at += pages + (random.chance(0.3) ? 0 : random.between(1, 60));
    }
    at = WINDOW - 200;
    for (let tag = 4; tag < KINDS.length; tag++) {
      // The foreign mapping is used like any other; the rest is only there.
      if (KINDS[tag].foreign) this.calls.map(space, at, 8, tag, Access.write);
      else space.map(at, 8, tag, Access.write);
      at += random.chance(0.5) ? 8 : 12;
    }
    // A child gets nothing of the helper's pages.
    for (let page = 0; page < WINDOW; page++) if (space.tag[page] === OWN) space.onFork[page] = OnFork.none;
    for (let i = 0; i < config.threads; i++) this.calls.spawn(space);
  }

  /** One step of the simulated world outside the pager. */
  step(): void {
    const { world, kernel } = this;
    const { random, config } = world;
    world.step++;
    world.now++;
    const space = kernel.spaces[random.below(kernel.spaces.length)];
    if (space === undefined || !space.isAlive || space.threads.length === 0) return;
    if (config.reclaim > 0 && random.chance(config.reclaim)) kernel.reclaim(space);
    if (space.pins.length > 0) this.unpin(space);
    const thread = random.pick(space.threads);
    switch (thread.state) {
      case ThreadState.running:
        if (thread.page >= 0) kernel.tryAccess(thread);
        else if (!random.chance(config.callRate) || this.settled || !this.makeCall(thread)) this.walk(thread);
        break;
      case ThreadState.faulting:
        if (random.chance(config.interrupt)) kernel.interrupt(thread);
        break;
      case ThreadState.calling:
        if (random.chance(0.3)) this.calls.goOn(thread);
        break;
    }
  }

  /** Up to `most` steps. */
  steps(most: number): void {
    for (let n = this.world.random.below(most + 1); n > 0; n--) this.step();
  }

  /** A thread whose event was read goes on within this time, however busy the machine is: what a pager may count on. */
  hasten(): void {
    const { world } = this;
    for (const space of this.kernel.spaces) {
      for (const thread of space.threads) {
        for (let i = 0; i < 3 && thread.state === ThreadState.calling && world.ns - thread.readAt > GO_ON_NS; i++)
          this.calls.goOn(thread, true);
      }
    }
  }

  /** Whether a step could change anything: when not, time may pass in one leap. */
  isIdle(): boolean {
    for (const space of this.kernel.spaces) {
      if (!space.isAlive) continue;
      for (const thread of space.threads) {
        if (thread.state === ThreadState.running || thread.state === ThreadState.calling) return false;
      }
    }
    return true;
  }

  /** Finds threads that have waited too long. */
  checkLiveness(patience: number): void {
    const { world } = this;
    if (world.turn < world.excusedUntil) return;
    for (const space of this.kernel.spaces) {
      for (const thread of space.threads) {
        if (thread.state !== ThreadState.faulting && thread.state !== ThreadState.waiting) continue;
        if (world.turn - Math.max(thread.since, world.excusedUntil) < patience) continue;
        const forWhat =
          thread.state === ThreadState.faulting ? `page +${thread.page}` : `its event (${thread.call?.name})`;
        world.fail(
          `thread ${thread.id} of space ${space.id} has waited for ${forWhat} since turn ${thread.since}: a lost wake-up?`,
        );
      }
    }
  }

  private walk(thread: SimThread): void {
    const { random } = this.world;
    const { space } = thread;
    if (thread.left === 0) {
      if (space.areas.length === 0) return;
      const area = random.pick(space.areas);
      thread.cursor = this.nearAnother(space) ?? area.start + random.below(area.count);
      thread.stride = random.chance(0.2) ? random.between(-20, 20) : random.pick(STRIDES);
      thread.left = random.chance(0.3) ? random.between(1, 5) : random.between(5, 120);
      thread.writes = random.pick([0, 0, 0.2, 0.5, 1]);
    }
    const page = thread.cursor;
    thread.left--;
    thread.cursor += thread.stride;
    const isWrite = random.chance(thread.writes);
    const needed = isWrite ? Access.write : Access.read;
    if (
      page < 0 ||
      page >= WINDOW ||
      space.tag[page] === 0 ||
      (space.access[page] & needed) !== needed ||
      !this.isOurs(space, page)
    ) {
      thread.left = 0;
      return;
    }
    thread.page = page;
    thread.isWrite = isWrite;
    this.kernel.tryAccess(thread);
  }

  /** A place close to where some thread is, if this run is a crowded one. */
  private nearAnother(space: SimSpace): number | null {
    const { random, config } = this.world;
    if (config.crowding === 0 || !random.chance(config.crowding)) return null;
    const { page, cursor } = random.pick(space.threads);
    return (page >= 0 ? page : cursor) + random.between(-2, 2);
  }

  private isOurs(space: SimSpace, page: number): boolean {
    for (const area of space.areas) if (page >= area.start && page < area.start + area.count) return true;
    return false;
  }

  private part(space: SimSpace, area: Area): Area {
    const { random } = this.world;
    if (random.chance(0.3)) return { ...area };
    const near = this.nearAnother(space);
    const start =
      near !== null && near >= area.start && near < area.start + area.count
        ? near - area.start
        : random.below(area.count);
    const most = area.count - start;
    return { start: area.start + start, count: 1 + random.below(random.chance(0.5) ? Math.min(most, 6) : most) };
  }

  /** @returns false when the call chosen is not possible now. */
  private makeCall(thread: SimThread): boolean {
    const { random, config } = this.world;
    const { space } = thread;
    if (this.totalWeight === 0) return false;
    let roll = random.below(this.totalWeight);
    const name = CALLS.find((call) => (roll -= config.weights[call]) < 0)!;
    if (name === 'mmap') return this.mapMore(space);
    if (name === 'fork') return this.fork(thread);
    if (name === 'exit') return this.exit(space);
    if (name === 'spawn') return space.threads.length < config.threads && this.calls.spawn(space) !== undefined;
    if (space.areas.length === 0) return false;
    const area = random.pick(space.areas);
    const part = this.part(space, area);
    const { start, count } = part;
    const isForeign = KINDS[space.tag[start]].foreign;
    switch (name) {
      case 'dontneed':
      case 'free':
        if (!space.isUnpinned(start, count) || isForeign || !this.mayDiscard(space, part)) return false;
        this.calls.discard(thread, start, count, name === 'free');
        return true;
      case 'onfork': {
        if (isForeign || this.isForking(space)) return false;
        this.calls.adviseFork(space, start, count, random.pick([OnFork.copy, OnFork.wipe, OnFork.none]));
        return true;
      }
      case 'pin':
        return this.pin(space, start, Math.min(count, 6));
      case 'heap':
        return this.growHeap(space);
      default:
        return !isForeign && this.changeLayout(thread, name, area, part);
    }
  }

  /** A fork is being told of: a pager could not know whether it came before or after a change of what a child gets. */
  private isForking(space: SimSpace): boolean {
    return space.forkToldAt === this.world.turn || space.threads.some((thread) => thread.unborn !== null);
  }

  /**
   * madvise on a range that another thread's layout call is at work on would be an error of the program; two of them at
   * once are not.
   */
  private mayDiscard(space: SimSpace, { start, count }: Area): boolean {
    return (
      !space.isJustLeft(start, count) &&
      !space.threads.some(
        ({ call }) =>
          (call?.name === 'mremap' || call?.name === 'mmap fixed') &&
          call.start < start + count &&
          start < call.start + call.count,
      )
    );
  }

  private changeLayout(thread: SimThread, name: CallName, area: Area, part: Area): boolean {
    const { random } = this.world;
    const { space } = thread;
    const { start, count } = part;
    const end = area.start + area.count;
    if (this.isForking(space) && space.onFork.subarray(area.start, end).some((onFork) => onFork !== OnFork.copy))
      return false;
    if (name === 'grow') {
      const more = random.between(1, 20);
      for (let at = end; at < end + more; at++) if (at >= WINDOW || space.tag[at] !== 0) return false;
      if (this.mapped(space) > MOST_MAPPED || !space.isQuiet(area.start, area.count, thread)) return false;
      this.calls.growInPlace(space, area, more);
      return true;
    }
    if (!space.isQuiet(start, count, thread)) return false;
    switch (name) {
      case 'munmap': {
        // Often across what lies behind, be it a hole, registered or not: the event names the whole range.
        const more = random.chance(0.3) ? this.clearBehind(thread, start + count, random.between(1, 30)) : 0;
        if (this.mapped(space) - count - more < 16) return false;
        this.calls.unmap(thread, start, count + more);
        return true;
      }
      case 'replace':
        this.calls.replace(thread, start, count, random.pick([ANONYMOUS, APART]));
        return true;
      case 'shrink':
        if (area.count < 9 || !space.isQuiet(end - 4, 4, thread)) return false;
        this.calls.unmap(thread, end - 4, 4, 'mremap shrinks');
        return true;
      case 'protect':
        this.calls.protect(space, start, count, random.pick([Access.none, Access.read, Access.write, Access.write]));
        return true;
      case 'move': {
        // mremap works within one mapping.
        if (space.mappingEnd(start) < start + count) return false;
        const stays = random.chance(0.15);
        const newCount =
          count + (!stays && random.chance(0.3) && this.mapped(space) < MOST_MAPPED ? random.between(1, 20) : 0);
        const to = this.placeFor(thread, start, count, newCount);
        if (to < 0) return false;
        this.calls.move(thread, start, count, to, newCount, stays);
        return true;
      }
      default:
        return false;
    }
  }

  /** How many of the `most` pages from `at` on the program may unmap. */
  private clearBehind(thread: SimThread, at: number, most: number): number {
    const { space } = thread;
    let count = 0;
    while (count < most && at + count < WINDOW && (space.tag[at + count] === 0 || this.isOurs(space, at + count)))
      count++;
    while (count > 0 && (KINDS[space.tag[at + count - 1]].foreign || !space.isQuiet(at, count, thread))) count--;
    for (let i = 0; i < count; i++) if (KINDS[space.tag[at + i]].foreign) return 0;
    return count;
  }

  /** Where mremap puts the pages: mostly a free place, at times over other memory of the program. */
  private placeFor(thread: SimThread, start: number, count: number, newCount: number): number {
    const { random } = this.world;
    const { space } = thread;
    if (random.chance(0.2)) {
      const other = random.pick(space.areas);
      const to = other.start;
      const apart = to + newCount <= start || start + count <= to;
      if (newCount <= other.count && apart && !KINDS[space.tag[to]].foreign && space.isQuiet(to, newCount, thread))
        return to;
    }
    const to = space.findHole(newCount, random.below(WINDOW - 300));
    if (to >= WINDOW - 300) return -1;
    return space.isJustLeft(to, newCount) ? -1 : to;
  }

  private mapped(space: SimSpace): number {
    return space.areas.reduce((sum, area) => sum + area.count, 0);
  }

  private mapMore(space: SimSpace): boolean {
    const { random } = this.world;
    if (this.mapped(space) > MOST_MAPPED) return false;
    const count = random.between(1, 80);
    // Often right behind another area: the kernel puts new mappings next to old ones.
    const near = space.areas.length > 0 && random.chance(0.6) ? random.pick(space.areas) : null;
    const at = space.findHole(count, near === null ? random.below(WINDOW - 300) : near.start + near.count);
    if (at < 0) return false;
    this.calls.map(space, at, count, random.pick([ANONYMOUS, APART]), random.chance(0.1) ? Access.none : Access.write);
    return true;
  }

  /** brk: more pages behind the heap, which are a mapping of their own until somebody registers them. */
  private growHeap(space: SimSpace): boolean {
    const { random } = this.world;
    const heap = space.areas.find((area) => space.tag[area.start] === HEAP);
    if (heap === undefined || this.mapped(space) > MOST_MAPPED) return false;
    const end = heap.start + heap.count;
    const more = random.between(1, 16);
    for (let at = end; at < end + more; at++) if (at >= WINDOW || space.tag[at] !== 0) return false;
    this.world.hit('call:brk');
    this.calls.map(space, end, more, HEAP, Access.write);
    return true;
  }

  private fork(thread: SimThread): boolean {
    const { kernel, world } = this;
    const unborn = kernel.spaces.reduce(
      (sum, space) => sum + space.threads.filter((other) => other.unborn !== null).length,
      0,
    );
    if (kernel.spaces.length + unborn >= world.config.spaces) return false;
    this.calls.fork(thread);
    return true;
  }

  private exit(space: SimSpace): boolean {
    if (space.id === 0) return false;
    this.calls.exit(space);
    return true;
  }

  /** A device is given some pages, which must be in memory and writable, and writes to them when it is done. */
  private pin(space: SimSpace, start: number, count: number): boolean {
    for (let at = start; at < start + count; at++) {
      if (!space.has(at, Bit.present) || space.has(at, Bit.protected) || space.access[at] !== Access.write)
        return false;
    }
    if (!space.isQuiet(start, count, null)) return false;
    this.world.hit('call:pin');
    for (let at = start; at < start + count; at++) {
      // Taking a page for writing is a write fault: it breaks sharing.
      this.kernel.writePage(space, at);
      space.bits[at] |= Bit.pinned;
    }
    space.pins.push({ start, count, until: this.world.now + this.world.random.between(20, 2000) });
    return true;
  }

  private unpin(space: SimSpace): void {
    const at = space.pins.findIndex((pin) => pin.until <= this.world.now);
    if (at < 0) return;
    const { start, count } = space.pins[at];
    for (let page = start; page < start + count; page++) {
      if (!space.has(page, Bit.pinned))
        this.world.fail(`page +${page} was taken away while a device was writing to it`);
      this.kernel.writePage(space, page);
      space.bits[page] &= ~Bit.pinned;
    }
    space.pins.splice(at, 1);
  }
}
