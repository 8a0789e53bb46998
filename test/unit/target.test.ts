import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ExitCode, Refusal } from '../../src/cli/exit-codes.js';
import { hasCapability, isAtLeast, kernelVersion } from '../../src/host/machine.js';
import { describePin } from '../../daemon/pinned.js';
import { parseFields, parseStat } from '../../src/host/process-info.js';
import { checkSwapPath } from '../../daemon/swap-path.js';
import { anonymousPages, checkTarget, localLimit, type Target } from '../../daemon/target.js';

const refusal = (code: number, pattern: RegExp) => (error: unknown) =>
  error instanceof Refusal && error.code === code && pattern.test(error.message);

test('a process name may hold anything', () => {
  const stat = parseStat('42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3');
  assert.deepEqual(stat, {
    pid: 42,
    name: 'a) b (c)',
    state: 'S',
    parent: 1,
    kernelThread: false,
    ended: false,
    startTime: 987654,
  });
  assert.equal(parseStat('2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0')?.kernelThread, true);
  const zombie = (threads: number): boolean | undefined =>
    parseStat(`9 (x) Z 1 9 9 0 -1 4 0 0 0 0 0 0 0 0 20 0 ${threads} 0 7 0`)?.ended;
  assert.equal(zombie(1), true);
  assert.equal(zombie(3), false, 'its first thread has left, the others go on');
  assert.equal(parseStat('rubbish'), undefined);
});

test('what can be paged is private, writable, anonymous and not the main stack', () => {
  const maps = [
    '555500000000-555500001000 r-xp 00000000 fe:00 12 /bin/x',
    '555500002000-555500004000 rw-p 00002000 fe:00 12 /bin/x', // data of a file
    '555500010000-555500030000 rw-p 00000000 00:00 0 [heap]', // 32 pages
    '7f0000000000-7f0000010000 rw-p 00000000 00:00 0 ', // 16
    '7f0000020000-7f0000021000 rw-s 00000000 00:01 77 /dev/zero (deleted)',
    '7f0000030000-7f0000031000 ---p 00000000 00:00 0 ',
    '7f0000040000-7f0000042000 rwxp 00000000 00:00 0 [anon:jit]', // 2
    '7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 [stack]',
    'ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]',
  ].join('\n');
  assert.equal(anonymousPages(maps), 32 + 16 + 2);
});

test('a limit is measured against the target', () => {
  const target: Target = { pid: 9, startTime: 1, name: 'x', usedPages: 1000, mappedPages: 4000 };
  assert.deepEqual(localLimit({ kind: 'percent', percent: 25 }, target), { share: 0.25 });
  assert.deepEqual(localLimit({ kind: 'bytes', bytes: 4000 * 4096 }, target), { pages: 4000 });
  assert.throws(
    () => localLimit({ kind: 'bytes', bytes: 4001 * 4096 }, target),
    refusal(ExitCode.usage, /is more than process 9 has: .* can be paged/),
  );
  assert.throws(() => localLimit({ kind: 'bytes', bytes: 4096 }, target), refusal(ExitCode.usage, /too little/));
});

test('this process, a thread and nothing are no targets', () => {
  assert.throws(() => checkTarget(process.pid, false), refusal(ExitCode.target, /is this leapd/));
  assert.throws(() => checkTarget(4194303, false), refusal(ExitCode.target, /there is no process/));
  const thread = readdirSync('/proc/self/task')
    .map(Number)
    .find((id) => id !== process.pid);
  assert.throws(
    () => checkTarget(Number(thread), false),
    refusal(ExitCode.target, new RegExp(`is a thread of process ${process.pid}`)),
  );
});

test('what may write to memory behind its back is seen by its descriptor', () => {
  assert.match(describePin('/data/file', 'pos:\t0\nflags:\t0140002\n') ?? '', /O_DIRECT/);
  assert.equal(describePin('/data/file', 'pos:\t0\nflags:\t0100002\n'), undefined);
  assert.match(
    describePin('anon_inode:[io_uring]', 'flags:\t02000002\nUserFiles:\t0\nUserBufs:\t4\n') ?? '',
    /registered buffers/,
  );
  assert.equal(describePin('anon_inode:[io_uring]', 'flags:\t02000002\nUserBufs:\t0\n'), undefined);
  assert.match(describePin('/dev/infiniband/uverbs0', 'flags:\t02\n') ?? '', /DMA/);
  assert.equal(describePin('pipe:[1]', 'flags:\t040001\n'), undefined, 'O_DIRECT on a pipe is packet mode');
});

test('kernels and rights', () => {
  assert.deepEqual(kernelVersion('6.18.44-fc'), [6, 18]);
  assert.deepEqual(kernelVersion('odd'), [0, 0]);
  assert.ok(
    isAtLeast([5, 11], [5, 11]) &&
      isAtLeast([6, 0], [5, 11]) &&
      !isAtLeast([5, 10], [5, 11]) &&
      !isAtLeast([4, 19], [5, 11]),
  );
  assert.ok(hasCapability(19, parseFields('CapEff:\t0000000000080000')));
  assert.ok(!hasCapability(21, parseFields('CapEff:\t0000000000080000')));
});

test('a swap file is made where there is nothing, in a directory, with room', () => {
  const directory = mkdtempSync(join(tmpdir(), 'leap-unit-'));
  try {
    const path = join(directory, 'a.swap');
    assert.equal(checkSwapPath(path, 10), undefined);
    assert.deepEqual(readdirSync(directory), [], 'the trial leaves nothing');
    assert.throws(
      () => checkSwapPath(path, Number.MAX_SAFE_INTEGER / 4096),
      refusal(ExitCode.swapFile, /has room for/),
    );
    assert.match(
      checkSwapPath(path, Number.MAX_SAFE_INTEGER / 4096, true) ?? '',
      /has room for .*: pages that the donors do not take may find no room/,
    );
    assert.equal(checkSwapPath(path, 10, true), undefined);
    assert.throws(() => checkSwapPath(join(directory, 'no', 'a.swap'), 10), refusal(ExitCode.swapFile, /no directory/));
    writeFileSync(path, 'precious');
    assert.throws(() => checkSwapPath(path, 10), refusal(ExitCode.swapFile, /exists/));
    symlinkSync(join(directory, 'nowhere'), join(directory, 'link'));
    assert.throws(
      () => checkSwapPath(join(directory, 'link'), 10),
      refusal(ExitCode.swapFile, /exists/),
      'a dangling link is something too',
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});
