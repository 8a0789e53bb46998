/**
 * The donors together: which of them holds which replica of which chunk. Replicas of one chunk are on different donors;
 * a donor for a new one is chosen by the power of two choices on free memory. Replicas are mapped ahead of need, or
 * when their chunk is used (Leap's trigger).
 *
 * It decides, and says to the pager's replicas what was mapped, what is to be given up and what is lost; pages are none
 * of its business.
 */
import { type Chunks, REPLICAS, ReplicaState } from '../tables/chunks.js';
import type { ConnectionId, Fabric, FabricEvent } from '../core/fabric.js';
import type { ReplicaOwner, Replicas } from '../store/replicas.js';
import { PAGE_SIZE } from '../core/types.js';
import type { ChunkActivity } from './wire/messages.js';
import { Activity, type ActivityOptions } from './activity.js';
import { Donor, type DonorOptions, type DonorOwner, type DonorState } from './donor.js';
import { Orders } from './orders.js';
import { Shortage } from './shortage.js';

export interface DonorsOptions extends DonorOptions {
  readonly activity: ActivityOptions;
  /** Pages a period above which a chunk that is not mapped gets a replica. */
  readonly threshold: number;
  /** Chunks in use are mapped before they are first written. */
  readonly ahead: boolean;
  /** Chunks that may be asked of one donor at once. */
  readonly askAtOnce?: number;
}

/** Donors asked for their free memory, of which the one with the most is taken. */
const CHOICES = 2;
const DEFAULT_ASK_AT_ONCE = 1;
/** A donor that has wanted chunks back is asked for none for this long. */
const MERCY_MS = 10_000;
const NEVER_MS = Number.MAX_SAFE_INTEGER;

export interface DonorStats {
  readonly address: string;
  readonly state: DonorState;
  readonly chunks: number;
  readonly freeChunks: number;
  /** Why it is not connected; empty when it is, or has not been tried. */
  readonly reason: string;
  readonly reads: number;
  readonly writes: number;
  readonly readLatencyNs: { readonly p50: number; readonly p99: number };
}

/** What went over a connection; the engine counts. */
export interface Traffic {
  readonly reads: number;
  readonly writes: number;
  readonly p50: number;
  readonly p99: number;
}

/** What the donors are made of. */
export interface DonorsContext {
  readonly fabric: Fabric;
  readonly chunks: Chunks;
  readonly replicas: Pick<Replicas, 'map' | 'leave' | 'lose' | 'setSize' | 'owner'>;
  /** Slots that have been given out: chunks beyond them are of no use yet. */
  readonly usedSlots: () => number;
  readonly traffic: (connection: ConnectionId) => Traffic;
  /** Tells the engine the size of a chunk. */
  readonly setChunk: (slots: number) => void;
  readonly say: DonorOwner['say'];
  /** In [0, 1). */
  readonly random: () => number;
}

interface Held {
  readonly donor: Donor;
  readonly donorChunk: number;
}

/** What the counters of earlier connections were. */
interface Past {
  reads: number;
  writes: number;
  p50: number;
  p99: number;
}

export class Donors implements DonorOwner, ReplicaOwner {
  readonly all: readonly Donor[];
  /** False: RDMA is switched off, chunks are given back, nobody is connected to. */
  on = true;
  private readonly activity: Activity;
  /** By replica of a chunk (chunk * REPLICAS + replica). */
  private readonly held = new Map<number, Held>();
  /** Replicas asked for, by the same number. */
  private readonly asked = new Map<number, Donor>();
  private readonly orders = new Orders();
  private readonly shortage: Shortage;
  private readonly merciful = new Map<Donor, number>();
  private readonly past = new Map<Donor, Past>();
  private periodEnds = 0;
  private now = 0;

  constructor(
    addresses: readonly { readonly host: string; readonly port: number }[],
    private readonly options: DonorsOptions,
    private readonly context: DonorsContext,
  ) {
    this.all = addresses.map(({ host, port }) => new Donor(context.fabric, host, port, options, this));
    this.activity = new Activity(context.chunks, options.activity);
    this.shortage = new Shortage((level, message) => context.say(level, message, {}));
    context.replicas.owner = this;
  }

  /** Acts on what has happened on the fabric. @param now ms, of any clock that goes forward */
  events(events: readonly FabricEvent[], now: number): void {
    this.now = now;
    for (const event of events) this.all.find(({ connection }) => connection === event.connection)?.handle(event, now);
    this.map();
  }

  /** A few times a second. */
  tick(now: number): void {
    this.now = now;
    if (now >= this.periodEnds) {
      this.periodEnds = now + this.options.activity.periodMs;
      this.activity.take();
    }
    this.orders.report();
    for (const donor of this.all) donor.flush(now);
    if (this.on) for (const donor of this.all) donor.tick(now);
    else this.leaveEmpty();
    this.map();
  }

  /** Off: every page gets its copy in the swap file, then the donors have their memory back. */
  switch(on: boolean): void {
    if (on === this.on) return;
    this.on = on;
    this.context.say(
      'info',
      on ? 'RDMA is on' : 'RDMA is off: pages go to the swap file, and the donors get their memory back',
      {},
    );
    if (on) return;
    for (const at of this.held.keys()) this.context.replicas.leave(at % REPLICAS, Math.floor(at / REPLICAS));
  }

  private leaveEmpty(): void {
    for (const donor of this.all) if (this.chunksOf(donor) === 0 && donor.connection !== 0) this.part(donor, NEVER_MS);
    // to be tried at once when RDMA is on again
    if (!this.on) for (const donor of this.all) if (donor.connection === 0) donor.leave(0);
  }

  private part(donor: Donor, tryAt: number): void {
    this.remember(donor);
    this.forgetAsked(donor);
    donor.leave(tryAt);
  }

  /** The end: everybody is left. */
  close(): void {
    for (const donor of this.all) if (donor.connection !== 0) this.part(donor, NEVER_MS);
  }

  // ---- mapping

  private map(): void {
    const { chunks, usedSlots } = this.context;
    if (!this.on || chunks.slotsPerChunk === 0) return;
    const slots = usedSlots();
    const inUse = Math.min(chunks.count, Math.ceil(slots / chunks.slotsPerChunk));
    let short = 0;
    for (let chunk = 0; chunk < inUse; chunk++) {
      if (!this.options.ahead && this.activity.of(chunk) <= this.options.threshold) continue;
      for (let replica = 0; replica < Math.min(REPLICAS, chunks.copies); replica++) {
        const at = chunk * REPLICAS + replica;
        if (chunks.stateOf(replica, chunk) !== ReplicaState.unmapped || this.asked.has(at)) continue;
        const donor = this.choose(chunk);
        if (donor === undefined) {
          if (this.isFull(chunk)) short += Math.min(chunks.slotsPerChunk, slots - chunks.firstSlot(chunk));
          break; // nobody for this chunk; other chunks may be another matter
        }
        this.asked.set(at, donor);
        donor.bind(chunk);
      }
    }
    this.shortage.look(short * PAGE_SIZE, this.now);
  }

  /**
   * There are donors that might hold it, and none has room: it is not only that they are asked for another chunk at the
   * moment.
   */
  private isFull(chunk: number): boolean {
    const others = this.all.filter((donor) => donor.state === 'connected' && !this.isOn(donor, chunk));
    return (
      others.length > 0 && others.every((donor) => donor.freeChunks <= 0 || this.now < (this.merciful.get(donor) ?? 0))
    );
  }

  /**
   * Of two donors taken at random the one with more free memory. None holds another replica of the chunk, or has been
   * asked for one.
   */
  private choose(chunk: number): Donor | undefined {
    const most = this.options.askAtOnce ?? DEFAULT_ASK_AT_ONCE;
    const candidates = this.all.filter(
      (donor) =>
        donor.state === 'connected' &&
        donor.freeChunks > 0 &&
        donor.asked.size < most &&
        !this.isOn(donor, chunk) &&
        this.now >= (this.merciful.get(donor) ?? 0),
    );
    let best: Donor | undefined;
    for (let i = 0; i < CHOICES && candidates.length > 0; i++) {
      const [donor] = candidates.splice(Math.floor(this.context.random() * candidates.length), 1);
      if (donor !== undefined && donor.freeChunks > (best?.freeChunks ?? 0)) best = donor;
    }
    return best;
  }

  private isOn(donor: Donor, chunk: number): boolean {
    for (let replica = 0; replica < REPLICAS; replica++) {
      const at = chunk * REPLICAS + replica;
      if (this.held.get(at)?.donor === donor || this.asked.get(at) === donor) return true;
    }
    return false;
  }

  private askedOf(donor: Donor, chunk: number): number | undefined {
    for (let replica = 0; replica < REPLICAS; replica++)
      if (this.asked.get(chunk * REPLICAS + replica) === donor) return chunk * REPLICAS + replica;
    return undefined;
  }

  private chunksOf(donor: Donor): number {
    let count = 0;
    for (const held of this.held.values()) if (held.donor === donor) count++;
    return count;
  }

  private forgetAsked(donor: Donor): void {
    for (const [at, other] of this.asked) if (other === donor) this.asked.delete(at);
  }

  // ---- what donors say

  welcome(chunkBytes: number): string | undefined {
    const { chunks, replicas, setChunk } = this.context;
    const slots = chunkBytes / PAGE_SIZE;
    if (chunks.slotsPerChunk === slots) return undefined;
    if (chunks.slotsPerChunk !== 0)
      return `its chunks have ${mib(chunkBytes)}, and those of the donors before it ${mib(chunks.slotsPerChunk * PAGE_SIZE)}`;
    if (this.options.chunkBytes !== 0 && chunkBytes !== this.options.chunkBytes)
      return `its chunks have ${mib(chunkBytes)}, and leapd's --chunk is ${mib(this.options.chunkBytes)}`;
    setChunk(slots);
    replicas.setSize(slots);
    return undefined;
  }

  bound(donor: Donor, sessionChunk: number, donorChunk: number, rkey: number, address: bigint): void {
    const at = this.askedOf(donor, sessionChunk);
    if (at === undefined) return donor.release(donorChunk); // it was not wanted any more
    this.asked.delete(at);
    if (!this.on) return donor.release(donorChunk);
    this.held.set(at, { donor, donorChunk });
    this.shortage.eased();
    this.context.replicas.map(at % REPLICAS, sessionChunk, donor.connection, rkey, address);
    if (this.chunksOf(donor) === 1)
      this.context.say('info', `donor ${donor.address} holds pages now`, {
        chunkMiB: (this.context.chunks.slotsPerChunk * PAGE_SIZE) >> 20,
      });
  }

  noRoom(donor: Donor, sessionChunk: number): void {
    const at = this.askedOf(donor, sessionChunk);
    if (at !== undefined) this.asked.delete(at);
  }

  activities(donor: Donor): ChunkActivity[] {
    const list: ChunkActivity[] = [];
    for (const [at, held] of this.held) {
      if (held.donor !== donor) continue;
      list.push({
        donorChunk: held.donorChunk,
        activity: Math.min(0xffff_fffe, Math.round(this.activity.of(Math.floor(at / REPLICAS)))),
      });
    }
    return list;
  }

  stop(donor: Donor, request: number, donorChunks: readonly number[]): void {
    if (donorChunks.length === 0) return;
    this.merciful.set(donor, this.now + MERCY_MS);
    const left = new Set<number>();
    for (const [at, held] of this.held) if (held.donor === donor && donorChunks.includes(held.donorChunk)) left.add(at);
    this.context.say('info', `donor ${donor.address} asks for ${donorChunks.length} chunks`, {});
    for (const at of left) this.context.replicas.leave(at % REPLICAS, Math.floor(at / REPLICAS));
    this.orders.add(donor, request, donorChunks, left);
  }

  gone(donor: Donor): void {
    this.remember(donor);
    this.forgetAsked(donor);
    this.orders.forget(donor);
    for (const [at, held] of [...this.held]) {
      if (held.donor !== donor) continue;
      this.held.delete(at);
      this.context.replicas.lose(at % REPLICAS, Math.floor(at / REPLICAS));
    }
  }

  say(level: 'info' | 'warn' | 'error', message: string, facts: Record<string, unknown>): void {
    this.context.say(level, message, facts);
  }

  // ---- what the pager's replicas say

  released(replica: number, chunk: number): void {
    const at = chunk * REPLICAS + replica;
    const held = this.held.get(at);
    if (held === undefined) return;
    this.held.delete(at);
    if (!this.orders.emptied(at, held.donorChunk)) held.donor.release(held.donorChunk);
  }

  failed(replica: number, chunk: number): void {
    const held = this.held.get(chunk * REPLICAS + replica);
    if (held === undefined) return;
    this.held.delete(chunk * REPLICAS + replica); // it is unmapped already
    held.donor.drop('a read or write of a page failed');
  }

  // ---- statistics

  private remember(donor: Donor): void {
    if (donor.connection !== 0) this.past.set(donor, this.total(donor));
  }

  private total(donor: Donor): Past {
    const past = this.past.get(donor) ?? { reads: 0, writes: 0, p50: 0, p99: 0 };
    if (donor.connection === 0) return past;
    const { reads, writes, p50, p99 } = this.context.traffic(donor.connection);
    return { reads: past.reads + reads, writes: past.writes + writes, p50: p50 || past.p50, p99: p99 || past.p99 };
  }

  stats(): DonorStats[] {
    return this.all.map((donor) => {
      const { reads, writes, p50, p99 } = this.total(donor);
      const { address, state, freeChunks, reason } = donor;
      return {
        address,
        state,
        chunks: this.chunksOf(donor),
        freeChunks,
        reason,
        reads,
        writes,
        readLatencyNs: { p50, p99 },
      };
    });
  }
}

const mib = (bytes: number): string => `${bytes / 2 ** 20} MiB`;
