/** Section "costs": attaching, detaching, and what leapd takes for itself while the process it pages is idle. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Leapd } from './leapd-program.js';
import { MEMORY_DIR } from './leapd-run.js';
import { median } from './paging-run.js';
import { cpuSeconds, statusBytes } from './proc.js';
import { row, type Row } from './rows.js';
import { PAGE_BYTES, TouchProgram } from './touch-program.js';
import { reasonOf, type UndoStack } from '../src/host/undo-stack.js';

const SECTION = 'Costs of leapd itself';
const MIB = 2 ** 20;
const LOCAL_SHARE = 0.5;
const CPU_GOAL_PERCENT = 1;
const MEMORY_GOAL_BYTES = 150 * MIB;
const MEMORY_GOAL_BYTES_PER_PAGE = 32;
const RECORD_GOAL = 1.03;

export interface OverheadPlan {
  readonly mib: number;
  /**
   * After the load, before the idle time is measured: its garbage is collected and its code compiled, neither of which
   * is idling.
   */
  readonly calmMs: number;
  readonly idleMs: number;
  /** Passes with a recording, and as many without. */
  readonly recordTurns: number;
  readonly rounds: number;
  readonly prefetchBuffer: number;
}

interface Overheads {
  readonly attachMs: number;
  readonly shrinkMs: number;
  readonly detachMs: number;
  readonly idlePercent: number;
  readonly ownMiB: number;
  readonly framesMiB: number;
  readonly plainUs: number;
  readonly recordedUs: number;
}

export async function overheads(undo: UndoStack, plan: OverheadPlan, say: (what: string) => void): Promise<Row[]> {
  const seen: Overheads[] = [];
  try {
    for (let round = 0; round < plan.rounds; round++) {
      say(`attach, idle and detach, round ${round + 1} of ${plan.rounds}: ${plan.mib} MiB, half of it stored`);
      seen.push(await undo.within(() => once(undo, plan)));
    }
  } catch (error) {
    return rows(plan, undefined, reasonOf(error));
  }
  return rows(plan, (pick) => median(seen.map(pick)));
}

async function once(undo: UndoStack, plan: OverheadPlan): Promise<Overheads> {
  const touch = await TouchProgram.start(undo, plan.mib);
  const localBytes = plan.mib * MIB * LOCAL_SHARE;
  const leapd = await Leapd.attach(undo, {
    pid: touch.pid,
    localBytes,
    swapDir: MEMORY_DIR,
    prefetchBuffer: plan.prefetchBuffer,
  });
  const shrinkMs = await leapd.settled();
  await touch.run('random'); // so that every frame has been in use
  const { plainUs, recordedUs } = await recording(undo, touch, leapd, plan.recordTurns);
  await sleep(plan.calmMs);
  const cpuBefore = cpuSeconds(leapd.pid);
  const start = performance.now();
  await sleep(plan.idleMs);
  const idlePercent = ((cpuSeconds(leapd.pid) - cpuBefore) / ((performance.now() - start) / 1000)) * 100;
  const framesBytes = (await leapd.stats()).frames * PAGE_BYTES;
  const ownBytes = statusBytes(leapd.pid, 'VmRSS') - framesBytes;
  const detachMs = await leapd.detach();
  await touch.check();
  return {
    attachMs: leapd.attachMs,
    shrinkMs,
    detachMs,
    idlePercent,
    ownMiB: ownBytes / MIB,
    framesMiB: framesBytes / MIB,
    plainUs,
    recordedUs,
  };
}

/**
 * Random touches with and without a recording, in turns, each going first as often: pass by pass they differ by more
 * than a recording costs.
 */
async function recording(
  undo: UndoStack,
  touch: TouchProgram,
  leapd: Leapd,
  turns: number,
): Promise<{ readonly plainUs: number; readonly recordedUs: number }> {
  const plain: number[] = [];
  const recorded: number[] = [];
  for (let turn = 0; turn < turns; turn++) {
    const path = join(MEMORY_DIR, `leap-bench-${process.pid}-${touch.pid}-${turn}.leap`);
    undo.add(`remove ${path}`, () => rmSync(path, { force: true }));
    if (turn % 2 === 0) plain.push(await touch.run('random'));
    await leapd.record(path);
    recorded.push(await touch.run('random'));
    await leapd.stopRecording();
    if (turn % 2 === 1) plain.push(await touch.run('random'));
  }
  return { plainUs: median(plain), recordedUs: median(recorded) };
}

function rows(plan: OverheadPlan, of?: (pick: (seen: Overheads) => number) => number, reason?: string): Row[] {
  const memoryGoal = (MEMORY_GOAL_BYTES + MEMORY_GOAL_BYTES_PER_PAGE * plan.mib * (MIB / PAGE_BYTES)) / MIB;
  const make = (id: string, what: string, unit: string, pick: (seen: Overheads) => number, goal?: number): Row =>
    row({
      id: `own.${id}`,
      section: SECTION,
      what,
      unit,
      leap: of?.(pick),
      ...(goal !== undefined && { goal }),
      ...(reason !== undefined && { reason }),
    });
  return [
    make('attach', `attach to ${plan.mib} MiB, from the start of leapd's process`, 'ms', (seen) => seen.attachMs),
    make('shrink', 'from there until half is stored (tmpfs)', 'ms', (seen) => seen.shrinkMs),
    make('detach', 'detach, half of it coming back, until its process has ended', 'ms', (seen) => seen.detachMs),
    make('idle', 'CPU while the process is idle', '% of a core', (seen) => seen.idlePercent, CPU_GOAL_PERCENT),
    make('memory', 'resident memory, frames aside', 'MiB', (seen) => seen.ownMiB, memoryGoal),
    make('frames', 'frames', 'MiB', (seen) => seen.framesMiB),
    row({
      id: 'record.random',
      section: SECTION,
      what: 'random touches while every fault is recorded; against without',
      unit: 'us a touch',
      goal: RECORD_GOAL,
      leap: of?.((seen) => seen.recordedUs),
      framesInside: undefined,
      ...(of !== undefined && { against: of((seen) => seen.plainUs) }),
      ...(reason !== undefined && { reason }),
    }),
  ];
}
