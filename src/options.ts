import type { Copies } from './chunks.js';

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

/** Frames for pages on their way out, kept as their second chance until a newer one needs them. */
export const EVICTION_FRAMES = 1024;
/** Frames that only demand reads may take, so that a fault is served while every other frame waits for a write. */
export const DEMAND_FRAMES = 32;

/** Frames to create for a prefetch buffer of this capacity: the sum of their users. */
export const framesFor = (prefetchBuffer: number): number => prefetchBuffer + EVICTION_FRAMES + DEMAND_FRAMES;
