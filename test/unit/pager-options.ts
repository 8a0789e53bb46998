/** The options of a small pager whose every move is foreseeable. A test says only what it wants otherwise. */
import { type PagerOptions, PLAIN } from '../../src/core/pager-options.js';

/** As many as the engine of such a pager must have. */
export const FRAMES = 256;

export const pagerOptions = (overrides: Partial<PagerOptions> = {}): PagerOptions => ({
  ...PLAIN,
  localLimit: { pages: 200 },
  frames: FRAMES,
  prefetchBuffer: 64,
  ...overrides,
});
