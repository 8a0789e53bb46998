/** The patterns under leapd: the same program as under the kernel's swap, paged by a leapd of its own. */
import { Leapd } from './leapd-program.js';
import type { PagingRun, PatternFigures, Place } from './paging-run.js';
import { cpuSeconds } from './proc.js';
import { PAGE_BYTES, patterns, TouchProgram } from './touch-program.js';

export const MEMORY_DIR = '/dev/shm'; // tmpfs on every Linux system

export async function leapdRun(
  place: Place,
  mib: number,
  localBytes: number,
  prefetchBuffer: number,
): Promise<PagingRun> {
  const { undo } = place;
  return undo.within(async () => {
    const touch = await TouchProgram.start(undo, mib);
    const swapDir = place.store === 'disk' ? place.dir : MEMORY_DIR;
    const leapd = await Leapd.attach(undo, { pid: touch.pid, localBytes, swapDir, prefetchBuffer });
    const shrinkMs = await leapd.settled();

    const figures: PatternFigures[] = [];
    let before = await leapd.stats();
    for (const pattern of patterns) {
      const cpuBefore = cpuSeconds(leapd.pid);
      const usPerTouch = await touch.run(pattern);
      const cpuUsPerTouch = ((cpuSeconds(leapd.pid) - cpuBefore) * 1e6) / touch.pages;
      const after = await leapd.stats();
      figures.push({
        pattern,
        usPerTouch,
        cpuUsPerTouch,
        misses: after.demandReads - before.demandReads,
        pagesIn: (after.bytesRead - before.bytesRead) / PAGE_BYTES,
        faults: after.faults - before.faults,
        mappedAhead: after.mappedAhead - before.mappedAhead,
        evictions: after.evictions - before.evictions,
        cleanEvictions: after.cleanEvictions - before.cleanEvictions,
        bufferedPages: after.bufferedPages,
      });
      before = after;
    }
    const detachMs = await leapd.detach();
    return {
      figures,
      checksum: await touch.check(),
      shrinkMs,
      facts: { frames: before.frames, attachMs: leapd.attachMs, detachMs },
    };
  });
}
