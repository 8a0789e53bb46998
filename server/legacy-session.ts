/**
 * An original Leap or Infiniswap client (--legacy): the same session in its words. Its chunks have 1 GiB and numbers
 * below 32.
 */
import { decodeLegacy, encodeLegacy, LEGACY_CHUNKS, type LegacyMessage } from '../src/donors/wire/legacy.js';
import { WireError } from '../src/donors/wire/messages.js';
import { MOST_MESSAGES_A_SECOND, Pace, type ClientHost, type ClientSession, type Loan } from './client-session.js';

export class LegacySession implements ClientSession {
  readonly givesBackAtOnce = true;
  private readonly loans = new Set<number>();
  private readonly stopped = new Set<number>();
  private phase: 'open' | 'over' = 'open';
  private isAsked = false;
  private readonly pace = new Pace();

  constructor(private readonly host: ClientHost) {}

  get state(): ClientSession['state'] {
    return this.phase;
  }

  get chunks(): ReadonlySet<number> {
    return this.loans;
  }

  /** The donor speaks first. */
  greet(): void {
    this.sendFree();
  }

  receive(bytes: Uint8Array, now: number): void {
    if (this.phase === 'over') return;
    if (this.pace.isTooFast(now)) return this.end(`more than ${MOST_MESSAGES_A_SECOND} messages in a second`);
    let message: LegacyMessage;
    try {
      message = decodeLegacy(bytes);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      return this.end(error.message);
    }
    this.serve(message);
  }

  tick(): void {}

  askActivity(wanted: number): void {
    if (this.phase !== 'open' || this.isAsked) return;
    this.isAsked = true;
    this.send({ type: 'evict', size: wanted, entries: [] });
  }

  stop(donorChunks: readonly number[]): void {
    if (this.phase !== 'open') return;
    this.isAsked = false;
    const mine = donorChunks.filter((chunk) => this.loans.has(chunk));
    for (const chunk of mine) this.stopped.add(chunk);
    this.send({
      type: 'stop',
      size: mine.length,
      entries: mine.map((donorChunk) => ({ donorChunk, buf: 0n, rkey: 1 })),
    });
  }

  private serve({ type, size, entries }: LegacyMessage): void {
    switch (type) {
      case 'query':
        return this.sendFree();
      case 'bindSingle':
        return this.bind('infoSingle', size, 1);
      case 'bind':
        return this.bind('info', Math.min(size, LEGACY_CHUNKS), Math.min(size, LEGACY_CHUNKS));
      case 'activity':
        if (!this.isAsked) return this.end('ACTIVITY without a request');
        this.isAsked = false;
        return this.host.activity(
          entries
            .filter(({ donorChunk }) => this.loans.has(donorChunk))
            .map(({ donorChunk, buf }) => ({ donorChunk, activity: Number(buf) })),
        );
      case 'done':
        for (const { donorChunk, rkey } of entries) {
          if (rkey === 0) continue;
          if (!this.stopped.delete(donorChunk))
            return this.end(`DONE for chunk ${donorChunk}, which no STOP has named`);
          this.loans.delete(donorChunk);
          this.host.takeBack(donorChunk);
        }
        return;
      default:
        return this.end(`${type}, which only a donor sends`);
    }
  }

  private bind(type: 'info' | 'infoSingle', size: number, count: number): void {
    const loans: Loan[] = [];
    while (loans.length < count) {
      const loan = this.host.lend();
      if (!loan) break;
      this.loans.add(loan.donorChunk);
      loans.push(loan);
    }
    // The original has no word for "no room".
    if (loans.length === 0) return this.sendFree();
    const entries = loans.map(({ donorChunk, rkey, address }) => ({ donorChunk, buf: address, rkey }));
    this.send({ type, size: type === 'info' ? loans.length : size, entries });
  }

  private sendFree(): void {
    this.send({ type: 'freeSize', size: Math.min(this.host.free().chunks, LEGACY_CHUNKS), entries: [] });
  }

  private end(reason: string): void {
    this.phase = 'over';
    this.host.end(reason);
  }

  private send(message: LegacyMessage): void {
    this.host.send(encodeLegacy(message));
  }
}
