import assert from 'node:assert/strict';
import { test } from 'node:test';
import { History } from '../../src/policy/prefetch/history.js';
import { ThreadTable } from '../../src/policy/prefetch/threads.js';
import { Rng } from './rng.js';

const contents = (history: History, row: number): number[] =>
  Array.from(history.deltas.subarray(history.newest(row), history.newest(row) + history.length(row)));

test('a history keeps the newest deltas, newest first', () => {
  const history = new History(1, 4);
  assert.deepEqual(contents(history, 0), []);
  for (const delta of [1, 2, 3, 4, 5]) history.log(0, delta);
  assert.deepEqual(contents(history, 0), [5, 4, 3, 2]);
});

test('against a naive model: rows of any capacity do not disturb each other', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const rng = new Rng(seed);
    const rows = 1 + rng.below(5);
    const capacity = 1 + rng.below(40);
    const history = new History(rows, capacity);
    const model: number[][] = Array.from({ length: rows }, () => []);
    for (let step = 0; step < 500; step++) {
      const row = rng.below(rows);
      if (rng.below(100) === 0) {
        history.clear(row);
        model[row] = [];
      } else {
        const delta = rng.below(2000) - 1000;
        history.log(row, delta);
        model[row] = [delta, ...model[row]].slice(0, capacity);
      }
      for (let r = 0; r < rows; r++) assert.deepEqual(contents(history, r), model[r], `seed ${seed} step ${step}`);
    }
  }
});

test('a history of no entries is refused', () => {
  for (const capacity of [0, -1, 1.5, NaN]) assert.throws(() => new History(1, capacity), RangeError);
});

test('threads against a naive model: the least recent one gives up its row', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const rng = new Rng(seed);
    const rows = 1 + rng.below(8);
    const table = new ThreadTable(rows);
    let recent: number[] = []; // newest first
    const rowOf = new Map<number, number>();
    for (let step = 0; step < 500; step++) {
      // Thread ids that share their low bits, and 0, the unknown thread, among them.
      const thread = rng.below(3) * 256 + rng.below(6);
      const known = recent.includes(thread);
      const row = table.row(thread);
      assert.equal(table.isNew, !known, `seed ${seed} step ${step}`);
      if (known) assert.equal(row, rowOf.get(thread));
      recent = [thread, ...recent.filter((other) => other !== thread)];
      if (recent.length > rows) assert.equal(row, rowOf.get(recent.pop()!), 'the row of the least recent');
      rowOf.set(thread, row);
      assert.equal(new Set(recent.map((other) => rowOf.get(other))).size, recent.length, 'one row a thread');
    }
  }
});
