/**
 * Synthetic traces: each pattern gives the accesses of its threads, page numbers within one region. Seeded, so that a
 * trace can be made again.
 */
import { FaultKind } from '../src/policy/prefetch/prefetcher.js';
import { Advice } from '../src/tables/regions.js';
import type { Trace } from '../src/trace/format.js';
import { type Random, randomFrom, shuffled, zipfOver } from './random.js';

export interface PatternOptions {
  readonly pages: number;
  readonly touches: number;
  /** Streams of `interleaved`, threads of `threads`. */
  readonly streams: number;
  readonly stride: number;
  /** Share of the touches that go to a random page instead. */
  readonly noise: number;
  /** Share of the touches that write. */
  readonly writes: number;
  /** What a thread computes between two touches, ns. */
  readonly computeNs: number;
  readonly seed: number;
}

export const PATTERN_DEFAULTS: PatternOptions = {
  pages: 16384,
  touches: 65536,
  streams: 4,
  stride: 10,
  noise: 0,
  writes: 0.2,
  computeNs: 1000,
  seed: 1,
};

/** Which page the next touch goes to; the second number is the stream (for `threads`: the thread). */
type Walk = (touch: number) => readonly [page: number, stream: number];
type Pattern = (options: PatternOptions, random: Random) => Walk;

/** Every stride-th page, then the same one further, until every page has had its turn. */
const strided = (pages: number, stride: number): ((touch: number) => number) => {
  const lap = Math.ceil(pages / stride);
  return (touch) => {
    const page = (touch % lap) * stride + (Math.floor(touch / lap) % stride);
    return page < pages ? page : page % pages;
  };
};

/** A loop of so many steps, begun at any of them. */
function begun(walk: (step: number) => number, steps: number, random: Random): (step: number) => number {
  const first = Math.floor(random() * steps);
  return (step) => walk(first + step);
}

/** `streams` parts of the region, each with a stream of its own kind: up, down, by twos, by the stride. */
function streamOf(
  stream: number,
  { pages, streams, stride }: PatternOptions,
  random: Random,
): (step: number) => number {
  const part = Math.floor(pages / streams);
  const first = stream * part;
  const kinds = [
    (step: number) => step % part,
    (step: number) => part - 1 - (step % part),
    strided(part, 2),
    strided(part, stride),
  ];
  const kind = begun(kinds[stream % kinds.length], part, random);
  return (step) => first + kind(step);
}

const PATTERN_TABLE = {
  sequential: ({ pages }, random) => {
    const walk = begun((step) => step % pages, pages, random);
    return (touch) => [walk(touch), 0];
  },
  reverse: ({ pages }, random) => {
    const walk = begun((step) => pages - 1 - (step % pages), pages, random);
    return (touch) => [walk(touch), 0];
  },
  stride: ({ pages, stride }, random) => {
    const walk = begun(strided(pages, stride), pages, random);
    return (touch) => [walk(touch), 0];
  },
  interleaved: (options, random) => {
    const walks = Array.from({ length: options.streams }, (_, stream) => streamOf(stream, options, random));
    const steps = new Int32Array(options.streams);
    return () => {
      const stream = Math.floor(random() * options.streams);
      return [walks[stream](steps[stream]++), 0];
    };
  },
  threads: (options, random) => {
    const walks = Array.from({ length: options.streams }, (_, stream) => streamOf(stream, options, random));
    return (touch) => {
      const stream = touch % options.streams;
      return [walks[stream](Math.floor(touch / options.streams)), stream];
    };
  },
  random:
    ({ pages }, random) =>
    () => [Math.floor(random() * pages), 0],
  zipf: ({ pages }, random) => {
    const next = zipfOver(pages, random);
    return () => [next(), 0];
  },
  phases: ({ pages, stride }, random) => {
    const zipf = zipfOver(pages, random);
    const by = strided(pages, stride);
    const phase = Math.floor(pages / 4);
    return (touch) => {
      const at = Math.floor(touch / phase) * 977;
      const kinds = [() => (touch + at) % pages, () => Math.floor(random() * pages), () => by(touch + at), zipf];
      return [kinds[Math.floor(touch / phase) % kinds.length](), 0];
    };
  },
  chase: ({ pages }, random) => {
    const order = shuffled(pages, random);
    return (touch) => [order[touch % pages], 0];
  },
} satisfies Record<string, Pattern>;

export type PatternName = keyof typeof PATTERN_TABLE;
export const PATTERNS = Object.keys(PATTERN_TABLE) as PatternName[];

export function generate(name: PatternName, given: Partial<PatternOptions> = {}): Trace {
  const options = { ...PATTERN_DEFAULTS, ...given };
  const { pages, touches, noise, writes, computeNs, streams, seed } = options;
  const random = randomFrom(seed);
  const walk = PATTERN_TABLE[name](options, random);
  const spacing = name === 'threads' ? computeNs / streams : computeNs;
  const page = new Int32Array(touches);
  const thread = new Int32Array(touches);
  const write = new Uint8Array(touches);
  const time = new Float64Array(touches);
  for (let i = 0; i < touches; i++) {
    const [at, stream] = walk(i);
    page[i] = noise > 0 && random() < noise ? Math.floor(random() * pages) : at;
    thread[i] = 100 + stream;
    write[i] = random() < writes ? 1 : 0;
    time[i] = Math.round(i * spacing);
  }
  return {
    about: { made: 'leap-lab generate', name, ...options },
    length: touches,
    time,
    thread,
    page,
    kind: new Uint8Array(touches).fill(FaultKind.miss),
    write,
    regions: [{ space: 0, advice: Advice.none, start: 0x7f0000000, first: 0, count: pages }],
    lost: 0,
    cutOff: false,
  };
}
