/** What leapd must refuse: in one line, with an exit code, and without a trace in the target. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { rdma } from '../../src/host/native-engine.js';
import { Child, sleep } from './child.js';
import { cannotRun, leapdPath, paged, Scene, START_MS, type Options, type Target } from './harness.js';
import * as proc from './proc.js';
import { missing } from './programs.js';

const skip = cannotRun;
const timeout = 60_000;

interface Refused {
  readonly program?: string;
  readonly options?: Options;
  readonly leapd?: (scene: Scene) => Options;
  /** The process to name, where it is not the target. */
  readonly pid?: (target: Target, ready: number) => number;
  /** Why it is not refused here; false when it is. */
  readonly skip?: () => string | false;
  readonly says: RegExp;
}

async function refused(
  t: TestContext,
  { program = 'mix', options = {}, leapd: leapdOptions, pid, says }: Refused,
): Promise<void> {
  const scene = new Scene(t);
  const target = scene.target(program, options);
  const ready = await target.until('READY', START_MS, () => {
    const [, pid] = target.output.map((line) => /^READY (\d+)/.exec(line)).find((match) => match) ?? [];
    return pid !== undefined ? Number(pid) : target.exit ? 0 : undefined;
  });
  if (ready === 0) return t.skip(target.lines.join(' '));
  await sleep(20);
  const named = pid ? pid(target, ready) : ready;
  const before = proc.view(ready, true);
  const leapd = scene.leapd(named, leapdOptions?.(scene) ?? {});
  const exit = await leapd.end(START_MS);
  assert.ok(
    exit.code !== null && exit.code !== 0 && exit.code !== 70,
    `how it ended: ${exit.code} ${exit.signal}${leapd.tail()}`,
  );
  assert.equal(leapd.lines.length, 1, `one line, not${leapd.tail()}`);
  assert.match(leapd.lines[0]!, says);
  assert.match(leapd.lines[0]!, /;/, 'what is wrong; what to do');
  assert.deepEqual(proc.view(ready, true), before, 'the target is untouched');
  assert.equal(existsSync(leapd.control), false, 'no socket is left');
  assert.equal(existsSync(`/run/leap/${named}.json`), false, 'no record is left');
  if (program === 'mix') {
    target.send('go');
    await target.finish();
  }
}

/** On an RDMA device leapd goes on, and looks for its donors for ever. */
const hasRdma = (): string | false => rdma().why === '' && 'there is an RDMA device here: it would be used';

const cases: Readonly<Record<string, Refused>> = {
  'no such process': { pid: () => 4_000_000, says: /no process 4000000/ },
  'a kernel thread': { pid: () => 2, says: /kernel thread/ },
  'a 32-bit process': { program: 'narrow32', says: /32-bit/ },
  'a process under a debugger': { program: 'traced', says: /traced by/ },
  'O_DIRECT in use': { program: 'odirect', says: /O_DIRECT.*--allow-pinned/ },
  'buffers registered with io_uring': { program: 'uring_buffers', says: /io_uring.*--allow-pinned/ },
  'a limit of 0': { leapd: () => ({ 'local-memory': '0' }), says: /local-memory/ },
  'a limit above the size of the process': { leapd: () => ({ 'local-memory': '1T' }), says: /local-memory/ },
  'a limit that is no number': { leapd: () => ({ 'local-memory': 'much' }), says: /local-memory/ },
  'an unknown option': { leapd: () => ({ speed: '11' }), says: /unknown option/ },
  'remote memory without an RDMA device': {
    leapd: () => ({ portal: 'rdma://1,10.0.0.2:7400' }),
    says: /portal/,
    skip: hasRdma,
  },
  'a directory that is not there': {
    leapd: (scene) => ({ 'swap-file': join(scene.directory, 'none/swap') }),
    says: /no directory/,
  },
  'a swap file where none can be made': {
    leapd: () => ({ 'swap-file': '/proc/leap-swap' }),
    says: /\/proc\/leap-swap|\/proc/,
  },
  'a directory as the swap file': {
    leapd: (scene) => (mkdirSync(join(scene.directory, 'd')), { 'swap-file': join(scene.directory, 'd') }),
    says: /exists/,
  },
};
for (const [name, refusal] of Object.entries(cases))
  test(`refused: ${name}`, { skip: skip || (refusal.skip?.() ?? false), timeout }, (t) => refused(t, refusal));

test('refused: a file of somebody else as the swap file, which keeps its bytes', { skip, timeout }, async (t) => {
  let file = '';
  await refused(t, {
    leapd: (scene) => {
      file = join(scene.directory, 'precious');
      writeFileSync(file, 'data');
      return { 'swap-file': file };
    },
    says: /exists/,
  }).then(() => assert.equal(readFileSync(file, 'utf8'), 'data'));
});

test(
  '--rdma off takes no RDMA device, and switching it on says that there is none',
  { skip: skip || (rdma().why === '' && 'there is an RDMA device here'), timeout },
  async (t) => {
    const scene = new Scene(t);
    const target = scene.target('mix', { rounds: 2 });
    const leapd = await scene.attach(await target.ready(), { portal: 'rdma://1,10.0.0.2:7400', rdma: 'off' });
    await assert.rejects(
      leapd.set({ rdma: 'on' }),
      /rdma: (there is no RDMA device|built without RDMA|\/dev\/infiniband)/,
    );
    assert.equal(String((await leapd.stats())['rdma']), 'off');
    target.send('go');
    await target.finish();
    await leapd.cleanEnd();
  },
);

test('refused: leapd itself', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 2 });
  const first = await scene.attach(await target.ready());
  const second = scene.leapd(first.pid);
  assert.notEqual((await second.end(START_MS)).code, 0);
  assert.match(second.lines.join(' '), /is the leapd of process/);
  target.send('go');
  await target.finish();
  await first.cleanEnd();
});

test('refused: leapd without rights', { skip: missing('setpriv'), timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('mix', { rounds: 2 });
  const pid = await target.ready();
  const before = proc.view(pid, true);
  const command = [
    '--reuid=65534',
    '--regid=65534',
    '--clear-groups',
    process.execPath,
    leapdPath,
    '--pid',
    String(pid),
    '--swap-file',
    '/tmp/leap-none',
  ];
  const leapd = scene.add(new Child('leapd', 'setpriv', command, { cwd: '/' }));
  assert.notEqual((await leapd.end(START_MS)).code, 0);
  assert.equal(leapd.lines.length, 1, leapd.tail());
  assert.match(leapd.lines[0]!, /root|CAP_|EACCES|EPERM/);
  assert.deepEqual(proc.view(pid, true), before);
  target.send('go');
  await target.finish();
});

test('refused: a thread of a process', { skip, timeout }, async (t) => {
  const scene = new Scene(t);
  const target = scene.target('blocked', { mode: 'read' });
  const pid = await target.ready();
  const thread = Number(proc.threads(pid).find((tid) => tid !== String(pid)));
  const leapd = scene.leapd(thread);
  assert.notEqual((await leapd.end(START_MS)).code, 0);
  assert.match(leapd.lines.join(' '), new RegExp(`thread of process ${pid}`));
});

test('O_DIRECT that begins under leapd: a warning, and eviction rests', { skip, timeout }, async (t) => {
  await paged(t, {
    program: 'odirect',
    options: { mode: 'late' },
    endless: true,
    leapd: { evict: 'move' },
    end: 'detach',
    meanwhile: async (_target, leapd) => {
      const warns = (record: Record<string, unknown>): boolean =>
        Number(record['level']) === 40 && /device|O_DIRECT/.test(JSON.stringify(record));
      await leapd.until('warning', 12_000, () => (leapd.log.some(warns) ? true : undefined));
    },
  });
});
