import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { checkClaims, claimTarget } from '../../daemon/claim.js';
import { ExitCode, Refusal } from '../../src/cli/exit-codes.js';
import { identify, type ProcessId } from '../../src/host/process-info.js';
import { judge, parseClaim, Registry, RECORD_VERSION, type Claim } from '../../daemon/registry.js';

const self = identify(process.pid)!;
// the number is in use again by another process
const dead: ProcessId = { pid: self.pid, startTime: self.startTime - 1 };

function scratch(test: TestContext): { registry: Registry; directory: string } {
  const directory = mkdtempSync(join(tmpdir(), 'leap-unit-'));
  test.after(() => rmSync(directory, { recursive: true }));
  return { registry: new Registry(join(directory, 'run')), directory };
}

const claimOf = (target: ProcessId, leapd: ProcessId, more: Partial<Claim> = {}): Claim => ({
  version: RECORD_VERSION,
  target: { ...target, name: 'prey' },
  leapd,
  startedAt: '2026-01-02T03:04:05.000Z',
  swapFile: '/nowhere/leap.swap',
  control: '/nowhere/leap.sock',
  attached: true,
  ...more,
});

test('every cell of the table', () => {
  const alive: ProcessId = { pid: 1, startTime: 1 };
  const gone: ProcessId = { pid: 2, startTime: 2 };
  const lives = (id: ProcessId): boolean => id.pid === alive.pid;
  const verdict = (target: ProcessId, leapd: ProcessId, attached = true): string =>
    judge(claimOf(target, leapd, { attached }), lives);
  assert.equal(verdict(alive, alive), 'active');
  assert.equal(verdict(alive, gone), 'orphaned');
  assert.equal(verdict(gone, alive), 'ending');
  assert.equal(verdict(gone, gone), 'stale');
  assert.equal(verdict(alive, gone, false), 'stale', 'killed before it attached: nothing of it is in the target');
});

test('a leapd killed while it attached has left an orphan only where its userfaultfd is in the target', () => {
  const lives = ({ pid }: ProcessId): boolean => pid === 1;
  const claim = claimOf({ pid: 1, startTime: 1 }, { pid: 2, startTime: 2 }, { attaching: true });
  assert.equal(
    judge(claim, lives, () => true),
    'orphaned',
  );
  assert.equal(
    judge(claim, lives, () => false),
    'stale',
  );
  assert.equal(judge(claimOf(self, dead, { attaching: true })), 'stale', 'this process has no userfaultfd');
});

test('nothing is deleted on the word of a record or directory that others can write', (context) => {
  const { registry, directory } = scratch(context);
  const swapFile = join(directory, 'precious');
  writeFileSync(swapFile, 'x');
  registry.claim(claimOf(dead, dead, { swapFile }));
  for (const [path, mode, former] of [
    [registry.pathOf(dead.pid), 0o666, 0o600],
    [join(directory, 'run'), 0o777, 0o700],
  ] as const) {
    chmodSync(path, mode);
    assert.deepEqual(registry.sweep(), []);
    assert.ok(existsSync(swapFile));
    chmodSync(path, former);
  }
  chmodSync(join(directory, 'run'), 0o777);
  assert.throws(() => registry.claim(claimOf(self, self)), /another user may write to it/);
  chmodSync(join(directory, 'run'), 0o700);
  assert.equal(registry.sweep().length, 1);
  assert.equal(existsSync(swapFile), false);
});

test('a process is known by number and start time', () => {
  assert.equal(judge(claimOf(self, self)), 'active');
  assert.equal(judge(claimOf(self, dead)), 'orphaned');
  assert.equal(judge(claimOf(dead, dead)), 'stale');
});

test('a record is written once, privately, and read back', (context) => {
  const { registry } = scratch(context);
  const claim = claimOf(self, self);
  assert.equal(registry.claim(claim), true);
  assert.equal(registry.claim(claim), false);
  assert.deepEqual(registry.read(self.pid), claim);
  assert.equal(statSync(registry.pathOf(self.pid)).mode & 0o777, 0o600);
  registry.update({ ...claim, failure: 'why' });
  assert.equal(registry.read(self.pid)?.failure, 'why');
  assert.deepEqual(
    registry.all().map(({ target }) => target.pid),
    [self.pid],
  );
  registry.release(self.pid);
  assert.equal(registry.read(self.pid), undefined);
  registry.signOfLife(claim);
  assert.deepEqual(registry.read(self.pid), claim, 'a record that somebody removed is written again');
});

test('what is no record of this version is none', () => {
  const good = JSON.stringify(claimOf(self, self));
  assert.ok(parseClaim(good));
  for (const text of [
    '',
    '{',
    'null',
    '7',
    '[]',
    '{}',
    good.slice(0, -5),
    good.replace('"version":1', '"version":2'),
    good.replace('"pid"', '"pit"'),
  ]) {
    assert.equal(parseClaim(text), undefined, text);
  }
});

test('a target is claimed by one leapd; the others are told by whom', (context) => {
  const { registry } = scratch(context);
  const target = { ...self, name: 'prey', usedPages: 1, mappedPages: 1 };
  checkClaims(registry, self.pid);
  const claim = claimTarget(registry, target, '/nowhere/a', '/nowhere/b');
  assert.equal(claim.attached, false);
  const refusedWith = (code: number, pattern: RegExp) => (error: unknown) =>
    error instanceof Refusal && error.code === code && pattern.test(error.message);
  assert.throws(
    () => claimTarget(registry, target, '/nowhere/a', '/nowhere/b'),
    refusedWith(ExitCode.target, /is the leapd of|already under leapd/),
  );
  registry.update(claimOf({ pid: 1, startTime: identify(1)!.startTime }, self));
  assert.throws(() => checkClaims(registry, 1), refusedWith(ExitCode.target, /already under leapd/));
});

test('whoever comes after a killed leapd is told what happened', (context) => {
  const { registry } = scratch(context);
  registry.claim(claimOf(self, dead));
  assert.throws(
    () => checkClaims(registry, self.pid),
    (error: unknown) => {
      assert.ok(error instanceof Refusal);
      assert.equal(error.code, ExitCode.orphaned);
      for (const part of [
        `leapd ${dead.pid}`,
        '2026-01-02 03:04:05',
        'was killed',
        'waits',
        '/nowhere/leap.swap',
        `kill -9 ${self.pid}`,
      ])
        assert.ok(error.message.includes(part), part);
      assert.ok(!error.message.includes('\n'));
      return true;
    },
  );
  registry.update(claimOf(self, dead, { failure: 'out of luck' }));
  assert.throws(() => checkClaims(registry, self.pid), /ended on an error \(out of luck\)/);
});

test('the sweep clears up after the dead, and only after them', (context) => {
  const { registry, directory } = scratch(context);
  const swapFile = join(directory, 'stale.swap');
  const kept = join(directory, 'kept.swap');
  writeFileSync(swapFile, '');
  writeFileSync(kept, '');
  registry.claim(claimOf({ pid: 4194303, startTime: 5 }, dead, { swapFile }));
  registry.claim(claimOf(self, dead, { swapFile: kept }));
  const data = join(directory, 'data');
  writeFileSync(data, 'of somebody who gave its name by mistake');
  registry.claim(claimOf({ pid: 4194302, startTime: 5 }, dead, { swapFile: data, control: data, attached: false }));
  writeFileSync(join(directory, 'run', '12.json'), 'half a reco');
  assert.deepEqual(
    registry
      .sweep()
      .map((claim) => claim.target.pid)
      .sort(),
    [4194302, 4194303],
  );
  assert.equal(existsSync(swapFile), false);
  assert.equal(existsSync(kept), true, 'its process waits for it');
  assert.equal(existsSync(data), true, 'killed before it had made sure that nothing stood there');
  assert.deepEqual(readdirSync(join(directory, 'run')).sort(), ['12.json', `${self.pid}.json`].sort());
});
