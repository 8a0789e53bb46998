/** ReadCost on stores whose latency and cost a page are known. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Figure, LEAST_USE, ReadCost } from '../../src/store/read-cost.js';

const near = (value: number, expected: number, share: number): void =>
  assert.ok(Math.abs(value - expected) <= share * expected, `${value}, expected ${expected}`);

/** Reads of a store that serves one page after the other, with `depth(i)` other pages in flight. */
function measured(latency: number, perPage: number, depth: (i: number) => number, reads = 2000): ReadCost {
  const clock = new Float64Array([1, 1]);
  const cost = new ReadCost(4, clock);
  for (let i = 0; i < reads; i++) {
    const others = depth(i);
    cost.begin(i % 4, others);
    clock[0] += latency + others * perPage;
    cost.end(i % 4, 1);
  }
  return cost;
}

test('before the first read the default holds', () => {
  assert.equal(new ReadCost(1, new Float64Array(2)).figures[Figure.leastUse], LEAST_USE);
});

test('latency and cost a page are found from reads with queues of several lengths', () => {
  const { figures } = measured(150_000, 8000, (i) => i % 17);
  near(figures[Figure.latency], 150_000, 0.02);
  near(figures[Figure.perPage], 8000, 0.05);
  near(figures[Figure.leastUse], 8000 / 150_000, 0.08);
});

test('where no two reads are in flight a page costs nothing to the others', () => {
  const { figures } = measured(4000, 700, () => 0);
  near(figures[Figure.latency], 4000, 0.001);
  assert.equal(figures[Figure.perPage], 0);
});

test('one very long read moves the latency little', () => {
  const clock = new Float64Array([1, 1]);
  const cost = new ReadCost(1, clock);
  for (let i = 0; i < 1000; i++) {
    cost.begin(0, 0);
    clock[0] += i === 999 ? 1e9 : 5000;
    cost.end(0, 1);
  }
  near(cost.figures[Figure.latency], 5000, 0.05);
});

test("handling is the time from a turn's end to the end of its commands, a page", () => {
  const clock = new Float64Array(2);
  const cost = new ReadCost(1, clock);
  for (let turn = 0; turn < 100; turn++) {
    clock[1] = clock[0] + 4 * 700;
    clock[0] = clock[1] + 50_000;
    cost.turned(4);
  }
  near(cost.figures[Figure.handling], 700, 0.001);
});
