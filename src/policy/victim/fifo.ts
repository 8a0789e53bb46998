/** First in, first out: the baseline. */
import type { PageIndex } from '../../core/types.js';
import { PageLists } from './lists.js';
import type { VictimPolicy } from './victim.js';

const RESIDENT = 0;

export class FifoPolicy implements VictimPolicy {
  readonly name = 'fifo';
  private readonly lists = new PageLists(1);

  reserve(pages: number): void {
    this.lists.reserve(pages);
  }

  inserted(page: PageIndex): void {
    if (this.lists.listOf(page) < 0) this.lists.push(RESIDENT, page);
  }

  streamed(): void {}

  removed(page: PageIndex): void {
    if (this.lists.listOf(page) >= 0) this.lists.remove(page);
  }

  next(want: number, out: Int32Array): number {
    const count = Math.min(want, this.lists.size(RESIDENT));
    for (let i = 0; i < count; i++) out[i] = this.lists.shift(RESIDENT);
    return count;
  }

  restored(page: PageIndex): void {
    this.inserted(page);
  }
}
