import { PREFETCHERS } from '../src/prefetch/index.js';
import { generate, PATTERNS, type PatternName } from './patterns.js';
import { replay } from './replay.js';
import { workloadOf } from './workload.js';
import { STORES } from './store-model.js';
const only = process.argv[2]?.split(',') as PatternName[] | undefined;
const policies = process.argv[3]?.split(',') ?? PREFETCHERS;
const store = STORES[process.argv[4] ?? 'rdma'];
for (const name of PATTERNS) if (!only || process.argv[2] === 'all' || only.includes(name)) for (const noise of [0, 0.2]) for (const streams of name === 'threads' || name === 'interleaved' ? [4, 8] : [4]) for (const local of [0.25, 0.5]) {
  const w = workloadOf(generate(name, { noise, streams }));
  const rs = policies.map((policy) => replay(w, { policy, local, timed: true, store }));
  const best = Math.min(...rs.filter((r) => r.policy !== 'streams').map((r) => r.stallNs));
  for (const r of rs) {
    if (r.policy !== 'streams' && r.stallNs > best && process.argv[5] !== 'v') continue;
    console.log(name.padEnd(11), noise, streams, local, r.policy.padEnd(9), 'f', r.faults, 'dr', r.demandReads, 'cov', r.coverage.toFixed(3), 'acc', r.accuracy.toFixed(3), 'inT', r.inTime.toFixed(2), 'read', r.pagesRead, 'stall ms', (r.stallNs/1e6).toFixed(1), r.policy === 'streams' ? 'x' + (r.stallNs/best).toFixed(3) + (r.stallNs > best*1.01 ? ' ***' : ''): '', 'dec', r.decisionNs.toFixed(0), r.decisionP99Ns.toFixed(0));
  }
}
