/**
 * Coming and going: the target is as it was afterwards, as often as you like, whatever it does meanwhile; and what can
 * be changed in between.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { poll, sleep } from './child.js';
import {
  assertPaged,
  assertSame,
  cannotRun,
  evictWays,
  reference,
  Scene,
  settled,
  START_MS,
  TINY_PAGES,
  WORK_MS,
} from './harness.js';
import * as proc from './proc.js';

const skip = cannotRun;
const timeout = 120_000;

for (const evict of evictWays) {
  test(`a detach leaves everything as it was, evict ${evict}`, { skip, timeout }, async (t) => {
    const scene = new Scene(t);
    const target = scene.target('mix', { pages: 2048 });
    const pid = await target.ready();
    const before = proc.view(pid, true);
    const used = proc.anonymousPages(pid);
    const leapd = await scene.attach(pid, { evict });
    const stats = await settled(leapd, TINY_PAGES);
    assert.ok(stats['storedPages']! + stats['bufferedPages']! > 1500, JSON.stringify(stats));
    await leapd.detach();
    assertSame(before, proc.view(pid, true));
    assert.ok(proc.anonymousPages(pid) >= used - 32, `${proc.anonymousPages(pid)} pages are back of ${used}`);
    target.send('go');
    await target.finish();
  });
}

test('attached and detached three times, at work all the while', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('threads', { rounds: 0 });
  const pid = await target.ready();
  target.send('go');
  await sleep(50);
  const before = proc.descriptors(pid);
  for (let i = 0; i < 3; i++) {
    const leapd = await scene.attach(pid, { evict: i % 2 === 0 ? 'move' : 'discard' });
    await sleep(150);
    await leapd.detach();
    assert.deepEqual(proc.descriptors(pid), before);
    assert.equal(proc.registered(pid), 0);
    assert.deepEqual(proc.children(pid), []);
  }
  target.send('stop');
  const { checksum, rounds } = await target.finish();
  assert.deepEqual([`DONE ${checksum} ${rounds}`], await reference(scene, 'threads', { rounds }));
});

test('leapctl stats prints one JSON object with all that is promised', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 2 });
  const leapd = await scene.attach(await target.ready());
  const printed = leapd.ctl('stats', String(leapd.target), '--json').trim();
  assert.equal(printed.split('\n').length, 1);
  const stats = JSON.parse(printed) as Record<string, unknown>;
  const numbers = [
    ...[
      'pid',
      'uptimeSeconds',
      'localLimitPages',
      'residentPages',
      'storedPages',
      'bufferedPages',
      'zeroPages',
      'faults',
      'demandReads',
    ],
    ...[
      'prefetchIssued',
      'prefetchHits',
      'prefetchUnused',
      'mappedAhead',
      'trendsFound',
      'trendsTried',
      'evictions',
      'cleanEvictions',
    ],
    ...['swapReads', 'swapWrites', 'bytesRead', 'bytesWritten'],
  ];
  for (const name of numbers) assert.equal(typeof stats[name], 'number', name);
  assert.equal(stats['pid'], leapd.target);
  assert.equal(stats['state'], 'paging');
  assert.deepEqual(Object.keys(stats['faultLatencyNs'] as object), ['p50', 'p99', 'p999', 'max']);
  target.send('go');
  await target.finish();
  await leapd.cleanEnd();
});

test('detached by leapctl', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 2 });
  const leapd = await scene.attach(await target.ready());
  await settled(leapd, TINY_PAGES);
  leapd.ctl('detach', String(leapd.target));
  await leapd.cleanEnd();
  target.send('go');
  await target.finish();
});

for (const evict of evictWays) {
  test(`the limit goes down and up while the target works, evict ${evict}`, { skip, timeout }, async (t) => {
    const scene = new Scene(t);
    const target = scene.target('threads', { rounds: 0, pages: 2048 });
    const pid = await target.ready();
    const leapd = await scene.attach(pid, { evict, 'local-memory': '4M' });
    target.send('go');
    for (const [size, pages] of [
      ['1M', 256],
      ['256K', 64],
      ['3M', 768],
      ['50%', undefined],
    ] as const) {
      await leapd.set({ 'local-memory': size });
      await sleep(250);
      if (pages !== undefined) assertPaged(await settled(leapd, pages, 800), pages);
    }
    target.send('stop');
    const { checksum, rounds } = await target.finish();
    await leapd.cleanEnd();
    assert.deepEqual([`DONE ${checksum} ${rounds}`], await reference(scene, 'threads', { rounds, pages: 2048 }));
  });
}

test('prefetch, history and buffer change while the target works', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 0, mode: 'read', pages: 4096 });
  const pid = await target.ready();
  const leapd = await scene.attach(pid);
  target.send('go');
  await poll('prefetch hits of a forward read', START_MS, async () =>
    (await leapd.stats())['prefetchHits']! > 0 ? true : undefined,
  );
  leapd.ctl('set', String(pid), 'prefetch=none');
  await sleep(100);
  const { prefetchIssued: issued, faults } = await leapd.stats();
  await sleep(200);
  const later = await leapd.stats();
  assert.equal(later['prefetchIssued'], issued, 'nothing is prefetched with prefetch=none');
  assert.ok(later['faults']! > faults!, 'and faults go on');
  const settings = [
    'prefetch=stride',
    'prefetch=readahead',
    'prefetch=next-n',
    'prefetch=leap',
    'history=8',
    'history=64',
    'prefetch-buffer=0',
    'prefetch-buffer=200',
  ];
  for (const setting of settings) {
    const [name = '', value = ''] = setting.split('=');
    await leapd.set({ [name]: value });
    await sleep(60);
  }
  target.send('stop');
  await target.finish();
  await leapd.cleanEnd();
});

test('detached under heavy load', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('threads', { rounds: 0, pages: 4096 });
  const pid = await target.ready();
  const leapd = await scene.attach(pid);
  target.send('go');
  await sleep(500);
  await leapd.detach();
  assert.equal(proc.registered(pid), 0);
  await sleep(100);
  target.send('stop');
  await target.finish();
});

// Their system calls wait, uninterruptibly, until leapd has read what they do to their memory: also in the moment in
// which it leaves.
for (const program of ['grow', 'unmap', 'advise', 'spawner', 'syscalls']) {
  test(`detached in the middle of ${program}, twice`, { skip, timeout }, async (t) => {
    const scene = new Scene(t);
    const options = { rounds: 0, seed: 4, pages: 1500 };
    const target = scene.target(program, options);
    const pid = await target.ready();
    target.send('go');
    for (let i = 0; i < 2; i++) {
      const leapd = await scene.attach(pid);
      await sleep(150);
      await leapd.detach();
      assert.equal(
        proc.family(pid).reduce((sum, one) => sum + proc.registered(one), 0),
        0,
        'mappings still registered',
      );
    }
    target.send('stop');
    const { checksum, rounds } = await target.finish(WORK_MS);
    assert.deepEqual([`DONE ${checksum} ${rounds}`], await reference(scene, program, { ...options, rounds }));
  });
}

test('detached while children are paged too', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('forker', { rounds: 0, pages: 512 });
  const pid = await target.ready();
  const leapd = await scene.attach(pid);
  target.send('go');
  await sleep(400);
  await leapd.detach();
  assert.equal(
    proc.family(pid).reduce((sum, one) => sum + proc.registered(one), 0),
    0,
    'mappings still registered',
  );
  target.send('stop');
  const { checksum, rounds } = await target.finish(WORK_MS);
  assert.deepEqual([`DONE ${checksum} ${rounds}`], await reference(scene, 'forker', { rounds, pages: 512 }));
});

test('two signals: the second is answered with a word, not obeyed', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { pages: 8192, rounds: 1 });
  const leapd = await scene.attach(await target.ready());
  await settled(leapd, TINY_PAGES);
  leapd.kill('SIGTERM');
  leapd.kill('SIGINT');
  await leapd.cleanEnd(START_MS);
  target.send('go');
  await target.finish();
});
