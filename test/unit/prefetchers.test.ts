import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PREFETCHERS, createPrefetcher, isPrefetcherName } from '../../src/policy/prefetch/index.js';
import { FaultKind, Plan } from '../../src/policy/prefetch/prefetcher.js';
import { pageIndex } from '../../src/core/types.js';
import { heapGrowth } from './models/heap.js';
import { StreamPager } from './models/stream-pager.js';
import { Rng } from './rng.js';

test('every name makes the policy of that name, and no other name does', () => {
  for (const name of PREFETCHERS) assert.equal(createPrefetcher(name).name, name);
  assert.ok(isPrefetcherName('next-n') && !isPrefetcherName('toString'));
  assert.throws(() => createPrefetcher('lru'), /unknown prefetcher lru; there are streams, leap, /);
  for (const options of [{ history: 0 }, { windowMax: -1 }, { windowMax: 1.5 }])
    assert.throws(() => createPrefetcher('leap', options), /positive integer/);
});

test('none never plans; next-n always plans the next N, at most 8', () => {
  const plan = new Plan();
  for (const [name, windowMax, count] of [
    ['none', 32, 0],
    ['next-n', 3, 3],
    ['next-n', 32, 8],
  ] as const) {
    const policy = createPrefetcher(name, { windowMax });
    for (let kind = 0; kind < 4; kind++) {
      policy.fault(pageIndex(77), 1, kind, 0, plan);
      assert.deepEqual([plan.count, plan.mapAhead], [count, false]);
      if (count > 0) assert.deepEqual([plan.start, plan.stride], [78, 1]);
    }
  }
});

test('a plan never outlives its fault: whatever a policy finds in it, it leaves only its own answer', () => {
  for (const name of PREFETCHERS) {
    const rng = new Rng(1);
    const [one, other] = [createPrefetcher(name), createPrefetcher(name)];
    const [clean, dirty] = [new Plan(), new Plan()];
    for (let step = 0; step < 500; step++) {
      const page = pageIndex(rng.below(4) === 0 ? rng.below(9999) : step);
      const kind = rng.below(4);
      clean.clear();
      Object.assign(dirty, { start: 5, stride: 7, count: 9, listed: 3, mapAhead: true });
      one.fault(page, 1, kind, 0, clean);
      other.fault(page, 1, kind, 0, dirty);
      assert.deepEqual([dirty.count, dirty.listed, dirty.mapAhead], [clean.count, clean.listed, clean.mapAhead], name);
      if (clean.count > 0) assert.deepEqual([dirty.start, dirty.stride], [clean.start, clean.stride], name);
    }
  }
});

test('no policy allocates on the fault path', () => {
  const rng = new Rng(2);
  const pages = Int32Array.from({ length: 100000 }, (_, i) => (i % 3 === 0 ? rng.below(1 << 20) : i));
  const plan = new Plan();
  for (const name of PREFETCHERS) {
    const policy = createPrefetcher(name);
    const grown = heapGrowth(() => {
      for (let i = 0; i < pages.length; i++) policy.fault(pageIndex(pages[i]), i % 80, FaultKind.miss, 0, plan);
    });
    assert.ok(grown < 100_000, `${name}: ${grown} bytes for ${pages.length} faults`);
  }
});

test('what each policy is for: demand misses of a sequential, a strided and a random pattern', () => {
  const misses = (name: string, next: (i: number) => number): number => {
    const pager = new StreamPager(createPrefetcher(name), 1 << 17);
    for (let i = 0; i < 8192; i++) pager.touch(next(i));
    return pager.misses;
  };
  const table = Object.fromEntries(
    PREFETCHERS.map((name) => [name, [misses(name, (i) => i), misses(name, (i) => i * 10)]]),
  );
  assert.deepEqual(table.none, [8192, 8192]);
  assert.ok(table.leap[0] < 5 && table.leap[1] < 5, `leap ${table.leap}`);
  assert.ok(table.stride[0] < 5 && table.stride[1] < 5, `stride ${table.stride}`);
  assert.ok(table['next-n'][0] < 5 && table['next-n'][1] === 8192, `next-n ${table['next-n']}`);
  assert.ok(table.readahead[0] < 8192 / 20 && table.readahead[1] === 8192, `readahead ${table.readahead}`);
});
