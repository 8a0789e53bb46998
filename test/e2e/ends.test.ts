/**
 * Ends while faults are open: the target's own, by exit, signal and exec; leapd must end cleanly beside it, and the
 * target as without leapd.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ExitCode, Refusal } from '../../src/cli/exit-codes.js';
import { describeExit, sleep } from './child.js';
import { cannotRun, END_MS, Scene, WORK_MS, reference } from './harness.js';

const skip = cannotRun;
const timeout = 90_000;

for (const [mode, end] of [
  ['exit', 'code 7'],
  ['kill', 'signal SIGKILL'],
  ['abort', 'signal SIGABRT'],
] as const) {
  for (const evict of ['move', 'discard']) {
    test(`the target ends by ${mode} among faulting threads, evict ${evict}`, { skip, timeout }, async (t) => {
      const scene = new Scene(t);
      const target = scene.target('exiter', { mode });
      const leapd = await scene.attach(await target.ready(), { evict });
      target.send('go');
      assert.equal(describeExit(await target.end(WORK_MS)), end);
      await leapd.cleanEnd();
    });
  }
}

test('the target is killed from outside while it is paged', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('threads', { rounds: 0 });
  const leapd = await scene.attach(await target.ready());
  target.send('go');
  await sleep(300);
  assert.ok((await leapd.stats())['faults']! > 0);
  target.kill('SIGKILL');
  assert.equal(describeExit(await target.end(END_MS)), 'signal SIGKILL');
  await leapd.cleanEnd();
});

for (const end of ['killed', 'detached'] as const) {
  test(`who asks while the target is ${end} is told that it is over, and of no bug`, { skip, timeout }, async (t) => {
    const scene = new Scene(t);
    const target = scene.target('threads', { rounds: 0 });
    const leapd = await scene.attach(await target.ready());
    target.send('go');
    const answers = Array.from({ length: 8 }, async () => {
      for (let asked = 0; asked < 100_000; asked++) {
        try {
          await leapd.stats();
        } catch (error) {
          return error;
        }
      }
      return undefined;
    });
    await sleep(300);
    if (end === 'killed') target.kill('SIGKILL');
    else await leapd.detach();
    for (const answer of await Promise.all(answers)) {
      assert.ok(answer instanceof Refusal, String(answer));
      assert.equal(answer.code, ExitCode.control, answer.message);
    }
    if (end === 'killed') await leapd.cleanEnd();
  });
}

for (const mode of ['exec', 'exec-thread']) {
  test(`the target executes another program (${mode})`, { skip, timeout }, async (t) => {
    const scene = new Scene(t);
    const options = { mode, rounds: 2, pages: 512 };
    const target = scene.target('spawner', options);
    const leapd = await scene.attach(await target.ready());
    target.send('go');
    await target.line(/^EXECED$/, WORK_MS);
    await leapd.cleanEnd();
    const { checksum, rounds } = await target.finish();
    assert.deepEqual([`DONE ${checksum} ${rounds}`], await reference(scene, 'spawner', options));
  });
}
