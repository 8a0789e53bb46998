/**
 * The goals of the prefetcher, on replay, but for that of stall.test.ts: counts that the model gives, the same on every
 * machine. Synthetic traces from lab/patterns.ts, a quarter and a half of the pages local.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LOCAL } from '../../lab/comparison.js';
import { generate, type PatternName, type PatternOptions } from '../../lab/patterns.js';
import { replay, type ReplayResult } from '../../lab/replay.js';
import { STORES } from '../../lab/store-model.js';
import { type Workload, workloadOf } from '../../lab/workload.js';

const made = (pattern: PatternName, options: Partial<PatternOptions> = {}): Workload =>
  workloadOf(generate(pattern, { touches: 49_152, ...options }));
const percent = (value: number): string => `${(value * 100).toFixed(1)} %`;

function holds(name: string, workload: Workload, coverage: number, accuracy: number): void {
  for (const local of LOCAL) {
    const result = replay(workload, { policy: 'streams', local });
    const figures = `${name}, ${local * 100} % local: coverage ${percent(result.coverage)}, accuracy ${percent(result.accuracy)}`;
    assert.ok(result.coverage >= coverage && result.accuracy >= accuracy, figures);
  }
}

test('a replay is the same every time, and every access is made', () => {
  const workload = made('phases', { touches: 20_000 });
  const [one, other] = [0, 1].map(() => replay(workload, { policy: 'streams', local: 0.5, store: STORES['nvme'] }));
  const bare = ({ decisionNs: _ns, decisionP99Ns: _p99, ...result }: ReplayResult): object => result;
  assert.deepEqual(bare(one), bare(other));
  assert.equal(one.stalls.at(-1)?.[1], one.stallNs);
});

test('with everything local there is no fault; without prefetching every read is on demand', () => {
  const workload = made('zipf', { touches: 20_000 });
  assert.equal(replay(workload, { policy: 'leap', local: 1 }).pagesRead, 0);
  const none = replay(workload, { policy: 'none', local: 0.25 });
  assert.deepEqual([none.prefetched, none.used, none.coverage], [0, 0, 0]);
  assert.ok(
    none.demandReads > 1000 &&
      none.demandReads === none.pagesRead &&
      none.stallNs > none.demandReads * STORES['rdma'].latencyNs,
  );
});

test('coverage and accuracy of 0.90 on 2, 4 and 8 streams in one thread', () => {
  for (const streams of [2, 4, 8]) holds(`${streams} streams`, made('interleaved', { streams }), 0.9, 0.9);
});

test('coverage and accuracy of 0.90 on 4 and 8 threads, each with its stream', () => {
  for (const streams of [4, 8]) holds(`${streams} threads`, made('threads', { streams }), 0.9, 0.9);
});

test('coverage of 0.80 and accuracy of 0.70 with noise: a fifth of the accesses go anywhere', () => {
  for (const pattern of ['sequential', 'stride', 'interleaved', 'threads'] as const)
    holds(pattern, made(pattern, { noise: 0.2 }), 0.8, 0.7);
  for (const pattern of ['interleaved', 'threads'] as const)
    holds(`8 ${pattern}`, made(pattern, { streams: 8, noise: 0.2 }), 0.8, 0.7);
});

test('on random accesses of a small region, where chance looks like streams, little more is read all the same, and no more stall', () => {
  for (const pages of [3000, 6000, 10_000]) {
    const workload = made('random', { pages, touches: 65_536 });
    for (const local of LOCAL) {
      const [ours, none] = ['streams', 'none'].map((policy) => replay(workload, { policy, local }));
      assert.ok(
        ours.pagesRead <= 1.15 * none.pagesRead,
        `${pages} pages, ${local * 100} % local: ${ours.pagesRead} for ${none.pagesRead}`,
      );
      assert.ok(
        ours.stallNs <= 1.01 * none.stallNs,
        `${pages} pages, ${local * 100} % local: stall ${ours.stallNs} for ${none.stallNs}`,
      );
    }
  }
});

test('on random accesses at most 2 % more pages are read than without prefetching, and no more stall', () => {
  for (const pattern of ['random', 'zipf'] as const) {
    for (const local of LOCAL) {
      const workload = made(pattern, { touches: 65_536 });
      const [ours, none] = ['streams', 'none'].map((policy) => replay(workload, { policy, local }));
      if (pattern === 'random')
        assert.ok(
          ours.pagesRead <= 1.02 * none.pagesRead,
          `${local * 100} % local: ${ours.pagesRead} for ${none.pagesRead}`,
        );
      assert.ok(
        ours.stallNs <= 1.01 * none.stallNs,
        `${pattern}, ${local * 100} % local: stall ${ours.stallNs} for ${none.stallNs}`,
      );
    }
  }
});
