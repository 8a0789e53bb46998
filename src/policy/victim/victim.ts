/**
 * A victim policy: which resident pages to take away next. It sees what a pager in user space sees: pages that become
 * resident, and whether each came back soon after it had been evicted (from a frame, or within the ghost's memory); it
 * cannot see touches of mapped pages. Pure; no allocation after `reserve`.
 */
import type { PageIndex } from '../../core/types.js';

export interface VictimPolicy {
  readonly name: string;
  /** Makes room for pages [0, pages). Rare; may allocate. */
  reserve(pages: number): void;
  /** The page has become resident. `ahead`: mapped before it was touched. */
  inserted(page: PageIndex, ahead: boolean): void;
  /**
   * The page that is about to become resident is one that a stream passes: when its thread has gone on, nobody wants it
   * before the stream comes by again.
   */
  streamed(page: PageIndex): void;
  /** The page has left memory otherwise than by `next` (removed, unmapped, moved away). Idempotent. */
  removed(page: PageIndex): void;
  /**
   * Takes up to `want` victims out of the policy, oldest first, into out[0..]. What could not be evicted comes back
   * through `restored`.
   * @returns how many.
   */
  next(want: number, out: Int32Array): number;
  /**
   * A victim that could not be taken away (pinned, protected): it is resident still, and not to be offered again at
   * once.
   */
  restored(page: PageIndex): void;
}
