/** The patterns under the kernel's own swap: the program alone in a memory cgroup, with a swap area made for it. */
import { join } from 'node:path';
import { MemoryCgroup } from './cgroup.js';
import { ChildEnded } from '../src/host/line-child.js';
import { majorFaults, swappedInPages } from './proc.js';
import type { PagingRun, PatternFigures, Place } from './paging-run.js';
import { swapFile, zram } from './swap-area.js';
import { PAGE_BYTES, patterns, TouchProgram, type Pattern } from './touch-program.js';
import { CannotRun } from '../src/host/undo-stack.js';

const SLACK = 1.25; // swap entries are handed out in clusters; the area must not run full

export async function kernelRun(place: Place, mib: number, localBytes: number): Promise<PagingRun> {
  const { undo } = place;
  return undo.within(async () => {
    if (process.getuid?.() !== 0) throw new CannotRun('swap areas and memory cgroups need root');
    const areaBytes = Math.ceil(mib * 2 ** 20 * SLACK);
    const cgroup = new MemoryCgroup(undo, `leap-bench-${process.pid}`);
    if (place.store === 'disk')
      await swapFile(undo, join(place.dir, `leap-bench-${process.pid}.kernel-swap`), areaBytes);
    else await zram(undo, areaBytes);

    const touch = await TouchProgram.start(undo, mib, cgroup.procsFile);
    // What the cgroup holds beside the region (page tables, the program itself) comes on top of the limit: leapd's
    // limit is for pages alone.
    const overheadBytes = Math.max(0, cgroup.usageBytes - touch.pages * PAGE_BYTES);
    const start = performance.now();
    cgroup.limit(localBytes + overheadBytes);
    const shrinkMs = performance.now() - start;

    try {
      const figures: PatternFigures[] = [];
      for (const pattern of patterns) figures.push(await measure(touch, pattern));
      return { figures, checksum: await touch.check(), shrinkMs, facts: { cgroup: cgroup.version, overheadBytes } };
    } catch (error) {
      throw asReason(error);
    }
  });
}

async function measure(touch: TouchProgram, pattern: Pattern): Promise<PatternFigures> {
  const misses = majorFaults(touch.pid);
  const pagesIn = swappedInPages();
  const usPerTouch = await touch.run(pattern);
  return { pattern, usPerTouch, misses: majorFaults(touch.pid) - misses, pagesIn: swappedInPages() - pagesIn };
}

/** Below a limit of a few MiB the kernel cannot always reclaim fast enough, and kills. */
function asReason(error: unknown): unknown {
  const killed = error instanceof ChildEnded && error.result === 'SIGKILL';
  return killed ? new CannotRun('the kernel ran out of memory below the limit and killed the program') : error;
}
