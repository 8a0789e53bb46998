/**
 * The range table of the simulated engine: which page of the pager stands where. Stricter than the native one: nothing
 * may be bound twice.
 */
import { MAX_SPACES } from '../../src/core/layout.js';
import { WINDOW } from './space.js';
import type { World } from './world.js';

export class SimRanges {
  /** By space and place in its window, the page; -1 for none. */
  private readonly pages: Int32Array[] = [];
  /** By page, where it stands; -1 when unbound. */
  private readonly spaces: number[] = [];
  private readonly places: number[] = [];

  constructor(private readonly world: World) {
    for (let id = 0; id < MAX_SPACES; id++) this.pages.push(new Int32Array(WINDOW).fill(-1));
  }

  at(space: number, place: number): number {
    return this.pages[space][place];
  }

  placeOf(page: number): number {
    return this.places[page];
  }

  /** The space of a run of pages, which must lie in one range; -1 when any of it is unbound. */
  spaceOf(page: number, count: number): number {
    const space = this.spaces[page] ?? -1;
    if (space < 0) return -1;
    const pages = this.pages[space];
    const place = this.places[page];
    for (let i = 1; i < count; i++) {
      if (pages[place + i] === page + i) continue;
      if ((this.spaces[page + i] ?? -1) < 0) return -1;
      this.world.fail(`a command for pages ${page}+${count}, which leave their range at ${page + i}`);
    }
    return space;
  }

  bind(space: number, place: number, count: number, first: number): void {
    if (count < 1 || place < 0 || place + count > WINDOW) this.world.fail(`bind of ${count} pages at +${place}`);
    const pages = this.pages[space];
    for (let i = 0; i < count; i++) {
      if (pages[place + i] !== -1) this.world.fail(`bind at +${place + i}, where page ${pages[place + i]} stands`);
      if ((this.spaces[first + i] ?? -1) !== -1) this.world.fail(`bind of page ${first + i}, which is bound already`);
      pages[place + i] = first + i;
      this.spaces[first + i] = space;
      this.places[first + i] = place + i;
    }
  }

  unbind(space: number, place: number, count: number): void {
    const pages = this.pages[space];
    for (let at = Math.max(0, place); at < Math.min(WINDOW, place + count); at++) {
      if (pages[at] >= 0) this.spaces[pages[at]] = -1;
      pages[at] = -1;
    }
  }
}
