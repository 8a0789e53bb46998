/** What the donor must know of its machine. */
import { readFileSync, statSync } from 'node:fs';
import { errnoName, ExitCode, Refusal } from '../daemon/exit-codes.js';
import { hasCapability } from '../daemon/host.js';
import { formatBytes } from '../daemon/size.js';
import { tokenFrom } from '../src/wire/auth.js';

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
export function checkLockedMemory(memoryBytes: number, limit = lockedMemoryLimit(), mayExceed = hasCapability(CAP_IPC_LOCK)): void {
  if (mayExceed || limit >= memoryBytes) return;
  const problem = `the limit of locked memory is ${formatBytes(limit)}, and --memory needs ${formatBytes(memoryBytes)}`;
  throw new Refusal(ExitCode.rights, problem, 'raise it with: ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit, or run as root');
}

/** @throws Refusal */
export function readToken(path: string): Uint8Array {
  let text: string;
  let mode: number;
  try {
    mode = statSync(path).mode;
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const problem = `--token-file: ${path} cannot be read (${errnoName(error)})`;
    throw new Refusal(ExitCode.usage, problem, 'make one with: (umask 077; head -c 32 /dev/urandom | base64 > FILE)');
  }
  const found = tokenFrom(text, mode);
  if ('token' in found) return found.token;
  throw new Refusal(ExitCode.usage, `--token-file: ${path} ${found.problem}`, found.remedy);
}
