/**
 * Records the fixtures in test/traces: programs out of Debian under leapd, with a quarter of their memory local and
 * nothing read ahead. Run as root: node dist/lab/record-traces.js [--only sort,redis] [--out test/traces]. What is not
 * installed is skipped.
 *
 * Each program makes its data first and waits; then leapd attaches and records while it works on them.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import yargs from 'yargs';
import { LineChild } from '../src/host/line-child.js';
import { root } from '../src/host/checkout.js';
import { UndoStack } from '../src/host/undo-stack.js';
import { readStatus } from '../src/host/process-info.js';
import { readTrace, writeTrace } from './trace-file.js';
import { type Program, PROGRAMS } from './traced-programs.js';

/** A fixture holds so many faults of the beginning. */
const FAULTS = 60_000;
const ATTACH_MS = 30_000;
const SHARE = 0.25;
const MIB = 2 ** 20;
const LEAST_MIB = 8;

const residentBytes = (pid: number): number => Number.parseInt(readStatus(pid)?.get('VmRSS') ?? '0', 10) * 1024;

async function record(name: string, program: Program, out: string): Promise<void> {
  const undo = new UndoStack();
  await undo.within(async () => {
    const dir = mkdtempSync(join(tmpdir(), 'leap-traces-'));
    undo.add(`remove ${dir}`, () => rmSync(dir, { recursive: true, force: true }));
    const child = await program.start(undo, dir);
    const raw = join(dir, 'raw.leap');
    if (program.becomes === true) {
      child.send('go');
      await hasGrown(child.pid, LEAST_MIB * MIB);
    }
    const local = program.localBytes === undefined ? `${SHARE * 100}%` : String(program.localBytes);
    const leapd = new LineChild(
      undo,
      'leapd',
      process.execPath,
      [
        ...[
          join(root, 'dist', 'daemon', 'leapd.js'),
          '--pid',
          String(child.pid),
          '--local-memory',
          local,
          '--prefetch',
          'none',
          '--prefetch-buffer',
          '64',
        ],
        ...['--swap-file', join(dir, 'swap'), '--control', join(dir, 'leapd'), '--record', raw],
      ],
      'stderr',
    );
    await leapd.line((line) => line.includes('recording faults'), ATTACH_MS);
    await program
      .work(child, dir, undo)
      .catch((error: unknown) =>
        process.stderr.write(`${name}: ${error instanceof Error ? error.message : String(error)}\n`),
      );
    leapd.signal('SIGTERM');
    await leapd.exit(ATTACH_MS);
    const trace = readTrace(raw);
    const path = join(out, `${name}.leap.gz`);
    const about = { name, of: program.needs.replace(/.*\//, ''), local: `${SHARE * 100} %`, exact: 'yes' };
    writeTrace(path, { ...trace, about }, FAULTS);
    process.stdout.write(
      `${name}: ${trace.length} faults, ${trace.lost} lost; ${Math.min(FAULTS, trace.length)} kept, ${statSync(path).size} bytes\n`,
    );
  });
}

async function hasGrown(pid: number, bytes: number): Promise<void> {
  for (let look = 0; look < 500; look++) {
    if (residentBytes(pid) >= bytes) return;
    await sleep(10);
  }
  throw new Error(`process ${pid} does not grow`);
}

const { only, out } = yargs(process.argv.slice(2))
  .scriptName('record-traces')
  .option('only', { type: 'string', requiresArg: true, describe: `some of ${Object.keys(PROGRAMS).join(', ')}` })
  .option('out', {
    type: 'string',
    requiresArg: true,
    default: join(root, 'test', 'traces'),
    describe: 'the folder of the traces',
  })
  .version(false)
  .strict()
  .parseSync();
const wanted = only?.split(',') ?? Object.keys(PROGRAMS);
mkdirSync(resolve(out), { recursive: true });
for (const name of wanted) {
  const program = PROGRAMS[name];
  if (program === undefined)
    throw new Error(`there is no program ${name}; there are ${Object.keys(PROGRAMS).join(', ')}`);
  const there = program.needs.startsWith('/')
    ? existsSync(program.needs)
    : spawnSync('sh', ['-c', `command -v ${program.needs}`]).status === 0;
  if (there) await record(name, program, resolve(out));
  else
    process.stdout.write(`${name}: skipped, ${program.needs} is not installed (Debian package ${program.package})\n`);
}
