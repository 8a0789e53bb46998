import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  isPortalText,
  parsePortalFile,
  parsePortalText,
  PortalError,
  type PortalAddress,
  type PortalEntry,
} from '../../src/donors/portal.js';

const wrong = (text: string, pattern: RegExp): void =>
  assert.throws(
    () => (isPortalText(text) ? parsePortalText(text) : parsePortalFile(text, 'p.txt')),
    (error) => error instanceof PortalError && pattern.test(error.message),
    text,
  );

const plain = (entries: readonly PortalEntry[]): PortalAddress[] => entries.map(({ host, port }) => ({ host, port }));

test('a portal file: with a count or without, comments, names, IPv6', () => {
  assert.deepEqual(plain(parsePortalFile('2\n10.0.0.2:9400\n10.0.0.3:9401\n', 'p.txt')), [
    { host: '10.0.0.2', port: 9400 },
    { host: '10.0.0.3', port: 9401 },
  ]);
  assert.deepEqual(
    plain(parsePortalFile('# donors\n\n  donor-a.lan:1   # the big one\n[fd00::3]:65535\r\n', 'p.txt')),
    [
      { host: 'donor-a.lan', port: 1 },
      { host: 'fd00::3', port: 65535 },
    ],
  );
});

test('each donor knows its line', () => {
  assert.deepEqual(
    parsePortalFile('2\n\n10.0.0.2:9400\n# one more\nb:1\n', 'p.txt').map(({ where }) => where),
    ['p.txt, line 3', 'p.txt, line 5'],
  );
  assert.deepEqual(
    parsePortalText('rdma://1,b:1').map(({ where }) => where),
    ['portal, part 2'],
  );
});

test('a portal as text', () => {
  assert.deepEqual(plain(parsePortalText('rdma://2,10.0.0.2:9400,[fd00::2]:9400')), [
    { host: '10.0.0.2', port: 9400 },
    { host: 'fd00::2', port: 9400 },
  ]);
});

test('what is wrong is said with its line', () => {
  wrong('', /p.txt names no donor/);
  wrong('# nothing\n', /names no donor/);
  wrong('1\n', /names no donor/);
  wrong('3\n10.0.0.2:9400\n', /line 1: the count is 3, but 1 donors follow/);
  wrong('10.0.0.2:9400\n10.0.0.3\n', /line 2: "10.0.0.3" is not an address/);
  wrong('10.0.0.2:0\n', /line 1: port 0 is not between 1 and 65535/);
  wrong('10.0.0.2:70000\n', /line 1: port 70000 is not between 1 and 65535/);
  wrong('fd00::2:9400\n', /line 1: "fd00::2:9400" is not an address/);
  wrong('10.0.0.2:9400\n# same\n10.0.0.2:9400\n', /names 10.0.0.2:9400 twice/);
  wrong('rdma://2,10.0.0.2:9400', /the count is 2, but 1 donors follow/);
  wrong('rdma://', /./);
});
