/**
 * The engine on the fake kernel and store. It is as strict as the native one is fast: whatever a pager must never ask for fails the run.
 * The target goes on running during a turn: between two commands, between the stages of a discard, and around every control call.
 */
import type { Engine, Mapping } from '../../src/engine.js';
import {
  BATCH_PAGES, Command, COMMAND_WORDS, Errno, Event, EVENT_WORDS, HASH_WORDS, MAX_SPACES, vpnHigh, vpnLow,
} from '../../src/layout.js';
import { type FrameIndex, type PageIndex, type SpaceId, type Vpn } from '../../src/types.js';
import { BASE, Bit, SimSpace, WINDOW, type EventMessage, type FaultMessage } from './space.js';
import type { Program } from './schedule.js';
import type { SimKernel } from './sim-kernel.js';
import { GARBAGE, type SimStore } from './sim-store.js';
import type { World } from './world.js';

const ERRNO_NAMES = new Map<number, string>(Object.entries(Errno).map(([name, value]) => [value, name]));
const COMMAND_NAMES = new Map<number, string>(Object.entries(Command).map(([name, value]) => [value, name]));
const EVENT_CAPACITY = 1 << 16;

export class SimEngine implements Engine {
  readonly commands: Int32Array;
  readonly events = new Int32Array(EVENT_CAPACITY * EVENT_WORDS);
  readonly clock = new Float64Array(2);
  readonly canMove: boolean;
  readonly canPoison = true;
  readonly frameHashes: Int32Array;
  readonly zeroHash = new Int32Array(HASH_WORDS);

  private readonly spaces: (SimSpace | null)[] = new Array<SimSpace | null>(MAX_SPACES).fill(null);
  /** The range table: by space and place, which page of the pager stands there; -1 for none. */
  private readonly ranges: Int32Array[] = [];
  /** Where each page stands: space and place in its window; -1 when unbound. */
  private readonly pageSpace: number[] = [];
  private readonly pagePlace: number[] = [];
  private readonly told = new Set<SimSpace>();
  /** Messages of the target that were read while a discard waited for its own event: per space, handed over at the end of the turn. */
  private early: { space: SimSpace; fault?: FaultMessage; event?: EventMessage }[] = [];
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
    this.commands = new Int32Array(world.config.commandRecords * COMMAND_WORDS);
    this.frameHashes = new Int32Array(world.config.frames * HASH_WORDS);
    hashOf(0, this.zeroHash, 0);
    for (let id = 0; id < MAX_SPACES; id++) this.ranges.push(new Int32Array(WINDOW).fill(-1));
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
    this.program.hasten();
    this.others(world.config.pace);
    for (let at = 0; at < commandWords; at += COMMAND_WORDS) {
      if (world.random.chance(0.2)) this.others(3);
      this.execute(this.commands[at], this.commands[at + 1], this.commands[at + 2], this.commands[at + 3]);
    }
    // Stale commands must not be executed again by accident.
    this.commands.fill(0, 0, commandWords);
    this.clock[1] = world.now * world.config.nsPerStep;
    this.harvest();
    this.wait(waitNs);
    this.clock[0] = world.now * world.config.nsPerStep;
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

  private others(most: number): void {
    for (let n = this.world.random.below(most + 1); n > 0; n--) this.program.step();
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

  private execute(command: number, first: number, second: number, count: number): void {
    const { world, store } = this;
    world.note(`do ${COMMAND_NAMES.get(command)}`, first, second, count);
    if (count < 1 || count > BATCH_PAGES) world.fail(`${COMMAND_NAMES.get(command)} of ${count} pages`);
    if (command === Command.read) return store.read(first, second, count);
    if (command === Command.write) return store.write(first, second, count);
    const space = this.spaceOf(first, count, command);
    if (space === null) return this.refuseUnbound(command, first, second, count);
    const place = this.pagePlace[first];
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

  /** The space of a run of pages, which must lie in one bound range. */
  private spaceOf(page: number, count: number, command: number): SimSpace | null {
    const id = this.pageSpace[page] ?? -1;
    const space = id < 0 ? null : (this.spaces[id] ?? null);
    if (space === null) return null;
    const pages = this.ranges[id];
    const place = this.pagePlace[page];
    for (let i = 1; i < count; i++) {
      if (pages[place + i] === page + i) continue;
      if ((this.pageSpace[page + i] ?? -1) < 0) return null;
      this.world.fail(`${COMMAND_NAMES.get(command)} of pages ${page}+${count}: they leave a bound range at ${page + i}`);
    }
    return space;
  }

  private refuseUnbound(command: number, page: number, frame: number, count: number): void {
    this.world.hit('command for an unbound page');
    this.count(command, Errno.ENOENT);
    if (command === Command.moveOut || command === Command.discard) return this.emit(Event.evicted, page, frame, count, Errno.ENOENT, command);
    if (command === Command.unprotect) return this.emit(Event.unprotected, page, -1, count, Errno.ENOENT);
    if (command !== Command.wake) this.emit(Event.mapped, page, command === Command.map ? frame : -1, 0, Errno.ENOENT, count);
  }

  private isChanging(space: SimSpace): boolean {
    return this.early.some((message) => message.space === space && message.event !== undefined);
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
    if (this.isChanging(space)) kernel.errno = Errno.EAGAIN;
    else done = command === Command.poison ? kernel.poison(space, place, count) : kernel.fill(space, place, count, contents);
    this.count(command, kernel.errno);
    if (done > 0 && kernel.errno !== 0) this.world.hit('partial map');
    this.emit(Event.mapped, page, contents === null ? -1 : frame, done, kernel.errno, count);
  }

  private evict(command: number, space: SimSpace, place: number, page: number, frame: number, count: number): void {
    const { kernel, store } = this;
    for (let i = 0; i < count; i++) {
      if (frame < 0 || frame + i >= store.frames.length) this.world.fail(`eviction into frame ${frame + i}, which does not exist`);
      store.claim(frame + i, 'an eviction');
      store.frames[frame + i] = GARBAGE;
    }
    const status = new Int32Array(count);
    if (!space.hasHelper) status.fill(Errno.EINVAL);
    else if (this.isChanging(space)) status.fill(Errno.EAGAIN);
    else if (command === Command.discard) this.discard(space, place, frame, status);
    else {
      for (let i = 0; i < count; i++) {
        if (this.world.random.chance(0.05)) this.others(2);
        const content = kernel.move(space, place + i);
        status[i] = kernel.errno;
        if (kernel.errno === 0) this.keep(frame + i, content);
      }
    }
    for (let i = 0; i < count; ) {
      let end = i + 1;
      while (end < count && status[end] === status[i]) end++;
      this.count(command, status[i]);
      this.emit(Event.evicted, page + i, frame + i, end - i, status[i], command);
      i = end;
    }
  }

  private keep(frame: number, content: number): void {
    this.store.frames[frame] = content;
    hashOf(content, this.frameHashes, frame * HASH_WORDS);
  }

  /** Protect, copy, drop; the target does what it likes between the stages. */
  private discard(space: SimSpace, place: number, frame: number, status: Int32Array): void {
    const { kernel, store, world } = this;
    for (let i = 0; i < status.length; i++) {
      kernel.protect(space, place + i, 1, true);
      status[i] = kernel.errno;
    }
    this.others(4);
    for (let i = 0; i < status.length; i++) {
      if (status[i] !== 0) continue;
      const at = place + i;
      if (space.has(at, Bit.poison)) status[i] = Errno.EINVAL;
      else if (!space.has(at, Bit.present) || !space.has(at, Bit.protected)) status[i] = Errno.ENOENT;
      else if (space.access[at] === 0) status[i] = Errno.EINVAL;
      else this.keep(frame + i, space.content[at]);
    }
    for (let from = 0; from < status.length; ) {
      if (status[from] !== 0) {
        from++;
        continue;
      }
      let to = from + 1;
      while (to < status.length && status[to] === 0) to++;
      this.ownMadvise(space);
      for (let i = from; i < to; i++) {
        const at = place + i;
        if (!space.isAlive && !space.isKept) status[i] = Errno.ESRCH;
        // Dropped, unmapped or moved away since it was copied. What stands there unprotected is something else: a real madvise would drop that, a
        // race of the discard path that nobody can close; the simulator spares it.
        else if (!space.has(at, Bit.registered) || !space.has(at, Bit.protected)) status[i] = Errno.ENOENT;
        else if (!space.has(at, Bit.present)) status[i] = Errno.ENOENT;
        else if (!kernel.calm && world.random.chance(world.config.busy)) status[i] = Errno.EAGAIN;
        else if (store.frames[frame + i] !== space.content[at]) world.fail(`page +${at} changed under its write protection`);
        else space.drop(at);
        if (status[i] !== 0) store.frames[frame + i] = GARBAGE;
      }
      from = to;
    }
  }

  /** The helper's madvise raises an event of our own; messages of the target that come before it are read with it. */
  private ownMadvise(space: SimSpace): void {
    const { kernel } = this;
    if (!space.isAlive) return;
    this.others(2);
    if (!space.isAlive) return;
    space.changing++;
    space.events.push({ kind: 'own', start: 0, count: 0, to: 0, thread: null, child: null });
    this.others(2);
    while (space.isAlive) {
      const fault = kernel.readFault(space);
      if (fault !== undefined) {
        this.early.push({ space, fault });
        continue;
      }
      const event = kernel.readEvent(space);
      if (event === undefined || event.kind === 'own') break;
      this.world.hit('event read during a discard');
      this.early.push({ space, event });
      if (event.kind === 'fork') this.foster(space, event);
    }
    this.others(3);
  }

  // ---- harvest ----

  private isReady(): boolean {
    return this.more || this.store.isDue() || this.kernel.spaces.some((space) => space.id >= 0 && (!space.isAlive || space.faults.length + space.events.length > 0));
  }

  private harvest(): void {
    const { world, kernel, store } = this;
    const { random, config } = world;
    if (random.chance(0.001)) this.emit(Event.wake);
    store.harvest((transfer, errno) => {
      const { isWrite, slot, frame, count } = transfer;
      const command = isWrite ? Command.write : Command.read;
      this.count(command, errno);
      if (!isWrite) {
        for (let i = 0; i < count; i++) hashOf(store.frames[frame + i], this.frameHashes, (frame + i) * HASH_WORDS);
        if (errno !== 0) store.frames.fill(GARBAGE, frame, frame + count);
      }
      this.emit(isWrite ? Event.writeDone : Event.readDone, slot, frame, count, errno);
    }, config.harvest);
    for (const { space, fault, event } of this.early) this.deliver(space, fault, event);
    this.early = [];
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
      const page = this.ranges[space.id][fault.page];
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
    if (kind === 'remap') return this.emit(Event.remap, space.id, vpnLow(from), vpnHigh(from), vpnLow(BASE + to), vpnHigh(BASE + to), count);
    this.emit(kind === 'remove' ? Event.remove : Event.unmap, space.id, vpnLow(from), vpnHigh(from), vpnLow(end), vpnHigh(end));
  }

  // ---- the control plane ----

  private space(id: SpaceId, forWhat: string): SimSpace {
    const space = this.spaces[id];
    if (space === null || space === undefined) return this.world.fail(`${forWhat} of space ${id}, which does not exist`);
    return space;
  }

  register(id: SpaceId, start: Vpn, count: number): number {
    this.others(2);
    const errno = this.kernel.register(this.space(id, 'register'), start - BASE, count);
    this.world.note('register', id, start - BASE, count, errno);
    this.world.hit(`register:${ERRNO_NAMES.get(errno) ?? errno}`);
    this.others(2);
    return errno;
  }

  protect(id: SpaceId, start: Vpn, count: number): number {
    this.others(2);
    this.kernel.protect(this.space(id, 'protect'), start - BASE, count, true);
    const { errno } = this.kernel;
    this.world.note('protect', id, start - BASE, count, errno);
    this.world.hit(`protect:${ERRNO_NAMES.get(errno) ?? errno}`);
    return errno;
  }

  unregister(id: SpaceId, start: Vpn, count: number): number {
    this.others(2);
    const errno = this.kernel.unregister(this.space(id, 'unregister'), start - BASE, count);
    this.world.note('unregister', id, start - BASE, count, errno);
    this.world.hit(`unregister:${ERRNO_NAMES.get(errno) ?? errno}`);
    this.others(2);
    return errno;
  }

  bind(id: SpaceId, start: Vpn, count: number, first: PageIndex): void {
    this.space(id, 'bind');
    const page = this.ranges[id];
    const place = start - BASE;
    this.world.note('bind', id, place, count, first);
    if (count < 1 || place < 0 || place + count > WINDOW) this.world.fail(`bind of ${count} pages at +${place}`);
    for (let i = 0; i < count; i++) {
      if (page[place + i] !== -1) this.world.fail(`bind at +${place + i}, where page ${page[place + i]} stands`);
      if ((this.pageSpace[first + i] ?? -1) !== -1) this.world.fail(`bind of page ${first + i}, which is bound already`);
      page[place + i] = first + i;
      this.pageSpace[first + i] = id;
      this.pagePlace[first + i] = place + i;
    }
  }

  unbind(id: SpaceId, start: Vpn, count: number): void {
    this.world.note('unbind', id, start - BASE, count);
    const page = this.ranges[id];
    for (let at = Math.max(0, start - BASE); at < Math.min(WINDOW, start - BASE + count); at++) {
      if (page[at] >= 0) this.pageSpace[page[at]] = -1;
      page[at] = -1;
    }
    this.kernel.wake(this.space(id, 'unbind'), start - BASE, count);
  }

  mappings(id: SpaceId): Mapping[] {
    this.others(1);
    const space = this.space(id, 'mappings');
    const found = space.isAlive ? space.mappings() : [];
    this.world.note('mappings', id, found.length);
    this.others(2);
    return found;
  }

  residency(id: SpaceId, start: Vpn, count: number, out: Uint8Array): number {
    this.others(1);
    const space = this.space(id, 'residency');
    if (!space.isAlive) return Errno.ESRCH;
    for (let i = 0; i < count; i++) {
      const at = start - BASE + i;
      out[i] = at < 0 || at >= WINDOW ? 0 : space.has(at, Bit.present) ? 1 : space.has(at, Bit.poison) ? 2 : 0;
    }
    this.others(2);
    return 0;
  }

  canEvict(id: SpaceId): boolean {
    return this.space(id, 'canEvict').hasHelper;
  }

  adopt(id: SpaceId, thread: number): boolean {
    const space = this.space(id, 'adopt');
    this.others(3);
    if (space.isAlive && space.threads.some((other) => other.id === thread) && !this.world.random.chance(0.1)) space.hasHelper = true;
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
    this.unbind(id, (BASE as number) as Vpn, WINDOW);
    space.isDropped = true;
    this.spaces[id] = null;
    const at = this.kernel.spaces.indexOf(space);
    if (at >= 0) this.kernel.spaces.splice(at, 1);
  }

  peekFrame(frame: FrameIndex, out: Uint8Array): void {
    out.fill(0);
    new DataView(out.buffer, out.byteOffset).setInt32(0, this.store.frames[frame], true);
  }
}

const EVENT_NOTES: string[] = [];
for (const [name, value] of Object.entries(Event)) EVENT_NOTES[value] = `event ${name}`;

/** 128 bits that differ when the contents do. */
export function hashOf(content: number, out: Int32Array, at: number): void {
  for (let i = 0; i < HASH_WORDS; i++) {
    let h = Math.imul(content ^ (0x9e3779b9 * (i + 1)), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 15), 0xc2b2ae35);
    out[at + i] = h ^ (h >>> 13);
  }
}
