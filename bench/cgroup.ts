/** A memory cgroup, v1 or v2, whichever this machine has its memory controller in. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CannotRun, sleepSync, type UndoStack } from '../src/host/undo-stack.js';

const REMOVE_TRIES = 100;
const REMOVE_WAIT_MS = 20;

interface Hierarchy {
  readonly version: 'v1' | 'v2';
  readonly root: string;
  readonly limitFile: string;
  readonly usageFile: string;
  readonly unlimited: string;
}

export class MemoryCgroup {
  readonly version: string;
  readonly #path: string;
  readonly #hierarchy: Hierarchy;

  constructor(undo: UndoStack, name: string) {
    this.#hierarchy = findHierarchy();
    this.version = this.#hierarchy.version;
    this.#path = join(this.#hierarchy.root, name);
    try {
      mkdirSync(this.#path);
    } catch (error) {
      throw new CannotRun(`cannot create a memory cgroup in ${this.#hierarchy.root}: ${message(error)}`);
    }
    undo.add(`remove the cgroup ${this.#path}`, () => this.#remove());
    if (existsSync(join(this.#path, this.#hierarchy.limitFile))) return;
    throw new CannotRun(`the memory controller is not enabled below ${this.#hierarchy.root}`);
  }

  /** The file to which a process writes its pid to be counted here. */
  get procsFile(): string {
    return join(this.#path, 'cgroup.procs');
  }

  get usageBytes(): number {
    return Number(readFileSync(join(this.#path, this.#hierarchy.usageFile), 'latin1'));
  }

  /** The kernel reclaims down to the limit before this returns. */
  limit(bytes: number): void {
    try {
      writeFileSync(join(this.#path, this.#hierarchy.limitFile), String(bytes));
    } catch (error) {
      throw new CannotRun(`the kernel could not reclaim down to a limit of ${bytes} bytes: ${message(error)}`);
    }
  }

  #remove(): void {
    writeFileSync(join(this.#path, this.#hierarchy.limitFile), this.#hierarchy.unlimited);
    for (let left = REMOVE_TRIES; ; left--) {
      try {
        rmdirSync(this.#path);
        return;
      } catch (error) {
        if (left === 0) throw error; // EBUSY for a moment after its last process has died
        sleepSync(REMOVE_WAIT_MS);
      }
    }
  }
}

function findHierarchy(): Hierarchy {
  for (const line of readFileSync('/proc/self/mounts', 'latin1').split('\n')) {
    const [, root = '', type, options = ''] = line.split(' ');
    if (type === 'cgroup' && options.split(',').includes('memory')) {
      return {
        version: 'v1',
        root,
        limitFile: 'memory.limit_in_bytes',
        usageFile: 'memory.usage_in_bytes',
        unlimited: '-1',
      };
    }
    if (
      type === 'cgroup2' &&
      readFileSync(join(root, 'cgroup.controllers'), 'latin1').split(/\s+/).includes('memory')
    ) {
      enableMemoryController(root);
      return { version: 'v2', root, limitFile: 'memory.max', usageFile: 'memory.current', unlimited: 'max' };
    }
  }
  throw new CannotRun('this machine has no memory cgroup (neither v1 nor v2)');
}

function enableMemoryController(root: string): void {
  const control = join(root, 'cgroup.subtree_control');
  if (readFileSync(control, 'latin1').split(/\s+/).includes('memory')) return;
  try {
    writeFileSync(control, '+memory');
  } catch (error) {
    throw new CannotRun(`the memory controller cannot be enabled in ${control}: ${message(error)}`);
  }
}

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));
