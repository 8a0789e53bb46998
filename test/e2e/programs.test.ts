/**
 * Programs that nobody here wrote, under leapd: their own checks must pass, their results be those of a run without.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Child, describeExit, poll } from './child.js';
import { END_MS, Scene, START_MS, type Leapd, type Options, type Stats } from './harness.js';
import * as proc from './proc.js';
import { missing } from './programs.js';
import { pythonWork } from './python-work.js';

const timeout = 120_000;

/** Stops a process and all below it while leapd attaches to one of them, so that the work begins under leapd. */
async function attachStopped(scene: Scene, all: number[], pid: number, options: Options): Promise<Leapd> {
  for (const one of all) process.kill(one, 'SIGSTOP');
  const leapd = await scene.attach(pid, options);
  for (const one of all) process.kill(one, 'SIGCONT');
  return leapd;
}

for (const evict of ['move', 'discard']) {
  test(`memtester, evict ${evict}`, { skip: missing('memtester', 'setpriv', 'prlimit'), timeout }, async (t) => {
    const scene = new Scene(t);
    // As nobody and without the right to lock memory: locked memory is not paged. The mask leaves out the tests that
    // are passes by the hundred.
    const command = [
      '--memlock=0:0',
      'setpriv',
      '--reuid=65534',
      '--regid=65534',
      '--clear-groups',
      'memtester',
      '2M',
      '1',
    ];
    const memtester = scene.add(
      new Child('memtester', 'prlimit', command, {
        cwd: '/',
        env: { ...process.env, MEMTESTER_TEST_MASK: String(0b1111111111) },
      }),
    );
    await memtester.line(/^Loop 1\/1/, START_MS);
    const leapd = await attachStopped(scene, [memtester.pid], memtester.pid, {
      evict,
      'local-memory': '1M',
      'window-max': 32,
      'prefetch-buffer': 256,
    });
    const stats = await poll('faults', END_MS, async (): Promise<Stats | undefined> => {
      const now = memtester.exit ? { faults: -1 } : await leapd.stats();
      return now['faults']! < 0 || now['faults']! > 500 ? now : undefined;
    });
    assert.equal(describeExit(await memtester.end(timeout)), 'code 0', memtester.tail(2).slice(-600));
    assert.ok(memtester.lines.includes('Done.'));
    await leapd.cleanEnd();
    leapd.assertServed();
    t.diagnostic(`${stats['faults']} faults seen under way`);
  });
}

test('stress-ng --vm --verify', { skip: missing('stress-ng'), timeout }, async (t) => {
  const scene = new Scene(t);
  // By the clock: a number of operations that takes seconds under leapd is done in a moment without, before leapd has
  // come. And without the advice that it would draw at random: memory with MADV_DONTFORK is left alone.
  const args = ['--vm', '1', '--vm-bytes', '64M', '--vm-keep', '--vm-madvise', 'normal', '--verify', '--timeout', '6s'];
  const stress = scene.add(new Child('stress-ng', 'stress-ng', args, { cwd: scene.directory }));
  // The worker is a child of a child; it is the one with the memory.
  const worker = await poll('the worker with its memory', START_MS, () =>
    proc.family(stress.pid).find((pid) => proc.anonymousPages(pid) > 15_000),
  );
  const leapd = await attachStopped(scene, proc.family(stress.pid), worker, {
    'local-memory': '24M',
    'window-max': 32,
    'prefetch-buffer': 2000,
  });
  await poll('faults', END_MS, async () => (stress.exit || (await leapd.stats())['faults']! > 1000 ? true : undefined));
  const exit = await stress.end(timeout);
  assert.equal(describeExit(exit), 'code 0', `how stress-ng ended${stress.tail()}`);
  assert.ok(
    stress.lines.some((line) => /successful run/.test(line)),
    stress.tail(),
  );
  await leapd.cleanEnd();
  leapd.assertServed();
});

/** A program that prints READY, reads a line, and prints DONE with a checksum: natively, then under leapd. */
async function compare(scene: Scene, name: string, start: () => Child, options: Options): Promise<void> {
  const native = scene.add(start());
  await native.line(/^READY/, START_MS);
  native.send('go');
  const [wanted = ''] = await native.line(/^DONE \w+/, END_MS * 2);
  await native.end(END_MS);

  const child = scene.add(start());
  await child.line(/^READY/, START_MS);
  const anonymous = proc.anonymousPages(child.pid);
  const leapd = await scene.attach(child.pid, options);
  const { residentPages = 0, storedPages = 0, bufferedPages = 0 } = await leapd.stats();
  child.send('go');
  const [got] = await child.line(/^DONE \w+/, timeout);
  assert.equal(got, wanted, 'the result, and that of a run without leapd');
  assert.equal(describeExit(await child.end(END_MS)), 'code 0', `how ${name} ended${child.tail()}`);
  await leapd.cleanEnd();
  leapd.assertServed();
  scene.note(
    `${name}: ${residentPages + storedPages + bufferedPages} of its ${anonymous} anonymous pages could be paged at the attach`,
  );
}

const modest: Options = { 'local-memory': '40%', 'window-max': 32, 'prefetch-buffer': 2000 };

test('a Python process', { skip: missing('python3'), timeout }, async (t) => {
  const scene = new Scene(t);
  const python = (): Child =>
    new Child('python', 'python3', ['-c', pythonWork], { env: { ...process.env, PYTHONHASHSEED: '0' } });
  await compare(scene, 'python', python, modest);
});

test('a Python process, evict discard', { skip: missing('python3'), timeout }, async (t) => {
  const scene = new Scene(t);
  const python = (): Child =>
    new Child('python', 'python3', ['-c', pythonWork], { env: { ...process.env, PYTHONHASHSEED: '0' } });
  await compare(scene, 'python', python, { ...modest, evict: 'discard' });
});

test('a Node process', { skip: missing(), timeout }, async (t) => {
  const scene = new Scene(t);
  const program = fileURLToPath(new URL('./node-work.js', import.meta.url));
  await compare(scene, 'node', () => new Child('node', process.execPath, [program]), modest);
});
