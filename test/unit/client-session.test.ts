/** A client's session with a donor, in our words and in those of the original. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  AUTH_MS,
  LeapSession,
  MOST_MESSAGES_A_SECOND,
  type ClientHost,
  type ClientSession,
  type Terms,
} from '../../server/client-session.js';
import { LegacySession } from '../../server/legacy-session.js';
import { macOf } from '../../src/host/authenticator.js';
import { decodeLegacy, encodeLegacy } from '../../src/donors/wire/legacy.js';
import {
  decodeMessage,
  encodeMessage,
  RefusalCode,
  type ChunkActivity,
  type Message,
} from '../../src/donors/wire/messages.js';
import { Rng } from './rng.js';

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

function session(terms: Partial<Terms> = {}): {
  host: FakeHost;
  client: LeapSession;
  say: (message: Message, now?: number) => Message | undefined;
} {
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
  assert.deepEqual(say({ type: 'bind', request: 20, sessionChunk: 20 }), {
    type: 'noRoom',
    request: 20,
    sessionChunk: 20,
  });
  assert.deepEqual(say({ type: 'release', request: 21, donorChunk: 0 }), {
    type: 'released',
    request: 21,
    donorChunk: 0,
  });
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
  assert.deepEqual(answer, {
    type: 'authenticated',
    request: 5,
    mac: macOf('donor', token, nonces.clientNonce, nonces.donorNonce),
  });
  assert.equal(right.say({ type: 'bind', request: 6, sessionChunk: 0 })?.type, 'bound');
  const cases: [Message, number][] = [
    [{ type: 'auth', request: 1, mac: new Uint8Array(32) }, RefusalCode.tokenWrong],
    [
      { type: 'auth', request: 1, mac: macOf('donor', token, nonces.clientNonce, nonces.donorNonce) },
      RefusalCode.tokenWrong,
    ],
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
  say({
    type: 'activity',
    request: asked.request,
    activities: [
      { donorChunk: 1, activity: 5 },
      { donorChunk: 77, activity: 1 },
    ],
  });
  assert.deepEqual(host.activities, [[{ donorChunk: 1, activity: 5 }]]);
  client.stop([0, 1, 99]);
  const stop = host.sent.at(-1)!;
  assert.deepEqual((stop as { donorChunks: readonly number[] }).donorChunks, [0, 1]);
  say({ type: 'release', request: 50, donorChunk: 1 }); // on its way when STOP came
  say({ type: 'done', request: stop.request, donorChunks: [0, 1] });
  assert.deepEqual([[...host.lent], host.ended], [[2], undefined]);
  say({ type: 'done', request: stop.request, donorChunks: [2] });
  assert.match(host.ended ?? '', /which no STOP has named/);
});

test('STOP of more chunks than a message holds is several messages', () => {
  const { host, client, say } = session({ messageBytes: 64 });
  for (let i = 0; i < 4; i++) say({ type: 'bind', request: i, sessionChunk: i });
  const host2 = new FakeHost(40);
  const many = new LeapSession({ token: undefined, ...nonces, messageBytes: 64 }, host2, 0);
  for (let i = 0; i < 40; i++) many.receive(encodeMessage({ type: 'bind', request: i, sessionChunk: i }), 0);
  many.stop([...host2.lent]);
  const stops = host2.sent.filter(({ type }) => type === 'stop') as { donorChunks: readonly number[] }[];
  assert.deepEqual(
    stops.map(({ donorChunks }) => donorChunks.length),
    [14, 14, 12],
  );
  client.stop([]);
  assert.deepEqual((host.sent.at(-1) as { donorChunks: readonly number[] }).donorChunks, []);
});

test('garbage of every kind: no session throws, and none keeps what it must not have', () => {
  const rng = new Rng(11);
  for (let round = 0; round < 3000; round++) {
    const host = new FakeHost();
    const client: ClientSession =
      round % 3 === 0
        ? new LegacySession(host)
        : new LeapSession({ token: round % 2 ? token : undefined, ...nonces, messageBytes: 4096 }, host, 0);
    for (let i = 0; i < 12; i++) {
      const bytes = Uint8Array.from({ length: rng.below(3) === 0 ? 392 : rng.below(60) }, () =>
        rng.below(2) ? 0 : rng.below(256),
      );
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
  assert.deepEqual(
    say({ type: 'bind', size: 2, entries: [] }).entries.map(({ donorChunk }) => donorChunk),
    [1, 2],
  );
  assert.deepEqual(say({ type: 'query', size: 0, entries: [] }), { type: 'freeSize', size: 1, entries: [] });
  client.askActivity(1);
  say({
    type: 'activity',
    size: 0,
    entries: [
      { donorChunk: 0, buf: 4n, rkey: 0 },
      { donorChunk: 2, buf: 1n, rkey: 0 },
    ],
  });
  assert.deepEqual(host.activities, [
    [
      { donorChunk: 0, activity: 4 },
      { donorChunk: 2, activity: 1 },
    ],
  ]);
  client.stop([2]);
  assert.deepEqual(decodeLegacy(host.raw.at(-1)!), {
    type: 'stop',
    size: 1,
    entries: [{ donorChunk: 2, buf: 0n, rkey: 1 }],
  });
  say({ type: 'done', size: 1, entries: [{ donorChunk: 2, buf: 0n, rkey: 1 }] });
  assert.deepEqual([...host.lent], [0, 1]);
  say({ type: 'done', size: 1, entries: [{ donorChunk: 0, buf: 0n, rkey: 1 }] });
  assert.match(host.ended ?? '', /which no STOP has named/);
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
