/** The options of a small pager whose every move is foreseeable: no prefetch, first in first out. A test says only what it wants otherwise. */
import type { PagerOptions } from '../../src/options.js';

/** As many as the engine of such a pager must have. */
export const FRAMES = 256;

const PLAIN: PagerOptions = {
  localLimit: { pages: 200 },
  frames: FRAMES,
  prefetchBuffer: 64,
  prefetch: 'none',
  history: 32,
  windowMax: 8,
  victims: 'fifo',
  evict: 'auto',
  copies: 2,
};

export function pagerOptions(overrides: Partial<PagerOptions> = {}): PagerOptions {
  return { ...PLAIN, ...overrides };
}
