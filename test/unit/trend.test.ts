import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NO_TREND, findTrend } from '../../src/policy/prefetch/trend.js';
import { Rng } from './rng.js';

const trendOf = (newestFirst: number[], capacity: number): number =>
  findTrend(Int32Array.from(newestFirst), 0, newestFirst.length, capacity);

/**
 * The definition: of the windows capacity/4, capacity/2..., the first in which one delta stands more often than all
 * others together.
 */
function naiveTrend(newestFirst: number[], capacity: number): number {
  for (let window = Math.max(1, Math.floor(capacity / 4)); window <= capacity; window *= 2) {
    const seen = newestFirst.slice(0, window);
    for (const delta of new Set(seen)) {
      if (delta !== 0 && seen.filter((other) => other === delta).length * 2 > seen.length) return delta;
    }
  }
  return NO_TREND;
}

test('a steady stride is a trend from the second fault on', () => {
  assert.equal(trendOf([], 32), NO_TREND);
  assert.equal(trendOf([3], 32), 3);
  assert.equal(trendOf(new Array<number>(32).fill(-7), 32), -7);
});

test('a delta of 0 is no trend, however often it stands there', () => {
  assert.equal(trendOf(new Array<number>(32).fill(0), 32), NO_TREND);
  assert.equal(trendOf([0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4], 16), 4, 'a larger window sees past it');
});

test('a new trend wins in the small window before it has the majority of the large one', () => {
  assert.equal(trendOf([2, 2, 2, 9, 2, 2, 1, 1, ...new Array<number>(24).fill(1)], 32), 2);
});

test('half is no majority', () => {
  assert.equal(trendOf([1, 2, 1, 2], 4), 1, 'a window of 1');
  assert.equal(trendOf([5, 1, 5, 1, 6, 1, 7, 1], 32), NO_TREND, 'four of eight');
  assert.equal(trendOf([5, 1, 5, 1, 1, 1, 7, 1], 32), 1, 'five of eight');
});

test('entries that do not exist are not voted on, and what lies behind them is not read', () => {
  const deltas = Int32Array.from([9, 9, 4, 6, 6, 6, 6, 6]);
  assert.equal(findTrend(deltas, 0, 3, 8), 9);
  assert.equal(findTrend(deltas, 2, 1, 8), 4);
});

test('against the definition, with few different deltas and any capacity', () => {
  let found = 0;
  for (let seed = 1; seed <= 4000; seed++) {
    const rng = new Rng(seed);
    const capacity = 1 + rng.below(40);
    const values = 1 + rng.below(4);
    const deltas = Array.from({ length: rng.below(capacity + 1) }, () => (rng.below(3) === 0 ? 1 : rng.below(values)));
    const trend = trendOf(deltas, capacity);
    assert.equal(trend, naiveTrend(deltas, capacity), `seed ${seed}: ${deltas.join(' ')} of ${capacity}`);
    if (trend !== NO_TREND) found++;
  }
  assert.ok(found > 500 && found < 3900, `both outcomes are met: ${found}`);
});
