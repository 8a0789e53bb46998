/** What becomes of a page that the target has removed: nothing is kept of it, in no frame and in no slot. */
import type { Family } from '../family/family.js';
import { NONE, type PageIndex } from '../core/types.js';
import type { Fetcher } from '../store/fetcher.js';
import type { WriteBack } from '../store/write-back.js';
import { PageFlag, State } from '../tables/page-table.js';

export class PageRemoval {
  constructor(
    private readonly family: Family,
    private readonly fetcher: Fetcher,
    private readonly writeBack: WriteBack,
  ) {}

  /** RESIDENT, BUFFERED, FETCHING, STORED -> EMPTY: the page is zeros. A thread that waits for it gets zeros. */
  empty(page: PageIndex): void {
    const { pages } = this.family;
    const state = pages.state[page];
    if (state === State.empty) return;
    this.dropCopies(page, state);
    pages.setState(page, State.empty);
    pages.locate(page, NONE);
    pages.lower(page, PageFlag.prefetched | PageFlag.lost | PageFlag.kept);
  }

  /** Any state -> UNUSED: the page is unmapped. */
  forget(page: PageIndex): void {
    const { pages } = this.family;
    this.dropCopies(page, pages.state[page]);
    pages.setState(page, State.unused);
    pages.locate(page, NONE);
    pages.flags[page] &= PageFlag.queued; // its entry in the fault queue finds it UNUSED
  }

  private dropCopies(page: PageIndex, state: number): void {
    const { family } = this;
    const { pages } = family;
    if (state === State.resident) {
      family.leaveResident(page);
      const slot = pages.slotOf(page);
      if (slot !== NONE) this.writeBack.release(slot);
    } else if (state === State.stored) this.writeBack.release(pages.slotOf(page));
    else if (state === State.buffered) this.writeBack.leave(pages.frameOf(page), false);
    else if (state === State.fetching) this.fetcher.orphan(page, pages.frameOf(page));
    else if (state === State.evicting) throw new Error(`page ${page} is removed while it is EVICTING`);
    this.fetcher.forget(page);
  }
}
