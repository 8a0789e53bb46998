/**
 * Records the fixtures in test/traces: programs out of Debian under leapd, with a quarter of their memory local and nothing read ahead.
 * Run as root: node dist/lab/record-traces.js [--only sort,redis] [--out test/traces]. Needs redis-server, redis-tools, sqlite3, python3-numpy.
 *
 * Each program makes its data first and waits; then leapd attaches and records while it works on them.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import yargs from 'yargs';
import { LineChild } from '../src/host/line-child.js';
import { root } from '../src/host/checkout.js';
import { UndoStack } from '../src/host/undo-stack.js';
import { readStatus } from '../src/host/process-info.js';
import { readTrace, writeTrace } from './trace-file.js';

/** A fixture holds so many faults of the beginning. */
const FAULTS = 60_000;
const READY_MS = 120_000;
const WORK_MS = 60_000;
const ATTACH_MS = 30_000;
const SHARE = 0.25;
const MIB = 2 ** 20;
const LEAST_MIB = 8;

interface Program {
  readonly needs: string;
  /** Starts it and waits until its data are there. */
  readonly start: (undo: UndoStack, dir: string) => Promise<LineChild>;
  /** Sets it to work and waits until that is done, or time is up. */
  readonly work: (program: LineChild, dir: string, undo: UndoStack) => Promise<unknown>;
  /** For a program whose data come while it works: it is told to go before leapd attaches. */
  readonly localBytes?: number;
}

const residentBytes = (pid: number): number => Number.parseInt(readStatus(pid)?.get('VmRSS') ?? '0', 10) * 1024;

const ready = async (program: LineChild): Promise<LineChild> => {
  await program.line((line) => line.startsWith('READY'), READY_MS);
  return program;
};

/** It prints READY, waits for a line, and prints DONE. */
const scripted = (needs: string, script: string): Program => ({
  needs,
  start: (undo) => ready(new LineChild(undo, script, needs, [join(root, 'lab', 'traced', script)])),
  work: (program) => {
    program.send('go');
    return program.line((line) => line.startsWith('DONE'), WORK_MS);
  },
});

const TABLES = `
create table customer(id integer primary key, name text, city integer);
create table sale(id integer primary key, customer integer, amount real, note text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
  insert into customer select i, 'customer ' || (i * 7919 % 60013), i % 997 from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 400000)
  insert into sale select i, 1 + i * 104729 % 60000, i % 1000, printf('note %d %s', i, hex(zeroblob(20))) from n;
.print READY`;
const QUERIES = `
select city, count(*), sum(amount) from sale join customer on customer.id = sale.customer group by city order by 3 desc limit 3;
select count(*) from (select note from sale order by amount, note desc limit 200000);
.print DONE`;

const programs: Readonly<Record<string, Program>> = {
  redis: {
    needs: 'redis-server',
    start: async (undo, dir) => {
      const server = new LineChild(undo, 'redis-server', 'redis-server', [
        '--port',
        '0',
        '--unixsocket',
        join(dir, 'redis'),
        '--save',
        '',
        '--appendonly',
        'no',
      ]);
      await server.line((line) => /ready to accept/i.test(line), READY_MS);
      benchmark(dir, ['-t', 'set', '-n', '60000', '-r', '60000', '-d', '1000', '-P', '16']);
      return server;
    },
    work: async (_, dir, undo) => {
      const load = new LineChild(
        undo,
        'redis-benchmark',
        'redis-benchmark',
        redisArgs(dir, ['-t', 'get,set,lpush,lrange_100', '-n', '15000', '-r', '60000', '-d', '1000']),
      );
      return load.exit(WORK_MS);
    },
  },
  sqlite: {
    needs: 'sqlite3',
    start: (undo) => {
      const shell = new LineChild(undo, 'sqlite3', 'sqlite3', [':memory:']);
      shell.send(TABLES);
      return ready(shell);
    },
    work: (shell) => {
      shell.send(QUERIES);
      return shell.line((line) => line.startsWith('DONE'), WORK_MS);
    },
  },
  matrix: scripted('/usr/bin/python3', 'matrix.py'),
  pagerank: scripted('/usr/bin/python3', 'pagerank.py'),
  sort: {
    needs: 'sort',
    localBytes: 24 * MIB,
    start: async (undo, dir) => {
      const file = join(dir, 'numbers');
      const numbers = Array.from({ length: 5_000_000 }, (_, i) => `${Math.imul(i, 2654435761) >>> 0} ${i}`);
      writeFileSync(file, numbers.join('\n'));
      // It reads when the shell is told to go on: leapd is there from its first line on.
      const shell = new LineChild(undo, 'sort', 'sh', [
        '-c',
        `echo READY; read -r go; exec sort -S 700M --parallel=2 -o /dev/null ${file}`,
      ]);
      return ready(shell);
    },
    work: async (shell) => shell.exit(WORK_MS),
  },
  json: scripted(process.execPath, 'json.mjs'),
};

const redisArgs = (dir: string, args: readonly string[]): string[] => ['-s', join(dir, 'redis'), '-q', ...args];

function benchmark(dir: string, args: readonly string[]): void {
  const { status, stderr } = spawnSync('redis-benchmark', redisArgs(dir, args), {
    timeout: READY_MS,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`redis-benchmark ended with ${status}: ${stderr}`);
}

async function record(name: string, program: Program, out: string): Promise<void> {
  const undo = new UndoStack();
  await undo.within(async () => {
    const dir = mkdtempSync(join(tmpdir(), 'leap-traces-'));
    undo.add(`remove ${dir}`, () => rmSync(dir, { recursive: true, force: true }));
    const child = await program.start(undo, dir);
    const raw = join(dir, 'raw.leap');
    if (program.localBytes !== undefined) {
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
  .option('only', { type: 'string', requiresArg: true, describe: `some of ${Object.keys(programs).join(', ')}` })
  .option('out', {
    type: 'string',
    requiresArg: true,
    default: join(root, 'test', 'traces'),
    describe: 'the folder of the traces',
  })
  .version(false)
  .strict()
  .parseSync();
const wanted = only?.split(',') ?? Object.keys(programs);
mkdirSync(resolve(out), { recursive: true });
for (const name of wanted) {
  const program = programs[name];
  if (program === undefined)
    throw new Error(`there is no program ${name}; there are ${Object.keys(programs).join(', ')}`);
  const there = program.needs.startsWith('/')
    ? existsSync(program.needs)
    : spawnSync('sh', ['-c', `command -v ${program.needs}`]).status === 0;
  if (there) await record(name, program, resolve(out));
  else process.stdout.write(`${name}: skipped, ${program.needs} is not installed\n`);
}
