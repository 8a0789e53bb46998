import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createPrefetcher } from '../../src/policy/prefetch/index.js';
import { FaultKind, Plan } from '../../src/policy/prefetch/prefetcher.js';
import { Advice } from '../../src/tables/regions.js';
import { pageIndex } from '../../src/core/types.js';
import { StreamPager } from './models/stream-pager.js';
import { Rng } from './rng.js';

const misses = (
  next: (i: number) => number,
  touches = 8192,
  threadOf: (i: number) => number = () => 1,
): StreamPager => {
  const pager = new StreamPager(createPrefetcher('streams'), 1 << 18);
  for (let i = 0; i < touches; i++) pager.touch(next(i), threadOf(i));
  return pager;
};

test('one stream, up, down or in strides, costs a handful of misses', () => {
  for (const stride of [1, -1, 2, 7, 10, -30]) {
    const { misses: missed } = misses((i) => 130_000 + i * stride, 4096);
    assert.ok(missed <= 4, `stride ${stride}: ${missed}`);
  }
});

test('a stride beyond any neighbourhood is found when it is seen alone', () => {
  assert.ok(misses((i) => i * 1000, 250).misses <= 4);
});

test('eight streams in one thread, taken at random, cost a handful of misses each', () => {
  const rng = new Rng(3);
  const at = Array.from({ length: 8 }, (_, stream) => stream * 30_000 + 15_000);
  const strides = [1, -1, 2, 3, 10, -4, 1, 5];
  const pager = misses(() => {
    const stream = rng.below(8);
    return (at[stream] += strides[stream]);
  }, 8000);
  assert.ok(pager.misses <= 8 * 5, `${pager.misses} misses`);
});

test('threads that share one stream, each taking the next page, are seen in the region', () => {
  const rng = new Rng(5);
  const { misses: missed } = misses(
    (i) => i,
    8192,
    () => 1 + rng.below(4),
  );
  assert.ok(missed < 8192 / 20, `${missed} misses`);
});

test('a stream of which only every third page is touched becomes a stream of stride three', () => {
  const policy = createPrefetcher('streams');
  const pager = new StreamPager(policy, 1 << 18);
  for (let i = 0; i < 64; i++) pager.touch(i);
  for (let i = 64; i < 3000; i += 3) pager.touch(i);
  assert.ok(pager.fetched < 64 + 1000 + 300, `${pager.fetched} pages fetched for ${64 + 979} touched`);
});

test('a thread that has gone by strides does so elsewhere: two faults tell, though pages between are resident and others came between', () => {
  const skips = [2, 1, 3, 1, 2, 4, 1, 3, 2, 1, 4, 2, 3, 1];
  for (const stride of [10, -30]) {
    const pager = misses((i) => 100_000 + i * stride, 200);
    const before = pager.misses;
    let at = 180_000;
    for (let i = 0; i < 100; i++) {
      if (i < 8) pager.touch(5000 + i * 977); // each where the thread might have gone on
      pager.touch((at += stride * skips[i % skips.length]));
    }
    assert.ok(pager.misses - before <= 8 + 4, `stride ${stride}: ${pager.misses - before} misses`);
  }
});

test('random faults bring next to nothing, and a stream after them is found within a few', () => {
  const rng = new Rng(11);
  const pager = new StreamPager(createPrefetcher('streams'), 1 << 18);
  for (let i = 0; i < 20_000; i++) pager.touch(rng.below(1 << 17));
  assert.ok(pager.fetched <= 0.02 * pager.misses, `${pager.fetched} fetched for ${pager.misses} misses`);
  const before = pager.misses;
  for (let i = 0; i < 1000; i++) pager.touch(200_000 + i);
  assert.ok(pager.misses - before <= 8, `${pager.misses - before} misses of the stream`);
});

test('what follows at random distances nearby is learnt, and forgotten again', () => {
  const rng = new Rng(13);
  const pager = new StreamPager(createPrefetcher('streams'), 1 << 18);
  // Blocks of eight pages, each touched whole in an order of its own: no stream, but a neighbourhood.
  const order = [3, 6, 1, 4, 7, 2, 5, 0];
  let touched = 0;
  for (let block = 0; block < 2000; block++) {
    const first = rng.below(1 << 14) * 16;
    for (const page of order) {
      pager.touch(first + page);
      touched++;
    }
  }
  assert.ok(pager.hits > touched / 3, `${pager.hits} hits of ${touched}`);
});

/**
 * Of a stream of which so many touches go elsewhere, with so many others waiting at each fault, once it is known: what
 * is mapped ahead, its largest plan, ...
 */
function noisy(crowd: number, noise: number): { mapped: number; largest: number; hits: number; streamed: number } {
  const rng = new Rng(17);
  const pager = new StreamPager(createPrefetcher('streams'), 1 << 18);
  pager.crowd = crowd;
  const touch = (i: number): void => pager.touch(rng.below(1000) < noise * 1000 ? 100_000 + rng.below(100_000) : i);
  for (let i = 0; i < 4000; i++) touch(i);
  const before = pager.mappedAhead;
  const { hits, streamed } = pager;
  pager.largestPlan = 0;
  for (let i = 4000; i < 8000; i++) touch(i);
  return {
    mapped: pager.mappedAhead - before,
    largest: pager.largestPlan,
    hits: pager.hits - hits,
    streamed: pager.streamed - streamed,
  };
}

test('where threads crowd the pager, a stream with holes is read ahead in small pieces, not mapped ahead, and its pages are said to be passed; alone, and without holes, it is mapped', () => {
  const alone = noisy(0, 0.2);
  assert.ok(alone.mapped > 1500 && alone.largest >= 16 && alone.streamed === 0, JSON.stringify(alone));
  const crowded = noisy(3, 0.2);
  assert.ok(
    crowded.mapped < 100 &&
      crowded.largest <= 8 &&
      crowded.hits > 2800 &&
      crowded.streamed > 2800 &&
      crowded.streamed < 3400,
    JSON.stringify(crowded),
  );
  const whole = noisy(3, 0);
  assert.ok(whole.mapped > 3700 && whole.largest >= 32 && whole.streamed === 0, JSON.stringify(whole));
});

test('madvise: RANDOM reads nothing ahead, SEQUENTIAL does from the first fault on', () => {
  const policy = createPrefetcher('streams');
  const plan = new Plan();
  plan.advice = Advice.random;
  for (let i = 0; i < 100; i++) {
    policy.fault(pageIndex(i), 1, FaultKind.miss, 0, plan);
    assert.equal(plan.count, 0);
  }
  plan.advice = Advice.sequential;
  policy.fault(pageIndex(5000), 1, FaultKind.miss, 0, plan);
  assert.deepEqual([plan.start, plan.stride, plan.count], [5001, 1, 8]);
});

test('the kernel patch: one history for all threads, a trend of zeros at first, at most eight pages', () => {
  const policy = createPrefetcher('leap-kernel');
  const plan = new Plan();
  const plans: number[] = [];
  for (let i = 0; i < 64; i++) {
    policy.fault(pageIndex(1000 + i * 10), 1, i % 2 === 0 ? FaultKind.miss : FaultKind.prefetchHit, 0, plan);
    plans.push(plan.count);
  }
  assert.ok(
    plans.slice(0, 4).every((count) => count === 0),
    'the zeros of a young history are a trend that leads nowhere',
  );
  assert.ok(plans.every((count) => count < 8) && plans.some((count) => count > 0));
  policy.fault(pageIndex(1000 + 640), 1, FaultKind.miss, 0, plan);
  assert.deepEqual([plan.stride, plan.start], [10, 1650]);
});
