/** leapd as the bench runs it: attached to a process, asked for its counters, and sent away. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { call } from '../src/cli/control-client.js';
import { LineChild } from '../src/host/line-child.js';
import { root } from '../src/host/checkout.js';
import { CannotRun, type UndoStack } from '../src/host/undo-stack.js';

const ATTACH_TIMEOUT_MS = 60_000;
const SETTLE_TIMEOUT_MS = 120_000;
const SETTLE_LOOK_MS = 20;
const DETACH_TIMEOUT_MS = 300_000;

export interface LeapdSetup {
  readonly pid: number;
  readonly localBytes: number;
  /** The folder of the swap file: it decides which disk (or memory) holds the pages. */
  readonly swapDir: string;
  readonly prefetchBuffer: number;
  /** leapd's own choice when left out. */
  readonly prefetch?: string;
}

/** The counters that the bench reads, as `leapctl stats --json` names them. */
export interface LeapdStats {
  readonly residentPages: number;
  readonly localLimitPages: number;
  readonly storedPages: number;
  readonly bufferedPages: number;
  readonly frames: number;
  readonly faults: number;
  readonly demandReads: number;
  readonly prefetchHits: number;
  readonly mappedAhead: number;
  readonly evictions: number;
  readonly cleanEvictions: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

export class Leapd {
  /** From the start of its process to the message that it has attached. */
  readonly attachMs: number;
  readonly #child: LineChild;
  readonly #control: string;

  private constructor(child: LineChild, control: string, attachMs: number) {
    this.#child = child;
    this.#control = control;
    this.attachMs = attachMs;
  }

  static async attach(undo: UndoStack, setup: LeapdSetup): Promise<Leapd> {
    const program = join(root, 'dist', 'daemon', 'leapd.js');
    if (!existsSync(program)) throw new CannotRun('leapd is not built: npm run build');
    if (process.getuid?.() !== 0) throw new CannotRun('leapd needs root');
    const name = `leap-bench-${process.pid}-${setup.pid}`;
    const swapFile = join(setup.swapDir, `${name}.swap`);
    const control = join(setup.swapDir, `${name}.sock`);
    undo.add(`remove ${swapFile}`, () => rmSync(swapFile, { force: true }));
    undo.add(`remove ${control}`, () => rmSync(control, { force: true }));
    const start = performance.now();
    const options = [
      ...[
        '--pid',
        String(setup.pid),
        '--local-memory',
        String(setup.localBytes),
        '--prefetch-buffer',
        String(setup.prefetchBuffer),
      ],
      ...['--swap-file', swapFile, '--control', control],
      ...(setup.prefetch === undefined ? [] : ['--prefetch', setup.prefetch]),
    ];
    const child = new LineChild(undo, 'leapd', process.execPath, [program, ...options], 'stderr');
    await child.line(saysAttached, ATTACH_TIMEOUT_MS);
    return new Leapd(child, control, performance.now() - start);
  }

  get pid(): number {
    return this.#child.pid;
  }

  async stats(): Promise<LeapdStats> {
    const answer = await call({ socket: this.#control, command: 'stats' });
    return answer as unknown as LeapdStats;
  }

  /** Has it record every fault into a file that is not there yet, until `stopRecording`. */
  async record(path: string): Promise<void> {
    await call({ socket: this.#control, command: 'record', arguments: { out: path } });
  }

  async stopRecording(): Promise<void> {
    await call({ socket: this.#control, command: 'record', arguments: { stop: 'yes' } });
  }

  /** Waits until what is to leave at first has left. @returns how long that took. */
  async settled(): Promise<number> {
    const start = performance.now();
    const deadline = start + SETTLE_TIMEOUT_MS;
    for (let stats = await this.stats(); stats.residentPages > stats.localLimitPages; stats = await this.stats()) {
      if (performance.now() > deadline)
        throw new Error(`leapd still holds ${stats.residentPages} pages of ${stats.localLimitPages} allowed`);
      await sleep(SETTLE_LOOK_MS);
    }
    return performance.now() - start;
  }

  /** Has it put everything back and end. @returns how long that took. */
  async detach(): Promise<number> {
    const start = performance.now();
    this.#child.signal('SIGTERM');
    const code = await this.#child.exit(DETACH_TIMEOUT_MS);
    if (code !== 0) throw new Error(`leapd ended with ${code} when asked to detach`);
    return performance.now() - start;
  }
}

/** leapd logs JSON where its output is no terminal; the first message after the attach carries its facts. */
function saysAttached(line: string): boolean {
  try {
    return 'attachMs' in (JSON.parse(line) as object);
  } catch {
    return false;
  }
}
