/** What keeps the memory in leapd and leap-memserver to themselves: no core dump, no debugger, no escape sequences. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { url } from 'node:inspector';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { guardProcess } from '../../src/host/guard.js';
import { parseStat } from '../../src/host/process-info.js';

test('no mapping is dumped, and SIGUSR1 opens no debugger', async () => {
  guardProcess();
  assert.equal(Number.parseInt(readFileSync('/proc/self/coredump_filter', 'utf8'), 16), 0x10);
  process.kill(process.pid, 'SIGUSR1');
  await sleep(300);
  assert.equal(url(), undefined);
});

test('control characters in the name of a process are escaped', () => {
  const name = parseStat('7 (a\x1b[2J\n\x9b) b) S 1 1')?.name;
  assert.equal(name, 'a\\x1b[2J\\x0a\\x9b) b');
});
