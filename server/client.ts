/** A connection and its session: what the session asks for is done here, with the chunks that the server has. */
import type { Log } from '../src/cli/log.js';
import type { ConnectionId, Exposure, ServerFabric } from '../src/core/fabric.js';
import { LEGACY_CHUNKS } from '../src/donors/wire/legacy.js';
import type { ChunkActivity, Hello } from '../src/donors/wire/messages.js';
import type { Chunk } from './chunk-store.js';
import { LeapSession, type ClientHost, type ClientSession, type Loan } from './client-session.js';
import { LegacySession } from './legacy-session.js';

/** The longest message of ours, and of the originals. */
export const MESSAGE_BYTES = 4096;
/** A client that has been refused reads why, and goes; then it is closed. */
const LINGER_MS = 500;
/** Messages that wait for a send buffer. */
const MOST_UNSENT = 256;

/** A chunk that one client can reach. */
export interface Held {
  readonly chunk: Chunk;
  readonly exposure: Exposure;
}

/** What a client needs of the donor that it is connected to. */
export interface ClientOwner {
  readonly options: { readonly chunkBytes: number };
  readonly dependencies: {
    readonly fabric: ServerFabric;
    readonly log: Log;
    readonly token: Uint8Array | undefined;
    /** Monotonic, in ms. */
    readonly now: () => number;
  };
  /** A free chunk, registered for this connection alone; undefined when there is none. */
  lend(connection: ConnectionId): Held | undefined;
  /** Takes back a chunk that the client was given. */
  takeBack(held: Held): void;
  /** Takes back a chunk that the client has not been told of. */
  unlend(held: Held): void;
  free(client: Client): { readonly chunks: number; readonly bytes: bigint };
  activity(client: Client, activities: readonly ChunkActivity[]): void;
  /** Counts and logs a refusal. */
  refused(peer: string, reason: string): void;
  /** The client has left. @param chunks how many it held */
  gone(client: Client, chunks: number): void;
}

export class Client implements ClientHost {
  readonly protocol: 'leap' | 'original';
  readonly since: number;
  private readonly session: ClientSession;
  private readonly held = new Map<number, Held>();
  /** For its next BIND: it has not been told of it. */
  private ahead: Held | undefined;
  /** The last attempt went well: no limit is run against again and again. */
  private canPrepare = true;
  private readonly unsent: Uint8Array[] = [];
  private closeAt: number | undefined;
  private isUp = false;
  private isGone = false;

  constructor(
    private readonly owner: ClientOwner,
    readonly connection: ConnectionId,
    readonly peer: string,
    leap: { readonly hello: Hello; readonly nonce: Uint8Array } | undefined,
  ) {
    this.since = owner.dependencies.now();
    this.protocol = leap ? 'leap' : 'original';
    if (!leap) this.session = new LegacySession(this);
    else {
      const { hello, nonce: donorNonce } = leap;
      const messageBytes = Math.min(MESSAGE_BYTES, hello.messageBytes);
      const terms = { token: owner.dependencies.token, clientNonce: hello.nonce, donorNonce, messageBytes };
      this.session = new LeapSession(terms, this, this.since);
    }
  }

  get state(): ClientSession['state'] {
    return this.session.state;
  }

  get chunks(): ReadonlySet<number> {
    return this.session.chunks;
  }

  get givesBackAtOnce(): boolean {
    return this.session.givesBackAtOnce;
  }

  connected(): void {
    this.isUp = true;
    this.owner.dependencies.log.info({ peer: this.peer, protocol: this.protocol }, 'a client has connected');
    if (this.session instanceof LegacySession) this.session.greet();
  }

  receive(bytes: Uint8Array, now: number): void {
    this.session.receive(bytes, now);
  }

  tick(now: number): void {
    if (this.isUp) this.session.tick(now);
    if (this.closeAt !== undefined && now >= this.closeAt) this.drop('refused');
  }

  askActivity(wanted: number): void {
    this.session.askActivity(wanted);
  }

  stop(donorChunks: readonly number[]): void {
    this.session.stop(donorChunks);
  }

  /**
   * Registers its next chunk, which takes a while, before it asks for it. @returns whether there was something to do
   */
  prepare(): boolean {
    if (this.ahead || !this.canPrepare || !this.isUp || this.state !== 'open' || this.protocol === 'original')
      return false;
    this.ahead = this.owner.lend(this.connection);
    this.canPrepare = this.ahead !== undefined;
    return true;
  }

  get isPrepared(): boolean {
    return this.ahead !== undefined;
  }

  /** Others need it more. */
  giveUpPrepared(): void {
    if (this.ahead) this.owner.unlend(this.ahead);
    this.ahead = undefined;
  }

  /** What waits for a send buffer. */
  flush(): void {
    while (this.unsent.length > 0 && this.owner.dependencies.fabric.send(this.connection, this.unsent[0]!))
      this.unsent.shift();
  }

  /** What it has not given back in time is taken. */
  cutOff(reason: string): void {
    const chunks = this.held.size;
    const mib = (chunks * this.owner.options.chunkBytes) / 2 ** 20;
    const { log } = this.owner.dependencies;
    if (chunks > 0)
      log.warn(
        { peer: this.peer, reason, chunks, mib },
        `a client loses ${mib} MiB: pages in there that have no other copy are lost`,
      );
    this.drop(reason);
  }

  /** Its connection and everything that it has; at once. */
  drop(reason: string): void {
    if (this.isGone) return;
    this.isGone = true;
    const { fabric, log } = this.owner.dependencies;
    const chunks = this.held.size;
    // First of all out of its reach; closing does that for all of them.
    fabric.close(this.connection);
    for (const held of this.held.values()) this.owner.takeBack(held);
    this.held.clear();
    this.giveUpPrepared();
    this.owner.gone(this, chunks);
    log.info({ peer: this.peer, reason, chunks }, 'a client has left');
  }

  // ---- what its session asks for

  send(message: Uint8Array): void {
    if (this.unsent.length >= MOST_UNSENT) return this.end('it does not receive its answers');
    this.unsent.push(message);
    this.flush();
  }

  lend(): Loan | undefined {
    const held = this.ahead ?? this.owner.lend(this.connection);
    this.ahead = undefined;
    if (!held) return undefined;
    this.canPrepare = true;
    const { chunk, exposure } = held;
    if (this.protocol === 'original' && chunk.number >= LEGACY_CHUNKS) {
      this.owner.unlend(held);
      return undefined;
    }
    this.held.set(chunk.number, held);
    return { donorChunk: chunk.number, address: exposure.address, rkey: exposure.rkey };
  }

  takeBack(donorChunk: number): void {
    const held = this.held.get(donorChunk);
    if (!held) return;
    this.held.delete(donorChunk);
    this.owner.takeBack(held);
  }

  free(): { chunks: number; bytes: bigint } {
    return this.owner.free(this);
  }

  activity(activities: readonly ChunkActivity[]): void {
    this.owner.activity(this, activities);
  }

  end(reason: string): void {
    if (this.closeAt !== undefined) return;
    this.owner.refused(this.peer, reason);
    this.closeAt = this.owner.dependencies.now() + LINGER_MS;
  }
}
