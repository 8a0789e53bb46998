/** How much the heap grows while something runs: to show that a hot path does not allocate. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/**
 * Runs `work` several times. @returns the bytes that its thriftiest run left behind: the others were being compiled, or
 * shared the heap.
 */
export function heapGrowth(work: () => void): number {
  let least = Infinity;
  for (let run = 0; run < 8; run++) {
    collect();
    const before = process.memoryUsage().heapUsed;
    work();
    least = Math.min(least, process.memoryUsage().heapUsed - before);
  }
  return least;
}
