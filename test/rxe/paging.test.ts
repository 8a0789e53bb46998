/**
 * Programs that check their own memory, and programs that nobody here wrote, paged to donors over a real RDMA stack: no
 * wrong byte, and the traffic was remote. The donors serve all of them: what one program left in a chunk, the next must
 * not see.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Child, describeExit, sleep } from '../e2e/child.js';
import { type Leapd, type Options, paged, Scene, START_MS, type Stats } from '../e2e/harness.js';
import { missing } from '../e2e/programs.js';
import { dataSet, digestOfFile, loaded } from '../e2e/redis.js';
import { addressOf, Donor, donorOf, portal, until } from './donors.js';
import { notInVm } from './harness.js';

const timeout = 420_000;
const options = { skip: notInVm, timeout: 4 * timeout };
const two = [addressOf(2), addressOf(3)];

/** What leapd keeps of them in the process and in frames is 320 pages. */
const work: Options = { pages: 448, rounds: 1 };
const few: Options = { 'prefetch-buffer': 32 };

/** What must hold when every page has its copies on donors. */
function assertRemote(t: TestContext, stats: Stats): void {
  assert.ok(stats['remoteWrites']! > 0 && stats['remoteReads']! > 0, JSON.stringify(stats));
  for (const bad of ['hashMismatches', 'lostPages', 'readErrors', 'writeErrors']) assert.equal(stats[bad], 0, bad);
  t.diagnostic(
    `${stats['remoteReads']} pages read from donors, ${stats['remoteWrites']} written; ${stats['swapWrites']} written to the swap file`,
  );
}

const onBoth = (leapd: Leapd) =>
  until(leapd, 'chunks on both donors', (now) => two.every((address) => (donorOf(now, address)?.chunks ?? 0) > 0));

// Two programs at a time: most of a program's time is that of a leapd that starts, on one CPU.
test('two copies on two donors', { ...options, concurrency: 2 }, async (t) => {
  const scene = new Scene(t);
  await Promise.all(two.map((address) => Donor.start(scene, address, { memory: '64M' })));
  const leapd: Options = { portal: portal(scene, two) };

  const programs = [
    'mix',
    'threads',
    'forker',
    'syscalls',
    'grow',
    'advise',
    'spawner',
    'exiter',
    'unprivileged',
    'seccomp',
  ];
  const all = programs.map((program) =>
    t.test(program, { timeout }, async (each) => {
      let stats: Stats = {};
      await paged(each, {
        program,
        options: work,
        leapd: { ...leapd, ...few },
        end: 'detach',
        before: onBoth,
        meanwhile: async (target, running) => {
          await target.line(/^HOLD$/, timeout);
          stats = await running.stats();
        },
      });
      assertRemote(each, stats);
    }),
  );

  const memtester = t.test('memtester', { timeout, skip: missing('memtester', 'setpriv', 'prlimit') }, async (each) => {
    const mine = new Scene(each);
    // As nobody and without the right to lock memory: locked memory is not paged. The mask leaves two of the tests, of
    // which the second rests on the first.
    const command = [
      '--memlock=0:0',
      'setpriv',
      '--reuid=65534',
      '--regid=65534',
      '--clear-groups',
      'memtester',
      '4M',
      '1',
    ];
    const tester = mine.add(
      new Child('memtester', 'prlimit', command, {
        cwd: '/',
        env: { ...process.env, MEMTESTER_TEST_MASK: String(0b11) },
      }),
    );
    await tester.line(/^Loop 1\/1/, START_MS);
    process.kill(tester.pid, 'SIGSTOP');
    const running = await mine.attach(tester.pid, leapd);
    await onBoth(running);
    process.kill(tester.pid, 'SIGCONT');
    let stats: Stats = {};
    for (let looks = 0; tester.exit === undefined && looks < 2000; looks++) {
      stats = await running.stats().catch(() => stats); // leapd ends with it
      await sleep(200);
    }
    assert.equal(describeExit(await tester.end(timeout)), 'code 0', tester.tail(2).slice(-600));
    assert.ok(tester.lines.includes('Done.'));
    assertRemote(each, stats);
    await running.cleanEnd();
  });

  await Promise.all([...all, memtester]);

  // By itself: it waits for redis-cli without letting anybody else go on.
  await t.test('redis-server', { timeout, skip: missing('redis-server', 'redis-cli') }, async (each) => {
    const mine = new Scene(each);
    const redis = await loaded(mine, 'redis', dataSet(0.08));
    const digest = redis.digest();
    const running = await mine.attach(redis.pid, { ...leapd, 'local-memory': '2M' });
    await onBoth(running);
    await until(running, 'the limit', (now) => now['residentPages']! <= now['localLimitPages']!);
    const file = await redis.bgsave(() => redis.cli('set', 'one', 'more'));
    redis.cli('del', 'one');
    assert.equal(
      await digestOfFile(mine, file, 'fresh'),
      digest,
      'the digest of what a forked child saved, most of which was on the donors',
    );
    assert.equal(redis.digest(), digest, 'the digest under leapd');
    assertRemote(each, await running.stats());
    await running.detach();
    assert.equal(redis.digest(), digest, 'the digest after the detach');
  });
});

test(
  'one donor, IPv6, a token, a chunk size: the second copy is in the swap file, and reads are remote',
  options,
  async (t) => {
    const scene = new Scene(t);
    const address = '[fd00:9::2]:9400';
    const token = join(scene.directory, 'token');
    writeFileSync(token, 'not quite a secret, but long enough\n', { mode: 0o600 });
    await Donor.start(scene, address, { 'token-file': token });
    let stats: Stats = {};
    await paged(t, {
      program: 'mix',
      options: { pages: 768 },
      leapd: { portal: portal(scene, [address]), 'token-file': token, chunk: '4M' },
      before: (running) => until(running, 'a chunk', (now) => (donorOf(now, address)?.chunks ?? 0) > 0),
      meanwhile: async (_target, running) =>
        void (stats = await until(
          running,
          'remote traffic',
          (now) => now['remoteReads']! > 50 && now['remoteWrites']! > 50,
        )),
      endless: true,
      busyMs: 0,
    });
    assertRemote(t, stats);
    assert.ok(stats['swapWrites']! > 0, 'every page has a copy in the swap file');
  },
);
