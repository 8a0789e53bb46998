/** Does the stored memory fit back into this machine, and into the target's control groups? */
import { join } from 'node:path';
import { parseFields, readText } from '../src/host/process-info.js';
import { formatBytes } from '../src/cli/size.js';

export interface Room {
  /** After a reserve: it is an estimate, and others take of it too. */
  readonly bytes: number;
  /** Whose room it is, in words. */
  readonly where: string;
}

const MACHINE_RESERVE_BYTES = 64 * 2 ** 20;
/** A group is charged for the page tables too. */
const GROUP_RESERVE_BYTES = 2 ** 20;
/** Controllers write "no limit" as a number near 2^63, or as "max". */
const NO_LIMIT = 2 ** 60;
const MAX_DEPTH = 64;

/** The tightest room that the target has to grow in. */
export function roomFor(pid: number, procRoot = '/proc'): Room {
  return [machineRoom(procRoot), ...groupRooms(pid, procRoot)].reduce((least, room) =>
    room.bytes < least.bytes ? room : least,
  );
}

/** @returns undefined when it fits, else what is wrong, in words. */
export function whyNoFit(neededBytes: number, room: Room): string | undefined {
  if (neededBytes === 0 || neededBytes <= room.bytes) return undefined;
  return `${formatBytes(neededBytes)} are stored, but ${room.where} has room for ${formatBytes(Math.max(0, room.bytes))} only`;
}

function machineRoom(procRoot: string): Room {
  const fields = parseFields(readText(`${procRoot}/meminfo`) ?? '');
  const kilobytes = (key: string): number => Number.parseInt(fields.get(key) ?? '0', 10);
  return {
    bytes: (kilobytes('MemAvailable') + kilobytes('SwapFree')) * 1024 - MACHINE_RESERVE_BYTES,
    where: 'the machine',
  };
}

/**
 * One room for each limited memory group that the target is in, its own and those around it; version 1 and version 2.
 */
function groupRooms(pid: number, procRoot: string): Room[] {
  const mounts = memoryMounts(readText(`${procRoot}/self/mountinfo`) ?? '');
  const rooms: Room[] = [];
  for (const line of (readText(`${procRoot}/${pid}/cgroup`) ?? '').split('\n')) {
    const [id, controllers = '', ...rest] = line.split(':');
    const path = rest.join(':');
    if (path === '') continue;
    const version = id === '0' && controllers === '' ? 2 : controllers.split(',').includes('memory') ? 1 : undefined;
    const mount = mounts.find((candidate) => candidate.version === version);
    if (mount) rooms.push(...roomsUpward(mount, path));
  }
  return rooms;
}

interface Mount {
  readonly version: 1 | 2;
  readonly root: string;
  readonly point: string;
}

/** Where the memory controller is mounted: from /proc/self/mountinfo. */
export function memoryMounts(mountinfo: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of mountinfo.split('\n')) {
    const [left = '', right = ''] = line.split(' - ');
    const [, , , root = '/', point = ''] = left.split(' ');
    const [type, , options = ''] = right.split(' ');
    if (type === 'cgroup2') mounts.push({ version: 2, root, point });
    else if (type === 'cgroup' && options.split(',').includes('memory')) mounts.push({ version: 1, root, point });
  }
  return mounts;
}

function roomsUpward(mount: Mount, path: string): Room[] {
  const rooms: Room[] = [];
  // In a container the mount may begin below the root that /proc/PID/cgroup counts from.
  let inside = mount.root !== '/' && path.startsWith(mount.root) ? path.slice(mount.root.length) : path;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const room = roomOfGroup(mount, inside);
    if (room !== undefined) rooms.push(room);
    if (inside === '' || inside === '/') break;
    inside = inside.slice(0, Math.max(0, inside.lastIndexOf('/')));
  }
  return rooms;
}

function roomOfGroup(mount: Mount, inside: string): Room | undefined {
  const file = (name: string): string | undefined => readText(join(mount.point, inside, name));
  const limit = number(file(mount.version === 2 ? 'memory.max' : 'memory.limit_in_bytes'));
  const used = number(file(mount.version === 2 ? 'memory.current' : 'memory.usage_in_bytes'));
  if (limit === undefined || used === undefined || limit >= NO_LIMIT) return undefined;
  const reclaimable = /^(?:total_)?inactive_file (\d+)$/m.exec(file('memory.stat') ?? '');
  return {
    bytes: limit - used + Number(reclaimable?.[1] ?? 0) - GROUP_RESERVE_BYTES,
    where: `the control group ${inside === '' ? '/' : inside}`,
  };
}

function number(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text.trim());
  return Number.isFinite(value) ? value : undefined;
}
