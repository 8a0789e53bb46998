/**
 * Real processes under a real leapd. A `Scene` belongs to one test: it starts targets and leapds, keeps their files in
 * a directory of its own, and ends all of it when the test is over, whatever happened. Every wait is bounded and says
 * what it waited for, with the last lines of who was late.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { call } from '../../src/cli/control-client.js';
import type { DonorStats } from '../../src/donors/donors.js';
import { Child, describeExit, poll, sleep } from './child.js';
import * as proc from './proc.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
export const leapdPath = join(root, 'dist/daemon/leapd.js');
export const leapctlPath = join(root, 'dist/daemon/leapctl.js');
const targetPath = (name: string): string => join(root, 'build/targets', name);

/** An emulated machine is some ten times slower. */
const SLOW = process.env['LEAP_RXE'] === '1' ? 6 : 1;
/** Longer than anything here takes on a slow machine, shorter than anybody's patience. */
export const START_MS = SLOW * 15_000;
export const WORK_MS = SLOW * 30_000;
export const END_MS = SLOW * 20_000;

/** Tiny, so that everything happens all the time: eviction, refault, full buffers. */
export const tiny = { 'local-memory': '512K', 'prefetch-buffer': '64', 'window-max': '8' } as const;
export const TINY_PAGES = 128;

export type Options = Readonly<Record<string, string | number | true>>;
export type Stats = Readonly<Record<string, number>> & { readonly donors?: readonly DonorStats[] };

export const evictWays = ['move', 'discard', 'discard-single'] as const;

let targetsBuilt = false;
function buildTargets(): void {
  if (!targetsBuilt)
    execFileSync('sh', [join(root, 'test/targets/build.sh')], { stdio: ['ignore', 'ignore', 'inherit'] });
  targetsBuilt = true;
}

/** Why nothing can be run here; false when it can. For the `skip` of a test. */
export const cannotRun: string | false =
  process.getuid?.() !== 0
    ? 'needs root: leapd attaches to other processes'
    : existsSync(leapdPath)
      ? false
      : 'leapd is not built: npm run build';

const flags = (options: Options): string[] =>
  Object.entries(options).flatMap(([name, value]) => (value === true ? [`--${name}`] : [`--${name}`, String(value)]));
const words = (options: Options): string[] => Object.entries(options).map(([name, value]) => `${name}=${value}`);

export class Leapd extends Child {
  /** Attaches have happened by the time this resolves. */
  constructor(
    readonly target: number,
    readonly swapFile: string,
    readonly control: string,
    options: Options,
  ) {
    super(`leapd of ${target}`, process.execPath, [
      leapdPath,
      ...flags({ pid: target, 'swap-file': swapFile, control, 'log-level': 'info', ...options }),
    ]);
  }

  /** The log, as objects; what is no JSON is a message. */
  get log(): Record<string, unknown>[] {
    return this.lines.map((line) => {
      try {
        return JSON.parse(line) as Record<string, unknown>;
      } catch {
        return { msg: line };
      }
    });
  }

  said(pattern: RegExp): boolean {
    return this.log.some((record) => pattern.test(String(record['msg'])));
  }

  attached(ms = START_MS): Promise<true> {
    return this.until('attach', ms, () =>
      this.log.some((record) => 'attachMs' in record || record['msg'] === 'attached') ? true : undefined,
    );
  }

  /** Ends with code 0, and its files are gone. */
  async cleanEnd(ms = END_MS): Promise<void> {
    const exit = await this.end(ms);
    assert.equal(describeExit(exit), 'code 0', `how leapd ended${this.tail()}`);
    for (const file of [this.swapFile, this.control]) assert.equal(existsSync(file), false, `${file} is still there`);
  }

  /** It did page, and nothing went wrong, as its last word has it. */
  assertServed(): void {
    const last = this.log.findLast((record) => 'evictions' in record && 'seconds' in record) as Stats | undefined;
    assert.ok(last !== undefined, `it has said no last word${this.tail()}`);
    assert.ok(last['faults']! > 0, 'no fault was served');
    assert.ok(last['evictions']! > 0, 'nothing was evicted');
    assert.deepEqual([last['hashMismatches'], last['lostPages']], [0, 0], 'wrong pages, lost pages');
  }

  detach(): Promise<void> {
    this.kill('SIGTERM');
    return this.cleanEnd();
  }

  ctl(...args: string[]): string {
    const words = [leapctlPath, ...args, '--control', this.control];
    return execFileSync(process.execPath, words, {
      encoding: 'utf8',
      timeout: START_MS,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** Asks over the socket itself: a leapctl takes ten times as long to start as to answer. */
  async stats(): Promise<Stats> {
    return (await call({ socket: this.control, command: 'stats' })) as unknown as Stats;
  }

  async set(settings: Readonly<Record<string, string>>): Promise<void> {
    await call({ socket: this.control, command: 'set', arguments: settings });
  }
}

export class Target extends Child {
  constructor(
    readonly program: string,
    readonly options: Options,
    cwd: string,
  ) {
    super(program, targetPath(program), words(options), { cwd });
  }

  async ready(ms = START_MS): Promise<number> {
    return Number((await this.line(/^READY (\d+)$/, ms))[1]);
  }

  /** "checksum rounds" of DONE, after a clean exit. */
  async finish(ms = WORK_MS): Promise<{ checksum: string; rounds: number }> {
    const [, checksum = '', rounds = ''] = await this.line(/^DONE (\w+) (\d+)$/, ms);
    const exit = await this.end(END_MS);
    assert.equal(describeExit(exit), 'code 0', `how ${this.program} ended${this.tail()}`);
    return { checksum, rounds: Number(rounds) };
  }
}

const references = new Map<string, Promise<string[]>>();

export class Scene {
  readonly directory = mkdtempSync(join(tmpdir(), 'leap-e2e-'));
  private readonly cast: Child[] = [];
  private readonly undo: (() => void)[] = [];
  private leapds = 0;

  constructor(private readonly test: TestContext) {
    buildTargets();
    test.after(() => this.close());
  }

  /** Keeps `child` in the scene until its end. */
  add<T extends Child>(child: T): T {
    this.cast.push(child);
    return child;
  }

  /** Something to do at the end, last first. */
  atEnd(act: () => void): void {
    this.undo.push(act);
  }

  target(program: string, options: Options = {}): Target {
    return this.add(new Target(program, options, this.directory));
  }

  leapd(pid: number, options: Options = {}): Leapd {
    const n = this.leapds++;
    const swapFile = String(options['swap-file'] ?? join(this.directory, `swap${n}`));
    return this.add(new Leapd(pid, swapFile, join(this.directory, `control${n}`), { ...tiny, ...options }));
  }

  /** A leapd that serves pages when this resolves. */
  async attach(pid: number, options: Options = {}): Promise<Leapd> {
    const leapd = this.leapd(pid, options);
    await leapd.attached();
    return leapd;
  }

  note(text: string): void {
    this.test.diagnostic(text);
  }

  /** Everything dies, targets first: a leapd whose target is gone has nothing to lose. */
  private async close(): Promise<void> {
    const pids = this.cast
      .filter((child) => !(child instanceof Leapd))
      .flatMap((child) => (child.exit ? [] : proc.family(child.pid)));
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone already
      }
    }
    await Promise.allSettled(this.cast.map((child) => (child instanceof Leapd ? child.end(2000) : undefined)));
    for (const child of this.cast) child.kill('SIGKILL');
    await Promise.allSettled(this.cast.map((child) => child.end(2000)));
    for (const act of this.undo.reverse()) act();
    for (const child of this.cast)
      if (child instanceof Leapd) rmSync(`/run/leap/${child.target}.json`, { force: true });
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** What a target prints at its end without leapd, line by line; run once for each set of options. */
export function reference(scene: Scene, program: string, options: Options): Promise<string[]> {
  const key = `${program} ${words(options).join(' ')}`;
  const run = async (): Promise<string[]> => {
    const target = scene.target(program, options);
    await target.ready();
    target.send('go');
    await target.line(/^DONE/, WORK_MS);
    await target.end(END_MS);
    return target.output.filter((line) => /^(DONE|CHILD)/.test(line)).sort();
  };
  const known = references.get(key) ?? run();
  references.set(key, known);
  return known;
}

/** What must hold of the counters when much more memory is in use than may be local. */
export function assertPaged(stats: Stats, limitPages: number): void {
  assert.ok(stats['evictions']! > 0, 'nothing was evicted');
  assert.ok(stats['faults']! > 0, 'no fault was served');
  assert.ok(
    stats['residentPages']! <= limitPages,
    `${stats['residentPages']} pages are resident, ${limitPages} may be`,
  );
  assert.equal(stats['localLimitPages'], limitPages);
  for (const bad of ['hashMismatches', 'lostPages', 'readErrors', 'writeErrors']) assert.equal(stats[bad] ?? 0, 0, bad);
}

/** The target is as it was, but for what it did itself. */
export function assertSame(before: proc.View, after: proc.View): void {
  assert.deepEqual(after, before, 'what /proc shows after the detach, and before the attach');
}

/** Until nothing is left to evict, as leapd counts it. */
async function withinLimit(leapd: Leapd): Promise<void> {
  await poll(
    () => 'the resident memory at its limit',
    END_MS,
    async () => {
      const stats = await leapd.stats();
      return stats['residentPages']! <= stats['localLimitPages']! ? true : undefined;
    },
  );
}

/**
 * Until the resident memory is within the limit, as leapd counts it and as the kernel does. `others`: pages that are
 * not paged (main stack, data of files).
 */
export async function settled(leapd: Leapd, limitPages: number, others = 400): Promise<Stats> {
  let stats: Stats = {};
  const shortfall = (): string =>
    `at most ${limitPages} pages resident (RssAnon ${proc.anonymousPages(leapd.target)} pages, ${JSON.stringify(stats)})`;
  await poll(shortfall, END_MS, async () => {
    stats = await leapd.stats();
    return stats['residentPages']! <= limitPages && proc.anonymousPages(leapd.target) <= limitPages + others
      ? true
      : undefined;
  });
  return stats;
}

export interface Run {
  readonly program: string;
  /** The target's options; seed 1 unless given. */
  readonly options?: Options;
  readonly leapd?: Options;
  /** idle: attach while it waits for its command. busy: attach while it works, and let it work on for `busyMs`. */
  readonly attach?: 'idle' | 'busy';
  readonly busyMs?: number;
  /** It works until it is told to stop; so does every busy one. */
  readonly endless?: boolean;
  /**
   * exit: it ends under leapd. detach: leapd goes when the work is done, and the target looks at all of its memory
   * again.
   */
  readonly end?: 'exit' | 'detach';
  /** What to wait for before it begins. */
  readonly before?: (leapd: Leapd) => Promise<unknown>;
  /** What else to do while it works. */
  readonly meanwhile?: (target: Target, leapd: Leapd, pid: number) => Promise<void>;
}

/** Runs a target under leapd from beginning to end and compares it with a run without. @returns leapd, for its log. */
export async function paged(test: TestContext, run: Run): Promise<Leapd> {
  const scene = new Scene(test);
  const busy = run.attach === 'busy';
  const endless = busy || run.endless === true;
  const detach = run.end === 'detach';
  const options = { seed: 1, ...run.options, ...(endless && { rounds: 0 }) };
  const target = scene.target(run.program, { ...options, ...(detach && { hold: 1 }) });
  const pid = await target.ready();
  const before = proc.view(pid, false);
  if (busy) target.send('go');
  const leapd = await scene.attach(pid, run.leapd);
  let stats: Stats | undefined;
  try {
    if (!busy) {
      await run.before?.(leapd);
      await withinLimit(leapd); // else a quick target is done before anything has been evicted
      target.send('go');
    }
    await run.meanwhile?.(target, leapd, pid);
    if (endless) {
      await sleep(run.busyMs ?? 700);
      stats = await leapd.stats();
      target.send('stop');
    }
    if (detach) {
      await target.line(/^HOLD$/, WORK_MS);
      stats = await leapd.stats();
      await leapd.detach();
      assertSame(before, proc.view(pid, false));
      target.send('go');
    }
    const { rounds } = await target.finish();
    if (!detach) await leapd.cleanEnd();
    leapd.assertServed();
    const wanted = await reference(scene, run.program, { ...options, ...(endless && { rounds }) });
    assert.deepEqual(
      target.output.filter((line) => /^(DONE|CHILD)/.test(line)).sort(),
      wanted,
      'the result, and that of a run without leapd',
    );
  } catch (error) {
    await Promise.race([target.closed, sleep(200)]); // its last words may be on their way
    const state = target.exit ? describeExit(target.exit) : 'running';
    const facts = [
      `threads of ${pid}: ${proc.waits(pid)}`,
      `${target.name} (${state})${target.tail()}`,
      `${leapd.name}${leapd.tail(30)}`,
    ];
    if (error instanceof Error) error.message += `\n  ${facts.join('\n  ')}`;
    throw error;
  }
  if (stats)
    scene.note(
      `${run.program}: ${stats['faults']} faults, ${stats['evictions']} evictions, ${stats['swapReads']} pages read`,
    );
  return leapd;
}
