/**
 * Bad input that needs more than a wrong option: another kernel, another disk, a file in the way. And what leapctl says
 * to its own.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Child, poll, sleep } from './child.js';
import { cannotRun, END_MS, leapctlPath, leapdPath, Scene, START_MS } from './harness.js';
import * as proc from './proc.js';
import { missing } from './programs.js';

const skip = cannotRun;
const timeout = 60_000;

/** A target at rest, and what /proc shows of it. */
async function resting(t: TestContext): Promise<{ scene: Scene; pid: number; untouched: () => void }> {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 1 });
  const pid = await target.ready();
  await sleep(20);
  const before = proc.view(pid, true);
  return { scene, pid, untouched: () => assert.deepEqual(proc.view(pid, true), before, 'the target is untouched') };
}

/** One line, an exit code, no record, no socket, no swap file. */
async function refusedWith(child: Child, pid: number, code: number, says: RegExp): Promise<void> {
  const exit = await child.end(START_MS);
  assert.equal(child.lines.length, 1, `one line${child.tail()}`);
  assert.match(child.lines[0] ?? '', says);
  assert.equal(exit.code, code, child.lines[0]);
  assert.equal(existsSync(`/run/leap/${pid}.json`), false, 'no record is left');
  assert.equal(existsSync(`/var/tmp/leap-${pid}.swap`), false, 'no swap file is left');
}

test('refused: a kernel that is too old', { skip: skip || missing('setarch'), timeout }, async (t) => {
  const { scene, pid, untouched } = await resting(t);
  const leapd = scene.add(
    new Child('leapd', 'setarch', ['x86_64', '--uname-2.6', process.execPath, leapdPath, '--pid', String(pid)]),
  );
  await refusedWith(leapd, pid, 5, /Linux 2\.6.* is too old: leapd needs 5\.11; /);
  untouched();
});

test('refused: a process that a real debugger holds', { skip: skip || missing('gdb'), timeout }, async (t) => {
  const { scene, pid } = await resting(t);
  scene.add(new Child('gdb', 'gdb', ['-q', '-nx', '-batch', '-p', String(pid), '-ex', 'shell sleep 20']));
  await poll('gdb to attach', START_MS, () => (proc.status(pid).get('TracerPid') !== '0' ? true : undefined));
  const before = proc.view(pid, true);
  await refusedWith(scene.leapd(pid), pid, 3, /is being traced by gdb \(pid \d+\); detach gdb, then run leapd again/);
  assert.deepEqual(proc.view(pid, true), before);
});

test(
  'refused: a process that has ended and is not yet collected',
  { skip: skip || missing('python3'), timeout },
  async (t) => {
    const scene = new Scene(t);
    const parent = scene.add(
      new Child('parent', 'python3', [
        '-c',
        'import os,sys,time\np=os.fork()\nif p==0: os._exit(0)\ntime.sleep(.1)\nprint(p,flush=True)\nsys.stdin.read()',
      ]),
    );
    const pid = Number((await parent.line(/^\d+$/, START_MS))[0]);
    assert.equal(proc.state(pid), 'Z');
    await refusedWith(scene.leapd(pid), pid, 3, /has ended already/);
  },
);

test('refused: a disk without room for what has to leave', { skip: skip || missing('mount'), timeout }, async (t) => {
  const { scene, pid, untouched } = await resting(t);
  const disk = join(scene.directory, 'disk');
  mkdirSync(disk);
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'leap-test', disk]).status !== 0)
    return t.skip('no tmpfs can be mounted here');
  scene.atEnd(() => execFileSync('umount', ['-l', disk]));
  await refusedWith(
    scene.leapd(pid, { 'swap-file': join(disk, 'swap') }),
    pid,
    6,
    /has room for 64\.0 KiB, but .* may be evicted; /,
  );
  untouched();
});

test('refused: a read-only disk', { skip: skip || missing('mount'), timeout }, async (t) => {
  const { scene, pid, untouched } = await resting(t);
  const disk = join(scene.directory, 'disk');
  mkdirSync(disk);
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'leap-test', disk]).status !== 0)
    return t.skip('no tmpfs can be mounted here');
  scene.atEnd(() => execFileSync('umount', ['-l', disk]));
  await refusedWith(scene.leapd(pid, { 'swap-file': join(disk, 'swap') }), pid, 6, /EROFS/);
  untouched();
});

test('refused: a control socket with something in its way, which stays', { skip, timeout }, async (t) => {
  const { scene, pid, untouched } = await resting(t);
  const file = join(scene.directory, 'file');
  writeFileSync(file, 'precious');
  await refusedWith(scene.leapd(pid, { control: file }), pid, 8, /is in the way: it is a file and no socket; /);
  assert.equal(readFileSync(file, 'utf8'), 'precious');
  const socket = join(scene.directory, 'socket');
  const other = createServer().listen(socket);
  scene.atEnd(() => other.close());
  await refusedWith(scene.leapd(pid, { control: socket }), pid, 8, /is in use by another program; /);
  untouched();
});

test('leapctl says in one line what is wrong, and codes it', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const run = (...args: string[]): { code: number | null; lines: string[]; out: string } => {
    const { status, stderr, stdout } = spawnSync(process.execPath, [leapctlPath, ...args], {
      encoding: 'utf8',
      timeout: START_MS,
    });
    return { code: status, lines: stderr.trimEnd().split('\n'), out: stdout };
  };
  const refused = (code: number, says: RegExp, ...args: string[]): void => {
    const { lines, code: got } = run(...args);
    assert.equal(lines.length, 1, lines.join('\n'));
    assert.match(lines[0] ?? '', says);
    assert.equal(got, code, lines[0]);
  };
  refused(2, /unknown argument/, 'dance');
  refused(2, /is missing/, 'stats');
  refused(2, /"x" is not a whole number/, 'stats', 'x');
  refused(8, /process 4000000 is not under leapd/, 'stats', '4000000');
  refused(8, /no leapd answers/, 'stats', '--control', join(scene.directory, 'none'), '1');

  const target = scene.target('mix', { rounds: 0 });
  const leapd = await scene.attach(await target.ready());
  const pid = String(leapd.target);
  const where = ['--control', leapd.control];
  refused(2, /colour cannot be set/, 'set', pid, 'colour=red', ...where);
  refused(2, /history: 0 is not between/, 'set', pid, 'prefetch=none', 'history=0', ...where);
  refused(
    2,
    /prefetch-buffer: 100000 is more than the (\d+) frames .*; give at most \1, or start leapd with/,
    'set',
    pid,
    'prefetch=none',
    'prefetch-buffer=100000',
    ...where,
  );
  refused(
    2,
    /local-memory: 1\.0 TiB is more than process \d+ has: [\d.]+ MiB can be paged/,
    'set',
    pid,
    'prefetch=none',
    'local-memory=1T',
    ...where,
  );
  refused(2, /local-memory: 4\.0 KiB is too little; give at least 64\.0 KiB/, 'set', pid, 'local-memory=4K', ...where);
  assert.equal(
    (JSON.parse(run('stats', pid, '--json', ...where).out) as { prefetch: string }).prefetch,
    'streams',
    'a set with one wrong value changes nothing',
  );
  const set = run('set', pid, 'prefetch=none', 'local-memory=1M', 'prefetch-buffer=32', '--json', ...where);
  assert.equal(set.code, 0, set.lines.join(' '));
  const { prefetch, localLimitPages, prefetchBuffer } = JSON.parse(set.out) as Record<string, unknown>;
  assert.deepEqual(
    { prefetch, localLimitPages, prefetchBuffer },
    { prefetch: 'none', localLimitPages: 256, prefetchBuffer: 32 },
  );
  assert.equal(run('stats', pid, '--log', ...where).code, 0);
  const counters = await leapd.until('log line of all counters', START_MS, () =>
    leapd.log.find(({ msg }) => msg === 'counters'),
  );
  assert.deepEqual([counters['level'], counters['prefetch'], counters['localLimitPages']], [30, 'none', 256]);
  for (const name of ['faults', 'evictions', 'hashMismatches', 'faultLatencyNs']) assert.ok(name in counters, name);
  assert.match(run('status').out, new RegExp(`\\b${pid}\\b.*active`));
  target.send('go');
  const detached = run('detach', pid, '--json', ...where);
  assert.equal(detached.code, 0, detached.lines.join(' '));
  await leapd.cleanEnd(END_MS);
  target.send('stop');
  await target.finish();
  refused(8, /no leapd answers/, 'stats', pid, ...where);
});

test('leapctl doctor finds this machine fit', { skip, timeout }, () => {
  const { status, stdout } = spawnSync(process.execPath, [leapctlPath, 'doctor', '--json'], {
    encoding: 'utf8',
    timeout: START_MS,
  });
  const { findings } = JSON.parse(stdout) as { findings: { what: string; verdict: string; found: string }[] };
  assert.equal(status, 0, stdout);
  const names = [
    'kernel',
    'rights',
    'userfaultfd',
    '/dev/userfaultfd',
    'UFFDIO_MOVE',
    'io_uring',
    'CPUs',
    'RDMA devices',
    'locked memory',
  ];
  for (const what of names)
    assert.equal(findings.filter((finding) => finding.what === what && finding.found !== '').length, 1, what);
});
