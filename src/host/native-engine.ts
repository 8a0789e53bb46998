/**
 * The engine over the addon: native/addon/addon.cc does the work, and this file says what its functions are. Loaded in
 * the pager's thread, and used by no other: ptrace belongs to the thread that attaches. Only `wakeFd` may be used from
 * elsewhere (write 8 bytes, a counter that is not 0).
 */
import type { Calibration } from '../policy/placement.js';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Engine, Mapping } from '../core/engine.js';
import type { ConnectionId, Fabric, FabricEvent, RdmaReport } from '../core/fabric.js';
import type { Traffic } from '../donors/donors.js';
import { checkLayout, MAX_SPACES } from '../core/layout.js';
import { type PageIndex, type SpaceId, type Vpn } from '../core/types.js';
import { namespaceOf, processOfThread } from './family-process.js';
import { parseSmaps } from './smaps.js';

export interface EngineOptions {
  readonly pid: number;
  readonly frames: number;
  /** Must not exist, or be empty and ours alone. */
  readonly swapFile: string;
  /** UFFDIO_MOVE where the kernel has it. */
  readonly allowMove?: boolean;
  /** One madvise for many runs where the kernel has it. */
  readonly allowVector?: boolean;
  /** O_DIRECT where the file system has it. */
  readonly directIo?: boolean;
  /** io_uring where the kernel has it. */
  readonly ring?: boolean;
  /** Chunks may be mapped on donors from the beginning: takes an RDMA device. See openFabric. */
  readonly rdma?: boolean;
  /** Faults to order, for tests; each counts the requests that still go well. */
  readonly inject?: {
    readonly failWriteAfter?: number;
    readonly failReadAfter?: number;
    readonly corruptReadAfter?: number;
  };
}

/** What this machine offers. */
export interface Probe {
  readonly kernel: string;
  readonly machine: string;
  /** Names of the userfaultfd features. */
  readonly features: readonly string[];
  /** Why userfaultfd is refused to us; empty when it is not. */
  readonly userfaultfd: string;
  /** /dev/userfaultfd can be opened (Linux 6.1): attaching works without rights of the target's own. */
  readonly userfaultfdDevice: boolean;
  readonly ioUring: boolean;
  readonly ioUringErrno: number;
}

interface Mechanism {
  readonly vector: boolean;
  readonly ring: boolean;
  readonly direct: boolean;
}

/** An error of the addon: `kind` is a stable word, `code` an errno or 0. */
export interface NativeError extends Error {
  readonly kind: string;
  readonly code: number;
}

export const isNativeError = (error: unknown): error is NativeError =>
  error instanceof Error && 'kind' in error && typeof error.kind === 'string';

/** Once the fabric is open: of fabric_addon.h and Remote. */
interface NativeRemote extends Fabric {
  setChunk(slots: number): void;
  mapChunk(replica: number, chunk: number, connection: ConnectionId, rkey: number, address: bigint): void;
  unmapChunk(replica: number, chunk: number): void;
  traffic(connection: ConnectionId): Traffic;
}

/** What `create` returns. */
interface NativeHandle extends Omit<Engine, 'adopt' | 'mappings' | 'mappingList' | 'ownArea'>, NativeRemote {
  readonly wakeFd: number;
  openFabric(): void;
  detach(): void;
  abandon(): void;
  adopt(space: number, pid: number): void;
  viewOf(space: number): number;
  pidOf(space: number): number;
  ownArea(space: number): { readonly start: Vpn; readonly end: Vpn };
  place(cpu: number): number;
  setSpin(ns: number): void;
  mechanism(): Mechanism;
}

interface Addon {
  readonly layout: Record<string, number>;
  create(options: EngineOptions): NativeHandle;
  probe(): Probe;
  calibrate(): Calibration;
  cpuOfThread(pid: number, tid: number): number;
  rdma(): RdmaReport;
}

let loaded: Addon | undefined;

/** @throws Error when the addon is missing, or of another version than this file. */
function addon(): Addon {
  if (loaded) return loaded;
  const root = findRoot(dirname(fileURLToPath(import.meta.url)));
  const native = createRequire(import.meta.url)(join(root, 'build', 'Release', 'leap.node')) as Addon;
  checkLayout(native.layout);
  loaded = native;
  return native;
}

/** The package's directory: this file is compiled to a directory below it, whose depth is the compiler's business. */
function findRoot(from: string): string {
  for (let at = from; at !== dirname(at); at = dirname(at)) {
    try {
      readFileSync(join(at, 'package.json'));
      return at;
    } catch {
      // not here: further up
    }
  }
  throw new Error(`no package.json above ${from}`);
}

export const probe = (): Probe => addon().probe();
export const rdma = (): RdmaReport => addon().rdma();
/** Takes about 30 ms. */
export const calibrate = (): Calibration => addon().calibrate();

export class NativeEngine implements Engine, Fabric {
  readonly commands: Int32Array;
  readonly events: Int32Array;
  readonly clock: Float64Array;
  readonly frameHashes: Int32Array;
  readonly zeroHash: Int32Array;
  readonly canMove: boolean;
  readonly canPoison: boolean;
  readonly readsOverlap: boolean;
  /** An eventfd: whoever writes to it ends the turn's wait. */
  readonly wakeFd: number;
  /** Bound directly to the addon: the hot path has nothing in between. */
  readonly turn: (commandWords: number, waitNs: number) => number;

  /** Of the target and its children: it may have exited when one of them is asked about. */
  private readonly namespace: string | undefined;

  private constructor(
    private readonly native: NativeHandle,
    private readonly pid: number,
    overlaps: boolean,
  ) {
    this.namespace = namespaceOf(pid);
    this.commands = native.commands;
    this.events = native.events;
    this.clock = native.clock;
    this.frameHashes = native.frameHashes;
    this.zeroHash = native.zeroHash;
    this.canMove = native.canMove;
    this.canPoison = native.canPoison;
    this.readsOverlap = overlaps;
    this.wakeFd = native.wakeFd;
    this.turn = native.turn;
  }

  /** Opens the swap file, then attaches. @throws NativeError; then the target is as it was, and no file is left. */
  static attach(options: EngineOptions): NativeEngine {
    const native = addon().create(options);
    return new NativeEngine(native, options.pid, native.mechanism().ring || options.rdma === true);
  }

  register(space: SpaceId, start: Vpn, count: number): number {
    return this.native.register(space, start, count);
  }
  unregister(space: SpaceId, start: Vpn, count: number): number {
    return this.native.unregister(space, start, count);
  }
  protect(space: SpaceId, start: Vpn, count: number): number {
    return this.native.protect(space, start, count);
  }
  bind(space: SpaceId, start: Vpn, count: number, first: PageIndex): void {
    this.native.bind(space, start, count, first);
  }
  unbind(space: SpaceId, start: Vpn, count: number): void {
    this.native.unbind(space, start, count);
  }
  residency(space: SpaceId, start: Vpn, count: number, out: Uint8Array): number {
    return this.native.residency(space, start, count, out);
  }
  canEvict(space: SpaceId): boolean {
    return this.native.canEvict(space);
  }
  isAlive(space: SpaceId): boolean {
    return this.native.isAlive(space);
  }
  drop(space: SpaceId): void {
    this.native.drop(space);
  }
  /**
   * For what has to do with donors, from here on. Again: nothing. @throws NativeError of kind rdma: there is no RDMA
   * here
   */
  openFabric(): void {
    this.native.openFabric();
  }
  mapChunk(replica: number, chunk: number, connection: ConnectionId, rkey: number, address: bigint): void {
    this.native.mapChunk(replica, chunk, connection, rkey, address);
  }
  unmapChunk(replica: number, chunk: number): void {
    this.native.unmapChunk(replica, chunk);
  }
  /** Once, before a chunk is mapped. @param slots a power of two */
  setChunk(slots: number): void {
    this.native.setChunk(slots);
  }
  connect(address: string, port: number, hello: Uint8Array, timeoutMs: number): ConnectionId {
    return this.native.connect(address, port, hello, timeoutMs);
  }
  send(connection: ConnectionId, message: Uint8Array): boolean {
    return this.native.send(connection, message);
  }
  close(connection: ConnectionId): void {
    this.native.close(connection);
  }
  takeEvents(): FabricEvent[] {
    return this.native.takeEvents();
  }
  /** Pages that have gone over a connection, and the latency of its reads. */
  traffic(connection: ConnectionId): Traffic {
    return this.native.traffic(connection);
  }

  mappingList(space: SpaceId): string {
    return this.readProc(space, 'maps');
  }
  mappings(space: SpaceId): Mapping[] {
    return parseSmaps(this.readProc(space, 'smaps'));
  }
  ownArea(space: SpaceId): { readonly start: Vpn; readonly end: Vpn } {
    return this.native.ownArea(space);
  }

  /** The text of a /proc file of a space's process; empty when the process is gone. */
  private readProc(space: SpaceId, file: 'maps' | 'smaps'): string {
    const pid = this.native.viewOf(space); // the helper's /proc, which lasts when the first thread has left
    if (pid <= 0) return '';
    try {
      return readFileSync(`/proc/${pid}/${file}`, 'utf8');
    } catch {
      return ''; // it has exited
    }
  }

  adopt(space: SpaceId, thread: number): boolean {
    const pid = processOfThread(this.namespace, thread);
    if (pid === undefined) return false;
    try {
      this.native.adopt(space, pid);
      return true;
    } catch (error) {
      if (isNativeError(error)) return false;
      throw error;
    }
  }

  /** The processes of the family that are known. */
  pids(): number[] {
    const pids: number[] = [];
    for (let space = 0; space < MAX_SPACES; space++) {
      const pid = this.native.pidOf(space);
      if (pid > 0) pids.push(pid);
    }
    return pids;
  }

  /** Every page has been put back and every range unregistered: leaves the target as it was found. */
  detach(): void {
    this.native.detach();
  }
  /** Lets go without putting anything back: the target is gone, or is to wait for another leapd. */
  abandon(): void {
    this.native.abandon();
  }
  /** Runs this thread and the helpers on one CPU; -1: anywhere. @returns errno. */
  place(cpu: number): number {
    return this.native.place(cpu);
  }
  setSpin(ns: number): void {
    this.native.setSpin(ns);
  }
  /**
   * The CPU that a thread of the target ran on last, as the thread's faults number it; -1 when the target is gone. In
   * another pid namespace that is not our number: then that of the first thread.
   */
  sampleCpu(thread: number): number {
    const cpu = addon().cpuOfThread(this.pid, thread);
    return cpu >= 0 ? cpu : addon().cpuOfThread(this.pid, this.pid);
  }
}
