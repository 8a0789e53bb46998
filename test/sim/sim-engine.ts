/**
 * The engine on the fake kernel and store. It is as strict as the native one is fast: whatever a pager must never ask
 * for fails the run. The target goes on running during a turn: between two commands, between the stages of a discard,
 * and around every control call.
 */
import type { Engine, Mapping } from '../../src/core/engine.js';
import {
  BATCH_PAGES,
  Command,
  COMMAND_WORDS,
  Errno,
  Event,
  EVENT_WORDS,
  HASH_WORDS,
  MAX_SPACES,
  PLACE_SHIFT,
  vpnHigh,
  vpnLow,
} from '../../src/core/layout.js';
import { type PageIndex, type SpaceId, type Vpn, vpn } from '../../src/core/types.js';
import { BASE, Bit, OWN, type SimSpace, WINDOW, type EventMessage, type FaultMessage } from './space.js';
import type { Program } from './schedule.js';
import type { SimKernel } from './sim-kernel.js';
import { hashOf, SimHelper } from './sim-helper.js';
import { SimRanges } from './sim-ranges.js';
import { GARBAGE, type SimStore } from './sim-store.js';
import type { World } from './world.js';

const ERRNO_NAMES = new Map<number, string>(Object.entries(Errno).map(([name, value]) => [value, name]));
const COMMAND_NAMES = new Map<number, string>(Object.entries(Command).map(([name, value]) => [value, name]));
const EVENT_CAPACITY = 1 << 16;
/**
 * A turn takes so long while the pager may be waiting to try a read again: it does so for seconds, and a run has
 * thousands of turns.
 */
const LEAP_NS = 20e6;

export class SimEngine implements Engine {
  readonly commands: Int32Array;
  readonly events = new Int32Array(EVENT_CAPACITY * EVENT_WORDS);
  readonly clock = new Float64Array(2);
  readonly canMove: boolean;
  readonly canPoison = true;
  readonly readsOverlap: boolean;
  readonly frameHashes: Int32Array;
  readonly zeroHash = new Int32Array(HASH_WORDS);

  private readonly spaces: (SimSpace | null)[] = new Array<SimSpace | null>(MAX_SPACES).fill(null);
  private readonly ranges: SimRanges;
  private readonly told = new Set<SimSpace>();
  private readonly helper: SimHelper;
  private out = 0;
  /** There is more to read than the last turn took. */
  private more = false;

  constructor(
    private readonly world: World,
    private readonly kernel: SimKernel,
    private readonly store: SimStore,
    private readonly program: Program,
    target: SimSpace,
  ) {
    this.canMove = world.config.useMove;
    this.readsOverlap = !world.config.syncStore;
    this.commands = new Int32Array(world.config.commandRecords * COMMAND_WORDS);
    this.frameHashes = new Int32Array(world.config.frames * HASH_WORDS);
    hashOf(0, this.zeroHash, 0);
    this.ranges = new SimRanges(world);
    this.helper = new SimHelper(world, kernel, store, program, this.frameHashes, (parent, event) =>
      this.foster(parent, event),
    );
    target.id = 0;
    this.spaces[0] = target;
  }

  // ---- the hot path ----

  turn(commandWords: number, waitNs: number): number {
    const { world } = this;
    world.turn++;
    this.out = 0;
    if (commandWords < 0 || commandWords > this.commands.length || commandWords % COMMAND_WORDS !== 0) {
      world.fail(`turn is given ${commandWords} words of commands`);
    }
    if (world.turn < this.store.pausesUntil) world.leapt += LEAP_NS;
    this.program.hasten();
    this.program.steps(world.config.pace);
    for (let at = 0; at < commandWords; at += COMMAND_WORDS) {
      if (world.random.chance(0.2)) this.program.steps(3);
      this.execute(this.commands[at], this.commands[at + 1], this.commands[at + 2], this.commands[at + 3]);
    }
    // Stale commands must not be executed again by accident.
    this.commands.fill(0, 0, commandWords);
    this.clock[1] = world.ns;
    this.harvest();
    this.wait(waitNs);
    this.clock[0] = world.ns;
    return this.out * EVENT_WORDS;
  }

  private wait(waitNs: number): void {
    const { world } = this;
    const until = world.now + waitNs / world.config.nsPerStep;
    for (let steps = 0; this.out === 0 && world.now < until && steps < 400; steps++) {
      if (this.program.isIdle() && !this.isReady()) {
        world.now = Math.floor(Math.min(until, Math.max(world.now + 1, this.store.nextDue())));
      }
      this.program.step();
      if (this.isReady()) this.harvest();
    }
  }

  private emit(type: number, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0): void {
    if (this.out >= EVENT_CAPACITY) this.world.fail('the event buffer is full');
    const { events } = this;
    const at = this.out++ * EVENT_WORDS;
    events[at] = type;
    events[at + 1] = a;
    events[at + 2] = b;
    events[at + 3] = c;
    events[at + 4] = d;
    events[at + 5] = e;
    events[at + 6] = f;
    events[at + 7] = 0;
    this.world.note(EVENT_NOTES[type], a, b, c, d);
  }

  private count(command: number, errno: number): void {
    this.world.hit(`${COMMAND_NAMES.get(command)}:${ERRNO_NAMES.get(errno) ?? errno}`);
  }

  // ---- commands ----

  private execute(word: number, first: number, second: number, count: number): void {
    const { world, store } = this;
    const command = word & ((1 << PLACE_SHIFT) - 1);
    const target = word >> PLACE_SHIFT;
    world.note(`do ${COMMAND_NAMES.get(command)}`, first, second, count);
    if (count < 1 || count > BATCH_PAGES) world.fail(`${COMMAND_NAMES.get(command)} of ${count} pages`);
    if (command === Command.read) return store.read(first, second, count, target);
    if (command === Command.write) return store.write(first, second, count, target);
    const id = this.ranges.spaceOf(first, count);
    const space = id < 0 ? null : this.spaces[id];
    if (space === null) return this.refuseUnbound(command, first, second, count);
    const place = this.ranges.placeOf(first);
    switch (command) {
      case Command.map:
      case Command.zero:
      case Command.poison:
        return this.fill(command, space, place, first, second, count);
      case Command.wake:
        this.count(command, 0);
        return this.kernel.wake(space, place, count);
      case Command.unprotect:
        this.kernel.protect(space, place, count, false);
        this.count(command, this.kernel.errno);
        return this.emit(Event.unprotected, first, 0, count, this.kernel.errno);
      case Command.moveOut:
      case Command.discard:
        return this.evict(command, space, place, first, second, count);
      default:
        return world.fail(`no such command: ${command}`);
    }
  }

  private refuseUnbound(command: number, page: number, frame: number, count: number): void {
    this.world.hit('command for an unbound page');
    this.count(command, Errno.ENOENT);
    if (command === Command.moveOut || command === Command.discard)
      return this.emit(Event.evicted, page, frame, count, Errno.ENOENT, command);
    if (command === Command.unprotect) return this.emit(Event.unprotected, page, -1, count, Errno.ENOENT);
    if (command !== Command.wake)
      this.emit(Event.mapped, page, command === Command.map ? frame : -1, 0, Errno.ENOENT, count);
  }

  private fill(command: number, space: SimSpace, place: number, page: number, frame: number, count: number): void {
    const { kernel } = this;
    let contents: number[] | null = null;
    if (command === Command.map) {
      contents = [];
      for (let i = 0; i < count; i++) contents.push(this.store.use(frame + i, `map of page ${page + i}`));
    }
    let done = 0;
    // The pager has not seen an event that is read but not handed over; whatever it asks for may be outdated.
    if (this.helper.isChanging(space)) kernel.errno = Errno.EAGAIN;
    else
      done =
        command === Command.poison ? kernel.poison(space, place, count) : kernel.fill(space, place, count, contents);
    this.count(command, kernel.errno);
    if (done > 0 && kernel.errno !== 0) this.world.hit('partial map');
    this.emit(Event.mapped, page, contents === null ? -1 : frame, done, kernel.errno, count);
  }

  private evict(command: number, space: SimSpace, place: number, page: number, frame: number, count: number): void {
    const { store } = this;
    for (let i = 0; i < count; i++) {
      if (frame < 0 || frame + i >= store.frames.length)
        this.world.fail(`eviction into frame ${frame + i}, which does not exist`);
      store.claim(frame + i, 'an eviction');
      store.frames[frame + i] = GARBAGE;
    }
    const status = new Int32Array(count);
    if (!space.hasHelper) status.fill(Errno.EINVAL);
    else if (this.helper.isChanging(space)) status.fill(Errno.EAGAIN);
    else if (command === Command.discard) this.helper.discard(space, place, frame, status);
    else this.helper.moveOut(space, place, frame, status);
    for (let i = 0; i < count;) {
      let end = i + 1;
      while (end < count && status[end] === status[i]) end++;
      this.count(command, status[i]);
      this.emit(Event.evicted, page + i, frame + i, end - i, status[i], command);
      i = end;
    }
  }

  // ---- harvest ----

  private isReady(): boolean {
    return (
      this.more ||
      this.store.isDue() ||
      this.kernel.spaces.some(
        (space) => space.id >= 0 && (!space.isAlive || space.faults.length + space.events.length > 0),
      )
    );
  }

  private harvest(): void {
    const { world, kernel, store } = this;
    const { random, config } = world;
    if (random.chance(0.001)) this.emit(Event.wake);
    store.harvest((transfer, errno) => {
      const { isWrite, place, slot, frame, count } = transfer;
      const command = isWrite ? Command.write : Command.read;
      this.count(command, errno);
      if (!isWrite) {
        for (let i = 0; i < count; i++) hashOf(store.frames[frame + i], this.frameHashes, (frame + i) * HASH_WORDS);
        if (errno !== 0) store.frames.fill(GARBAGE, frame, frame + count);
      }
      this.emit(isWrite ? Event.writeDone : Event.readDone, slot, frame, count, errno, place);
    }, config.harvest);
    for (const { space, fault, event } of this.helper.takeEarly()) this.deliver(space, fault, event);
    let budget = config.harvest;
    this.more = false;
    const from = random.below(MAX_SPACES);
    for (let i = 0; i < MAX_SPACES; i++) {
      const space = this.spaces[(from + i) % MAX_SPACES];
      if (space === null || space === undefined) continue;
      for (let messages = 0; messages < 64; messages++) {
        if (budget === 0) {
          this.more = space.faults.length + space.events.length > 0;
          return;
        }
        const fault = kernel.readFault(space);
        const event = fault === undefined ? kernel.readEvent(space) : undefined;
        if (fault === undefined && event === undefined) break;
        if (event?.kind === 'fork') this.foster(space, event);
        this.deliver(space, fault, event);
        budget--;
        if (random.chance(0.1)) this.program.step();
      }
      if (config.helperLost > 0 && space.hasHelper && random.chance(config.helperLost)) {
        space.hasHelper = false;
        world.hit('event:helperLost');
        this.emit(Event.helperLost, space.id);
      }
      if (!space.isAlive && !this.told.has(space) && random.chance(0.3)) {
        this.told.add(space);
        world.hit('event:targetExit');
        this.emit(Event.targetExit, space.id);
      }
    }
  }

  /** The child's descriptor comes with the event that tells of it. */
  private foster(parent: SimSpace, event: EventMessage): void {
    const { random } = this.world;
    const child = event.child!;
    const free: number[] = [];
    for (let id = 1; id < MAX_SPACES; id++) if (this.spaces[id] === null) free.push(id);
    if (free.length === 0) return this.world.fail('no space is left for a forked child: they are not dropped');
    // Mostly the lowest, so that names are used again.
    child.id = random.chance(0.8) ? free[0] : random.pick(free);
    child.hasHelper = false;
    child.isAlive = parent.isAlive;
    this.spaces[child.id] = child;
  }

  private deliver(space: SimSpace, fault: FaultMessage | undefined, event: EventMessage | undefined): void {
    if (fault !== undefined) {
      const page = this.ranges.at(space.id, fault.page);
      const v = BASE + fault.page;
      if (page >= 0) return this.emit(Event.fault, page, fault.thread.id, fault.flags, space.id);
      this.world.hit('event:faultUnknown');
      return this.emit(Event.faultUnknown, space.id, vpnLow(v), vpnHigh(v), fault.thread.id, fault.flags);
    }
    const { kind, start, count, to, child } = event!;
    const from = BASE + start;
    const end = from + count;
    this.world.hit(`event:${kind}`);
    if (kind === 'fork') return this.emit(Event.fork, space.id, child!.id);
    if (kind === 'remap')
      return this.emit(
        Event.remap,
        space.id,
        vpnLow(from),
        vpnHigh(from),
        vpnLow(BASE + to),
        vpnHigh(BASE + to),
        count,
      );
    this.emit(
      kind === 'remove' ? Event.remove : Event.unmap,
      space.id,
      vpnLow(from),
      vpnHigh(from),
      vpnLow(end),
      vpnHigh(end),
    );
  }

  // ---- the control plane ----

  private space(id: SpaceId, forWhat: string): SimSpace {
    const space = this.spaces[id];
    if (space === null || space === undefined)
      return this.world.fail(`${forWhat} of space ${id}, which does not exist`);
    return space;
  }

  register(id: SpaceId, start: Vpn, count: number): number {
    this.program.steps(2);
    const errno = this.kernel.register(this.space(id, 'register'), start - BASE, count);
    this.world.note('register', id, start - BASE, count, errno);
    this.world.hit(`register:${ERRNO_NAMES.get(errno) ?? errno}`);
    this.program.steps(2);
    return errno;
  }

  protect(id: SpaceId, start: Vpn, count: number): number {
    this.program.steps(2);
    this.kernel.protect(this.space(id, 'protect'), start - BASE, count, true);
    const { errno } = this.kernel;
    this.world.note('protect', id, start - BASE, count, errno);
    this.world.hit(`protect:${ERRNO_NAMES.get(errno) ?? errno}`);
    return errno;
  }

  unregister(id: SpaceId, start: Vpn, count: number): number {
    this.program.steps(2);
    const errno = this.kernel.unregister(this.space(id, 'unregister'), start - BASE, count);
    this.world.note('unregister', id, start - BASE, count, errno);
    this.world.hit(`unregister:${ERRNO_NAMES.get(errno) ?? errno}`);
    this.program.steps(2);
    return errno;
  }

  bind(id: SpaceId, start: Vpn, count: number, first: PageIndex): void {
    this.space(id, 'bind');
    this.world.note('bind', id, start - BASE, count, first);
    this.ranges.bind(id, start - BASE, count, first);
  }

  unbind(id: SpaceId, start: Vpn, count: number): void {
    this.world.note('unbind', id, start - BASE, count);
    this.ranges.unbind(id, start - BASE, count);
    this.kernel.wake(this.space(id, 'unbind'), start - BASE, count);
  }

  /**
   * As /proc/PID/maps: without flags, so that neighbours which differ in those alone are told apart by their edge only.
   */
  mappingList(id: SpaceId): string {
    const space = this.space(id, 'mappingList');
    if (!space.isAlive) return '';
    return space
      .mappings()
      .map(({ start, end, permissions, inode, path }) => `${start}-${end} ${permissions} ${inode} ${path}`)
      .join('\n');
  }

  mappings(id: SpaceId): Mapping[] {
    this.program.steps(1);
    const space = this.space(id, 'mappings');
    const found = space.isAlive ? space.mappings() : [];
    this.world.note('mappings', id, found.length);
    this.program.steps(2);
    return found;
  }

  ownArea(id: SpaceId): { start: Vpn; end: Vpn } {
    const { tag } = this.space(id, 'ownArea');
    const start = tag.indexOf(OWN);
    if (start < 0) return { start: vpn(0), end: vpn(0) };
    return { start: vpn(BASE + start), end: vpn(BASE + tag.lastIndexOf(OWN) + 1) };
  }

  residency(id: SpaceId, start: Vpn, count: number, out: Uint8Array): number {
    this.program.steps(1);
    const space = this.space(id, 'residency');
    if (!space.isAlive) return Errno.ESRCH;
    for (let i = 0; i < count; i++) {
      const at = start - BASE + i;
      out[i] = at < 0 || at >= WINDOW ? 0 : space.has(at, Bit.present) ? 1 : space.has(at, Bit.poison) ? 2 : 0;
    }
    this.program.steps(2);
    return 0;
  }

  mapChunk(replica: number, chunk: number, donor: number): void {
    this.world.note('map chunk', replica, chunk, donor);
    this.store.map(replica, chunk, donor);
  }

  unmapChunk(replica: number, chunk: number): void {
    this.world.note('unmap chunk', replica, chunk);
    this.store.unmap(replica, chunk);
  }

  canEvict(id: SpaceId): boolean {
    return this.space(id, 'canEvict').hasHelper;
  }

  adopt(id: SpaceId, thread: number): boolean {
    const space = this.space(id, 'adopt');
    this.program.steps(3);
    if (space.isAlive && space.threads.some((other) => other.id === thread) && !this.world.random.chance(0.1))
      space.hasHelper = true;
    this.world.note('adopt', id, thread, Number(space.hasHelper));
    this.world.hit(space.hasHelper ? 'adopt:ok' : 'adopt:refused');
    return space.hasHelper;
  }

  isAlive(id: SpaceId): boolean {
    return this.space(id, 'isAlive').isAlive;
  }

  drop(id: SpaceId): void {
    const space = this.space(id, 'drop');
    if (space.isAlive) this.world.fail(`drop of space ${id}, which is alive`);
    this.world.note('drop', id);
    this.world.hit('drop');
    this.unbind(id, BASE as number as Vpn, WINDOW);
    space.isDropped = true;
    this.spaces[id] = null;
    const at = this.kernel.spaces.indexOf(space);
    if (at >= 0) this.kernel.spaces.splice(at, 1);
  }
}

const EVENT_NOTES: string[] = [];
for (const [name, value] of Object.entries(Event)) EVENT_NOTES[value] = `event ${name}`;
