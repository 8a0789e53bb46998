/**
 * Eviction: keeps the resident pages at or below the limit, ahead of need. It starts when fewer than `margin` pages are
 * left below the limit and stops at twice that, so that in the steady state a fault finds room and never waits for it.
 *
 * A page that the kernel needs when a thread exits is known only when it is out: it goes back at once, and stays.
 *
 * Two ways out of the target (native/helper/helper.h): *move* takes a page away at once and refuses one that is pinned
 * or shared since a fork; *discard* write-protects, copies and drops it. A page that the first refuses is shared, or
 * pinned for DMA, and the kernel does not tell which. It goes the second way when somebody has looked, after the
 * refusal, that nothing in the family has its memory pinned: a device would go on writing to the old page.
 */
import type { Family } from '../family/family.js';
import type { Fetcher } from '../store/fetcher.js';
import { FrameState } from '../tables/frame-table.js';
import { BATCH_PAGES, Command, Errno, HASH_WORDS } from '../core/layout.js';
import { PageFlag, State } from '../tables/page-table.js';
import { PageQueue } from '../tables/page-queue.js';
import { type FrameIndex, NONE, type PageIndex, type SlotIndex, frameIndex, pageIndex } from '../core/types.js';
import type { WriteBack } from '../store/write-back.js';

const MARGIN_MAX = 256;
/** Victims at once while a thread waits for a read: about as long as that read takes. */
const HASTY_PAGES = 16;
/**
 * Refused pages that wait for that look, at most: then eviction waits too, and the limit gives way until somebody has
 * looked.
 */
const REFUSED_MOST = 4096;
/** A look says nothing of what was pinned after it: so long it counts. */
const CLEAR_NS = 100e6;
/** A stall that comes and goes is not reported more often than this. */
const SAY_AGAIN_NS = 60e9;
/** Fewer free frames than this share of all, an eighth, are scarce. */
const SCARCE_SHIFT = 3;

export class Evictor {
  /** The discard path may be used for pages that UFFDIO_MOVE refuses, once they are cleared. */
  discardRefused = true;
  /** Switched off while something in the target has its memory pinned. */
  enabled = true;
  /** No frame could be had for victims: io in flight will free some. */
  starved = false;
  /** Nor will any: the limit gives way for one turn. */
  private yielding = false;
  private readonly victim = new Int32Array(BATCH_PAGES);
  /**
   * Pages that UFFDIO_MOVE refused; how many have come in and gone out so far, and up to which one they are cleared.
   */
  private readonly refused = new PageQueue();
  private refusals = 0;
  private taken = 0;
  private clearedTo = 0;
  private clearedAt = 0;
  private failedInARow = 0;
  private saidAt = -Infinity;
  private readonly useMove: boolean;
  /** While frames are scarce, pages are given up for the sake of a run. See FrameTable.takeRun. */
  private readonly vacate: (frame: FrameIndex) => boolean;

  constructor(
    private readonly family: Family,
    private readonly writeBack: WriteBack,
    private readonly fetcher: Fetcher,
    /** The page is to go back into the target, as if a thread waited for it. */
    private readonly restore: (page: PageIndex) => void,
  ) {
    const { evict } = family.options;
    this.vacate = (frame) =>
      family.frames.freeAbove < family.frames.count >> SCARCE_SHIFT && family.clean.vacate(frame);
    this.useMove = evict !== 'discard' && family.engine.canMove;
  }

  private get margin(): number {
    return Math.max(1, Math.min(MARGIN_MAX, this.family.limit.pages >> 4));
  }

  /**
   * A thread waits for a read, which hides an eviction that is no longer. (Not in a stream: what limits that is how
   * fast pages go through here.)
   */
  private get isHidden(): boolean {
    return this.fetcher.demanded > 0 && this.fetcher.prefetching === 0 && this.family.engine.readsOverlap;
  }

  /** Whether there is something to evict now. */
  get due(): boolean {
    const { family } = this;
    return (
      this.enabled &&
      !family.detaching &&
      !family.limit.evictionStalled &&
      family.limit.room < this.margin &&
      family.limit.resident > 0 &&
      !this.writeBack.failing
    );
  }

  /**
   * Refused pages that are not cleared wait: how many refusals there have been, to be given to `clear` when nothing is
   * pinned; 0: none wait.
   */
  get refusalsToClear(): number {
    return this.refusals > this.clearedTo && this.refused.length > 0 ? this.refusals : 0;
  }

  /** Nothing had its memory pinned when somebody looked, who knew of so many refusals. */
  clear(refusals: number): void {
    const cleared = Math.min(refusals, this.refusals);
    if (cleared <= this.taken) return;
    this.clearedTo = Math.max(this.clearedTo, cleared);
    this.clearedAt = this.family.now;
    this.retry();
  }

  /** Commands one batch of victims, when eviction is due and frames can be had. */
  run(): void {
    const { family } = this;
    const { frames } = family;
    this.starved = false;
    if (this.yielding) family.limit.evictionStalled = !this.enabled || this.writeBack.failing;
    this.yielding = false;
    if (!this.due) return;
    if (family.refusedLeft) this.forgetRefused();
    const most = this.isHidden ? HASTY_PAGES : BATCH_PAGES;
    let want = Math.min(most, 2 * this.margin - family.limit.room, family.limit.resident, family.commands.room - 2);
    const { reserve } = this.fetcher;
    frames.leaveToReads(this.fetcher.recentNeed());
    family.clean.reclaim(want + Math.max(reserve, frames.freeBelow));
    want = Math.min(want, frames.free - reserve);
    this.starved = want <= 0;
    if (this.starved) return this.yieldIfHeld();
    if (this.takeRefused(want)) return;
    if (this.refused.length >= Math.min(REFUSED_MOST, 1 + (family.limit.resident >> 1))) {
      family.limit.evictionStalled = true; // without a word: whoever looks has one
      return;
    }
    const count = this.pick(want);
    if (count < 0)
      this.failed(Infinity); // all that are resident are kept
    else if (count > 0) this.command(this.useMove ? Command.moveOut : Command.discard, count);
    else this.failed(1);
  }

  /** With no io in flight it is the pages that wait for room that hold the frames, while room waits for a frame. */
  private yieldIfHeld(): void {
    const { family, fetcher, writeBack } = this;
    if (fetcher.inFlight + writeBack.inFlight + family.dirty.size > 0) return;
    this.yielding = family.limit.evictionStalled = true;
  }

  /**
   * Asks the policy for victims, and gives back at once what a thread is waiting for or a command is touching. @returns
   * how many; -1: it has none
   */
  private pick(want: number): number {
    const { pages, victims } = this.family;
    const offered = victims.next(want, this.victim);
    if (offered === 0) return -1;
    let count = 0;
    for (let i = 0; i < offered; i++) {
      const page = pageIndex(this.victim[i]);
      if (pages.has(page, PageFlag.waiting | PageFlag.mapping)) victims.restored(page);
      else this.victim[count++] = page;
    }
    return count;
  }

  private takeRefused(want: number): boolean {
    const { pages } = this.family;
    let count = 0;
    if (this.family.now - this.clearedAt > CLEAR_NS) this.clearedTo = this.taken;
    while (this.taken < this.clearedTo && count < want) {
      const page = this.refused.shift();
      this.taken++;
      pages.lower(page, PageFlag.refused);
      if (pages.state[page] !== State.resident || pages.has(page, PageFlag.waiting | PageFlag.mapping | PageFlag.fixed))
        this.reinstate(page);
      else this.victim[count++] = page;
    }
    if (count > 0) this.command(Command.discard, count);
    return count > 0;
  }

  /** Some stand for other pages now, which nobody has refused: all of them are to be moved once more. */
  private forgetRefused(): void {
    const { family, refused } = this;
    family.refusedLeft = false;
    while (refused.length > 0) {
      const page = refused.shift();
      family.pages.lower(page, PageFlag.refused);
      this.reinstate(page);
    }
    this.taken = this.refusals;
  }

  /** A page that was refused is to be a victim like any other again, if it is there. */
  private reinstate(page: PageIndex): void {
    const { pages, victims } = this.family;
    if (pages.state[page] === State.resident && !pages.has(page, PageFlag.fixed | PageFlag.kept))
      victims.inserted(page, false);
  }

  private command(command: number, count: number): void {
    const { family, victim } = this;
    const { pages, frames } = family;
    sort(victim, count);
    let frame: FrameIndex = frameIndex(NONE);
    let left = 0;
    for (let i = 0; i < count; i++) {
      const page = pageIndex(victim[i]);
      if (left === 0) {
        let neighbours = 1;
        while (i + neighbours < count && victim[i + neighbours] === page + neighbours) neighbours++;
        frame = frames.takeRun(neighbours, FrameState.evicting, this.vacate);
        left = frames.runLength;
      }
      pages.setState(page, State.evicting);
      frames.assign(frame, page, pages.slotOf(page));
      pages.locate(page, frame);
      family.command(command, page, frame);
      frame = frameIndex(frame + 1);
      left--;
    }
  }

  /** The result for a run of victims. */
  evicted(firstPage: number, firstFrame: number, count: number, errno: number, command: number): void {
    const before = this.family.limit.resident;
    for (let i = 0; i < count; i++)
      this.evictedOne(pageIndex(firstPage + i), frameIndex(firstFrame + i), errno, command);
    this.family.limit.lowerCeiling(before - this.family.limit.resident);
    if (
      errno === Errno.ok ||
      errno === Errno.EPERM ||
      errno === Errno.ENOENT ||
      (errno === Errno.EBUSY && command === Command.moveOut && this.discardRefused)
    )
      this.failedInARow = 0;
    else this.failed(count);
  }

  private evictedOne(page: PageIndex, frame: FrameIndex, errno: number, command: number): void {
    const { engine, frames } = this.family;
    if (errno === Errno.EPERM) {
      this.store(page, frame);
      this.family.pages.raise(page, PageFlag.kept);
      return this.restore(page);
    }
    const isThere = errno !== Errno.ENOENT;
    if (errno === Errno.ok && !isZero(engine.frameHashes, engine.zeroHash, frame)) {
      this.family.counters.evictions++;
      this.family.evicted.left(page);
      return this.store(page, frame);
    }
    const slot = frames.slotOf(frame);
    frames.release(frame);
    if (errno === Errno.ok || !isThere) this.emptied(page, slot, isThere);
    else this.stays(page, slot, errno, command);
  }

  /** The page is in `frame` now, and goes to the store from there. */
  private store(page: PageIndex, frame: FrameIndex): void {
    this.family.pages.setState(page, State.buffered);
    this.family.limit.leave();
    this.writeBack.keep(page, frame);
  }

  /**
   * The page was all zeros, or not there: dropped by the target, or never touched since it was registered. Nothing is
   * stored.
   */
  private emptied(page: PageIndex, slot: SlotIndex, wasThere: boolean): void {
    const { counters, pages } = this.family;
    pages.setState(page, State.empty);
    pages.locate(page, NONE);
    if (slot !== NONE) this.writeBack.release(slot);
    this.family.limit.leave();
    if (!wasThere) return;
    counters.zeroPages++;
    counters.evictions++;
  }

  /** The page could not be evicted and is resident as before. */
  private stays(page: PageIndex, slot: SlotIndex, errno: number, command: number): void {
    const { counters, pages, victims } = this.family;
    pages.setState(page, State.resident);
    pages.locate(page, slot);
    if (errno === Errno.EBUSY) counters.busyEvictions++;
    if (errno === Errno.EBUSY && command === Command.moveOut && this.discardRefused) {
      // The policy forgets it: a policy that offered refused pages only would evict nothing.
      victims.removed(page);
      pages.raise(page, PageFlag.refused);
      this.refused.push(page);
      this.refusals++;
    } else victims.restored(page);
    if (errno === Errno.ESRCH) this.family.rescan = true;
  }

  /**
   * Stops eviction, and lets the limit be exceeded, when more pages than are resident have failed one after the other.
   */
  private failed(pages: number): void {
    this.failedInARow += pages;
    const { family } = this;
    if (this.failedInARow <= family.limit.resident + BATCH_PAGES || family.limit.evictionStalled) return;
    family.limit.evictionStalled = true;
    if (family.now - this.saidAt < SAY_AGAIN_NS) return;
    this.saidAt = family.now;
    family.notify('warn', 'no resident page can be evicted now; the limit is exceeded until one can', {
      resident: family.limit.resident,
      limit: family.limit.pages,
    });
  }

  /** Something has changed, or time has passed: try again. */
  retry(): void {
    this.failedInARow = 0;
    this.family.limit.evictionStalled = !this.enabled || this.writeBack.failing;
  }
}

/** Insertion sort of at most a batch: victims come in runs already, and a library sort would allocate. */
function sort(values: Int32Array, count: number): void {
  for (let i = 1; i < count; i++) {
    const value = values[i];
    let at = i;
    for (; at > 0 && values[at - 1] > value; at--) values[at] = values[at - 1];
    values[at] = value;
  }
}

function isZero(hashes: Int32Array, zero: Int32Array, frame: FrameIndex): boolean {
  for (let word = 0; word < HASH_WORDS; word++) if (hashes[frame * HASH_WORDS + word] !== zero[word]) return false;
  return true;
}
