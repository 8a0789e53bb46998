import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Placer } from '../../daemon/placer.js';
import { LEAST_SAMPLES, MAX_SPIN_NS, NO_CPU, Placement, REST, SAMPLES } from '../../src/policy/placement.js';

const here = { sameCpuBlocking: 9000, otherCpuSpinning: 18000, otherCpuBlocking: 64000 };
const fast = 10_000;

function feed(placement: Placement, cpus: readonly number[]): void {
  for (let i = 0; i < SAMPLES; i++) placement.record(cpus[i % cpus.length]!);
}

test('it follows a load that faults on one CPU, and sleeps there', () => {
  const placement = new Placement(4, here);
  feed(placement, [2]);
  assert.deepEqual(placement.decide(fast), { cpu: 2, spinNs: 0 });
});

test('a few samples are no reason to move', () => {
  const placement = new Placement(4, here);
  for (let i = 1; i < LEAST_SAMPLES; i++) placement.record(2);
  assert.equal(placement.decide(fast).cpu, NO_CPU);
  placement.record(2);
  assert.equal(placement.decide(fast).cpu, 2);
});

test('a spread load is spun for, as long as faults come fast', () => {
  const placement = new Placement(4, here);
  feed(placement, [0, 1, 2]);
  assert.deepEqual(placement.decide(fast), { cpu: NO_CPU, spinNs: 2 * fast });
  assert.deepEqual(placement.decide(MAX_SPIN_NS), { cpu: NO_CPU, spinNs: 0 });
  assert.deepEqual(placement.decide(Number.POSITIVE_INFINITY), { cpu: NO_CPU, spinNs: 0 });
});

test('on the edge it stays where it is', () => {
  const placement = new Placement(4, here);
  feed(placement, [1, 1, 1, 0]); // three quarters
  assert.equal(placement.decide(fast).cpu, 1);
  feed(placement, [1, 0, 1, 0, 1]); // a little more than half
  assert.equal(placement.decide(fast).cpu, 1);
  feed(placement, [0, 2, 1]);
  assert.equal(placement.decide(fast).cpu, NO_CPU);
});

test('what was measured decides', () => {
  const spinner = new Placement(4, { sameCpuBlocking: 9000, otherCpuSpinning: 5000, otherCpuBlocking: 64000 });
  feed(spinner, [1]);
  assert.deepEqual(spinner.decide(fast), { cpu: 2, spinNs: 2 * fast });
  const sleeper = new Placement(4, { sameCpuBlocking: 9000, otherCpuSpinning: 9500, otherCpuBlocking: 9400 });
  feed(sleeper, [0, 1, 2]);
  assert.deepEqual(sleeper.decide(fast), { cpu: NO_CPU, spinNs: 0 });
});

test('a target that runs away when it is followed is served from beside it, and followed again only later', () => {
  const placement = new Placement(2, here);
  feed(placement, [0]);
  assert.equal(placement.decide(fast).cpu, 0, 'followed');
  feed(placement, [1]);
  assert.deepEqual(
    placement.decide(fast),
    { cpu: 0, spinNs: 2 * fast },
    'it has gone to CPU 1: stay on CPU 0, and spin',
  );
  for (let i = 1; i < REST; i++) {
    feed(placement, [1]);
    assert.deepEqual(placement.decide(fast), { cpu: 0, spinNs: 2 * fast });
  }
  feed(placement, [1]);
  assert.deepEqual(placement.decide(fast), { cpu: 1, spinNs: 0 }, 'tried again');
});

test('with one CPU there is nothing to choose', () => {
  const placement = new Placement(1, { sameCpuBlocking: 9000, otherCpuSpinning: 0, otherCpuBlocking: 0 });
  feed(placement, [0]);
  assert.deepEqual(placement.decide(fast), { cpu: NO_CPU, spinNs: 0 });
});

test('the placer samples only while there are faults, and acts only on change', () => {
  const acts: string[] = [];
  let samples = 0;
  const engine = {
    sampleCpu: () => (samples++, 3),
    place: (cpu: number) => (acts.push(`place ${cpu}`), 0),
    setSpin: (ns: number) => void acts.push(`spin ${ns}`),
  };
  const placer = new Placer(engine, here, 4);
  let clock = 1e9;
  for (let turn = 0; turn < 100; turn++) placer.turn((clock += 25e6), 0, 0);
  assert.equal(samples, 0, 'an idle target is not looked at');
  for (let turn = 1; turn <= 100; turn++) placer.turn((clock += 25e6), turn * 1000, 77);
  assert.equal(samples, 100);
  assert.deepEqual(acts, ['place 3']);
});
