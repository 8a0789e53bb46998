/**
 * The goal that `streams` is the default for: on every trace, of real programs (test/traces, recorded by
 * lab/record-traces.ts) and synthetic ones (lab/patterns.ts), a quarter and a half of the pages local, its threads
 * stall no longer than GOAL times as long as with the best other policy, in the model.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GOAL, LOCAL, realTraces, SYNTHETIC } from '../../lab/comparison.js';
import { replay } from '../../lab/replay.js';
import { TUNED_BEFORE } from '../../lab/split.js';
import { workloadOf } from '../../lab/workload.js';
import { PREFETCHERS } from '../../src/policy/prefetch/index.js';

const OTHERS = PREFETCHERS.filter((policy) => policy !== 'streams');
const traces = fileURLToPath(new URL('../../../test/traces/', import.meta.url));

/**
 * The ones that come close to the goal, by luck with one trace or another, are held over all the traces that
 * docs/prefetch.md stands on.
 */
const CLOSE = ['stride 10', '4 threads', '8 threads', '8 threads, 20 % noise'];
const FEW_SEEDS = 2;

const compared = [...realTraces(traces), ...SYNTHETIC].filter(({ name }) => TUNED_BEFORE.includes(name));

for (const { name, load, seeds } of compared) {
  test(`${name}: at most ${GOAL} of the stall of the best other policy`, () => {
    const workloads = Array.from({ length: CLOSE.includes(name) ? seeds : Math.min(seeds, FEW_SEEDS) }, (_, i) => {
      const trace = load(i + 1);
      assert.deepEqual([trace.cutOff, trace.lost], [false, 0]);
      return workloadOf(trace);
    });
    for (const local of LOCAL) {
      const stallOf = (policy: string, enoughNs = Infinity): number => {
        let sum = 0;
        for (const workload of workloads) {
          const { faults, stallNs } = replay(workload, { policy, local, enoughNs: enoughNs - sum });
          assert.ok(policy !== 'streams' || faults > 100, 'the replay did page');
          sum += stallNs;
          if (sum > enoughNs) break;
        }
        return sum;
      };
      const ours = stallOf('streams');
      for (const policy of OTHERS) {
        const theirs = stallOf(policy, ours / GOAL);
        assert.ok(
          ours <= GOAL * theirs,
          `${local * 100} % local: ${ours} ns of stall, ${policy} ${theirs}: ${(ours / theirs).toFixed(3)}`,
        );
      }
    }
  });
}
