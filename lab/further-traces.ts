/**
 * Ten synthetic traces of other sizes, seeds and mixes than those in comparison.ts. Half of them are held out
 * (split.ts).
 */
import type { Trace } from '../src/trace/format.js';
import { generate, type PatternName, type PatternOptions } from './patterns.js';

/** Pages between the parts of a mixed trace. */
const GAP_PAGES = 1024;
/** The seeds of these traces are the given ones plus this: none is a seed of comparison.ts. */
const FIRST_SEED = 1000;

interface Part {
  readonly pattern: PatternName;
  readonly options: Partial<PatternOptions>;
}

/** Programs side by side, each with its threads and its region: one trace, in the order of time. */
function mixed(parts: readonly Part[], seed: number): Trace {
  const traces = parts.map(({ pattern, options }, part) =>
    generate(pattern, { ...options, seed: seed * parts.length + part }),
  );
  const order = traces
    .flatMap((trace, part) => Array.from(trace.time, (time, at) => ({ time, part, at })))
    .sort((one, other) => one.time - other.time);
  const firsts: number[] = [];
  let next = 0;
  for (const { regions } of traces) {
    firsts.push(next);
    next += regions[0].count + GAP_PAGES;
  }
  return {
    about: { made: 'leap-lab generate', name: 'mixed', seed },
    length: order.length,
    time: Float64Array.from(order, ({ time }) => time),
    thread: Int32Array.from(order, ({ part, at }) => traces[part].thread[at] + 100 * part),
    page: Int32Array.from(order, ({ part, at }) => traces[part].page[at] + firsts[part]),
    kind: Uint8Array.from(order, ({ part, at }) => traces[part].kind[at]),
    write: Uint8Array.from(order, ({ part, at }) => traces[part].write[at]),
    regions: traces.map(({ regions: [region] }, part) => ({
      ...region,
      start: region.start + firsts[part],
      first: firsts[part],
    })),
    lost: 0,
    cutOff: false,
  };
}

const made =
  (pattern: PatternName, options: Partial<PatternOptions>): ((seed: number) => Trace) =>
  (seed) =>
    generate(pattern, { ...options, seed: FIRST_SEED + seed });

const MIX: readonly Part[] = [
  { pattern: 'sequential', options: { pages: 8192, touches: 20_000, computeNs: 2000 } },
  { pattern: 'zipf', options: { pages: 8192, touches: 20_000, computeNs: 2000, writes: 0.5 } },
  { pattern: 'random', options: { pages: 4096, touches: 20_000, computeNs: 2000 } },
];

export const FURTHER: Readonly<Record<string, (seed: number) => Trace>> = {
  'sequential, 40000 pages': made('sequential', { pages: 40_000, touches: 90_000, computeNs: 5000 }),
  'reverse, 10 % noise': made('reverse', { noise: 0.1, writes: 0.5 }),
  'stride 3, 5 % noise': made('stride', { pages: 12_000, stride: 3, noise: 0.05 }),
  '16 streams in one thread': made('interleaved', { streams: 16, pages: 24_000, stride: 7 }),
  '2 threads, half writes': made('threads', { streams: 2, writes: 0.5, computeNs: 3000 }),
  '6 threads, 10 % noise': made('threads', { streams: 6, pages: 20_000, noise: 0.1, computeNs: 4000 }),
  'random, 4096 pages': made('random', { pages: 4096, computeNs: 5000 }),
  'zipf, half writes': made('zipf', { pages: 32_768, writes: 0.5 }),
  'pointer chase, 5 % noise': made('chase', { pages: 8192, noise: 0.05, computeNs: 500 }),
  'sequential and zipf and random threads': (seed) => mixed(MIX, FIRST_SEED + seed),
};
