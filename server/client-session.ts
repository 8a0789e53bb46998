/**
 * One client, as a pure state machine: a message comes in, answers and changes go out through its host. It never waits
 * and knows no clock of its own; what the client must do in time is a deadline that `tick` looks at. Whatever the
 * client sends, the worst that happens is the end of its session.
 */
import { isMacOf, macOf } from '../src/host/authenticator.js';
import {
  decodeMessage,
  encodeMessage,
  mostChunks,
  RefusalCode,
  WireError,
  type ChunkActivity,
  type Message,
} from '../src/donors/wire/messages.js';

/** For AUTH, from the connection on. */
export const AUTH_MS = 5000;
/** More than any client needs; what it sends costs the donor time. */
export const MOST_MESSAGES_A_SECOND = 1000;

export interface Loan {
  readonly donorChunk: number;
  readonly rkey: number;
  readonly address: bigint;
}

/** What a session may do. */
export interface ClientHost {
  send(message: Uint8Array): void;
  /** A chunk that this client alone can reach; undefined when there is none. */
  lend(): Loan | undefined;
  /** Out of the client's reach from now on. */
  takeBack(donorChunk: number): void;
  free(): { readonly chunks: number; readonly bytes: bigint };
  /** The answer to `askActivity`. */
  activity(activities: readonly ChunkActivity[]): void;
  /** The client is to go, and why; what was sent before still reaches it. */
  end(reason: string): void;
}

/** What reclaiming and the server need of a client, whatever it speaks. */
export interface ClientSession {
  /** The numbers of the chunks it has. */
  readonly chunks: ReadonlySet<number>;
  readonly state: 'unproven' | 'open' | 'over';
  /** One DONE for all chunks of a STOP, when the last of them is empty. */
  readonly givesBackAtOnce: boolean;
  receive(bytes: Uint8Array, now: number): void;
  /** Ends a session that is late. */
  tick(now: number): void;
  askActivity(wanted: number): void;
  /** The client is to give these back. */
  stop(donorChunks: readonly number[]): void;
}

export interface Terms {
  /** The client must prove that it knows it. */
  readonly token: Uint8Array | undefined;
  readonly clientNonce: Uint8Array;
  readonly donorNonce: Uint8Array;
  readonly messageBytes: number;
}

/** How often somebody may speak. */
export class Pace {
  private since = 0;
  private count = 0;

  isTooFast(now: number): boolean {
    if (now - this.since >= 1000) {
      this.since = now;
      this.count = 0;
    }
    return ++this.count > MOST_MESSAGES_A_SECOND;
  }
}

export class LeapSession implements ClientSession {
  readonly givesBackAtOnce = false;
  private phase: ClientSession['state'];
  /** donor chunk -> session chunk */
  private readonly loans = new Map<number, number>();
  private readonly bound = new Set<number>();
  /** Chunks that STOP has named. */
  private readonly stopped = new Set<number>();
  private asked: number | undefined;
  private nextRequest = 1;
  private readonly pace = new Pace();

  constructor(
    private readonly terms: Terms,
    private readonly host: ClientHost,
    private readonly since: number,
  ) {
    this.phase = terms.token ? 'unproven' : 'open';
  }

  get state(): ClientSession['state'] {
    return this.phase;
  }

  get chunks(): ReadonlySet<number> {
    return new Set(this.loans.keys());
  }

  receive(bytes: Uint8Array, now: number): void {
    if (this.phase === 'over') return;
    if (this.pace.isTooFast(now))
      return this.refuse(0, RefusalCode.malformed, `more than ${MOST_MESSAGES_A_SECOND} messages in a second`);
    let message: Message;
    try {
      message = decodeMessage(bytes);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      return this.refuse(0, error.code, error.message);
    }
    if (this.phase === 'unproven') this.prove(message);
    else this.serve(message);
  }

  tick(now: number): void {
    if (this.phase === 'unproven' && now - this.since > AUTH_MS)
      this.refuse(0, RefusalCode.tokenWrong, `no AUTH within ${AUTH_MS / 1000} s`);
  }

  askActivity(wanted: number): void {
    if (this.phase !== 'open' || this.asked !== undefined) return; // the answer that is on its way will do
    this.asked = this.nextRequest++;
    this.send({ type: 'evict', request: this.asked, chunks: wanted });
  }

  stop(donorChunks: readonly number[]): void {
    if (this.phase !== 'open') return;
    this.asked = undefined;
    const most = mostChunks(this.terms.messageBytes);
    const mine = donorChunks.filter((chunk) => this.loans.has(chunk));
    for (const chunk of mine) this.stopped.add(chunk);
    for (let at = 0; at === 0 || at < mine.length; at += most) {
      this.send({ type: 'stop', request: this.nextRequest++, donorChunks: mine.slice(at, at + most) });
    }
  }

  private prove(message: Message): void {
    const { token, clientNonce, donorNonce } = this.terms;
    if (message.type !== 'auth')
      return this.refuse(message.request, RefusalCode.tokenRequired, `${message.type} before AUTH`);
    if (!token || !isMacOf(message.mac, 'client', token, clientNonce, donorNonce)) {
      return this.refuse(message.request, RefusalCode.tokenWrong, 'the token is wrong');
    }
    this.phase = 'open';
    this.send({ type: 'authenticated', request: message.request, mac: macOf('donor', token, clientNonce, donorNonce) });
  }

  private serve(message: Message): void {
    const { request } = message;
    switch (message.type) {
      case 'query': {
        const { chunks, bytes } = this.host.free();
        return this.send({ type: 'free', request, freeChunks: chunks, freeBytes: bytes });
      }
      case 'bind':
        return this.bind(request, message.sessionChunk);
      case 'release':
        if (!this.loans.has(message.donorChunk))
          return this.refuse(request, RefusalCode.malformed, `chunk ${message.donorChunk} is not lent to it`);
        this.takeBack(message.donorChunk);
        return this.send({ type: 'released', request, donorChunk: message.donorChunk });
      case 'activity':
        if (request !== this.asked) return this.refuse(request, RefusalCode.malformed, 'ACTIVITY without a request');
        this.asked = undefined;
        return this.host.activity(message.activities.filter(({ donorChunk }) => this.loans.has(donorChunk)));
      case 'done':
        for (const chunk of message.donorChunks) {
          // One that was released meanwhile is no mistake.
          if (this.stopped.delete(chunk)) this.takeBack(chunk);
          else if (this.loans.has(chunk))
            return this.refuse(request, RefusalCode.malformed, `DONE for chunk ${chunk}, which no STOP has named`);
        }
        return;
      case 'auth':
        return this.refuse(
          request,
          RefusalCode.malformed,
          'AUTH although no token is required, or after it was proved',
        );
      default:
        return this.refuse(request, RefusalCode.malformed, `${message.type}, which only a donor sends`);
    }
  }

  private bind(request: number, sessionChunk: number): void {
    if (this.bound.has(sessionChunk))
      return this.refuse(request, RefusalCode.malformed, `a second BIND for session chunk ${sessionChunk}`);
    const loan = this.host.lend();
    if (!loan) return this.send({ type: 'noRoom', request, sessionChunk });
    this.loans.set(loan.donorChunk, sessionChunk);
    this.bound.add(sessionChunk);
    this.send({ type: 'bound', request, sessionChunk, ...loan });
  }

  private takeBack(donorChunk: number): void {
    this.bound.delete(this.loans.get(donorChunk) ?? -1);
    this.loans.delete(donorChunk);
    this.stopped.delete(donorChunk);
    this.host.takeBack(donorChunk);
  }

  private refuse(request: number, code: RefusalCode, text: string): void {
    this.send({ type: 'refused', request, code, text });
    this.phase = 'over';
    this.host.end(text);
  }

  private send(message: Message): void {
    this.host.send(encodeMessage(message, this.terms.messageBytes));
  }
}
