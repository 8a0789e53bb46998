/** The page of a replay: for each trace the table and the curves, in one file that needs no other. */
import type { Trace } from '../src/trace/format.js';
import { COLOURS, escapeHtml, scatter, stallCurves, STYLE, windowCurves } from './figures.js';
import type { ReplayResult } from './replay.js';
import { COLUMNS, leastStall, type TraceReport } from './report.js';

const PAGE_STYLE = `
:root { color-scheme: light dark; --ink: #1c2126; --soft: #5d6670;
  --line: #d9dee3; --ground: #ffffff; --raised: #f5f7f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebee; --soft: #a3adb7;
  --line: #333a42; --ground: #14181c; --raised: #1c2228; } }
body { background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1500px; padding: 1.5rem; }
h1 { font-size: 1.4rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 0.2rem; }
p { color: var(--soft); margin: 0 0 1rem; }
.curves { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); margin: 1rem 0; }
.curves svg { border: 1px solid var(--line); border-radius: 6px; height: auto; width: 100%; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: 0.25rem 0.6rem; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
.least { background: var(--raised); font-weight: 600; }
.chip { border-radius: 2px; display: inline-block; height: 0.7em; margin-right: 0.5em; width: 0.7em; }
`;

export function drawPage(reports: readonly TraceReport[], traces: ReadonlyMap<string, Trace>): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>leap-lab: ${escapeHtml(reports.map(({ name }) => name).join(', '))}</title>
<style>${PAGE_STYLE}${STYLE}</style>
</head>
<body>
<h1>Prefetch policies on ${reports.length === 1 ? 'a trace' : `${reports.length} traces`}</h1>
<p>Replayed through leapd's own pager in virtual time. Coverage: prefetched and used, of all that had to be read. Accuracy: used, of all that was prefetched.
Stall: what the threads waited in the model; the least of each share is marked.</p>
${reports.map((report) => section(report, traces.get(report.name))).join('\n')}
</body>
</html>
`;
}

function section({ name, facts, results }: TraceReport, trace: Trace | undefined): string {
  const shares = [...new Set(results.map(({ local }) => local))];
  const figures = [
    ...(trace === undefined ? [] : [scatter(name, trace)]),
    ...shares.flatMap((local) => [stallCurves(local, results), windowCurves(local, results)]),
  ];
  const known = Object.entries(facts).map(
    ([fact, value]) => `${escapeHtml(fact)} ${escapeHtml(value.toLocaleString('en-US'))}`,
  );
  return `<h2>${escapeHtml(name)}</h2>
<p>${known.join(' · ')}</p>
<div class="curves">
${figures.join('\n')}
</div>
<div class="wide"><table>
<tr><th>local</th><th>policy</th>${COLUMNS.map(({ title }) => `<th>${escapeHtml(title)}</th>`).join('')}</tr>
${results.map((result) => line(result, leastStall(results, result.local))).join('\n')}
</table></div>`;
}

function line(result: ReplayResult, least: number): string {
  const cells = COLUMNS.map(({ name, value, shown }) => {
    const mark = name === 'stallNs' && result.stallNs === least ? ' class="least"' : '';
    return `<td${mark}>${shown(value(result))}</td>`;
  });
  const chip = `<span class="chip" style="background:${COLOURS[result.policy]}"></span>`;
  return `<tr><td>${result.local * 100} %</td><td>${chip}${escapeHtml(result.policy)}</td>${cells.join('')}</tr>`;
}
