import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Counters } from '../../src/core/counters.js';

test('latencies of any length are counted to within a hundredth, once each', () => {
  for (const ns of [1, 2, 127, 128, 255, 256, 257, 1023, 1024, 12_345, 65_536, 123_456_789, 2 ** 31 - 1]) {
    const counters = new Counters();
    counters.faultLatency.record(ns);
    assert.equal(counters.faultLatency.count, 1);
    const value = counters.faultLatency.percentile(50);
    assert.ok(Math.abs(value - ns) <= ns / 100, `${ns} ns is shown as ${value}`);
  }
});

test('a latency of nothing, less, or more than there is room for is kept within bounds', () => {
  const counters = new Counters();
  for (const ns of [0, -5, 0.4, 1e12]) counters.faultLatency.record(ns);
  const latency = counters.faultLatency;
  assert.deepEqual([latency.count, latency.percentile(50)], [4, 1]);
  assert.ok(latency.max > 2e9);
});

test('quantiles of many', () => {
  const counters = new Counters();
  for (let us = 1; us <= 1000; us++) counters.faultLatency.record(us * 1000);
  const latency = counters.faultLatency;
  for (const [percent, us] of [
    [50, 500],
    [99, 990],
    [100, 1000],
  ] as const) {
    const value = latency.percentile(percent);
    assert.ok(Math.abs(value / 1000 - us) <= us / 100, `p${percent}: ${value} ns`);
  }
});
