/**
 * The donor's memory, cut into chunks. Each is made present and zeroed in the background, one after the other from the
 * start on, so that lending one waits for nothing; and again each time it comes back, before anybody else can have it.
 *
 *     absent --(room below the limit)--> preparing --> free --> lent --> preparing ...
 *        ^---------(the limit has sunk)---------------'----------'
 */
import type { FabricMemory } from '../src/core/fabric.js';

export interface Chunk {
  /** The donor's number of it, the same for good. */
  readonly number: number;
  readonly memory: FabricMemory;
}

export interface ChunkCounts {
  readonly total: number;
  /** How many may hold memory now. */
  readonly limit: number;
  readonly free: number;
  readonly lent: number;
  readonly preparing: number;
  readonly huge: number;
}

type Place = { state: 'absent' } | { state: 'preparing' | 'free' | 'lent'; readonly chunk: Chunk };

export class ChunkStore {
  private readonly places: Place[];
  private limit: number;
  private preparing: Promise<void> | undefined;

  /** @param failed a chunk could not be made; the limit has been lowered to what there is */
  constructor(
    total: number,
    private readonly make: () => FabricMemory,
    private readonly failed: (error: unknown) => void,
    limit = total,
  ) {
    this.places = Array.from({ length: total }, () => ({ state: 'absent' }));
    this.limit = Math.min(total, limit);
    this.prepare();
  }

  counts(): ChunkCounts {
    const count = (state: Place['state']): number => this.places.filter((place) => place.state === state).length;
    const huge = this.places.filter((place) => place.state !== 'absent' && place.chunk.memory.huge).length;
    return {
      total: this.places.length,
      limit: this.limit,
      free: count('free'),
      lent: count('lent'),
      preparing: count('preparing'),
      huge,
    };
  }

  /** Present, zeros, and nobody else's; undefined when none is ready. */
  lend(): Chunk | undefined {
    for (const place of this.places) {
      if (place.state !== 'free') continue;
      place.state = 'lent';
      return place.chunk;
    }
    return undefined;
  }

  /** A lent chunk comes back. Nobody must be able to reach it any more. */
  giveBack(chunk: Chunk): void {
    const place = this.places[chunk.number];
    if (place?.state !== 'lent' || place.chunk !== chunk) throw new Error(`chunk ${chunk.number} is not lent`);
    if (this.held() > this.limit) return this.drop(chunk);
    place.state = 'preparing';
    this.prepare();
  }

  /**
   * How many chunks may hold memory from now on. Free ones go at once, those being prepared when they are ready.
   * @returns how many lent ones have to come back for it
   */
  setLimit(limit: number): number {
    this.limit = Math.max(0, Math.min(this.places.length, limit));
    for (const place of [...this.places].reverse()) {
      if (this.held() <= this.limit) break;
      if (place.state === 'free') this.drop(place.chunk);
    }
    this.prepare();
    const { lent } = this.counts();
    return Math.max(0, lent - this.limit);
  }

  /** Until nothing is being prepared. */
  async settled(): Promise<void> {
    while (this.preparing) await this.preparing;
  }

  private held(): number {
    return this.places.filter((place) => place.state !== 'absent').length;
  }

  private drop(chunk: Chunk): void {
    this.places[chunk.number] = { state: 'absent' };
    chunk.memory.free();
  }

  /** One at a time: scrubbing takes a core. */
  private prepare(): void {
    if (this.preparing) return;
    const next = this.next();
    if (!next) return;
    this.preparing = next.chunk.memory
      .scrub()
      .then(
        () => this.prepared(next.chunk),
        (error: unknown) => {
          this.drop(next.chunk);
          this.limit = this.held();
          this.failed(error);
        },
      )
      .finally(() => {
        this.preparing = undefined;
        this.prepare();
      });
  }

  private prepared(chunk: Chunk): void {
    if (this.held() > this.limit) this.drop(chunk);
    else this.places[chunk.number] = { state: 'free', chunk };
  }

  /** What came back goes before what is new. */
  private next(): { chunk: Chunk } | undefined {
    const waiting = this.places.find((place) => place.state === 'preparing');
    if (waiting?.state === 'preparing') return waiting;
    const number = this.places.findIndex((place) => place.state === 'absent');
    if (number < 0 || this.held() >= this.limit) return undefined;
    try {
      const chunk = { number, memory: this.make() };
      this.places[number] = { state: 'preparing', chunk };
      return { chunk };
    } catch (error) {
      this.limit = this.held();
      this.failed(error);
      return undefined;
    }
  }
}
