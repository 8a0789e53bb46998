/**
 * One donor, as its client knows it: the connection and what is said over it. What is to be mapped, and what a loss
 * means, is its owner's business.
 *
 *   idle -> connecting -> (proving, where there is a token) -> connected -> idle, for a while that doubles from try to
 *   try
 *
 * Every answer is waited for for a bounded time; a donor that is silent for longer is left, and tried again later.
 */
import type { ConnectionId, Fabric, FabricEvent } from '../core/fabric.js';
import { LEGACY_CHUNK_BYTES } from './wire/legacy.js';
import type { Authenticator } from './wire/auth.js';
import {
  decodeRefusal,
  decodeWelcome,
  encodeHello,
  type ChunkActivity,
  type Message,
  mostActivities,
  mostChunks,
  RefusalCode,
  WireError,
} from './wire/messages.js';
import { type Dialect, leapDialect, originalDialect } from './dialect.js';
import { Outbox } from './outbox.js';

export type DonorState = 'idle' | 'connecting' | 'proving' | 'connected' | 'refused';

const CONNECT_MS = 5000;
/** A donor that must clear a chunk first takes its time: 1 GiB is a second or so. */
const ANSWER_MS = 10_000;
const QUERY_MS = 1000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
const MESSAGE_BYTES = 4096;

export interface DonorOptions {
  readonly token: Uint8Array | undefined;
  readonly authenticator: Authenticator;
  /** 0: whatever the donors have. */
  readonly chunkBytes: number;
  /** Original donors, which say nothing at the beginning, are taken. */
  readonly legacy: boolean;
}

export interface DonorOwner {
  /**
   * The donor is proven, where there is a token, and its chunks are of this size. @returns why that will not do, or
   * undefined
   */
  welcome(chunkBytes: number): string | undefined;
  bound(donor: Donor, sessionChunk: number, donorChunk: number, rkey: number, address: bigint): void;
  noRoom(donor: Donor, sessionChunk: number): void;
  /** It wants chunks back and asks how much each is used. */
  activities(donor: Donor): ChunkActivity[];
  stop(donor: Donor, request: number, donorChunks: readonly number[]): void;
  /** The connection is gone, and all that was mapped with it. */
  gone(donor: Donor, reason: string): void;
  say(level: 'info' | 'warn' | 'error', message: string, facts: Record<string, unknown>): void;
}

export class Donor {
  state: DonorState = 'idle';
  connection: ConnectionId = 0;
  /** As it said last, less what we have asked for since. */
  freeChunks = 0;
  /** Why it could not be used at the last try; empty when it could. */
  reason = '';
  /** Session chunks that it was asked for and has not given yet. */
  readonly asked = new Set<number>();
  private messageBytes = MESSAGE_BYTES;
  private dialect: Dialect = leapDialect(MESSAGE_BYTES);
  private readonly outbox = new Outbox((message) => this.fabric.send(this.connection, message));
  private nonce: Uint8Array = new Uint8Array(0);
  private donorNonce: Uint8Array = new Uint8Array(0);
  /** As it said at the beginning; nothing is made of it before it is proven. */
  private chunkBytes = 0n;
  private pauseMs = FIRST_PAUSE_MS;
  private tryAt = 0;
  /** When the oldest unanswered question was put, ms; Infinity: all are answered. */
  private askedAt = Infinity;
  private queriedAt = 0;
  private nextRequest = 1;
  private now = 0;
  /** What was last said of it: said once. */
  private said = '';

  constructor(
    private readonly fabric: Fabric,
    /** Numeric. */
    readonly host: string,
    readonly port: number,
    private readonly options: DonorOptions,
    private readonly owner: DonorOwner,
  ) {}

  get address(): string {
    return this.host.includes(':') ? `[${this.host}]:${this.port}` : `${this.host}:${this.port}`;
  }

  get isOriginal(): boolean {
    return this.dialect.name === 'original';
  }

  /** To be called a few times a second. @param now ms */
  tick(now: number): void {
    this.now = now;
    if (this.state === 'idle' || this.state === 'refused') {
      if (now >= this.tryAt) this.connect();
      return;
    }
    if (now - this.askedAt > ANSWER_MS) return this.drop('it does not answer');
    if (this.state !== 'connected' || now - this.queriedAt < QUERY_MS) return;
    this.queriedAt = now;
    this.ask({ type: 'query', request: this.nextRequest++ });
  }

  private connect(): void {
    this.nonce = this.options.authenticator.newNonce();
    this.state = 'connecting';
    this.askedAt = this.now;
    const { token, chunkBytes } = this.options;
    const hello = encodeHello({
      hasToken: token !== undefined,
      nonce: this.nonce,
      messageBytes: MESSAGE_BYTES,
      chunkBytes: BigInt(chunkBytes),
    });
    try {
      this.connection = this.fabric.connect(this.host, this.port, hello, CONNECT_MS);
    } catch (error) {
      this.lost('warn', error instanceof Error ? error.message : String(error));
    }
  }

  /** Something has happened on its connection. */
  handle(event: FabricEvent, now: number): void {
    this.flush(now); // what was sent before may have made room
    switch (event.kind) {
      case 'connected':
        return this.guard(() => this.begin(event.data));
      case 'message':
        return this.guard(() => this.receive(this.dialect.decode(event.data)));
      case 'refused':
        return this.refused(event.data, event.reason);
      case 'unreachable':
      case 'disconnected':
        return this.lost('warn', event.reason);
      case 'connectRequest':
        return;
    }
  }

  private guard(act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.drop(`it sent an invalid message (${error.message})`);
    }
  }

  private begin(data: Uint8Array): void {
    if (data.byteLength === 0) return this.beginOriginal();
    const welcome = decodeWelcome(data);
    this.messageBytes = Math.min(MESSAGE_BYTES, welcome.messageBytes);
    this.dialect = leapDialect(this.messageBytes);
    this.donorNonce = welcome.nonce;
    this.freeChunks = welcome.freeChunks;
    this.chunkBytes = welcome.chunkBytes;
    const { token, authenticator } = this.options;
    if (!welcome.tokenRequired)
      return token === undefined
        ? this.enter()
        : this.refuse('it asks for no token, so it cannot prove that it knows one: start it with --token-file');
    if (token === undefined) return this.refuse('it asks for a token: give leapd its --token-file');
    this.state = 'proving';
    const mac = authenticator.macOf('client', token, this.nonce, this.donorNonce);
    this.ask({ type: 'auth', request: this.nextRequest++, mac });
  }

  private beginOriginal(): void {
    if (this.options.token !== undefined)
      return this.refuse(
        'it is a donor of the original Leap or Infiniswap, which has no tokens: leave out --token-file to use it',
      );
    if (!this.options.legacy)
      return this.refuse('it is a donor of the original Leap or Infiniswap: to use it, give leapd --legacy');
    this.dialect = originalDialect;
    this.freeChunks = 0;
    this.chunkBytes = LEGACY_CHUNK_BYTES;
    this.enter();
  }

  /** It is one of ours: what it says counts from now on, the size of its chunks first. */
  private enter(): void {
    const problem = this.owner.welcome(Number(this.chunkBytes));
    if (problem !== undefined) return this.refuse(problem);
    this.state = 'connected';
    this.reason = '';
    this.askedAt = Infinity;
    this.queriedAt = this.now;
    this.pauseMs = FIRST_PAUSE_MS;
    this.tell('info', 'connected', `donor ${this.address} is connected`, {
      freeChunks: this.freeChunks,
      ...(this.isOriginal && { protocol: 'original' }),
    });
  }

  private receive(message: Message): void {
    if (message.type === 'refused') return this.refuse(message.text);
    if (this.state === 'proving') return this.proven(message);
    if (this.state !== 'connected') throw new WireError(`${message.type} before the connection was set up`);
    switch (message.type) {
      case 'free':
        this.freeChunks = message.freeChunks;
        this.answered();
        return;
      case 'bound':
      case 'noRoom':
        if (!this.asked.delete(message.sessionChunk))
          throw new WireError(`${message.type} of chunk ${message.sessionChunk}, which was not requested`);
        this.answered();
        if (message.type === 'bound')
          return this.owner.bound(this, message.sessionChunk, message.donorChunk, message.rkey, message.address);
        this.freeChunks = 0;
        return this.owner.noRoom(this, message.sessionChunk);
      case 'evict':
        this.send({ type: 'activity', request: message.request, activities: this.leastActive() });
        return;
      case 'stop':
        return this.owner.stop(this, message.request, message.donorChunks);
      case 'released':
        return;
      default:
        throw new WireError(`a donor does not send ${message.type}`);
    }
  }

  /**
   * As many chunks as a message holds: those that are used least are what the donor looks for; it takes the others for
   * busy.
   */
  private leastActive(): ChunkActivity[] {
    return this.owner
      .activities(this)
      .sort((a, b) => a.activity - b.activity)
      .slice(0, mostActivities(this.messageBytes));
  }

  private proven(message: Message): void {
    const { token, authenticator } = this.options;
    if (message.type !== 'authenticated' || token === undefined)
      throw new WireError(`${message.type} before it has proved that it knows the token`);
    if (!authenticator.isMacOf(message.mac, 'donor', token, this.nonce, this.donorNonce))
      return this.refuse('it does not know the token: another program may be answering there');
    this.enter();
  }

  private answered(): void {
    this.askedAt = this.asked.size > 0 ? this.now : Infinity;
  }

  // ---- what its owner asks of it

  bind(sessionChunk: number): void {
    this.asked.add(sessionChunk);
    this.freeChunks--;
    this.ask({ type: 'bind', request: this.nextRequest++, sessionChunk });
  }

  release(donorChunk: number): void {
    this.send({ type: 'release', request: this.nextRequest++, donorChunk });
  }

  done(request: number, donorChunks: readonly number[]): void {
    const most = mostChunks(this.messageBytes);
    for (let at = 0; at < donorChunks.length; at += most)
      this.send({ type: 'done', request, donorChunks: donorChunks.slice(at, at + most) });
  }

  /** What waits for a send buffer. */
  flush(now: number): void {
    this.now = now;
    this.outbox.flush(now);
  }

  private ask(message: Message): void {
    if (this.askedAt === Infinity) this.askedAt = this.now;
    this.send(message);
  }

  private send(message: Message): void {
    const bytes = this.dialect.encode(message);
    if (bytes !== undefined && !this.outbox.add(bytes, this.now)) this.drop('it does not receive our messages');
  }

  /** Leaves it; it is tried again later. */
  drop(reason: string): void {
    this.lost('warn', reason);
  }

  /**
   * Leaves it because of RDMA being switched off, or the end: nothing is said. @param tryAt when it may be tried again,
   * ms
   */
  leave(tryAt: number): void {
    this.reset();
    this.reason = '';
    this.said = '';
    this.tryAt = tryAt;
  }

  private refuse(reason: string): void {
    this.lost('error', reason);
    this.state = 'refused';
    this.tryAt = this.now + LONGEST_PAUSE_MS;
  }

  private refused(data: Uint8Array, reason: string): void {
    let text = reason;
    let lasting = false;
    try {
      const refusal = decodeRefusal(data);
      text = refusal.text;
      lasting = refusal.code !== RefusalCode.full;
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
    }
    if (lasting) this.refuse(text);
    else this.lost('warn', text);
  }

  private lost(level: 'warn' | 'error', reason: string): void {
    const before = this.state;
    if (before === 'connected') this.owner.gone(this, reason);
    this.reset();
    this.reason = reason;
    this.tryAt = this.now + this.pauseMs;
    this.pauseMs = Math.min(LONGEST_PAUSE_MS, this.pauseMs * 2);
    if (before === 'connected') this.tell('warn', `lost ${reason}`, `donor ${this.address} is lost: ${reason}`, {});
    else
      this.tell(
        level,
        `away ${reason}`,
        `donor ${this.address} cannot be used: ${reason}; leapd retries in the background`,
        {},
      );
  }

  /** One that has failed is closed too: until then the fabric keeps what is left of it. */
  private reset(): void {
    if (this.connection !== 0) this.fabric.close(this.connection);
    this.state = 'idle';
    this.connection = 0;
    this.freeChunks = 0;
    this.askedAt = Infinity;
    this.asked.clear();
    this.outbox.clear();
    this.messageBytes = MESSAGE_BYTES;
    this.dialect = leapDialect(MESSAGE_BYTES);
  }

  private tell(level: 'info' | 'warn' | 'error', key: string, message: string, facts: Record<string, unknown>): void {
    if (this.said === key) return;
    this.said = key;
    this.owner.say(level, message, facts);
  }
}
