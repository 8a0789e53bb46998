/**
 * Reads the text of /proc/PID/smaps into mappings: one header line a mapping, as in /proc/PID/maps, then its fields, of
 * which `VmFlags` is wanted.
 */
import type { Mapping } from '../core/engine.js';
import { vpn } from '../core/types.js';

// start-end permissions offset device inode [path]
const HEADER = /^([0-9a-f]+)-([0-9a-f]+) ([-rwxsp]{4}) [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ (\d+) *(.*)$/;
const FLAGS = /^VmFlags:(.*)$/;

/** Addresses are page aligned, so three digits fall away; what is left is exact in a double whatever the address. */
const pageNumber = (hex: string) => vpn(Number.parseInt(hex.slice(0, -3) || '0', 16));

export function parseSmaps(text: string): Mapping[] {
  const mappings: Mapping[] = [];
  let header: RegExpExecArray | null = null;
  let flags: readonly string[] = [];
  const finish = (): void => {
    if (!header) return;
    const [, start = '', end = '', permissions = '', inode = '', path = ''] = header;
    mappings.push({ start: pageNumber(start), end: pageNumber(end), permissions, inode: Number(inode), path, flags });
    flags = [];
  };
  for (const line of text.split('\n')) {
    const found = HEADER.exec(line);
    if (found) {
      finish();
      header = found;
    } else {
      const list = FLAGS.exec(line)?.[1];
      if (list !== undefined) flags = list.split(' ').filter((flag) => flag !== '');
    }
  }
  finish();
  return mappings;
}
