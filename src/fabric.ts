/**
 * The fabric as TypeScript sees it: connections and messages between leapd and its donors. The control plane only; pages go by commands of the
 * engine (src/engine.ts). Mirror of native/fabric.h; nothing here waits.
 */
export type ConnectionId = number;

export type FabricEvent =
  /** Listening side: to be answered with `accept` or `reject`. `data`: the peer's private data, empty when it sent none. */
  | { readonly kind: 'connectRequest'; readonly connection: ConnectionId; readonly peer: string; readonly data: Uint8Array }
  | { readonly kind: 'connected'; readonly connection: ConnectionId; readonly peer: string; readonly data: Uint8Array }
  | { readonly kind: 'refused'; readonly connection: ConnectionId; readonly data: Uint8Array; readonly reason: string }
  | { readonly kind: 'unreachable'; readonly connection: ConnectionId; readonly reason: string }
  | { readonly kind: 'disconnected'; readonly connection: ConnectionId; readonly reason: string }
  | { readonly kind: 'message'; readonly connection: ConnectionId; readonly data: Uint8Array };

/** What both sides do. */
export interface Fabric {
  /** @param address numeric  @param hello private data of the request, at most 56 bytes; empty: none  @returns the connection; an event tells the rest */
  connect(address: string, port: number, hello: Uint8Array, timeoutMs: number): ConnectionId;
  /** @returns false when all send buffers are on their way, or the connection is not connected */
  send(connection: ConnectionId, message: Uint8Array): boolean;
  /** No event of it comes any more. */
  close(connection: ConnectionId): void;
  /** What has happened since the last call, oldest first. */
  takeEvents(): FabricEvent[];
}
