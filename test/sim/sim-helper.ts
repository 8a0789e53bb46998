/**
 * The helper process of a simulated target: takes pages away, by UFFDIO_MOVE or by write-protect, copy and madvise. The
 * target goes on running between the stages of either, and what it has to say meanwhile is read early and kept until
 * the end of the turn.
 */
import { Errno, HASH_WORDS } from '../../src/core/layout.js';
import { Bit, type EventMessage, type FaultMessage, type SimSpace } from './space.js';
import type { Program } from './schedule.js';
import type { SimKernel } from './sim-kernel.js';
import { GARBAGE, type SimStore } from './sim-store.js';
import type { World } from './world.js';

interface EarlyMessage {
  readonly space: SimSpace;
  readonly fault?: FaultMessage;
  readonly event?: EventMessage;
}

export class SimHelper {
  private early: EarlyMessage[] = [];

  constructor(
    private readonly world: World,
    private readonly kernel: SimKernel,
    private readonly store: SimStore,
    private readonly program: Program,
    private readonly frameHashes: Int32Array,
    private readonly foster: (parent: SimSpace, fork: EventMessage) => void,
  ) {}

  /** An event of the space has been read and not handed over: whatever the pager asks for may be outdated. */
  isChanging(space: SimSpace): boolean {
    return this.early.some((message) => message.space === space && message.event !== undefined);
  }

  /** Messages of the target that were read while a discard waited for its own event. */
  takeEarly(): EarlyMessage[] {
    const { early } = this;
    if (early.length > 0) this.early = [];
    return early;
  }

  moveOut(space: SimSpace, place: number, frame: number, status: Int32Array): void {
    for (let i = 0; i < status.length; i++) {
      if (this.world.random.chance(0.05)) this.program.steps(2);
      const content = this.kernel.move(space, place + i);
      status[i] = this.kernel.errno;
      if (status[i] !== 0) continue;
      this.keep(frame + i, content);
      status[i] = this.kernel.taken(space, place + i, content);
    }
  }

  /** Protect, copy, drop; the target does what it likes between the stages. */
  discard(space: SimSpace, place: number, frame: number, status: Int32Array): void {
    const { kernel, store, world } = this;
    for (let i = 0; i < status.length; i++) {
      kernel.protect(space, place + i, 1, true);
      status[i] = kernel.errno;
    }
    this.program.steps(4);
    for (let i = 0; i < status.length; i++) {
      if (status[i] !== 0) continue;
      const at = place + i;
      if (space.has(at, Bit.poison)) status[i] = Errno.EINVAL;
      else if (!space.has(at, Bit.present) || !space.has(at, Bit.protected)) status[i] = Errno.ENOENT;
      else if (space.access[at] === 0) status[i] = Errno.EINVAL;
      else this.keep(frame + i, space.content[at]);
    }
    for (let from = 0; from < status.length;) {
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
        // Dropped, unmapped or moved away since it was copied. What stands there unprotected is something else: a real
        // madvise would drop that, a race of the discard path that nobody can close; the simulator spares it.
        else if (!space.has(at, Bit.registered) || !space.has(at, Bit.protected)) status[i] = Errno.ENOENT;
        else if (!space.has(at, Bit.present)) status[i] = Errno.ENOENT;
        else if (!kernel.calm && world.random.chance(world.config.busy)) status[i] = Errno.EAGAIN;
        else if (store.frames[frame + i] !== space.content[at])
          world.fail(`page +${at} changed under its write protection`);
        else {
          const content = space.content[at];
          space.drop(at);
          status[i] = kernel.taken(space, at, content);
          continue;
        }
        if (status[i] !== 0) store.frames[frame + i] = GARBAGE;
      }
      from = to;
    }
  }

  private keep(frame: number, content: number): void {
    this.store.frames[frame] = content;
    hashOf(content, this.frameHashes, frame * HASH_WORDS);
  }

  /** The helper's madvise raises an event of our own; messages of the target that come before it are read with it. */
  private ownMadvise(space: SimSpace): void {
    const { kernel } = this;
    if (!space.isAlive) return;
    this.program.steps(2);
    if (!space.isAlive) return;
    space.changing++;
    space.events.push({ kind: 'own', start: 0, count: 0, to: 0, thread: null, child: null });
    this.program.steps(2);
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
    this.program.steps(3);
  }
}

/** 128 bits that differ when the contents do. */
export function hashOf(content: number, out: Int32Array, at: number): void {
  for (let i = 0; i < HASH_WORDS; i++) {
    let h = Math.imul(content ^ (0x9e3779b9 * (i + 1)), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 15), 0xc2b2ae35);
    out[at + i] = h ^ (h >>> 13);
  }
}
