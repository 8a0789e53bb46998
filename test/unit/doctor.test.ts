import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bestPlace, haltPolling, lockedMemory } from '../../daemon/doctor.js';

const cpuidle = '/sys/devices/system/cpu/cpuidle';
const polls = '/sys/module/haltpoll/parameters/guest_halt_poll_ns';

/** A machine that has these files and no others. */
const machine =
  (files: Readonly<Record<string, string>>) =>
  (path: string): string | undefined =>
    files[path];
const virtual = { '/proc/cpuinfo': 'processor\t: 0\nflags\t\t: fpu hypervisor lm\n' };
const inUse = {
  ...virtual,
  [`${cpuidle}/current_driver`]: 'haltpoll\n',
  [`${cpuidle}/current_governor_ro`]: 'haltpoll\n',
};

test('halt polling: of no concern on a real machine; in a virtual one good only when the governor is in use and polls for long enough', () => {
  assert.deepEqual(haltPolling(machine({ '/proc/cpuinfo': 'flags\t\t: fpu lm\n' })), []);
  const cases = [
    [virtual, 'less', /no haltpoll/, /modprobe cpuidle_haltpoll/],
    [
      { ...virtual, [polls]: '200000\n' },
      'less',
      /not in use \(idle driver none, governor none\)/,
      /modprobe cpuidle_haltpoll/,
    ],
    [
      { ...inUse, [polls]: '200000\n', [`${cpuidle}/current_governor_ro`]: 'menu\n' },
      'less',
      /not in use \(idle driver haltpoll, governor menu\)/,
      /modprobe/,
    ],
    [{ ...inUse, [polls]: '50000\n' }, 'less', /50000 ns/, /echo 200000 > .*guest_halt_poll_ns/],
    [{ ...inUse, [polls]: '200000\n' }, 'good', /200000 ns/, /^$/],
  ] as const;
  for (const [files, verdict, found, advice] of cases) {
    const [finding] = haltPolling(machine(files));
    assert.equal(finding?.verdict, verdict, JSON.stringify(files));
    assert.match(finding.found, found);
    assert.match(finding.advice ?? '', advice);
  }
});

test('the limit on locked memory matters to who is bound by it', () => {
  const limited = machine({
    '/proc/self/limits': 'Limit\nMax locked memory         8388608              8388608              bytes\n',
  });
  assert.deepEqual(
    lockedMemory(
      machine({ '/proc/self/limits': 'Max locked memory         unlimited            unlimited            bytes\n' }),
      false,
    ).verdict,
    'good',
  );
  assert.equal(lockedMemory(limited, true).verdict, 'good');
  const { verdict, found, advice } = lockedMemory(limited, false);
  assert.equal(verdict, 'less');
  assert.match(found, /8\.0 MiB/);
  assert.match(advice ?? '', /ulimit -l/);
});

test('the best place to serve a fault from is the one that costs least', () => {
  assert.match(
    bestPlace({ sameCpuBlocking: 5000, otherCpuSpinning: 9000, otherCpuBlocking: 15_000 }),
    /fastest on its own CPU \(5\.0 us/,
  );
  assert.match(
    bestPlace({ sameCpuBlocking: 9000, otherCpuSpinning: 5000, otherCpuBlocking: 15_000 }),
    /another CPU, by one that spins \(5\.0 us/,
  );
  assert.match(
    bestPlace({ sameCpuBlocking: 9000, otherCpuSpinning: 8000, otherCpuBlocking: 5000 }),
    /another CPU, asleep \(5\.0 us/,
  );
});
