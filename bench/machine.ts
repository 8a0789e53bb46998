/** Where the figures were taken: they mean nothing without it. */
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { firstLine } from './proc.js';

export interface Machine {
  readonly date: string;
  readonly cpu: string;
  readonly cores: number;
  readonly virtual: boolean;
  readonly memoryMiB: number;
  readonly kernel: string;
  readonly node: string;
  /** Of the folder of the disk swap files. */
  readonly disk: string;
  readonly pageCluster: string;
  readonly transparentHugePages: string;
}

export function describeMachine(dir: string): Machine {
  return {
    date: new Date().toISOString(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    virtual: /^flags\s*:.*\bhypervisor\b/m.test(readFileSync('/proc/cpuinfo', 'latin1')),
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    kernel: release(),
    node: process.version,
    disk: filesystemOf(dir),
    pageCluster: firstLine('/proc/sys/vm/page-cluster'),
    transparentHugePages: /\[(\w+)\]/.exec(firstLine('/sys/kernel/mm/transparent_hugepage/enabled'))?.[1] ?? '-',
  };
}

/** "ext4 on /dev/vda": the mount with the longest path that holds `dir`. */
function filesystemOf(dir: string): string {
  let longest = '';
  let answer = 'unknown';
  for (const line of readFileSync('/proc/self/mounts', 'latin1').split('\n')) {
    const [device = '', path = '', type = ''] = line.split(' ');
    const inside = dir === path || dir.startsWith(path === '/' ? '/' : `${path}/`);
    if (path !== '' && inside && path.length >= longest.length) {
      longest = path;
      answer = `${type} on ${device}`;
    }
  }
  return answer;
}

export function inWords(machine: Machine): string {
  const { cpu, cores, virtual, memoryMiB, kernel, node, disk, date, pageCluster } = machine;
  return [
    `${cpu}, ${cores} CPUs${virtual ? ' (virtual machine)' : ''}, ${memoryMiB} MiB, Linux ${kernel}, Node ${node}`,
    `disk: ${disk}; page-cluster ${pageCluster}; ${date}`,
  ].join('\n');
}
