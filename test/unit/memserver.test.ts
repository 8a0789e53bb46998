/** The donor's parts without a device: chunks, sessions, reclaiming, the monitor, and all of them together over a fake fabric. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { ChunkStore } from '../../server/chunk-store.js';
import { AUTH_MS, LeapSession, MOST_MESSAGES_A_SECOND, type ClientHost, type ClientSession, type Terms } from '../../server/client-session.js';
import { LegacySession } from '../../server/legacy-session.js';
import { firstLimit, MemoryMonitor } from '../../server/memory-monitor.js';
import { parseOptions, type ServeOptions } from '../../server/options.js';
import { ACTIVITY_MS, Reclaim, timesFor } from '../../server/reclaim.js';
import { MemoryServer } from '../../server/server.js';
import type { Exposure, FabricEvent, FabricMemory, ServerFabric } from '../../src/fabric.js';
import { macOf } from '../../src/wire/auth.js';
import { decodeLegacy, encodeLegacy } from '../../src/wire/legacy.js';
import { decodeMessage, encodeHello, encodeMessage, decodeRefusal, RefusalCode, type ChunkActivity, type Message } from '../../src/wire/messages.js';
import { Rng } from './rng.js';

const MiB = 2 ** 20;

// ---- chunks

class FakeMemory implements FabricMemory {
  static alive = new Set<FakeMemory>();
  readonly bytes = 4 * MiB;
  readonly huge = false;
  scrubs = 0;
  isFree = false;
  exposed = 0;
  finish: ((error?: Error) => void)[] = [];

  constructor(
    readonly id: number,
    private readonly isManual = false,
  ) {
    FakeMemory.alive.add(this);
  }

  scrub(): Promise<void> {
    assert.ok(!this.isFree && this.exposed === 0, 'scrubbed while somebody can reach it');
    this.scrubs++;
    if (!this.isManual) return Promise.resolve();
    return new Promise((resolve, reject) => this.finish.push((error) => (error ? reject(error) : resolve())));
  }

  free(): void {
    assert.ok(!this.isFree && this.exposed === 0, 'freed while somebody can reach it');
    this.isFree = true;
    FakeMemory.alive.delete(this);
  }
}

const never = (error: unknown): void => assert.fail(String(error));

test('chunks are prepared one after the other, lent when ready, and scrubbed before they are lent again', async () => {
  const made: FakeMemory[] = [];
  const store = new ChunkStore(3, () => (made.push(new FakeMemory(made.length, true)), made.at(-1)!), never);
  assert.deepEqual([made.length, store.lend()], [1, undefined]);
  made[0]!.finish.pop()!();
  await new Promise(setImmediate);
  assert.deepEqual([made.length, store.counts().free], [2, 1]);
  const chunk = store.lend()!;
  assert.equal(chunk.number, 0);
  assert.equal(store.lend(), undefined);
  store.giveBack(chunk);
  assert.throws(() => store.giveBack(chunk), /not lent/);
  assert.equal(store.lend(), undefined, 'not before it is zeros');
  made[1]!.finish.pop()!();
  await new Promise(setImmediate);
  assert.equal(made[0]!.scrubs, 2); // what came back goes before what is new
  made[0]!.finish.pop()!();
  await new Promise(setImmediate);
  assert.equal(store.counts().free, 2);
});

test('a lower limit takes free chunks at once and says how many lent ones must come back', async () => {
  const store = new ChunkStore(4, () => new FakeMemory(0), never);
  await store.settled();
  const lent = [store.lend()!, store.lend()!, store.lend()!];
  assert.equal(store.setLimit(2), 1);
  assert.deepEqual(store.counts(), { total: 4, limit: 2, free: 0, lent: 3, preparing: 0, huge: 0 });
  store.giveBack(lent[0]!);
  await store.settled();
  assert.deepEqual([store.counts().free, store.counts().lent], [0, 2]); // its memory is the host's again
  store.giveBack(lent[1]!);
  await store.settled();
  assert.deepEqual([store.counts().free, store.counts().lent], [1, 1]);
  assert.equal(store.setLimit(9), 0);
  await store.settled();
  assert.deepEqual([store.counts().limit, store.counts().free], [4, 3]);
});

test('memory that cannot be had lowers the limit, and is said', async () => {
  const errors: unknown[] = [];
  let made = 0;
  const make = (): FabricMemory => {
    if (made++ === 2) throw new Error('no more');
    return new FakeMemory(made);
  };
  const store = new ChunkStore(5, make, (error) => errors.push(error));
  await store.settled();
  assert.deepEqual([errors.length, store.counts().limit, store.counts().free], [1, 2, 2]);
  const failing = new FakeMemory(1, true);
  const second = new ChunkStore(1, () => failing, (error) => errors.push(error));
  failing.finish.pop()!(new Error('ENOMEM'));
  await second.settled();
  assert.deepEqual([errors.length, second.counts().limit, failing.isFree], [2, 0, true]);
});

// ---- the monitor

const GiB = 2 ** 30;
const monitorOptions = { reserve: 8 * GiB, upper: 16 * GiB, rounds: 20, weight: 70, chunkBytes: GiB };

test('below the reserve memory is given back, weighed 70 to 30', () => {
  const monitor = new MemoryMonitor(monitorOptions);
  assert.equal(monitor.sample(12 * GiB), 0);
  assert.equal(monitor.sample(7 * GiB), 0); // 8.5
  assert.equal(monitor.sample(6 * GiB), -2); // 6.75
});

test('above the upper mark there is more to lend, after 20 looks in a row', () => {
  const monitor = new MemoryMonitor(monitorOptions);
  for (let i = 0; i < 19; i++) assert.equal(monitor.sample(18.5 * GiB), 0);
  assert.equal(monitor.sample(18.5 * GiB), 2);
  for (let i = 0; i < 19; i++) assert.equal(monitor.sample(18.5 * GiB), 0);
  assert.equal(monitor.sample(9 * GiB), 0); // the row is broken
  for (let i = 0; i < 19; i++) assert.equal(monitor.sample(40 * GiB), 0);
  assert.ok(monitor.sample(40 * GiB) > 0);
});

test('at the start the reserve counts already', () => {
  assert.equal(firstLimit(8, 12 * GiB, monitorOptions), 4);
  assert.equal(firstLimit(8, 7 * GiB, monitorOptions), 0);
  assert.equal(firstLimit(8, 64 * GiB, monitorOptions), 8);
});

// ---- sessions

const nonces = { clientNonce: new Uint8Array(16).fill(1), donorNonce: new Uint8Array(16).fill(2) };
const token = new TextEncoder().encode('a token of some length');

class FakeHost implements ClientHost {
  readonly sent: Message[] = [];
  readonly raw: Uint8Array[] = [];
  readonly lent = new Set<number>();
  readonly activities: (readonly ChunkActivity[])[] = [];
  ended: string | undefined;

  constructor(private readonly most = 4) {}

  send(message: Uint8Array): void {
    this.raw.push(message);
    try {
      this.sent.push(decodeMessage(message));
    } catch {
      // an original's
    }
  }
  lend() {
    const donorChunk = Array.from({ length: this.most }, (_, i) => i).find((i) => !this.lent.has(i));
    if (donorChunk === undefined) return undefined;
    this.lent.add(donorChunk);
    return { donorChunk, rkey: 100 + donorChunk, address: BigInt(donorChunk) << 30n };
  }
  takeBack(donorChunk: number): void {
    assert.ok(this.lent.delete(donorChunk), `chunk ${donorChunk} was not lent`);
  }
  free() {
    return { chunks: this.most - this.lent.size, bytes: BigInt(this.most - this.lent.size) };
  }
  activity(activities: readonly ChunkActivity[]): void {
    this.activities.push(activities);
  }
  end(reason: string): void {
    assert.equal(this.ended, undefined, 'ended twice');
    this.ended = reason;
  }
}

function session(terms: Partial<Terms> = {}): { host: FakeHost; client: LeapSession; say: (message: Message, now?: number) => Message | undefined } {
  const host = new FakeHost();
  const client = new LeapSession({ token: undefined, ...nonces, messageBytes: 4096, ...terms }, host, 0);
  return { host, client, say: (message, now = 0) => (client.receive(encodeMessage(message), now), host.sent.at(-1)) };
}

test('bind, release, query', () => {
  const { host, client, say } = session();
  const bound = { type: 'bound', request: 7, sessionChunk: 3, donorChunk: 0, rkey: 100, address: 0n };
  assert.deepEqual(say({ type: 'bind', request: 7, sessionChunk: 3 }), bound);
  assert.deepEqual(say({ type: 'query', request: 8 }), { type: 'free', request: 8, freeChunks: 3, freeBytes: 3n });
  for (let i = 10; i < 13; i++) say({ type: 'bind', request: i, sessionChunk: i });
  assert.deepEqual(say({ type: 'bind', request: 20, sessionChunk: 20 }), { type: 'noRoom', request: 20, sessionChunk: 20 });
  assert.deepEqual(say({ type: 'release', request: 21, donorChunk: 0 }), { type: 'released', request: 21, donorChunk: 0 });
  assert.deepEqual([[...client.chunks], host.lent.size], [[1, 2, 3], 3]);
  say({ type: 'bind', request: 22, sessionChunk: 3 }); // that number is free again
  assert.equal(host.ended, undefined);
});

test('what a client must not say ends its session, once', () => {
  const wrong: Message[] = [
    { type: 'release', request: 1, donorChunk: 9 },
    { type: 'activity', request: 1, activities: [] },
    { type: 'done', request: 1, donorChunks: [0] },
    { type: 'auth', request: 1, mac: new Uint8Array(32) },
    { type: 'free', request: 1, freeChunks: 1, freeBytes: 1n },
    { type: 'bind', request: 1, sessionChunk: 0 },
    { type: 'evict', request: 1, chunks: 1 },
  ];
  for (const message of wrong) {
    const { host, client, say } = session();
    say({ type: 'bind', request: 1, sessionChunk: 0 });
    assert.equal(say(message)?.type, 'refused', message.type);
    assert.ok(host.ended !== undefined && client.state === 'over');
    const { length } = host.sent;
    say({ type: 'query', request: 2 });
    assert.equal(host.sent.length, length, 'nothing is answered after the end');
  }
});

test('the token comes first', () => {
  const right = session({ token });
  assert.equal(right.client.state, 'unproven');
  const mac = macOf('client', token, nonces.clientNonce, nonces.donorNonce);
  const answer = right.say({ type: 'auth', request: 5, mac });
  assert.deepEqual(answer, { type: 'authenticated', request: 5, mac: macOf('donor', token, nonces.clientNonce, nonces.donorNonce) });
  assert.equal(right.say({ type: 'bind', request: 6, sessionChunk: 0 })?.type, 'bound');
  const cases: [Message, number][] = [
    [{ type: 'auth', request: 1, mac: new Uint8Array(32) }, RefusalCode.tokenWrong],
    [{ type: 'auth', request: 1, mac: macOf('donor', token, nonces.clientNonce, nonces.donorNonce) }, RefusalCode.tokenWrong],
    [{ type: 'bind', request: 1, sessionChunk: 0 }, RefusalCode.tokenRequired],
    [{ type: 'query', request: 1 }, RefusalCode.tokenRequired],
  ];
  for (const [message, code] of cases) {
    const { host, say } = session({ token });
    assert.equal((say(message) as { code?: number }).code, code);
    assert.deepEqual([host.lent.size, host.ended === undefined], [0, false]);
  }
  const late = session({ token });
  late.client.tick(AUTH_MS);
  assert.equal(late.host.ended, undefined);
  late.client.tick(AUTH_MS + 1);
  assert.match(late.host.ended ?? '', /no AUTH/);
});

test('a client may be fast, but not that fast', () => {
  const { host, say } = session();
  for (let i = 0; i < MOST_MESSAGES_A_SECOND; i++) say({ type: 'query', request: i }, 10_000);
  assert.equal(host.ended, undefined);
  say({ type: 'query', request: 1 }, 11_000);
  for (let i = 0; i < MOST_MESSAGES_A_SECOND; i++) say({ type: 'query', request: i }, 11_500);
  assert.match(host.ended ?? '', /in a second/);
});

test('evict, activity, stop, done', () => {
  const { host, client, say } = session();
  for (let i = 0; i < 3; i++) say({ type: 'bind', request: i, sessionChunk: i });
  client.askActivity(2);
  const asked = host.sent.at(-1)!;
  assert.deepEqual([asked.type, (asked as { chunks: number }).chunks], ['evict', 2]);
  say({ type: 'activity', request: asked.request, activities: [{ donorChunk: 1, activity: 5 }, { donorChunk: 77, activity: 1 }] });
  assert.deepEqual(host.activities, [[{ donorChunk: 1, activity: 5 }]]);
  client.stop([0, 1, 99]);
  const stop = host.sent.at(-1)!;
  assert.deepEqual((stop as { donorChunks: readonly number[] }).donorChunks, [0, 1]);
  say({ type: 'release', request: 50, donorChunk: 1 }); // on its way when STOP came
  say({ type: 'done', request: stop.request, donorChunks: [0, 1] });
  assert.deepEqual([[...host.lent], host.ended], [[2], undefined]);
  say({ type: 'done', request: stop.request, donorChunks: [2] });
  assert.match(host.ended ?? '', /was not to stop/);
});

test('STOP of more chunks than a message holds is several messages', () => {
  const { host, client, say } = session({ messageBytes: 64 });
  for (let i = 0; i < 4; i++) say({ type: 'bind', request: i, sessionChunk: i });
  const host2 = new FakeHost(40);
  const many = new LeapSession({ token: undefined, ...nonces, messageBytes: 64 }, host2, 0);
  for (let i = 0; i < 40; i++) many.receive(encodeMessage({ type: 'bind', request: i, sessionChunk: i }), 0);
  many.stop([...host2.lent]);
  const stops = host2.sent.filter(({ type }) => type === 'stop') as { donorChunks: readonly number[] }[];
  assert.deepEqual(stops.map(({ donorChunks }) => donorChunks.length), [14, 14, 12]);
  client.stop([]);
  assert.deepEqual((host.sent.at(-1) as { donorChunks: readonly number[] }).donorChunks, []);
});

test('garbage of every kind: no session throws, and none keeps what it must not have', () => {
  const rng = new Rng(11);
  for (let round = 0; round < 3000; round++) {
    const host = new FakeHost();
    const client: ClientSession =
      round % 3 === 0 ? new LegacySession(host) : new LeapSession({ token: round % 2 ? token : undefined, ...nonces, messageBytes: 4096 }, host, 0);
    for (let i = 0; i < 12; i++) {
      const bytes = Uint8Array.from({ length: rng.below(3) === 0 ? 392 : rng.below(60) }, () => (rng.below(2) ? 0 : rng.below(256)));
      if (bytes.length >= 8 && rng.below(4)) bytes.set([1 + rng.below(14), 0, bytes.length & 0xff, bytes.length >> 8]);
      if (bytes.length === 392) bytes.set([rng.below(4), 0, 0, 0, 1 + rng.below(10), 0, 0, 0], 384);
      client.receive(bytes, i);
      if (rng.below(5) === 0) client.askActivity(1);
      if (rng.below(5) === 0) client.stop([...client.chunks].slice(0, 1));
      assert.deepEqual([...client.chunks].sort(), [...host.lent].sort());
      if (client.state === 'unproven') assert.equal(host.lent.size, 0);
    }
  }
});

test('an original client, in its own words', () => {
  const host = new FakeHost();
  const client = new LegacySession(host);
  const say = (message: Parameters<typeof encodeLegacy>[0]): ReturnType<typeof decodeLegacy> => {
    client.receive(encodeLegacy(message), 0);
    return decodeLegacy(host.raw.at(-1)!);
  };
  client.greet();
  assert.deepEqual(decodeLegacy(host.raw.at(-1)!), { type: 'freeSize', size: 4, entries: [] });
  const info = { type: 'infoSingle', size: 9, entries: [{ donorChunk: 0, buf: 0n, rkey: 100 }] };
  assert.deepEqual(say({ type: 'bindSingle', size: 9, entries: [] }), info);
  assert.deepEqual(say({ type: 'bind', size: 2, entries: [] }).entries.map(({ donorChunk }) => donorChunk), [1, 2]);
  assert.deepEqual(say({ type: 'query', size: 0, entries: [] }), { type: 'freeSize', size: 1, entries: [] });
  client.askActivity(1);
  say({ type: 'activity', size: 0, entries: [{ donorChunk: 0, buf: 4n, rkey: 0 }, { donorChunk: 2, buf: 1n, rkey: 0 }] });
  assert.deepEqual(host.activities, [[{ donorChunk: 0, activity: 4 }, { donorChunk: 2, activity: 1 }]]);
  client.stop([2]);
  assert.deepEqual(decodeLegacy(host.raw.at(-1)!), { type: 'stop', size: 1, entries: [{ donorChunk: 2, buf: 0n, rkey: 1 }] });
  say({ type: 'done', size: 1, entries: [{ donorChunk: 2, buf: 0n, rkey: 1 }] });
  assert.deepEqual([...host.lent], [0, 1]);
  say({ type: 'done', size: 1, entries: [{ donorChunk: 0, buf: 0n, rkey: 1 }] });
  assert.match(host.ended ?? '', /was not to stop/);
});

// ---- reclaiming

class FakeClient implements ClientSession {
  readonly state = 'open';
  givesBackAtOnce = false;
  readonly stops: (readonly number[])[] = [];
  asked = 0;
  constructor(readonly chunks: Set<number>) {}
  receive(): void {}
  tick(): void {}
  askActivity(): void {
    this.asked++;
  }
  stop(donorChunks: readonly number[]): void {
    this.stops.push(donorChunks);
  }
}

const times = timesFor(64 * MiB, 100_000);

test('the patience for a chunk follows from its size', () => {
  assert.deepEqual(times, { activityMs: ACTIVITY_MS, chunkMs: 32_000, totalMs: 100_000 });
  assert.equal(timesFor(GiB, 600_000).chunkMs, 62_000);
});

test('the least active chunks of all clients stop, and those that a message had no room for are the most active', () => {
  const [a, b, idle] = [new FakeClient(new Set([0, 1])), new FakeClient(new Set([2, 3])), new FakeClient(new Set())];
  const reclaim = new Reclaim([a, b, idle], 2, 0, never, times);
  assert.deepEqual([a.asked, b.asked, idle.asked], [1, 1, 0]);
  reclaim.activity(a, [{ donorChunk: 0, activity: 50 }, { donorChunk: 1, activity: 3 }], 10);
  assert.deepEqual(a.stops, []);
  reclaim.activity(b, [{ donorChunk: 2, activity: 9 }], 20); // chunk 3 it does not speak of
  assert.deepEqual([a.stops, b.stops], [[[1]], [[2]]]);
  assert.equal(reclaim.tick(30), false);
  a.chunks.delete(1);
  b.chunks.delete(2);
  assert.equal(reclaim.tick(40), true);
  const many = new FakeClient(new Set(Array.from({ length: 600 }, (_, i) => i)));
  const second = new Reclaim([many], 512, 0, never, times);
  second.activity(many, Array.from({ length: 511 }, (_, i) => ({ donorChunk: 599 - i, activity: i })), 10);
  assert.deepEqual([...many.stops[0]!].sort((one, other) => one - other), [0, ...Array.from({ length: 511 }, (_, i) => 89 + i)]);
});

/** @returns why the client was cut off, when it was */
function cutting(client: FakeClient, wanted: number, given = times): { reclaim: Reclaim<FakeClient>; cut: string[] } {
  const cut: string[] = [];
  const reclaim: Reclaim<FakeClient> = new Reclaim([client], wanted, 0, (each, reason) => {
    cut.push(reason);
    const { size } = each.chunks;
    each.chunks.clear();
    reclaim.gone(each, size);
  }, given);
  return { reclaim, cut };
}

test('who does not answer in time is cut off, and that counts', () => {
  const [deaf, b] = [new FakeClient(new Set([0, 1])), new FakeClient(new Set([2]))];
  const cut: string[] = [];
  const reclaim: Reclaim<FakeClient> = new Reclaim([deaf, b], 2, 0, (client, reason) => {
    cut.push(reason);
    const { size } = client.chunks;
    client.chunks.clear();
    reclaim.gone(client, size);
  }, times);
  reclaim.activity(b, [], 5);
  assert.equal(reclaim.tick(ACTIVITY_MS), false);
  assert.equal(reclaim.tick(ACTIVITY_MS + 1), true);
  assert.deepEqual([cut, b.stops], [['no ACTIVITY in time'], [[]]]); // two are back already
});

test('who gives back chunk after chunk has time, up to the end of it; who stands still has not', () => {
  const still = new FakeClient(new Set([5]));
  const standing = cutting(still, 1);
  standing.reclaim.activity(still, [], 100);
  assert.equal(standing.reclaim.tick(32_100), false);
  assert.equal(standing.reclaim.tick(32_101), true);
  assert.deepEqual(standing.cut, ['1 of 1 chunks not given back in time']);

  const slow = new FakeClient(new Set([0, 1, 2, 3]));
  const { reclaim, cut } = cutting(slow, 4);
  reclaim.activity(slow, [], 0);
  for (const [chunk, at] of [[0, 30_000], [1, 60_000], [2, 90_000]] as const) {
    assert.equal(reclaim.tick(at), false);
    slow.chunks.delete(chunk);
    assert.equal(reclaim.tick(at), false);
  }
  assert.deepEqual([reclaim.tick(100_000), cut], [false, []]);
  assert.deepEqual([reclaim.tick(100_001), cut], [true, ['1 of 4 chunks not given back in time']]);

  const original = new FakeClient(new Set([0, 1, 2]));
  original.givesBackAtOnce = true;
  const single = cutting(original, 3);
  single.reclaim.activity(original, [], 0);
  assert.equal(single.reclaim.tick(96_000), false, 'its one DONE comes after the last of them');
  assert.equal(single.reclaim.tick(96_001), true);
});

// ---- all together

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
  const options = parseOptions(`--listen 10.0.0.2:9400 --memory 32M --chunk 4M ${given || '--reserve 1M'}`.split(' '), GiB) as ServeOptions;
  const log = pino({ level: 'info' }, { write: (line: string) => said.push(line) });
  const serving: Serving = {
    fabric,
    said,
    now: 0,
    server: new MemoryServer(options, { fabric, log, token: undefined, available: () => available, now: () => serving.now }),
  };
  return serving;
}

test('what the reserve leaves nothing or little of is said, with the numbers', () => {
  const lines = (reserve: string): string => serve(`--reserve-upper 1G --reserve ${reserve}`, 30 * MiB).said.join('');
  assert.match(lines('100M'), /"level":40.*nothing can be lent now: 30.0 MiB of memory are free here, and --reserve keeps 100.0 MiB of them; give a smaller --reserve/);
  assert.match(lines('20M'), /2 of 8 chunks can be lent now: .* when more than 1.0 GiB are free \(--reserve-upper\)/);
  assert.equal(serve().said.length, 0);
});

/** A client that has connected and been lent so many chunks. */
function lent({ fabric }: Serving, connection: number, chunks: number): { heard: () => Message[]; say: (message: Message) => void } {
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
async function ending(serving: Serving, client: ReturnType<typeof lent>): Promise<{ ended: Promise<void>; stop: Extract<Message, { type: 'stop' | 'done' }> }> {
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
  assert.deepEqual(serving.said.filter((line) => /loses/.test(line)), []);
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
  assert.match(serving.said.join(''), /"chunks":2,"mib":8,"msg":"a client loses 8 MiB: the pages in there that are nowhere else"/);
});

test('told to end while it wants chunks back already: the one answer is taken', async () => {
  const { client, host, say } = session();
  say({ type: 'bind', request: 1, sessionChunk: 0 });
  client.askActivity(1);
  const { request } = host.sent.at(-1)!;
  client.askActivity(2);
  say({ type: 'activity', request, activities: [] });
  assert.deepEqual([host.activities.length, host.ended], [1, undefined]);
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
  const server = new MemoryServer(options, { fabric, log: pino({ level: 'silent' }), token: undefined, available: () => GiB, now: () => now });
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
