/** The main thread's side of the pager: starts the worker thread, asks it, and knows how it ended. */
import { writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { PagerStats } from '../src/core/counters.js';
import { attachRefusal } from './attach-failure.js';
import { ExitCode, Refusal } from '../src/cli/exit-codes.js';
import type { Log } from '../src/cli/log.js';
import { MAIL, PARTED } from './pager-messages.js';
import type {
  AttachFacts,
  Ending,
  FromPager,
  PagerChanges,
  PagerSettings,
  Stats,
  ToPager,
  WorkerData,
} from './pager-messages.js';

/** A turn is a few milliseconds at the most, so a pager that is silent for this long is stuck. */
const ANSWER_MS = 10_000;

interface Waiting {
  readonly resolve: (message: FromPager) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

export class PagerClient {
  /** How paging ended; rejected when the pager failed with pages out. */
  readonly ended: Promise<Ending>;
  /** The counters as they were then. */
  last: PagerStats | undefined;
  private readonly worker: Worker;
  private readonly flags = new Int32Array(new SharedArrayBuffer(8));
  private readonly waiting = new Map<number, Waiting>();
  private readonly wakeWord = new Uint8Array(new BigUint64Array([1n]).buffer);
  private wakeFd = -1;
  /** Set when the thread is gone: nothing is asked of it any more. After an orderly end it says so. */
  private gone: Error | undefined;
  private lastId = 0;
  private attached: { resolve: (facts: AttachFacts) => void; reject: (error: unknown) => void } | undefined;
  private finish: { resolve: (ending: Ending) => void; reject: (error: unknown) => void } | undefined;

  constructor(
    private readonly settings: PagerSettings,
    private readonly log: Log,
  ) {
    const data: WorkerData = { settings, flags: this.flags };
    this.ended = new Promise((resolve, reject) => (this.finish = { resolve, reject }));
    this.ended.catch(() => undefined); // whoever waits for the end handles it; before that, nobody has to
    this.worker = new Worker(new URL('./pager-worker.js', import.meta.url), {
      workerData: data,
      name: `pager ${settings.pid}`,
    });
    this.worker.on('message', (message: FromPager) => this.receive(message));
    this.worker.once('error', (error) => this.fail(error));
    this.worker.once('exit', (code) => this.fail(new Error(`the pager thread ended (${code})`)));
  }

  /** @throws Refusal when the target could not be attached to, and is as it was. */
  attach(): Promise<AttachFacts> {
    return new Promise((resolve, reject) => (this.attached = { resolve, reject }));
  }

  async stats(): Promise<Stats> {
    const answer = await this.ask((id) => ({ kind: 'stats', id }));
    if (answer.kind !== 'stats') throw new Error(`the pager answered ${answer.kind} to stats`);
    return answer.stats;
  }

  async change(changes: PagerChanges): Promise<void> {
    const answer = await this.ask((id) => ({ kind: 'change', id, changes }));
    if (answer.kind === 'changed' && answer.error !== undefined) throw new Error(answer.error);
  }

  requestDetach(): void {
    this.post({ kind: 'detach' });
  }

  private ask(make: (id: number) => ToPager): Promise<FromPager> {
    if (this.gone) return Promise.reject(this.gone);
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new Error(`the pager has not answered for ${ANSWER_MS / 1000} s`));
      }, ANSWER_MS);
      this.waiting.set(id, { resolve, reject, timer });
      this.post(make(id));
    });
  }

  /** Who is to look at processes whose pages could not be moved. */
  onRefused: ((refusals: number, pids: readonly number[]) => void) | undefined;

  /** The message first, then the flag, then the wake-up: when the worker sees the flag, the message is there. */
  private post(message: ToPager): void {
    this.worker.postMessage(message);
    Atomics.store(this.flags, MAIL, 1);
    if (this.wakeFd >= 0) writeSync(this.wakeFd, this.wakeWord);
  }

  private receive(message: FromPager): void {
    switch (message.kind) {
      case 'wakeable':
        this.wakeFd = message.wakeFd;
        break;
      case 'unwakeable':
        this.wakeFd = -1;
        Atomics.store(this.flags, PARTED, 1);
        Atomics.notify(this.flags, PARTED);
        break;
      case 'attached':
        this.attached?.resolve(message.facts);
        break;
      case 'refused':
        this.attached?.reject(attachRefusal(this.settings, message.reason, message.message));
        break;
      case 'stats':
      case 'changed':
        this.settle(message.id, (waiting) => waiting.resolve(message));
        break;
      case 'pages-refused':
        this.onRefused?.(message.refusals, message.pids);
        break;
      case 'log':
        this.log[message.level](message.facts ?? {}, message.message);
        break;
      case 'ended':
        this.gone = this.over(message.ending);
        this.last = message.stats;
        this.finish?.resolve(message.ending);
        break;
    }
  }

  private settle(id: number, how: (waiting: Waiting) => void): void {
    const waiting = this.waiting.get(id);
    if (waiting === undefined) return; // it answered after our patience ended
    this.waiting.delete(id);
    clearTimeout(waiting.timer);
    how(waiting);
  }

  /** What those hear who asked too late: nothing is wrong. */
  private over(ending: Ending): Refusal {
    const { pid } = this.settings;
    return new Refusal(
      ExitCode.control,
      ending === 'target-gone' ? `process ${pid} has ended` : `leapd has detached from process ${pid}`,
      'see its log',
    );
  }

  /**
   * The thread is gone. After an orderly end or a refusal the promises are settled already, but for those of requests
   * that came too late.
   */
  private fail(error: Error): void {
    const gone = (this.gone ??= error);
    this.wakeFd = -1;
    this.attached?.reject(error);
    this.finish?.reject(error);
    for (const id of [...this.waiting.keys()]) this.settle(id, (waiting) => waiting.reject(gone));
  }
}
