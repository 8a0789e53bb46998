/**
 * A few doubly linked lists of pages over one pair of link arrays: a page is in one list at a time, or in none. 9 bytes
 * a page.
 *
 * List k's sentinel is entry k, page p is entry lists + p, so that the ends are no special case and `reserve` moves
 * nothing:
 *
 *     sentinel -> oldest -> ... -> newest -> sentinel
 *
 * A page that is in no list has no use for its links, and may carry a note in them.
 */
const OUT = 0;

export class PageLists {
  private newer: Int32Array;
  private older: Int32Array;
  /** 1 + the list a page is in, or OUT. */
  private tags: Uint8Array;
  private readonly sizes: Int32Array;

  constructor(private readonly lists: number) {
    this.newer = Int32Array.from({ length: lists }, (_, list) => list);
    this.older = this.newer.slice();
    this.tags = new Uint8Array(lists);
    this.sizes = new Int32Array(lists);
  }

  /** Makes room for pages [0, pages). */
  reserve(pages: number): void {
    const entries = this.lists + pages;
    if (entries <= this.tags.length) return;
    this.newer = grown(this.newer, new Int32Array(entries));
    this.older = grown(this.older, new Int32Array(entries));
    this.tags = grown(this.tags, new Uint8Array(entries));
  }

  size(list: number): number {
    return this.sizes[list];
  }

  /** The list that holds the page, or -1. */
  listOf(page: number): number {
    return this.tags[this.lists + page] - 1;
  }

  /** Puts a page that is in no list at the list's new end. */
  push(list: number, page: number): void {
    const { newer, older } = this;
    const entry = this.lists + page;
    const newest = older[list];
    newer[newest] = entry;
    older[entry] = newest;
    newer[entry] = list;
    older[list] = entry;
    this.tags[entry] = list + 1;
    this.sizes[list]++;
  }

  /** Takes a page out of the list it is in. */
  remove(page: number): void {
    const { newer, older } = this;
    const entry = this.lists + page;
    newer[older[entry]] = newer[entry];
    older[newer[entry]] = older[entry];
    this.sizes[this.tags[entry] - 1]--;
    this.tags[entry] = OUT;
  }

  /** The oldest page, or something below 0. */
  oldest(list: number): number {
    return this.newer[list] - this.lists;
  }

  /** The newest page, or something below 0. */
  newest(list: number): number {
    return this.older[list] - this.lists;
  }

  /** Takes the oldest page out. @returns it, or -1 */
  shift(list: number): number {
    return this.take(list, this.newer[list]);
  }

  /** Takes the newest page out. @returns it, or -1 */
  pop(list: number): number {
    return this.take(list, this.older[list]);
  }

  /** The page must be in no list; putting it into one wipes the note. */
  setNote(page: number, note: number): void {
    this.newer[this.lists + page] = note;
  }

  noteOf(page: number): number {
    return this.newer[this.lists + page];
  }

  private take(list: number, entry: number): number {
    if (entry === list) return -1;
    this.remove(entry - this.lists);
    return entry - this.lists;
  }
}

function grown<T extends Int32Array | Uint8Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
