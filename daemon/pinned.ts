/**
 * Signs that a device may be writing to a process's memory behind its back. A page under DMA must not leave: the device
 * would go on with the old one. The kernel shows no pins page by page, so we look for what causes them.
 */
import { readdirSync } from 'node:fs';
import { parseFields, readLink, readStatus, readText } from '../src/host/process-info.js';

const O_DIRECT = 0o40000;
const RDMA_OR_VFIO = /^\/dev\/(infiniband\/|vfio\/)/;

/** @returns what was found, in words; empty when nothing was. */
export function findPins(pid: number): string[] {
  const found: string[] = [];
  const pinned = readStatus(pid)?.get('VmPin');
  if (pinned !== undefined && !pinned.startsWith('0 ')) found.push(`${pinned} pinned by a device`);
  for (const fd of descriptors(pid)) {
    const link = readLink(`/proc/${pid}/fd/${fd}`);
    const info = link === undefined ? undefined : readText(`/proc/${pid}/fdinfo/${fd}`);
    if (link === undefined || info === undefined) continue; // closed meanwhile
    const reason = describePin(link, info);
    if (reason !== undefined) found.push(`descriptor ${fd} ${reason}`);
  }
  return found;
}

/** What one descriptor says: its link in /proc/PID/fd, and its fdinfo. */
export function describePin(link: string, info: string): string | undefined {
  const fields = parseFields(info);
  if (RDMA_OR_VFIO.test(link)) return `is a device that does DMA (${link})`;
  if (Number(fields.get('UserBufs') ?? 0) > 0) return 'is an io_uring with registered buffers';
  if ((Number.parseInt(fields.get('flags') ?? '0', 8) & O_DIRECT) !== 0 && link.startsWith('/'))
    return `uses O_DIRECT (${link})`;
  return undefined;
}

function descriptors(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`);
  } catch {
    return [];
  }
}
