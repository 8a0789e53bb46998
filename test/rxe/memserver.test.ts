/**
 * leap-memserver over a real RDMA stack. Runs as root inside the Soft-RoCE machine (LEAP_RXE=1): 10.9.0.1 to 10.9.0.4
 * on rxe0.
 */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { isMacOf } from '../../src/host/authenticator.js';
import { decodeLegacy, encodeLegacy, type LegacyMessage } from '../../src/donors/wire/legacy.js';
import { RefusalCode } from '../../src/donors/wire/messages.js';
import type { Status } from '../../server/server.js';
import { ARENA, Memserver, MiB, Probe } from './probe.js';

const run = promisify(execFile);
let nextPort = 9600;
const token = new TextEncoder().encode('a token that both sides know');

async function serve(
  t: TestContext,
  memory: string,
  ...more: string[]
): Promise<{ server: Memserver; address: string; port: number }> {
  const port = nextPort++;
  const reserve = more.includes('--reserve') ? [] : ['--reserve', '64M'];
  const server = await Memserver.start(
    '--listen',
    `10.9.0.1:${port}`,
    '--memory',
    memory,
    '--chunk',
    '4M',
    ...reserve,
    ...more,
  );
  t.after(() => server.child.kill('SIGKILL'));
  return { server, address: '10.9.0.1', port };
}

function probe(t: TestContext): Probe {
  const made = new Probe();
  t.after(() => made.end());
  return made;
}

function withToken(): string {
  const path = `/run/leap-test-token-${process.pid}`;
  writeFileSync(path, token, { mode: 0o600 });
  chmodSync(path, 0o600);
  return path;
}

// Two at a time: each has a server of its own, and half of its time is that of a Node that starts, on one CPU.
describe('a server and its clients', { concurrency: 2 }, () => {
  test('bind, write, read back, release', async (t) => {
    const { server, address, port } = await serve(t, '16M');
    const client = probe(t);
    const welcome = await client.connect(address, port);
    assert.deepEqual([welcome.chunkBytes, welcome.freeChunks, welcome.tokenRequired], [BigInt(4 * MiB), 4, false]);
    client.send({ type: 'query', request: 77 });
    assert.deepEqual(await client.message('free'), {
      type: 'free',
      request: 77,
      freeChunks: 4,
      freeBytes: BigInt(16 * MiB),
    });
    const bound = await client.bind(5);
    assert.equal(bound.sessionChunk, 5);
    const { arena } = client.fabric;
    assert.equal(await client.move(false, ARENA, bound.address, bound.rkey), 0);
    assert.ok(
      arena.every((byte) => byte === 0),
      'a fresh chunk is zeros',
    );
    for (let i = 0; i < arena.length; i++) arena[i] = (i * 7 + (i >> 12)) & 0xff;
    assert.equal(await client.move(true, ARENA, bound.address, bound.rkey), 0);
    arena.fill(0);
    assert.equal(await client.move(false, ARENA, bound.address, bound.rkey), 0);
    assert.ok(
      arena.every((byte, i) => byte === ((i * 7 + (i >> 12)) & 0xff)),
      'what was written is read',
    );
    assert.deepEqual((await server.status()).chunks.lent, 1);
    client.send({ type: 'release', request: 8, donorChunk: bound.donorChunk });
    assert.equal((await client.message('released')).request, 8);
    await server.until('the chunk, free again', ({ chunks }) => chunks.free === 4);
    for (let i = 0; i < 4; i++) await client.bind(10 + i);
    client.send({ type: 'bind', request: 9, sessionChunk: 14 });
    assert.deepEqual(await client.message('noRoom'), { type: 'noRoom', request: 9, sessionChunk: 14 });
    assert.equal(await server.stop(), 0);
  });

  test('a client reaches neither a living nor a former chunk of another', async (t) => {
    const { server, address, port } = await serve(t, '4M');
    const [first, spy, second] = [probe(t), probe(t), probe(t)];
    await first.connect(address, port);
    const bound = await first.bind();
    first.fabric.arena.fill(0x77);
    assert.equal(await first.move(true, ARENA, bound.address, bound.rkey), 0);
    await spy.connect(address, port);
    // the real key, in another protection domain
    assert.notEqual(await spy.move(false, 4096, bound.address, bound.rkey), 0);
    assert.ok(spy.fabric.arena.every((byte) => byte === 0));
    assert.equal(await first.move(false, 4096, bound.address, bound.rkey), 0); // and the first is not disturbed
    // Given back: its key is dead for the first as well, and the next one finds zeros in the same memory.
    first.send({ type: 'release', request: 1, donorChunk: bound.donorChunk });
    await first.message('released');
    await server.until('the chunk, free again', ({ chunks }) => chunks.free === 1);
    await second.connect(address, port);
    const again = await second.bind();
    assert.deepEqual([again.donorChunk, again.address], [bound.donorChunk, bound.address]);
    assert.equal(await second.move(false, ARENA, again.address, again.rkey), 0);
    assert.ok(
      second.fabric.arena.every((byte) => byte === 0),
      'scrubbed',
    );
    assert.notEqual(await first.move(false, 4096, bound.address, bound.rkey), 0);
    // Nor with the new key, in a connection of its own.
    const third = probe(t);
    await third.connect(address, port);
    assert.notEqual(await third.move(true, 4096, again.address, again.rkey), 0);
    assert.equal(await second.move(false, ARENA, again.address, again.rkey), 0);
    assert.ok(
      second.fabric.arena.every((byte) => byte === 0),
      'untouched',
    );
    assert.equal(await server.stop(), 0);
  });

  test('a client killed with -9 leaves nothing behind', async (t) => {
    const { server, address, port } = await serve(t, '4M');
    const program = fileURLToPath(new URL('client-child.js', import.meta.url));
    const child = spawn(process.execPath, [program, address, String(port)], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const { rkey, remote } = JSON.parse(line.toString()) as { rkey: number; remote: string };
    assert.equal((await server.status()).chunks.lent, 1);
    child.kill('SIGKILL');
    await server.until('the chunk, free again', ({ chunks, clients }) => chunks.free === 1 && clients.length === 0);
    const next = probe(t);
    await next.connect(address, port);
    const bound = await next.bind();
    next.fabric.arena.fill(1);
    assert.equal(await next.move(false, ARENA, bound.address, bound.rkey), 0);
    assert.ok(
      next.fabric.arena.every((byte) => byte === 0),
      'scrubbed',
    );
    assert.notEqual(await next.move(false, 4096, BigInt(remote), rkey === bound.rkey ? rkey ^ 1 : rkey), 0);
    assert.equal(await server.stop(), 0);
  });

  test('with a token: proved both ways; wrong, missing or late: refused', async (t) => {
    const { server, address, port } = await serve(t, '8M', '--token-file', withToken());
    const late = probe(t);
    await late.connect(address, port, { hasToken: true });
    const good = probe(t);
    const { tokenRequired, nonce } = await good.connect(address, port, { hasToken: true });
    assert.ok(tokenRequired);
    good.prove(token);
    const { mac } = await good.message('authenticated');
    assert.ok(isMacOf(mac, 'donor', token, good.nonce, nonce), 'the donor knows it too');
    await good.bind();

    const none = await probe(t).refusal(address, port, good.hello());
    assert.equal(none.code, RefusalCode.tokenRequired);
    const wrong = probe(t);
    await wrong.connect(address, port, { hasToken: true });
    wrong.prove(new TextEncoder().encode('a token that is wrong'));
    assert.equal((await wrong.message('refused')).code, RefusalCode.tokenWrong);
    await wrong.disconnected();
    // Nothing is answered before the proof; a MAC that was seen elsewhere is worth nothing.
    const hasty = probe(t);
    await hasty.connect(address, port, { hasToken: true });
    hasty.send({ type: 'bind', request: 1, sessionChunk: 0 });
    assert.equal((await hasty.message('refused')).code, RefusalCode.tokenRequired);
    await hasty.disconnected();
    const reflecting = probe(t);
    await reflecting.connect(address, port, { hasToken: true });
    reflecting.send({ type: 'auth', request: 1, mac });
    assert.equal((await reflecting.message('refused')).code, RefusalCode.tokenWrong);
    assert.match((await late.message('refused')).text, /within/);
    const status = await server.until('one client', ({ clients }) => clients.length === 1);
    assert.equal(status.chunks.lent, 1);
    await good.bind(1);
    assert.equal(await server.stop(), 0);
  });

  test('wrong version, size, garbage and addresses outside --allow are refused, and logged once', async (t) => {
    const { server, address, port } = await serve(t, '8M', '--allow', '10.9.0.1', '--max-clients', '2');
    const good = probe(t);
    await good.connect(address, port);
    const version = good.hello();
    version[4] = 9;
    assert.equal((await probe(t).refusal(address, port, version)).code, RefusalCode.wrongVersion);
    assert.equal(
      (await probe(t).refusal(address, port, good.hello({ chunkBytes: 1n << 30n }))).code,
      RefusalCode.wrongChunkSize,
    );
    const garbage = new TextEncoder().encode('GET / HTTP/1.0');
    for (let i = 0; i < 5; i++)
      assert.equal((await probe(t).refusal(address, port, garbage)).code, RefusalCode.malformed);
    assert.match((await probe(t).refusal(address, port, new Uint8Array(0))).text, /--legacy/);
    await server.says(/does not begin with LEAP/);
    const other = probe(t);
    await other.connect(address, port);
    assert.equal((await probe(t).refusal(address, port, good.hello())).code, RefusalCode.full);
    await good.bind();
    assert.equal(await server.stop(), 0);
    assert.equal(server.said(/does not begin with LEAP/).length, 1);
    const strict = await serve(t, '8M', '--allow', '192.0.2.0/24', '--allow', 'fd00::/8');
    assert.equal((await probe(t).refusal(strict.address, strict.port, good.hello())).code, RefusalCode.notAllowed);
    await strict.server.says(/not allowed \(--allow\)/);
    assert.equal(await strict.server.stop(), 0);
  });

  test('malformed messages end one session and disturb no other', async (t) => {
    const { server, address, port } = await serve(t, '16M');
    const good = probe(t);
    await good.connect(address, port);
    const bound = await good.bind();
    let seed = 1;
    const random = (below: number): number => (seed = (seed * 48271) % 0x7fffffff) % below;
    for (let round = 0; round < 12; round++) {
      const bad = probe(t);
      await bad.connect(address, port);
      if (round % 3 === 0) await bad.bind();
      const bytes = Uint8Array.from({ length: [1, 7, 8, 40, 4096][round % 5]! }, () => random(256));
      assert.ok(bad.fabric.send(bad.id, bytes));
      assert.equal((await bad.message('refused')).code, RefusalCode.malformed);
      await bad.disconnected();
      bad.end();
    }
    const thief = probe(t);
    await thief.connect(address, port);
    thief.send({ type: 'release', request: 1, donorChunk: bound.donorChunk });
    assert.equal((await thief.message('refused')).code, RefusalCode.malformed);
    const flooder = probe(t);
    await flooder.connect(address, port);
    for (let sent = 0; sent < 5000 && !flooder.events.some(({ kind }) => kind === 'disconnected'); sent++) {
      if (!flooder.fabric.send(flooder.id, good.hello().subarray(0, 8))) await sleep(1);
    }
    await flooder.disconnected();
    await server.until(
      'everything back',
      ({ chunks, clients }) => chunks.lent === 1 && chunks.free === 3 && clients.length === 1,
    );
    good.fabric.arena.fill(3);
    assert.equal(await good.move(true, ARENA, bound.address, bound.rkey), 0);
    assert.equal(await server.stop(), 0);
  });

  test('a flood of connections leaves room for one that means it', async (t) => {
    const { server, address, port } = await serve(t, '8M', '--max-clients', '4');
    const good = probe(t);
    await good.connect(address, port);
    const bound = await good.bind();
    const flood = probe(t);
    for (let i = 0; i < 150; i++)
      flood.fabric.connect(address, port, i % 2 ? flood.hello() : new Uint8Array(0), 20_000);
    let answers = 0;
    for (const end = Date.now() + 60_000; answers < 150 && Date.now() < end; await sleep(20)) {
      answers += flood.events
        .splice(0)
        .filter(({ kind }) => ['connected', 'refused', 'unreachable'].includes(kind)).length;
      assert.equal(await good.move(true, 4096, bound.address, bound.rkey), 0);
    }
    assert.equal(answers, 150);
    assert.equal((await server.status()).clients.length, 4);
    flood.end();
    await server.until('the others gone', ({ clients }) => clients.length === 1);
    await probe(t).connect(address, port);
    assert.equal(await server.stop(), 0);
  });

  test('an address that is in use, and one that is not ours', async (t) => {
    const { server, port } = await serve(t, '8M');
    const listen = (at: string): Promise<Memserver> =>
      Memserver.start('--listen', `${at}:${port}`, '--memory', '8M', '--chunk', '4M');
    const taken = assert.rejects(listen('10.9.0.1'), /in use by another program/);
    await assert.rejects(
      listen('192.0.2.1'),
      /192\.0\.2\.1:\d+ (is not an address of this machine|belongs to no RDMA device)/,
    );
    await taken;
    assert.equal(await server.stop(), 0);
  });
});

// What a client does not answer in a second or two is taken from it: nothing is beside these.

test('SIGTERM: clients are told, and the end waits for them, but not for ever', async (t) => {
  const { server, address, port } = await serve(t, '8M');
  const [polite, deaf] = [probe(t), probe(t)];
  await polite.connect(address, port);
  await deaf.connect(address, port);
  const bound = await polite.bind();
  await deaf.bind();
  const ended = server.stop();
  const { request } = await polite.message('evict');
  polite.send({ type: 'activity', request, activities: [] });
  const stop = await polite.message('stop');
  assert.deepEqual(stop.donorChunks, [bound.donorChunk]);
  assert.equal(await polite.move(true, 4096, bound.address, bound.rkey), 0); // until DONE the chunk is still there
  polite.send({ type: 'done', request: stop.request, donorChunks: stop.donorChunks });
  assert.equal(await ended, 0);
  await deaf.disconnected();
});

test('--legacy: an original client is served in its own words', async (t) => {
  const port = nextPort++;
  const server = await Memserver.start(
    '--listen',
    `10.9.0.1:${port}`,
    '--memory',
    '1G',
    '--reserve',
    '64M',
    '--legacy',
  );
  t.after(() => server.child.kill('SIGKILL'));
  const client = probe(t);
  const event = await client.knock('10.9.0.1', port, new Uint8Array(0));
  assert.deepEqual([event.kind, (event as { data: Uint8Array }).data.byteLength], ['connected', 0]);
  const next = async (): Promise<LegacyMessage> => {
    const message = await client.event(({ kind }) => kind === 'message');
    return decodeLegacy((message as { data: Uint8Array }).data);
  };
  assert.deepEqual(await next(), { type: 'freeSize', size: 1, entries: [] });
  assert.ok(client.fabric.send(client.id, encodeLegacy({ type: 'bindSingle', size: 3, entries: [] })));
  const info = await next();
  assert.deepEqual([info.type, info.size, info.entries.length], ['infoSingle', 3, 1]);
  const { buf, rkey } = info.entries[0]!;
  client.fabric.arena.fill(9);
  assert.equal(await client.move(true, 4096, buf + (1n << 30n) - 4096n, rkey), 0);
  client.fabric.arena.fill(0);
  assert.equal(await client.move(false, 4096, buf + (1n << 30n) - 4096n, rkey), 0);
  assert.ok(client.fabric.arena.subarray(0, 4096).every((byte) => byte === 9));
  assert.ok(client.fabric.send(client.id, encodeLegacy({ type: 'query', size: 0, entries: [] })));
  assert.deepEqual(await next(), { type: 'freeSize', size: 0, entries: [] });
  // A leapd of today is served beside it.
  await probe(t).connect('10.9.0.1', port);
  const ended = server.stop();
  assert.equal((await next()).type, 'evict');
  assert.ok(
    client.fabric.send(
      client.id,
      encodeLegacy({ type: 'activity', size: 0, entries: [{ donorChunk: 0, buf: 2n, rkey: 0 }] }),
    ),
  );
  const stop = await next();
  assert.deepEqual(stop, { type: 'stop', size: 1, entries: [{ donorChunk: 0, buf: 0n, rkey: 1 }] });
  assert.ok(client.fabric.send(client.id, encodeLegacy({ ...stop, type: 'done' })));
  assert.equal(await ended, 0);
});

test('the host needs its memory: EVICT, ACTIVITY, STOP, DONE, and it is given back', async (t) => {
  const available = Number(/MemAvailable:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))![1]) * 1024;
  const reserve = Math.floor(available - 200 * MiB);
  const { server, address, port } = await serve(
    t,
    '16M',
    '--reserve',
    String(reserve),
    '--reserve-period',
    '100',
    '--reserve-weight',
    '100',
  );
  const [idle, busy] = [probe(t), probe(t)];
  await idle.connect(address, port);
  await busy.connect(address, port);
  const [mine, its, other] = [await idle.bind(), await busy.bind(0), await busy.bind(1)];
  const { freeMemoryBytes, reserveBytes } = await server.status();
  const bytes = freeMemoryBytes - reserveBytes + 64 * MiB;
  const hog = spawn('python3', ['-c', `kept = bytearray(b"x") * ${bytes}; print("taken", flush=True); input()`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => hog.kill('SIGKILL'));
  await once(hog.stdout, 'data');
  // The free chunk goes first, without a word to anybody; then the clients are asked.
  const { chunks } = await idle.message('evict');
  assert.ok(chunks >= 1);
  const asked = await busy.message('evict');
  const activities = [
    { donorChunk: its.donorChunk, activity: 900 },
    { donorChunk: other.donorChunk, activity: 5 },
  ];
  busy.send({ type: 'activity', request: asked.request, activities });
  idle.send({ type: 'activity', request: 1, activities: [{ donorChunk: mine.donorChunk, activity: 1 }] });
  const stop = await idle.message('stop');
  assert.deepEqual(stop.donorChunks, [mine.donorChunk]);
  idle.send({ type: 'done', request: stop.request, donorChunks: stop.donorChunks });
  await busy.message('stop');
  const isBack = (status: Status): boolean => !status.clients.some((client) => client.chunks.includes(mine.donorChunk));
  await server.until('memory given back', (status) => status.chunks.limit < 4 && isBack(status));
  assert.equal(await server.stop(), 0);
});

// The last one: it takes the device away from whoever is on it.
test('the device is taken away, and comes back: everybody is told, nobody holds it, and lending goes on', async (t) => {
  const { server, address, port } = await serve(t, '8M');
  const client = probe(t);
  await client.connect(address, port);
  const bound = await client.bind();
  const begin = Date.now();
  await run('rdma', ['link', 'delete', 'rxe0']); // it waits until nobody has the device open, and we are one of those
  t.diagnostic(`rdma link delete took ${Date.now() - begin} ms`);
  await client.disconnected();
  assert.ok(!client.fabric.post(client.id, true, 999, 0, 4096, bound.address, bound.rkey), 'nothing is taken any more');
  await server.until(
    'the chunk, free again',
    ({ chunks, clients, listening }) => chunks.free === 2 && clients.length === 0 && listening === 0,
  );
  const alone = await client.knock(address, port, client.hello());
  assert.equal(alone.kind, 'unreachable');
  await run('rdma', ['link', 'add', 'rxe0', 'type', 'rxe', 'netdev', 'rdma-net']);
  await server.until('listening again', ({ listening }) => listening === 1);
  await client.connect(address, port);
  const again = await client.bind();
  client.fabric.arena.fill(4);
  assert.equal(await client.move(true, ARENA, again.address, again.rkey), 0);
  assert.equal(await server.stop(), 0);
});
