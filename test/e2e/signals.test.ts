/** How leapd ends, and how it does not: signals, a detach that does not fit, a log that nobody reads any more. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MemoryCgroup } from '../../bench/cgroup.js';
import { CannotRun, UndoStack } from '../../src/host/undo-stack.js';
import { Child, poll, sleep } from './child.js';
import {
  cannotRun,
  END_MS,
  leapctlPath,
  leapdPath,
  reference,
  Scene,
  settled,
  START_MS,
  type Leapd,
} from './harness.js';
import * as proc from './proc.js';
import { missing } from './programs.js';

const skip = cannotRun;
const timeout = 90_000;
const MIB = 2 ** 20;

const said = (leapd: Leapd, pattern: RegExp): Promise<true> =>
  leapd.until(String(pattern), START_MS, () => (leapd.said(pattern) ? true : undefined));

for (const signal of ['SIGINT', 'SIGHUP', 'SIGQUIT'] as const) {
  test(`${signal} puts everything back`, { skip, timeout }, async (t) => {
    const scene = new Scene(t);
    const options = { rounds: 3 };
    const target = scene.target('mix', options);
    const pid = await target.ready();
    const before = proc.view(pid, true);
    const leapd = await scene.attach(pid);
    leapd.kill(signal);
    await leapd.cleanEnd();
    assert.deepEqual(proc.view(pid, true), before);
    target.send('go');
    const { checksum, rounds } = await target.finish();
    assert.deepEqual([`DONE ${checksum} ${rounds}`], await reference(scene, 'mix', options));
  });
}

test('a signal that comes during the attach is not lost, and does no harm', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 2 });
  const pid = await target.ready();
  const before = proc.view(pid, true);
  const leapd = scene.leapd(pid);
  await poll('the record of the attach', START_MS, () => (existsSync(`/run/leap/${pid}.json`) ? true : undefined));
  await poll('the control socket', START_MS, () => (existsSync(leapd.control) ? true : undefined));
  leapd.kill('SIGTERM');
  await leapd.end(END_MS);
  assert.deepEqual(proc.view(pid, true), before);
  target.send('go');
  await target.finish();
});

test('the second signal explains, a stop is refused, and both change nothing', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { pages: 16384, rounds: 1 });
  const pid = await target.ready();
  const leapd = await scene.attach(pid, { 'local-memory': '4M' });
  await settled(leapd, 1024);
  leapd.kill('SIGTSTP');
  await said(leapd, /SIGTSTP ignored: stopping leapd would stall/);
  assert.notEqual(proc.state(leapd.pid), 'T');
  leapd.kill('SIGTERM');
  await sleep(20);
  leapd.kill('SIGTERM');
  leapd.kill('SIGINT');
  await leapd.cleanEnd();
  assert.ok(leapd.said(/still putting pages back, \d+ of \d+ are left/), leapd.tail());
  target.send('go');
  await target.finish();
});

test('what does not fit back stays out: refused with a reason, and paging goes on', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { pages: 8192, rounds: 1 });
  const pid = await target.ready();
  const undo = new UndoStack();
  await undo
    .within(async () => {
      try {
        const group = new MemoryCgroup(undo, `leap-e2e-${pid}`);
        writeFileSync(group.procsFile, String(pid));
        const leapd = await scene.attach(pid, { 'local-memory': '4M' });
        await settled(leapd, 1024);
        // What was charged before the move stays with the former group; what comes back is charged to the new one.
        group.limit(group.usageBytes + 12 * MIB);

        leapd.kill('SIGTERM');
        await said(
          leapd,
          /SIGTERM: not detached: .* are stored, but the control group .* has room for .*--force; paging goes on/,
        );
        const { status, stderr } = spawnSync(
          process.execPath,
          [leapctlPath, 'detach', String(pid), '--control', leapd.control],
          { encoding: 'utf8', timeout: START_MS },
        );
        assert.equal(status, 9, stderr);
        assert.match(stderr, /^leapctl: not detached: .*\n$/);
        assert.equal(leapd.exit, undefined, 'leapd goes on');
        target.send('go');
        await target.finish();
        await leapd.cleanEnd();
      } finally {
        target.kill('SIGKILL'); // the group can be removed only when nobody is in it
        await target.end(END_MS);
      }
    })
    .catch((error: unknown) => (error instanceof CannotRun ? t.skip(error.message) : Promise.reject(error)));
});

test(
  'a reader of the log that goes away takes nothing with it',
  { skip: skip || missing('bash'), timeout },
  async (t) => {
    const scene = new Scene(t);
    const target = scene.target('mix', { rounds: 2 });
    const pid = await target.ready();
    const before = proc.view(pid, true);
    const control = join(scene.directory, 'control');
    const command = `set -o pipefail; '${process.execPath}' '${leapdPath}' --pid ${pid} --control '${control}' --swap-file '${join(scene.directory, 'swap')}' 2>&1 | head -n 1`;
    const shell = scene.add(new Child('leapd', 'bash', ['-c', command]));
    await shell.line(/paging process/, START_MS);
    for (const setting of ['prefetch=none', 'local-memory=1M'])
      spawnSync(process.execPath, [leapctlPath, 'set', String(pid), setting, '--control', control], {
        timeout: START_MS,
      });
    const detached = spawnSync(process.execPath, [leapctlPath, 'detach', String(pid), '--control', control], {
      encoding: 'utf8',
      timeout: END_MS,
    });
    assert.equal(detached.status, 0, detached.stderr);
    assert.equal((await shell.end(END_MS)).code, 0);
    assert.deepEqual(proc.view(pid, true), before);
    target.send('go');
    await target.finish();
  },
);
