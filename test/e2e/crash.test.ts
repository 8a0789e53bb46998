/**
 * What must not happen when things go wrong: no page turns into zeros or another page, nothing is lost, and everything
 * is said in one clear line.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { describeExit, poll, sleep } from './child.js';
import { cannotRun, END_MS, reference, Scene, settled, START_MS, TINY_PAGES, WORK_MS, type Leapd } from './harness.js';
import * as proc from './proc.js';

const skip = cannotRun;
const timeout = 90_000;

for (const evict of ['move', 'discard']) {
  test(
    `leapd is killed: the target waits, and the next leapd says so, evict ${evict}`,
    { skip, timeout },
    async (t) => {
      const scene = new Scene(t);
      const target = scene.target('threads', { rounds: 0 });
      const pid = await target.ready();
      const leapd = await scene.attach(pid, { evict });
      target.send('go');
      await sleep(300);
      leapd.kill('SIGKILL');
      await leapd.end(END_MS);
      await poll('the target to wait for a page', END_MS, () => (proc.waitsForPage(pid) ? true : undefined));
      await sleep(300);
      assert.equal(target.exit, undefined, 'the target goes on waiting');
      assert.deepEqual(
        target.output.filter((line) => line.startsWith('FAIL')),
        [],
      );
      assert.deepEqual(
        proc.children(pid).filter((child) => proc.state(child) !== 'Z'),
        [],
        'the helper has gone with leapd',
      );

      const next = scene.leapd(pid);
      const exit = await next.end(START_MS);
      assert.notEqual(exit.code, 0);
      assert.equal(next.lines.length, 1, `one line${next.tail()}`);
      assert.match(next.lines[0]!, /killed|died/);
      assert.ok(next.lines[0]!.includes(leapd.swapFile), 'it says where the pages are');
      assert.ok(existsSync(leapd.swapFile), 'and leaves them there');
      assert.ok(proc.waitsForPage(pid), 'and the target waits on');

      target.kill('SIGKILL');
      await target.end(END_MS);
      const other = scene.target('mix');
      const third = await scene.attach(await other.ready());
      assert.equal(existsSync(leapd.swapFile), false, 'the next leapd clears up after a dead leapd of a dead process');
      await third.detach();
    },
  );
}

test('a second leapd is refused, the first goes on', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 4 });
  const pid = await target.ready();
  const first = await scene.attach(pid);
  const view = (): proc.View => ({ ...proc.view(pid, true), registered: proc.registeredOwn(pid) });
  const before = view();
  const second = scene.leapd(pid);
  const exit = await second.end(START_MS);
  assert.notEqual(exit.code, 0);
  assert.equal(second.lines.length, 1, second.tail());
  assert.match(second.lines[0]!, /already under leapd/);
  assert.deepEqual(view(), before);
  assert.ok(existsSync(first.swapFile));
  target.send('go');
  const { checksum, rounds } = await target.finish();
  await first.cleanEnd();
  assert.deepEqual([`DONE ${checksum} ${rounds}`], await reference(scene, 'mix', { rounds: 4 }));
});

test('two leapds at the same moment: one wins', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 2 });
  const pid = await target.ready();
  const both = [scene.leapd(pid), scene.leapd(pid)];
  const loser = await Promise.any(both.map(async (leapd) => (await leapd.end(START_MS), leapd)));
  const winner = both.find((leapd) => leapd !== loser)!;
  assert.notEqual(loser.exit?.code, 0, loser.tail());
  await winner.attached();
  target.send('go');
  await target.finish();
  await winner.cleanEnd();
});

/** A small file system for a swap file. @returns its directory, or undefined where none can be made. */
function smallFileSystem(scene: Scene, megabytes: number, kind: 'tmpfs' | 'ext4'): string | undefined {
  const directory = join(scene.directory, kind);
  const image = join(scene.directory, 'image');
  mkdirSync(directory);
  try {
    if (kind === 'tmpfs')
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'leap-test', directory], { stdio: 'ignore' });
    else {
      execFileSync('truncate', ['-s', `${megabytes}M`, image]);
      execFileSync('mkfs.ext4', ['-q', '-O', '^has_journal', '-m', '0', image], { stdio: 'ignore' });
      execFileSync('mount', ['-o', 'loop', image, directory], { stdio: 'ignore' });
    }
  } catch {
    return undefined;
  }
  scene.atEnd(() => execFileSync('umount', ['-l', directory], { stdio: 'ignore' }));
  return directory;
}

for (const kind of ['tmpfs', 'ext4'] as const) {
  test(`the swap file's ${kind} fills up: nothing is lost, leapd warns`, { skip, timeout }, async (t) => {
    const scene = new Scene(t);
    const directory = smallFileSystem(scene, 5, kind);
    if (directory === undefined) return t.skip(`no ${kind} can be mounted here`);
    const options = { rounds: 4, mode: 'double', pages: 1000 };
    const target = scene.target('mix', { ...options, hold: 1 });
    const pid = await target.ready();
    const leapd = await scene.attach(pid, { 'swap-file': join(directory, 'swap') });
    target.send('go');
    await target.line(/^HOLD$/, WORK_MS);
    // A quick target is done before leapd has found the mapping that it made under way: there is room for the first one
    // alone.
    await poll('both areas to be known', END_MS, async () =>
      (await leapd.stats())['registeredPages']! >= 2 * options.pages ? true : undefined,
    );
    // A file system that takes half of a write says EIO, and not that it is full.
    const warns = (record: Record<string, unknown>): boolean =>
      Number(record['level']) >= 40 && /swap file (is full|failed)/.test(String(record['msg']));
    await leapd.until('warning that the file is full', END_MS, () => (leapd.log.some(warns) ? true : undefined));
    const stats = await leapd.stats();
    assert.ok(stats['residentPages']! > TINY_PAGES, `the limit is exceeded: ${JSON.stringify(stats)}`);
    assert.ok(stats['writeErrors']! > 0 && stats['lostPages'] === 0, JSON.stringify(stats));
    await leapd.detach();
    target.send('go');
    const { checksum, rounds } = await target.finish();
    assert.deepEqual([`DONE ${checksum} ${rounds}`], await reference(scene, 'mix', options));
  });
}

/** Until most of the memory is in the swap file and nowhere else. */
async function storedMuch(leapd: Leapd): Promise<void> {
  await settled(leapd, TINY_PAGES);
  await poll('pages that are in the swap file alone', END_MS, async () =>
    (await leapd.stats())['storedPages']! > 1500 ? true : undefined,
  );
}

/** Garbage over all that the swap file holds. */
function corrupt(path: string): void {
  const fd = openSync(path, 'r+');
  const pages = Math.ceil(statSync(path).size / 4096);
  for (let i = 0; i < pages; i++) writeSync(fd, randomBytes(4096), 0, 4096, i * 4096);
  fsyncSync(fd);
  closeSync(fd);
}

for (const where of ['disk', 'tmpfs'] as const) {
  test(`a page that comes back wrong from ${where} is never mapped: SIGBUS`, { skip, timeout }, async (t) => {
    const scene = new Scene(t);
    const directory = where === 'tmpfs' ? smallFileSystem(scene, 64, 'tmpfs') : scene.directory;
    if (directory === undefined) return t.skip('no tmpfs can be mounted here');
    const target = scene.target('mix', { rounds: 3, pages: 4096 });
    const leapd = await scene.attach(await target.ready(), { 'swap-file': join(directory, 'swap') });
    await storedMuch(leapd);
    corrupt(leapd.swapFile);
    target.send('go');
    assert.equal(describeExit(await target.end(WORK_MS)), 'signal SIGBUS');
    assert.deepEqual(
      target.output.filter((line) => line.startsWith('FAIL')),
      [],
      'the target has seen no wrong byte',
    );
    await leapd.cleanEnd(); // before its log is read: the last lines of leapd come after the target's end
    assert.ok(
      leapd.log.some((record) => Number(record['level']) >= 50),
      `no error is logged${leapd.tail()}`,
    );
  });
}

test('a swap file that is damaged, then a detach: still no wrong byte', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 2, pages: 4096 });
  const leapd = await scene.attach(await target.ready());
  await storedMuch(leapd);
  corrupt(leapd.swapFile);
  leapd.kill('SIGTERM');
  await poll('leapd to say what it lost', END_MS, () =>
    leapd.log.some((record) => Number(record['level']) >= 50) ? true : undefined,
  );
  target.send('go');
  assert.equal(describeExit(await target.end(WORK_MS)), 'signal SIGBUS');
  assert.deepEqual(
    target.output.filter((line) => line.startsWith('FAIL')),
    [],
    'the target has seen no wrong byte',
  );
  await leapd.end(END_MS);
});
