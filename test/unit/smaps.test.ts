import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseSmaps } from '../../src/host/smaps.js';

const TEXT = `55d0c8a00000-55d0c8a21000 rw-p 00000000 00:00 0                          [heap]
Size:                132 kB
Rss:                  12 kB
VmFlags: rd wr mr mw me ac um uw sd 
7f1c2c000000-7f1c2c021000 rw-s 00001000 fe:00 1837465                    /tmp/a file (deleted)
Size:                132 kB
VmFlags: rd wr sh mr mw me ms lo 
7f1c30000000-7f1c34000000 ---p 00000000 00:00 0 
Size:              65536 kB
ProtectionKey:         0
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
VmFlags: ex 
`;

test('reads headers, paths with spaces, and flags', () => {
  const [heap, file, guard, vsyscall, ...rest] = parseSmaps(TEXT);
  assert.equal(rest.length, 0);
  assert.deepEqual(heap, {
    start: 0x55d0c8a00,
    end: 0x55d0c8a21,
    permissions: 'rw-p',
    inode: 0,
    path: '[heap]',
    flags: ['rd', 'wr', 'mr', 'mw', 'me', 'ac', 'um', 'uw', 'sd'],
  });
  assert.equal(file?.path, '/tmp/a file (deleted)');
  assert.equal(file?.inode, 1837465);
  assert.equal(file?.permissions, 'rw-s');
  assert.ok(file?.flags.includes('lo'));
  assert.equal(guard?.path, '');
  assert.deepEqual(guard?.flags, []);
  assert.equal(vsyscall?.start, 0xffffffffff600);
});

test('an empty text has no mappings', () => {
  assert.deepEqual(parseSmaps(''), []);
});

test('reads our own', () => {
  const mappings = parseSmaps(readFileSync('/proc/self/smaps', 'utf8'));
  assert.ok(mappings.length > 10);
  assert.ok(mappings.some((mapping) => mapping.path === '[stack]' && mapping.flags.includes('gd')));
  for (const mapping of mappings) {
    assert.ok(mapping.end > mapping.start);
    assert.ok(mapping.flags.includes('rd') === mapping.permissions.startsWith('r') || mapping.permissions === '---p');
  }
});
