/** What /proc says of a process. Every read may find the process gone; then the answer is undefined. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface ProcessStat {
  readonly pid: number;
  readonly name: string;
  readonly state: string;
  readonly parent: number;
  readonly kernelThread: boolean;
  /**
   * It has exited, all of it. One whose first thread alone has left shows as a zombie too, and lives on in the others.
   */
  readonly ended: boolean;
  /** Clock ticks after boot: with the pid it names a process for good, also when the pid is used again. */
  readonly startTime: number;
}

/** Start of a process, or of nothing: pid and start time together. */
export interface ProcessId {
  readonly pid: number;
  readonly startTime: number;
}

const PF_KTHREAD = 0x00200000;

export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // gone, or not ours to read: the caller branches
  }
}

export function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

export function readStat(pid: number): ProcessStat | undefined {
  const text = readText(`/proc/${pid}/stat`);
  return text === undefined ? undefined : parseStat(text);
}

/**
 * Text with control characters written as \xNN: a process chooses its name, and a terminal obeys escape sequences in
 * it.
 */
export const escapeControls = (text: string): string =>
  // eslint-disable-next-line no-control-regex
  text.replace(/[\x00-\x1f\x7f-\x9f]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`);

/**
 * The name stands in parentheses and may hold spaces and parentheses itself, so the fields are counted from the last
 * one.
 */
export function parseStat(text: string): ProcessStat | undefined {
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  if (open < 0 || close < open) return undefined;
  const fields = text
    .slice(close + 2)
    .trim()
    .split(' ');
  // proc(5) counts from 1; field 3 is the first one here
  const field = (index: number): number => Number(fields[index - 3]);
  const state = fields[0] ?? '';
  return {
    pid: Number(text.slice(0, open).trim()),
    name: escapeControls(text.slice(open + 1, close)),
    state,
    parent: field(4),
    kernelThread: (field(9) & PF_KTHREAD) !== 0,
    ended: state === 'X' || (state === 'Z' && field(20) <= 1), // field 20: threads
    startTime: field(22),
  };
}

/** The "Key:\tvalue" lines of /proc/PID/status and of fdinfo. */
export function parseFields(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  return fields;
}

export function readStatus(pid: number | 'self'): Map<string, string> | undefined {
  const text = readText(`/proc/${pid}/status`);
  return text === undefined ? undefined : parseFields(text);
}

export const isSame = (id: ProcessId): boolean => {
  const stat = readStat(id.pid);
  return stat !== undefined && stat.startTime === id.startTime && !stat.ended;
};

export function identify(pid: number): ProcessId | undefined {
  const stat = readStat(pid);
  return stat && { pid, startTime: stat.startTime };
}

/** Whether the process has a userfaultfd open; true also where its descriptors cannot be listed, unless it has gone. */
export function holdsUserfaultfd(pid: number): boolean {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder).some((fd) => readLink(`${folder}/${fd}`)?.includes('[userfaultfd]') === true);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}
