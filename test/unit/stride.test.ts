import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FaultKind, Plan } from '../../src/policy/prefetch/prefetcher.js';
import { StridePrefetcher } from '../../src/policy/prefetch/stride.js';
import { pageIndex } from '../../src/core/types.js';
import { StreamPager } from './models/stream-pager.js';

const OPTIONS = { history: 32, windowMax: 8 };

/** The stride prefetched along after each fault, or 0. */
function strides(policy: StridePrefetcher, pages: readonly number[], thread = 1): number[] {
  const plan = new Plan();
  return pages.map((page) => {
    policy.fault(pageIndex(page), thread, FaultKind.miss, 0, plan);
    assert.ok(plan.count === 0 || (plan.count === 8 && plan.start === page + plan.stride && !plan.mapAhead));
    return plan.count === 0 ? 0 : plan.stride;
  });
}

test('every cell of the state table', () => {
  // initial -> transient -> steady -> steady
  assert.deepEqual(strides(new StridePrefetcher(OPTIONS), [100, 103, 106, 109]), [0, 0, 3, 3]);
  // transient -> transient with another stride -> steady
  assert.deepEqual(strides(new StridePrefetcher(OPTIONS), [100, 103, 108, 113]), [0, 0, 0, 5]);
  // steady -> initial, the stride kept -> steady at once
  assert.deepEqual(strides(new StridePrefetcher(OPTIONS), [0, 3, 6, 500, 503]), [0, 0, 3, 0, 3]);
  // steady -> initial -> transient: two odd faults do end it
  assert.deepEqual(strides(new StridePrefetcher(OPTIONS), [0, 3, 6, 500, 510, 513, 516]), [0, 0, 3, 0, 0, 0, 3]);
});

test('a second fault on the same page changes nothing', () => {
  assert.deepEqual(strides(new StridePrefetcher(OPTIONS), [0, 0, 2, 2, 4, 4, 6]), [0, 0, 0, 0, 2, 0, 2]);
});

test('each thread has a stride of its own', () => {
  const policy = new StridePrefetcher(OPTIONS);
  const seen: number[] = [];
  for (let i = 0; i < 4; i++) seen.push(...strides(policy, [i * 2], 1), ...strides(policy, [900 - i * 5], 2));
  assert.deepEqual(seen, [0, 0, 0, 0, 2, -5, 2, -5]);
});

test('a strided stream misses only until the stride is confirmed', () => {
  const pager = new StreamPager(new StridePrefetcher(OPTIONS), 8192);
  for (let page = 0; page < 8192; page += 10) pager.touch(page);
  assert.equal(pager.misses, 3);
  assert.equal(pager.mappedAhead, 0);
});
