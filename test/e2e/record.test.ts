/** Recording a live process: leapctl record, leapd --record, and what leap-lab makes of the file. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readTrace } from '../../lab/trace-file.js';
import { FaultKind } from '../../src/policy/prefetch/prefetcher.js';
import { call } from '../../src/cli/control-client.js';
import { Child, describeExit, poll } from './child.js';
import { cannotRun, END_MS, leapctlPath, leapdPath, Scene, START_MS, tiny, type Leapd } from './harness.js';

const skip = cannotRun;
const timeout = 60_000;
const labPath = fileURLToPath(new URL('../../lab/leap-lab.js', import.meta.url));

const leapctl = (
  ...args: string[]
): { readonly status: number | null; readonly stdout: string; readonly stderr: string } =>
  spawnSync(process.execPath, [leapctlPath, ...args], { encoding: 'utf8', timeout: 30_000 });

test(
  'leapctl record writes a whole trace of the faults, exact or not, and leap-lab replays it',
  { skip, timeout },
  async (t) => {
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
    assert.deepEqual(
      [trace.length, trace.lost, trace.cutOff, statSync(out).size],
      [answer.faults, answer.lost, false, answer.bytes],
    );
    assert.ok(trace.length > 100 && trace.about['exact'] === 'yes' && trace.regions.length > 0);
    // What the buffer held before is used up; nothing is prefetched meanwhile.
    assert.ok(trace.kind.filter((kind) => kind === FaultKind.prefetchHit).length <= Number(tiny['prefetch-buffer']));
    assert.equal((await leapd.stats())['prefetch'] as unknown, 'streams'); // as before
    const replayed = spawnSync(
      process.execPath,
      [labPath, 'replay', out, '--policies', 'ours,none', '--local', '25%', '--json'],
      { encoding: 'utf8', timeout: 30_000 },
    );
    assert.equal(replayed.status, 0, replayed.stderr);
    assert.equal((JSON.parse(replayed.stdout) as { traces: { results: unknown[] }[] }).traces[0]?.results.length, 2);

    const refused = spawnSync(process.execPath, [leapdPath, '--pid', String(process.pid), '--record', out], {
      encoding: 'utf8',
      timeout: 30_000,
    });
    assert.deepEqual([refused.status === 0, refused.stderr.trim().split('\n').length], [false, 1]);
    const again = leapctl('record', String(pid), ...control, '--out', out, '--seconds', '1');
    assert.equal(again.status, 2);
    assert.match(again.stderr, /cannot be created \(EEXIST\)/);
    const small = join(scene.directory, 'small.leap');
    assert.equal(
      leapctl('record', String(pid), ...control, '--out', small, '--seconds', '1', '--record-max', '4K', '--json')
        .status,
      0,
    );
    assert.ok(statSync(small).size <= 4096);
    assert.equal(readTrace(small).cutOff, true);
  },
);

/** A mix at work under leapd, and a leapctl that records it, exactly. */
async function recording(
  t: TestContext,
  name: string,
  ...options: string[]
): Promise<{ scene: Scene; leapd: Leapd; out: string; recorder: Child }> {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 100_000 });
  const leapd = await scene.attach(await target.ready(), tiny);
  target.send('go');
  const out = join(scene.directory, name);
  const given = ['record', String(leapd.target), '--control', leapd.control, '--out', out, '--exact', ...options];
  const recorder = scene.add(new Child('leapctl', process.execPath, [leapctlPath, ...given]));
  await recorder.line(/^recording into/, START_MS);
  assert.equal(await prefetchOf(leapd), 'none');
  return { scene, leapd, out, recorder };
}

const prefetchOf = async (leapd: Leapd): Promise<unknown> => (await leapd.stats())['prefetch'];
const endOfRecording = (leapd: Leapd): Promise<true> =>
  leapd.until('end of the recording', END_MS, () => (leapd.said(/the recording is over/) ? true : undefined));

test('a recording is stopped from another shell: both leapctls say what it holds', { skip, timeout }, async (t) => {
  const { leapd, out, recorder } = await recording(t, 'stopped.leap');
  await poll('faults', END_MS, async () => ((await leapd.stats())['faults']! > 500 ? true : undefined));
  const stop = ['record', String(leapd.target), '--stop', '--json', '--control', leapd.control];
  const stopped = leapctl(...stop);
  assert.equal(stopped.status, 0, stopped.stderr);
  assert.equal(await prefetchOf(leapd), 'streams');
  const { path, faults, endedEarly } = JSON.parse(stopped.stdout) as Record<string, unknown>;
  const trace = readTrace(out);
  assert.deepEqual([path, faults, endedEarly, trace.cutOff], [out, trace.length, '', false]);
  assert.equal(describeExit(await recorder.end(END_MS)), 'code 0', recorder.tail());
  assert.ok(
    recorder.output.some((line) => line.includes(String(trace.length))),
    recorder.tail(),
  );
  const again = leapctl(...stop);
  assert.deepEqual([again.status, again.stderr.trim().split('\n').length], [9, 1]);
  assert.match(again.stderr, /no recording is running; start one with/);
});

test(
  'a recording ends with the leapctl that was killed: the trace is whole, the prefetcher the former one',
  { skip, timeout },
  async (t) => {
    const { leapd, out, recorder } = await recording(t, 'orphan.leap', '--seconds', '600');
    recorder.kill('SIGKILL');
    await endOfRecording(leapd);
    assert.equal(await prefetchOf(leapd), 'streams');
    assert.equal(readTrace(out).cutOff, false);
    assert.ok(
      leapd.log.some(({ endedEarly }) => endedEarly === 'the leapctl that started it has ended'),
      leapd.tail(),
    );
  },
);

test(
  'leapd itself ends a recording when its time is up, whoever waits for it; Ctrl-C ends it earlier',
  { skip, timeout },
  async (t) => {
    const { scene, leapd, recorder } = await recording(t, 'interrupted.leap', '--seconds', '600');
    recorder.kill('SIGINT');
    assert.equal(describeExit(await recorder.end(END_MS)), 'code 0', recorder.tail());
    assert.equal(await prefetchOf(leapd), 'streams');

    const out = join(scene.directory, 'timed.leap');
    const ask = (seconds: string): Promise<unknown> =>
      call({ socket: leapd.control, command: 'record', arguments: { out, seconds, exact: 'yes' } });
    await assert.rejects(ask('soon'), /--seconds: "soon" is not a time/);
    await ask('0.5'); // and leaves it at that
    assert.equal(await prefetchOf(leapd), 'none');
    await poll('the former prefetcher', END_MS, async () =>
      (await prefetchOf(leapd)) === 'streams' ? true : undefined,
    );
    assert.equal(readTrace(out).cutOff, false);
  },
);

test(
  'leapd --record records until its end, and leaves a whole file when the target is killed',
  { skip, timeout },
  async (t) => {
    const scene = new Scene(t);
    const target = scene.target('mix', { rounds: 100_000 });
    const pid = await target.ready();
    const out = join(scene.directory, 'all.leap');
    const leapd = await scene.attach(pid, { ...tiny, record: out });
    target.send('go');
    const busy = leapctl(
      'record',
      String(pid),
      '--control',
      leapd.control,
      '--out',
      join(scene.directory, 'other.leap'),
      '--seconds',
      '1',
    );
    assert.equal(busy.status, 9);
    assert.match(busy.stderr, /a recording is running already/);
    await poll('1000 faults', 20_000, async () => ((await leapd.stats())['faults'] > 1000 ? true : undefined));
    target.kill('SIGKILL');
    await leapd.cleanEnd();
    assert.ok(existsSync(out));
    const trace = readTrace(out);
    assert.ok(trace.length > 900 && !trace.cutOff, `${trace.length} faults`);
  },
);
