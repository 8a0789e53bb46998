/** How much of the host's memory a donor may lend. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstLimit, MemoryMonitor } from '../../server/memory-monitor.js';

const GiB = 2 ** 30;
const monitorOptions = { reserve: 8 * GiB, upper: 16 * GiB, rounds: 20, weight: 70, chunkBytes: GiB };

test('below the reserve memory is given back, weighed 70 to 30', () => {
  const monitor = new MemoryMonitor(monitorOptions);
  assert.equal(monitor.sample(12 * GiB), 0);
  assert.equal(monitor.sample(7 * GiB), 0); // 8.5
  assert.equal(monitor.sample(6 * GiB), -2); // 6.75
});

test('above the upper mark there is more to lend, after 20 looks in a row', () => {
  const monitor = new MemoryMonitor(monitorOptions);
  for (let i = 0; i < 19; i++) assert.equal(monitor.sample(18.5 * GiB), 0);
  assert.equal(monitor.sample(18.5 * GiB), 2);
  for (let i = 0; i < 19; i++) assert.equal(monitor.sample(18.5 * GiB), 0);
  assert.equal(monitor.sample(9 * GiB), 0); // the row is broken
  for (let i = 0; i < 19; i++) assert.equal(monitor.sample(40 * GiB), 0);
  assert.ok(monitor.sample(40 * GiB) > 0);
});

test('at the start the reserve counts already', () => {
  assert.equal(firstLimit(8, 12 * GiB, monitorOptions), 4);
  assert.equal(firstLimit(8, 7 * GiB, monitorOptions), 0);
  assert.equal(firstLimit(8, 64 * GiB, monitorOptions), 8);
});
