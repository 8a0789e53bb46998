/** An attach and a detach interrupt no system call, sleep, or stop of the target. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { poll, sleep } from './child.js';
import { assertSame, cannotRun, END_MS, Scene, START_MS, paged } from './harness.js';
import * as proc from './proc.js';

const skip = cannotRun;
const timeout = 90_000;

const waits = [
  'read',
  'recv',
  'epoll',
  'epoll-timeout',
  'poll',
  'select',
  'futex',
  'nanosleep',
  'clock_nanosleep',
  'sigtimedwait',
  'sigwaitinfo',
  'wait',
];
for (const mode of [...waits, 'running']) {
  test(`attached while in ${mode}`, { skip, timeout }, async (t) => {
    const scene = new Scene(t);
    const target = scene.target('blocked', { mode, pages: 256 });
    const pid = await target.ready();
    target.send('go');
    await sleep(50);
    const before = proc.view(pid, false);
    const leapd = await scene.attach(pid);
    // time enough for an early return to show
    await sleep(mode.includes('sleep') || mode.includes('timeout') ? 900 : 100);
    await leapd.detach();
    await sleep(50);
    assertSame(before, proc.view(pid, false));
    target.send('stop');
    await target.finish();
  });
}

for (const evict of ['move', 'discard']) {
  test(`stopped and continued again and again while paged, evict ${evict}`, { skip, timeout }, async (t) => {
    await paged(t, {
      program: 'threads',
      options: { seed: 5 },
      leapd: { evict },
      attach: 'busy',
      end: 'detach',
      meanwhile: async (target, leapd) => {
        for (let i = 0; i < 6; i++) {
          target.kill('SIGSTOP');
          await poll('the target to stop', END_MS, () => (proc.state(target.pid) === 'T' ? true : undefined));
          const faults = (await leapd.stats())['faults']!; // leapd answers although the target stands
          await sleep(20);
          target.kill('SIGCONT');
          if (i % 2 === 0)
            await poll('faults after SIGCONT', END_MS, async () =>
              (await leapd.stats())['faults']! > faults ? true : undefined,
            );
          await sleep(20);
        }
      },
    });
  });
}

test('attached to a stopped process, which stays stopped; detached from it, likewise', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 2 });
  const pid = await target.ready();
  target.kill('SIGSTOP');
  await poll('the target to stop', END_MS, () => (proc.state(pid) === 'T' ? true : undefined));
  const before = proc.view(pid, true);
  const leapd = await scene.attach(pid);
  await sleep(200);
  assert.equal(proc.state(pid), 'T', 'the state after the attach');
  await leapd.detach();
  assert.equal(proc.state(pid), 'T', 'the state after the detach');
  assertSame(before, proc.view(pid, true));
  target.kill('SIGCONT');
  target.send('go');
  await target.finish();
});

test('stopped under leapd, then detached', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('threads', { rounds: 0 });
  const pid = await target.ready();
  const leapd = await scene.attach(pid);
  target.send('go');
  await sleep(300);
  target.kill('SIGSTOP');
  await poll('the target to stop', END_MS, () => (proc.state(pid) === 'T' ? true : undefined));
  await leapd.detach();
  assert.equal(proc.state(pid), 'T');
  target.kill('SIGCONT');
  await sleep(100);
  target.send('stop');
  await target.finish(START_MS);
});
