/** The benchmark, as small as it goes: it must run and produce every row, whatever the figures. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Row } from '../../bench/rows.js';

const bench = fileURLToPath(new URL('../../bench/bench.js', import.meta.url));
const TIMEOUT_MS = 300_000; // half a minute on an idle machine; test machines are not

const patterns = ['seq', 'stride', 'random', 'write', 'zipf'];
const expectedIds = [
  ...['same', 'other'].flatMap((placement) => ['p50', 'p99'].map((name) => `floor.${placement}.${name}`)),
  ...['disk', 'memory'].flatMap((store) =>
    ['50', '25'].flatMap((share) => patterns.map((pattern) => `paging.${store}.${share}.${pattern}`)),
  ),
  ...['disk', 'memory'].flatMap((store) => [`paging.misses.${store}`, `paging.read.${store}`]),
  ...['attach', 'shrink', 'detach', 'idle', 'memory', 'frames'].map((name) => `own.${name}`),
  'record.random',
];

const streamIds = ['disk', 'memory'].flatMap((store) =>
  ['50', '25'].flatMap((share) =>
    ['interleaved', 'threads'].flatMap((pattern) =>
      ['leap', 'readahead'].map((other) => `streams.${store}.${share}.${pattern}.${other}`),
    ),
  ),
);

async function runsTiny(expected: readonly string[], ...options: readonly string[]): Promise<readonly Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'leap-bench-test-'));
  try {
    const json = join(folder, 'bench.json');
    const { stdout } = await promisify(execFile)(process.execPath, [bench, '--tiny', '--json', json, ...options], {
      timeout: TIMEOUT_MS,
    });
    const { rows, machine } = JSON.parse(readFileSync(json, 'utf8')) as {
      rows: Row[];
      machine: Record<string, unknown>;
    };
    assert.deepEqual(rows.map((row) => row.id).sort(), [...expected].sort());
    for (const row of rows) {
      assert.ok(stdout.includes(row.what), `the table lacks ${row.what}`);
      assert.ok(row.leap !== undefined || row.reason !== undefined, `${row.id} has neither a figure nor a reason`);
      // What the kernel cannot do here is a reason; leapd has to run wherever its tests run.
      if (process.getuid?.() === 0 && !row.id.startsWith('floor.other'))
        assert.ok(row.leap !== undefined, `${row.id}: ${row.reason}`);
      if (row.leap !== undefined)
        assert.ok(Number.isFinite(row.leap.value) && row.leap.value >= 0, `${row.id} is ${row.leap.value}`);
    }
    for (const fact of ['cpu', 'cores', 'kernel', 'disk', 'date'])
      assert.ok(machine[fact] !== undefined, `the machine's ${fact} is missing`);
    return rows;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('the benchmark runs tiny and produces every row', { timeout: TIMEOUT_MS }, async () => {
  await runsTiny(expectedIds);
});

test(
  'so does the section of the prefetchers among each other, which runs only when it is asked for',
  { timeout: TIMEOUT_MS },
  async () => {
    for (const row of await runsTiny(streamIds, '--only', 'streams')) {
      if (process.getuid?.() === 0)
        assert.ok(row.against !== undefined, `${row.id} has nothing to compare with: ${row.reason}`);
    }
  },
);
