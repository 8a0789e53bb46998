import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ExitCode, exitCodeMeaning, Refusal } from '../../src/cli/exit-codes.js';
import { parseLeapctl, parseSettings } from '../../daemon/leapctl-options.js';
import { helpText, parseOptions } from '../../daemon/leapd-options.js';
import { DEFAULT_VICTIM_POLICY } from '../../src/policy/victim/index.js';
import { formatBytes, formatNs, parseSize } from '../../src/cli/size.js';

const words = (line: string): string[] => line.split(' ').filter((word) => word !== '');

function refused(line: string, pattern: RegExp, code: number = ExitCode.usage): void {
  assert.throws(
    () => parseOptions(words(line)),
    (error) =>
      error instanceof Refusal && error.code === code && pattern.test(error.message) && !error.message.includes('\n'),
    line,
  );
}

test('what is not given has its documented value', () => {
  assert.deepEqual(parseOptions(['--pid', '1234']), {
    pid: 1234,
    localMemory: { kind: 'percent', percent: 50 },
    swapFile: '/var/tmp/leap-1234.swap',
    allowPinned: false,
    force: false,
    prefetch: 'streams',
    history: 32,
    windowMax: 32,
    prefetchBuffer: 8000,
    evict: 'auto',
    victims: DEFAULT_VICTIM_POLICY,
    record: undefined,
    recordMax: 256 * 2 ** 20,
    control: '/run/leap/1234.sock',
    logLevel: 'info',
    remote: undefined,
  });
});

test('every option is read', () => {
  const line =
    '--pid 7 --local-memory 512M --swap-file /x --allow-pinned --force --prefetch leap --history 64 --window-max 8 --prefetch-buffer 100 --evict discard --victims fifo --record /z --record-max 4M --control /y --log-level debug';
  assert.deepEqual(parseOptions(words(line)), {
    pid: 7,
    localMemory: { kind: 'bytes', bytes: 512 * 2 ** 20 },
    swapFile: '/x',
    allowPinned: true,
    force: true,
    prefetch: 'leap',
    history: 64,
    windowMax: 8,
    prefetchBuffer: 100,
    evict: 'discard',
    victims: 'fifo',
    record: '/z',
    recordMax: 4 * 2 ** 20,
    control: '/y',
    logLevel: 'debug',
    remote: undefined,
  });
});

test('wrong, unknown, missing and repeated options are refused in one line', () => {
  refused('', /--pid is missing/);
  refused('--pid', /--pid needs a value/);
  refused('--pid abc', /--pid: "abc" is not a whole number/);
  refused('--pid 0', /--pid: 0 is not between/);
  refused('--pid 1.5', /--pid/);
  refused('--pid 99999999', /--pid/);
  refused('--pid 1 --pid 2', /--pid is given 2 times/);
  refused('--pid 1 --frobnicate', /unknown option --frobnicate/);
  refused('--pid 1 --no-force', /unknown option --no-force/);
  refused('--pid 1 2', /unknown argument 2/);
  refused('--pid 1 --force=maybe', /--force takes no value/);
  refused('--pid 1 --prefetch magic', /--prefetch: "magic" is not one of streams, leap, leap-kernel, readahead/);
  refused('--pid 1 --history 2', /--history: 2 is not between/);
  refused('--pid 1 --window-max 65', /--window-max/);
  refused('--pid 1 --evict gently', /--evict/);
  refused('--pid 1 --log-level loud', /--log-level/);
});

test('a local memory of nothing, of too much or of nonsense is refused', () => {
  for (const size of ['0', '0M', '0%', '101%', '-5', 'much', '5Q', ''])
    refused(`--pid 1 --local-memory=${size}`, /--local-memory/);
});

test('contradictions are refused', () => {
  refused('--pid 1 --prefetch none --window-max 8', /--window-max has no effect with --prefetch none/);
  refused('--pid 1 --prefetch stride --history 64', /--history has no effect with --prefetch stride/);
});

test('remote memory: every option is read, and none means anything without a portal', () => {
  const standard = parseOptions(words('--pid 7 --portal portal.txt')).remote;
  assert.deepEqual(standard, {
    portal: 'portal.txt',
    on: true,
    copies: 2,
    tokenFile: undefined,
    chunkBytes: undefined,
    ahead: true,
    activity: { periodMs: 1000, writeWeight: 50, readWeight: 50 },
    threshold: 0,
    legacy: false,
  });
  const line =
    '--pid 7 --portal rdma://1,h:1 --rdma off --copies 1 --token-file /t --chunk 64M --map-chunks active --activity-period 500 --activity-weights 90/10 --activity-threshold 9';
  assert.deepEqual(parseOptions(words(line)).remote, {
    portal: 'rdma://1,h:1',
    on: false,
    copies: 1,
    tokenFile: '/t',
    chunkBytes: 64 * 2 ** 20,
    ahead: false,
    activity: { periodMs: 500, writeWeight: 90, readWeight: 10 },
    threshold: 9,
    legacy: false,
  });
  assert.equal(parseOptions(words('--pid 7 --portal p --legacy')).remote?.legacy, true);
  refused('--pid 1 --copies 1', /--copies has no effect without --portal/);
  refused('--pid 1 --rdma off', /--rdma has no effect without --portal/);
  refused('--pid 1 --portal p --legacy --token-file /t', /--legacy admits donors that cannot prove the token/);
  refused('--pid 1 --portal p --copies 4', /--copies: "4" is not one of 1, 2, 3/);
  refused('--pid 1 --portal p --chunk 3M', /--chunk: 3M is not a power of two/);
  refused('--pid 1 --portal p --chunk 50%', /--chunk: 50% is not an amount/);
  refused('--pid 1 --portal p --activity-weights 50', /--activity-weights/);
  refused('--pid 1 --portal p --rdma maybe', /--rdma: "maybe" is not one of on, off/);
});

test('the help names every option group with an example, and every exit code', async () => {
  const help = await helpText(['--help']);
  assert.ok(help !== undefined);
  for (const name of [
    'pid',
    'local-memory',
    'swap-file',
    'prefetch',
    'history',
    'window-max',
    'prefetch-buffer',
    'control',
    'log-level',
    'evict',
    'victims',
    'allow-pinned',
    'force',
    'portal',
    'rdma',
    'record',
    'record-max',
  ]) {
    assert.match(help, new RegExp(`--${name}\\b`));
  }
  assert.ok((help.match(/^ {2}leapd --pid 1234 /gm) ?? []).length >= 5);
  for (const meaning of Object.values(exitCodeMeaning)) assert.ok(help.includes(meaning));
  assert.equal(helpText(['--pid', '1']), undefined);
});

test('sizes', () => {
  assert.deepEqual(parseSize('512M'), { kind: 'bytes', bytes: 536870912 });
  assert.deepEqual(parseSize('1.5g'), { kind: 'bytes', bytes: 1610612736 });
  assert.deepEqual(parseSize('2GiB'), { kind: 'bytes', bytes: 2147483648 });
  assert.deepEqual(parseSize('65536'), { kind: 'bytes', bytes: 65536 });
  assert.deepEqual(parseSize('12.5%'), { kind: 'percent', percent: 12.5 });
  for (const text of ['', 'M', '1e3', '-1', '1 2', '%', '50%%', '1P', '99999999999T'])
    assert.equal(parseSize(text), undefined, text);
  assert.equal(formatBytes(0), '0 B');
  assert.equal(formatBytes(1536), '1.5 KiB');
  assert.equal(formatNs(9400), '9.4 us');
});

test('leapctl: commands, settings and what is wrong with them', async () => {
  assert.deepEqual(await parseLeapctl(words('set 12 local-memory=256M prefetch=none --json')), {
    command: 'set',
    pid: 12,
    control: undefined,
    json: true,
    force: false,
    log: false,
    record: undefined,
    settings: { 'local-memory': '256M', prefetch: 'none' },
  });
  assert.equal((await parseLeapctl(['status']))?.pid, undefined);
  assert.equal((await parseLeapctl(words('detach 5 --force')))?.force, true);
  assert.equal((await parseLeapctl(words('stats 5 --log')))?.log, true);
  assert.deepEqual((await parseLeapctl(words('record 5 --out x --seconds 1.5 --exact')))?.record, {
    out: 'x',
    seconds: '1.5',
    exact: true,
    max: undefined,
  });
  assert.equal((await parseLeapctl(words('record 5 --stop')))?.record, 'stop');
  for (const line of [
    'record 5',
    'record 5 --out x --seconds 0',
    'record 5 --out x --seconds soon',
    'record 5 --out x --record-max 1',
    'record 5 --out a --out b',
    'record 5 --stop --out x',
    'record 5 --stop --exact',
  ]) {
    await assert.rejects(
      parseLeapctl(words(line)),
      (error) => error instanceof Refusal && error.code === ExitCode.usage,
      line,
    );
  }
  for (const line of [
    '',
    'dance',
    'stats',
    'stats x',
    'stats 1 2',
    'set 1',
    'set 1 a',
    'set 1 a=',
    'set 1 a=1 a=2',
    'stats 1 --force',
    'stats 1 --control',
  ]) {
    await assert.rejects(
      parseLeapctl(words(line)),
      (error) => error instanceof Refusal && error.code === ExitCode.usage,
      line,
    );
  }
  assert.deepEqual(parseSettings(['a=b=c']), { a: 'b=c' });
});
