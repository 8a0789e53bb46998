/** What one run of the patterns yields, whoever does the paging. */
import type { Pattern } from './touch-program.js';
import type { UndoStack } from '../src/host/undo-stack.js';

/** Where the pages go that do not stay: a file on a disk, or memory (tmpfs for leapd, zram for the kernel). */
export const stores = ['disk', 'memory'] as const;
export type Store = (typeof stores)[number];

export interface Place {
  readonly undo: UndoStack;
  readonly store: Store;
  /** The folder of the swap file. */
  readonly dir: string;
}

export interface PatternFigures {
  readonly pattern: Pattern;
  readonly usPerTouch: number;
  /** Faults that had to wait for the store: the kernel's major faults, leapd's demand reads. */
  readonly misses: number;
  /** Pages read from the store, ahead of need or not. */
  readonly pagesIn: number;
  /** More of leapd's counters, for the JSON file. */
  readonly [counter: string]: number | string;
}

export interface PagingRun {
  readonly figures: readonly PatternFigures[];
  /** Of the whole region at the end: the same in every run of one size. */
  readonly checksum: string;
  /** How long it took to get from everything resident down to the limit. */
  readonly shrinkMs: number;
  readonly facts: Readonly<Record<string, number | string>>;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}
