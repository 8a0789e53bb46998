/** A session whose pager is made up: requests that come at the same time. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pino } from 'pino';
import type { PagerClient } from '../../daemon/pager-client.js';
import { Session } from '../../daemon/session.js';
import type { Target } from '../../daemon/target.js';
import { parseOptions } from '../../daemon/leapd-options.js';
import { ExitCode, Refusal } from '../../src/cli/exit-codes.js';

test('of two requests to record at the same time one is refused', async (context) => {
  const directory = mkdtempSync(join(tmpdir(), 'leap-unit-'));
  context.after(() => rmSync(directory, { recursive: true }));
  const pager = { stats: async () => ({ prefetch: 'streams' }), change: async () => undefined };
  const target = { pid: 1, name: 'prey' };
  const session = new Session(
    parseOptions(['--pid', '1']),
    target as unknown as Target,
    pager as unknown as PagerClient,
    pino({ level: 'silent' }),
  );
  const start = (name: string) =>
    session.startRecording(join(directory, name), { exact: false, maxBytes: 1 << 20, seconds: undefined });
  const [first, second] = await Promise.allSettled([start('one'), start('two')]);
  assert.equal(first?.status, 'fulfilled');
  assert.ok(second?.status === 'rejected' && second.reason instanceof Refusal);
  assert.equal(second.reason.code, ExitCode.refused);
  await session.stopRecording();
  await start('three'); // an earlier failure or end leaves the way free
  await assert.rejects(start('four'), Refusal);
  await session.stopRecording();
  await assert.rejects(start('one'), Refusal, 'the file exists');
  await start('five');
  await session.stopRecording();
});
