/** The options of the pager, and how many frames they call for. */
import { BATCH_PAGES } from './layout.js';
import type { Copies } from './types.js';

/** The pager's options at its start. All but the number of frames can be changed at run time. */
export interface PagerOptions {
  /** The limit: a number of pages, or a share of the pages that are resident at the attach (0 < share <= 1). */
  readonly localLimit: { readonly pages: number } | { readonly share: number };
  /** Frames in the engine's arena; see `framesFor`. */
  readonly frames: number;
  /** Capacity of the prefetch buffer, in pages. */
  readonly prefetchBuffer: number;
  /** Name of the prefetcher. */
  readonly prefetch: string;
  /** Faults per thread in which a trend is looked for. */
  readonly history: number;
  /** Largest window, in pages. */
  readonly windowMax: number;
  /** Name of the victim policy. */
  readonly victims: string;
  /** How pages are evicted. `auto`: by UFFDIO_MOVE where the kernel has it, else by discard. */
  readonly evict: 'auto' | 'move' | 'discard';
  readonly copies: Copies;
  /** Called once for each event that an operator should know of. */
  readonly notify?: (level: 'info' | 'warn' | 'error', message: string, facts: Record<string, unknown>) => void;
}

/** Options without policies: nothing is read ahead, pages leave in the order they came. For tests and benchmarks. */
export const PLAIN = {
  prefetch: 'none',
  history: 32,
  windowMax: 8,
  victims: 'fifo',
  evict: 'auto',
  copies: 2,
} as const satisfies Partial<PagerOptions>;

/**
 * Bounds of the number of frames for evicted pages. Between them it is the limit: an evicted page keeps its frame, as
 * its second chance, until a page evicted later needs it.
 */
export const EVICTION_FRAMES = { least: 2 * BATCH_PAGES, most: 1024 } as const;
/** Frames that only demand reads may take, so that faults are served while all other frames wait for a write. */
export const DEMAND_FRAMES = 32;

/** Number of frames to create: the sum of what their users need. */
export function framesFor(prefetchBuffer: number, localLimit: PagerOptions['localLimit']): number {
  // a share: the number is not known before the attach
  const limit = 'pages' in localLimit ? localLimit.pages : Infinity;
  return prefetchBuffer + Math.max(EVICTION_FRAMES.least, Math.min(EVICTION_FRAMES.most, limit)) + DEMAND_FRAMES;
}
