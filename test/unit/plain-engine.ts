/**
 * The least engine that a pager can run on: one mapping, every command succeeds in the same turn, and one page of a
 * given pattern is touched a turn. It allocates nothing in a turn, so that what the pager allocates can be measured.
 */
import { REPLICAS } from '../../src/tables/chunks.js';
import type { Engine, Mapping } from '../../src/core/engine.js';
import {
  Command,
  COMMAND_WORDS,
  Errno,
  Event,
  EVENT_WORDS,
  HASH_WORDS,
  PLACE_SHIFT,
  vpnHigh,
  vpnLow,
} from '../../src/core/layout.js';
import { type Vpn, vpn } from '../../src/core/types.js';

const START = vpn(0x7f0000000);
/** The content that stands for a page of zeros. */
const ZEROS = 1;

export class PlainEngine implements Engine {
  readonly commands = new Int32Array(1024 * COMMAND_WORDS);
  readonly events = new Int32Array(8192 * EVENT_WORDS);
  readonly clock = new Float64Array(2);
  readonly frameHashes: Int32Array;
  readonly zeroHash = new Int32Array(HASH_WORDS).fill(ZEROS);
  readonly canMove = true;
  canPoison = true;
  readonly readsOverlap = true;
  /** 1: mapped. */
  readonly present: Uint8Array;
  /** What each page holds; a number that stands for its bytes. */
  readonly content: Int32Array;
  /** 1: a missing page is a fault; otherwise it reads as zeros. */
  readonly registered: Uint8Array;
  /** Pages that cannot be moved out. */
  readonly pinned = new Set<number>();
  /** Pages that the kernel needs when a thread exits, and how often each was taken. */
  readonly needed = new Map<number, number>();
  /** The errno of a read of this slot from this place; 0: it goes well. */
  readErrno: (slot: number, place: number) => number = () => 0;
  /** The same of a write. */
  writeErrno: (slot: number, place: number) => number = () => 0;
  /** How long the pager would have waited, ns: the clock goes on by it when nothing happens. */
  waited = 0;
  /** Pages that were discarded. */
  discarded = 0;
  touches = 0;
  faults = 0;
  /** What each place's slots hold: the swap file, the replicas. */
  readonly places: readonly Int32Array[];
  /** Pages whose touch raises SIGBUS. */
  readonly poisoned = new Set<number>();
  private words = 0;
  /** The page that the target waits for, or -1. */
  private awaited = -1;
  private mapped: Mapping[];
  /** A page that the target gives up (MADV_DONTNEED) in the next turn, or -1. */
  private removed = -1;

  /** @param touch the page that the n-th touch goes to  @param writes whether a touch changes the page */
  constructor(
    readonly pages: number,
    frames: number,
    private readonly touch: (n: number) => number,
    private readonly writes: (n: number) => boolean,
  ) {
    this.frameHashes = new Int32Array(frames * HASH_WORDS);
    this.present = new Uint8Array(pages).fill(1);
    this.registered = new Uint8Array(pages);
    this.content = new Int32Array(pages).map((_, i) => i + 2);
    this.places = Array.from({ length: 1 + REPLICAS }, () => new Int32Array(pages * 2));
    this.mapped = [
      { start: START, end: vpn(START + pages), permissions: 'rw-p', inode: 0, path: '', flags: ['rd', 'wr'] },
    ];
  }

  turn(commandWords: number, waitNs = 0): number {
    this.words = 0;
    for (let at = 0; at < commandWords; at += COMMAND_WORDS) {
      this.execute(this.commands[at], this.commands[at + 1], this.commands[at + 2], this.commands[at + 3]);
    }
    this.clock[0] += 1000;
    this.clock[1] = this.clock[0];
    if (this.removed >= 0) {
      const [start, end] = [START + this.removed, START + this.removed + 1];
      this.emit(Event.remove, 0, vpnLow(start), vpnHigh(start), vpnLow(end), vpnHigh(end));
      this.removed = -1;
    }
    // The target runs until it touches a page that is out; if that page is on its way the turn brings nothing more.
    for (let steps = 0; steps < 64; steps++) {
      const page = this.touch(this.touches);
      if (this.present[page] === 0 && !this.poisoned.has(page)) {
        if (page === this.awaited) break;
        this.awaited = page;
        this.faults++;
        this.emit(Event.fault, page, 7, 0, 0, 0);
        break;
      }
      this.awaited = -1;
      if (this.writes(this.touches)) this.content[page] += this.pages;
      this.touches++;
    }
    if (this.words === 0) {
      this.waited += waitNs;
      this.clock[0] += waitNs;
    }
    return this.words;
  }

  /** A thread of the target gives up a page that is out. */
  remove(page: number): void {
    this.removed = page;
  }

  /** The target maps so many pages more, of which nothing is known here: they must not be registered. */
  mapMore(pages: number): void {
    const start = vpn(START + 2 * this.pages);
    this.mapped = [...this.mapped, { ...this.mapped[0]!, start, end: vpn(start + pages) }];
  }

  private execute(word: number, first: number, frame: number, count: number): void {
    const command = word & ((1 << PLACE_SHIFT) - 1);
    const place = word >> PLACE_SHIFT;
    const slots = this.places[place];
    if (command === Command.moveOut && this.pinned.size + this.needed.size > 0)
      return this.moveOneByOne(first, frame, count);
    let errno = 0;
    const transfer =
      command === Command.read ? this.readErrno : command === Command.write ? this.writeErrno : undefined;
    for (let slot = first; transfer && slot < first + count; slot++) errno ||= transfer(slot, place);
    for (let i = 0; i < count; i++) {
      const hash = (frame + i) * HASH_WORDS;
      if (command === Command.poison) this.poisoned.add(first + i);
      else if (command === Command.zero) {
        this.present[first + i] = 1;
        this.content[first + i] = ZEROS;
      } else if (command === Command.map) {
        if (this.frameHashes[hash] !== this.content[first + i])
          throw new Error(`page ${first + i} is given another page's bytes`);
        this.present[first + i] = 1;
      } else if (command === Command.moveOut || command === Command.discard) {
        if (command === Command.discard) this.discarded++;
        this.present[first + i] = 0;
        this.frameHashes.fill(this.content[first + i], hash, hash + HASH_WORDS);
      } else if (command === Command.write) slots[first + i] = errno === 0 ? this.frameHashes[hash] : 0;
      else if (command === Command.read) this.frameHashes.fill(slots[first + i], hash, hash + HASH_WORDS);
      else throw new Error(`command ${command} was not expected`);
    }
    if (command === Command.map) this.emit(Event.mapped, first, frame, count, 0, count);
    else if (command === Command.zero || command === Command.poison)
      this.emit(Event.mapped, first, -1, count, 0, count);
    else if (command === Command.moveOut || command === Command.discard)
      this.emit(Event.evicted, first, frame, count, 0, command);
    else this.emit(command === Command.write ? Event.writeDone : Event.readDone, first, frame, count, errno, place);
  }

  private moveOneByOne(first: number, frame: number, count: number): void {
    for (let page = first; page < first + count; page++, frame++) {
      const taken = this.needed.get(page);
      const errno = this.pinned.has(page) ? Errno.EBUSY : taken !== undefined ? Errno.EPERM : 0;
      if (taken !== undefined) this.needed.set(page, taken + 1);
      if (errno !== Errno.EBUSY) {
        this.present[page] = 0;
        this.frameHashes.fill(this.content[page], frame * HASH_WORDS, (frame + 1) * HASH_WORDS);
      }
      this.emit(Event.evicted, page, frame, 1, errno, Command.moveOut);
    }
  }

  protected emit(kind: number, a: number, b: number, c: number, d: number, e: number): number {
    const at = this.words;
    this.events[at] = kind;
    this.events[at + 1] = a;
    this.events[at + 2] = b;
    this.events[at + 3] = c;
    this.events[at + 4] = d;
    this.events[at + 5] = e;
    this.words = at + EVENT_WORDS;
    return this.words;
  }

  register(_space: number, start: number, count: number): number {
    if (start - START + count > this.pages) throw new Error('a mapping is registered that is to be left alone');
    this.registered.fill(1, start - START, start - START + count);
    return 0;
  }
  unregister(_space: number, start: number, count: number): number {
    this.registered.fill(0, start - START, start - START + count);
    return 0;
  }
  protect(): number {
    return 0;
  }
  bind(): void {}
  unbind(): void {}
  mappingList(): string {
    return JSON.stringify(this.mappings());
  }
  mappings(): Mapping[] {
    return this.mapped;
  }
  ownArea(): { start: Vpn; end: Vpn } {
    return { start: vpn(0), end: vpn(0) };
  }
  residency(_space: number, start: number, count: number, out: Uint8Array): number {
    out.set(this.present.subarray(start - START, start - START + count));
    return 0;
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
