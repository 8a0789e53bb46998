#!/usr/bin/env node
/** leap-lab: replays traces of page faults under each prefetch policy, and makes synthetic ones. */
import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { errnoName, ExitCode, exitWith, Refusal } from '../src/cli/exit-codes.js';
import type { Trace } from '../src/trace/format.js';
import { drawPage } from './html.js';
import { parseLab, patternNamed, type ReplayCommand } from './lab-options.js';
import { generate } from './patterns.js';
import { replay } from './replay.js';
import { drawCsv, drawTable, toJson, type TraceReport } from './report.js';
import { readTrace, writeTrace } from './trace-file.js';
import { workloadOf } from './workload.js';

const GENERATED = 'gen:';
/** 256 GiB of address space: what tables can be made for. */
const MOST_PAGES = 2 ** 26;

async function main(args: readonly string[]): Promise<ExitCode> {
  const command = await parseLab(args);
  if (command === undefined) return ExitCode.ok;
  if (command.command === 'generate') writeTrace(command.out, generate(command.pattern, command.options));
  else await replayAll(command);
  return ExitCode.ok;
}

async function replayAll(command: ReplayCommand): Promise<void> {
  // All traces are read before the first is replayed: what is wrong is said at once.
  const traces = command.traces.map((name) => ({ name: basename(name), trace: named(name) }));
  const reports: TraceReport[] = [];
  for (const { name, trace } of traces) {
    reports.push(replayOne(name, trace, command));
    if (command.output === 'table') process.stdout.write(`${drawTable(reports[reports.length - 1])}\n`);
  }
  if (command.output === 'json') process.stdout.write(`${toJson(reports)}\n`);
  if (command.output === 'csv') process.stdout.write(`${drawCsv(reports)}\n`);
  if (command.html !== undefined)
    writePage(command.html, drawPage(reports, new Map(traces.map(({ name, trace }) => [name, trace]))));
}

const named = (name: string): Trace =>
  name.startsWith(GENERATED) ? generate(patternNamed(name.slice(GENERATED.length))) : readTrace(name);

function replayOne(
  name: string,
  trace: Trace,
  { policies, local, buffer, store, history, windowMax }: ReplayCommand,
): TraceReport {
  const pages = trace.regions.reduce((sum, { count }) => sum + count, 0);
  if (pages > MOST_PAGES)
    throw new Refusal(
      ExitCode.usage,
      `${name}: its regions have ${pages} pages, more than ${MOST_PAGES}`,
      'record a smaller process',
    );
  const workload = workloadOf(trace);
  if (workload.touchedPages === 0)
    throw new Refusal(ExitCode.usage, `${name}: it has no fault inside a region`, 'record it again');
  if (trace.cutOff)
    process.stderr.write(`leap-lab: ${name} ends in the middle: ${trace.length} faults could be read\n`);
  if (trace.lost + workload.strays > 0)
    process.stderr.write(
      `leap-lab: ${name} lacks ${trace.lost + workload.strays} faults that were not recorded whole\n`,
    );
  const results = local.flatMap((share) =>
    policies.map((policy) =>
      replay(workload, { policy, local: share, mostBuffer: buffer, store, history, windowMax, timed: true }),
    ),
  );
  const facts = {
    faults: trace.length,
    pages: workload.touchedPages,
    threads: workload.threads.length,
    store: store.name,
  };
  return { name, facts, results };
}

function writePage(path: string, page: string): void {
  try {
    writeFileSync(path, page);
  } catch (error) {
    throw new Refusal(ExitCode.usage, `--html: ${path} cannot be written (${errnoName(error)})`, 'give another path');
  }
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code; // not exit(): what is written to a pipe has to leave first
  },
  (error: unknown) => exitWith('leap-lab', error),
);
