/**
 * The regions: which range of which address space holds which pages. A region is a run of page indices at a run of
 * addresses. Indices are dense, given out once, and stay with the pages when the target moves them (mremap); a range
 * that is unmapped gives its indices back. Changed on the control plane only; the fault path asks `indexOf` alone, to
 * cut a prefetch plan at a region's edges.
 */
import { type PageIndex, type SpaceId, type Vpn, pageIndex, vpn } from '../core/types.js';

export interface Region {
  readonly space: SpaceId;
  readonly start: Vpn;
  readonly count: number;
  readonly first: PageIndex;
}

/** What a target may say of a range with madvise, and smaps shows: MADV_SEQUENTIAL, MADV_RANDOM. */
export const Advice = { none: 0, sequential: 1, random: 2 } as const;

const endOf = (region: Region): number => region.start + region.count;
const lastOf = (region: Region): number => region.first + region.count;

export class RegionTable {
  /** Sorted by first page index. */
  private regions: Region[] = [];
  /** Free runs of indices, sorted: [first, count]. */
  private holes: [number, number][] = [];
  /** Indices given out so far are below this. */
  private top = 0;
  private recent: Region | undefined;
  /** Changes whenever a region or its advice does. */
  version = 0;
  /** What the target has said of ranges with madvise: first page, end, advice of each; most targets say nothing. */
  private advised: Int32Array = new Int32Array(0);

  /** The advice (madvise) that covers this page, an Advice. */
  adviceOf(page: number): number {
    const { advised } = this;
    for (let at = 0; at < advised.length; at += 3)
      if (page >= advised[at] && page < advised[at + 1]) return advised[at + 2];
    return Advice.none;
  }

  /** Replaces all that is known of advice: first page, end, advice of each range. */
  advise(ranges: readonly number[]): void {
    if (this.advised.length === 0 && ranges.length === 0) return;
    this.advised = Int32Array.from(ranges);
    this.version++;
  }

  get indexEnd(): number {
    return this.top;
  }

  all(): readonly Region[] {
    return this.regions;
  }

  of(space: SpaceId): Region[] {
    return this.regions.filter((region) => region.space === space);
  }

  /** The region that holds this page, or undefined. */
  find(page: PageIndex): Region | undefined {
    const recent = this.recent;
    if (recent !== undefined && page >= recent.first && page < recent.first + recent.count) return recent;
    let low = 0;
    let high = this.regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (lastOf(this.regions[middle]) <= page) low = middle + 1;
      else high = middle;
    }
    const region = this.regions[low];
    if (region === undefined || page < region.first) return undefined;
    this.recent = region;
    return region;
  }

  /** The parts of regions of `space` inside [start, end), cut to it. */
  inside(space: SpaceId, start: number, end: number): Region[] {
    const parts: Region[] = [];
    for (const region of this.regions) {
      if (region.space !== space || endOf(region) <= start || region.start >= end) continue;
      const from = Math.max(region.start, start);
      const to = Math.min(endOf(region), end);
      parts.push({ space, start: vpn(from), count: to - from, first: pageIndex(region.first + (from - region.start)) });
    }
    return parts;
  }

  /** The parts of [start, end) that no region of `space` covers: [start, end) pairs, ascending. */
  gaps(space: SpaceId, start: number, end: number): [number, number][] {
    const gaps: [number, number][] = [];
    let at = start;
    for (const part of this.inside(space, start, end).sort((a, b) => a.start - b.start)) {
      if (part.start > at) gaps.push([at, part.start]);
      at = part.start + part.count;
    }
    if (at < end) gaps.push([at, end]);
    return gaps;
  }

  /**
   * Adds [start, start + count) with fresh indices, following its neighbour's where they are free, so that a growing
   * heap stays one run.
   */
  add(space: SpaceId, start: Vpn, count: number): Region {
    const before = this.regions.find((region) => region.space === space && endOf(region) === start);
    if (before !== undefined && this.takeAt(lastOf(before), count)) {
      const grown = { ...before, count: before.count + count };
      this.replace(before, [grown]);
      return { space, start, count, first: pageIndex(lastOf(before)) };
    }
    const region = { space, start, count, first: pageIndex(this.take(count)) };
    this.insert(region);
    return region;
  }

  /** Removes what lies in [start, end) of `space` and gives its indices back. @returns the parts removed. */
  remove(space: SpaceId, start: number, end: number): Region[] {
    const parts = this.cutOut(space, start, end);
    for (const part of parts) this.giveBack(part.first, part.count);
    return parts;
  }

  /** Moves what lies in [from, from + count) to `to`. Nothing may lie there. @returns the parts at their old place. */
  move(space: SpaceId, from: Vpn, to: Vpn, count: number): Region[] {
    const parts = this.cutOut(space, from, from + count);
    for (const part of parts) this.insert({ ...part, start: vpn(to + (part.start - from)) });
    return parts;
  }

  /** A run of indices that stands for no page: spare slots. @returns the first. */
  takeIndices(count: number): number {
    return this.take(count);
  }

  private cutOut(space: SpaceId, start: number, end: number): Region[] {
    const parts: Region[] = [];
    for (const region of [...this.regions]) {
      if (region.space !== space || endOf(region) <= start || region.start >= end) continue;
      const from = Math.max(region.start, start);
      const to = Math.min(endOf(region), end);
      const left = { ...region, count: from - region.start };
      const right = {
        space,
        start: vpn(to),
        count: endOf(region) - to,
        first: pageIndex(region.first + (to - region.start)),
      };
      this.replace(
        region,
        [left, right].filter((part) => part.count > 0),
      );
      parts.push({ space, start: vpn(from), count: to - from, first: pageIndex(region.first + (from - region.start)) });
    }
    return parts;
  }

  private insert(region: Region): void {
    let at = this.regions.findIndex((other) => other.first > region.first);
    if (at < 0) at = this.regions.length;
    this.regions.splice(at, 0, region);
    this.recent = undefined;
    this.version++;
  }

  private replace(old: Region, parts: Region[]): void {
    this.regions.splice(this.regions.indexOf(old), 1, ...parts);
    this.recent = undefined;
    this.version++;
  }

  private take(count: number): number {
    const at = this.holes.findIndex(([, length]) => length >= count);
    if (at < 0) {
      const first = this.top;
      this.top += count;
      return first;
    }
    const [first, length] = this.holes[at];
    this.holes.splice(at, 1, ...(length > count ? [[first + count, length - count] as [number, number]] : []));
    return first;
  }

  private takeAt(first: number, count: number): boolean {
    if (first === this.top) {
      this.top += count;
      return true;
    }
    const at = this.holes.findIndex(([start, length]) => start === first && length >= count);
    if (at < 0) return false;
    const [start, length] = this.holes[at];
    this.holes.splice(at, 1, ...(length > count ? [[start + count, length - count] as [number, number]] : []));
    return true;
  }

  private giveBack(first: number, count: number): void {
    let at = this.holes.findIndex(([start]) => start > first);
    if (at < 0) at = this.holes.length;
    this.holes.splice(at, 0, [first, count]);
    const merged: [number, number][] = [];
    for (const [start, length] of this.holes) {
      const last = merged.at(-1);
      if (last !== undefined && last[0] + last[1] === start) last[1] += length;
      else merged.push([start, length]);
    }
    this.holes = merged;
  }
}
