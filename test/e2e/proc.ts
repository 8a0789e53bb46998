/** What /proc shows of a process, as far as a pager must leave it alone. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

const read = (path: string): string => {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
};

const list = (path: string): string[] => {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
};

const byNumber = (a: string, b: string): number => Number(a) - Number(b);

/** Descriptors with what they lead to. */
export const descriptors = (pid: number): string[] =>
  list(`/proc/${pid}/fd`)
    .sort(byNumber)
    .map((fd) => {
      try {
        return `${fd} -> ${readlinkSync(`/proc/${pid}/fd/${fd}`)}`;
      } catch {
        return `${fd} -> (closed)`;
      }
    });

export const threads = (pid: number): string[] => list(`/proc/${pid}/task`).sort(byNumber);

/**
 * Mappings as "start-end permissions name"; neighbours that differ in nothing are joined, as the kernel may join or
 * split them.
 */
export function mappings(pid: number): string[] {
  const joined: { start: string; end: string; rest: string }[] = [];
  for (const line of read(`/proc/${pid}/maps`).split('\n')) {
    const [, start = '', end = '', permissions = '', inode = '', name = ''] =
      /^(\w+)-(\w+) (\S+) \S+ \S+ (\d+)\s*(.*)$/.exec(line) ?? [];
    if (start === '') continue;
    const rest = `${permissions} ${name}`;
    const last = joined.at(-1);
    if (inode === '0' && last?.end === start && last.rest === rest) last.end = end;
    else joined.push({ start, end, rest });
  }
  return joined.map(({ start, end, rest }) => `${start}-${end} ${rest}`);
}

/** The flags of each mapping that is registered with a userfaultfd. */
const registeredFlags = (pid: number): string[][] =>
  (read(`/proc/${pid}/smaps`).match(/^VmFlags:.*$/gm) ?? [])
    .map((line) => line.split(' '))
    .filter((flags) => flags.includes('um') || flags.includes('uw'));

/** Mappings that are registered with a userfaultfd. */
export const registered = (pid: number): number => registeredFlags(pid).length;

/**
 * The same while a leapd is attached, without its helper's memory (MADV_DONTFORK and MADV_DONTDUMP): that is registered
 * while a batch is evicted and no longer, so what is seen of it depends on the moment.
 */
export const registeredOwn = (pid: number): number =>
  registeredFlags(pid).filter((flags) => !(flags.includes('dc') && flags.includes('dd'))).length;

const statField = (pid: number | string, index: number): string => {
  const text = read(`/proc/${pid}/stat`);
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[index] ?? '';
};

/** "R", "S", "T"...; empty when there is no such process. */
export const state = (pid: number): string => statField(pid, 0);

/** Processes whose parent this one is. */
export const children = (pid: number): number[] =>
  list('/proc')
    .filter((name) => /^\d+$/.test(name) && statField(name, 1) === String(pid))
    .map(Number);

/** The process and all below it. */
export const family = (pid: number): number[] => [pid, ...children(pid).flatMap(family)];

export function status(pid: number): Map<string, string> {
  const fields = read(`/proc/${pid}/status`)
    .split('\n')
    .map((line): [string, string] => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    });
  return new Map(fields);
}

/** Anonymous memory in use, in pages of 4 KiB. */
export const anonymousPages = (pid: number): number => Number.parseInt(status(pid).get('RssAnon') ?? '0', 10) / 4;

/** Where each thread waits in the kernel: for messages. */
export const waits = (pid: number): string =>
  threads(pid)
    .map((tid) => `${tid}:${statField(`${pid}/task/${tid}`, 0)}:${read(`/proc/${pid}/task/${tid}/wchan`)}`)
    .join(' ');

/** Whether some thread waits for a page. */
export const waitsForPage = (pid: number): boolean =>
  threads(pid).some((tid) => read(`/proc/${pid}/task/${tid}/wchan`).includes('userfault'));

export interface View {
  readonly descriptors: readonly string[];
  readonly threads: readonly string[];
  readonly children: readonly number[];
  readonly registered: number;
  readonly status: Readonly<Record<string, string>>;
  readonly mappings?: readonly string[];
}

const kept = [
  ...['Name', 'TracerPid', 'Uid', 'Gid', 'SigBlk', 'SigIgn', 'CapInh', 'CapPrm', 'CapEff', 'CapBnd'],
  ...['NoNewPrivs', 'Seccomp', 'Seccomp_filters', 'Threads', 'VmLck', 'VmPin', 'Cpus_allowed'],
];

/**
 * All that must be the same before an attach and after a detach. `idle`: the process has done nothing in between, so
 * its mappings count too.
 */
export function view(pid: number, idle: boolean): View {
  const all = status(pid);
  return {
    descriptors: descriptors(pid),
    threads: threads(pid),
    children: children(pid),
    registered: registered(pid),
    status: Object.fromEntries([...kept, ...(idle ? ['SigCgt'] : [])].map((key) => [key, all.get(key) ?? ''])),
    ...(idle && { mappings: mappings(pid) }),
  };
}
