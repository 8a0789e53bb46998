/**
 * How much the donor may lend, from the free memory of its host: give back when that falls below the reserve, take
 * again when it has been above the upper mark for a while. Pure; sampled once a period.
 */
export interface MonitorOptions {
  /** Bytes of the host's memory that are to stay free. */
  readonly reserve: number;
  /** Above this, for `rounds` samples in a row, there is more to lend. */
  readonly upper: number;
  readonly rounds: number;
  /** Per cent that the newest sample weighs. */
  readonly weight: number;
  readonly chunkBytes: number;
}

/** By how many chunks the limit changes; 0: not. */
export type Verdict = number;

export class MemoryMonitor {
  private filtered: number | undefined;
  private above = 0;

  constructor(private readonly options: MonitorOptions) {}

  get freeBytes(): number | undefined {
    return this.filtered;
  }

  /** @param available MemAvailable of the host, in bytes */
  sample(available: number): Verdict {
    const { reserve, upper, rounds, weight, chunkBytes } = this.options;
    const free = (available * weight + (this.filtered ?? available) * (100 - weight)) / 100;
    this.filtered = free;
    this.above = free > upper ? this.above + 1 : 0;
    if (free < reserve) {
      const chunks = Math.ceil((reserve - free) / chunkBytes);
      // They are as good as given back: what the filter remembers must not ask for them again.
      this.filtered = free + chunks * chunkBytes;
      return -chunks;
    }
    if (this.above < rounds) return 0;
    this.above = 0;
    return Math.max(1, Math.floor((free - upper) / chunkBytes));
  }
}

/** How many chunks can be lent from the beginning, of `total`. */
export function firstLimit(total: number, available: number, { reserve, chunkBytes }: MonitorOptions): number {
  return Math.max(0, Math.min(total, Math.floor((available - reserve) / chunkBytes)));
}
