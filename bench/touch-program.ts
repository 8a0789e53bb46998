/** bench/touch.c from outside: the program whose memory is paged, by the kernel or by leapd. */
import { LineChild } from '../src/host/line-child.js';
import { compiled } from './programs.js';
import type { UndoStack } from '../src/host/undo-stack.js';

export const patterns = ['seq', 'stride', 'random', 'write', 'zipf'] as const;
export type Pattern = (typeof patterns)[number];
/** Four streams at once, in one thread and in four. */
export const streamPatterns = ['interleaved', 'threads'] as const;
export type StreamPattern = (typeof streamPatterns)[number];

export const PAGE_BYTES = 4096;
const PAGES_PER_MIB = 256;
const FILL_TIMEOUT_MS = 120_000;
const LEAST_TIMEOUT_MS = 60_000;
const SLOWEST_TOUCH_MS = 2;

interface Answer {
  readonly touches: number;
  readonly usPerTouch: number;
  readonly wrong: number;
  readonly checksum: string;
}

export class TouchProgram {
  readonly pages: number;
  readonly #child: LineChild;

  private constructor(child: LineChild, pages: number) {
    this.#child = child;
    this.pages = pages;
  }

  /**
   * Starts it and waits until its memory is filled. @param procsFile of the cgroup in which it runs from its first page
   * on.
   */
  static async start(undo: UndoStack, mib: number, procsFile?: string): Promise<TouchProgram> {
    const command = [compiled('touch'), String(mib)];
    const wrapped =
      procsFile === undefined ? command : ['sh', '-c', 'echo $$ > "$0" && exec "$@"', procsFile, ...command];
    const [program = '', ...args] = wrapped;
    const child = new LineChild(undo, 'touch', program, args);
    await child.line((line) => line.startsWith('READY '), FILL_TIMEOUT_MS);
    return new TouchProgram(child, mib * PAGES_PER_MIB);
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** @returns us a touch. @throws Error when the program read a word that it had not written. */
  async run(pattern: Pattern | StreamPattern): Promise<number> {
    return (await this.#command(pattern)).usPerTouch;
  }

  /** Looks at every word. @returns the checksum of the region. */
  async check(): Promise<string> {
    return (await this.#command('check')).checksum;
  }

  async #command(name: string): Promise<Answer> {
    this.#child.send(name);
    const line = await this.#child.line(
      (text) => text.startsWith('{'),
      Math.max(LEAST_TIMEOUT_MS, this.pages * SLOWEST_TOUCH_MS),
    );
    const answer = JSON.parse(line) as Answer;
    if (answer.wrong !== 0) throw new Error(`${name}: ${answer.wrong} words of the paged program were wrong`);
    return answer;
  }
}
