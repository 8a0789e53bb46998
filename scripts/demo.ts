/**
 * The demonstration behind `npm start`: a memory-hungry program runs once alone and once with half of its memory in a
 * swap file, and both must come to the same checksum.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import Table from 'cli-table3';
import { call } from '../src/cli/control-client.js';
import { formatBytes, formatNs, formatPages } from '../src/cli/size.js';
import type { PagerStats } from '../src/core/counters.js';
import { buildDemoProgram } from './demo-program.js';

const MEBIBYTES = 512;
const ROUNDS = 1;
const LOCAL_MEMORY = '50%';
const ATTACH_MS = 15_000;
const END_MS = 60_000;

const leapdEntry = fileURLToPath(new URL('../daemon/leapd.js', import.meta.url));

let program = '';
type Child = ChildProcessByStdio<Writable, Readable, null>;
const programs = new Set<Child>();

/** The demo program, spoken to line by line. */
class Hungry {
  private readonly lines: AsyncIterator<string>;

  private constructor(private readonly child: Child) {
    this.lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  static async start(): Promise<Hungry> {
    const child = spawn(program, [String(MEBIBYTES), String(ROUNDS)], { stdio: ['pipe', 'pipe', 'inherit'] });
    programs.add(child);
    child.once('exit', () => programs.delete(child));
    child.stdin.on('error', () => undefined); // it has ended; its missing answer tells
    const hungry = new Hungry(child);
    await hungry.expect('ready');
    return hungry;
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get residentBytes(): number {
    return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  }

  async work(): Promise<number> {
    this.child.stdin.write('\n');
    return Number(await this.expect('worked'));
  }

  async checksum(): Promise<string> {
    this.child.stdin.write('\n');
    return this.expect('checksum');
  }

  private async expect(word: string): Promise<string> {
    const { value, done } = await this.lines.next();
    const line = done ? '' : String(value);
    if (!line.startsWith(word)) throw new Error(`the demo program said "${line}" where "${word}" was expected`);
    return line.slice(word.length).trim();
  }
}

interface Outcome {
  readonly seconds: number;
  readonly residentBytes: number;
  readonly checksum: string;
}

interface PagedOutcome extends Outcome {
  readonly stats: PagerStats;
  readonly attachMs: number;
  readonly detachMs: number;
  readonly residentAfterBytes: number;
}

const say = (text: string): void => void process.stdout.write(`${text}\n`);

async function alone(): Promise<Outcome> {
  const hungry = await Hungry.start();
  const seconds = await hungry.work();
  return { seconds, residentBytes: hungry.residentBytes, checksum: await hungry.checksum() };
}

async function paged(): Promise<PagedOutcome> {
  const hungry = await Hungry.start();
  const options = ['--pid', String(hungry.pid), '--local-memory', LOCAL_MEMORY, '--log-level', 'warn'];
  const leapd = spawn(process.execPath, [leapdEntry, ...options], { stdio: 'inherit' });
  const gone = once(leapd, 'exit');
  const socket = `/run/leap/${hungry.pid}.sock`;
  const attachMs = await attached(socket, gone);

  const live = new LiveLine(socket);
  const seconds = await hungry.work().finally(() => live.stop());
  const residentBytes = hungry.residentBytes;
  const stats = (await call({ socket, command: 'stats' })) as unknown as PagerStats;

  const begin = performance.now();
  await call({ socket, command: 'detach', patienceMs: END_MS });
  const [code] = (await gone) as [number | null];
  const detachMs = performance.now() - begin;
  if (code !== 0) throw new Error(`leapd ended with exit code ${code}`);
  const residentAfterBytes = hungry.residentBytes;
  return { seconds, residentBytes, residentAfterBytes, checksum: await hungry.checksum(), stats, attachMs, detachMs };
}

/** Waits until leapd pages the program. @returns how long the attach took, by its own word. */
async function attached(socket: string, gone: Promise<unknown[]>): Promise<number> {
  const end = performance.now() + ATTACH_MS;
  let ended: unknown[] | undefined;
  void gone.then((how) => (ended = how));
  while (performance.now() < end) {
    if (ended !== undefined)
      throw new Error(`leapd ended with exit code ${String(ended[0])}; its message above says why`);
    const status = await call({ socket, command: 'status' }).catch(() => undefined);
    if (status !== undefined) return (status as { attachMs: number }).attachMs;
    await sleep(50);
  }
  throw new Error(`leapd has not attached within ${ATTACH_MS / 1000} s`);
}

/** What the pager does just now, on one line that changes; every two seconds a new one where there is no terminal. */
class LiveLine {
  private readonly timer: NodeJS.Timeout;
  private last: PagerStats | undefined;
  private lastAt = performance.now();

  constructor(private readonly socket: string) {
    this.timer = setInterval(() => void this.show(), process.stdout.isTTY ? 250 : 2000);
  }

  stop(): void {
    clearInterval(this.timer);
    if (process.stdout.isTTY) process.stdout.write('\r\x1b[K');
  }

  private async show(): Promise<void> {
    const stats = await call({ socket: this.socket, command: 'stats' }).then(
      (answer) => answer as unknown as PagerStats,
      () => undefined,
    );
    if (stats === undefined) return; // it has just ended
    const now = performance.now();
    const rate = this.last ? ((stats.faults - this.last.faults) / (now - this.lastAt)) * 1000 : 0;
    this.last = stats;
    this.lastAt = now;
    const line =
      `   resident ${formatPages(stats.residentPages)} of ${formatPages(stats.localLimitPages)}, stored ${formatPages(stats.storedPages)}, ` +
      `${Math.round(rate)} faults/s, ${stats.prefetchHits} hits`;
    process.stdout.write(
      process.stdout.isTTY ? `\r\x1b[K${line.slice(0, (process.stdout.columns ?? 80) - 1)}` : `${line}\n`,
    );
  }
}

function report(without: Outcome, withLeap: PagedOutcome): boolean {
  const { stats } = withLeap;
  const times = (withLeap.seconds / without.seconds).toFixed(1);
  const table = new Table({ head: ['', 'alone', 'under leapd'], style: { head: [], border: [], compact: true } });
  table.push(
    [
      'time for the work',
      `${without.seconds.toFixed(2)} s`,
      `${withLeap.seconds.toFixed(2)} s (${times} times as long)`,
    ],
    ['resident size at the end', formatBytes(without.residentBytes), formatBytes(withLeap.residentBytes)],
    ['resident size after detach', '', formatBytes(withLeap.residentAfterBytes)],
    ['faults served', '', String(stats.faults)],
    ['one fault, p50 / p99', '', `${formatNs(stats.faultLatencyNs.p50)} / ${formatNs(stats.faultLatencyNs.p99)}`],
    ['pages prefetched / used', '', `${stats.prefetchIssued} / ${stats.prefetchHits}`],
    ['pages in / out of the swap file', '', `${stats.swapReads} / ${stats.swapWrites}`],
    ['attach / detach', '', `${withLeap.attachMs.toFixed(0)} ms / ${withLeap.detachMs.toFixed(0)} ms`],
    ['checksum', without.checksum, withLeap.checksum],
  );
  say(table.toString());
  const same = without.checksum === withLeap.checksum;
  say(same ? 'The checksums are equal: no byte changed.' : 'The checksums DIFFER: this is a bug in leap.');
  return same;
}

async function main(): Promise<boolean> {
  if (process.getuid?.() !== 0) throw new Error('attaching to a process needs root: run it as root, or with sudo');
  program = buildDemoProgram();

  say(
    `1. A program fills ${MEBIBYTES} MiB and works over them in order, with a stride, at random, and writes to all of them. Alone:`,
  );
  const without = await alone();
  say(`   ${without.seconds.toFixed(2)} s`);
  say(`2. The same program under leapd, which keeps ${LOCAL_MEMORY} of its memory local and the rest in a swap file:`);
  const withLeap = await paged();
  say(`   ${withLeap.seconds.toFixed(2)} s, and leapd has detached`);
  say('3. Result:');
  return report(without, withLeap);
}

/** Ends the programs, and with them leapd: it has nothing to put back into a process that is gone. */
function stopAll(): void {
  for (const child of programs) child.kill('SIGKILL');
}

let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    interrupted = true;
    stopAll();
  });
}

try {
  process.exitCode = (await main()) ? 0 : 1;
} catch (error) {
  stopAll();
  if (interrupted) process.stdout.write('\ninterrupted; all programs have been ended\n');
  else process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = interrupted ? 130 : 1;
}
