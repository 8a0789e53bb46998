/** Donors that do what a test says, as the fabric shows them, and a pager that notes what it is asked for. */
import assert from 'node:assert/strict';
import { Chunks, ReplicaState } from '../../src/tables/chunks.js';
import type { Fabric, FabricEvent } from '../../src/core/fabric.js';
import { DEFAULT_ACTIVITY } from '../../src/donors/activity.js';
import { Donors, type DonorsOptions } from '../../src/donors/donors.js';
import { authenticator } from '../../src/host/authenticator.js';
import { decodeMessage, encodeMessage, encodeWelcome, type Message } from '../../src/donors/wire/messages.js';

export const CHUNK = 1024; // slots
export const NONCE = new Uint8Array(16).fill(7);

/** What a donor's side of one connection is like. */
interface Line {
  readonly host: string;
  readonly hello: Uint8Array;
  readonly heard: Message[];
  readonly raw: Uint8Array[];
  open: boolean;
  /** Send buffers that are free. */
  room: number;
}

export class World implements Fabric {
  readonly lines = new Map<number, Line>();
  readonly calls: string[] = [];
  readonly said: string[] = [];
  readonly chunks: Chunks;
  readonly donors: Donors;
  /** The donors answer at once: free chunks by address. */
  readonly free = new Map<string, number>();
  now = 1000;
  private next = 1;
  private nextChunk = 1;
  private readonly events: FabricEvent[] = [];

  constructor(
    hosts: readonly string[],
    options: Partial<DonorsOptions> = {},
    copies: 1 | 2 | 3 = 2,
    readonly slots = 4 * CHUNK,
  ) {
    this.chunks = new Chunks(copies);
    this.chunks.reserve(slots);
    const { chunks } = this;
    const replicas = {
      owner: undefined,
      setSize: (slotsPerChunk: number) => chunks.setSize(slotsPerChunk),
      map: (replica: number, chunk: number, connection: number, rkey: number) => {
        this.calls.push(`map ${replica} ${chunk} ${this.lines.get(connection)?.host} ${rkey}`);
        chunks.setState(replica, chunk, ReplicaState.mapped);
      },
      leave: (replica: number, chunk: number) => {
        this.calls.push(`leave ${replica} ${chunk}`);
        chunks.setState(replica, chunk, ReplicaState.leaving);
      },
      lose: (replica: number, chunk: number) => {
        this.calls.push(`lose ${replica} ${chunk}`);
        chunks.setState(replica, chunk, ReplicaState.unmapped);
      },
    };
    const all: DonorsOptions = {
      token: undefined,
      authenticator,
      chunkBytes: 0,
      legacy: false,
      activity: DEFAULT_ACTIVITY,
      threshold: 0,
      ahead: true,
      ...options,
    };
    this.donors = new Donors(
      hosts.map((host) => ({ host, port: 9400 })),
      all,
      {
        fabric: this,
        chunks,
        replicas,
        usedSlots: () => this.slots,
        traffic: () => ({ reads: 0, writes: 0, p50: 0, p99: 0 }),
        setChunk: () => undefined,
        say: (level, message) => this.said.push(`${level}: ${message}`),
        random: () => 0,
      },
    );
  }

  connect(host: string, _port: number, hello: Uint8Array): number {
    this.lines.set(this.next, { host, hello, heard: [], raw: [], open: true, room: Infinity });
    return this.next++;
  }
  send(connection: number, message: Uint8Array): boolean {
    const line = this.lines.get(connection)!;
    if (!line.open || line.room === 0) return false;
    line.room--;
    line.raw.push(message);
    if (message.length !== 392) line.heard.push(decodeMessage(message));
    return true;
  }
  close(connection: number): void {
    const line = this.lines.get(connection)!;
    assert.ok(line.open, `connection ${connection} is closed twice`);
    line.open = false;
  }
  takeEvents(): FabricEvent[] {
    return this.events.splice(0);
  }

  /** The open connection to a host. */
  to(host: string): number {
    for (const [connection, line] of [...this.lines].reverse()) if (line.host === host && line.open) return connection;
    throw new Error(`nobody is connected to ${host}`);
  }
  heard(host: string): Message[] {
    return this.lines.get(this.to(host))!.heard;
  }
  event(event: FabricEvent): void {
    this.donors.events([event], this.now);
  }
  tell(host: string, message: Message): void {
    this.event({ kind: 'message', connection: this.to(host), data: encodeMessage(message) });
  }
  welcome(host: string, chunkSlots = CHUNK, tokenRequired = false, messageBytes = 4096): void {
    const data = encodeWelcome({
      tokenRequired,
      nonce: NONCE,
      chunkBytes: BigInt(chunkSlots * 4096),
      freeChunks: this.free.get(host) ?? 8,
      messageBytes,
    });
    this.event({ kind: 'connected', connection: this.to(host), peer: host, data });
  }
  /** Gives what has been asked for and not answered. */
  give(host: string): void {
    const heard = this.heard(host);
    for (let binds = heard.filter(({ type }) => type === 'bind').length; binds > 0; binds--) {
      const at = heard.findIndex(({ type }) => type === 'bind');
      const [bind] = heard.splice(at, 1);
      assert.ok(bind?.type === 'bind');
      const donorChunk = this.nextChunk++;
      this.tell(host, {
        type: 'bound',
        request: bind.request,
        sessionChunk: bind.sessionChunk,
        donorChunk,
        rkey: 100 + donorChunk,
        address: 4096n,
      });
    }
  }
  /** Everything that is wanted is asked for and given. */
  settle(hosts: readonly string[]): void {
    for (let round = 0; round < 20; round++) {
      this.tick(1);
      for (const host of hosts) this.give(host);
    }
  }
  tick(ms: number): void {
    this.now += ms;
    this.donors.tick(this.now);
  }
  begin(hosts: readonly string[]): void {
    this.tick(0);
    for (const host of hosts) this.welcome(host);
    this.settle(hosts);
  }
  /** The pager has emptied a replica, as it was told to. @param nth of those told */
  empty(nth: number): void {
    const told = this.calls.filter((call) => call.startsWith('leave'));
    const [, replica, chunk] = told[nth]!.split(' ').map(Number);
    this.chunks.setState(replica!, chunk!, ReplicaState.unmapped);
    this.donors.released(replica!, chunk!);
  }
  count(pattern: RegExp): number {
    return this.calls.filter((call) => pattern.test(call)).length;
  }
}
