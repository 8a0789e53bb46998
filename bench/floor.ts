/**
 * Section "floor": one demand fault served from memory, by leapd's loop and by a plain C handler, at the same
 * placement.
 */
import { execFile } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { MEMORY_DIR } from './leapd-run.js';
import { median } from './paging-run.js';
import { LineChild } from '../src/host/line-child.js';
import { root } from '../src/host/checkout.js';
import { compiled } from './programs.js';
import { allowedCpus } from './proc.js';
import { row, type Row } from './rows.js';
import { CannotRun, reasonOf, type UndoStack } from '../src/host/undo-stack.js';

const run = promisify(execFile);
const SECTION = 'A demand fault served from a frame; against a C handler at the same placement';
const P50_GOAL = 1.2;
const P99_GOAL = 1.5;
const TIMEOUT_MS = 60_000;

const placements = ['same', 'other'] as const;
export type Placement = (typeof placements)[number];
const placementNames: Readonly<Record<Placement, string>> = {
  same: 'same CPU, blocking',
  other: 'other CPU, spinning',
};

export interface FloorPlan {
  readonly pages: number;
  readonly rounds: number;
}

interface Latency {
  readonly p50Ns: number;
  readonly p99Ns: number;
  readonly wrong: number;
}

export async function floor(undo: UndoStack, plan: FloorPlan, say: (what: string) => void): Promise<Row[]> {
  const rows: Row[] = [];
  for (const placement of placements) {
    const theirs: Latency[] = [];
    const ours: Latency[] = [];
    let reason = allowedCpus().length < 2 && placement === 'other' ? 'this machine has one CPU' : undefined;
    for (let round = 0; round < plan.rounds && reason === undefined; round++) {
      say(`fault from memory, round ${round + 1} of ${plan.rounds}: ${placementNames[placement]}`);
      try {
        if (process.getuid?.() !== 0) throw new CannotRun('serving the faults of another process needs root');
        theirs.push(await cHandler(placement, plan));
        ours.push(await undo.within(() => leapHandler(undo, placement, plan)));
      } catch (error) {
        reason = reasonOf(error);
      }
    }
    const make = (name: string, pick: (latency: Latency) => number, goal: number): Row =>
      row({
        id: `floor.${placement}.${name}`,
        section: SECTION,
        what: `${placementNames[placement]}, ${name}`,
        unit: 'us',
        leap: ours.length > 0 ? median(ours.map(pick)) / 1000 : undefined,
        ...(theirs.length > 0 && { against: median(theirs.map(pick)) / 1000 }),
        goal,
        ...(reason !== undefined && { reason }),
      });
    rows.push(
      make('p50', (latency) => latency.p50Ns, P50_GOAL),
      make('p99', (latency) => latency.p99Ns, P99_GOAL),
    );
  }
  return rows;
}

function parse(line: string): Latency {
  const latency = JSON.parse(line) as Latency;
  if (latency.wrong !== 0) throw new Error(`${latency.wrong} pages of the floor program were wrong`);
  return latency;
}

async function cHandler(placement: Placement, plan: FloorPlan): Promise<Latency> {
  return parse(
    (await run(compiled('floor'), ['serve', placement, String(plan.pages)], { timeout: TIMEOUT_MS })).stdout,
  );
}

async function leapHandler(undo: UndoStack, placement: Placement, plan: FloorPlan): Promise<Latency> {
  const driver = join(root, 'dist', 'bench', 'floor-leap.js');
  if (!existsSync(join(root, 'build', 'Release', 'leap.node')))
    throw new CannotRun('the native engine is not built: npm run build');
  const [targetCpu = 0, otherCpu = targetCpu] = allowedCpus();
  const target = new LineChild(undo, 'floor target', compiled('floor'), [
    'target',
    String(targetCpu),
    String(plan.pages),
  ]);
  await target.line((line) => line.startsWith('READY'), TIMEOUT_MS);
  const swapFile = join(MEMORY_DIR, `leap-bench-${process.pid}.floor-swap`);
  undo.add(`remove ${swapFile}`, () => rmSync(swapFile, { force: true }));
  const cpu = placement === 'same' ? targetCpu : otherCpu;
  const pager = new LineChild(undo, 'floor pager', process.execPath, [
    driver,
    placement,
    String(cpu),
    String(target.pid),
    String(plan.pages),
    swapFile,
  ]);
  await pager.line((line) => line === 'READY', TIMEOUT_MS);
  target.send('go');
  const latency = parse(await target.line((line) => line.startsWith('{'), TIMEOUT_MS));
  target.send('quit');
  await pager.exit(TIMEOUT_MS);
  return latency;
}
