/**
 * Detach: every stored page goes back into the target, then its ranges are unregistered. Faults are served all the
 * while. Nothing is unregistered before the last page is back: a missing page of a range without a handler reads as
 * zeros. A page that is lost is made to raise SIGBUS; where the kernel cannot do that (before Linux 6.6) it stays
 * registered, and whoever touches it waits.
 */
import type { Family } from '../family/family.js';
import type { FaultPath } from '../faults/fault-path.js';
import { BATCH_PAGES } from '../core/layout.js';
import { PageFlag, State } from '../tables/page-table.js';
import { SlotState } from '../tables/slot-table.js';
import { type SpaceId, pageIndex, vpn } from '../core/types.js';

/** Pages looked at in one turn. */
const LOOK_PAGES = 4096;
/** Pages wanted in one turn. */
const WANT_PAGES = 4 * BATCH_PAGES;
/**
 * Pages whose read fails and is tried again, at most: each may take ten seconds, and a store that is gone fails them
 * all.
 */
const FAILING_PAGES = 16384;

export class Restorer {
  private regionAt = 0;
  private offset = 0;

  constructor(
    private readonly family: Family,
    private readonly faults: FaultPath,
  ) {}

  /** Pages still out of the target that can be put back. */
  get left(): number {
    const { counts } = this.family.pages;
    return (
      -this.stranded + counts[State.evicting] + counts[State.buffered] + counts[State.fetching] + counts[State.stored]
    );
  }

  /** Lost pages that nothing can be put in place of. */
  get stranded(): number {
    const { engine, lost } = this.family;
    return engine.canPoison ? 0 : lost.size;
  }

  /** Whether there is something to do now. */
  get due(): boolean {
    const { failing, inFlight } = this.faults.fetcher;
    return inFlight === 0 && failing < FAILING_PAGES && this.left > failing;
  }

  /** Asks for the next pages, as if threads waited for them. The caller serves. */
  run(): void {
    const { family, faults } = this;
    const { pages, regions, slots } = family;
    let looked = 0;
    let wanted = faults.waiting;
    while (
      looked < LOOK_PAGES &&
      wanted < WANT_PAGES &&
      faults.fetcher.inFlight < WANT_PAGES &&
      faults.fetcher.failing < FAILING_PAGES
    ) {
      const region = regions.all()[this.regionAt];
      if (region === undefined) {
        this.regionAt = 0;
        this.offset = 0;
        return;
      }
      if (this.offset >= region.count) {
        this.regionAt++;
        this.offset = 0;
        continue;
      }
      const page = pageIndex(region.first + this.offset++);
      looked++;
      const state = pages.state[page];
      if ((state !== State.stored && state !== State.buffered) || pages.has(page, PageFlag.waiting | PageFlag.mapping))
        continue;
      if (state === State.stored && slots.state[pages.slotOf(page)] === SlotState.free)
        throw new Error(`page ${page} is STORED in a free slot`);
      faults.restore(page);
      wanted++;
    }
  }

  /** Everything is back: gives the ranges up, but for pages that nothing could be put in place of. */
  finish(): void {
    const { family } = this;
    const kept = this.stranded > 0 ? [...family.lost].sort((a, b) => a - b) : [];
    for (const { space, start, first, count } of family.regions.all()) {
      let from = 0;
      for (const page of kept) {
        if (page < first || page >= first + count) continue;
        this.unregister(space, start + from, page - first - from);
        from = page - first + 1;
      }
      this.unregister(space, start + from, count - from);
    }
    if (kept.length === 0) return;
    family.notify(
      'warn',
      'pages of the target are lost, and this kernel cannot make them raise SIGBUS: a thread that touches one waits for ever, and so does a fork',
      {
        pages: kept.length,
      },
    );
  }

  private unregister(space: SpaceId, start: number, count: number): void {
    if (count > 0) this.family.engine.unregister(space, vpn(start), count);
  }
}
