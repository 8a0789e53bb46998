/** The donor as a whole, over a fabric without a device. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { parseOptions, type ServeOptions } from '../../server/memserver-options.js';
import { MemoryServer } from '../../server/server.js';
import type { Exposure, FabricEvent, FabricMemory, ServerFabric } from '../../src/core/fabric.js';
import {
  decodeMessage,
  encodeHello,
  encodeMessage,
  decodeRefusal,
  type Message,
} from '../../src/donors/wire/messages.js';
import { FakeMemory } from './fake-memory.js';
import { Rng } from './rng.js';

const MiB = 2 ** 20;
const GiB = 2 ** 30;

class FakeFabric implements ServerFabric {
  readonly events: FabricEvent[] = [];
  readonly rejected = new Map<number, Uint8Array>();
  readonly accepted = new Set<number>();
  readonly closed = new Set<number>();
  readonly sent = new Map<number, Uint8Array[]>();
  readonly shown = new Map<number, { connection: number; memory: FakeMemory }>();
  private next = 1;
  private wake: () => void = () => undefined;
  isEnded = false;
  failures = 0;
  isFull = false;

  listen(): void {}
  connect(): never {
    throw new Error('a donor connects to nobody');
  }
  accept(connection: number): void {
    this.accepted.add(connection);
  }
  reject(connection: number, refusal: Uint8Array): void {
    this.rejected.set(connection, refusal);
  }
  send(connection: number, message: Uint8Array): boolean {
    if (this.closed.has(connection)) return false;
    this.sent.set(connection, [...(this.sent.get(connection) ?? []), message]);
    return true;
  }
  close(connection: number): void {
    this.closed.add(connection);
    for (const [id, shown] of this.shown) if (shown.connection === connection) this.withdraw(id);
  }
  expose(connection: number, memory: FabricMemory): Exposure {
    assert.ok(this.accepted.has(connection) && !this.closed.has(connection));
    if (this.isFull) {
      this.failures++;
      throw new Error('the limit of locked memory');
    }
    const mine = memory as FakeMemory;
    assert.equal(mine.exposed, 0, 'two clients have one chunk');
    mine.exposed++;
    this.shown.set(this.next, { connection, memory: mine });
    return { id: this.next, rkey: this.next++, address: BigInt(mine.id) };
  }
  withdraw(exposure: number): void {
    const shown = this.shown.get(exposure);
    if (shown) shown.memory.exposed--;
    this.shown.delete(exposure);
  }
  memory(): FabricMemory {
    return new FakeMemory(this.next++);
  }
  watch(wake: () => void): void {
    this.wake = wake;
  }
  takeEvents(): FabricEvent[] {
    return this.events.splice(0);
  }
  end(): void {
    this.isEnded = true;
  }
  happen(event: FabricEvent): void {
    this.events.push(event);
    this.wake();
  }
}

interface Serving {
  readonly server: MemoryServer;
  readonly fabric: FakeFabric;
  readonly said: string[];
  now: number;
}

/** @param given more options, or others  @param available the host's free memory */
function serve(given = '', available = GiB): Serving {
  const fabric = new FakeFabric();
  const said: string[] = [];
  const options = parseOptions(
    `--listen 10.0.0.2:9400 --memory 32M --chunk 4M ${given || '--reserve 1M'}`.split(' '),
    GiB,
  ) as ServeOptions;
  const log = pino({ level: 'info' }, { write: (line: string) => said.push(line) });
  const serving: Serving = {
    fabric,
    said,
    now: 0,
    server: new MemoryServer(options, {
      fabric,
      log,
      token: undefined,
      available: () => available,
      now: () => serving.now,
    }),
  };
  return serving;
}

test('what the reserve leaves nothing or little of is said, with the numbers', () => {
  const lines = (reserve: string): string => serve(`--reserve-upper 1G --reserve ${reserve}`, 30 * MiB).said.join('');
  assert.match(
    lines('100M'),
    /"level":40.*nothing can be lent now: 30.0 MiB are free on this machine, and --reserve holds back 100.0 MiB; lower --reserve/,
  );
  assert.match(lines('20M'), /2 of 8 chunks can be lent now: .* it lends more above 1.0 GiB \(--reserve-upper\)/);
  assert.equal(serve().said.length, 0);
});

/** A client that has connected and been lent so many chunks. */
function lent(
  { fabric }: Serving,
  connection: number,
  chunks: number,
): { heard: () => Message[]; say: (message: Message) => void } {
  const peer = `10.0.0.9:${connection}`;
  const hello = encodeHello({ hasToken: false, nonce: new Uint8Array(16), messageBytes: 4096, chunkBytes: 0n });
  fabric.happen({ kind: 'connectRequest', connection, peer, data: hello });
  fabric.happen({ kind: 'connected', connection, peer, data: new Uint8Array(0) });
  const say = (message: Message): void => fabric.happen({ kind: 'message', connection, data: encodeMessage(message) });
  for (let i = 0; i < chunks; i++) say({ type: 'bind', request: i, sessionChunk: i });
  return { say, heard: () => (fabric.sent.get(connection) ?? []).map((bytes) => decodeMessage(bytes)) };
}

test("a client's next chunk is registered before it asks for it, and nobody goes short for it", async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const settled = async (): Promise<void> => {
    for (let i = 0; i < 100; i++) await Promise.resolve();
  };
  const serving = serve();
  const { server, fabric } = serving;
  server.start();
  await settled();
  const [one, two] = [lent(serving, 1, 0), lent(serving, 2, 0)];
  const counts = (): number[] => [server.status().prepared, server.status().chunks.free, server.status().chunks.lent];
  assert.deepEqual(counts(), [0, 8, 0]);
  t.mock.timers.tick(250);
  assert.deepEqual(counts(), [1, 8, 0], 'one at a time');
  t.mock.timers.tick(500);
  assert.deepEqual(counts(), [2, 8, 0]);
  const [[exposure, { connection }]] = fabric.shown.entries() as unknown as [[number, { connection: number }]];
  one.say({ type: 'bind', request: 1, sessionChunk: 1 });
  const bound = one.heard().at(-1)!;
  assert.ok(connection === 1 && bound.type === 'bound' && bound.rkey === exposure);
  assert.deepEqual([counts(), fabric.shown.size], [[1, 7, 1], 2]);
  one.say({ type: 'query', request: 2 });
  assert.equal((one.heard().at(-1) as { freeChunks: number }).freeChunks, 6, 'without that of the other client');

  for (let i = 10; i < 16; i++) one.say({ type: 'bind', request: i, sessionChunk: i });
  one.say({ type: 'bind', request: 20, sessionChunk: 20 });
  assert.equal(one.heard().at(-1)!.type, 'noRoom');
  t.mock.timers.tick(250);
  await settled();
  assert.deepEqual(counts(), [0, 1, 7], 'with the last free chunk they are taken back, and scrubbed');
  t.mock.timers.tick(1000);
  assert.deepEqual(counts(), [0, 1, 7]);
  one.say({ type: 'bind', request: 21, sessionChunk: 21 });
  assert.equal(one.heard().at(-1)!.type, 'bound');
  assert.equal(two.heard().length, 0);
  one.say({ type: 'release', request: 22, donorChunk: bound.donorChunk });
  one.say({ type: 'release', request: 23, donorChunk: bound.donorChunk + 2 });
  one.say({ type: 'release', request: 24, donorChunk: bound.donorChunk + 3 });
  await settled();
  fabric.isFull = true;
  for (let i = 0; i < 20; i++) {
    t.mock.timers.tick(250);
    await settled();
  }
  assert.deepEqual([counts(), fabric.failures], [[0, 3, 5], 2], 'what cannot be registered is tried once');
  fabric.isFull = false;
  for (const each of [1, 2]) fabric.happen({ kind: 'disconnected', connection: each, peer: '', reason: 'killed' });
  await settled();
  assert.deepEqual([counts(), fabric.shown.size], [[0, 8, 0], 0]);
  await server.end();
});

const moment = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 120));

/** Told to end, it has asked this client for everything. */
async function ending(
  serving: Serving,
  client: ReturnType<typeof lent>,
): Promise<{ ended: Promise<void>; stop: Extract<Message, { type: 'stop' | 'done' }> }> {
  const ended = serving.server.end();
  const evict = client.heard().at(-1)!;
  assert.equal(evict.type, 'evict');
  client.say({ type: 'activity', request: evict.request, activities: [] });
  await moment();
  const stop = client.heard().at(-1)!;
  assert.ok(stop.type === 'stop');
  return { ended, stop };
}

test('told to end, a donor waits for as long as chunks come back', async () => {
  const serving = serve();
  serving.server.start();
  for (let i = 0; i < 100; i++) await Promise.resolve();
  const client = lent(serving, 1, 3);
  const { ended, stop } = await ending(serving, client);
  for (const donorChunk of stop.donorChunks) {
    serving.now += 29_000;
    await moment();
    assert.ok(!serving.fabric.closed.has(1), `after ${serving.now} ms`);
    client.say({ type: 'done', request: stop.request, donorChunks: [donorChunk] });
    await moment();
  }
  await ended;
  assert.deepEqual(
    serving.said.filter((line) => /loses/.test(line)),
    [],
  );
});

test('a second signal ends it at once, and what is lost is said', async () => {
  const serving = serve();
  serving.server.start();
  for (let i = 0; i < 100; i++) await Promise.resolve();
  const client = lent(serving, 1, 3);
  const { ended, stop } = await ending(serving, client);
  client.say({ type: 'done', request: stop.request, donorChunks: stop.donorChunks.slice(0, 1) });
  serving.server.hurry();
  await ended;
  assert.match(
    serving.said.join(''),
    /"chunks":2,"mib":8,"msg":"a client loses 8 MiB: pages in there that have no other copy are lost"/,
  );
});

test('a peer that went before it was refused leaves nothing behind', () => {
  const { server, fabric } = serve();
  server.start();
  fabric.events.push({ kind: 'connectRequest', connection: 7, peer: '10.0.0.9:1', data: new Uint8Array([1]) });
  fabric.happen({ kind: 'disconnected', connection: 7, peer: '10.0.0.9:1', reason: 'the peer closed the connection' });
  assert.ok(fabric.rejected.has(7) && fabric.closed.has(7));
  return server.end();
});

test('a donor among clients of all kinds: nobody gets what another has, and at the end all is back', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  FakeMemory.alive.clear();
  const rng = new Rng(3);
  const fabric = new FakeFabric();
  let now = 0;
  const given = '--listen 10.0.0.2:9400 --memory 32M --chunk 4M --reserve 1M --max-clients 6';
  const options = parseOptions(given.split(' '), GiB) as ServeOptions;
  const server = new MemoryServer(options, {
    fabric,
    log: pino({ level: 'silent' }),
    token: undefined,
    available: () => GiB,
    now: () => now,
  });
  server.start();
  const living = new Set<number>();
  let connection = 0;
  for (let step = 0; step < 6000; step++) {
    now += rng.below(20);
    const any = [...living][rng.below(Math.max(1, living.size))];
    switch (rng.below(6)) {
      case 0: {
        const hello = encodeHello({ hasToken: false, nonce: new Uint8Array(16), messageBytes: 4096, chunkBytes: 0n });
        const data = rng.below(4) ? hello : hello.slice(0, rng.below(30));
        fabric.happen({ kind: 'connectRequest', connection: ++connection, peer: '10.0.0.9:1', data });
        if (fabric.accepted.has(connection)) {
          living.add(connection);
          fabric.happen({ kind: 'connected', connection, peer: '10.0.0.9:1', data: new Uint8Array(0) });
        } else {
          assert.ok(fabric.rejected.has(connection));
          decodeRefusal(fabric.rejected.get(connection)!);
        }
        break;
      }
      case 1:
        if (any === undefined) break;
        living.delete(any);
        fabric.happen({ kind: 'disconnected', connection: any, peer: '', reason: 'killed' });
        break;
      case 2:
        t.mock.timers.tick(250);
        break;
      default: {
        if (any === undefined) break;
        const bytes = encodeMessage(
          rng.below(3)
            ? { type: 'bind', request: step, sessionChunk: rng.below(12) }
            : rng.below(2)
              ? { type: 'release', request: step, donorChunk: rng.below(8) }
              : { type: 'query', request: step },
        );
        if (rng.below(20) === 0) bytes[rng.below(bytes.length)] = rng.below(256);
        fabric.happen({ kind: 'message', connection: any, data: bytes });
      }
    }
    await Promise.resolve();
    for (const each of living) if (fabric.closed.has(each)) living.delete(each);
    const { chunks, clients, prepared } = server.status();
    assert.equal(chunks.lent + prepared, fabric.shown.size);
    assert.ok(chunks.lent + chunks.free + chunks.preparing <= 8 && clients.length <= 6);
  }
  for (const each of living) fabric.happen({ kind: 'disconnected', connection: each, peer: '', reason: 'killed' });
  for (let i = 0; i < 100; i++) await Promise.resolve();
  assert.deepEqual([server.status().chunks.free, fabric.shown.size], [8, 0]);
  await server.end();
  assert.ok(fabric.isEnded);
  assert.equal(FakeMemory.alive.size, 0);
});
