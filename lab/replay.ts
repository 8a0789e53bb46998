/** Replays a workload under one policy: leapd's pager on the engine of the laboratory. */
import { DEMAND_FRAMES, EVICTION_FRAMES } from '../src/core/pager-options.js';
import { Pager } from '../src/pager/pager.js';
import { createPrefetcher, DEFAULT_HISTORY, DEFAULT_WINDOW_MAX } from '../src/policy/prefetch/index.js';
import { FaultKind, Plan, type Prefetcher, type PrefetchOptions } from '../src/policy/prefetch/prefetcher.js';
import { DEFAULT_PREFETCH_BUFFER } from '../src/tables/prefetch-buffer.js';
import { type PageIndex, pageIndex } from '../src/core/types.js';
import { DEFAULT_VICTIM_POLICY } from '../src/policy/victim/index.js';
import { randomFrom } from './random.js';
import { ReplayEngine, type Truth } from './replay-engine.js';
import { STORES, type StoreModel } from './store-model.js';
import type { Workload } from './workload.js';

export interface ReplayOptions {
  readonly policy: string;
  /** Share of the pages touched that may be resident. */
  readonly local: number;
  /** The most pages of the prefetch buffer; see `bufferFor`. */
  readonly mostBuffer?: number;
  readonly store?: StoreModel;
  readonly history?: number;
  readonly windowMax?: number;
  readonly victims?: string;
  /** More stall than this is as bad as any: the replay ends there, and its figures are those of a part. */
  readonly enoughNs?: number;
  /** Ask the clock how long each decision takes; the rest of the result does not depend on it. */
  readonly timed?: boolean;
}

export interface ReplayResult {
  readonly policy: string;
  readonly local: number;
  readonly faults: number;
  readonly demandReads: number;
  readonly prefetched: number;
  readonly used: number;
  /** Prefetched and used / all that had to be read and was used. */
  readonly coverage: number;
  /** Used / prefetched. */
  readonly accuracy: number;
  /** Share of the pages used that had arrived when they were touched; and how long they had been there, median. */
  readonly inTime: number;
  readonly earlyNs: number;
  /** Prefetched pages that left unused; of these, those that had taken a resident page's place. */
  readonly dropped: number;
  readonly droppedMapped: number;
  readonly pagesRead: number;
  readonly evictions: number;
  readonly stallNs: number;
  readonly endNs: number;
  /** Time of a decision, ns: median and 99th percentile; NaN when not timed. */
  readonly decisionNs: number;
  readonly decisionP99Ns: number;
  /** [accesses made, stall so far in ns], thinned. */
  readonly stalls: readonly (readonly [number, number])[];
  /** [accesses made, pages planned], thinned. */
  readonly windows: readonly (readonly [number, number])[];
}

const STEP_NS = 50e6;
const SETTLE_STEPS = 100_000;
const POINTS = 400;

/** What a trace of this size may have as a buffer: one that held all that is out would leave nothing to prefetch. */
const bufferFor = (touchedPages: number, asked = DEFAULT_PREFETCH_BUFFER): number =>
  Math.max(64, Math.min(asked, touchedPages >> 3));

export function replay(workload: Workload, options: ReplayOptions): ReplayResult {
  const {
    policy,
    local,
    store = STORES['rdma'],
    history = DEFAULT_HISTORY,
    windowMax = DEFAULT_WINDOW_MAX,
    victims = DEFAULT_VICTIM_POLICY,
  } = options;
  const prefetchBuffer = bufferFor(workload.touchedPages, options.mostBuffer);
  const frames = prefetchBuffer + Math.min(EVICTION_FRAMES.most, Math.ceil(prefetchBuffer / 8)) + DEMAND_FRAMES;
  const engine = new ReplayEngine(workload, store, frames);
  const pager = new Pager(engine, {
    localLimit: { pages: Math.max(16, Math.ceil(workload.touchedPages * local)) },
    frames,
    prefetchBuffer,
    prefetch: 'none',
    history,
    windowMax,
    victims,
    evict: 'auto',
    copies: 2,
    notify: (level, message) => {
      if (level !== 'info') throw new Error(`replay: ${message}`);
    },
  });
  pager.attach();
  settle(engine, pager);
  const make = (): Prefetcher => createPrefetcher(policy, { history, windowMax });
  const watched = new Watched(make(), engine, options.timed ?? false);
  pager.setPrefetch(watched);
  const before = pager.stats();
  const startNs = engine.nowNs;
  engine.start();
  const mostSteps = 1000 + 200 * workload.threads.reduce((sum, { accesses }) => sum + accesses.length, 0);
  for (let steps = 0; !engine.done && engine.truth.stallNs <= (options.enoughNs ?? Infinity); steps++) {
    if (steps > mostSteps) throw new Error(`replay: ${policy} makes no progress`);
    pager.step(STEP_NS);
  }
  const after = pager.stats();
  const times = options.timed ? timed(make, watched.calls) : [];
  return result(options, engine, watched.windows, times, startNs, {
    faults: after.faults - before.faults,
    evictions: after.evictions - before.evictions,
  });
}

/** Until what is beyond the limit is out and written. */
function settle(engine: ReplayEngine, pager: Pager): void {
  for (let quiet = 0, steps = 0; quiet < 3; steps++) {
    if (steps > SETTLE_STEPS) throw new Error('replay: the pager does not get down to its limit');
    const { evictions } = pager.stats();
    pager.step(STEP_NS);
    quiet = engine.inFlight === 0 && pager.stats().evictions === evictions ? quiet + 1 : 0;
  }
}

/** What the policy was asked, and what came of its answer: as many numbers a call as there are names here. */
const CALL_WORDS = 15;
/** So many of them are what came of it; and the crowd, which is no whole number, stands in such parts. */
const OUTCOME_WORDS = 6;
const CROWD_PARTS = 2 ** 16;
const WARM_CALLS = 50_000;
const WARM_JUMPS = 0.1;
const MOST_CALLS = 200_000;
const ROUNDS = 5;

/** A policy whose windows are noted, and its calls so that they can be made again. */
class Watched implements Prefetcher {
  readonly windows: [number, number][] = [];
  readonly calls: number[] = [];

  constructor(
    private readonly policy: Prefetcher,
    private readonly engine: ReplayEngine,
    private readonly keepsCalls: boolean,
  ) {}

  get name(): string {
    return this.policy.name;
  }

  get counters(): Prefetcher['counters'] {
    return this.policy.counters;
  }

  fault(page: PageIndex, thread: number, kind: number, ahead: number, plan: Plan): void {
    if (this.keepsCalls) {
      const { regionFirst, regionEnd, advice, late, crowd } = plan;
      this.calls.push(
        page,
        thread,
        kind,
        ahead,
        regionFirst,
        regionEnd,
        advice,
        Number(late),
        Math.round(crowd[0] * CROWD_PARTS),
        0,
        0,
        0,
        0,
        0,
        0,
      );
    }
    this.policy.fault(page, thread, kind, ahead, plan);
    const planned = plan.count + plan.listed;
    if (planned > 0) this.windows.push([this.engine.accesses, planned]);
  }

  carriedOut(plan: Plan): void {
    this.policy.carriedOut?.(plan);
    const { last, fetched, mapped, marker, resident, passed } = plan;
    if (this.keepsCalls)
      this.calls.splice(-OUTCOME_WORDS, OUTCOME_WORDS, last, fetched, mapped, marker, resident, passed);
  }

  configure(options: PrefetchOptions): void {
    this.policy.configure(options);
  }
}

/**
 * Makes the same calls to a policy of its own, again and again. A call costs the least that it ever took: until it is
 * compiled it takes longer, and whenever another program has the processor. What a trace asks for too seldom to be
 * compiled, other faults, short streams at random places, have asked for before. @returns ms a call, ascending
 */
function timed(make: () => Prefetcher, calls: readonly number[]): number[] {
  const count = Math.min(MOST_CALLS, calls.length / CALL_WORDS);
  const words = Int32Array.from(calls.slice(0, count * CALL_WORDS));
  const plan = new Plan();
  const times = new Float64Array(count).fill(Infinity);
  const random = randomFrom(1);
  const warm = make();
  plan.regionEnd = WARM_CALLS;
  for (let call = 0, page = 0; call < WARM_CALLS; call++) {
    page = random() < WARM_JUMPS ? Math.floor(random() * WARM_CALLS) : page + 1;
    warm.fault(pageIndex(page), 1, call % 2 === 0 ? FaultKind.miss : FaultKind.evictedHit, 0, plan);
    if (plan.count > 0) warm.carriedOut?.(plan);
  }
  const rounds = count === 0 ? 0 : ROUNDS + Math.ceil(WARM_CALLS / count);
  for (let round = 0; round < rounds; round++) {
    const policy = make();
    for (let call = 0, at = 0; call < count; call++, at += CALL_WORDS) {
      plan.regionFirst = words[at + 4];
      plan.regionEnd = words[at + 5];
      plan.advice = words[at + 6];
      plan.late = words[at + 7] === 1;
      plan.crowd[0] = words[at + 8] / CROWD_PARTS;
      const begin = performance.now();
      policy.fault(pageIndex(words[at]), words[at + 1], words[at + 2], words[at + 3], plan);
      plan.last = words[at + 9];
      plan.fetched = words[at + 10];
      plan.mapped = words[at + 11];
      plan.marker = words[at + 12];
      plan.resident = words[at + 13];
      plan.passed = words[at + 14];
      if (plan.count > 0 || plan.listed > 0 || plan.mapAhead) policy.carriedOut?.(plan);
      times[call] = Math.min(times[call], performance.now() - begin);
    }
  }
  return [...times.sort()];
}

function result(
  { policy, local }: ReplayOptions,
  engine: ReplayEngine,
  windows: readonly (readonly [number, number])[],
  times: readonly number[],
  startNs: number,
  counts: { readonly faults: number; readonly evictions: number },
): ReplayResult {
  const truth: Truth = engine.truth;
  const { demandReads, prefetched, used, late, dropped, droppedMapped, stallNs } = truth;
  return {
    policy,
    local,
    ...counts,
    demandReads,
    prefetched,
    used,
    coverage: used + demandReads === 0 ? 1 : used / (used + demandReads),
    accuracy: prefetched === 0 ? 1 : used / prefetched,
    inTime: used === 0 ? 1 : 1 - late / used,
    earlyNs: middle(truth.early),
    dropped,
    droppedMapped,
    pagesRead: prefetched + demandReads,
    stallNs,
    endNs: engine.nowNs - startNs,
    decisionNs: (times[times.length >> 1] ?? Number.NaN) * 1e6,
    decisionP99Ns: (times[Math.floor(times.length * 0.99)] ?? Number.NaN) * 1e6,
    stalls: thin(truth.stalls),
    windows: thin(windows),
  };
}

function middle(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

function thin<T>(points: readonly T[]): T[] {
  const every = Math.max(1, Math.ceil(points.length / POINTS));
  return points.filter((_, i) => i % every === 0 || i === points.length - 1);
}
