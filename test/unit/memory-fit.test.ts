import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { memoryMounts, roomFor, whyNoFit } from '../../daemon/memory-fit.js';

const MIB = 2 ** 20;

/** A made-up /proc and control group tree. */
function world(context: TestContext, files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), 'leap-unit-'));
  context.after(() => rmSync(root, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text.replaceAll('ROOT', root));
  }
  return join(root, 'proc');
}

const meminfo = 'MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapFree: 0 kB\n';

test('without limits the machine is the room', (context) => {
  const proc = world(context, { 'proc/meminfo': meminfo, 'proc/self/mountinfo': '', 'proc/9/cgroup': '0::/\n' });
  assert.deepEqual(roomFor(9, proc), { bytes: 4032 * MIB, where: 'the machine' });
});

test('version 2: the tightest group on the way up counts, its cache not', (context) => {
  const proc = world(context, {
    'proc/meminfo': meminfo,
    'proc/self/mountinfo': '30 23 0:26 / ROOT/cg rw,relatime shared:9 - cgroup2 cgroup2 rw\n',
    'proc/9/cgroup': '0::/outer/inner\n',
    'cg/outer/memory.max': `${1024 * MIB}\n`,
    'cg/outer/memory.current': `${1000 * MIB}\n`,
    'cg/outer/memory.stat': `anon 5\ninactive_file ${100 * MIB}\n`,
    'cg/outer/inner/memory.max': 'max\n',
    'cg/outer/inner/memory.current': '5\n',
  });
  assert.deepEqual(roomFor(9, proc), { bytes: 123 * MIB, where: 'the control group /outer' });
});

test('version 1, mounted from inside a container', (context) => {
  const proc = world(context, {
    'proc/meminfo': meminfo,
    'proc/self/mountinfo':
      '31 23 0:27 /docker/abc ROOT/memory rw - cgroup cgroup rw,memory\n32 23 0:28 / ROOT/cpu rw - cgroup cgroup rw,cpu\n',
    'proc/9/cgroup': '4:memory:/docker/abc\n2:cpu:/\n',
    'memory/memory.limit_in_bytes': `${256 * MIB}\n`,
    'memory/memory.usage_in_bytes': `${56 * MIB}\n`,
  });
  assert.deepEqual(roomFor(9, proc), { bytes: 199 * MIB, where: 'the control group /' });
});

test('version 1 without a limit writes a huge number', (context) => {
  const proc = world(context, {
    'proc/meminfo': meminfo,
    'proc/self/mountinfo': '31 23 0:27 / ROOT/memory rw - cgroup cgroup rw,memory\n',
    'proc/9/cgroup': '4:memory:/a\n',
    'memory/a/memory.limit_in_bytes': '9223372036854771712\n',
    'memory/a/memory.usage_in_bytes': '1\n',
  });
  assert.equal(roomFor(9, proc).where, 'the machine');
});

test('mounts', () => {
  const text =
    '29 22 0:25 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n30 22 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n31 22 0:2 / /x rw - tmpfs tmpfs rw\n';
  assert.deepEqual(memoryMounts(text), [
    { version: 1, root: '/', point: '/sys/fs/cgroup/memory' },
    { version: 2, root: '/', point: '/sys/fs/cgroup/unified' },
  ]);
});

test('it fits, or the line says what does not', () => {
  const room = { bytes: 100 * MIB, where: 'the machine' };
  assert.equal(whyNoFit(0, { bytes: 0, where: 'the machine' }), undefined);
  assert.equal(whyNoFit(100 * MIB, room), undefined);
  assert.match(whyNoFit(101 * MIB, room) ?? '', /101.0 MiB are stored, but the machine has room for 100.0 MiB only/);
});

test('this machine can be asked', () => {
  assert.ok(roomFor(process.pid).bytes > 0);
});
