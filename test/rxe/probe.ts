/**
 * A client of leap-memserver that does what it is told, right or wrong; and a memserver to try it on. For tests inside
 * the Soft-RoCE machine.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { call } from '../../src/cli/control-client.js';
import { createProbe } from '../../src/host/native-fabric.js';
import type { Status } from '../../server/server.js';
import type { ConnectionId, FabricEvent, ProbeFabric } from '../../src/core/fabric.js';
import { macOf, newNonce } from '../../src/host/authenticator.js';
import {
  decodeMessage,
  decodeRefusal,
  decodeWelcome,
  encodeHello,
  encodeMessage,
} from '../../src/donors/wire/messages.js';
import type { Hello, Message, Welcome } from '../../src/donors/wire/messages.js';

export const MiB = 2 ** 20;
export const ARENA = 4 * MiB;
/** Emulated machines are slow, and hosts busy. */
const PATIENCE_MS = 30_000;

type MessageOf<Type extends Message['type']> = Message & { readonly type: Type };

export class Probe {
  readonly fabric: ProbeFabric = createProbe(ARENA);
  readonly nonce = newNonce();
  readonly events: FabricEvent[] = [];
  private readonly done = new Map<number, number>();
  private connection: ConnectionId = 0;
  private nextToken = 1;
  private nextRequest = 1;
  welcome: Welcome | undefined;

  constructor() {
    this.fabric.watch(() => {
      this.events.push(...this.fabric.takeEvents());
      for (const { token, error } of this.fabric.takeCompletions()) this.done.set(token, error);
    });
  }

  get id(): ConnectionId {
    return this.connection;
  }

  hello(changes: Partial<Hello> = {}): Uint8Array {
    return encodeHello({ hasToken: false, nonce: this.nonce, messageBytes: 4096, chunkBytes: 0n, ...changes });
  }

  /** The answer to a request with this private data. */
  async knock(address: string, port: number, data: Uint8Array): Promise<FabricEvent> {
    this.connection = this.fabric.connect(address, port, data, 10_000);
    return this.event((event) => ['connected', 'refused', 'unreachable'].includes(event.kind));
  }

  async connect(address: string, port: number, changes: Partial<Hello> = {}): Promise<Welcome> {
    const event = await this.knock(address, port, this.hello(changes));
    assert.equal(event.kind, 'connected', JSON.stringify(event));
    return (this.welcome = decodeWelcome((event as { data: Uint8Array }).data));
  }

  /** @returns code and text */
  async refusal(address: string, port: number, data: Uint8Array): Promise<{ code: number; text: string }> {
    const event = await this.knock(address, port, data);
    assert.equal(event.kind, 'refused', JSON.stringify(event));
    return decodeRefusal((event as { data: Uint8Array }).data);
  }

  async event(matches: (event: FabricEvent) => boolean, patience = PATIENCE_MS): Promise<FabricEvent> {
    for (const end = Date.now() + patience; Date.now() < end; await sleep(2)) {
      const at = this.events.findIndex(matches);
      if (at >= 0) return this.events.splice(at, 1)[0]!;
    }
    throw new Error(
      `nothing came within ${patience} ms; there is ${JSON.stringify(this.events.map(({ kind }) => kind))}`,
    );
  }

  async message<Type extends Message['type']>(type: Type): Promise<MessageOf<Type>> {
    const event = await this.event(({ kind }) => kind === 'message' || kind === 'disconnected');
    assert.equal(event.kind, 'message', JSON.stringify(event));
    const message = decodeMessage((event as { data: Uint8Array }).data);
    assert.equal(
      message.type,
      type,
      JSON.stringify(message, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value)),
    );
    return message as MessageOf<Type>;
  }

  send(message: Message): void {
    assert.ok(this.fabric.send(this.connection, encodeMessage(message)));
  }

  request(): number {
    return this.nextRequest++;
  }

  prove(token: Uint8Array): void {
    assert.ok(this.welcome);
    this.send({ type: 'auth', request: this.request(), mac: macOf('client', token, this.nonce, this.welcome.nonce) });
  }

  async bind(sessionChunk = 0): Promise<MessageOf<'bound'>> {
    this.send({ type: 'bind', request: this.request(), sessionChunk });
    return this.message('bound');
  }

  /** One READ or WRITE. @returns its error, 0 when it went well */
  async move(write: boolean, bytes: number, remote: bigint, rkey: number): Promise<number> {
    const token = this.nextToken++;
    assert.ok(this.fabric.post(this.connection, write, token, 0, bytes, remote, rkey), 'the operation is not taken');
    for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await sleep(1)) {
      const error = this.done.get(token);
      if (error !== undefined) return error;
    }
    throw new Error('the operation is lost');
  }

  disconnected(): Promise<FabricEvent> {
    return this.event(({ kind }) => kind === 'disconnected');
  }

  close(): void {
    this.fabric.close(this.connection);
  }

  end(): void {
    this.fabric.end();
  }
}

export class Memserver {
  readonly lines: string[] = [];
  readonly ended: Promise<number | null>;

  private constructor(
    readonly child: ChildProcess,
    readonly socket: string,
  ) {
    let rest = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      this.lines.push(...lines);
    });
    this.ended = new Promise((resolve) => child.once('exit', (code) => resolve(code)));
  }

  /** Until all that it may lend is ready. */
  static async start(...args: string[]): Promise<Memserver> {
    const socket = join('/run', `leap-memserver-test-${process.pid}-${performance.now()}.sock`);
    const program = fileURLToPath(new URL('../../server/leap-memserver.js', import.meta.url));
    const server = new Memserver(
      spawn(process.execPath, [program, ...args, '--status', socket], { stdio: ['ignore', 'ignore', 'pipe'] }),
      socket,
    );
    // A gigabyte takes an emulated machine a minute to make present.
    for (const end = Date.now() + 180_000; Date.now() < end && server.child.exitCode === null; await sleep(50)) {
      const status = await server.status().catch(() => undefined);
      if (status && status.chunks.free === status.chunks.limit) return server;
    }
    throw new Error(`leap-memserver does not start:\n${server.lines.join('\n')}`);
  }

  async status(): Promise<Status> {
    return (await call({ socket: this.socket, command: 'status' })) as unknown as Status;
  }

  /** Until its status is as wanted. */
  async until(what: string, holds: (status: Status) => boolean, patience = 20_000): Promise<Status> {
    let status = await this.status();
    for (const end = Date.now() + patience; !holds(status); status = await this.status()) {
      if (Date.now() > end)
        throw new Error(`${what} does not come: ${JSON.stringify(status)}\n${this.lines.join('\n')}`);
      await sleep(20);
    }
    return status;
  }

  said(pattern: RegExp): readonly string[] {
    return this.lines.filter((line) => pattern.test(line));
  }

  /** Its log arrives a moment after what it tells of. */
  async says(pattern: RegExp): Promise<void> {
    for (const end = Date.now() + 10_000; this.said(pattern).length === 0; await sleep(20)) {
      if (Date.now() > end) throw new Error(`it does not say ${pattern}:\n${this.lines.join('\n')}`);
    }
  }

  async stop(): Promise<number | null> {
    this.child.kill('SIGTERM');
    const code = await Promise.race([this.ended, sleep(15_000, 'late' as const)]);
    if (code === 'late') this.child.kill('SIGKILL');
    assert.notEqual(code, 'late', `it does not end:\n${this.lines.join('\n')}`);
    return code as number | null;
  }
}
