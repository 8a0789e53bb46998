/**
 * Everything that can be known of a target before it is touched: is it one that leapd can page, and how large is it.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import type { PagerOptions } from '../src/core/pager-options.js';
import { ExitCode, Refusal } from '../src/cli/exit-codes.js';
import { findPins } from './pinned.js';
import { readStat, readStatus, readText, type ProcessStat } from '../src/host/process-info.js';
import { parseSmaps } from '../src/host/smaps.js';
import { isPageable } from '../src/spaces/pageable.js';
import { bytesToPages, formatBytes, formatPages, type Size } from '../src/cli/size.js';

export interface Target {
  readonly pid: number;
  readonly startTime: number;
  readonly name: string;
  /** Private anonymous memory in use, in memory or in the kernel's swap. */
  readonly usedPages: number;
  /** Private anonymous memory that is mapped, in use or not. */
  readonly mappedPages: number;
}

/** The smallest local memory: one batch of pages can leave while as many again are being worked on. */
export const LEAST_LOCAL_PAGES = 16;

const MOST_PINS_NAMED = 3;

const refuse = (problem: string, remedy: string): never => {
  throw new Refusal(ExitCode.target, problem, remedy);
};

/** @throws Refusal. Nothing is changed, whatever comes out. */
export function checkTarget(pid: number, allowPinned: boolean): Target {
  if (pid === process.pid) refuse(`process ${pid} is this leapd`, 'name another process: leapd cannot page itself');
  const stat = readStat(pid) ?? refuse(`there is no process ${pid}`, 'look it up with: pgrep -a NAME');
  const status =
    readStatus(pid) ??
    refuse(`there is no process ${pid} any more`, 'it has just ended; look for another with: pgrep -a NAME');
  checkKind(pid, stat, status);
  checkExecutable(pid);
  if (!allowPinned) {
    const pins = findPins(pid);
    if (pins.length > 0) {
      const more = pins.length > MOST_PINS_NAMED ? `, and ${pins.length - MOST_PINS_NAMED} more` : '';
      refuse(
        `devices may write into the memory of process ${pid} (${stat.name}): ${pins.slice(0, MOST_PINS_NAMED).join(', ')}${more}`,
        'give --allow-pinned if no device uses that memory while it is paged',
      );
    }
  }
  const kilobytes = (key: string): number => Number.parseInt(status.get(key) ?? '0', 10);
  const maps = readText(`/proc/${pid}/maps`) ?? '';
  return {
    pid,
    startTime: stat.startTime,
    name: stat.name,
    usedPages: bytesToPages((kilobytes('RssAnon') + kilobytes('VmSwap')) * 1024),
    mappedPages: anonymousPages(maps),
  };
}

function checkKind(pid: number, stat: ProcessStat, status: ReadonlyMap<string, string>): void {
  if (stat.ended) refuse(`process ${pid} (${stat.name}) has ended already`, 'its parent has not collected it yet');
  if (stat.state === 'Z') {
    refuse(
      `the main thread of process ${pid} (${stat.name}) has ended, and /proc no longer shows the memory`,
      'leapd cannot page a process without its main thread',
    );
  }
  if (stat.kernelThread)
    refuse(`process ${pid} (${stat.name}) is a kernel thread`, 'only user processes have memory to page');
  const leader = Number(status.get('Tgid') ?? pid);
  if (leader !== pid)
    refuse(`${pid} is a thread of process ${leader} (${stat.name})`, `page the whole process: leapd --pid ${leader}`);
  const tracer = Number(status.get('TracerPid') ?? 0);
  if (tracer !== 0) {
    const tracerName = readStat(tracer)?.name ?? 'the debugger';
    refuse(
      `process ${pid} (${stat.name}) is being traced by ${tracerName} (pid ${tracer})`,
      `detach ${tracerName}, then run leapd again; ${tracerName} may attach again afterwards`,
    );
  }
}

const ELF_CLASS_64 = 2;
const EM_X86_64 = 62;

function checkExecutable(pid: number): void {
  const header = Buffer.alloc(20);
  try {
    const fd = openSync(`/proc/${pid}/exe`, 'r');
    try {
      readSync(fd, header, 0, header.length, 0);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EACCES' || code === 'EPERM') {
      const remedy =
        process.getuid?.() === 0
          ? `it has rights that leapd lacks: compare CapEff in /proc/${pid}/status`
          : 'run leapd as root';
      throw new Refusal(ExitCode.rights, `leapd may not read /proc/${pid} (${code})`, remedy);
    }
    refuse(`process ${pid} has no executable of its own (${code})`, 'it is ending, or was created without one');
  }
  if (header[4] !== ELF_CLASS_64) refuse(`process ${pid} is a 32-bit program`, 'leapd pages 64-bit programs only');
  if (header.readUInt16LE(18) !== EM_X86_64)
    refuse(`process ${pid} is not an x86-64 program`, 'leapd pages x86-64 programs only');
}

/** Pages of the mappings that leapd pages. @param maps the text of /proc/PID/maps: locked memory is counted too */
export function anonymousPages(maps: string): number {
  return parseSmaps(maps)
    .filter(isPageable)
    .reduce((pages, { start, end }) => pages + (end - start), 0);
}

/** What a size means as a limit for this target. @throws Refusal. */
export function localLimit(size: Size, target: Target): PagerOptions['localLimit'] {
  if (size.kind === 'percent') return { share: size.percent / 100 };
  return { pages: localPages(size.bytes, target, '--local-memory') };
}

/** @param as what the message calls it  @throws Refusal: too little to run in, or more than there is. */
export function localPages(
  bytes: number,
  { pid, mappedPages }: Pick<Target, 'pid' | 'mappedPages'>,
  as: string,
): number {
  const pages = bytesToPages(bytes);
  if (pages < LEAST_LOCAL_PAGES) {
    throw new Refusal(
      ExitCode.usage,
      `${as}: ${formatBytes(bytes)} is too little`,
      `give at least ${formatPages(LEAST_LOCAL_PAGES)}`,
    );
  }
  if (pages > mappedPages) {
    const problem = `${as}: ${formatBytes(bytes)} is more than process ${pid} has: ${formatPages(mappedPages)} can be paged`;
    throw new Refusal(ExitCode.usage, problem, 'give less, or a share such as 50%');
  }
  return pages;
}
