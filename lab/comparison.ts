/**
 * The traces that policies are compared on: the fixtures in test/traces, and synthetic ones. docs/prefetch.md and the
 * goals in test/unit/stall.test.ts stand on them.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Trace } from '../src/trace/format.js';
import { generate, type PatternName, type PatternOptions } from './patterns.js';
import { readTrace } from './trace-file.js';

export const LOCAL = [0.25, 0.5];
/** How much longer than with the best other policy the threads may stall. */
export const GOAL = 1.01;

/**
 * Which part of a loop stays resident, and who waits when for whom, is a matter of luck: by that a stall changes by
 * some per cent, and with several threads by a factor of two. So a synthetic pattern is compared over the stall of so
 * many traces, each with a seed of its own: it begins elsewhere.
 */
export const SEEDS = 8;

export interface Compared {
  readonly name: string;
  /** How many traces there are. */
  readonly seeds: number;
  /** @param seed from 1 on */
  readonly load: (seed: number) => Trace;
}

export const realTraces = (directory: string): Compared[] =>
  readdirSync(directory)
    .sort()
    .map((file) => ({ name: file.replace('.leap.gz', ''), seeds: 1, load: () => readTrace(join(directory, file)) }));

const made = (name: string, pattern: PatternName, options: Partial<PatternOptions> = {}): Compared => ({
  name,
  seeds: SEEDS,
  load: (seed) => generate(pattern, { ...options, seed }),
});

export const SYNTHETIC: readonly Compared[] = [
  made('sequential', 'sequential'),
  made('reverse', 'reverse'),
  made('stride 10', 'stride'),
  made('4 streams in one thread', 'interleaved'),
  made('8 streams in one thread', 'interleaved', { streams: 8 }),
  made('4 threads', 'threads'),
  made('8 threads', 'threads', { streams: 8 }),
  made('random', 'random'),
  made('zipf', 'zipf'),
  made('phases', 'phases'),
  made('pointer chase', 'chase'),
  made('sequential, 20 % noise', 'sequential', { noise: 0.2 }),
  made('8 streams, 20 % noise', 'interleaved', { streams: 8, noise: 0.2 }),
  made('8 threads, 20 % noise', 'threads', { streams: 8, noise: 0.2 }),
];
