/**
 * Redis: loaded, attached at 30 %, hit with redis-benchmark, saved by BGSAVE (a forked child that reads everything
 * while the parent goes on writing). What is compared with a run without leapd: DEBUG DIGEST, a hash of the whole data
 * set, of the live server, and of a fresh server that has loaded the saved file. The files' own bytes differ between
 * any two runs: they hold the time, the memory in use, and the keys in an order that a random seed decides.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertSame, Scene, type Options } from './harness.js';
import * as proc from './proc.js';
import { missing } from './programs.js';
import { dataSet, digestOfFile, loaded } from './redis.js';

const skip = missing('redis-server', 'redis-cli', 'redis-benchmark');
const timeout = 150_000;

async function withoutLeapd(scene: Scene, data: Buffer): Promise<readonly string[]> {
  const redis = await loaded(scene, 'without', data);
  const first = redis.digest();
  redis.benchmark();
  const file = await redis.bgsave(() => redis.benchmark());
  const digests = [first, redis.digest(), await digestOfFile(scene, file, 'without-fresh')];
  redis.kill('SIGKILL');
  return digests;
}

for (const [evict, share] of [
  ['move', 1],
  ['discard', 0.25],
] as const) {
  test(
    `redis-server: load, attach at 30 %, benchmark, BGSAVE, detach; evict ${evict}`,
    { skip, timeout },
    async (t) => {
      const scene = new Scene(t);
      const data = dataSet(share);
      const digests = await withoutLeapd(scene, data);

      const redis = await loaded(scene, 'with', data);
      await redis.alone();
      const before = proc.view(redis.pid, false);
      const options: Options = { 'local-memory': '30%', 'window-max': 32, 'prefetch-buffer': 2000, evict };
      const leapd = await scene.attach(redis.pid, options);
      assert.equal(redis.digest(), digests[0], 'the digest after the attach');
      redis.benchmark();
      const file = await redis.bgsave(() => redis.benchmark());
      assert.equal(redis.digest(), digests[1], 'the digest after the benchmark');
      assert.equal(await digestOfFile(scene, file, 'fresh'), digests[2], 'the digest of the saved file');
      const stats = await leapd.stats();
      assert.ok(stats['faults']! > 1000 && stats['evictions']! > 1000, JSON.stringify(stats));
      await leapd.detach();
      await redis.alone();
      assertSame(before, proc.view(redis.pid, false));
      assert.equal(redis.digest(), digests[1], 'the digest after the detach');
      t.diagnostic(`${stats['faults']} faults, ${stats['evictions']} evictions, ${stats['forks']} forks`);
    },
  );
}
