/**
 * S3-FIFO (Yang et al., SOSP 2023) on what a pager in user space sees. Its two queues and its ghost are here; a
 * reference to a page while it is in a queue cannot be seen, so that only a return from the ghost moves a page to the
 * main queue, and the main queue is a plain FIFO.
 *
 *     new -> small (a tenth) -> out, remembered for as many evictions as there are residents -> back within that: main
 *     -> out
 */
import type { PageIndex } from '../../core/types.js';
import { PageLists } from './lists.js';
import type { VictimPolicy } from './victim.js';

const SMALL = 0;
const MAIN = 1;
const SMALL_SHARE = 0.1;

export class S3FifoPolicy implements VictimPolicy {
  readonly name = 's3fifo';
  private readonly lists = new PageLists(2);
  /** 1 when the page is out and its note says since when. */
  private ghost = new Uint8Array(0);
  private clock = 0;

  reserve(pages: number): void {
    if (pages <= this.ghost.length) return;
    this.lists.reserve(pages);
    const wider = new Uint8Array(pages);
    wider.set(this.ghost);
    this.ghost = wider;
  }

  inserted(page: PageIndex): void {
    const { lists } = this;
    if (lists.listOf(page) >= 0) return;
    const remembered = this.ghost[page] === 1 && ((this.clock - lists.noteOf(page)) | 0) <= this.residents();
    this.ghost[page] = 0;
    lists.push(remembered ? MAIN : SMALL, page);
  }

  streamed(): void {}

  removed(page: PageIndex): void {
    if (this.lists.listOf(page) >= 0) this.lists.remove(page);
    this.ghost[page] = 0;
  }

  next(want: number, out: Int32Array): number {
    const count = Math.min(want, this.residents());
    for (let i = 0; i < count; i++) {
      const fromSmall = this.lists.size(SMALL) > SMALL_SHARE * this.residents() || this.lists.size(MAIN) === 0;
      const page = this.lists.shift(fromSmall ? SMALL : MAIN);
      this.ghost[page] = 1;
      this.lists.setNote(page, this.clock);
      this.clock = (this.clock + 1) | 0;
      out[i] = page;
    }
    return count;
  }

  /**
   * As a new page: in the main queue those that cannot be taken would keep the small one from ever being large enough
   * to be taken from.
   */
  restored(page: PageIndex): void {
    this.ghost[page] = 0;
    this.inserted(page);
  }

  private residents(): number {
    return this.lists.size(SMALL) + this.lists.size(MAIN);
  }
}
