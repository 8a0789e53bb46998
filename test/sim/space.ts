/**
 * One simulated address space: page tables, mappings, threads, and the queues of its userfaultfd. All pages lie in a
 * small window of virtual page numbers, placed so that it crosses a multiple of 2^30 (where a number takes two words).
 */
import type { Mapping } from '../../src/core/engine.js';
import { vpn } from '../../src/core/types.js';
import { Oracle } from './oracle.js';
import type { World } from './world.js';

export const WINDOW = 2048;
export const BASE = 31 * 2 ** 30 - 700;

/** What a page table entry says, and what the mapping around it is. */
export const Bit = {
  present: 1,
  protected: 2,
  shared: 4,
  lazy: 8,
  zeroPage: 16,
  poison: 32,
  pinned: 64,
  registered: 128,
} as const;
/** What belongs to the page and not to its mapping: goes when the page is dropped. */
export const PAGE_BITS = Bit.present | Bit.protected | Bit.shared | Bit.lazy | Bit.zeroPage | Bit.poison | Bit.pinned;

export const Access = { none: 0, read: 1, write: 3 } as const;

/** What a forked child gets of a page: a copy, zeros (MADV_WIPEONFORK), or no mapping (MADV_DONTFORK). */
export const OnFork = { copy: 0, wipe: 1, none: 2 } as const;
const ON_FORK_FLAGS = [[], ['wf'], ['dc']];

/** Kinds of mappings; a page's tag is an index into this list. Only `paged` ones may be registered. */
export interface Kind {
  readonly name: string;
  readonly path: string;
  readonly inode: number;
  readonly shared: boolean;
  readonly flags: readonly string[];
  readonly paged: boolean;
  /** Register gives EBUSY: the program uses userfaultfd on it itself. */
  readonly foreign: boolean;
}
const anonymous = { path: '', inode: 0, shared: false, flags: ['ac'], paged: true, foreign: false };
export const KINDS: readonly Kind[] = [
  { ...anonymous, name: 'hole', paged: false },
  { ...anonymous, name: 'anonymous' },
  { ...anonymous, name: 'anonymous, apart' },
  { ...anonymous, name: 'heap', path: '[heap]' },
  { ...anonymous, name: 'foreign', foreign: true, flags: ['um'] },
  { ...anonymous, name: 'main stack', path: '[stack]', flags: ['gd'], paged: false },
  { ...anonymous, name: 'locked', flags: ['lo'], paged: false },
  { ...anonymous, name: 'shared', path: '/dev/zero (deleted)', inode: 7, shared: true, flags: ['sh'], paged: false },
  { ...anonymous, name: 'file', path: '/usr/lib/libc.so.6', inode: 42, paged: false },
  { ...anonymous, name: "the helper's own", paged: false },
];
export const OWN = KINDS.length - 1;
export const ANONYMOUS = 1;
export const APART = 2;
export const HEAP = 3;

/** A call of a thread that takes more than one step. */
export interface Call {
  readonly name: string;
  start: number;
  count: number;
  /** What is still to be done after the event has been read; answers whether the call is over. */
  readonly proceed: () => boolean;
}

export const ThreadState = { running: 0, faulting: 1, waiting: 2, calling: 3 } as const;

export class SimThread {
  state: number = ThreadState.running;
  /** The access it is in the middle of: page or -1. */
  page = -1;
  isWrite = false;
  /** Turn in which it began to wait. */
  since = 0;
  call: Call | null = null;
  /** The place that its mremap has moved pages away from. */
  moved: { start: number; count: number } | null = null;
  /** When its event was read, ns: a thread that may go on does so before long. */
  readAt = 0;
  /** The child that its fork will start. */
  unborn: SimSpace | null = null;
  // The walk it is on.
  cursor = 0;
  stride = 1;
  left = 0;
  writes = 0;

  constructor(
    readonly id: number,
    readonly space: SimSpace,
  ) {}
}

export interface FaultMessage {
  readonly thread: SimThread;
  readonly page: number;
  readonly flags: number;
}

export interface EventMessage {
  readonly kind: 'remove' | 'unmap' | 'remap' | 'fork' | 'own';
  readonly start: number;
  readonly count: number;
  readonly to: number;
  readonly thread: SimThread | null;
  readonly child: SimSpace | null;
}

/** A part of the address space that the program uses: what its allocator knows. */
export interface Area {
  start: number;
  count: number;
}

/** Pages that a device writes to. */
export interface Pin {
  readonly start: number;
  readonly count: number;
  readonly until: number;
}

export class SimSpace {
  /** The engine's name for it, or -1 while nobody has read the fork event. */
  id = -1;
  isAlive = true;
  /** The process is gone but a helper keeps its memory: the kernel still serves calls on it. */
  isKept = false;
  hasHelper = true;
  isDropped = false;
  readonly bits = new Uint8Array(WINDOW);
  readonly access = new Uint8Array(WINDOW);
  readonly tag = new Uint8Array(WINDOW);
  readonly content = new Int32Array(WINDOW);
  /** 1: the pager has been told that the kernel needs this page when a thread exits. */
  readonly needed = new Uint8Array(WINDOW);
  readonly onFork = new Uint8Array(WINDOW);
  /** Given to MADV_FREE and still there: a pager cannot see whether it is in use again. */
  readonly unaccountable = new Uint8Array(WINDOW);
  readonly oracle: Oracle;
  readonly threads: SimThread[] = [];
  readonly areas: Area[] = [];
  readonly pins: Pin[] = [];
  faults: FaultMessage[] = [];
  events: EventMessage[] = [];
  /** mmap_changing: calls that have raised an event and have not gone on. */
  changing = 0;
  /** The turn in which a fork was last told of: until it is over the pager has not looked at what the child gets. */
  forkToldAt = -1;

  constructor(world: World) {
    this.oracle = new Oracle(world, () => this.id, WINDOW);
  }

  has(page: number, bit: number): boolean {
    return (this.bits[page] & bit) !== 0;
  }

  drop(page: number): void {
    this.bits[page] &= ~PAGE_BITS;
    this.content[page] = 0;
    this.unaccountable[page] = 0;
  }

  place(page: number, content: number, more: number): void {
    this.bits[page] = (this.bits[page] & ~PAGE_BITS) | Bit.present | more;
    this.content[page] = content;
  }

  map(start: number, count: number, tag: number, access: number): void {
    this.bits.fill(0, start, start + count);
    this.unaccountable.fill(0, start, start + count);
    this.content.fill(0, start, start + count);
    this.tag.fill(tag, start, start + count);
    this.needed.fill(0, start, start + count);
    this.onFork.fill(OnFork.copy, start, start + count);
    this.access.fill(access, start, start + count);
    this.oracle.clear(start, count);
  }

  private sameMapping(a: number, b: number): boolean {
    return (
      this.tag[a] === this.tag[b] &&
      this.onFork[a] === this.onFork[b] &&
      this.access[a] === this.access[b] &&
      this.has(a, Bit.registered) === this.has(b, Bit.registered)
    );
  }

  /** The end of the mapping that holds the page, in the kernel's sense: neighbours that differ in nothing are one. */
  mappingEnd(page: number): number {
    let end = page + 1;
    while (end < WINDOW && this.sameMapping(page, end)) end++;
    return end;
  }

  mappings(): Mapping[] {
    const found: Mapping[] = [];
    for (let at = 0; at < WINDOW;) {
      const end = this.mappingEnd(at);
      const kind = KINDS[this.tag[at]];
      if (this.tag[at] !== 0) {
        const access = this.access[at];
        const letters = `${access & 1 ? 'r' : '-'}${access & 2 ? 'w' : '-'}-${kind.shared ? 's' : 'p'}`;
        const flags = [
          ...(access & 1 ? ['rd'] : []),
          ...(access & 2 ? ['wr'] : []),
          'mr',
          'mw',
          'me',
          ...kind.flags,
          ...ON_FORK_FLAGS[this.onFork[at]],
        ];
        if (this.has(at, Bit.registered)) flags.push('um', 'uw');
        found.push({
          start: vpn(BASE + at),
          end: vpn(BASE + end),
          permissions: letters,
          inode: kind.inode,
          path: kind.path,
          flags,
        });
      }
      at = end;
    }
    return found;
  }

  /** A free place for `count` pages, or -1. Looks from `from` on, as mmap does in its own way. */
  findHole(count: number, from: number): number {
    for (let tries = 0, at = from % WINDOW; tries < 2; at = 0, tries++) {
      for (let run = 0; at < WINDOW; at++) {
        run = this.tag[at] === 0 ? run + 1 : 0;
        if (run === count) return at - count + 1;
      }
    }
    return -1;
  }

  /** No thread but `self` is in the middle of something there, and no device. */
  isQuiet(start: number, count: number, self: SimThread | null): boolean {
    const end = start + count;
    for (const thread of this.threads) {
      if (thread === self) continue;
      if (thread.page >= start && thread.page < end) return false;
      if (thread.call !== null && thread.call.start < end && start < thread.call.start + thread.call.count)
        return false;
    }
    return this.isUnpinned(start, count) && !this.isJustLeft(start, count);
  }

  /**
   * A mremap, whose events are still to come, has moved pages away from there. Whatever another call does there now,
   * its event would come first, and no pager could tell what has moved where.
   */
  isJustLeft(start: number, count: number): boolean {
    return this.threads.some(
      ({ call, moved }) =>
        call?.name === 'mremap' && moved !== null && moved.start < start + count && start < moved.start + moved.count,
    );
  }

  isUnpinned(start: number, count: number): boolean {
    return !this.pins.some((pin) => pin.start < start + count && start < pin.start + pin.count);
  }

  copyTo(child: SimSpace): void {
    child.tag.set(this.tag);
    child.access.set(this.access);
    for (let i = 0; i < WINDOW; i++) {
      let bits = this.bits[i];
      if (bits & Bit.present && this.onFork[i] === OnFork.copy) {
        // A pinned page is copied at once and stays the parent's own.
        if (!(bits & (Bit.pinned | Bit.zeroPage))) this.bits[i] = bits |= Bit.shared;
      }
      child.bits[i] = bits & ~Bit.pinned;
      child.content[i] = this.content[i];
      child.unaccountable[i] = this.unaccountable[i];
    }
    for (const area of this.areas) child.areas.push({ ...area });
    this.oracle.copyTo(child.oracle);
    child.onFork.set(this.onFork);
    for (let i = 0; i < WINDOW; i++) {
      if (this.onFork[i] === OnFork.none) child.map(i, 1, 0, Access.none);
      else if (this.onFork[i] === OnFork.wipe) {
        child.drop(i);
        child.oracle.clear(i, 1);
      }
    }
  }
}
