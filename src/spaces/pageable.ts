/** Which mappings leapd pages: private anonymous memory (heap, mmap, thread stacks). */
import type { Mapping } from '../core/engine.js';

/**
 * VmFlags of mappings that stay resident: locked, huge, shared, I/O, page frame numbers only, mixed map, wiped or not
 * copied on fork, growing down, shadow stack; see proc(5).
 */
const SKIPPED_FLAGS = ['lo', 'ht', 'sh', 'io', 'pf', 'mm', 'wf', 'dc', 'gd', 'ss'] as const;

/** Private memory with no file behind it, in 4 KiB pages. Memory of another kind must never stay registered. */
export function isAnonymous({ inode, permissions, flags }: Pick<Mapping, 'inode' | 'permissions' | 'flags'>): boolean {
  return inode === 0 && permissions[3] === 'p' && !flags.includes('ht');
}

/** Whether a mapping can be paged, as far as its flags are known: /proc/PID/maps has none. */
export function isPageable(mapping: Pick<Mapping, 'inode' | 'permissions' | 'flags' | 'path'>): boolean {
  if (!isAnonymous(mapping) || mapping.permissions[1] !== 'w') return false;
  return isAnonymousName(mapping.path) && !SKIPPED_FLAGS.some((flag) => mapping.flags.includes(flag));
}

/** Not the main stack, the vDSO, or what a driver has named. */
function isAnonymousName(path: string): boolean {
  return path === '' || path === '[heap]' || path.startsWith('[anon:') || path.startsWith('[stack:');
}
