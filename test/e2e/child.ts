/** A process that a test has started: its lines, bounded waits for them, and a sure end. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const living = new Set<Child>();
// The last net: whatever way the test runner leaves, nothing of ours stays behind.
process.on('exit', () => {
  for (const child of living) child.kill('SIGKILL');
});

export class Child {
  /** stdout and stderr, line by line, as they came. */
  readonly lines: string[] = [];
  /** stdout alone. */
  readonly output: string[] = [];
  /** The process has exited (others may still hold its output open). */
  readonly exited: Promise<Exit>;
  /** It has exited and nobody holds its output open any more. */
  readonly closed: Promise<Exit>;
  readonly pid: number;
  exit: Exit | undefined;
  private readonly process: ChildProcessByStdio<Writable, Readable, Readable>;
  private readonly watchers = new Set<() => void>();

  constructor(
    readonly name: string,
    command: string,
    args: readonly string[],
    options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
  ) {
    this.process = spawn(command, [...args], { ...options, stdio: ['pipe', 'pipe', 'pipe'] });
    this.pid = this.process.pid ?? -1;
    this.collect(this.process.stdout, [this.lines, this.output]);
    this.collect(this.process.stderr, [this.lines]);
    this.process.stdin.on('error', () => undefined); // it may be gone before it has read everything
    living.add(this);
    this.exited = new Promise((resolve, reject) => {
      this.process.once('error', (error) => reject(new Error(`${name} (${command}) did not start: ${error.message}`)));
      this.process.once('exit', (code, signal) => {
        this.exit = { code, signal };
        resolve(this.exit);
        this.wakeWatchers();
      });
    });
    this.exited.catch(() => living.delete(this));
    this.closed = new Promise((resolve) => {
      this.process.once('close', (code, signal) => {
        living.delete(this);
        resolve({ code, signal });
        this.wakeWatchers();
      });
    });
  }

  private collect(stream: Readable, lists: string[][]): void {
    let rest = '';
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      const parts = (rest + text).split('\n');
      rest = parts.pop() ?? '';
      for (const list of lists) list.push(...parts);
      this.wakeWatchers();
    });
    stream.on('end', () => {
      if (rest !== '') for (const list of lists) list.push(rest);
      this.wakeWatchers();
    });
    stream.on('error', () => undefined);
  }

  private wakeWatchers(): void {
    for (const watcher of [...this.watchers]) watcher();
  }

  send(line: string): void {
    this.process.stdin.write(`${line}\n`);
  }

  /** Writes bytes and ends the input. */
  feed(bytes: Buffer): void {
    this.process.stdin.end(bytes);
  }

  kill(signal: NodeJS.Signals): void {
    try {
      if (this.pid > 0 && this.exit === undefined) process.kill(this.pid, signal);
    } catch {
      // gone already
    }
  }

  /** Waits until `find` gives something, looking after every line and at the end. */
  async until<T>(what: string, ms: number, find: () => T | undefined): Promise<T> {
    const found = find();
    if (found !== undefined) return found;
    return new Promise((resolve, reject) => {
      const settle = (act: () => void): void => {
        clearTimeout(timer);
        this.watchers.delete(look);
        act();
      };
      const look = (): void => {
        const now = find();
        if (now !== undefined) settle(() => resolve(now));
        else if (this.exit !== undefined && this.drained) {
          const how = describeExit(this.exit);
          settle(() => reject(new Error(`${this.name} ended (${how}) before ${what}${this.tail()}`)));
        }
      };
      const timer = setTimeout(
        () => settle(() => reject(new Error(`${this.name}: no ${what} within ${ms} ms${this.tail()}`))),
        ms,
      );
      this.watchers.add(look);
      look();
    });
  }

  private get drained(): boolean {
    return this.process.stdout.readableEnded && this.process.stderr.readableEnded;
  }

  line(pattern: RegExp, ms: number, from = 0): Promise<RegExpExecArray> {
    return this.until(`line like ${pattern}`, ms, () => {
      for (let i = from; i < this.lines.length; i++) {
        const match = pattern.exec(this.lines[i] ?? '');
        if (match) return match;
      }
      return undefined;
    });
  }

  /** Waits for the end. */
  async end(ms: number): Promise<Exit> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${this.name} has not ended within ${ms} ms${this.tail()}`)), ms);
    });
    try {
      return await Promise.race([this.closed, late, this.exited.then(() => this.closed)]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The last lines, for a message. */
  tail(count = 12): string {
    const lines = this.lines.slice(-count);
    return lines.length === 0 ? '' : `; its last lines:\n    ${lines.join('\n    ')}`;
  }
}

export const describeExit = ({ code, signal }: Exit): string => (signal === null ? `code ${code}` : `signal ${signal}`);

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** On an emulated machine every look costs what it looks at a good part of its time. */
const LOOK_MS = process.env['LEAP_RXE'] === '1' ? 200 : 10;

/** Looks every few milliseconds until `find` gives something. */
export async function poll<T>(
  what: string | (() => string),
  ms: number,
  find: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  const until = Date.now() + ms;
  for (;;) {
    const found = await find();
    if (found !== undefined) return found;
    if (Date.now() > until) throw new Error(`not within ${ms} ms: ${typeof what === 'string' ? what : what()}`);
    await sleep(LOOK_MS);
  }
}
