/**
 * The store in the model: a request waits for the channel, then passes through it at its bandwidth, and is there one
 * latency later. Reads and writes share the channel; requests overlap in their latency.
 */
export interface StoreModel {
  readonly name: string;
  /** From the end of the transfer to the completion, ns. */
  readonly latencyNs: number;
  readonly bytesPerNs: number;
  /** What a request costs the channel besides its bytes, ns. */
  readonly requestNs: number;
}

/** Orders of magnitude of what can be bought, not of one machine: the figures stand in docs/prefetch.md. */
export const STORES: Readonly<Record<string, StoreModel>> = {
  rdma: { name: 'rdma', latencyNs: 4_000, bytesPerNs: 6, requestNs: 150 },
  nvme: { name: 'nvme', latencyNs: 80_000, bytesPerNs: 3, requestNs: 1_500 },
  swapfile: { name: 'swapfile', latencyNs: 150_000, bytesPerNs: 0.5, requestNs: 8_000 },
};

/** The channel at work. */
export class StoreChannel {
  private freeAt = 0;

  constructor(private readonly model: StoreModel) {}

  /** @returns when a request made at `now` completes. */
  submit(now: number, bytes: number): number {
    const begin = Math.max(now, this.freeAt);
    this.freeAt = begin + this.model.requestNs + bytes / this.model.bytesPerNs;
    return this.freeAt + this.model.latencyNs;
  }
}
