/**
 * Which process a faulting thread belongs to. The kernel names threads as the target's own pid namespace numbers them;
 * we need our numbers.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

const text = (path: string): string => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // gone
  }
};

/** The pid namespace of a process, as a name; undefined when the process is gone. */
export const namespaceOf = (pid: string | number): string | undefined => {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
};

/** The numbers on the line `name:` of a /proc/.../status. */
function numbers(status: string, name: string): number[] {
  const line = new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
  return line
    .split(/\s+/)
    .filter((word) => word !== '')
    .map(Number);
}

/**
 * @param namespace that of the family, asked for while its first process lived; undefined: not known, and no thread is
 * taken for one of it
 * @param thread a thread of that namespace, by its number there
 * @returns our number of the thread's process; undefined when there is none.
 */
export function processOfThread(namespace: string | undefined, thread: number): number | undefined {
  if (namespace === undefined) return undefined;
  if (namespace === namespaceOf('self')) return numbers(text(`/proc/${thread}/status`), 'Tgid')[0];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry) || namespaceOf(entry) !== namespace) continue;
    try {
      for (const task of readdirSync(`/proc/${entry}/task`)) {
        if (numbers(text(`/proc/${entry}/task/${task}/status`), 'NSpid').at(-1) === thread) return Number(entry);
      }
    } catch {
      // it ended while we looked
    }
  }
  return undefined;
}
