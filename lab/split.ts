/**
 * Tuning half and held-out half of the traces: policies may be changed by what they do on the first, and are
 * judged by the second.
 *
 * The traces that policies had been tuned on before this rule was written belong to the tuning half. Every other
 * trace is held out when the highest bit of its name's hash (FNV-1a, 32 bits, of the UTF-8 bytes) is 1. A trace
 * that is added later gets its half by its name, before it is replayed.
 */
export type Half = 'tuning' | 'held-out';

/** Traces that policies were tuned on before the traces were split. */
export const TUNED_BEFORE: readonly string[] = [
  ...['json', 'matrix', 'pagerank', 'redis', 'sort', 'sqlite'],
  ...[
    'sequential',
    'reverse',
    'stride 10',
    '4 streams in one thread',
    '8 streams in one thread',
    '4 threads',
    '8 threads',
    'random',
    'zipf',
    'phases',
  ],
  ...['pointer chase', 'sequential, 20 % noise', '8 streams, 20 % noise', '8 threads, 20 % noise'],
];

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

export function halfOf(name: string): Half {
  if (TUNED_BEFORE.includes(name)) return 'tuning';
  let hash = FNV_OFFSET;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, FNV_PRIME);
  return hash >>> 31 === 1 ? 'held-out' : 'tuning';
}
