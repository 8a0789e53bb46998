/**
 * The fake store: slots that hold contents, reads and writes that complete in any order after any time, and everything
 * a disk or a donor does wrong. Nothing is copied before it completes, so a frame that is changed while an operation on
 * it is in flight is found.
 *
 * Place 0 is the swap file; places 1 and 2 are replicas of chunks on donors, which may be unmapped, or die, while
 * operations are in flight.
 */
import { Errno } from '../../src/core/layout.js';
import type { World } from './world.js';

/** The frame holds no page: never filled, or half filled by a read that failed. */
export const GARBAGE = -1;

export interface Transfer {
  readonly isWrite: boolean;
  readonly place: number;
  readonly replica: SimReplica | undefined;
  readonly slot: number;
  readonly frame: number;
  readonly count: number;
  readonly due: number;
  /** What a write found in its frames when it was submitted. */
  readonly contents: readonly number[];
}

/** A pager that is told of an error tries again within so many turns of LEAP_NS. */
const PAUSE_TURNS = 300;
/** Shorter than it tries. */
const READ_OUTAGE_NS = [50e6, 2.5e9] as const;

/** A chunk's memory on a donor. */
export interface SimReplica {
  readonly replica: number;
  readonly chunk: number;
  readonly donor: number;
  dead: boolean;
  readonly slots: Map<number, number>;
}

export class SimStore {
  /** Replicas that are mapped now. */
  readonly replicas: SimReplica[] = [];
  slotsPerChunk = 0;
  readonly frames: Int32Array;
  readonly reading: Uint8Array;
  readonly writing: Uint8Array;
  /** Contents that the store has lost for good: their pages, and no others, may be poisoned. */
  readonly lost = new Set<number>();
  /** When a write failed last: the pager may pause after that. */
  writeFailedAt = -Infinity;
  /** No failure is injected any more. */
  calm = false;
  private readonly slots = new Map<number, number>();
  private readonly failures = new Map<number, number>();
  private readonly flight: Transfer[] = [];
  private nextGarbage = -2;
  private outageUntil = 0;
  /** The turn until which a read that has failed may be waiting to be tried again. */
  pausesUntil = 0;
  private readOutageUntil = 0;

  constructor(
    private readonly world: World,
    frames: number,
  ) {
    this.frames = new Int32Array(frames).fill(GARBAGE);
    this.reading = new Uint8Array(frames);
    this.writing = new Uint8Array(frames);
  }

  get inFlight(): number {
    return this.flight.length;
  }

  private checkRun(slot: number, frame: number, count: number, place: number): void {
    if (count < 1 || slot < 0 || frame < 0 || frame + count > this.frames.length) {
      this.world.fail(`bad transfer: slot ${slot}, frame ${frame}, count ${count}`);
    }
    if (place === 0) return;
    const chunk = Math.floor(slot / this.slotsPerChunk);
    if (place > 2 || Math.floor((slot + count - 1) / this.slotsPerChunk) !== chunk)
      this.world.fail(`bad remote transfer: slot ${slot}, count ${count}, place ${place}`);
  }

  private replicaOf(place: number, slot: number): SimReplica | undefined {
    if (place === 0) return undefined;
    const chunk = Math.floor(slot / this.slotsPerChunk);
    return this.replicas.find((each) => each.replica === place - 1 && each.chunk === chunk);
  }

  map(replica: number, chunk: number, donor: number): void {
    if (this.replicas.some((each) => each.replica === replica && each.chunk === chunk))
      this.world.fail(`replica ${replica} of chunk ${chunk} is mapped twice`);
    this.replicas.push({ replica, chunk, donor, dead: false, slots: new Map() });
  }

  unmap(replica: number, chunk: number): void {
    const at = this.replicas.findIndex((each) => each.replica === replica && each.chunk === chunk);
    if (at < 0) this.world.fail(`replica ${replica} of chunk ${chunk} is unmapped and was not mapped`);
    this.replicas.splice(at, 1);
  }

  /** A donor has been told that it may have its memory back: nothing of ours may reach it any more. */
  checkReleased(replica: number, chunk: number): void {
    const late = this.flight.some(
      ({ replica: to }) => to !== undefined && to.replica === replica && to.chunk === chunk && !to.dead,
    );
    if (late) this.world.fail(`replica ${replica} of chunk ${chunk} is given up with operations in flight`);
  }

  /** The donor dies, with all that it holds. @param alone this may have been the only copy */
  kill(donor: number, alone: boolean): void {
    for (const replica of this.replicas) {
      if (replica.donor !== donor) continue;
      replica.dead = true;
      if (alone) for (const content of replica.slots.values()) this.lost.add(content);
    }
  }

  /** About to put something into the frame. */
  claim(frame: number, forWhat: string): void {
    if (this.reading[frame])
      this.world.fail(`frame ${frame} is filled by ${forWhat} while a read into it is in flight`);
    if (this.writing[frame])
      this.world.fail(`frame ${frame} is filled by ${forWhat} while a write from it is in flight`);
  }

  /** About to use what the frame holds. */
  use(frame: number, forWhat: string): number {
    if (frame < 0 || frame >= this.frames.length)
      this.world.fail(`${forWhat} names frame ${frame}, which does not exist`);
    if (this.reading[frame]) this.world.fail(`${forWhat} uses frame ${frame} before its read is complete`);
    const content = this.frames[frame];
    if (content === GARBAGE) this.world.fail(`${forWhat} uses frame ${frame}, which was never filled`);
    return content;
  }

  read(slot: number, frame: number, count: number, place: number): void {
    this.checkRun(slot, frame, count, place);
    for (let i = 0; i < count; i++) {
      this.claim(frame + i, 'a read');
      this.reading[frame + i] = 1;
      this.frames[frame + i] = GARBAGE;
    }
    this.submit(false, place, slot, frame, count, []);
  }

  write(slot: number, frame: number, count: number, place: number): void {
    this.checkRun(slot, frame, count, place);
    const contents: number[] = [];
    for (let i = 0; i < count; i++) {
      contents.push(this.use(frame + i, 'a write'));
      this.writing[frame + i]++;
    }
    for (const other of this.flight) {
      if (
        other.isWrite &&
        other.place === place &&
        other.replica === this.replicaOf(place, slot) &&
        other.slot < slot + count &&
        slot < other.slot + other.count
      ) {
        this.world.fail(`two writes to slots ${slot}+${count} and ${other.slot}+${other.count} are in flight at once`);
      }
    }
    this.submit(true, place, slot, frame, count, contents);
  }

  private submit(
    isWrite: boolean,
    place: number,
    slot: number,
    frame: number,
    count: number,
    contents: readonly number[],
  ): void {
    const { random, config, now } = this.world;
    const due = config.syncStore
      ? now
      : now + 1 + random.below(random.chance(0.1) ? config.storeDelay * 8 : config.storeDelay);
    const replica = this.replicaOf(place, slot);
    this.flight.push({ isWrite, place, replica, slot, frame, count, due, contents });
  }

  /** Completes what is due, in any order. */
  harvest(done: (transfer: Transfer, errno: number) => void, most: number): void {
    for (let i = this.flight.length - 1; i >= 0 && most > 0; i--) {
      const transfer = this.flight[i];
      if (transfer.due > this.world.now) continue;
      this.flight[i] = this.flight[this.flight.length - 1];
      this.flight.pop();
      if (transfer.place > 0) done(transfer, this.completeRemote(transfer));
      else done(transfer, transfer.isWrite ? this.completeWrite(transfer) : this.completeRead(transfer));
      most--;
    }
  }

  isDue(): boolean {
    return this.flight.some((transfer) => transfer.due <= this.world.now);
  }

  nextDue(): number {
    return this.flight.reduce((least, transfer) => Math.min(least, transfer.due), Infinity);
  }

  private completeRemote({ isWrite, place, replica, slot, frame, count, contents }: Transfer): number {
    const { random, config } = this.world;
    const gone = replica === undefined || !this.replicas.includes(replica);
    const errno = gone ? Errno.ECANCELED : replica.dead ? Errno.EIO : 0;
    for (let i = 0; i < count; i++) {
      if (isWrite) {
        this.writing[frame + i]--;
        if (this.frames[frame + i] !== contents[i])
          this.world.fail(`frame ${frame + i} changed while a write from it was in flight`);
        if (errno === 0) replica!.slots.set(slot + i, contents[i]);
        continue;
      }
      this.reading[frame + i] = 0;
      let content = errno === 0 ? replica!.slots.get(slot + i) : GARBAGE;
      if (content === undefined)
        this.world.fail(`slot ${slot + i} is read from place ${place}, where it was never written`);
      if (errno === 0 && !this.calm && config.copies > 1 && random.chance(config.corruptRead)) {
        this.world.hit('store:corrupt remote read');
        content = this.nextGarbage--;
      }
      this.frames[frame + i] = content;
    }
    this.world.hit(`remote ${isWrite ? 'write' : 'read'}:${errno}`);
    return errno;
  }

  private completeWrite({ slot, frame, count, contents }: Transfer): number {
    const { random, config } = this.world;
    const errno = this.writeErrno();
    if (errno !== 0) this.writeFailedAt = this.world.now;
    for (let i = 0; i < count; i++) {
      this.writing[frame + i]--;
      if (this.frames[frame + i] !== contents[i])
        this.world.fail(`frame ${frame + i} changed while a write from it was in flight`);
      if (errno === 0) this.slots.set(slot + i, contents[i]);
      // A write that failed leaves the old bytes, the new ones, or a mixture.
      else if (errno === Errno.EIO && random.chance(0.5))
        this.slots.set(slot + i, random.chance(0.5) ? contents[i] : this.nextGarbage--);
      if (errno === 0 && contents[i] !== 0 && !this.calm && random.chance(config.damage)) {
        this.world.hit('store:damaged');
        this.lost.add(contents[i]);
        this.slots.set(slot + i, this.nextGarbage--);
      }
    }
    return errno;
  }

  private writeErrno(): number {
    const { random, config, now } = this.world;
    if (this.calm) return 0;
    if (now < this.outageUntil) return Errno.ENOSPC;
    if (random.chance(config.writeOutage)) {
      this.outageUntil = now + random.between(50, 3000);
      this.world.excusedUntil = Math.max(this.world.excusedUntil, this.world.turn + 6000);
      return Errno.ENOSPC;
    }
    return random.chance(config.writeError) ? Errno.EIO : 0;
  }

  /** Every read of the swap file fails for a while, once in a run. */
  private isReadOutage(): boolean {
    const { random, config, ns } = this.world;
    if (this.calm) return false;
    if (this.readOutageUntil === 0 && random.chance(config.readOutage)) {
      this.world.hit('store:read outage');
      this.readOutageUntil = ns + random.between(...READ_OUTAGE_NS);
    }
    return ns < this.readOutageUntil;
  }

  private completeRead({ slot, frame, count }: Transfer): number {
    const { random, config } = this.world;
    let repeats = 0;
    for (let i = 0; i < count; i++) repeats = Math.max(repeats, this.failures.get(slot + i) ?? 0);
    let errno = this.isReadOutage() ? Errno.EIO : 0;
    // At most twice in a row for one slot: what goes on for ever is a loss, and is declared as one.
    if (errno === 0 && !this.calm && repeats < 2 && random.chance(config.readError)) {
      errno = Errno.EIO;
      for (let i = 0; i < count; i++) this.failures.set(slot + i, repeats + 1);
    }
    if (errno !== 0) this.pausesUntil = this.world.turn + PAUSE_TURNS;
    const whole = errno === 0 ? count : random.below(count + 1);
    for (let i = 0; i < count; i++) {
      this.reading[frame + i] = 0;
      let content = i < whole ? (this.slots.get(slot + i) ?? this.nextGarbage--) : GARBAGE;
      const racing = this.flight.find(
        (other) => other.isWrite && other.place === 0 && slot + i >= other.slot && slot + i < other.slot + other.count,
      );
      if (racing !== undefined && random.chance(0.5)) content = racing.contents[slot + i - racing.slot];
      const corrupted = this.failures.get(slot + i) ?? 0;
      if (!this.calm && errno === 0 && corrupted < 2 && random.chance(config.corruptRead)) {
        this.world.hit('store:corrupt read');
        this.failures.set(slot + i, corrupted + 1);
        content = this.nextGarbage--;
      } else if (errno === 0) {
        this.failures.delete(slot + i);
      }
      this.frames[frame + i] = content;
    }
    return errno;
  }
}
