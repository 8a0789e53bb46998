import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ExitCode, Refusal } from '../../src/cli/exit-codes.js';
import { availableBytes, checkLockedMemory, lockedMemoryLimit } from '../../server/host-memory.js';
import { AllowList, hostOf, parseListen, parseOptions, type ServeOptions } from '../../server/memserver-options.js';

const GiB = 2 ** 30;
const base = ['--listen', '10.0.0.2:9400', '--memory', '8G'];
const parse = (...more: string[]): ServeOptions => parseOptions([...base, ...more], 64 * GiB) as ServeOptions;
const isRefusal = (code: ExitCode, pattern: RegExp) => (error: unknown) =>
  error instanceof Refusal && error.code === code && pattern.test(error.message);
const refuses = (pattern: RegExp, ...args: string[]): void => {
  assert.throws(() => parseOptions(args, 64 * GiB), isRefusal(ExitCode.usage, pattern));
};

test('what is not given has its standard value', () => {
  const options = parse();
  assert.deepEqual(options.listen, [{ address: '10.0.0.2', port: 9400, text: '10.0.0.2:9400' }]);
  assert.deepEqual(
    [options.memoryBytes, options.chunkBytes, options.reserveBytes, options.upperBytes],
    [8 * GiB, GiB, 8 * GiB, 16 * GiB],
  );
  assert.deepEqual(
    [options.reserveRounds, options.reserveWeight, options.reservePeriodMs, options.maxClients],
    [20, 70, 1000, 32],
  );
  assert.deepEqual([options.drainMs, parse('--drain', '5').drainMs], [600_000, 5000]);
  assert.deepEqual(
    [options.allow, options.tokenFile, options.legacy, options.status],
    [undefined, undefined, false, '/run/leap/memserver.sock'],
  );
});

test('several addresses, of both families', () => {
  assert.deepEqual(
    parse('--listen', '[fd00::2]:9401').listen.map(({ address, port }) => [address, port]),
    [
      ['10.0.0.2', 9400],
      ['fd00::2', 9401],
    ],
  );
  assert.equal(parseListen('[fe80::1%eth0]:1').address, 'fe80::1%eth0');
  for (const text of [
    '10.0.0.2',
    'host:9400',
    ':9400',
    '10.0.0.2:',
    'fd00::2:9400',
    '10.0.0.2:0',
    '10.0.0.2:65536',
    '10.0.0.256:1',
  ]) {
    assert.throws(() => parseListen(text), Refusal, text);
  }
});

test('each mistake is named, with its remedy', () => {
  refuses(/--listen is missing/, '--memory', '8G');
  refuses(/--memory is missing/, '--listen', '10.0.0.2:9400');
  refuses(/--memory: 65G is more than this machine has \(64\.0 GiB\)/, '--listen', '10.0.0.2:9400', '--memory', '65G');
  refuses(/--memory: 512M is less than a chunk/, '--listen', '10.0.0.2:9400', '--memory', '512M');
  for (const chunk of ['3G', '1000M', '2M', '6M']) refuses(/not a power of two/, ...base, '--chunk', chunk);
  refuses(/--memory: "50%"/, '--listen', '10.0.0.2:9400', '--memory', '50%');
  refuses(/--max-clients: 0 is not between/, ...base, '--max-clients', '0');
  refuses(/--drain: 0 is not between/, ...base, '--drain', '0');
  refuses(/--reserve-weight: "x" is not a whole number/, ...base, '--reserve-weight', 'x');
  refuses(/--reserve-upper is less than a chunk above/, ...base, '--reserve-upper', '8G');
  refuses(/--allow: "10.0.0.0\/33"/, ...base, '--allow', '10.0.0.0/33');
  refuses(/--legacy: original clients know only chunks of 1 GiB/, ...base, '--legacy', '--chunk', '4M');
  refuses(/--legacy admits clients that cannot prove the token/, ...base, '--legacy', '--token-file', 'x');
  refuses(/--memory is given 2 times/, ...base, '--memory', '1G');
  refuses(/unknown option --swap/, ...base, '--swap', 'x');
  refuses(/--json has no effect without status/, ...base, '--json');
  refuses(/--token-file needs a value/, ...base, '--token-file');
});

test('status is a command of its own', () => {
  assert.deepEqual(parseOptions(['status', '--json', '--status', '/run/x.sock']), {
    command: 'status',
    status: '/run/x.sock',
    json: true,
  });
});

test('--allow takes networks and addresses of both families', () => {
  const list = new AllowList(['10.0.0.0/24', '192.0.2.7', 'fd00::/8']);
  for (const address of ['10.0.0.1', '10.0.0.255', '192.0.2.7', 'fd00::1', 'fdff::9%eth0'])
    assert.ok(list.allows(address), address);
  for (const address of ['10.0.1.1', '192.0.2.8', 'fe80::1', '::1', 'nonsense', ''])
    assert.ok(!list.allows(address), address);
  for (const text of ['10.0.0.0/', 'x/8', '10.0.0.0/24/8', '10.0.0.0/-1', 'fd00::/129'])
    assert.throws(() => new AllowList([text]), Refusal, text);
});

test('the host in a peer', () => {
  assert.equal(hostOf('10.9.0.1:40112'), '10.9.0.1');
  assert.equal(hostOf('[fe80::1%eth0]:40112'), 'fe80::1%eth0');
  assert.equal(hostOf('[::ffff:10.9.0.1]:40112'), '10.9.0.1');
});

test('the limit of locked memory is found before the first chunk is', () => {
  const limits = (soft: string): string =>
    `Limit             Soft Limit   Hard Limit   Units\nMax locked memory ${soft}  8388608  bytes\n`;
  assert.equal(lockedMemoryLimit(limits('8388608')), 8388608);
  assert.equal(lockedMemoryLimit(limits('unlimited')), Number.POSITIVE_INFINITY);
  assert.throws(() => checkLockedMemory(GiB, 8388608, false), isRefusal(ExitCode.rights, /ulimit -l unlimited/));
  checkLockedMemory(GiB, 8388608, true);
  for (const limit of [Number.POSITIVE_INFINITY, GiB]) checkLockedMemory(GiB, limit, false);
  assert.equal(availableBytes('MemTotal: 9 kB\nMemAvailable:   123 kB\n'), 123 * 1024);
});
