/**
 * The fabric as TypeScript sees it: connections and messages between leapd and its donors. The control plane only;
 * pages go by commands of the engine (src/core/engine.ts). Mirror of native/rdma/fabric.h; nothing here waits.
 */
export type ConnectionId = number;

export type FabricEvent =
  /**
   * Listening side: to be answered with `accept` or `reject`. `data`: the peer's private data, empty when it sent none.
   */
  | {
      readonly kind: 'connectRequest';
      readonly connection: ConnectionId;
      readonly peer: string;
      readonly data: Uint8Array;
    }
  | { readonly kind: 'connected'; readonly connection: ConnectionId; readonly peer: string; readonly data: Uint8Array }
  | { readonly kind: 'refused'; readonly connection: ConnectionId; readonly data: Uint8Array; readonly reason: string }
  | { readonly kind: 'unreachable'; readonly connection: ConnectionId; readonly reason: string }
  /** Connection 0: a listener, whose address is `peer`, went with its device. */
  | { readonly kind: 'disconnected'; readonly connection: ConnectionId; readonly peer: string; readonly reason: string }
  | { readonly kind: 'message'; readonly connection: ConnectionId; readonly data: Uint8Array };

/** What both sides do. */
export interface Fabric {
  /**
   * @param address numeric
   * @param hello private data of the request, at most 56 bytes; empty: none
   * @returns the connection; an event tells the rest
   */
  connect(address: string, port: number, hello: Uint8Array, timeoutMs: number): ConnectionId;
  /** @returns false when all send buffers are on their way, or the connection is not connected */
  send(connection: ConnectionId, message: Uint8Array): boolean;
  /** No event of it comes any more. */
  close(connection: ConnectionId): void;
  /** What has happened since the last call, oldest first. */
  takeEvents(): FabricEvent[];
}

/** A run of anonymous memory that can be lent out. */
export interface FabricMemory {
  readonly id: number;
  readonly bytes: number;
  /** Of reserved huge pages. */
  readonly huge: boolean;
  /**
   * All present, and zeros; in another thread. Must not be exposed then. Rejects when the machine has not so much
   * memory.
   */
  scrub(): Promise<void>;
  free(): void;
}

export interface Exposure {
  readonly id: number;
  readonly address: bigint;
  readonly rkey: number;
}

/** What the donor does besides. */
export interface ServerFabric extends Fabric {
  /** @throws an error of the addon, of kind `listen` when the address is the trouble */
  listen(address: string, port: number): void;
  /** @param welcome private data, at most 196 bytes */
  accept(connection: ConnectionId, welcome: Uint8Array): void;
  /** @param refusal private data, at most 148 bytes */
  reject(connection: ConnectionId, refusal: Uint8Array): void;
  /**
   * For this peer alone. @throws an error of the addon, of kind `memlock` when the limit of locked memory is the
   * trouble
   */
  expose(connection: ConnectionId, memory: FabricMemory): Exposure;
  withdraw(exposure: number): void;
  /** Only reserved: `scrub` makes it present. */
  memory(bytes: number, options: { readonly huge: boolean }): FabricMemory;
  /** @param wake called when `takeEvents` has something */
  watch(wake: () => void): void;
  /** Closes everything. */
  end(): void;
}

/** A fabric that also moves bytes, without an engine: to try a donor. */
export interface ProbeFabric extends ServerFabric {
  readonly arena: Uint8Array;
  /** Between `offset` in the arena and `remote`. @returns false: no context is free, or not connected */
  post(
    connection: ConnectionId,
    write: boolean,
    token: number,
    offset: number,
    bytes: number,
    remote: bigint,
    rkey: number,
  ): boolean;
  /** `error` 0, or an errno. */
  takeCompletions(): readonly { readonly token: number; readonly error: number }[];
}

export interface RdmaPort {
  readonly name: string;
  readonly port: number;
  readonly state: string;
  readonly linkLayer: string;
  readonly activeMtu: number;
  /** max_qp_rd_atom */
  readonly maxReads: number;
  /** max_qp_wr */
  readonly maxWorkRequests: number;
}

export interface RdmaReport {
  /** Built with RDMA. */
  readonly built: boolean;
  /** Why there is none here; empty when there is. */
  readonly why: string;
  readonly devices: readonly RdmaPort[];
}
