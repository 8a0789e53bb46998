/**
 * How much each chunk is used: Leap's filter, once a period. cur = writes * weight + reads * weight; filtered = 80 % of
 * it + 20 % of what was before.
 */
import type { Chunks } from '../tables/chunks.js';
import { widened } from '../tables/widened.js';

export interface ActivityOptions {
  readonly periodMs: number;
  /** Percent. */
  readonly writeWeight: number;
  readonly readWeight: number;
}

export const DEFAULT_ACTIVITY: ActivityOptions = { periodMs: 1000, writeWeight: 50, readWeight: 50 };
const NEW_SHARE = 0.8;

export class Activity {
  private filtered: Float64Array = new Float64Array(0);

  constructor(
    private readonly chunks: Chunks,
    private readonly options: ActivityOptions,
  ) {}

  /** A period is over. */
  take(): void {
    const { reads, writes, count } = this.chunks;
    if (this.filtered.length < count) this.filtered = widened(this.filtered, count);
    for (let chunk = 0; chunk < count; chunk++) {
      const now = (writes[chunk] * this.options.writeWeight + reads[chunk] * this.options.readWeight) / 100;
      this.filtered[chunk] = NEW_SHARE * now + (1 - NEW_SHARE) * this.filtered[chunk];
      reads[chunk] = 0;
      writes[chunk] = 0;
    }
  }

  /** Pages a period. */
  of(chunk: number): number {
    return chunk < this.filtered.length ? this.filtered[chunk] : 0;
  }
}
