import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextWindow, powerOfTwoFrom } from '../../src/policy/prefetch/window.js';

test('the window that hits earn: the next power of two, up to the largest', () => {
  const earned = [1, 2, 3, 4, 7, 8, 100].map((hits) => nextWindow(hits, true, 0, 8));
  assert.deepEqual(earned, [2, 4, 4, 8, 8, 8, 8]);
  assert.equal(nextWindow(100, true, 0, 32), 32);
});

test('no hits: one page along the trend, none off it', () => {
  assert.equal(nextWindow(0, true, 0, 8), 1);
  assert.equal(nextWindow(0, true, 2, 8), 1);
  assert.equal(nextWindow(0, false, 0, 8), 0);
});

test('bad guesses halve the window until prefetching is suspended', () => {
  const windows: number[] = [];
  for (let window = 32, step = 0; step < 7; step++) windows.push((window = nextWindow(0, false, window, 32)));
  assert.deepEqual(windows, [16, 8, 4, 2, 1, 0, 0]);
});

test('a smaller maximum holds at once', () => {
  assert.equal(nextWindow(0, false, 32, 4), 4);
  assert.equal(nextWindow(9, true, 32, 1), 1);
  assert.equal(nextWindow(9, true, 32, 6), 6, 'and need not be a power of two');
});

test('powers of two', () => {
  for (let n = 1; n <= 5000; n++) {
    const power = powerOfTwoFrom(n);
    assert.ok(power >= n && power < 2 * n && (power & (power - 1)) === 0, `${n} -> ${power}`);
  }
  assert.equal(powerOfTwoFrom(2 ** 30), 2 ** 30);
});
