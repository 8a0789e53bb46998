/**
 * The donor: connections to sessions, sessions to chunks, the host's memory to the number of chunks. What a client
 * means is client-session.ts's business, what is free chunk-store.ts's; here they meet the fabric.
 */
import type { Log } from '../src/cli/log.js';
import { formatBytes } from '../src/cli/size.js';
import type { ConnectionId, FabricEvent, ServerFabric } from '../src/core/fabric.js';
import { newNonce } from '../src/host/authenticator.js';
import {
  decodeHello,
  encodeRefusal,
  encodeWelcome,
  RefusalCode,
  WireError,
  type ChunkActivity,
  type Hello,
} from '../src/donors/wire/messages.js';
import { ChunkStore, type ChunkCounts } from './chunk-store.js';
import { Client, MESSAGE_BYTES, type ClientOwner, type Held } from './client.js';
import type { ClientSession } from './client-session.js';
import { firstLimit, MemoryMonitor, type MonitorOptions } from './memory-monitor.js';
import { hostOf, type Listen, type ServeOptions } from './memserver-options.js';
import { Reclaim, timesFor } from './reclaim.js';

const TICK_MS = 250;
/** A listener whose device went is opened again so often. */
const LISTEN_AGAIN_MS = 2000;
/** The same refusal of the same host is a warning once a minute, and of so many hosts. */
const QUIET_MS = 60_000;
const MOST_QUIET = 1024;

export interface ServerDependencies {
  readonly fabric: ServerFabric;
  readonly log: Log;
  readonly token: Uint8Array | undefined;
  /** MemAvailable, in bytes. */
  readonly available: () => number;
  /** Monotonic, in ms. */
  readonly now: () => number;
}

/** A type, as JSON wants it. */
type ChunkCountsJson = { readonly [Name in keyof ChunkCounts]: number };

/** What `leap-memserver status` shows. */
export type Status = {
  readonly listen: readonly string[];
  /** Less than `listen` has when a device is gone. */
  readonly listening: number;
  readonly chunkBytes: number;
  readonly memoryBytes: number;
  readonly chunks: ChunkCountsJson;
  readonly freeMemoryBytes: number;
  readonly reserveBytes: number;
  /** Free chunks that are registered for the next BIND of a client. */
  readonly prepared: number;
  readonly tokenRequired: boolean;
  readonly legacy: boolean;
  readonly accepted: number;
  readonly refused: number;
  readonly chunksReturned: number;
  readonly clients: readonly {
    readonly peer: string;
    readonly protocol: 'leap' | 'original';
    readonly state: ClientSession['state'];
    readonly chunks: readonly number[];
    readonly seconds: number;
  }[];
};

export class MemoryServer implements ClientOwner {
  private readonly store: ChunkStore;
  private readonly monitor: MemoryMonitor;
  private readonly clients = new Map<ConnectionId, Client>();
  private readonly quiet = new Map<string, number>();
  private readonly timers: NodeJS.Timeout[] = [];
  private readonly lost = new Map<string, Listen>();
  private reclaim: Reclaim<Client> | undefined;
  private isEnding = false;
  private isHurried = false;
  private accepted = 0;
  private refusals = 0;
  private returned = 0;

  constructor(
    readonly options: ServeOptions,
    readonly dependencies: ServerDependencies,
  ) {
    const { chunkBytes, memoryBytes } = options;
    const monitorOptions: MonitorOptions = {
      chunkBytes,
      reserve: options.reserveBytes,
      upper: options.upperBytes,
      rounds: options.reserveRounds,
      weight: options.reserveWeight,
    };
    const total = Math.floor(memoryBytes / chunkBytes);
    const available = dependencies.available();
    const limit = firstLimit(total, available, monitorOptions);
    this.monitor = new MemoryMonitor(monitorOptions);
    this.store = new ChunkStore(
      total,
      () => dependencies.fabric.memory(chunkBytes, { huge: true }),
      (error) => dependencies.log.error({ reason: reasonOf(error) }, 'a chunk could not be allocated: lending less'),
      limit,
    );
    if (limit < total) {
      const much = limit === 0 ? 'nothing can be lent now' : `${limit} of ${total} chunks can be lent now`;
      const free = `${formatBytes(available)} are free on this machine, and --reserve holds back ${formatBytes(options.reserveBytes)}`;
      const remedy = `lower --reserve, or free memory: it lends more above ${formatBytes(options.upperBytes)} (--reserve-upper)`;
      dependencies.log.warn({ chunks: limit, of: total, chunkBytes }, `${much}: ${free}; ${remedy}`);
    }
  }

  /** @throws an error of the addon: an address cannot be listened on */
  start(): void {
    const { fabric, log } = this.dependencies;
    for (const { address, port } of this.options.listen) fabric.listen(address, port);
    fabric.watch(() => this.wake());
    this.timers.push(
      setInterval(() => this.tick(), TICK_MS),
      setInterval(() => this.look(), this.options.reservePeriodMs),
    );
    this.timers.push(setInterval(() => this.listenAgain(), LISTEN_AGAIN_MS));
    const { memoryBytes, chunkBytes, listen } = this.options;
    log.info({ listen: listen.map(({ text }) => text), memoryBytes, chunkBytes }, 'lending memory');
  }

  /** Asks the clients for everything back, waits for as long as chunks come back, up to --drain, and closes. */
  async end(): Promise<void> {
    if (this.isEnding) return;
    this.isEnding = true;
    this.giveUpPrepared();
    const { now, log, fabric } = this.dependencies;
    const { lent } = this.store.counts();
    const facts = { clients: this.clients.size, chunks: lent, seconds: this.options.drainMs / 1000 };
    log.info(
      facts,
      lent > 0 ? 'ending: asking the clients to give everything back; a second signal ends at once' : 'ending',
    );
    this.store.setLimit(0);
    this.reclaim = this.reclaimFrom(lent);
    while (!this.reclaim.tick(now()) && !this.isHurried)
      await new Promise((resolve) => setTimeout(resolve, TICK_MS / 5));
    for (const timer of this.timers) clearInterval(timer);
    for (const client of [...this.clients.values()])
      client.cutOff(this.isHurried ? 'the donor ends at once' : 'the donor ends');
    await this.store.settled();
    fabric.end();
  }

  /** Nobody is waited for any more. */
  hurry(): void {
    this.isHurried = true;
  }

  private reclaimFrom(chunks: number): Reclaim<Client> {
    const { now } = this.dependencies;
    const times = timesFor(this.options.chunkBytes, this.options.drainMs);
    return new Reclaim(this.clients.values(), chunks, now(), (client, reason) => client.cutOff(reason), times);
  }

  status(): Status {
    const { options } = this;
    const since = this.dependencies.now();
    const counts = this.store.counts();
    const prepared = [...this.clients.values()].filter(({ isPrepared }) => isPrepared).length;
    return {
      listen: options.listen.map(({ text }) => text),
      listening: options.listen.length - this.lost.size,
      chunkBytes: options.chunkBytes,
      memoryBytes: options.memoryBytes,
      chunks: { ...counts, free: counts.free + prepared, lent: counts.lent - prepared },
      freeMemoryBytes: Math.round(this.monitor.freeBytes ?? this.dependencies.available()),
      reserveBytes: options.reserveBytes,
      prepared,
      tokenRequired: this.dependencies.token !== undefined,
      legacy: options.legacy,
      accepted: this.accepted,
      refused: this.refusals,
      chunksReturned: this.returned,
      clients: [...this.clients.values()].map((client) => ({
        peer: client.peer,
        protocol: client.protocol,
        state: client.state,
        chunks: [...client.chunks],
        seconds: Math.round((since - client.since) / 1000),
      })),
    };
  }

  private wake(): void {
    for (const event of this.dependencies.fabric.takeEvents()) this.take(event);
    for (const client of this.clients.values()) client.flush();
  }

  private take(event: FabricEvent): void {
    const { now, log } = this.dependencies;
    const client = this.clients.get(event.connection);
    switch (event.kind) {
      case 'connectRequest':
        return this.answer(event.connection, event.peer, event.data);
      case 'connected':
        return client?.connected();
      case 'message':
        return client?.receive(event.data, now());
      case 'disconnected':
        if (client) return client.drop(event.reason);
        // A peer that went before it was answered, and was refused: what is left of it goes too.
        if (event.connection !== 0) return this.dependencies.fabric.close(event.connection);
        log.warn({ address: event.peer, reason: event.reason }, 'no longer listening; trying again');
        return this.listenerLost(event.peer);
      case 'refused':
      case 'unreachable':
        return; // we connect to nobody
    }
  }

  private answer(connection: ConnectionId, peer: string, data: Uint8Array): void {
    const { options } = this;
    const refuse = (code: RefusalCode, text: string): void => {
      this.dependencies.fabric.reject(connection, encodeRefusal({ code, text }));
      this.refused(peer, text);
    };
    if (this.isEnding) return refuse(RefusalCode.full, 'the donor ends');
    if (options.allow && !options.allow.allows(hostOf(peer)))
      return refuse(RefusalCode.notAllowed, 'its address is not allowed (--allow)');
    if (this.clients.size >= options.maxClients)
      return refuse(RefusalCode.full, `there are ${options.maxClients} clients already`);
    if (data.byteLength === 0) {
      if (!options.legacy)
        return refuse(RefusalCode.malformed, 'it is an original client (no private data), and --legacy is not given');
      return this.admit(new Client(this, connection, peer, undefined), new Uint8Array(0));
    }
    this.greet(connection, peer, data, refuse);
  }

  /** Admits a client of leap's own dialect whose HELLO fits this donor. */
  private greet(
    connection: ConnectionId,
    peer: string,
    data: Uint8Array,
    refuse: (code: RefusalCode, text: string) => void,
  ): void {
    const { options } = this;
    let hello: Hello;
    try {
      hello = decodeHello(data);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      return refuse(error.code, error.message);
    }
    const chunkBytes = BigInt(options.chunkBytes);
    if (hello.chunkBytes !== 0n && hello.chunkBytes !== chunkBytes) {
      return refuse(
        RefusalCode.wrongChunkSize,
        `this donor has chunks of ${chunkBytes} bytes, and the client asks for ${hello.chunkBytes}`,
      );
    }
    const tokenRequired = this.dependencies.token !== undefined;
    if (tokenRequired && !hello.hasToken) return refuse(RefusalCode.tokenRequired, 'a token is required');
    const nonce = newNonce();
    const welcome = encodeWelcome({
      tokenRequired,
      nonce,
      chunkBytes,
      freeChunks: this.store.counts().free,
      messageBytes: MESSAGE_BYTES,
    });
    this.admit(new Client(this, connection, peer, { hello, nonce }), welcome);
  }

  private admit(client: Client, welcome: Uint8Array): void {
    this.clients.set(client.connection, client);
    this.accepted++;
    this.dependencies.fabric.accept(client.connection, welcome);
  }

  /** Said once a host and a minute: a flood of wrong peers is no flood of lines. */
  refused(peer: string, reason: string): void {
    const { log, now } = this.dependencies;
    this.refusals++;
    const key = `${hostOf(peer)} ${reason}`;
    const last = this.quiet.get(key);
    const isQuiet =
      (last !== undefined && now() - last < QUIET_MS) || (last === undefined && this.quiet.size >= MOST_QUIET);
    if (!isQuiet) this.quiet.set(key, now());
    log[isQuiet ? 'debug' : 'warn']({ peer, reason }, 'refused a client');
  }

  /** Registered for the client alone. */
  lend(connection: ConnectionId): Held | undefined {
    if (this.isEnding) return undefined;
    const chunk = this.store.lend();
    if (!chunk) return undefined;
    try {
      return { chunk, exposure: this.dependencies.fabric.expose(connection, chunk.memory) };
    } catch (error) {
      this.store.giveBack(chunk);
      this.dependencies.log.error({ reason: reasonOf(error) }, 'a chunk cannot be registered');
      return undefined;
    }
  }

  takeBack(held: Held): void {
    this.unlend(held);
    this.returned++;
  }

  /** The client has not been told of it. */
  unlend({ chunk, exposure }: Held): void {
    this.dependencies.fabric.withdraw(exposure.id);
    this.store.giveBack(chunk);
  }

  free(client: Client): { chunks: number; bytes: bigint } {
    const chunks = this.isEnding ? 0 : this.store.counts().free + Number(client.isPrepared);
    return { chunks, bytes: BigInt(chunks) * BigInt(this.options.chunkBytes) };
  }

  activity(client: Client, activities: readonly ChunkActivity[]): void {
    this.reclaim?.activity(client, activities, this.dependencies.now());
  }

  gone(client: Client, chunks: number): void {
    this.clients.delete(client.connection);
    this.reclaim?.gone(client, chunks);
  }

  private tick(): void {
    const now = this.dependencies.now();
    for (const [key, last] of this.quiet) if (now - last >= QUIET_MS) this.quiet.delete(key);
    for (const client of [...this.clients.values()]) client.tick(now);
    if (this.isEnding) return;
    if (this.reclaim?.tick(now)) this.reclaim = undefined;
    this.prepare();
  }

  /**
   * Each client's next chunk is registered before it is asked for, where nobody goes short for it: while there are more
   * free chunks than clients. One at a time, because nothing else is done meanwhile. With the last free chunk they are
   * all taken back: whoever asks next may have them.
   */
  private prepare(): void {
    const { free } = this.store.counts();
    if (free === 0) this.giveUpPrepared();
    if (this.reclaim || free <= this.clients.size) return;
    for (const client of this.clients.values()) if (client.prepare()) return;
  }

  private giveUpPrepared(): void {
    for (const client of this.clients.values()) client.giveUpPrepared();
  }

  /** The host's memory. Not while clients are still giving back: what is on its way must not be asked for again. */
  private look(): void {
    const { log, available } = this.dependencies;
    if (this.isEnding || this.reclaim) return;
    const change = this.monitor.sample(available());
    if (change < 0) this.giveUpPrepared();
    const before = this.store.counts();
    // From what is held, and not from a limit that was never reached.
    const from = change < 0 ? Math.min(before.limit, before.free + before.lent + before.preparing) : before.limit;
    const limit = Math.max(0, Math.min(before.total, from + change));
    if (change === 0 || limit === before.limit) return;
    const back = this.store.setLimit(limit);
    const freeBytes = Math.round(this.monitor.freeBytes ?? 0);
    log.info(
      { chunks: limit, was: before.limit, freeBytes, fromClients: back },
      `the host has ${change < 0 ? 'less' : 'more'} free memory`,
    );
    if (back > 0) this.reclaim = this.reclaimFrom(back);
  }

  /** @param peer the numeric form, which may differ from what was typed */
  private listenerLost(peer: string): void {
    const samePort = this.options.listen.filter(({ port }) => peer.endsWith(`:${port}`));
    for (const listen of samePort) {
      if (samePort.length === 1 || hostOf(peer) === listen.address) this.lost.set(listen.text, listen);
    }
  }

  private listenAgain(): void {
    for (const [text, { address, port }] of this.lost) {
      try {
        this.dependencies.fabric.listen(address, port);
      } catch {
        continue; // said once, when it was lost
      }
      this.lost.delete(text);
      this.dependencies.log.info({ address: text }, 'listening again');
    }
  }
}

export const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
