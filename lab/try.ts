import { PREFETCHERS } from '../src/prefetch/index.js';
import { generate, PATTERNS } from './patterns.js';
import { replay } from './replay.js';
import { workloadOf } from './workload.js';
for (const name of PATTERNS) for (const local of [0.25, 0.5]) {
  const w = workloadOf(generate(name));
  for (const policy of PREFETCHERS) {
    const r = replay(w, { policy, local, timed: true });
    console.log(name.padEnd(12), local, policy.padEnd(10), 'f', r.faults, 'dr', r.demandReads, 'cov', r.coverage.toFixed(3), 'acc', r.accuracy.toFixed(3), 'inT', r.inTime.toFixed(2), 'read', r.pagesRead, 'stall ms', (r.stallNs/1e6).toFixed(1), 'dec', r.decisionNs.toFixed(0), r.decisionP99Ns.toFixed(0));
  }
}
