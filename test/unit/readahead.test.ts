import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FaultKind, Plan } from '../../src/policy/prefetch/prefetcher.js';
import { ReadaheadPrefetcher } from '../../src/policy/prefetch/readahead.js';
import { pageIndex } from '../../src/core/types.js';
import { StreamPager } from './models/stream-pager.js';
import { Rng } from './rng.js';

const { miss, prefetchHit, evictedHit, zero } = FaultKind;
const OPTIONS = { history: 32, windowMax: 8 };

/** The pages of each plan, "first-last". */
function clusters(policy: ReadaheadPrefetcher, faults: readonly (readonly [page: number, kind: number])[]): string[] {
  const plan = new Plan();
  return faults.map(([page, kind]) => {
    policy.fault(pageIndex(page), 1, kind, 0, plan);
    return plan.count === 0 ? '-' : `${plan.start}-${plan.start + plan.count - 1}`;
  });
}

test('no hits: alone, or with its pair when it is next to the last miss', () => {
  const policy = new ReadaheadPrefetcher(OPTIONS);
  assert.deepEqual(
    clusters(policy, [
      [100, miss],
      [205, miss],
      [206, miss],
      [207, miss],
      [50, miss],
    ]),
    ['-', '-', '206-207', '206-207', '-'],
  );
  assert.deepEqual(
    clusters(new ReadaheadPrefetcher(OPTIONS), [
      [0, miss],
      [9, miss],
      [8, miss],
    ]),
    ['-', '-', '8-9'],
    'backwards too',
  );
});

test('hits widen the aligned cluster, to windowMax; without them it is halved', () => {
  const policy = new ReadaheadPrefetcher(OPTIONS);
  assert.deepEqual(
    clusters(policy, [
      [101, prefetchHit],
      [103, miss],
    ]),
    ['-', '100-103'],
  );
  const hits = [1, 2, 3, 4, 5, 6, 7].map((page) => [page, prefetchHit] as const);
  assert.equal(clusters(policy, [...hits, [1021, miss]]).at(-1), '1016-1023');
  assert.deepEqual(
    clusters(policy, [
      [37, miss],
      [75, miss],
      [500, miss],
    ]),
    ['36-39', '74-75', '-'],
  );
});

test('only misses read, and only prefetched pages are hits', () => {
  const policy = new ReadaheadPrefetcher(OPTIONS);
  assert.deepEqual(
    clusters(policy, [
      [1, zero],
      [2, zero],
      [3, evictedHit],
      [4, evictedHit],
      [5, miss],
    ]),
    ['-', '-', '-', '-', '-'],
  );
});

test('a windowMax that is no power of two is rounded down; 1 reads nothing ahead', () => {
  const policy = new ReadaheadPrefetcher({ history: 1, windowMax: 7 });
  const hits = Array.from({ length: 20 }, (_, page) => [page, prefetchHit] as const);
  assert.equal(clusters(policy, [...hits, [1021, miss]]).at(-1), '1020-1023');
  policy.configure({ history: 1, windowMax: 1 });
  assert.equal(clusters(policy, [...hits, [1021, miss]]).at(-1), '-');
});

test('against the rule, for any faults', () => {
  for (let seed = 1; seed <= 50; seed++) {
    const rng = new Rng(seed);
    const max = 1 << rng.below(7);
    const policy = new ReadaheadPrefetcher({ history: 1, windowMax: max });
    const plan = new Plan();
    let [hits, last, cluster, page] = [0, -2, 0, 0];
    for (let step = 0; step < 1000; step++) {
      page = rng.below(2) === 0 ? page + 1 : rng.below(5000);
      const kind = [miss, prefetchHit, prefetchHit, zero][rng.below(4)];
      policy.fault(pageIndex(page), rng.below(3), kind, 0, plan);
      if (kind === prefetchHit) hits++;
      if (kind !== miss) {
        assert.equal(plan.count, 0);
        continue;
      }
      let want = hits === 0 ? (page === last + 1 || page === last - 1 ? 2 : 1) : 4;
      while (hits > 0 && want < hits + 2) want *= 2;
      cluster = Math.max(Math.min(want, max), Math.floor(cluster / 2), 1);
      hits = 0;
      last = page;
      const first = Math.floor(page / cluster) * cluster;
      assert.deepEqual(
        [plan.count, plan.count && plan.start],
        cluster === 1 ? [0, 0] : [cluster, first],
        `seed ${seed} step ${step}`,
      );
    }
  }
});

test('a sequential stream misses once a cluster; a stride of 10 every time', () => {
  const sequential = new StreamPager(new ReadaheadPrefetcher(OPTIONS), 8192);
  for (let page = 0; page < 8192; page++) sequential.touch(page);
  assert.ok(sequential.misses < 8192 / 8 + 10, `${sequential.misses}`);
  const strided = new StreamPager(new ReadaheadPrefetcher(OPTIONS), 8192);
  for (let page = 0; page < 8192; page += 10) strided.touch(page);
  assert.equal(strided.misses, 820);
});
