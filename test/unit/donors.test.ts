/**
 * The session with the donors, over a fabric that does what the test says: who is asked for what, what is given back,
 * what is lost.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReplicaState } from '../../src/tables/chunks.js';
import { encodeLegacy } from '../../src/donors/wire/legacy.js';
import { macOf } from '../../src/host/authenticator.js';
import {
  decodeHello,
  encodeMessage,
  encodeRefusal,
  type Message,
  RefusalCode,
} from '../../src/donors/wire/messages.js';
import { CHUNK, NONCE, World } from './donor-world.js';

const TOKEN = new TextEncoder().encode('sixteen bytes, at least');

test('two donors: each chunk has two replicas, on different ones; one donor: one', () => {
  const world = new World(['a', 'b', 'c']);
  world.begin(['a', 'b', 'c']);
  assert.equal(world.count(/^map/), 8, 'four chunks, twice');
  for (let chunk = 0; chunk < 4; chunk++) {
    const hosts = world.calls
      .filter((call) => call.startsWith('map') && call.split(' ')[2] === String(chunk))
      .map((call) => call.split(' ')[3]);
    assert.equal(new Set(hosts).size, 2, `chunk ${chunk} is on ${hosts.join(' and ')}`);
  }
  const single = new World(['a']);
  single.begin(['a']);
  assert.equal(single.count(/^map/), 4);
  assert.deepEqual(decodeHello(single.lines.get(1)!.hello).hasToken, false);
});

test('a donor is asked for one chunk at a time, and for none that it has not', () => {
  const world = new World(['a'], {}, 1);
  world.free.set('a', 2);
  world.tick(0);
  world.welcome('a');
  assert.equal(world.heard('a').filter(({ type }) => type === 'bind').length, 1);
  world.settle(['a']);
  assert.equal(world.count(/^map/), 2);
  world.tell('a', { type: 'free', request: 9, freeChunks: 1, freeBytes: 1n });
  world.tick(1);
  const [bind] = world.heard('a').splice(
    world.heard('a').findIndex(({ type }) => type === 'bind'),
    1,
  );
  assert.ok(bind?.type === 'bind');
  world.tell('a', { type: 'noRoom', request: bind.request, sessionChunk: bind.sessionChunk });
  world.settle(['a']);
  assert.equal(world.count(/^map/), 2, 'it had room and has none any more');
});

test('a lost donor: what it held is lost, it is tried again with a longer and longer pause, and said once', () => {
  const world = new World(['a', 'b']);
  world.begin(['a', 'b']);
  world.event({ kind: 'disconnected', connection: world.to('a'), peer: 'a', reason: 'the peer does not answer' });
  assert.equal(world.count(/^lose/), 4);
  assert.equal(world.said.filter((line) => /donor a:9400 is lost: the peer does not answer/.test(line)).length, 1);
  const tries = (): number => [...world.lines.values()].filter(({ host }) => host === 'a').length;
  const at: number[] = [];
  for (let ms = 0, before = tries(); ms < 40_000; ms += 100) {
    world.tick(100);
    if (ms % 1000 === 0) world.tell('b', { type: 'free', request: 1, freeChunks: 0, freeBytes: 0n });
    if (tries() === before) continue;
    before = tries();
    at.push(ms);
    world.event({ kind: 'unreachable', connection: [...world.lines.keys()].at(-1)!, reason: 'nobody listens there' });
  }
  const pauses = at.slice(1).map((ms, i) => ms - at[i]!);
  assert.ok(pauses.every((pause, i) => i === 0 || pause >= pauses[i - 1]!) && pauses.at(-1)! >= 8000, pauses.join(' '));
  assert.equal(world.said.filter((line) => /nobody listens there/.test(line)).length, 1, world.said.join('\n'));
});

test('every connection that was opened is closed once, however it ended', () => {
  const world = new World(['a'], {}, 1);
  const latest = (): number => [...world.lines.keys()].at(-1)!;
  const refusal = encodeRefusal({ code: RefusalCode.full, text: 'there are 32 clients already' });
  const ends: ((connection: number) => void)[] = [
    (connection) => world.event({ kind: 'unreachable', connection, reason: 'nobody listens there' }),
    (connection) => world.event({ kind: 'refused', connection, data: refusal, reason: 'the peer refused' }),
    (connection) =>
      world.event({
        kind: 'refused',
        connection,
        data: encodeRefusal({ code: RefusalCode.notAllowed, text: 'no' }),
        reason: '',
      }),
    (connection) => world.event({ kind: 'refused', connection, data: new Uint8Array(3), reason: 'the peer refused' }),
    (connection) => (
      world.welcome('a'),
      world.event({ kind: 'disconnected', connection, peer: 'a', reason: 'killed' })
    ),
    (connection) => world.event({ kind: 'connected', connection, peer: 'a', data: new Uint8Array(0) }),
    (connection) => (world.welcome('a'), world.event({ kind: 'message', connection, data: new Uint8Array(1) })),
    () => world.tick(10_001),
    () => (world.welcome('a'), world.donors.close()),
  ];
  for (const [i, end] of ends.entries()) {
    world.tick(20_000);
    assert.equal(world.lines.size, i + 1);
    end(latest());
    assert.deepEqual(
      [...world.lines.values()].filter(({ open }) => open),
      [],
      `way ${i}`,
    );
  }
});

test('an operation that failed: the connection is left, with all it held', () => {
  const world = new World(['a', 'b']);
  world.begin(['a', 'b']);
  const [, replica, chunk] = world.calls
    .find((call) => call.includes(' a '))!
    .split(' ')
    .map(Number);
  const connection = world.to('a');
  world.chunks.setState(replica!, chunk!, ReplicaState.unmapped);
  world.donors.failed(replica!, chunk!);
  assert.equal(world.lines.get(connection)!.open, false);
  assert.equal(world.count(/^lose/), 3, 'the others; that one is unmapped already');
});

test('a donor that wants chunks back: activity, then it has them when nothing depends on them, and is left alone for a while', () => {
  const world = new World(['a'], {}, 1);
  world.begin(['a']);
  world.chunks.reads[1] = 500;
  world.tick(1000);
  world.tell('a', { type: 'evict', request: 50, chunks: 2 });
  const activity = world.heard('a').find(({ type }) => type === 'activity');
  assert.ok(activity?.type === 'activity' && activity.request === 50);
  assert.deepEqual(
    activity.activities.map((each) => each.activity).sort((a, b) => a - b),
    [0, 0, 0, 200],
  );
  world.tell('a', { type: 'stop', request: 51, donorChunks: [1, 3] });
  assert.equal(world.count(/^leave/), 2);
  assert.ok(!world.heard('a').some(({ type }) => type === 'done'), 'not before they are given up');
  world.empty(0);
  world.empty(1);
  const done = world.heard('a').find(({ type }) => type === 'done');
  assert.ok(done?.type === 'done' && done.request === 51);
  assert.deepEqual(done.donorChunks, [1, 3]);
  const binds = (): number => world.heard('a').filter(({ type }) => type === 'bind').length;
  world.tell('a', { type: 'free', request: 1, freeChunks: 5, freeBytes: 0n });
  world.tick(5000);
  assert.equal(binds(), 0);
  world.tell('a', { type: 'free', request: 1, freeChunks: 5, freeBytes: 0n });
  world.tick(6000);
  assert.equal(binds(), 1);
});

test('that donors have no room is said once, and that they have it again', () => {
  const world = new World(['a'], {}, 2, 4 * CHUNK - 256);
  const said = (): string[] => world.said.filter((line) => /room/.test(line));
  const wait = (seconds: number, free: number): void => {
    for (let ms = 0; ms < seconds * 1000; ms += 250) {
      world.tick(250);
      if (ms % 1000 === 0) world.tell('a', { type: 'free', request: 1, freeChunks: free, freeBytes: 0n });
      world.give('a');
    }
  };
  world.free.set('a', 1);
  world.tick(0);
  world.welcome('a');
  world.give('a');
  wait(4, 0);
  assert.deepEqual(said(), [], 'a donor that was just started has room in a moment');
  wait(10, 0);
  assert.deepEqual(said(), ['warn: donors have no room for 11 more MiB: those pages go to the swap file']);
  wait(10, 1);
  wait(10, 1);
  assert.equal(world.count(/^map/), 4, 'the second copy of each is in the swap file, as there is one donor');
  assert.deepEqual(said().slice(1), ['info: donors have room again for all pages']);
});

test('why a donor is not used is in its statistics', () => {
  const world = new World(['a'], {}, 1);
  world.tick(0);
  assert.equal(world.donors.stats()[0]!.reason, '');
  world.event({ kind: 'unreachable', connection: 1, reason: 'nobody listens there' });
  assert.equal(world.donors.stats()[0]!.reason, 'nobody listens there');
  world.tick(1000);
  world.welcome('a');
  assert.deepEqual([world.donors.stats()[0]!.state, world.donors.stats()[0]!.reason], ['connected', '']);
});

type Done = Extract<Message, { readonly type: 'stop' | 'done' }>;
const donesOf = (world: World): Done[] => world.heard('a').filter((each): each is Done => each.type === 'done');

test('each chunk is given back when it is empty, and not when the last one is', () => {
  const world = new World(['a'], {}, 1);
  world.begin(['a']);
  world.tell('a', { type: 'stop', request: 51, donorChunks: [1, 2, 3, 4] });
  world.empty(0);
  world.empty(1);
  world.tick(250);
  assert.deepEqual(
    donesOf(world).map(({ request, donorChunks }) => [request, donorChunks]),
    [[51, [1, 2]]],
  );
  world.tell('a', { type: 'stop', request: 52, donorChunks: [3, 4] }); // the donor is told to end while it waits
  world.empty(2);
  world.tick(250);
  world.tick(250);
  world.empty(3);
  assert.deepEqual(
    donesOf(world).map(({ donorChunks }) => donorChunks),
    [[1, 2], [3], [4]],
  );
  world.tick(250);
  assert.equal(donesOf(world).length, 3, 'each is said once');
  world.tell('a', { type: 'stop', request: 53, donorChunks: [1] }); // nothing of it is left: nothing to say
  assert.equal(donesOf(world).length, 3);
});

test('messages for which there is no send buffer wait, and no donor is flooded', () => {
  const world = new World(['a'], {}, 1, 900 * CHUNK);
  world.free.set('a', 1000);
  world.tick(0);
  world.welcome('a');
  for (let round = 0; world.count(/^map/) < 900; round++) {
    assert.ok(round < 1000);
    world.tick(3);
    world.give('a');
  }
  const line = world.lines.get(world.to('a'))!;
  world.donors.switch(false);
  line.room = 5;
  line.raw.length = 0;
  for (let nth = 0; nth < 899; nth++) world.empty(nth);
  assert.deepEqual([line.open, line.raw.length], [true, 5]);
  line.room = Infinity;
  for (let ms = 0; ms < 3000; ms += 250) {
    world.tick(250);
    assert.ok(line.raw.length <= 400 * (2 + Math.floor(ms / 1000)), `${line.raw.length} after ${ms} ms`);
  }
  assert.equal(line.heard.filter(({ type }) => type === 'release').length, 899);
});

test('a donor that takes short messages only', () => {
  const world = new World(['a'], {}, 1, 40 * CHUNK);
  world.free.set('a', 100);
  world.tick(0);
  world.welcome('a', CHUNK, false, 64);
  for (let i = 0; i < 40; i++) world.give('a');
  world.tell('a', { type: 'evict', request: 1, chunks: 1 });
  world.tell('a', { type: 'stop', request: 2, donorChunks: Array.from({ length: 40 }, (_, i) => i + 1) });
  for (let nth = 0; nth < 40; nth++) world.empty(nth);
  assert.ok(world.lines.get(1)!.raw.every(({ length }) => length <= 64));
  assert.deepEqual(
    donesOf(world).map(({ donorChunks }) => donorChunks.length),
    [14, 14, 12],
  );
});

test('more chunks than a message can name: the least used ones are', () => {
  const world = new World(['a'], {}, 1, 600 * CHUNK);
  world.free.set('a', 1000);
  world.tick(0);
  world.welcome('a');
  for (let i = 0; i < 600; i++) {
    world.tick(3);
    world.give('a');
  }
  assert.equal(world.count(/^map/), 600);
  world.chunks.reads.fill(100);
  world.chunks.reads[599] = 0;
  world.tick(1000);
  world.tell('a', { type: 'evict', request: 1, chunks: 1 });
  const activity = world.heard('a').find(({ type }) => type === 'activity');
  assert.ok(
    activity?.type === 'activity' && activity.activities.length === 511 && activity.activities[0]!.activity === 0,
  );
});

test('RDMA off: chunks are given back one by one, then nobody is connected; on: all over again', () => {
  const world = new World(['a', 'b']);
  world.begin(['a', 'b']);
  const connection = world.to('a');
  world.donors.switch(false);
  assert.equal(world.count(/^leave/), 8);
  for (let nth = 0; nth < 8; nth++) world.empty(nth);
  assert.equal(world.lines.get(connection)!.heard.filter(({ type }) => type === 'release').length, 4);
  world.tick(250);
  assert.ok([...world.lines.values()].every(({ open }) => !open));
  for (let i = 0; i < 20; i++) world.tick(1000);
  assert.equal(world.lines.size, 2, 'nobody is called while it is off');
  world.donors.switch(true);
  world.calls.length = 0;
  world.begin(['a', 'b']);
  assert.equal(world.count(/^map/), 8);
});

test('only chunks that are active are mapped, when that is asked for', () => {
  const world = new World(['a'], { ahead: false, threshold: 10 }, 1);
  world.begin(['a']);
  assert.equal(world.count(/^map/), 0);
  world.chunks.writes[2] = 100;
  world.chunks.reads[3] = 10;
  world.tick(1000);
  world.settle(['a']);
  assert.deepEqual(
    world.calls.map((call) => call.split(' ')[2]),
    ['2'],
  );
});

test('a token: proven by both sides, or the donor is not used', () => {
  for (const theirs of [TOKEN, new TextEncoder().encode('another token altogether')]) {
    const world = new World(['a'], { token: TOKEN }, 1);
    world.tick(0);
    world.welcome('a', CHUNK, true);
    const line = world.lines.get(1)!;
    const [auth] = line.heard;
    const { nonce, hasToken } = decodeHello(line.hello);
    assert.ok(hasToken && auth?.type === 'auth');
    assert.deepEqual(auth.mac, macOf('client', TOKEN, nonce, NONCE));
    assert.ok(
      !line.raw.some((bytes) => Buffer.from(bytes).includes(Buffer.from(TOKEN))),
      'the token itself does not cross',
    );
    world.event({
      kind: 'message',
      connection: 1,
      data: encodeMessage({ type: 'authenticated', request: 1, mac: macOf('donor', theirs, nonce, NONCE) }),
    });
    assert.equal(world.donors.all[0]!.state, theirs === TOKEN ? 'connected' : 'refused');
  }
  const open = new World(['a', 'b'], { token: TOKEN, legacy: true });
  open.tick(0);
  open.welcome('a');
  open.event({ kind: 'connected', connection: open.to('b'), peer: '', data: new Uint8Array(0) });
  assert.deepEqual(
    open.donors.all.map(({ state }) => state),
    ['refused', 'refused'],
    'nobody is used without proof',
  );
  assert.match(
    open.said.join('\n'),
    /a:9400 cannot be used: it asks for no token, so it cannot prove that it knows one: start it with --token-file/,
  );
  assert.match(
    open.said.join('\n'),
    /b:9400 cannot be used: it is a donor of the original Leap or Infiniswap, which has no tokens: leave out --token-file/,
  );
  const without = new World(['a']);
  without.tick(0);
  without.welcome('a', CHUNK, true);
  assert.match(without.said.join(), /asks for a token: give leapd its --token-file/);
});

test('who has not proved anything does not set the size of the chunks', () => {
  const world = new World(['a', 'b'], { token: TOKEN }, 1);
  world.tick(0);
  world.welcome('a', 2 * CHUNK, true);
  assert.equal(world.chunks.slotsPerChunk, 0);
  world.event({
    kind: 'message',
    connection: 1,
    data: encodeMessage({ type: 'authenticated', request: 1, mac: new Uint8Array(32) }),
  });
  world.welcome('b', CHUNK, true);
  const { nonce } = decodeHello(world.lines.get(2)!.hello);
  world.event({
    kind: 'message',
    connection: 2,
    data: encodeMessage({ type: 'authenticated', request: 1, mac: macOf('donor', TOKEN, nonce, NONCE) }),
  });
  assert.deepEqual(
    world.donors.all.map(({ state }) => state),
    ['refused', 'connected'],
  );
  assert.equal(world.chunks.slotsPerChunk, CHUNK);
});

test('what does not fit is refused and said: chunk sizes, an original donor, a refusal, garbage, silence', () => {
  const world = new World(['a', 'b'], { chunkBytes: CHUNK * 4096 });
  world.tick(0);
  world.welcome('a', 2 * CHUNK);
  world.welcome('b');
  assert.match(
    world.said.join('\n'),
    /donor a:9400 cannot be used: its chunks have 8 MiB, and leapd's --chunk is 4 MiB/,
  );
  assert.equal(world.donors.all[0]!.state, 'refused');

  const second = new World(['a', 'b', 'c', 'd', 'e']);
  second.tick(0);
  second.welcome('a');
  second.welcome('b', 2 * CHUNK);
  assert.match(
    second.said.join('\n'),
    /b:9400 cannot be used: its chunks have 8 MiB, and those of the donors before it 4 MiB/,
  );
  second.event({ kind: 'connected', connection: second.to('c'), peer: '', data: new Uint8Array(0) });
  assert.match(second.said.join('\n'), /c:9400 .*original Leap or Infiniswap: to use it, give leapd --legacy/);
  const refusal = encodeRefusal({ code: RefusalCode.notAllowed, text: 'its address is not allowed (--allow)' });
  second.event({ kind: 'refused', connection: second.to('d'), data: refusal, reason: 'the peer refused' });
  assert.match(second.said.join('\n'), /d:9400 cannot be used: its address is not allowed \(--allow\)/);
  second.welcome('e');
  second.event({ kind: 'message', connection: second.to('e'), data: new Uint8Array([1, 2, 3]) });
  assert.match(second.said.join('\n'), /e:9400 is lost: it sent an invalid message/);
  second.tick(11_000);
  second.tick(1);
  second.tick(11_000);
  assert.match(second.said.join('\n'), /a:9400 is lost: it does not answer/);
  const unasked: Message = { type: 'bound', request: 1, sessionChunk: 3, donorChunk: 1, rkey: 1, address: 4096n };
  const third = new World(['a'], {}, 1, CHUNK);
  third.begin(['a']);
  third.tell('a', unasked);
  assert.match(third.said.join('\n'), /which was not requested/);
});

test('an original donor, with --legacy', () => {
  const world = new World(['a'], { legacy: true }, 1, 2 ** 18);
  world.tick(0);
  world.event({ kind: 'connected', connection: 1, peer: '', data: new Uint8Array(0) });
  const tell = (message: Parameters<typeof encodeLegacy>[0]): void =>
    world.event({ kind: 'message', connection: 1, data: encodeLegacy(message) });
  tell({ type: 'freeSize', size: 3, entries: [] });
  const bind = world.lines.get(1)!.raw.at(-1)!;
  assert.deepEqual(
    [new DataView(bind.buffer).getInt32(384, true), new DataView(bind.buffer).getInt32(388, true)],
    [0, 9],
    'BIND_SINGLE of session chunk 0',
  );
  tell({ type: 'infoSingle', size: 0, entries: [{ donorChunk: 4, buf: 8192n, rkey: 77 }] });
  assert.deepEqual(world.calls, ['map 0 0 a 77']);
  tell({ type: 'evict', size: 1, entries: [] });
  const activity = world.lines.get(1)!.raw.at(-1)!;
  assert.equal(new DataView(activity.buffer).getBigUint64(8 * 4), 1n, 'the operations on chunk 4, plus 1');
  tell({ type: 'stop', size: 1, entries: [{ donorChunk: 4, buf: 0n, rkey: 1 }] });
  world.chunks.setState(0, 0, ReplicaState.unmapped);
  world.donors.released(0, 0);
  const done = new DataView(world.lines.get(1)!.raw.at(-1)!.buffer);
  assert.deepEqual(
    [done.getInt32(388, true), done.getInt32(384, true), done.getUint32(256 + 4 * 4)],
    [1, 1, 1],
    'DONE of one chunk, number 4',
  );
});

test('an original donor: a later chunk beside the stale address of an earlier one, and a free size below 0', () => {
  const world = new World(['a'], { legacy: true }, 1, 2 ** 19);
  world.tick(0);
  world.event({ kind: 'connected', connection: 1, peer: '', data: new Uint8Array(0) });
  const tell = (message: Parameters<typeof encodeLegacy>[0]): void =>
    world.event({ kind: 'message', connection: 1, data: encodeLegacy(message) });
  tell({ type: 'freeSize', size: 3, entries: [] });
  tell({ type: 'infoSingle', size: 0, entries: [{ donorChunk: 4, buf: 8192n, rkey: 77 }] });
  // The original zeroes rkey[] before each answer, and not buf[].
  const stale = { donorChunk: 4, buf: 8192n, rkey: 0 };
  tell({ type: 'infoSingle', size: 1, entries: [stale, { donorChunk: 6, buf: 16384n, rkey: 78 }] });
  assert.deepEqual(world.calls, ['map 0 0 a 77', 'map 0 1 a 78']);
  tell({ type: 'freeSize', size: -2, entries: [] });
  assert.deepEqual([world.donors.all[0]!.state, world.donors.all[0]!.freeChunks], ['connected', 0]);
});
