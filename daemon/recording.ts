/**
 * Recording the faults of a target into a trace file. The pager's thread writes into a ring in shared memory, and this,
 * the main thread, drains it: whatever the disk does, no fault waits for it. What the ring cannot hold is counted, and
 * the count stands at the file's end.
 */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { TraceEncoder } from '../src/trace/format.js';
import { drainRecords, recordMemory } from '../src/trace/ring.js';
import { errnoName, ExitCode, Refusal } from '../src/cli/exit-codes.js';
import type { Log } from '../src/cli/log.js';
import type { PagerClient } from './pager-client.js';
import type { PrefetcherName } from '../src/policy/prefetch/index.js';
import { formatBytes } from '../src/cli/size.js';

/** Faults that the ring holds: a second of 65,000 faults, drained every few milliseconds. */
const RING_RECORDS = 1 << 16;
const DRAIN_MS = 20;
/** What the last record may take. */
const END_BYTES = 32;

export interface RecordingOptions {
  readonly path: string;
  /** Nothing is read or mapped ahead meanwhile, so that every first touch of a page that is out is a fault. */
  readonly exact: boolean;
  readonly maxBytes: number;
  /** Ends by itself after so long, whatever becomes of who asked for it. */
  readonly seconds: number | undefined;
  readonly about: Readonly<Record<string, string | number>>;
}

export interface Recorded {
  readonly path: string;
  readonly faults: number;
  readonly lost: number;
  readonly bytes: number;
  /** Why it ended before it was asked to; empty otherwise. */
  readonly endedEarly: string;
}

export class Recording {
  /** What was recorded, as soon as it is over, for whatever reason; the pager prefetches as before then. */
  readonly over: Promise<Recorded>;
  private finish: ((recorded: Recorded) => void) | undefined;
  private readonly memory = recordMemory(RING_RECORDS);
  private readonly encoder: TraceEncoder;
  private readonly timer: NodeJS.Timeout;
  private limit: NodeJS.Timeout | undefined;
  private bytes = 0;
  private lost = 0;
  private closed = false;
  private left: Promise<void> | undefined;

  private constructor(
    private readonly options: RecordingOptions,
    private readonly fd: number,
    private readonly pager: PagerClient,
    private readonly log: Log,
    private readonly former: PrefetcherName | undefined,
  ) {
    this.over = new Promise((resolve) => (this.finish = resolve));
    this.encoder = new TraceEncoder(options.about);
    this.timer = setInterval(() => this.drain(), DRAIN_MS);
  }

  /** @throws Refusal when the file cannot be made. */
  static async start(pager: PagerClient, log: Log, options: RecordingOptions): Promise<Recording> {
    const { prefetch } = await pager.stats();
    const fd = open(options.path);
    const recording = new Recording(options, fd, pager, log, options.exact ? (prefetch as PrefetcherName) : undefined);
    await pager.change({ record: recording.memory, ...(options.exact && { prefetch: 'none' }) });
    if (options.seconds !== undefined)
      recording.limit = setTimeout(() => void recording.stop(), options.seconds * 1000);
    log.info({ file: options.path, exact: options.exact }, 'recording faults');
    return recording;
  }

  /** Faults written down so far. */
  get faults(): number {
    return this.encoder.faults;
  }

  /**
   * Ends the recording; the file is whole then. Also when the pager has gone already. @param early why, where nobody
   * has asked for it
   */
  async stop(early = ''): Promise<Recorded> {
    await this.leave();
    this.drain();
    this.close(early);
    return this.over;
  }

  private drain(): void {
    if (this.closed) return;
    this.lost = drainRecords(this.memory, this.encoder);
    const room = this.options.maxBytes - this.bytes - END_BYTES;
    const bytes = this.encoder.take();
    if (bytes.length > room)
      return this.close(
        this.warn(`the file has reached ${formatBytes(this.options.maxBytes)}`),
        bytes.subarray(0, Math.max(0, room)),
      );
    this.write(bytes);
  }

  /**
   * @param cut what still fits of records that do not all fit: such a file has no end record, and is read up to its
   * last whole one.
   */
  private close(early: string, cut?: Uint8Array): void {
    if (this.closed) return;
    if (cut === undefined) this.encoder.end(this.lost);
    this.write(cut ?? this.encoder.take());
    this.end(early);
  }

  private end(endedEarly: string): void {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.timer);
    clearTimeout(this.limit);
    closeSync(this.fd);
    const { path } = this.options;
    const { faults, lost, bytes } = this;
    void this.leave().then(() => {
      this.log.info({ file: path, faults, lost, bytes, endedEarly }, 'the recording is over');
      this.finish?.({ path, faults, lost, bytes, endedEarly });
    });
  }

  /** The pager records no more, and prefetches as before; if it has gone, that is as well. */
  private leave(): Promise<void> {
    this.left ??= this.pager
      .change({ record: null, ...(this.former !== undefined && { prefetch: this.former }) })
      .catch(() => undefined);
    return this.left;
  }

  private write(bytes: Uint8Array): void {
    try {
      for (let at = 0; at < bytes.length;) at += writeSync(this.fd, bytes, at);
      this.bytes += bytes.length;
    } catch (error) {
      this.end(this.warn(`it cannot be written (${errnoName(error)})`));
    }
  }

  private warn(endedEarly: string): string {
    this.log.warn({ file: this.options.path }, `the recording ends: ${endedEarly}`);
    return endedEarly;
  }
}

/** Before the attach: whether the file can be made, so that a wrong path costs nothing. @throws Refusal */
export function checkRecordPath(path: string): void {
  closeSync(open(path));
  rmSync(path);
}

function open(path: string): number {
  try {
    return openSync(path, 'wx', 0o600);
  } catch (error) {
    throw new Refusal(
      ExitCode.usage,
      `the trace ${path} cannot be created (${errnoName(error)})`,
      'give the path of a file that does not exist yet',
    );
  }
}
