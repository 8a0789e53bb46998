/**
 * One run of leapd after its attach: serve, record, drain, clean up. There are two ways out, the pager's own end and
 * its failure. Everything else (signals, a closed terminal, a bug in this thread) at most asks for the first of them:
 * leapd never leaves while pages are out. run.ts has what comes before.
 */
import { resolve } from 'node:path';
import type { PagerStats } from '../src/core/counters.js';
import type { ControlServer } from '../src/cli/control-server.js';
import { ExitCode, Refusal } from '../src/cli/exit-codes.js';
import type { Log } from '../src/cli/log.js';
import { roomFor, whyNoFit } from './memory-fit.js';
import type { LeapdOptions } from './leapd-options.js';
import type { PagerClient } from './pager-client.js';
import type { AttachFacts, Ending } from './pager-messages.js';
import { PinWatch } from './pin-watch.js';
import { openProgress } from '../src/cli/progress.js';
import { Recording, type Recorded, type RecordingOptions } from './recording.js';
import { SIGN_OF_LIFE_MS, type Claim, type Registry } from './registry.js';
import { pagesToBytes } from '../src/cli/size.js';
import { removeSwapFile } from './swap-path.js';
import type { Target } from './target.js';

const PROGRESS_MS = 200;

export class Session {
  private readonly startedAt = Date.now();
  /** How the attach went; undefined before it. */
  attached: AttachFacts | undefined;
  private draining: Promise<Ending> | undefined;
  private recording: Recording | undefined;
  /** A recording is being started: the pager has been asked and has not answered yet. */
  private isRecordingStarting = false;
  private code: ExitCode = ExitCode.ok;
  /** A signal that came before there was anything to detach from. */
  private early: string | undefined;

  constructor(
    readonly options: LeapdOptions,
    readonly target: Target,
    readonly pager: PagerClient,
    readonly log: Log,
  ) {}

  /** Pages until the end, and clears up. @throws PagerFailure: it failed with pages out */
  async serve(registry: Registry, claim: Claim, facts: AttachFacts, server: ControlServer): Promise<ExitCode> {
    const { log, target, options } = this;
    this.attached = facts;
    const timers = [setInterval(() => registry.signOfLife(claim), SIGN_OF_LIFE_MS)];
    if (!options.allowPinned) timers.push(new PinWatch(target.pid, this.pager, log).start());
    const { swapFile, control } = options;
    if (options.remote?.copies === 1)
      log.warn('--copies 1: a page is lost with its donor; give --copies 2 to survive the loss of a donor');
    log.info(
      { ...facts, swapFile, control },
      `paging process ${target.pid} (${target.name}); end it with Ctrl-C or: leapctl detach ${target.pid}`,
    );
    if (this.early !== undefined) this.ask(this.early);
    if (options.record !== undefined) {
      const failed = (error: unknown): void =>
        log.error(`nothing is recorded: ${error instanceof Error ? error.message : String(error)}`);
      await this.startRecording(resolve(options.record), {
        exact: false,
        maxBytes: options.recordMax,
        seconds: undefined,
      }).catch(failed);
    }
    try {
      const ending = await this.pager.ended;
      await this.draining; // its last word on the progress comes first
      const outcome = ending === 'detached' ? 'has all its memory back' : 'is gone';
      log.info({ seconds: this.uptimeSeconds, ...lastWord(this.pager.last) }, `process ${target.pid} ${outcome}`);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      log.fatal(
        { err: error, swapFile },
        `the pager failed: process ${target.pid} waits when it touches a stored page; to give it up: kill -9 ${target.pid}`,
      );
      registry.update({ ...claim, failure: reason });
      await server.close();
      throw new PagerFailure(reason);
    } finally {
      timers.forEach((timer) => clearInterval(timer));
      await this.recording?.stop('paging has ended');
    }
    await server.close();
    removeSwapFile(swapFile);
    registry.release(target.pid);
    return this.code;
  }

  get uptimeSeconds(): number {
    return Math.round((Date.now() - this.startedAt) / 100) / 10;
  }

  get state(): 'attaching' | 'paging' | 'detaching' {
    return !this.attached ? 'attaching' : this.draining ? 'detaching' : 'paging';
  }

  /**
   * Puts everything back and ends. A second call joins the first.
   * @throws Refusal when it does not fit into memory and `force` is not given; then nothing has changed.
   */
  async detach(force: boolean, onProgress?: (done: number, total: number) => void): Promise<Ending> {
    if (!this.draining) {
      const stats = await Promise.race([this.pager.stats(), this.pager.ended]);
      if (typeof stats === 'string') return stats; // it has just ended by itself
      const problem = whyNoFit(pagesToBytes(pagesOut(stats)), roomFor(this.target.pid));
      if (problem !== undefined && !force) {
        const remedy = `free memory, or override with: leapctl detach ${this.target.pid} --force`;
        throw new Refusal(ExitCode.refused, `not detached: ${problem}`, remedy);
      }
      if (problem !== undefined) this.log.warn(`detaching although it may not fit: ${problem}`);
      this.draining ??= this.drain(pagesOut(stats));
    }
    const follower = onProgress && setInterval(() => onProgress(this.done, this.total), PROGRESS_MS);
    try {
      return await this.draining;
    } finally {
      clearInterval(follower);
    }
  }

  /** @throws Refusal: a recording is under way, or the file cannot be made. */
  async startRecording(
    path: string,
    how: Pick<RecordingOptions, 'exact' | 'maxBytes' | 'seconds'>,
  ): Promise<Recording> {
    const { pid, name } = this.target;
    if (this.recording !== undefined || this.isRecordingStarting)
      throw new Refusal(
        ExitCode.refused,
        'a recording is running already',
        `end it first: leapctl record ${pid} --stop`,
      );
    const about = {
      name,
      pid,
      startedAt: new Date().toISOString(),
      exact: how.exact || this.options.prefetch === 'none' ? 'yes' : 'no',
    };
    this.isRecordingStarting = true; // before the first wait, so that a second request finds it
    let recording: Recording;
    try {
      recording = await Recording.start(this.pager, this.log, { path, ...how, about });
    } finally {
      this.isRecordingStarting = false;
    }
    this.recording = recording;
    void recording.over.then(() => (this.recording = undefined));
    return recording;
  }

  /** @throws Refusal: there is none. */
  stopRecording(): Promise<Recorded> {
    if (this.recording !== undefined) return this.recording.stop();
    throw new Refusal(ExitCode.refused, 'no recording is running', 'start one with: leapctl record PID --out FILE');
  }

  private done = 0;
  private total = 0;

  private async drain(total: number): Promise<Ending> {
    this.total = total;
    const progress = openProgress('putting pages back', (text) => this.log.info(text));
    const timer = setInterval(() => {
      this.pager.stats().then(
        (stats) => {
          this.done = Math.max(this.done, total - pagesOut(stats));
          progress.update(this.done, total);
        },
        () => undefined,
      ); // it has just ended: the last word comes from `ended`
    }, PROGRESS_MS);
    this.pager.requestDetach();
    try {
      const ending = await this.pager.ended;
      this.done = total;
      progress.update(total, total);
      return ending;
    } finally {
      clearInterval(timer);
      progress.stop();
    }
  }

  /** Asks for the end on behalf of nobody who could be answered. */
  private ask(why: string): void {
    if (!this.attached) {
      this.early = why;
      return;
    }
    this.detach(this.options.force).catch((error: unknown) => {
      if (error instanceof Refusal) this.log.error(`${why}: ${error.message}; paging goes on`);
    });
  }

  /** From now on signals, and bugs in this thread, ask for a detach. */
  listen(): void {
    const { log } = this;
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const) {
      process.on(signal, () => {
        if (!this.draining) return this.ask(signal);
        const left = `${this.total - this.done} of ${this.total}`;
        log.warn(
          `${signal} ignored: still putting pages back, ${left} are left; ending now would leave the process waiting for ever`,
        );
      });
    }
    process.on('SIGTSTP', () => log.warn(`SIGTSTP ignored: stopping leapd would stall process ${this.target.pid}`));
    // A bug in this thread does not touch the pager's: the pages go back first.
    const bug = (error: unknown): void => {
      this.code = ExitCode.internal;
      log.fatal({ err: error }, 'a bug in leapd; putting all pages back');
      this.ask('a bug');
    };
    process.on('uncaughtException', bug);
    process.on('unhandledRejection', bug);
  }
}

/** What the end of it all says of the whole. */
function lastWord(stats: PagerStats | undefined): Partial<PagerStats> {
  if (stats === undefined) return {};
  const { faults, demandReads, prefetchHits, evictions, hashMismatches, lostPages } = stats;
  return { faults, demandReads, prefetchHits, evictions, hashMismatches, lostPages };
}

/** The pager failed with pages out; said and written down already. */
export class PagerFailure extends Error {}

/** Pages that have to go back, wherever they are. */
const pagesOut = (stats: PagerStats): number => stats.storedPages + stats.bufferedPages;
