/** Recording a live process: leapctl record, leapd --record, and what leap-lab makes of the file. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readTrace } from '../../lab/trace-file.js';
import { FaultKind } from '../../src/prefetch/prefetcher.js';
import { poll } from './child.js';
import { cannotRun, leapctlPath, leapdPath, Scene, tiny } from './harness.js';

const skip = cannotRun;
const timeout = 60_000;
const labPath = fileURLToPath(new URL('../../lab/leap-lab.js', import.meta.url));

const leapctl = (...args: string[]): { readonly status: number | null; readonly stdout: string; readonly stderr: string } =>
  spawnSync(process.execPath, [leapctlPath, ...args], { encoding: 'utf8', timeout: 30_000 });

test('leapctl record writes a whole trace of the faults, exact or not, and leap-lab replays it', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 100_000 });
  const pid = await target.ready();
  const leapd = await scene.attach(pid, tiny);
  target.send('go');
  const out = join(scene.directory, 'exact.leap');
  const control = ['--control', leapd.control];
  const recorded = leapctl('record', String(pid), ...control, '--out', out, '--seconds', '1', '--exact', '--json');
  assert.equal(recorded.status, 0, recorded.stderr);
  const answer = JSON.parse(recorded.stdout) as { faults: number; lost: number; bytes: number };
  const trace = readTrace(out);
  assert.deepEqual([trace.length, trace.lost, trace.cutOff, statSync(out).size], [answer.faults, answer.lost, false, answer.bytes]);
  assert.ok(trace.length > 100 && trace.about['exact'] === 'yes' && trace.regions.length > 0);
  // What the buffer held before is used up; nothing is prefetched meanwhile.
  assert.ok(trace.kind.filter((kind) => kind === FaultKind.prefetchHit).length <= Number(tiny['prefetch-buffer']));
  assert.equal((await leapd.stats())['prefetch'] as unknown, 'leap'); // as before
  const replayed = spawnSync(process.execPath, [labPath, 'replay', out, '--policies', 'ours,none', '--local', '25%', '--json'], { encoding: 'utf8', timeout: 30_000 });
  assert.equal(replayed.status, 0, replayed.stderr);
  assert.equal((JSON.parse(replayed.stdout) as { traces: { results: unknown[] }[] }).traces[0]?.results.length, 2);

  const refused = spawnSync(process.execPath, [leapdPath, '--pid', String(process.pid), '--record', out], { encoding: 'utf8', timeout: 30_000 });
  assert.deepEqual([refused.status === 0, refused.stderr.trim().split('\n').length], [false, 1]);
  const again = leapctl('record', String(pid), ...control, '--out', out, '--seconds', '1');
  assert.equal(again.status, 2);
  assert.match(again.stderr, /cannot be made \(EEXIST\)/);
  const small = join(scene.directory, 'small.leap');
  assert.equal(leapctl('record', String(pid), ...control, '--out', small, '--seconds', '1', '--record-max', '4K', '--json').status, 0);
  assert.ok(statSync(small).size <= 4096);
  assert.equal(readTrace(small).cutOff, true);
});

test('leapd --record records until its end, and leaves a whole file when the target is killed', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 100_000 });
  const pid = await target.ready();
  const out = join(scene.directory, 'all.leap');
  const leapd = await scene.attach(pid, { ...tiny, record: out });
  target.send('go');
  const busy = leapctl('record', String(pid), '--control', leapd.control, '--out', join(scene.directory, 'other.leap'), '--seconds', '1');
  assert.equal(busy.status, 9);
  assert.match(busy.stderr, /a recording is under way/);
  await poll('1000 faults', 20_000, async () => ((await leapd.stats())['faults'] > 1000 ? true : undefined));
  target.kill('SIGKILL');
  await leapd.cleanEnd();
  assert.ok(existsSync(out));
  const trace = readTrace(out);
  assert.ok(trace.length > 900 && !trace.cutOff, `${trace.length} faults`);
});
