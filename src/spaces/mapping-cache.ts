/**
 * The mappings of each space as they were read last. A full reading (/proc/PID/smaps) walks the page tables, so it is
 * made only when the list of mappings (/proc/PID/maps) has changed, and now and then because flags change without it.
 */
import type { Engine, Mapping } from '../core/engine.js';
import type { SpaceId } from '../core/types.js';

/** A full reading is made at least once in so many: mlock of a whole mapping changes its flags and not the list. */
const FULL_READING_EVERY = 20;

interface Reading {
  /** The text of /proc/PID/maps before the full reading. */
  readonly list: string;
  readonly mappings: readonly Mapping[];
  reused: number;
}

export class MappingCache {
  private readonly readings = new Map<SpaceId, Reading>();

  constructor(private readonly engine: Engine) {}

  /**
   * The mappings of a space now, without those that leapd made in it; empty when the process is gone.
   * @param fresh flags are up to date, which takes longer
   * @returns the same array as last time when nothing seems to have changed
   */
  read(space: SpaceId, fresh = false): readonly Mapping[] {
    const list = this.engine.mappingList(space);
    if (list === '') return [];
    const before = this.readings.get(space);
    if (!fresh && before !== undefined && before.list === list && before.reused++ < FULL_READING_EVERY)
      return before.mappings;
    const own = this.engine.ownArea(space);
    const found = this.engine.mappings(space);
    if (found.length === 0) return []; // it has exited
    const mappings = found.filter(({ start, end }) => end <= own.start || start >= own.end);
    this.readings.set(space, { list, mappings, reused: 0 });
    return mappings;
  }

  /** The mappings as of the last reading. */
  last(space: SpaceId): readonly Mapping[] {
    return this.readings.get(space)?.mappings ?? [];
  }

  /** The space is gone. */
  drop(space: SpaceId): void {
    this.readings.delete(space);
  }
}
