/**
 * `npm test`: the whole suite, stage by stage. It prints one line per file, every failure in full, the slowest tests,
 * the reason of each skipped test, and last `N passed, N failed, N skipped`.
 *
 *   npm test                   all stages: lint, sim, unit, native, e2e, rxe
 *   npm test -- unit e2e       some stages
 *   npm test -- e2e/bad-input  the files of a stage whose names begin with `bad-input`
 *   LEAP_NO_SKIP=1 npm test    a skipped test counts as failed
 *
 * The stage rxe boots a VM with Soft-RoCE and runs this program in it.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { run } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PassThrough } from 'node:stream';
import { runInVm, VmFailure, VmUnavailable } from './rxe/vm.js';

/** Lines shown of the output of a failed file. */
const LONGEST_OUTPUT = 200;
/** Tests listed as the slowest ones of a run. */
const SLOWEST = 10;

const root = fileURLToPath(new URL('../../', import.meta.url));

interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

const total: Tally = { passed: 0, failed: 0, skipped: 0 };
const skips: string[] = [];
/** Duration of each single test of a Node file, in seconds. Native cases are not timed one by one. */
const durations: { readonly name: string; readonly seconds: number }[] = [];
const secondsSince = (begin: number): string => ((performance.now() - begin) / 1000).toFixed(1);
const say = (text: string): void => void process.stdout.write(`${text}\n`);

interface Stage {
  readonly name: string;
  readonly run: (wanted: readonly string[]) => Promise<void>;
}

/**
 * Groups of stages. The groups run one after the other, the stages of a group side by side: `lint` and `sim` compute on
 * one CPU each. `native`, `e2e` and `rxe` have time limits in their tests and run alone.
 */
const groups: readonly (readonly Stage[])[] = [
  [
    { name: 'lint', run: () => lines('lint', 'bash', ['scripts/lint.sh'], 10) },
    { name: 'sim', run: (wanted) => nodeTests('sim', { together: 1, minutes: 10 }, wanted) },
  ],
  // 5 minutes a file: the slowest one takes 60 s on an idle machine, and twice that beside other work.
  [{ name: 'unit', run: (wanted) => nodeTests('unit', { together: 2, minutes: 5 }, wanted) }],
  [{ name: 'native', run: () => lines('native', 'bash', ['native/test/run.sh'], 10) }],
  [{ name: 'e2e', run: (wanted) => nodeTests('e2e', { together: 1, minutes: 10 }, wanted) }],
  [{ name: 'rxe', run: (wanted) => (process.env['LEAP_RXE'] === '1' ? testsInVm(wanted) : vmWithTests(wanted)) }],
];

/** Native tests that need an RDMA device. They are built outside the VM, where that takes a tenth of the time. */
const nativeRdma = ['fabric', 'remote'].filter((name) => existsSync(`${root}native/test/${name}_test.cc`));
const VM_MINUTES = 50;

function count(verdict: keyof Tally, name: string, reason?: string): void {
  if (verdict === 'skipped') {
    skips.push(`${name}: ${reason || 'no reason given'}`);
    if (process.env['LEAP_NO_SKIP'] === '1') {
      total.failed++;
      say(`not ok  ${name}: skipped (${reason ?? 'no reason given'}), and LEAP_NO_SKIP is set`);
      return;
    }
  }
  total[verdict]++;
}

interface Way {
  /** Files that run side by side. */
  readonly together: number;
  readonly minutes: number;
  /** Show what tests tell of themselves with t.diagnostic(). */
  readonly figures?: boolean;
}

async function nodeTests(stage: string, way: Way, wanted: readonly string[]): Promise<void> {
  const directory = `${root}dist/test/${stage}/`;
  const sources = `${root}test/${stage}/`;
  if (!existsSync(sources)) return;
  // From the sources: what was compiled from a file that is gone now must not run.
  const names = readdirSync(sources).flatMap((name) =>
    name.endsWith('.test.ts') ? name.slice(0, -'.test.ts'.length) : [],
  );
  const chosen = names.filter((name) => wanted.length === 0 || wanted.some((begin) => name.startsWith(begin))).sort();
  const left = chosen.values();
  const runLeft = async (): Promise<void> => {
    for (const name of left) await nodeTest(`${stage}/${name}`, `${directory}${name}.test.js`, way);
  };
  await Promise.all(Array.from({ length: way.together }, runLeft));
}

async function nodeTest(name: string, file: string, { minutes, figures = false }: Way): Promise<void> {
  const begin = performance.now();
  const mine: Tally = { passed: 0, failed: 0, skipped: 0 };
  const output: string[] = [];
  const told: string[] = [];
  const stream = run({ files: [file], timeout: minutes * 60_000, concurrency: 1 });
  stream.on('test:pass', ({ name: test, details, skip, todo }) => {
    if (details.type === 'suite' || todo) return;
    const skipped = skip !== undefined && skip !== false;
    mine[skipped ? 'skipped' : 'passed']++;
    count(skipped ? 'skipped' : 'passed', `${name}: ${test}`, typeof skip === 'string' ? skip : undefined);
    durations.push({ name: `${name}: ${test}`, seconds: details.duration_ms / 1000 });
  });
  stream.on('test:fail', ({ name: test, details, nesting }) => {
    if (details.type === 'suite' && details.error.message.includes('subtest')) return; // its tests have been counted
    mine.failed++;
    count('failed', `${name}: ${test}`);
    const { cause } = details.error;
    const stack = cause instanceof Error ? cause.stack : String(cause ?? details.error.stack);
    output.push(`${'  '.repeat(nesting + 1)}${test}\n${stack}`);
  });
  stream.on('test:stdout', ({ message }) => output.push(message.trimEnd()));
  stream.on('test:stderr', ({ message }) => output.push(message.trimEnd()));
  stream.on('test:diagnostic', ({ message }) => {
    // Not the runner's own summary.
    if (!/^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) /.test(message)) told.push(message);
  });
  for await (const event of stream) void event;
  report(name, mine, begin, output);
  if (figures) for (const line of told) say(`          ${line}`);
}

/** In the VM. */
async function testsInVm(wanted: readonly string[]): Promise<void> {
  for (const name of nativeRdma) {
    if (wanted.length > 0 && !wanted.includes('native')) continue;
    await lines(`rxe/native/${name}`, 'sh', ['native/test/run.sh', '--plain', '--built', name], 10);
  }
  await nodeTests('rxe', { together: 1, minutes: 30, figures: true }, wanted);
}

/** Runs `testsInVm` in a VM; passes its output on and adds its counts and its slowest tests to this run's. */
async function vmWithTests(wanted: readonly string[]): Promise<void> {
  const begin = performance.now();
  const fail = (name: string, output: readonly string[]): void => {
    count('failed', `rxe: ${name}`);
    report(`rxe/${name}`, { passed: 0, failed: 1, skipped: 0 }, begin, output);
  };
  for (const name of nativeRdma) {
    const built = spawnSync('sh', [`${root}native/test/run.sh`, '--plain', '--build', name], {
      encoding: 'utf8',
      timeout: 10 * 60_000,
    });
    if (built.status !== 0) fail(`native/${name}`, [built.stdout, built.stderr]);
  }
  // What the tests need that a C compiler makes.
  const targets = spawnSync('sh', [`${root}test/targets/build.sh`], { encoding: 'utf8', timeout: 10 * 60_000 });
  if (targets.status !== 0) fail('targets', [targets.stderr]);
  const out = new PassThrough();
  let tallied = false;
  let listing = '';
  const lines = createInterface({ input: out });
  const read = new Promise<void>((resolve) => lines.once('close', resolve));
  lines.on('line', (line) => {
    const tally = /^(\d+) passed, (\d+) failed, (\d+) skipped$/.exec(line);
    const item = listing !== '' ? /^ {2}(.*)$/.exec(line)?.[1] : undefined;
    if (tally !== null) {
      tallied = true;
      total.passed += Number(tally[1]);
      total.failed += Number(tally[2]);
      total.skipped += Number(tally[3]);
    } else if (line === 'skipped:' || line === 'slowest:') listing = line;
    else if (item !== undefined && listing === 'skipped:') skips.push(item);
    else if (item !== undefined) {
      const [, seconds = '0', name = item] = /^ *([\d.]+) s {2}(.*)$/.exec(item) ?? [];
      durations.push({ name, seconds: Number(seconds) });
    } else if (line !== '') say(line);
  });
  try {
    const given = wanted.length === 0 ? ['rxe'] : wanted.map((name) => `rxe/${name}`);
    const command = [process.execPath, `${root}dist/scripts/test.js`, ...given];
    const job = {
      command,
      directory: root,
      environment: process.env,
      timeoutMs: VM_MINUTES * 60_000,
      memoryMiB: 4096,
      cpus: 2,
    };
    const { status, complaints, startSeconds } = await runInVm(job, { out, err: process.stderr });
    out.end();
    await read;
    say(`        the VM took ${startSeconds.toFixed(1)} s to start, ${secondsSince(begin)} s in all`);
    if (!tallied) fail('vm', [`the tests in the VM ended with ${status} and without their count`]);
    if (complaints.length > 0) fail('kernel', complaints);
  } catch (error) {
    if (error instanceof VmUnavailable) {
      count('skipped', 'rxe', `no VM can run here: ${error.message}`);
      report('rxe', { passed: 0, failed: 0, skipped: 1 }, begin, []);
    } else if (error instanceof VmFailure) fail('vm', [error.message]);
    else throw error;
  }
}

/** A program that prints `ok NAME`, `not ok NAME why` or `skip NAME reason` for each of its tests. */
async function lines(stage: string, program: string, given: readonly string[], minutes: number): Promise<void> {
  if (!existsSync(`${root}${given[0]}`)) return;
  const begin = performance.now();
  const mine: Tally = { passed: 0, failed: 0, skipped: 0 };
  const child = spawn(program, given, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const patience = setTimeout(() => child.pid !== undefined && process.kill(-child.pid, 'SIGKILL'), minutes * 60_000);
  const output: string[] = [];
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  createInterface({ input: child.stderr }).on('line', (line) => output.push(line));
  for await (const line of createInterface({ input: child.stdout })) {
    const [, word, rest = ''] = /^(ok|not ok|skip) (.*)$/.exec(line) ?? [];
    if (word === undefined) continue;
    const verdict = word === 'ok' ? 'passed' : word === 'skip' ? 'skipped' : 'failed';
    const name = rest.split(' ')[0] ?? '';
    mine[verdict]++;
    count(verdict, `${stage}: ${verdict === 'passed' ? rest : name}`, rest.slice(name.length).trim());
    if (verdict === 'failed') output.push(line);
  }
  const code = await ended;
  clearTimeout(patience);
  if (code !== 0 && mine.failed === 0) {
    mine.failed++;
    count('failed', stage);
    output.push(`${program} ${given.join(' ')} ended with ${code ?? 'a signal'}`);
  }
  report(stage, mine, begin, output);
}

function report(name: string, { passed, failed, skipped }: Tally, begin: number, output: readonly string[]): void {
  const counts = [
    `${passed} passed`,
    ...(skipped > 0 ? [`${skipped} skipped`] : []),
    ...(failed > 0 ? [`${failed} FAILED`] : []),
  ];
  say(`${failed > 0 ? 'not ok' : 'ok    '}  ${name}  ${counts.join(', ')}  (${secondsSince(begin)} s)`);
  if (failed > 0) say(output.slice(-LONGEST_OUTPUT).join('\n'));
}

const wanted = process.argv.slice(2);
const stages = groups.flat();
const unknown = wanted.find((word) => !stages.some(({ name }) => word.split('/')[0] === name));
if (unknown !== undefined) {
  process.stderr.write(`test: unknown stage ${unknown}; the stages are ${stages.map(({ name }) => name).join(', ')}\n`);
  process.exit(2);
}
for (const group of groups) {
  const chosen = group.filter(({ name }) => wanted.length === 0 || wanted.some((word) => word.split('/')[0] === name));
  const filesOf = (name: string): string[] =>
    wanted.flatMap((word) => (word.startsWith(`${name}/`) ? word.split('/').slice(1) : []));
  await Promise.all(chosen.map(({ name, run }) => run(filesOf(name))));
}
durations.sort((a, b) => b.seconds - a.seconds);
const slowest = durations.slice(0, SLOWEST).map(({ name, seconds }) => `${seconds.toFixed(1).padStart(6)} s  ${name}`);
if (slowest.length > 0) say(`\nslowest:\n${slowest.map((line) => `  ${line}`).join('\n')}`);
if (skips.length > 0) say(`\nskipped:\n${skips.map((line) => `  ${line}`).join('\n')}`);
say(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 ? 1 : 0;
