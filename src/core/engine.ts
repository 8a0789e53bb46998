/**
 * The engine: all that the pager needs of the world, and the seam at which the simulator takes its place.
 *
 * The hot path is `turn`: the pager writes command records into `commands`, calls `turn`, and reads event records from
 * `events`. A turn executes the commands in order, then harvests what has happened, and waits only if nothing has.
 * Everything else here is the control plane: rare, synchronous, free to allocate.
 */
import type { ConnectionId } from './fabric.js';
import type { PageIndex, SpaceId, Vpn } from './types.js';

/** One line of /proc/PID/smaps, as far as the pager needs it. */
export interface Mapping {
  readonly start: Vpn;
  readonly end: Vpn;
  /** As in /proc/PID/maps: "rw-p". */
  readonly permissions: string;
  readonly inode: number;
  readonly path: string;
  /** VmFlags of smaps: "rd", "wr", "lo", "um", "uw"...; see proc(5). */
  readonly flags: readonly string[];
}

/** What a look at /proc/PID/pagemap says of a page. */
export const Residency = { absent: 0, present: 1, swapped: 2 } as const;

export interface Engine {
  /** Command records to execute in the next turn. */
  readonly commands: Int32Array;
  /** Event records of the last turn. */
  readonly events: Int32Array;
  /**
   * CLOCK_MONOTONIC in ns, of the last turn: [0] when its wait was over and it began to harvest, [1] when its commands
   * had been executed.
   */
  readonly clock: Float64Array;
  /** HASH_WORDS words a frame: filled by moveOut, discard and read. */
  readonly frameHashes: Int32Array;
  /** HASH_WORDS words: the hash of a page of zeros. */
  readonly zeroHash: Int32Array;

  /**
   * Executes `commandWords` words of commands, then harvests events, waiting up to `waitNs` (0: not at all) while there
   * are none but those of copies that went well.
   * @returns the number of words written to `events`. When the event buffer is full the rest stays in the kernel for
   * the next turn.
   */
  turn(commandWords: number, waitNs: number): number;

  /** Registers [start, start + count) with userfaultfd (missing, write-protect). @returns errno, 0 when done. */
  register(space: SpaceId, start: Vpn, count: number): number;
  /** @returns errno. Threads that wait for a page of the range wake and fault again. */
  unregister(space: SpaceId, start: Vpn, count: number): number;
  /**
   * Write-protects the pages of [start, start + count) that are there: the next write to each is a fault with FAULT_WP.
   * @returns errno.
   */
  protect(space: SpaceId, start: Vpn, count: number): number;
  /**
   * Teaches the range table that pages first... stand at start... A run of pages in one command never leaves one bound
   * range.
   */
  bind(space: SpaceId, start: Vpn, count: number, first: PageIndex): void;
  /**
   * Forgets the part of the range table that covers [start, start + count), and wakes whoever waits for a page of it.
   */
  unbind(space: SpaceId, start: Vpn, count: number): void;

  /** The text of /proc/PID/maps now; empty when the process is gone. Much cheaper than `mappings`. */
  mappingList(space: SpaceId): string;
  /** The mappings of a space now, with their flags, from /proc/PID/smaps; empty when the process is gone. */
  mappings(space: SpaceId): Mapping[];
  /** Where the helper's own pages lie in a space; 0 and 0 when there are none. They are in `mappings` too. */
  ownArea(space: SpaceId): { readonly start: Vpn; readonly end: Vpn };
  /** Writes a Residency value for each of `count` pages from `start`. @returns errno. */
  residency(space: SpaceId, start: Vpn, count: number, out: Uint8Array): number;
  /** Which of the two ways to take a page away this kernel has. */
  readonly canMove: boolean;
  /** UFFDIO_POISON is there: a page that is lost can be made to raise SIGBUS. */
  readonly canPoison: boolean;
  /**
   * Reads go on while the commands behind them are executed: not where the swap file is in memory, and nothing remote.
   */
  readonly readsOverlap: boolean;
  /** False when the space has no helper, so that its pages cannot be evicted. */
  canEvict(space: SpaceId): boolean;
  /**
   * Gives a forked child a helper of its own; `thread` is the thread id of one of its faults. False when that cannot be
   * done.
   */
  adopt(space: SpaceId, thread: number): boolean;
  /** False when the address space is gone: the process has exited, or has called exec. */
  isAlive(space: SpaceId): boolean;
  /** Gives up a space that is gone: closes its descriptors and kills its helper. Its ranges are forgotten. */
  drop(space: SpaceId): void;
  /**
   * Replica `replica` of chunk `chunk` is `address` in the memory of the donor at the other end of `connection`, open
   * to us by `rkey`. From now on a read or write of its slots at that place goes there.
   */
  mapChunk(replica: number, chunk: number, connection: ConnectionId, rkey: number, address: bigint): void;
  /**
   * Forgets the replica: reads and writes of it that are still on their way are answered with ECANCELED, also those
   * that may have arrived.
   */
  unmapChunk(replica: number, chunk: number): void;
}
