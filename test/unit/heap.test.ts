import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

/** Bytes of garbage that one fault may leave on average: V8 boxes a number now and then; an object takes 16 bytes. */
const BYTES_PER_FAULT = 8;

interface Line {
  readonly name: string;
  readonly bytesPerFault: number;
  readonly stats: {
    readonly faults: number;
    readonly evictions: number;
    readonly swapReads: number;
    readonly swapWrites: number;
  };
}

/** Prefetcher and victim policy. The second pair is leapd's default. */
const POLICIES = [
  ['leap', 's3fifo'],
  ['streams', 'returns'],
  ['leap', 'returns'],
] as const;

for (const [prefetch, victims] of POLICIES)
  test(`100,000 faults, reads, evictions and writes with ${prefetch} and ${victims} allocate nothing`, () => {
    const child = fileURLToPath(new URL('./heap-child.js', import.meta.url));
    // --single-threaded: V8 compiles in the main thread. On a busy machine its compiler thread would come late, and V8
    // boxes every number until then.
    const flags = ['--expose-gc', '--single-threaded', '--min-semi-space-size=128', '--max-semi-space-size=128'];
    const out = execFileSync(process.execPath, [...flags, child, prefetch, victims], { encoding: 'utf8' });
    const lines = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Line);
    assert.equal(lines.length, 3);
    for (const { name, bytesPerFault, stats } of lines) {
      assert.ok(
        stats.evictions > 50_000 && stats.swapReads > 50_000 && stats.swapWrites > 1_000,
        `${name}: the run did page ${JSON.stringify(stats)}`,
      );
      assert.ok(bytesPerFault < BYTES_PER_FAULT, `${name}: ${bytesPerFault.toFixed(1)} bytes allocated a fault`);
    }
  });
