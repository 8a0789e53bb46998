/**
 * System calls of the simulated program that change its address space. Each is given a range that the program may use
 * so (see schedule.ts); a call that raises an event stops there, and its thread goes on some time after the event has
 * been read.
 */
import type { SimKernel } from './sim-kernel.js';
import { Access, Bit, OnFork, SimSpace, SimThread, ThreadState, WINDOW } from './space.js';

export class Calls {
  private nextThread = 100;

  constructor(private readonly kernel: SimKernel) {}

  spawn(space: SimSpace): SimThread {
    const thread = new SimThread(this.nextThread++, space);
    space.threads.push(thread);
    return thread;
  }

  /**
   * The call that a thread is in goes on: first the kernel lets go of mmap_changing, some time later it does the rest.
   */
  goOn(thread: SimThread, inHaste = false): void {
    const { call, space } = thread;
    if (call === null) return;
    if (thread.since >= 0) {
      space.changing--;
      thread.since = -1;
      if (!inHaste && this.kernel.world.random.chance(0.7)) return;
    }
    if (call.proceed()) {
      this.kernel.world.note(`${call.name} returns`, space.id, call.start, call.count);
      thread.call = null;
      thread.state = ThreadState.running;
    }
  }

  private enter(thread: SimThread, name: string, start: number, count: number, proceed: () => boolean): void {
    this.kernel.world.note(name, thread.space.id, start, count, thread.id);
    this.kernel.world.hit(`call:${name}`);
    thread.call = { name, start, count, proceed };
    thread.since = -1;
    thread.state = ThreadState.calling;
  }

  private leave(thread: SimThread): void {
    thread.call = null;
    thread.state = ThreadState.running;
  }

  private anyRegistered(space: SimSpace, start: number, count: number): boolean {
    for (let at = start; at < start + count; at++) if (space.has(at, Bit.registered)) return true;
    return false;
  }

  /** MADV_DONTNEED and MADV_FREE: mapping by mapping, the pages go after the event was read. */
  discard(thread: SimThread, start: number, count: number, lazily: boolean): void {
    const { space } = thread;
    const end = start + count;
    let from = start;
    let to = start;
    const drop = (): void => {
      for (let at = from; at < to; at++) {
        if (!lazily) space.drop(at);
        else if (space.has(at, Bit.present)) {
          space.unaccountable[at] = 1;
          if (!space.has(at, Bit.shared)) space.bits[at] |= Bit.lazy;
        }
      }
      space.needed.fill(0, from, to); // it may have been taken since the event was raised
      space.oracle.endDrop(from, to - from, lazily);
    };
    const next = (): boolean => {
      while (to < end) {
        from = to;
        to = Math.min(end, space.mappingEnd(from));
        if (space.tag[from] === 0) continue;
        space.oracle.beginDrop(from, to - from);
        space.needed.fill(0, from, to);
        if (space.has(from, Bit.registered)) {
          this.kernel.raise(thread, 'remove', from, to - from);
          return false;
        }
        drop();
      }
      return true;
    };
    this.enter(thread, lazily ? 'madvise free' : 'madvise dontneed', start, count, () => {
      drop();
      return next();
    });
    if (next()) this.leave(thread);
  }

  /** The mapping is gone at once; the event names the whole range that was asked for. */
  unmap(thread: SimThread, start: number, count: number, name = 'munmap'): void {
    const { space } = thread;
    const raises = this.anyRegistered(space, start, count);
    space.map(start, count, 0, 0);
    this.cut(space, start, count);
    this.enter(thread, name, start, 0, () => true);
    if (raises) this.kernel.raise(thread, 'unmap', start, count);
    else this.leave(thread);
  }

  private cut(space: SimSpace, start: number, count: number): void {
    const end = start + count;
    for (let i = space.areas.length - 1; i >= 0; i--) {
      const area = space.areas[i];
      const areaEnd = area.start + area.count;
      if (area.start >= end || start >= areaEnd) continue;
      space.areas.splice(i, 1);
      if (area.start < start) space.areas.push({ start: area.start, count: start - area.start });
      if (end < areaEnd) space.areas.push({ start: end, count: areaEnd - end });
    }
  }

  map(space: SimSpace, start: number, count: number, tag: number, access: number): void {
    this.kernel.world.note('mmap', space.id, start, count, tag);
    this.kernel.world.hit('call:mmap');
    space.map(start, count, tag, access);
    space.areas.push({ start, count });
  }

  /**
   * mmap with MAP_FIXED over memory in use: the new mapping stands there before anybody reads that the old one is gone.
   */
  replace(thread: SimThread, start: number, count: number, tag: number): void {
    const { space } = thread;
    const raises = this.anyRegistered(space, start, count);
    space.map(start, count, tag, Access.write);
    this.enter(thread, 'mmap fixed', start, count, () => true);
    if (raises) this.kernel.raise(thread, 'unmap', start, count);
    else this.leave(thread);
  }

  /**
   * mremap to another place. All is done before the first event is raised; then come, one after the other, the end of
   * what was mapped at the new place (`over`: MREMAP_FIXED), the move itself, and the end of the old place, unless that
   * stays mapped, and empty (`stays`: MREMAP_DONTUNMAP).
   */
  move(thread: SimThread, start: number, count: number, to: number, newCount: number, stays: boolean): void {
    const { space } = thread;
    const registered = space.has(start, Bit.registered);
    const over = this.anyRegistered(space, to, newCount);
    const [tag, access, onFork] = [space.tag[start], space.access[start], space.onFork[start]];
    this.cut(space, to, newCount);
    space.map(to, newCount, tag, access);
    space.onFork.fill(onFork, to, to + newCount);
    for (let i = 0; i < newCount; i++) {
      if (i < count) {
        space.bits[to + i] = space.bits[start + i];
        space.content[to + i] = space.content[start + i];
        space.unaccountable[to + i] = space.unaccountable[start + i];
        space.needed[to + i] = space.needed[start + i];
      } else if (registered) {
        space.bits[to + i] = Bit.registered;
      }
    }
    space.oracle.move(start, to, count);
    space.map(start, count, stays ? tag : 0, stays ? access : 0);
    if (!stays) this.cut(space, start, count);
    else if (registered) space.bits.fill(Bit.registered, start, start + count);
    this.kernel.world.note(stays ? 'mremap dontunmap' : 'mremap', start, count, to, newCount);
    this.kernel.world.hit(
      `call:mremap ${over ? 'moves over another' : stays ? 'moves and leaves the old' : newCount > count ? 'moves and grows' : 'moves'}`,
    );

    const events: (() => void)[] = [];
    if (over) events.push(() => this.kernel.raise(thread, 'unmap', to, newCount));
    if (registered) events.push(() => this.kernel.raise(thread, 'remap', start, count, to));
    if (registered && !stays) events.push(() => this.kernel.raise(thread, 'unmap', start, count));
    // The program learns the new address when the call returns: until then nobody but this call is there.
    const proceed = (): boolean => {
      const next = events.shift();
      if (next !== undefined) {
        space.changing--; // counted since the call, and by raise again
        next();
        return false;
      }
      space.areas.push({ start: to, count: newCount });
      return true;
    };
    this.enter(thread, 'mremap', to, newCount, proceed);
    thread.moved = { start, count };
    const first = events.shift();
    if (first === undefined) return;
    first();
    // mmap_changing counts the events that are still to come, too.
    space.changing += events.length;
  }

  /** mremap without a move: no event, and the new pages are registered as the old ones are. */
  growInPlace(space: SimSpace, area: { start: number; count: number }, more: number): void {
    const last = area.start + area.count - 1;
    const registered = space.has(last, Bit.registered);
    this.kernel.world.note('mremap grows in place', space.id, last + 1, more);
    this.kernel.world.hit(registered ? 'call:registered mapping grows in place' : 'call:mapping grows in place');
    space.map(last + 1, more, space.tag[last], space.access[last]);
    space.onFork.fill(space.onFork[last], last + 1, last + 1 + more);
    if (registered) for (let at = last + 1; at <= last + more; at++) space.bits[at] = Bit.registered;
    area.count += more;
  }

  protect(space: SimSpace, start: number, count: number, access: number): void {
    this.kernel.world.note('mprotect', space.id, start, count, access);
    this.kernel.world.hit('call:mprotect');
    space.access.fill(access, start, start + count);
  }

  /** madvise of what a forked child is to get of it. */
  adviseFork(space: SimSpace, start: number, count: number, onFork: number): void {
    this.kernel.world.note('madvise on fork', space.id, start, count, onFork);
    this.kernel.world.hit(['call:madvise dofork', 'call:madvise wipeonfork', 'call:madvise dontfork'][onFork]);
    for (let at = start; at < start + count; at++) if (space.tag[at] !== 0) space.onFork[at] = onFork;
  }

  /** The child exists when the call has gone on; its userfaultfd comes with the event. */
  fork(thread: SimThread): void {
    const { space } = thread;
    const { world } = this.kernel;
    const child = new SimSpace(world);
    space.copyTo(child);
    for (let at = 0; at < WINDOW; at++) if (space.onFork[at] === OnFork.none) this.cut(child, at, 1);
    this.enter(thread, 'fork', 0, 0, () => {
      this.kernel.spaces.push(child);
      this.spawn(child);
      thread.unborn = null;
      return true;
    });
    thread.unborn = child;
    if (this.anyRegistered(space, 0, WINDOW)) this.kernel.raise(thread, 'fork', 0, 0, 0, child);
  }

  /** exit, a deadly signal, or exec: all threads are gone, and what they were waiting for. */
  exit(space: SimSpace): void {
    const { world } = this.kernel;
    world.note('exit', space.id);
    world.hit(space.id === 0 ? 'call:target exits' : 'call:child exits');
    if (space.faults.length > 0) world.hit('exit with faults open');
    space.isAlive = false;
    space.isKept = space.hasHelper && world.random.chance(0.5);
    for (const thread of space.threads) if (thread.unborn !== null) thread.unborn.isAlive = false;
    space.threads.length = 0;
    space.faults = [];
    space.events = [];
    space.changing = 0;
    // Nobody watches a process whose fork raised no event.
    if (space.id < 0) this.kernel.spaces.splice(this.kernel.spaces.indexOf(space), 1);
  }
}
