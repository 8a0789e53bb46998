/** How many pages to prefetch (Leap, algorithm 2): as many as the last prefetches have earned. */

/**
 * @param hits prefetched pages that were used since the last prefetch
 * @param follows whether the faulting page continues the trend
 * @param last the window before this one
 * @param max the largest window
 * @returns pages to prefetch; 0 suspends prefetching
 */
export function nextWindow(hits: number, follows: boolean, last: number, max: number): number {
  const earned = hits > 0 ? powerOfTwoFrom(hits + 1) : follows ? 1 : 0;
  // One bad guess halves a good window, it does not end it.
  return Math.min(max, Math.max(earned, last >> 1));
}

/** The smallest power of two that is >= n, for 1 <= n <= 2^30. */
export function powerOfTwoFrom(n: number): number {
  return n <= 1 ? 1 : 1 << (32 - Math.clz32(n - 1));
}
