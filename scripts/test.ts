/**
 * `npm test`: the whole suite, stage by stage. Prints a line for each file, every failure in full, why each skipped test was skipped, and last
 * `N passed, N failed, N skipped`.
 *
 *   npm test                   everything
 *   npm test -- unit e2e       some stages
 *   npm test -- e2e/bad-input  files of a stage whose name begins so
 *   LEAP_NO_SKIP=1 npm test    a skipped test counts as failed
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { run } from 'node:test';
import { fileURLToPath } from 'node:url';

/** Lines of a failed file that are shown. */
const LONGEST_OUTPUT = 200;

const root = fileURLToPath(new URL('../../', import.meta.url));

interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

const total: Tally = { passed: 0, failed: 0, skipped: 0 };
const skips: string[] = [];
const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** Stages run one after the other; within one, files may run side by side where they only compute. */
const stages: { readonly name: string; readonly run: (wanted: readonly string[]) => Promise<void> }[] = [
  { name: 'unit', run: (wanted) => nodeTests('unit', { together: 2, minutes: 2 }, wanted) },
  { name: 'sim', run: (wanted) => nodeTests('sim', { together: 1, minutes: 10 }, wanted) },
  { name: 'native', run: () => lines('native', 'bash', ['native/test/run.sh'], 10) },
  { name: 'e2e', run: (wanted) => nodeTests('e2e', { together: 1, minutes: 10 }, wanted) },
];

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

async function nodeTests(stage: string, { together, minutes }: { together: number; minutes: number }, wanted: readonly string[]): Promise<void> {
  const directory = `${root}dist/test/${stage}/`;
  const sources = `${root}test/${stage}/`;
  if (!existsSync(sources)) return;
  // From the sources: what was compiled from a file that is gone now must not run.
  const names = readdirSync(sources).flatMap((name) => (name.endsWith('.test.ts') ? name.slice(0, -'.test.ts'.length) : []));
  const chosen = names.filter((name) => wanted.length === 0 || wanted.some((begin) => name.startsWith(begin))).sort();
  for (let at = 0; at < chosen.length; at += together) {
    await Promise.all(chosen.slice(at, at + together).map((name) => nodeTest(`${stage}/${name}`, `${directory}${name}.test.js`, minutes)));
  }
}

async function nodeTest(name: string, file: string, minutes: number): Promise<void> {
  const begin = performance.now();
  const mine: Tally = { passed: 0, failed: 0, skipped: 0 };
  const output: string[] = [];
  const stream = run({ files: [file], timeout: minutes * 60_000, concurrency: 1 });
  stream.on('test:pass', ({ name: test, details, skip, todo }) => {
    if (details.type === 'suite' || todo) return;
    const skipped = skip !== undefined && skip !== false;
    mine[skipped ? 'skipped' : 'passed']++;
    count(skipped ? 'skipped' : 'passed', `${name}: ${test}`, typeof skip === 'string' ? skip : undefined);
  });
  stream.on('test:fail', ({ name: test, details, nesting }) => {
    if (details.type === 'suite' && details.error.message.includes('subtest')) return; // its tests have been counted
    mine.failed++;
    count('failed', `${name}: ${test}`);
    const { cause } = details.error;
    output.push(`${'  '.repeat(nesting + 1)}${test}\n${cause instanceof Error ? cause.stack : String(cause ?? details.error.stack)}`);
  });
  stream.on('test:stdout', ({ message }) => output.push(message.trimEnd()));
  stream.on('test:stderr', ({ message }) => output.push(message.trimEnd()));
  for await (const event of stream) void event;
  report(name, mine, begin, output);
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
  const counts = [`${passed} passed`, ...(skipped > 0 ? [`${skipped} skipped`] : []), ...(failed > 0 ? [`${failed} FAILED`] : [])];
  say(`${failed > 0 ? 'not ok' : 'ok    '}  ${name}  ${counts.join(', ')}  (${((performance.now() - begin) / 1000).toFixed(1)} s)`);
  if (failed > 0) say(output.slice(-LONGEST_OUTPUT).join('\n'));
}

const wanted = process.argv.slice(2);
const unknown = wanted.find((word) => !stages.some(({ name }) => word.split('/')[0] === name));
if (unknown !== undefined) {
  process.stderr.write(`test: there is no stage ${unknown}; there are ${stages.map(({ name }) => name).join(', ')}\n`);
  process.exit(2);
}
for (const stage of stages) {
  const mine = wanted.filter((word) => word.split('/')[0] === stage.name);
  if (wanted.length > 0 && mine.length === 0) continue;
  await stage.run(mine.flatMap((word) => word.split('/').slice(1)));
}
if (skips.length > 0) say(`\nskipped:\n${skips.map((line) => `  ${line}`).join('\n')}`);
say(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 ? 1 : 0;
