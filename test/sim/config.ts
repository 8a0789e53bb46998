/** The configuration of a run: what the seed chooses. */
import { VICTIM_POLICIES } from '../../src/policy/victim/index.js';
import type { Copies } from '../../src/core/types.js';
import type { Random } from './world.js';

/** What a thread of the program may do besides touching memory. */
export const CALLS = [
  'dontneed',
  'free',
  'munmap',
  'mmap',
  'heap',
  'move',
  'replace',
  'grow',
  'shrink',
  'protect',
  'fork',
  'exit',
  'pin',
  'spawn',
  'onfork',
] as const;
export type CallName = (typeof CALLS)[number];

export const POLICIES = ['leap', 'streams', 'readahead', 'stride', 'next-n', 'none'] as const;

export interface Config {
  /** UFFDIO_MOVE where true, write-protect and discard where false. */
  readonly useMove: boolean;
  readonly zeroPageMoves: boolean;
  readonly frames: number;
  readonly limit: number;
  readonly prefetchBuffer: number;
  readonly prefetch: string;
  readonly victims: string;
  readonly history: number;
  readonly windowMax: number;
  readonly commandRecords: number;
  /** Simulated time that a step takes. */
  readonly nsPerStep: number;
  /** Messages read in one turn at most. */
  readonly harvest: number;
  /** Steps of the target between two turns, at most. */
  readonly pace: number;
  readonly syncStore: boolean;
  readonly storeDelay: number;
  readonly threads: number;
  readonly spaces: number;
  readonly regions: readonly number[];
  /** Share of a thread's actions that are calls, and of what kind. */
  readonly callRate: number;
  /** How often a thread goes where another one is. */
  readonly crowding: number;
  readonly weights: Readonly<Record<CallName, number>>;
  // Chances of trouble.
  readonly eagain: number;
  readonly partial: number;
  readonly busy: number;
  /** How often somebody looks whether anything is pinned, while refused pages wait for that; 0: never. */
  readonly look: number;
  /** One in so many contents is that of a page that the kernel needs when a thread exits; 0: none. */
  readonly needed: number;
  readonly registerError: number;
  readonly interrupt: number;
  readonly reclaim: number;
  readonly helperLost: number;
  readonly readError: number;
  readonly writeError: number;
  readonly writeOutage: number;
  readonly readOutage: number;
  readonly corruptRead: number;
  readonly damage: number;
  /** Slots a chunk; 0: no donors. */
  readonly slotsPerChunk: number;
  readonly copies: Copies;
  readonly donors: number;
  /** How often donors give a chunk, want one back, die. */
  readonly donorRate: number;
  /** The target exits at the end; otherwise the pager detaches. */
  readonly endsWithExit: boolean;
}

/** Half of the runs know nothing of a given trouble, so that each also meets each other one alone. */
const sometimes = (random: Random, most: number): number =>
  random.chance(0.5) ? 0 : (random.below(1000) / 1000) * most;

function drawDonors(random: Random): Pick<Config, 'slotsPerChunk' | 'copies' | 'donors' | 'donorRate'> {
  return {
    slotsPerChunk: random.chance(0.5) ? 0 : random.pick([1, 8, 32, 256]),
    copies: random.pick([1, 2, 2, 3] as const),
    donors: random.between(1, 4),
    donorRate: random.pick([0.002, 0.01, 0.05]),
  };
}

export function drawConfig(random: Random): Config {
  const weights = {} as Record<CallName, number>;
  for (const call of CALLS) weights[call] = random.chance(0.4) ? 0 : random.below(100);
  // Often only a few kinds, which then meet each other all the time.
  if (random.chance(0.5)) {
    const few = [random.chance(0.3) ? 'fork' : random.pick(CALLS), random.pick(CALLS), random.pick(CALLS)];
    for (const call of CALLS) weights[call] = few.includes(call) ? random.between(20, 100) : 0;
  }
  const useMove = random.chance(0.6);
  // A device that writes to a page that was discarded writes elsewhere: the daemon refuses such targets where it must
  // discard.
  if (!useMove) weights.pin = 0;
  const regions: number[] = [];
  for (let n = random.between(1, 4), left = 600; n > 0 && left > 8; n--) {
    const pages = Math.min(left, random.chance(0.5) ? random.between(8, 40) : random.between(40, 300));
    regions.push(pages);
    left -= pages;
  }
  return {
    useMove,
    zeroPageMoves: random.chance(0.5),
    frames: random.chance(0.5) ? random.between(8, 24) : random.between(24, 160),
    limit: random.chance(0.5) ? random.between(4, 24) : random.between(24, 300),
    prefetchBuffer: random.pick([0, 1, 4, 16, 64]),
    prefetch: random.pick(POLICIES),
    victims: random.pick(VICTIM_POLICIES),
    history: random.between(2, 40),
    windowMax: random.pick([1, 4, 8, 32, 64]),
    commandRecords: random.pick([512, 1024, 4096]),
    nsPerStep: random.pick([1000, 100_000, 1_000_000]),
    harvest: random.pick([1, 3, 8, 64, 64]),
    pace: random.pick([1, 3, 10, 40]),
    syncStore: random.chance(0.15),
    storeDelay: random.pick([2, 10, 50]),
    threads: random.between(1, 5),
    spaces: random.between(1, 5),
    regions,
    callRate: random.pick([0, 0.003, 0.01, 0.04, 0.15, 0.3]),
    crowding: random.pick([0, 0, 0.5, 1]),
    weights,
    eagain: sometimes(random, 0.1),
    partial: sometimes(random, 0.1),
    busy: sometimes(random, 0.1),
    look: random.chance(0.1) ? 0 : random.pick([0.1, 0.01]),
    needed: random.pick([0, 0, 10, 50]),
    registerError: sometimes(random, 0.3),
    interrupt: sometimes(random, 0.05),
    reclaim: sometimes(random, 0.1),
    helperLost: random.chance(0.15) ? 0.001 : 0,
    readError: sometimes(random, 0.05),
    writeError: sometimes(random, 0.05),
    writeOutage: random.chance(0.2) ? 0.002 : 0,
    readOutage: random.chance(0.2) ? 0.002 : 0,
    corruptRead: sometimes(random, 0.02),
    damage: random.chance(0.2) ? 0.004 : 0,
    ...drawDonors(random),
    endsWithExit: random.chance(0.15),
  };
}
