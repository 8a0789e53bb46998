import assert from 'node:assert/strict';
import { test } from 'node:test';
import { generate } from '../../lab/patterns.js';
import { encodeTrace } from '../../lab/trace-file.js';
import { workloadOf } from '../../lab/workload.js';
import { Advice, RegionTable } from '../../src/tables/regions.js';
import { decodeTrace, TICK_NS, TraceEncoder, TraceError } from '../../src/trace/format.js';
import { drainRecords, Recorder, recordMemory } from '../../src/trace/ring.js';
import { spaceId, vpn } from '../../src/core/types.js';
import { Rng } from './rng.js';

function regionsOf(...counts: number[]): RegionTable {
  const regions = new RegionTable();
  counts.forEach((count, i) => regions.add(spaceId(0), vpn(0x7f0000000 + i * 100_000), count));
  return regions;
}

test('what the recorder writes is what the trace holds: times, threads, pages, kinds, regions with their advice', () => {
  const rng = new Rng(1);
  const regions = regionsOf(5000, 300);
  regions.advise([5000, 5300, Advice.sequential]);
  const memory = recordMemory(4096);
  const recorder = new Recorder(memory);
  const encoder = new TraceEncoder({ name: 'a test' });
  const written: number[][] = [];
  let now = 12e15; // a machine that has been up for months: more than 32 bits of ns
  for (let i = 0; i < 10_000; i++) {
    now += rng.below(5_000_000);
    const fault = [rng.below(5300), 1 + rng.below(5) * 99_999, rng.below(4), rng.below(2)];
    written.push([...fault, now]);
    recorder.fault(fault[0], fault[1], fault[2], fault[3] === 1, now, regions);
    if (i % 1000 === 0) drainRecords(memory, encoder);
  }
  encoder.end(drainRecords(memory, encoder));
  const trace = decodeTrace(encoder.take());
  assert.deepEqual([trace.length, trace.lost, trace.cutOff, trace.about['name']], [10_000, 0, false, 'a test']);
  assert.deepEqual(
    trace.regions.map(({ first, count, advice }) => [first, count, advice]),
    [
      [0, 5000, 0],
      [5000, 300, Advice.sequential],
    ],
  );
  written.forEach(([page, thread, kind, write, time], i) => {
    assert.deepEqual([trace.page[i], trace.thread[i], trace.kind[i], trace.write[i]], [page, thread, kind, write]);
    assert.ok(Math.abs(trace.time[i] - (time - written[0][4])) <= TICK_NS / 2 + 1, `time of fault ${i}`);
  });
});

test('a ring that is not drained loses records, counts them, and never waits', () => {
  const memory = recordMemory(64);
  const recorder = new Recorder(memory);
  const regions = regionsOf(100);
  for (let i = 0; i < 1000; i++) recorder.fault(i % 100, 1, 0, false, i, regions);
  const encoder = new TraceEncoder();
  const lost = drainRecords(memory, encoder);
  assert.equal(encoder.faults + lost, 1000);
  assert.equal(encoder.faults, 62); // the list of regions took two records
  assert.throws(() => recordMemory(100), RangeError);
});

test('a trace that was cut off is read up to its last whole record, wherever it was cut', () => {
  const whole = encodeTrace(generate('random', { pages: 1024, touches: 500 }));
  let before = 0;
  for (let length = 200; length < whole.length; length++) {
    const trace = decodeTrace(whole.subarray(0, length));
    assert.ok(trace.cutOff && trace.length >= before && trace.length <= 500);
    before = trace.length;
  }
  assert.equal(before, 500);
  assert.equal(decodeTrace(whole).cutOff, false);
});

test('what is no trace is refused with a reason, and no bytes make the reader do anything else', () => {
  const whole = encodeTrace(generate('zipf', { pages: 1024, touches: 300 }));
  const version = whole.slice();
  version[7] = 9;
  for (const [bytes, reason] of [
    [new Uint8Array(0), /empty/],
    [new Uint8Array(100), /not a trace/],
    [whole.subarray(0, 5), /not a trace/],
    [version, /version 9, and this program reads version 1/],
  ] as const) {
    assert.throws(
      () => decodeTrace(bytes),
      (error) => error instanceof TraceError && reason.test(error.message),
    );
  }
  const rng = new Rng(7);
  for (let round = 0; round < 500; round++) {
    const bytes = whole.slice();
    for (let i = 0; i < 5; i++) bytes[8 + rng.below(bytes.length - 8)] = rng.below(256);
    try {
      decodeTrace(bytes);
    } catch (error) {
      assert.ok(error instanceof TraceError, String(error));
    }
  }
});

test('a region that grew is one region; one that came in the place of another replaces it', () => {
  const encoder = new TraceEncoder();
  encoder.region(0, 0, 1000, 0, 100);
  encoder.region(0, 0, 1000, 0, 150);
  encoder.region(0, 2, 9000, 50, 20);
  encoder.fault(0, false, 0, 60, 1);
  encoder.fault(0, false, 0, 500, 1);
  encoder.end(0);
  const trace = decodeTrace(encoder.take());
  assert.deepEqual(
    trace.regions.map(({ first, count, start, advice }) => [first, count, start, advice]),
    [
      [0, 50, 1000, 0],
      [50, 20, 9000, 2],
      [70, 80, 1070, 0],
    ],
  );
  const workload = workloadOf(trace);
  assert.deepEqual([workload.pages, workload.touchedPages, workload.strays], [150, 1, 1]);
});
