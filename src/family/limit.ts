/**
 * The limit: how many pages of the family may be resident, how many are, and how far faults may exceed it for now.
 * Counts are in pages.
 */
export class Limit {
  /** Nothing could be evicted lately; faults may exceed the limit, because no thread may wait for ever. */
  evictionStalled = false;
  private most = Number.MAX_SAFE_INTEGER;
  private residentPages = 0;
  private mappingPages = 0;
  /**
   * What a fault may bring the count to. Normally the limit. Where far more is resident, after the attach or after the
   * limit was lowered, faults do not wait until all of it is evicted: the ceiling starts at what is resident and falls
   * by half of what is evicted; the other half is for faults.
   */
  private ceiling = Number.MAX_SAFE_INTEGER;

  /** The limit itself. */
  get pages(): number {
    return this.most;
  }

  /** Resident pages that count: those of spaces that have a helper. */
  get resident(): number {
    return this.residentPages;
  }

  /** Pages in map, zero and poison commands that have no result yet. */
  get mapping(): number {
    return this.mappingPages;
  }

  /** Pages that may still be mapped before the limit is reached; negative when it is exceeded. */
  get room(): number {
    return this.most - this.residentPages - this.mappingPages;
  }

  /** Whether a fault may map one more page without waiting for an eviction. */
  get admits(): boolean {
    return this.evictionStalled || this.residentPages + this.mappingPages < this.ceiling;
  }

  set(pages: number): void {
    this.most = pages;
    this.ceiling = pages;
    this.raiseCeiling();
  }

  /** Allows what is resident now: pages have become resident otherwise than by faults. */
  raiseCeiling(): void {
    this.ceiling = Math.max(this.ceiling, this.residentPages + this.mappingPages);
  }

  /** So many pages have been evicted. */
  lowerCeiling(evicted: number): void {
    if (this.ceiling > this.most) this.ceiling = Math.max(this.most, this.ceiling - evicted / 2);
  }

  /** A page is in a map, zero or poison command. */
  beginMapping(): void {
    this.mappingPages++;
  }

  /** The results of commands for so many pages have come. */
  endMapping(pages: number): void {
    this.mappingPages -= pages;
  }

  /** A page counts from now on. */
  enter(): void {
    this.residentPages++;
  }

  /** A page no longer counts. */
  leave(): void {
    this.residentPages--;
  }
}
