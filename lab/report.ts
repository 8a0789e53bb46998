/** What a replay found, for people and for programs: a table, comma-separated values, JSON. */
import Table from 'cli-table3';
import type { ReplayResult } from './replay.js';

/** One trace and all that was replayed of it. */
export interface TraceReport {
  readonly name: string;
  readonly facts: Readonly<Record<string, string | number>>;
  readonly results: readonly ReplayResult[];
}

interface Column {
  readonly name: string;
  readonly title: string;
  readonly value: (result: ReplayResult) => number;
  readonly shown: (value: number) => string;
}

const whole = (value: number): string => Math.round(value).toLocaleString('en-US');
const percent = (value: number): string => `${(value * 100).toFixed(1)} %`;
const ns = (value: number): string => (Number.isNaN(value) ? '-' : whole(value));
const us = (value: number): string => (value / 1e3).toFixed(1);
const ms = (value: number): string => (value / 1e6).toFixed(1);

export const COLUMNS: readonly Column[] = [
  { name: 'faults', title: 'faults', value: (r) => r.faults, shown: whole },
  { name: 'demandReads', title: 'demand reads', value: (r) => r.demandReads, shown: whole },
  { name: 'coverage', title: 'coverage', value: (r) => r.coverage, shown: percent },
  { name: 'accuracy', title: 'accuracy', value: (r) => r.accuracy, shown: percent },
  { name: 'inTime', title: 'in time', value: (r) => r.inTime, shown: percent },
  { name: 'earlyNs', title: 'early, us', value: (r) => r.earlyNs, shown: us },
  { name: 'dropped', title: 'dropped', value: (r) => r.dropped, shown: whole },
  { name: 'droppedMapped', title: 'of these mapped', value: (r) => r.droppedMapped, shown: whole },
  { name: 'pagesRead', title: 'pages read', value: (r) => r.pagesRead, shown: whole },
  { name: 'stallNs', title: 'stall, ms', value: (r) => r.stallNs, shown: ms },
  { name: 'decisionNs', title: 'decision, ns', value: (r) => r.decisionNs, shown: ns },
  { name: 'decisionP99Ns', title: 'p99', value: (r) => r.decisionP99Ns, shown: ns },
];

/** For each share of local memory, the least stall that any policy had. */
export function leastStall(results: readonly ReplayResult[], local: number): number {
  return Math.min(...results.filter((result) => result.local === local).map(({ stallNs }) => stallNs));
}

export function drawTable({ name, facts, results }: TraceReport): string {
  const head = ['local', 'policy', ...COLUMNS.map(({ title }) => title), 'of the least'];
  const table = new Table({
    head,
    style: { head: [], border: [], compact: true },
    colAligns: head.map((_, column) => (column < 2 ? 'left' : 'right')),
  });
  for (const result of results) {
    const least = leastStall(results, result.local);
    const ratio = least === 0 ? '-' : (result.stallNs / least).toFixed(3);
    table.push([
      percent(result.local),
      result.policy,
      ...COLUMNS.map(({ value, shown }) => shown(value(result))),
      ratio,
    ]);
  }
  const known = Object.entries(facts).map(([fact, value]) => `${fact} ${value}`);
  return `${name}: ${known.join(', ')}\n${table.toString()}`;
}

const quoted = (text: string): string => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

export function drawCsv(reports: readonly TraceReport[]): string {
  const head = ['trace', 'local', 'policy', ...COLUMNS.map(({ name }) => name)].join(',');
  const lines = reports.flatMap(({ name, results }) =>
    results.map((result) =>
      [
        quoted(name),
        result.local,
        result.policy,
        ...COLUMNS.map(({ value }) => (Number.isNaN(value(result)) ? '' : value(result))),
      ].join(','),
    ),
  );
  return [head, ...lines].join('\n');
}

/** The curves stay out of it: they are for the page. */
export function toJson(reports: readonly TraceReport[]): string {
  const bare = reports.map(({ name, facts, results }) => ({
    trace: name,
    ...facts,
    results: results.map(({ stalls: _stalls, windows: _windows, ...figures }) => figures),
  }));
  return JSON.stringify({ traces: bare });
}
