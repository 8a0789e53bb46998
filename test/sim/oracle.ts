/**
 * The oracle: what the program must see, page by page, if nobody paged it. A content is a number; 0 is a page of zeros.
 *
 * A page that MADV_FREE was called on may become zeros at any time until it is written. A page that another thread is
 * about to drop with MADV_DONTNEED may be seen old or empty until that call has dropped it; what is written meanwhile
 * may have been written before the drop or after it, and the first look tells. Nothing else is uncertain.
 */
import type { World } from './world.js';

/** How sure it is that a page is not zeros. */
const Doubt = { none: 0, untilSeen: 1, untilWritten: 2 } as const;

export class Oracle {
  readonly value: Int32Array;
  /** The page may also read as zeros: a Doubt. */
  private readonly maybeZero: Uint8Array;
  /** Written since a call that will drop it began. */
  private readonly written: Uint8Array;
  /** Calls of madvise under way over the page that will drop it. */
  private readonly drops: Uint8Array;

  constructor(
    private readonly world: World,
    private readonly space: () => number,
    readonly pages: number,
  ) {
    this.value = new Int32Array(pages);
    this.maybeZero = new Uint8Array(pages);
    this.drops = new Uint8Array(pages);
    this.written = new Uint8Array(pages);
  }

  allows(at: number, content: number): boolean {
    if (content === this.value[at]) return true;
    return content === 0 && (this.maybeZero[at] !== 0 || this.drops[at] !== 0);
  }

  /** The program has read the page. What it saw once it may rely on, unless the page is still on its way out. */
  read(at: number, content: number): void {
    if (!this.allows(at, content)) {
      this.world.fail(`space ${this.space()} page +${at} reads ${content}, but the program must see ${this.value[at]}`);
    }
    if (this.drops[at] !== 0) this.world.hit('touch of a page that is about to be dropped');
    if (content === 0) {
      this.value[at] = 0;
      this.maybeZero[at] = Doubt.none;
    } else if (this.maybeZero[at] === Doubt.untilSeen && this.drops[at] === 0) {
      this.maybeZero[at] = Doubt.none;
    }
  }

  write(at: number, content: number): void {
    this.value[at] = content;
    this.maybeZero[at] = Doubt.none;
    this.written[at] = Number(this.drops[at] !== 0);
  }

  beginDrop(at: number, count: number): void {
    for (let i = at; i < at + count; i++) if (this.drops[i]++ === 0) this.written[i] = 0;
  }

  endDrop(at: number, count: number, lazily: boolean): void {
    for (let i = at; i < at + count; i++) {
      // The mapping may have been replaced while the call was waiting.
      if (this.drops[i] === 0) continue;
      this.drops[i]--;
      if (this.value[i] === 0) continue;
      if (lazily) this.maybeZero[i] = Doubt.untilWritten;
      else if (this.written[i] !== 0) this.maybeZero[i] = Math.max(this.maybeZero[i], Doubt.untilSeen);
      else {
        this.value[i] = 0;
        this.maybeZero[i] = Doubt.none;
      }
    }
  }

  clear(at: number, count: number): void {
    this.value.fill(0, at, at + count);
    this.maybeZero.fill(0, at, at + count);
    this.drops.fill(0, at, at + count);
    this.written.fill(0, at, at + count);
  }

  move(from: number, to: number, count: number): void {
    this.value.copyWithin(to, from, from + count);
    this.maybeZero.copyWithin(to, from, from + count);
    this.clear(from, count);
  }

  /** What a forked child must see: the same, and a drop under way in the parent may or may not have reached it. */
  copyTo(child: Oracle): void {
    child.value.set(this.value);
    child.maybeZero.set(this.maybeZero);
    for (let i = 0; i < this.pages; i++)
      if (this.drops[i] !== 0 && this.value[i] !== 0) child.maybeZero[i] = Doubt.untilWritten;
  }
}
