/**
 * What every part of a simulated run shares: the one source of chance, the simulated time, the trace and the coverage
 * counters. Nothing in a run may be random, or take its time, from anywhere else: the same seed must give the same
 * trace.
 */
import type { Config } from './config.js';

/** sfc32: small, fast, and good enough that no schedule repeats. */
export class Random {
  private a: number;
  private b = 0x9e3779b9;
  private c = 0x243f6a88;
  private counter = 1;

  constructor(seed: number) {
    this.a = seed | 0;
    for (let i = 0; i < 12; i++) this.next();
  }

  next(): number {
    const t = (this.a + this.b + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + t) | 0;
    return t >>> 0;
  }

  /** An integer in [0, bound). */
  below(bound: number): number {
    return this.next() % bound;
  }

  /** An integer in [low, high]. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  chance(probability: number): boolean {
    return this.next() < probability * 4294967296;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
}

/** TRACE=100000 shows the whole of a run that fails. */
const TRACE_LINES = Number(process.env['TRACE'] ?? 50);

/** Every note goes into the hash; the last ones are kept as numbers and become text only when a run fails. */
export class Trace {
  hash = 0x811c9dc5;
  private readonly ids = new Map<string, number>();
  private readonly what: string[] = new Array<string>(TRACE_LINES).fill('');
  private readonly numbers = new Float64Array(TRACE_LINES * 6);
  private length = 0;

  note(turn: number, now: number, what: string, a = 0, b = 0, c = 0, d = 0): void {
    let id = this.ids.get(what);
    if (id === undefined) this.ids.set(what, (id = this.ids.size + 1));
    let hash = this.hash;
    hash = Math.imul(hash ^ id, 0x01000193);
    hash = Math.imul(hash ^ a, 0x01000193);
    hash = Math.imul(hash ^ b, 0x01000193);
    hash = Math.imul(hash ^ c, 0x01000193);
    hash = Math.imul(hash ^ d, 0x01000193);
    this.hash = hash ^ (hash >>> 15) ^ now;
    const at = this.length++ % TRACE_LINES;
    this.what[at] = what;
    this.numbers.set([turn, now, a, b, c, d], at * 6);
  }

  lines(): string[] {
    const lines: string[] = [];
    for (let i = Math.max(0, this.length - TRACE_LINES); i < this.length; i++) {
      const at = (i % TRACE_LINES) * 6;
      const n = this.numbers.subarray(at, at + 6);
      lines.push(`turn ${n[0]} at ${n[1]}: ${this.what[i % TRACE_LINES]} ${n[2]} ${n[3]} ${n[4]} ${n[5]}`);
    }
    return lines;
  }
}

export class SimFailure extends Error {
  override readonly name = 'SimFailure';
  constructor(
    readonly what: string,
    readonly seed: number,
    readonly step: number,
    steps: number,
    trace: readonly string[],
  ) {
    super(
      `simulation failed: ${what}\nseed ${seed}, step ${step}\n${trace.join('\n')}\n` +
        `replay: npm run sim -- --seed ${seed} --steps ${steps}`,
    );
  }
}

export class World {
  readonly random: Random;
  readonly trace = new Trace();
  /** How often each thing has happened. */
  readonly coverage = new Map<string, number>();
  /**
   * Simulated steps: one is one action of the target, the kernel or the store. Also the simulated microseconds, but for
   * idle waits.
   */
  step = 0;
  now = 0;
  turn = 0;
  /** Simulated time that has passed besides the steps', ns. */
  leapt = 0;
  /** Until this turn threads may have to wait: the store is failing, or the schedule has asked for the impossible. */
  excusedUntil = 0;

  constructor(
    readonly seed: number,
    readonly steps: number,
    readonly config: Config,
    random: Random,
  ) {
    this.random = random;
  }

  /** The simulated clock. */
  get ns(): number {
    return this.now * this.config.nsPerStep + this.leapt;
  }

  hit(what: string, times = 1): void {
    this.coverage.set(what, (this.coverage.get(what) ?? 0) + times);
  }

  note(what: string, a = 0, b = 0, c = 0, d = 0): void {
    this.trace.note(this.turn, this.now, what, a, b, c, d);
  }

  fail(what: string): never {
    throw new SimFailure(what, this.seed, this.step, this.steps, this.trace.lines());
  }
}
