/**
 * The fake kernel: page faults, the userfaultfd's queues and its ioctls, with the results and the races that Linux has.
 *
 * - Faults are read before events. A wake removes a fault that nobody has read; one that was read and is then served
 *   by chance is stale.
 * - From the moment a call of the program raises an event until that call has gone on (some time after the event was
 *   read), mmap_changing is set and every ioctl that changes memory answers EAGAIN.
 * - madvise drops its pages after it has gone on; munmap, mremap and fork have done their work before the event is
 *   raised.
 * - An ioctl on a run works within one mapping; a run that crosses the border of two answers ENOENT though every page
 *   is there.
 */
import { Errno, FAULT_WP, FAULT_WRITE } from '../../src/core/layout.js';
import {
  Access,
  Bit,
  KINDS,
  type SimSpace,
  ThreadState,
  WINDOW,
  type EventMessage,
  type FaultMessage,
  type SimThread,
} from './space.js';
import type { SimStore } from './sim-store.js';
import type { World } from './world.js';

export class SimKernel {
  /** Address spaces that have a process, or whose end the pager has not been told of. */
  readonly spaces: SimSpace[] = [];
  /** What stopped the last ioctl; 0 when nothing did. */
  errno = 0;
  /** Nothing refuses by chance any more. */
  calm = false;
  private nextContent = 1;

  constructor(
    readonly world: World,
    readonly store: SimStore,
  ) {}

  freshContent(): number {
    return this.nextContent++;
  }

  // ---- threads ----

  /** Tries the access the thread is in the middle of. @returns whether it is done. */
  tryAccess(thread: SimThread): boolean {
    const { space, page, isWrite } = thread;
    const { world } = this;
    const needed = isWrite ? Access.write : Access.read;
    if (space.tag[page] === 0 || (space.access[page] & needed) !== needed) {
      world.fail(`the simulated program is wrong: thread ${thread.id} touches page +${page} that it must not`);
    }
    if (!space.has(page, Bit.present)) {
      if (space.has(page, Bit.poison)) return this.sigbus(thread);
      if (space.has(page, Bit.registered)) return this.block(thread, isWrite ? FAULT_WRITE : 0);
      space.place(page, 0, isWrite ? 0 : Bit.zeroPage);
    }
    if (isWrite) {
      if (space.has(page, Bit.protected) && space.has(page, Bit.registered))
        return this.block(thread, FAULT_WRITE | FAULT_WP);
      this.writePage(space, page);
    } else {
      space.oracle.read(page, space.content[page]);
    }
    thread.page = -1;
    return true;
  }

  writePage(space: SimSpace, page: number): void {
    const { random } = this.world;
    // Now and then what is there already, or zeros: clean pages and zero pages must come up.
    const content = random.chance(0.05) ? 0 : random.chance(0.1) ? space.content[page] : this.freshContent();
    space.oracle.read(page, space.content[page]);
    space.bits[page] &= ~(Bit.shared | Bit.lazy | Bit.zeroPage);
    space.content[page] = content;
    space.oracle.write(page, content);
  }

  private block(thread: SimThread, flags: number): boolean {
    this.world.note('fault', thread.space.id, thread.page, thread.id, flags);
    this.world.hit(flags & FAULT_WP ? 'fault:wp' : flags & FAULT_WRITE ? 'fault:write' : 'fault:read');
    thread.state = ThreadState.faulting;
    thread.since = this.world.turn;
    thread.space.faults.push({ thread, page: thread.page, flags });
    return false;
  }

  private sigbus(thread: SimThread): boolean {
    const { space, page } = thread;
    if (!this.store.lost.has(space.oracle.value[page])) {
      this.world.fail(`thread ${thread.id} gets SIGBUS on page +${page}, which the store has not lost`);
    }
    this.world.hit('sigbus');
    thread.page = -1;
    return true;
  }

  /** A signal: the thread leaves its fault, and comes back to it. */
  interrupt(thread: SimThread): void {
    this.world.hit('fault:interrupted');
    this.release(thread);
  }

  private release(thread: SimThread): void {
    const { faults } = thread.space;
    const at = faults.findIndex((fault) => fault.thread === thread);
    if (at >= 0) faults.splice(at, 1);
    thread.state = ThreadState.running;
  }

  // ---- the descriptor's queues ----

  raise(
    thread: SimThread,
    kind: EventMessage['kind'],
    start: number,
    count: number,
    to = 0,
    child: SimSpace | null = null,
  ): void {
    const { space } = thread;
    this.world.note(`raise ${kind}`, space.id, start, count, to);
    space.events.push({ kind, start, count, to, thread, child });
    space.changing++;
    thread.state = ThreadState.waiting;
    thread.since = this.world.turn;
  }

  readFault(space: SimSpace): FaultMessage | undefined {
    return space.faults.shift();
  }

  readEvent(space: SimSpace): EventMessage | undefined {
    const event = space.events.shift();
    if (event === undefined) return undefined;
    if (event.thread === null) space.changing--;
    else {
      event.thread.state = ThreadState.calling;
      event.thread.readAt = this.world.ns;
      if (event.kind === 'fork') space.forkToldAt = this.world.turn;
    }
    return event;
  }

  // ---- ioctls on a run of pages; each answers how many were done, from the front ----

  /** Whether the run lies in one registered mapping of a live process whose memory is not changing. */
  private admits(space: SimSpace, page: number, count: number): boolean {
    this.errno = 0;
    if (!space.isAlive && !space.isKept) this.errno = Errno.ESRCH;
    else if (space.changing > 0 || (!this.calm && this.world.random.chance(this.world.config.eagain)))
      this.errno = Errno.EAGAIN;
    else if (page < 0 || page + count > WINDOW) this.errno = Errno.ENOENT;
    else if (!space.has(page, Bit.registered) || space.mappingEnd(page) < page + count) this.errno = Errno.ENOENT;
    return this.errno === 0;
  }

  /** UFFDIO_COPY, and with contents null UFFDIO_ZEROPAGE. */
  fill(space: SimSpace, page: number, count: number, contents: readonly number[] | null): number {
    if (!this.admits(space, page, count)) return 0;
    let done = 0;
    for (; done < count; done++) {
      const at = page + done;
      if (space.has(at, Bit.present) || space.has(at, Bit.poison)) {
        this.errno = Errno.EEXIST;
        break;
      }
      if (done > 0 && !this.calm && this.world.random.chance(this.world.config.partial)) {
        this.errno = Errno.EAGAIN;
        break;
      }
      const content = contents === null ? 0 : contents[done];
      if (space.isAlive && !space.oracle.allows(at, content)) {
        this.world.fail(
          `space ${space.id} page +${at} is given ${content}, but the program must see ${space.oracle.value[at]}`,
        );
      }
      space.place(at, content, contents === null ? Bit.zeroPage : 0);
    }
    this.wake(space, page, done);
    return done;
  }

  poison(space: SimSpace, page: number, count: number): number {
    if (!this.admits(space, page, count)) return 0;
    let done = 0;
    for (; done < count; done++) {
      const at = page + done;
      if (space.has(at, Bit.present) || space.has(at, Bit.poison)) {
        this.errno = Errno.EEXIST;
        break;
      }
      if (space.isAlive && !this.store.lost.has(space.oracle.value[at])) {
        this.world.fail(`space ${space.id} page +${at} is poisoned, but the store has not lost it`);
      }
      space.bits[at] |= Bit.poison;
    }
    this.wake(space, page, done);
    return done;
  }

  wake(space: SimSpace, page: number, count: number): void {
    for (const thread of space.threads) {
      if (thread.state === ThreadState.faulting && thread.page >= page && thread.page < page + count)
        this.release(thread);
    }
  }

  /** UFFDIO_WRITEPROTECT. Absent pages are passed over. */
  protect(space: SimSpace, page: number, count: number, on: boolean): void {
    if (!this.admits(space, page, count)) return;
    for (let at = page; at < page + count; at++) {
      if (!space.has(at, Bit.present)) continue;
      if (on) space.bits[at] |= Bit.protected;
      else space.bits[at] &= ~Bit.protected;
    }
    if (!on) this.wake(space, page, count);
  }

  /** UFFDIO_MOVE of one page. @returns what it held. */
  move(space: SimSpace, page: number): number {
    if (!this.admits(space, page, 1)) return 0;
    const { config, random } = this.world;
    if (!space.has(page, Bit.present)) this.errno = space.has(page, Bit.poison) ? Errno.EINVAL : Errno.ENOENT;
    else if (!(space.access[page] & 2)) this.errno = Errno.EINVAL;
    else if (space.has(page, Bit.pinned) || space.has(page, Bit.shared)) this.errno = Errno.EBUSY;
    else if (space.has(page, Bit.zeroPage) && !config.zeroPageMoves) this.errno = Errno.EBUSY;
    else if (!this.calm && random.chance(config.busy)) this.errno = Errno.EBUSY;
    if (this.errno !== 0) return 0;
    const content = space.content[page];
    space.drop(page);
    return content;
  }

  /**
   * A page has just been taken out. @returns the status of that: EPERM when the kernel needs it, and it must come back
   */
  taken(space: SimSpace, page: number, content: number): number {
    const { needed } = this.world.config;
    if (space.needed[page])
      this.world.fail(`space ${space.id} page +${page} is taken again, which the kernel needs when a thread exits`);
    if (needed === 0 || content === 0 || content % needed !== 0) return 0;
    this.world.hit('needed page taken');
    space.needed[page] = 1;
    return Errno.EPERM;
  }

  // ---- the control plane ----

  register(space: SimSpace, page: number, count: number): number {
    if (!space.isAlive) return Errno.ESRCH;
    if (count < 1 || page < 0 || page + count > WINDOW) return Errno.EINVAL;
    let mapped = 0;
    for (let at = page; at < page + count; at++) {
      if (space.tag[at] === 0) continue;
      mapped++;
      const kind = KINDS[space.tag[at]];
      if (kind.foreign) return Errno.EBUSY;
      if (!kind.paged) this.world.fail(`registers page +${at} of a mapping that must be left alone: ${kind.name}`);
    }
    // Holes are passed over. Nothing is mapped: unmapped a moment ago, perhaps.
    if (mapped === 0) return Errno.EINVAL;
    if (mapped < count) this.world.hit('register with holes');
    if (!this.calm && this.world.random.chance(this.world.config.registerError)) return Errno.ENOMEM;
    for (let at = page; at < page + count; at++) if (space.tag[at] !== 0) space.bits[at] |= Bit.registered;
    return 0;
  }

  unregister(space: SimSpace, page: number, count: number): number {
    if (!space.isAlive) return Errno.ESRCH;
    let found = false;
    for (let at = page; at < page + count; at++) {
      if (space.tag[at] === 0) continue;
      found = true;
      space.bits[at] &= ~(Bit.registered | Bit.protected);
    }
    this.wake(space, page, count);
    return found ? 0 : Errno.EINVAL;
  }

  /**
   * The descriptor is closed: nothing is registered any more, waiting threads go on, children that nobody knows of are
   * left alone.
   */
  close(space: SimSpace): void {
    for (let at = 0; at < WINDOW; at++) space.bits[at] &= ~(Bit.registered | Bit.protected);
    this.wake(space, 0, WINDOW);
    for (let event = this.readEvent(space); event !== undefined; event = this.readEvent(space)) {
      if (event.child !== null) this.close(event.child);
    }
  }

  // ---- what happens by itself ----

  /** Memory pressure: a page that MADV_FREE was called on, and that was not written since, vanishes. */
  reclaim(space: SimSpace): void {
    const from = this.world.random.below(WINDOW);
    for (let at = from; at < Math.min(WINDOW, from + 64); at++) {
      if (!space.has(at, Bit.lazy) || space.has(at, Bit.pinned)) continue;
      this.world.hit('lazily freed page vanishes');
      space.drop(at);
      return;
    }
  }

  /** Registered pages in memory that a pager could take away: what it must hold at its limit. */
  evictable(mayDiscard: boolean): number {
    const { config } = this.world;
    const there = Bit.present | Bit.registered;
    const refused = mayDiscard ? 0 : Bit.shared | (config.zeroPageMoves ? 0 : Bit.zeroPage);
    let count = 0;
    for (const space of this.spaces) {
      if (!space.isAlive || !space.hasHelper || space.id < 0) continue;
      for (let at = 0; at < WINDOW; at++) {
        const bits = space.bits[at];
        if (space.unaccountable[at] || space.needed[at]) continue;
        if ((bits & (there | Bit.pinned | refused)) === there && space.access[at] === Access.write) count++;
      }
    }
    return count;
  }
}
