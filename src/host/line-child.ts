/** A child process that speaks in lines, killed and waited for when its bracket ends. */
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { sleepSync, type UndoStack } from './undo-stack.js';

const KEPT_LINES = 20;
const DEATH_WAIT_MS = 20;
const DEATH_WAITS = 500;

type Waiter = {
  readonly wants: (line: string) => boolean;
  readonly resolve: (line: string) => void;
  readonly reject: (error: Error) => void;
};

/** It has ended, by an exit code or a signal, although something was still expected of it. */
export class ChildEnded extends Error {
  constructor(
    message: string,
    readonly result: number | NodeJS.Signals,
  ) {
    super(message);
  }
}

export class LineChild {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #unread: string[] = [];
  readonly #lastWords: string[] = [];
  readonly #exit: Promise<number | NodeJS.Signals>;
  #waiter: Waiter | undefined;
  #ended: ChildEnded | undefined;

  /** @param lines the stream that `line` reads; the last lines of the other one end up in error messages. */
  constructor(
    undo: UndoStack,
    readonly name: string,
    command: string,
    args: readonly string[],
    lines: 'stdout' | 'stderr' = 'stdout',
  ) {
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.pid = this.#child.pid ?? 0;
    undo.add(`end ${name}`, () => this.#kill());
    this.#child.stdin?.on('error', () => undefined); // a write to a child that has just died: its exit says it better
    const other = lines === 'stdout' ? 'stderr' : 'stdout';
    this.#read(this.#child[lines], (line) => this.#take(line));
    this.#read(this.#child[other], (line) => this.#remember(line));
    this.#exit = new Promise((resolve) => {
      this.#child.once('error', (error) => this.#finish(`could not be started: ${error.message}`, 127, resolve));
      this.#child.once('close', (code, signal) =>
        this.#finish(`ended with ${signal ?? `exit code ${code}`}`, signal ?? code ?? 0, resolve),
      );
    });
  }

  send(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  /** The next line that satisfies `wants`; lines before it are dropped. */
  line(wants: (line: string) => boolean, timeoutMs: number): Promise<string> {
    for (let line = this.#unread.shift(); line !== undefined; line = this.#unread.shift()) {
      if (wants(line)) return Promise.resolve(line);
    }
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    return new Promise<string>((resolve, reject) => {
      const timer = setTimeout(
        () => this.#waiter?.reject(new Error(this.#describe(`said nothing for ${timeoutMs / 1000} s`))),
        timeoutMs,
      );
      const settle = (): void => {
        clearTimeout(timer);
        this.#waiter = undefined;
      };
      this.#waiter = {
        wants,
        resolve: (line) => (settle(), resolve(line)),
        reject: (error) => (settle(), reject(error)),
      };
    });
  }

  /** Waits for the end. @returns the exit code, or the name of the signal. */
  async exit(timeoutMs: number): Promise<number | NodeJS.Signals> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(this.#describe(`has not ended after ${timeoutMs / 1000} s`))),
        timeoutMs,
      );
    });
    return Promise.race([this.#exit, late]).finally(() => clearTimeout(timer));
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  #read(stream: Readable | null, take: (line: string) => void): void {
    if (stream !== null) createInterface({ input: stream }).on('line', take);
  }

  #take(line: string): void {
    this.#remember(line);
    if (this.#waiter === undefined) this.#unread.push(line);
    else if (this.#waiter.wants(line)) this.#waiter.resolve(line);
  }

  #remember(line: string): void {
    this.#lastWords.push(line);
    if (this.#lastWords.length > KEPT_LINES) this.#lastWords.shift();
  }

  #finish(how: string, result: number | NodeJS.Signals, resolve: (result: number | NodeJS.Signals) => void): void {
    this.#ended = new ChildEnded(this.#describe(how), result);
    this.#waiter?.reject(this.#ended);
    resolve(result);
  }

  #describe(how: string): string {
    return `${this.name} ${how}${this.#lastWords.length > 0 ? `; its last words: ${this.#lastWords.join(' | ')}` : ''}`;
  }

  /** What it holds (a cgroup, a swap area) can only be given back once it is gone. */
  #kill(): void {
    if (this.#ended !== undefined || this.pid === 0) return;
    this.#child.kill('SIGKILL');
    for (let wait = 0; wait < DEATH_WAITS && isRunning(this.pid); wait++) sleepSync(DEATH_WAIT_MS);
    if (isRunning(this.pid)) throw new Error(`pid ${this.pid} is still there`);
  }
}

/** False also for a zombie: its memory is gone, and Node reaps it when it next turns. */
function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.charAt(stat.lastIndexOf(')') + 2) !== 'Z';
  } catch {
    return false;
  }
}
