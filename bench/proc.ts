/** Counters that the kernel keeps: of one process under /proc/PID, and of the whole machine. */
import { existsSync, readFileSync } from 'node:fs';

const MAJOR_FAULTS_FIELD = 9; // in /proc/PID/stat after the command's closing parenthesis, counting from 0
const USER_TIME_FIELD = 11;
const SYSTEM_TIME_FIELD = 12;
const TICKS_PER_SECOND = 100; // USER_HZ, the same on every x86-64 kernel

function statField(pid: number, field: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[field]);
}

export const majorFaults = (pid: number): number => statField(pid, MAJOR_FAULTS_FIELD);

export const cpuSeconds = (pid: number): number =>
  (statField(pid, USER_TIME_FIELD) + statField(pid, SYSTEM_TIME_FIELD)) / TICKS_PER_SECOND;

/** A line of /proc/PID/status in KiB, as bytes. */
export function statusBytes(pid: number, key: string): number {
  const match = new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
  return Number(match?.[1] ?? 0) * 1024;
}

/**
 * Pages read from swap areas by the whole machine since it started: the bench's own, while no other swap area is in
 * use.
 */
export function swappedInPages(): number {
  return Number(/^pswpin (\d+)$/m.exec(readFileSync('/proc/vmstat', 'latin1'))?.[1] ?? 0);
}

/** The first line of a file, or a dash where the kernel has no such file. */
export function firstLine(path: string): string {
  return existsSync(path) ? (readFileSync(path, 'latin1').split('\n')[0] ?? '') : '-';
}

/** The CPUs that this process may run on, lowest first. */
export function allowedCpus(): number[] {
  const list = /^Cpus_allowed_list:\s+(\S+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0';
  return list.split(',').flatMap((part) => {
    const [first = 0, last = first] = part.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}
