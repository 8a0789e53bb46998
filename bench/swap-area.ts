/** Swap areas of the kernel, made for one run and taken away after it: a file on a disk, or zram. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { CannotRun, type UndoStack } from '../src/host/undo-stack.js';

const run = promisify(execFile);
const MIB = 2 ** 20;
const PRIORITY = '32767'; // before any swap area that the machine has already
const ZRAM_CONTROL = '/sys/class/zram-control';

async function swapOn(undo: UndoStack, path: string): Promise<void> {
  await run('mkswap', [path]);
  await run('swapon', ['-p', PRIORITY, path]);
  undo.add(`swapoff ${path}`, () => void execFileSync('swapoff', [path], { stdio: 'ignore' }));
}

/** A swap file with its blocks allocated. */
export async function swapFile(undo: UndoStack, path: string, bytes: number): Promise<void> {
  const mib = Math.ceil(bytes / MIB);
  undo.add(`remove ${path}`, () => rmSync(path, { force: true }));
  try {
    writeFileSync(path, '', { mode: 0o600 });
    await run('fallocate', ['-l', `${mib}M`, path]);
    await swapOn(undo, path);
  } catch {
    // Some filesystems only take a swap file whose blocks have been written.
    try {
      await run('dd', ['if=/dev/zero', `of=${path}`, 'bs=1M', `count=${mib}`, 'conv=fsync']);
      await swapOn(undo, path);
    } catch (error) {
      throw new CannotRun(`no swap file at ${path}: ${reason(error)}`);
    }
  }
}

export async function zram(undo: UndoStack, bytes: number): Promise<void> {
  if (!existsSync(ZRAM_CONTROL)) await run('modprobe', ['zram']).catch(() => undefined);
  if (!existsSync(ZRAM_CONTROL))
    throw new CannotRun('this kernel has no zram (no /sys/class/zram-control, and modprobe zram failed)');
  try {
    const id = readFileSync(`${ZRAM_CONTROL}/hot_add`, 'latin1').trim();
    undo.add(`remove zram${id}`, () => writeFileSync(`${ZRAM_CONTROL}/hot_remove`, id));
    writeFileSync(`/sys/block/zram${id}/disksize`, String(bytes));
    await swapOn(undo, `/dev/zram${id}`);
  } catch (error) {
    throw new CannotRun(`no zram device: ${reason(error)}`);
  }
}

function reason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.trim().split('\n').pop() ?? text;
}
