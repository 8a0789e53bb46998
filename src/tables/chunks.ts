/**
 * The chunks: runs of slots that donors hold copies of. A slot's bytes may be in up to three places, and a set of
 * places is a bit mask:
 *
 *   Place.swap      in the swap file, at slot * 4096
 *   Place.first     in the chunk that is this one's first replica, on one donor
 *   Place.second    in the chunk that is its second replica, on another
 *
 * A replica is *unmapped* (no donor), *mapped* (read and written) or *leaving*: its donor wants the memory back, or
 * RDMA is being switched off. A leaving replica is still read, but no longer counts as a copy, so the repairer makes
 * others; when nothing depends on it, it is given up.
 *
 * Which places a slot ought to be in follows from what is mapped now and from `copies`: two replicas, or one and the
 * swap file, or the swap file alone. A slot is *safe* when it is in the swap file, or in as many replicas as there are
 * to be copies: with two, no donor can take its bytes along.
 */
import { type Copies, type SlotIndex, slotIndex } from '../core/types.js';
import { widened } from './widened.js';

export const REPLICAS = 2;
export const Place = { swap: 1, first: 2, second: 4 } as const;
const placeOfReplica = (replica: number): number => Place.first << replica;

export const ReplicaState = { unmapped: 0, mapped: 1, leaving: 2 } as const;

/**
 * Whether all slots of a chunk have the copies they ought to have: yes; perhaps not; perhaps not, and the repairer is
 * at it.
 */
export const Suspect = { no: 0, yes: 1, examined: 2 } as const;

/** Slots in a run that one donor is read for: 2 to this power, no less than a window. */
const TURN_SHIFT = 6;

/** How many places a mask names; of at most three. */
const COUNT = [0, 1, 1, 2, 1, 2, 2, 3] as const;

export class Chunks {
  /** Slots a chunk; 0 until a donor has told: then nothing is remote. */
  slotsPerChunk = 0;
  /** Chunks that the slots reach into. */
  count = 0;
  /** Replicas, in all chunks, that are mapped or leaving: 0 means that the swap file is all there is. */
  used = 0;
  /** Slots' places: the mask of those that hold its bytes. Shared with the slot table. */
  places: Uint8Array = new Uint8Array(0);
  /** Reads and writes of each chunk, in pages, since the activity was last taken. */
  reads: Int32Array = new Int32Array(0);
  writes: Int32Array = new Int32Array(0);
  /** Which chunks the repairer is to go through: see Suspect. */
  suspect: Uint8Array = new Uint8Array(0);
  suspects = 0;
  /**
   * By slot: places that gave wrong bytes while another one had them. The way may have damaged them: they are asked
   * again before the slot is lost.
   */
  private readonly doubted = new Map<number, number>();
  private shift = 0;
  private state: Uint8Array = new Uint8Array(0);
  /** Pages on their way from or to each replica. */
  private flight: Int32Array = new Int32Array(0);
  /** By chunk: the mask of mapped replicas, of mapped and leaving ones, and where a new copy goes. */
  private mapped: Uint8Array = new Uint8Array(0);
  private readable: Uint8Array = new Uint8Array(0);
  private wanted: Uint8Array = new Uint8Array(0);

  /** @param copies how many there are to be when one of them is on a donor */
  constructor(readonly copies: Copies) {}

  /** Slots [0, capacity) exist. */
  reserve(capacity: number): void {
    if (capacity <= this.places.length) return;
    this.places = widened(this.places, capacity);
    this.resize();
  }

  private resize(): void {
    if (this.slotsPerChunk === 0) return;
    const count = Math.ceil(this.places.length / this.slotsPerChunk);
    if (count <= this.count) return;
    this.reads = widened(this.reads, count);
    this.writes = widened(this.writes, count);
    this.suspect = widened(this.suspect, count);
    this.state = widened(this.state, count * REPLICAS);
    this.flight = widened(this.flight, count * REPLICAS);
    this.mapped = widened(this.mapped, count);
    this.readable = widened(this.readable, count);
    this.wanted = widened(this.wanted, count).fill(Place.swap, this.count);
    this.count = count;
  }

  /** The donors have said how large a chunk is: a power of two of slots, the same for all of them. Once. */
  setSize(slotsPerChunk: number): void {
    if (this.slotsPerChunk !== 0) throw new Error('the chunk size is known already');
    if (slotsPerChunk < 1 || (slotsPerChunk & (slotsPerChunk - 1)) !== 0)
      throw new RangeError(`a chunk of ${slotsPerChunk} slots`);
    this.slotsPerChunk = slotsPerChunk;
    this.shift = 31 - Math.clz32(slotsPerChunk);
    this.resize();
  }

  chunkOf(slot: SlotIndex): number {
    return slot >> this.shift;
  }

  /** Whether a run of slots may not go on into this one: another chunk begins here. */
  begins(slot: number): boolean {
    return this.used > 0 && (slot & (this.slotsPerChunk - 1)) === 0;
  }

  stateOf(replica: number, chunk: number): number {
    return this.state[chunk * REPLICAS + replica];
  }

  setState(replica: number, chunk: number, to: number): void {
    const at = chunk * REPLICAS + replica;
    const from = this.state[at];
    this.state[at] = to;
    this.used += Number(to !== ReplicaState.unmapped) - Number(from !== ReplicaState.unmapped);
    let mapped = 0;
    let readable = 0;
    for (let r = 0; r < REPLICAS; r++) {
      const state = this.state[chunk * REPLICAS + r];
      if (state === ReplicaState.mapped) mapped |= placeOfReplica(r);
      if (state !== ReplicaState.unmapped) readable |= placeOfReplica(r);
    }
    this.mapped[chunk] = mapped;
    this.readable[chunk] = readable;
    this.wanted[chunk] = this.choose(mapped);
  }

  private choose(mapped: number): number {
    if (mapped === 0) return Place.swap;
    if (this.copies === 1) return mapped & -mapped;
    return COUNT[mapped] >= this.copies ? mapped : mapped | Place.swap;
  }

  /** Where a new copy of this slot goes. */
  wantedOf(slot: SlotIndex): number {
    return this.used === 0 ? Place.swap : this.wanted[slot >> this.shift];
  }

  /** No single donor can take these bytes with it. */
  isSafe(slot: SlotIndex): boolean {
    const places = this.places[slot];
    if ((places & Place.swap) !== 0) return true;
    return this.used > 0 && COUNT[places & this.mapped[slot >> this.shift]] >= this.copies;
  }

  /**
   * Whether the bytes should be written (again) to somewhere: they are not safe, or a donor is there and has them not.
   */
  lacks(slot: SlotIndex): boolean {
    if (this.used === 0) return this.places[slot] === 0;
    const mapped = this.mapped[slot >> this.shift];
    return !this.isSafe(slot) || (mapped !== 0 && (this.places[slot] & mapped) === 0);
  }

  /**
   * The place to read a slot from, as a mask of one; 0: nowhere. A donor before the swap file, one that stays before
   * one that leaves. Where two donors have it they take turns, a run of slots each.
   */
  sourceOf(slot: SlotIndex): number {
    const places = this.places[slot];
    if (this.used === 0) return places & Place.swap;
    const chunk = slot >> this.shift;
    const best = places & this.mapped[chunk] || places & this.readable[chunk] || places & Place.swap;
    const first = best & -best;
    return best === first || ((slot >> TURN_SHIFT) & 1) === 0 ? first : best ^ first;
  }

  /** Pages begin (count > 0) or have ended (count < 0) their way between a frame and a replica. */
  move(place: number, slot: SlotIndex, count: number): void {
    if (place !== Place.swap) this.flight[(slot >> this.shift) * REPLICAS + (place >> 2)] += count;
  }

  /** Everything that was on its way from or to the replica has been answered. */
  isQuiet(replica: number, chunk: number): boolean {
    return this.flight[chunk * REPLICAS + replica] === 0;
  }

  /** A page is read or written, in whatever place: what the activity of a chunk is made of. */
  use(slot: SlotIndex, write: boolean): void {
    if (this.slotsPerChunk === 0) return;
    (write ? this.writes : this.reads)[slot >> this.shift]++;
  }

  /** No slot has its bytes in this replica any more. */
  clear(replica: number, chunk: number): void {
    const keep = ~placeOfReplica(replica);
    const first = chunk * this.slotsPerChunk;
    const end = Math.min(first + this.slotsPerChunk, this.places.length);
    for (let slot = first; slot < end; slot++) this.places[slot] &= keep;
    for (const [slot, places] of this.doubted) if (slot >= first && slot < end) this.doubted.set(slot, places & keep);
  }

  /** The slot's bytes have been written to a place. */
  wrote(slot: SlotIndex, place: number): void {
    this.places[slot] |= place;
    if (this.doubted.size > 0 && this.doubted.has(slot)) this.doubted.set(slot, this.doubted.get(slot)! & ~place);
  }

  /** The slot is to have other bytes, or none. */
  forget(slot: SlotIndex): void {
    this.places[slot] = 0;
    if (this.doubted.size > 0) this.doubted.delete(slot);
  }

  /** A place gave wrong bytes of a slot that another place has: it is not read any more. */
  distrust(slot: SlotIndex, place: number): void {
    this.places[slot] &= ~place;
    this.doubted.set(slot, (this.doubted.get(slot) ?? 0) | place);
    this.doubt(this.chunkOf(slot));
  }

  /**
   * Before a slot that no place has is lost: one that was distrusted is to be read once more, instead of the one that
   * was asked last, if any.
   * @returns false: there is none left
   */
  resort(slot: SlotIndex, insteadOf = 0): boolean {
    const left = this.doubted.get(slot) ?? 0;
    if (left === 0) return false;
    const place = left & -left;
    this.doubted.set(slot, left & ~place);
    this.places[slot] = (this.places[slot] & ~insteadOf) | place;
    this.doubt(this.chunkOf(slot));
    return true;
  }

  /** One that is being gone through is to be gone through once more: what gave rise to the doubt may lie behind. */
  doubt(chunk: number): void {
    if (chunk >= this.count) return;
    if (this.suspect[chunk] === Suspect.no) this.suspects++;
    this.suspect[chunk] = Suspect.yes;
  }

  /** The repairer begins to go through a chunk that is in doubt. */
  examine(chunk: number): void {
    this.suspect[chunk] = Suspect.examined;
  }

  /** It has found nothing amiss. @returns false: there are new doubts meanwhile */
  trust(chunk: number): boolean {
    if (this.suspect[chunk] !== Suspect.examined) return false;
    this.suspects--;
    this.suspect[chunk] = Suspect.no;
    return true;
  }

  firstSlot(chunk: number): SlotIndex {
    return slotIndex(chunk * this.slotsPerChunk);
  }
}

/** The index of a place, for commands and events: 0 the swap file, 1 and 2 the replicas. */
export const placeIndex = (place: number): number => place >> 1;
export const placeAt = (index: number): number => (index === 0 ? Place.swap : Place.first << (index - 1));
