/**
 * Adoption: gives a forked child a helper of its own, so that its pages can be evicted. Until then, and after the loss
 * of a helper, the pages of the space are `fixed`: resident, not counted, and not in the victim policy.
 */
import { type PageIndex, type SpaceId, pageIndex } from '../core/types.js';
import type { Family } from '../family/family.js';
import { PageFlag, State } from '../tables/page-table.js';

/** A child that waits in a system call for a page of ours cannot be stopped: it is tried again, this often at most. */
const TRIES_MOST = 10;
const RETRY_NS = 1e9;

export class Adoption {
  /** Children that have no helper yet: number of tries, and when the next is due, in ns. */
  private readonly tried = new Map<SpaceId, { tries: number; dueAt: number }>();

  constructor(private readonly family: Family) {}

  /** A thread of a child without a helper has faulted: tries to give the child one, then counts its pages. */
  adopt(space: SpaceId, thread: number): void {
    const { family } = this;
    const { tries, dueAt } = this.tried.get(space) ?? { tries: 0, dueAt: 0 };
    if (tries === TRIES_MOST || family.now < dueAt) return;
    this.tried.set(space, { tries: tries + 1, dueAt: family.now + RETRY_NS });
    if (!family.engine.adopt(space, thread)) return;
    for (const page of this.pagesOf(space)) {
      // Counted already: the loss of the last helper has not been reported yet.
      if (!family.pages.has(page, PageFlag.fixed)) continue;
      family.pages.lower(page, PageFlag.fixed);
      if (family.pages.state[page] === State.resident) family.count(page, true);
    }
    family.limit.raiseCeiling();
  }

  /** The space has lost its helper: its pages cannot be evicted any more, and no longer count. */
  fix(space: SpaceId): void {
    const { family } = this;
    for (const page of this.pagesOf(space)) {
      if (family.pages.state[page] === State.resident) family.leaveResident(page);
      family.pages.raise(page, PageFlag.fixed);
    }
  }

  /** The space is gone. */
  drop(space: SpaceId): void {
    this.tried.delete(space);
  }

  private *pagesOf(space: SpaceId): Generator<PageIndex> {
    for (const { first, count } of this.family.regions.of(space))
      for (let i = 0; i < count; i++) yield pageIndex(first + i);
  }
}
