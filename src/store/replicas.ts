/**
 * The replicas of the chunks, as they come and go: mapped when a donor gives one, leaving when it is wanted back, lost
 * when its donor is. After a loss, and before a replica is given up, the slots that would have too few copies without
 * it are read and written again (the repairer), in the background. So are those that went to the swap file before there
 * was a donor for them: safe there, but slow to come back.
 *
 * Nothing here acts while events are digested: a failure that comes among them is noted, and acted on when all results
 * of the turn are known.
 */
import { type Chunks, REPLICAS, ReplicaState, Suspect, placeIndex } from '../tables/chunks.js';
import type { Engine } from '../core/engine.js';
import type { ConnectionId } from '../core/fabric.js';
import type { Family } from '../family/family.js';
import type { Fetcher } from './fetcher.js';
import { FrameState } from '../tables/frame-table.js';
import { SlotState } from '../tables/slot-table.js';
import { type FrameIndex, type SlotIndex, slotIndex } from '../core/types.js';

/** Slots looked at in one turn. */
const LOOK_SLOTS = 4096;
/** Reads of the repairer in flight at once: for slots with too few copies, and for slots that are only to be nearer. */
const MOST_READS = 64;
const MOST_HASTELESS_READS = 16;
/** When all chunks in doubt have been gone through and one could not be repaired, it begins again after this. */
const NEXT_ROUND_NS = 20e6;

/** Who wants to know what becomes of a replica. */
export interface ReplicaOwner {
  /** No page depends on it and nothing is in flight: its donor may have the memory back. */
  released(replica: number, chunk: number): void;
  /**
   * A read from it or a write to it came back with an error: the connection is of no use any more. It is unmapped
   * already.
   */
  failed(replica: number, chunk: number): void;
}

export class Replicas {
  owner: ReplicaOwner | undefined;
  private readonly chunks: Chunks;
  private readonly engine: Engine;
  /** Replicas (chunk * REPLICAS + replica) that have failed in this turn. */
  private readonly failures: number[] = [];
  private readonly leavers = new Set<number>();
  /** The repairer's place: the chunk it goes through, and the next slot; none: -1. */
  private chunk = -1;
  private at = 0;
  /** The chunk it went through last: none waits for one that cannot be repaired. */
  private last = -1;
  /** Something in this pass was not as it should be: another pass is needed. */
  private unfinished = false;
  /** No read can be asked for before one of those in flight is answered. */
  private held = false;
  /** The last frame that it could have had was left to eviction. */
  private gaveWay = false;
  private nextRound = 0;

  constructor(
    private readonly family: Family,
    private readonly fetcher: Fetcher,
  ) {
    this.chunks = family.chunks;
    this.engine = family.engine;
  }

  /** See Chunks.setSize. */
  setSize(slotsPerChunk: number): void {
    this.chunks.setSize(slotsPerChunk);
  }

  get chunkCount(): number {
    return this.chunks.count;
  }

  stateOf(replica: number, chunk: number): number {
    return this.chunks.stateOf(replica, chunk);
  }

  /**
   * A donor has given memory for a replica: from now on its slots are written there, and those that are in the swap
   * file follow in the background.
   */
  map(replica: number, chunk: number, connection: ConnectionId, rkey: number, address: bigint): void {
    if (this.chunks.stateOf(replica, chunk) !== ReplicaState.unmapped)
      throw new Error(`replica ${replica} of chunk ${chunk} is mapped twice`);
    this.engine.mapChunk(replica, chunk, connection, rkey, address);
    this.chunks.setState(replica, chunk, ReplicaState.mapped);
    this.doubt(chunk);
  }

  /** The memory is wanted back: nothing new goes there, and `released` is called when nothing needs it any more. */
  leave(replica: number, chunk: number): void {
    if (this.chunks.stateOf(replica, chunk) !== ReplicaState.mapped) return;
    this.chunks.setState(replica, chunk, ReplicaState.leaving);
    this.doubt(chunk);
    this.leavers.add(chunk * REPLICAS + replica);
  }

  /** The donor is gone, and what it held with it. */
  lose(replica: number, chunk: number): void {
    if (this.chunks.stateOf(replica, chunk) === ReplicaState.unmapped) return;
    this.unmap(replica, chunk);
    this.doubt(chunk);
  }

  private doubt(chunk: number): void {
    this.chunks.doubt(chunk);
    this.forgetFailures(chunk);
  }

  /** Its slots that could not be read are tried again when it is next gone through. */
  private forgetFailures(chunk: number): void {
    const first = this.chunks.firstSlot(chunk);
    this.fetcher.mends.forgetRun(first, first + this.chunks.slotsPerChunk);
  }

  /** A read or write of `slot` at this place has failed. */
  noteFailure(place: number, slot: SlotIndex): void {
    const at = this.chunks.chunkOf(slot) * REPLICAS + placeIndex(place) - 1;
    if (!this.failures.includes(at)) this.failures.push(at);
  }

  private unmap(replica: number, chunk: number): void {
    this.leavers.delete(chunk * REPLICAS + replica);
    this.engine.unmapChunk(replica, chunk);
    this.chunks.setState(replica, chunk, ReplicaState.unmapped);
    this.chunks.clear(replica, chunk);
  }

  /** Once a turn, when its events have been digested. */
  run(): void {
    for (let at = this.failures.pop(); at !== undefined; at = this.failures.pop()) {
      const replica = at % REPLICAS;
      const chunk = (at - replica) / REPLICAS;
      // it was cancelled because it has been unmapped
      if (this.chunks.stateOf(replica, chunk) === ReplicaState.unmapped) continue;
      this.lose(replica, chunk);
      this.owner?.failed(replica, chunk);
    }
    if (this.chunks.suspects > 0) this.repair();
    if (this.leavers.size > 0) this.release();
  }

  private release(): void {
    for (const at of this.leavers) {
      const replica = at % REPLICAS;
      const chunk = (at - replica) / REPLICAS;
      if (this.chunks.suspect[chunk] !== Suspect.no || !this.chunks.isQuiet(replica, chunk)) continue;
      this.unmap(replica, chunk);
      this.owner?.released(replica, chunk);
    }
  }

  // ---- the repairer

  /** When it has something to do that no event tells of, ns. */
  get dueAt(): number {
    if (this.chunks.suspects === 0 || this.held) return Infinity;
    return this.chunk >= 0 || this.nextSuspect >= 0 ? 0 : this.nextRound;
  }

  private get nextSuspect(): number {
    return this.chunks.suspect.indexOf(Suspect.yes, this.last + 1);
  }

  private repair(): void {
    const { chunks, family } = this;
    this.held = false;
    if (this.chunk < 0 && !this.beginPass()) return;
    const first = chunks.firstSlot(this.chunk);
    const end = Math.min(first + chunks.slotsPerChunk, family.slots.capacity);
    for (let looked = 0; looked < LOOK_SLOTS && this.at < end; looked++) {
      const slot = slotIndex(this.at);
      this.held = this.lacks(slot) && !this.mend(slot);
      if (this.held) return;
      this.at++;
    }
    if (this.at >= end) this.endPass();
  }

  private beginPass(): boolean {
    let chunk = this.nextSuspect;
    if (chunk < 0) {
      if (this.family.now < this.nextRound) return false;
      chunk = this.chunks.suspect.indexOf(Suspect.yes);
    }
    this.chunk = this.last = chunk;
    this.chunks.examine(chunk);
    this.at = this.chunks.firstSlot(chunk);
    this.unfinished = false;
    return true;
  }

  /**
   * A pass that found nothing amiss ends the doubt. Otherwise, and for the other chunks that are in doubt, there will
   * be another.
   */
  private endPass(): void {
    const { chunks, chunk } = this;
    if (!this.unfinished && this.fetcher.mending === 0 && chunks.trust(chunk)) this.forgetFailures(chunk);
    else {
      chunks.doubt(chunk);
      this.nextRound = this.family.now + NEXT_ROUND_NS;
    }
    this.chunk = -1;
  }

  private lacks(slot: SlotIndex): boolean {
    const { chunks } = this;
    const state = this.family.slots.state[slot];
    // A pending one that is nowhere yet is valid only when it is where it ought to be; one that is somewhere may at any
    // time have to do with that.
    if (state === SlotState.pending && chunks.places[slot] !== 0) this.unfinished = true;
    if (state !== SlotState.valid || !chunks.lacks(slot) || chunks.sourceOf(slot) === 0) return false;
    const again = this.fetcher.mends.againAt(slot);
    if (again <= this.family.now) return true;
    if (again !== Infinity) this.unfinished = true;
    return false;
  }

  private mend(slot: SlotIndex): boolean {
    const { family, fetcher } = this;
    const { frames } = family;
    this.unfinished = true;
    // With few frames the one that comes free each turn would always be taken here, and a process above its limit stay
    // there.
    if (family.limit.room < 0 && frames.free === 1 + fetcher.reserve && (this.gaveWay = !this.gaveWay)) return false;
    const most = this.chunks.isSafe(slot) ? MOST_HASTELESS_READS : MOST_READS;
    if (fetcher.mending >= most || family.commands.room < 256 || !family.clean.reclaim(1 + fetcher.reserve))
      return false;
    const frame: FrameIndex = frames.takeReadRun(1, FrameState.mending);
    // shared by too many pages to count one more: the next pass tries again
    if (!fetcher.mend(slot, frame)) frames.release(frame);
    return true;
  }

  /**
   * Slots that have fewer copies than they should, their bytes in a frame or not. Goes through what is in doubt: for
   * statistics.
   */
  get pending(): number {
    return this.endangered + (this.chunks.used > 0 ? this.family.dirty.size : 0);
  }

  /** Slots that the loss of a donor might take with it. Goes through what is in doubt. */
  get endangered(): number {
    const { chunks, family } = this;
    let endangered = 0;
    for (let chunk = 0; chunks.suspects > 0 && chunk < chunks.count; chunk++) {
      if (chunks.suspect[chunk] === Suspect.no) continue;
      const first = chunks.firstSlot(chunk);
      const end = Math.min(first + chunks.slotsPerChunk, family.slots.capacity);
      for (let s = first as number; s < end; s++) {
        const slot = slotIndex(s);
        if (chunks.places[slot] !== 0 && !chunks.isSafe(slot) && chunks.sourceOf(slot) !== 0) endangered++;
      }
    }
    return endangered;
  }

  get mapped(): number {
    return this.chunks.used;
  }
}
