/** The trend of a history: the delta that most of its newest entries share (Leap, algorithm 1). */

/** The first window that is voted on is capacity / SPLIT; each next one is twice as large. */
export const SPLIT = 4;
export const NO_TREND = 0;

/**
 * Majority vote over the newest deltas, in windows that double until one has a majority. A window that reaches past the
 * end of a young history is as large as the history. A delta of 0 is no trend: it leads nowhere.
 *
 * Boyer and Moore's vote can be carried on from a window to the next, since the larger one begins with the smaller;
 * the count of the candidate, which proves it, is made anew.
 *
 * @param newest index of the newest delta; older ones follow
 * @param length how many deltas there are
 * @param capacity how many there can be
 * @returns the delta, or NO_TREND
 */
export function findTrend(deltas: Int32Array, newest: number, length: number, capacity: number): number {
  let candidate = NO_TREND;
  let votes = 0;
  let voted = 0;
  for (let window = Math.max(1, Math.floor(capacity / SPLIT)); window <= capacity; window *= 2) {
    const end = Math.min(window, length);
    for (; voted < end; voted++) {
      const delta = deltas[newest + voted];
      if (votes === 0) candidate = delta;
      votes += delta === candidate ? 1 : -1;
    }
    // A majority would have votes left.
    if (votes > 0 && candidate !== NO_TREND) {
      let count = 0;
      for (let i = 0; i < end; i++) if (deltas[newest + i] === candidate) count++;
      if (count > Math.floor(end / 2)) return candidate;
    }
    if (end === length) break;
  }
  return NO_TREND;
}
