import type { Copies } from '../tables/chunks.js';
import { BATCH_PAGES } from './layout.js';

/** What the pager is told at start; all but the frame count can be changed at run time. */
export interface PagerOptions {
  /** Pages that may be resident: a count, or a share of what is resident at attach (0 < share <= 1). */
  readonly localLimit: { readonly pages: number } | { readonly share: number };
  /** Frames in the engine's arena; see `framesFor`. */
  readonly frames: number;
  /** The most prefetched pages that wait in frames. */
  readonly prefetchBuffer: number;
  readonly prefetch: string;
  readonly history: number;
  readonly windowMax: number;
  readonly victims: string;
  /** How pages are taken away: by UFFDIO_MOVE where the kernel has it, or always by write-protect and discard. */
  readonly evict: 'auto' | 'move' | 'discard';
  /** How many copies of a page there are to be, when donors hold some: see chunks.ts. */
  readonly copies: Copies;
  /** Told once of each thing an operator should know. */
  readonly notify?: (level: 'info' | 'warn' | 'error', message: string, facts: Record<string, unknown>) => void;
}

/** A pager that decides nothing: it reads nothing ahead, and what came first leaves first. For measurements and tests of what lies below the policies. */
export const PLAIN = {
  prefetch: 'none',
  history: 32,
  windowMax: 8,
  victims: 'fifo',
  evict: 'auto',
  copies: 2,
} as const satisfies Partial<PagerOptions>;

/** Frames for pages on their way out, kept as their second chance until a newer one needs them: as many as may be resident, between these two. */
export const EVICTION_FRAMES = { least: 2 * BATCH_PAGES, most: 1024 } as const;
/** Frames that only demand reads may take, so that a fault is served while every other frame waits for a write. */
export const DEMAND_FRAMES = 32;

/** Frames to create: the sum of their users. */
export function framesFor(prefetchBuffer: number, localLimit: PagerOptions['localLimit']): number {
  const limit = 'pages' in localLimit ? localLimit.pages : Infinity; // a share of what is not known before the attach
  return prefetchBuffer + Math.max(EVICTION_FRAMES.least, Math.min(EVICTION_FRAMES.most, limit)) + DEMAND_FRAMES;
}
