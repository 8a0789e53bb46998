/** The traces that policies are compared on: the fixtures in test/traces, and synthetic ones. docs/prefetch.md and the goals in test/unit/lab.test.ts stand on them. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Trace } from '../src/trace/format.js';
import { generate, type PatternName, type PatternOptions } from './patterns.js';
import { readTrace } from './trace-file.js';

export const LOCAL = [0.25, 0.5];
/** How much longer than with the best other policy the threads may stall. */
export const GOAL = 1.01;

export interface Compared {
  readonly name: string;
  /** @param seed of a synthetic one; 1 when left out */
  readonly load: (seed?: number) => Trace;
}

export const realTraces = (directory: string): Compared[] =>
  readdirSync(directory)
    .sort()
    .map((file) => ({ name: file.replace('.leap.gz', ''), load: () => readTrace(join(directory, file)) }));

const made = (name: string, pattern: PatternName, options: Partial<PatternOptions> = {}): Compared => ({ name, load: (seed = 1) => generate(pattern, { ...options, seed }) });

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
