/** What the donor must know of its machine. */
import { readFileSync } from 'node:fs';
import { ExitCode, Refusal } from '../src/cli/exit-codes.js';
import { hasCapability } from '../src/host/machine.js';
import { formatBytes } from '../src/cli/size.js';

const CAP_IPC_LOCK = 14;

/** MemAvailable. */
export function availableBytes(meminfo = readFileSync('/proc/meminfo', 'utf8')): number {
  return Number(/^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1] ?? Number.NaN) * 1024;
}

/** In bytes. */
export function lockedMemoryLimit(limits = readFileSync('/proc/self/limits', 'utf8')): number {
  const soft = /^Max locked memory\s+(\S+)/m.exec(limits)?.[1];
  return soft === undefined || soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
}

/** What is lent is locked in memory. @throws Refusal */
export function checkLockedMemory(
  memoryBytes: number,
  limit = lockedMemoryLimit(),
  mayExceed = hasCapability(CAP_IPC_LOCK),
): void {
  if (mayExceed || limit >= memoryBytes) return;
  const problem = `the limit of locked memory is ${formatBytes(limit)}, and --memory needs ${formatBytes(memoryBytes)}`;
  throw new Refusal(
    ExitCode.rights,
    problem,
    'raise it with: ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit, or run as root',
  );
}
