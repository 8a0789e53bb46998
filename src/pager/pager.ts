/**
 * The pager: one turn after the other.
 *
 *   harvest   engine.turn executes the commands of the last step and brings what has happened since
 *   digest    results first, then what the target did to its address space, then faults are noted; nothing acts yet
 *   serve     waiting pages are mapped, read, zeroed; prefetch and map-ahead go with them
 *   evict     a batch of victims when the limit is near
 *   write     dirty frames, when enough have come together or the pager is idle
 *
 * It imports no Node module and no clock: engine and options are all it knows, so the simulator runs it unchanged.
 */
import type { Chunks } from '../tables/chunks.js';
import type { PagerStats } from '../core/counters.js';
import type { Engine } from '../core/engine.js';
import { Evictor } from '../eviction/evictor.js';
import { Family } from '../family/family.js';
import { FaultPath } from '../faults/fault-path.js';
import { Errno, Event, EVENT_WORDS, joinVpn } from '../core/layout.js';
import type { PagerOptions } from '../core/pager-options.js';
import { checkFamily } from './invariants.js';
import { type SlotIndex, type SpaceId, pageIndex, spaceId, vpn } from '../core/types.js';
import { pagerStats } from './stats.js';
import { Replicas } from '../store/replicas.js';
import type { Prefetcher } from '../policy/prefetch/prefetcher.js';
import { Restorer } from './restorer.js';
import { Spaces } from '../spaces/spaces.js';
import type { Recorder } from '../trace/ring.js';
import { WriteBack } from '../store/write-back.js';

/**
 * While pages wait that could not be served at once (an event to be read first, no frame, no room), the pager looks
 * again after this.
 */
const RETRY_NS = 50_000;
/** However pressing, the mappings are not looked at more often than this. */
const LOOK_AGAIN_NS = 5e6;
const TARGET: SpaceId = spaceId(0);

export class Pager {
  private readonly family: Family;
  private readonly writeBack: WriteBack;
  private readonly faults: FaultPath;
  private readonly evictor: Evictor;
  private readonly spaces: Spaces;
  private readonly restorer: Restorer;
  /** The chunks' replicas on donors: mapped, given up and lost by whoever talks to the donors. */
  readonly replicas: Replicas;
  private ended = false;
  private tickDue = false;
  private lookedAt = 0;
  /** Donors have something to say: whoever talks to them clears it. */
  fabricDue = false;
  /**
   * The thread of the target that faulted last, 0 before: whoever places this thread wants to know where that one runs.
   */
  lastThread = 0;

  constructor(
    private readonly engine: Engine,
    private readonly options: PagerOptions,
  ) {
    this.family = new Family(engine, options);
    const replicaFailed = (place: number, slot: SlotIndex): void => this.replicas.noteFailure(place, slot);
    this.writeBack = new WriteBack(this.family, replicaFailed);
    this.faults = new FaultPath(this.family, this.writeBack, replicaFailed);
    this.replicas = new Replicas(this.family, this.faults.fetcher);
    this.evictor = new Evictor(this.family, this.writeBack, this.faults.fetcher, (page) => this.faults.restore(page));
    this.spaces = new Spaces(this.family, this.faults.fetcher, this.writeBack);
    this.restorer = new Restorer(this.family, this.faults);
  }

  /** Registers the target's memory and learns what is resident. Eviction begins with the first step. */
  attach(): void {
    this.spaces.scan(TARGET);
    const { localLimit } = this.options;
    const pages = 'pages' in localLimit ? localLimit.pages : Math.ceil(this.family.limit.resident * localLimit.share);
    this.setLocalLimit(Math.max(1, pages));
  }

  /**
   * One turn. Waits up to `waitNs` for something to do when there is nothing.
   * @returns false when no process of the family is left, or the detach is complete.
   */
  step(waitNs: number): boolean {
    const { family } = this;
    if (this.ended) return false;
    const busy = (this.evictor.due && !this.evictor.starved) || (family.detaching && this.restorer.due);
    const wait = busy || this.tickDue ? 0 : this.faults.waiting > 0 ? Math.min(waitNs, RETRY_NS) : waitNs;
    const pages = family.commands.pages;
    const words = this.engine.turn(family.commands.words, this.engine.clock[0] === 0 ? 0 : this.bounded(wait));
    family.commands.words = 0;
    this.faults.fetcher.cost.turned(pages);
    family.now = this.engine.clock[0];
    this.digest(words);
    this.replicas.run();
    if (this.tickDue) this.lookAround();
    if (family.detaching) this.restorer.run();
    this.faults.serve();
    family.joining = true;
    this.evictor.run();
    this.writeBack.flush(words === 0 || this.faults.waiting > 0);
    if (family.spaces.length === 0 || (family.detaching && this.finished())) this.end();
    return !this.ended;
  }

  /** To be called a few times a second; the next step looks at the mappings, when no command is on its way. */
  tick(): void {
    this.tickDue = true;
  }

  private lookAround(): void {
    this.tickDue = false;
    this.lookedAt = this.family.now;
    this.evictor.retry();
    this.spaces.tick();
  }

  /**
   * With several frames short of company, the next look is soon; and so it is when a read is to be tried again, or a
   * chunk to be gone through.
   */
  private bounded(wait: number): number {
    const { dirty, now } = this.family;
    if (dirty.size > 0 && !this.writeBack.failing) return 0;
    return Math.max(0, Math.min(wait, this.faults.fetcher.resumesAt - now, this.replicas.dueAt - now));
  }

  private digest(words: number): void {
    const { events } = this.engine;
    let addressEvents = 0;
    for (let at = 0; at < words; at += EVENT_WORDS) {
      switch (events[at]) {
        case Event.fault:
          this.fault(at);
          break;
        case Event.mapped:
          this.faults.mapped(events[at + 1], events[at + 2], events[at + 3], events[at + 4], events[at + 5]);
          break;
        case Event.evicted:
          this.evictor.evicted(events[at + 1], events[at + 2], events[at + 3], events[at + 4], events[at + 5]);
          break;
        case Event.readDone:
          this.faults.fetcher.readDone(events[at + 1], events[at + 2], events[at + 3], events[at + 4], events[at + 5]);
          break;
        case Event.writeDone:
          this.writeBack.written(events[at + 1], events[at + 2], events[at + 3], events[at + 4], events[at + 5]);
          break;
        case Event.unprotected:
          this.faults.unprotected(events[at + 1], events[at + 3], events[at + 4]);
          break;
        case Event.wake:
          break;
        case Event.fabric:
          this.fabricDue = true;
          break;
        default:
          addressEvents++;
      }
    }
    if (addressEvents > 0) this.digestAddressEvents(words);
  }

  private fault(at: number): void {
    const { events } = this.engine;
    const space = events[at + 4];
    this.lastThread = events[at + 2];
    if (space !== TARGET && !this.engine.canEvict(spaceId(space))) this.spaces.adopt(spaceId(space), events[at + 2]);
    this.faults.fault(pageIndex(events[at + 1]), events[at + 2], events[at + 3]);
  }

  /** What the target did to its address space; after all results of the turn, so that no page is between two states. */
  private digestAddressEvents(words: number): void {
    const { events } = this.engine;
    for (let at = 0; at < words; at += EVENT_WORDS) {
      const space = spaceId(events[at + 1]);
      const from = joinVpn(events[at + 2], events[at + 3]);
      const to = joinVpn(events[at + 4], events[at + 5]);
      switch (events[at]) {
        case Event.faultUnknown:
          this.faultUnknown(space, from, events[at + 4], events[at + 5]);
          break;
        case Event.remove:
          this.spaces.removed(space, from, to);
          break;
        case Event.unmap:
          this.spaces.unmapEvent(space, from, to);
          break;
        case Event.remap:
          this.spaces.moved(space, vpn(from), vpn(to), events[at + 6]);
          break;
        case Event.fork:
          if (events[at + 3] !== Errno.ok) this.spaces.forkWaits(events[at + 3]);
          else this.spaces.forked(space, spaceId(events[at + 2]));
          break;
        case Event.targetExit:
          this.spaces.gone(space);
          break;
        case Event.helperLost:
          if (this.engine.canEvict(space)) break; // it has another one already
          this.spaces.fix(space);
          this.family.notify('warn', 'the helper process has died; nothing more can be evicted from its process', {
            space,
          });
          break;
        default:
      }
    }
  }

  /**
   * A fault where a mapping has grown in place: it is learnt, then served; an address that nobody knows is only woken.
   */
  private faultUnknown(space: SpaceId, at: number, thread: number, flags: number): void {
    if (!this.family.spaces.includes(space)) return; // a child that cannot be followed
    this.spaces.grown(space, at);
    const region = this.family.regions.inside(space, at, at + 1)[0];
    if (region === undefined) this.engine.unbind(space, vpn(at), 1);
    else this.faults.fault(region.first, thread, flags);
  }

  private finished(): boolean {
    return this.restorer.left === 0 && this.faults.waiting === 0 && this.family.limit.mapping === 0;
  }

  private end(): void {
    if (this.family.detaching) this.restorer.finish();
    this.ended = true;
  }

  /** Puts every page back, then unregisters; `step` returns false when that is done. */
  requestDetach(): void {
    this.family.detaching = true;
  }

  setLocalLimit(pages: number): void {
    this.family.limit.set(pages);
    this.evictor.retry();
  }

  /** @throws RangeError for an unknown policy */
  setPrefetch(policy: string | Prefetcher): void {
    this.faults.prefetch.configure({ prefetch: policy });
  }

  /** Every fault is told to the recorder, until there is none. */
  setRecorder(recorder: Recorder | undefined): void {
    this.faults.prefetch.recorder = recorder;
  }

  setHistory(entries: number): void {
    this.faults.prefetch.configure({ history: entries });
  }

  setWindowMax(pages: number): void {
    this.faults.prefetch.configure({ windowMax: pages });
  }

  /** Capacity in pages; at most what the frames were made for. */
  setPrefetchBuffer(pages: number): void {
    this.family.prefetched.capacity = Math.min(pages, this.options.frames);
  }

  /** Off: nothing is taken away any more, and the limit gives way; faults are served as before. */
  setEvicting(on: boolean): void {
    this.evictor.enabled = on;
    this.evictor.retry();
  }

  /**
   * Whether pages that UFFDIO_MOVE refuses may be discarded at all: not when the target is known to pin memory for DMA.
   */
  setDiscardRefused(allowed: boolean): void {
    this.evictor.discardRefused = allowed;
  }

  /** Not 0: pages were refused, and wait for somebody to look whether anything in the family has memory pinned. */
  get refusalsToClear(): number {
    return this.evictor.refusalsToClear;
  }

  /** Nothing has. @param refusals what `refusalsToClear` said before the look */
  clearRefusals(refusals: number): void {
    this.evictor.clear(refusals);
  }

  get chunks(): Chunks {
    return this.family.chunks;
  }

  /** Slots that have been given out: those of the pages there are, and spare ones. */
  get usedSlots(): number {
    return this.family.regions.indexEnd;
  }

  /**
   * After the detach: pages of the target that are registered still, since nothing else keeps them from reading as
   * zeros.
   */
  get strandedPages(): number {
    return this.restorer.stranded;
  }

  get faultCount(): number {
    return this.family.counters.faults;
  }

  /** Whether the mappings ought to be looked at before the next regular tick. */
  get wantsTick(): boolean {
    return this.family.rescan && this.family.now - this.lookedAt > LOOK_AGAIN_NS;
  }

  checkInvariants(): void {
    checkFamily(this.family, this.writeBack);
  }

  stats(): PagerStats {
    const state = this.ended ? 'ended' : this.family.detaching ? 'detaching' : 'paging';
    return pagerStats(state, this.family, this.faults.prefetch, this.replicas);
  }
}
