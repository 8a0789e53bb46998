/**
 * Which page followed which, for walks that come again in the same order at no stride: linked lists, trees, graphs.
 * (Correlation prefetching: Joseph and Grunwald, "Prefetching using Markov predictors", ISCA 1997; with one successor a
 * page, as in temporal streaming, Wenisch et al., ISCA 2005.)
 *
 * The successors form chains. A fault sees of a chain only what is out; pages on it that are resident now are stepped
 * over, and one that nobody has seen out before is put in where it turns up:
 *
 *     a -> b -> c       faults a, c: b is resident, the chain is right
 *     a -> b -> c       faults a, x: now a -> x -> b -> c
 *
 * A page of another chain is a stray at first: the walk may come back from it. Else it has changed over, and where that
 * happens twice, so does the chain.
 *
 * Nothing is read until the chains have foretold most of a thread's faults; until then they cost their look-ups only.
 */
import { NONE, type PageIndex } from '../../core/types.js';
import type { Plan } from './prefetcher.js';

/**
 * A direct-mapped table of pages: of a target with more pages than that, the newest. 8 MiB, of which only what is used
 * is ever touched.
 */
const ENTRIES = 2 ** 20;
/** A fault is foretold when it comes so many links behind the one before: those between are resident. */
const REACH = 8;
/**
 * A fault that was foretold earns one, another one costs DOUBT; from TRUSTED on the chain is believed, and at the most
 * also mapped ahead.
 */
const TRUST_MAX = 16;
const TRUSTED = 8;
const DOUBT = 2;
const FIRST_DEPTH = 4;

export class Succession {
  /**
   * The page of each entry, and the one that followed it; each + 1, so that 0 is nothing. Below 0: it did not the last
   * time.
   */
  private readonly page = new Int32Array(ENTRIES);
  private readonly follower = new Int32Array(ENTRIES);
  // One entry a thread:
  /** Where it is on its chain; and the page that it strayed to with its last fault, or NONE. */
  private readonly last: Int32Array;
  private readonly stray: Int32Array;
  private readonly trust: Uint8Array;
  /** 1: pages were mapped ahead, and with the next fault it is time for more. */
  private readonly passed: Uint8Array;
  /**
   * How many links the chain is planned ahead of the thread; and how many at once: twice as many when all were right,
   * half when it strayed.
   */
  private readonly lead: Int32Array;
  private readonly depth: Int32Array;

  constructor(rows: number) {
    this.last = new Int32Array(rows).fill(NONE);
    this.stray = new Int32Array(rows).fill(NONE);
    this.trust = new Uint8Array(rows);
    this.passed = new Uint8Array(rows);
    this.lead = new Int32Array(rows);
    this.depth = new Int32Array(rows);
  }

  /** The row is another thread's now. */
  clear(row: number): void {
    this.last[row] = NONE;
    this.stray[row] = NONE;
    this.trust[row] = 0;
    this.passed[row] = 0;
    this.lead[row] = 0;
    this.depth[row] = FIRST_DEPTH;
  }

  /** The next fault of the thread. */
  fault(row: number, page: PageIndex): void {
    const last = this.last[row];
    const stray = this.stray[row];
    if (last === page || stray === page) return;
    if (last === NONE) this.last[row] = page;
    else if (!this.goOn(row, last, page)) this.leave(row, last, stray, page);
  }

  /** The thread has come to a page that is not on its chain. */
  private leave(row: number, last: number, stray: number, page: PageIndex): void {
    const follower = this.after(last);
    if (stray === NONE) {
      if (follower !== NONE) {
        this.trust[row] = Math.max(0, this.trust[row] - DOUBT);
        this.depth[row] = Math.max(FIRST_DEPTH, this.depth[row] >> 1);
      }
      if (follower === NONE || this.after(page) === NONE) this.insert(row, last, page, follower);
      else this.stray[row] = page;
      return;
    }
    // It has not come back.
    this.changeOver(last, stray, follower);
    this.lead[row] = 0;
    this.last[row] = stray;
    this.stray[row] = NONE;
    if (!this.goOn(row, stray, page)) this.insert(row, stray, page, this.after(stray));
  }

  /**
   * What comes next on the chain, for a thread at `page`, when half of what was planned is used up, or has been mapped
   * ahead.
   */
  plan(row: number, page: PageIndex, most: number, plan: Plan): void {
    const { trust, lead, depth } = this;
    const half = depth[row] >> 1;
    if (trust[row] < TRUSTED || this.last[row] !== page || (this.passed[row] === 0 && lead[row] > half)) return;
    this.passed[row] = 0;
    if (trust[row] === TRUST_MAX && lead[row] <= half) depth[row] = Math.min(most, depth[row] * 2);
    let count = 0;
    for (let next = this.after(page); next !== NONE && count < depth[row]; next = this.after(next))
      plan.list[count++] = next;
    plan.listed = count;
    plan.mapAhead = this.trust[row] === TRUST_MAX;
    this.lead[row] = count;
  }

  /**
   * The first `passed` pages of the plan's list are resident now: the thread will not be seen before it comes to the
   * one behind them.
   */
  pass(row: number, plan: Plan): void {
    this.last[row] = plan.list[plan.passed - 1];
    this.lead[row] -= plan.passed;
    this.passed[row] = 1;
  }

  /** Whether the page is on the chain, not far behind `last`: then that is where the thread is now. */
  private goOn(row: number, last: number, page: number): boolean {
    let at = last;
    for (let distance = 1; distance <= REACH; distance++) {
      const next = this.after(at);
      if (next === NONE) return false;
      if (next === page) {
        this.set(at, page);
        this.trust[row] = Math.min(TRUST_MAX, this.trust[row] + 1);
        this.lead[row] = Math.max(0, this.lead[row] - distance);
        this.last[row] = page;
        this.stray[row] = NONE;
        return true;
      }
      at = next;
    }
    return false;
  }

  /** The page follows `last`, and what followed that follows the page, if nothing is known of it. */
  private insert(row: number, last: number, page: number, follower: number): void {
    if (this.after(page) !== NONE) this.lead[row] = 0;
    else if (follower !== NONE) this.set(page, follower);
    this.set(last, page);
    this.last[row] = page;
  }

  /** From now on another page follows `last`, if its follower did not come the last time either. */
  private changeOver(last: number, page: number, follower: number): void {
    const at = last & (ENTRIES - 1);
    if (follower === NONE || this.follower[at] < 0)
      this.set(last, page); // none: another page has taken the entry meanwhile
    else this.follower[at] = -(follower + 1);
  }

  private after(page: number): number {
    const at = page & (ENTRIES - 1);
    return this.page[at] === page + 1 ? Math.abs(this.follower[at]) - 1 : NONE;
  }

  private set(page: number, follower: number): void {
    const at = page & (ENTRIES - 1);
    this.page[at] = page + 1;
    this.follower[at] = follower + 1;
  }
}
