/** The prefetch policies by name. */
import { LeapPrefetcher } from './leap.js';
import { LeapKernelPrefetcher } from './leap-kernel.js';
import { NextNPrefetcher } from './next-n.js';
import { NoPrefetcher } from './none.js';
import type { Prefetcher, PrefetchOptions } from './prefetcher.js';
import { ReadaheadPrefetcher } from './readahead.js';
import { StreamsPrefetcher } from './streams.js';
import { StridePrefetcher } from './stride.js';

export const PREFETCHERS = ['streams', 'leap', 'leap-kernel', 'readahead', 'stride', 'next-n', 'none'] as const;
export type PrefetcherName = (typeof PREFETCHERS)[number];

export const DEFAULT_PREFETCHER: PrefetcherName = 'streams';
export const DEFAULT_HISTORY = 32;
/** Four times the window of the paper (8): with map-ahead the window is also how many pages one fault brings. */
export const DEFAULT_WINDOW_MAX = 32;

const MAKERS: { readonly [name in PrefetcherName]: (options: PrefetchOptions) => Prefetcher } = {
  streams: (options) => new StreamsPrefetcher(options),
  leap: (options) => new LeapPrefetcher(options),
  'leap-kernel': (options) => new LeapKernelPrefetcher(options),
  readahead: (options) => new ReadaheadPrefetcher(options),
  stride: (options) => new StridePrefetcher(options),
  'next-n': (options) => new NextNPrefetcher(options),
  none: () => new NoPrefetcher(),
};

/** @throws RangeError for an unknown name or options that are not positive integers. */
export function createPrefetcher(name: string, options: Partial<PrefetchOptions> = {}): Prefetcher {
  if (!isPrefetcherName(name)) throw new RangeError(`unknown prefetcher ${name}; there are ${PREFETCHERS.join(', ')}`);
  const { history = DEFAULT_HISTORY, windowMax = DEFAULT_WINDOW_MAX } = options;
  for (const [option, value] of Object.entries({ history, windowMax })) {
    if (!Number.isInteger(value) || value < 1)
      throw new RangeError(`${option} must be a positive integer, not ${value}`);
  }
  return MAKERS[name]({ history, windowMax });
}

export function isPrefetcherName(name: string): name is PrefetcherName {
  return (PREFETCHERS as readonly string[]).includes(name);
}
