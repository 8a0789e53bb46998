/**
 * Makes docs/prefetch.md's tables and figures anew: node dist/lab/lab-report.js. Replays the fixtures in test/traces
 * and synthetic traces under every policy, at a quarter and a half of the pages local; what it writes stands between
 * two markers in the document.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../src/host/checkout.js';
import { type Compared, GOAL, LOCAL, realTraces, SYNTHETIC } from './comparison.js';
import { scatter, stallCurves } from './figures.js';
import { replay, type ReplayResult } from './replay.js';
import { STORES } from './store-model.js';
import { workloadOf } from './workload.js';
import type { PrefetcherName } from '../src/policy/prefetch/index.js';

const POLICIES: readonly PrefetcherName[] = ['streams', 'leap', 'leap-kernel', 'readahead', 'stride', 'next-n', 'none'];
const BEGIN = '<!-- begin: node dist/lab/lab-report.js -->';
const END = '<!-- end -->';
const FIGURES = { sort: 'real', '4 streams in one thread': 'interleaved' } as const;

const real = realTraces(join(root, 'test', 'traces'));

const percent = (value: number): string => `${(value * 100).toFixed(1)}`;
const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const ms = (ns: number): string => (ns / 1e6).toFixed(ns < 1e8 ? 1 : 0);

interface Tally {
  lines: string[];
  met: number;
  of: number;
  slowest: number;
}
const tally: Tally = { lines: [], met: 0, of: 0, slowest: 0 };

function study({ name, load, seeds }: Compared): void {
  const traces = Array.from({ length: seeds }, (_, i) => load(i + 1));
  const workloads = traces.map(workloadOf);
  const results: ReplayResult[] = []; // of the first trace
  for (const local of LOCAL) {
    process.stderr.write(`${name}, ${local * 100} % local\n`);
    const here = POLICIES.map((policy) =>
      workloads.map((workload, i) =>
        replay(workload, { policy, local, store: STORES['rdma'], timed: policy === 'streams' && i === 0 }),
      ),
    );
    results.push(...here.map(([first]) => first));
    const [ours] = here;
    const stalls = here.map((replays) => mean(replays.map(({ stallNs }) => stallNs)));
    const ratio = stalls[0] / Math.min(...stalls.slice(1));
    tally.of++;
    if (ratio <= GOAL) tally.met++;
    tally.slowest = Math.max(tally.slowest, ours[0].decisionP99Ns);
    const cells = stalls.map((stall) => (stall === Math.min(...stalls) ? `**${ms(stall)}**` : ms(stall)));
    const least = (pick: (result: ReplayResult) => number): string => percent(Math.min(...ours.map(pick)));
    tally.lines.push(
      `| ${name} | ${local * 100} % | ${least((r) => r.coverage)} | ${least((r) => r.accuracy)} | ${cells.join(' | ')} | ${ratio.toFixed(2)} |`,
    );
  }
  const [trace] = traces;
  const figure = (FIGURES as Readonly<Record<string, string>>)[name];
  if (figure === undefined) return;
  writeFileSync(join(root, 'docs', `prefetch-${figure}-trace.svg`), scatter(name, trace, true));
  writeFileSync(join(root, 'docs', `prefetch-${figure}-stall.svg`), stallCurves(0.25, results, true));
}

function table(title: string, studied: readonly Compared[]): string {
  tally.lines = [];
  studied.forEach(study);
  const head = `| ${title} | local | coverage | accuracy | ${POLICIES.join(' | ')} | ratio |`;
  return [head, `|---|---|${'---:|'.repeat(POLICIES.length + 3)}`, ...tally.lines].join('\n');
}

const tables = [table('real', real), table('synthetic', SYNTHETIC)].join('\n\n');
const verdict = `\`streams\` stalls at most ${GOAL} times as long as the best other policy in ${tally.met} of ${tally.of} cases.`;
const path = join(root, 'docs', 'prefetch.md');
const text = readFileSync(path, 'utf8');
const [before, rest] = text.split(BEGIN);
const after = rest?.split(END)[1];
if (before === undefined || after === undefined)
  throw new Error(`docs/prefetch.md lacks the lines ${BEGIN} and ${END}`);
writeFileSync(path, `${before}${BEGIN}\n\n${verdict}\n\n${tables}\n\n${END}${after}`);
process.stdout.write(`${verdict} Slowest p99 of a decision on this machine: ${Math.round(tally.slowest)} ns\n`);
