/**
 * Our own prefetcher: many streams at once, and where there are none, the neighbours that experience says will follow.
 *
 *   1. A fault that lies on a known stream (stream-table.ts) belongs to it, whatever faults of other streams came
 *      between. As with Leap, a stream plans its next window when the newest one is reached, normally at the marker:
 *      one fault a window. Its window doubles while it pays and halves when it does not; after LAST_FAILURE plans in a
 *      row that did not, it is no stream any more.
 *   2. Any other fault is looked at beside the recent ones near it, of its thread, then of its region (recent.ts):
 *      three in a line begin a stream. Each kind of line has a credit: a new stream costs one, a stream that pays earns
 *      some. Where lines keep coming to nothing, only four in a line will do.
 *   3. A fault that begins no stream brings the pages that followed it the last time (succession.ts), where a thread's
 *      walk comes again in the same order; else the neighbours that usually follow (neighbours.ts). On random access
 *      those are none.
 *   4. Where faults of several threads crowd the pager, every page moved costs all of them: then nothing is read far
 *      ahead, only what is all but certain to be touched is mapped ahead, and what a stream with holes has passed is to
 *      leave first.
 *   5. Where hardly any of what is read ahead is used, all streams are given up, and only what is certain begins a new
 *      one, until that has changed.
 *
 * What the target has said with madvise goes before all of that: RANDOM, nothing is read ahead; SEQUENTIAL, every fault
 * begins a stream.
 */
import { Advice } from '../../tables/regions.js';
import { NONE, type PageIndex } from '../../core/types.js';
import { Neighbours } from './neighbours.js';
import {
  FaultKind,
  LIST_MOST,
  type Plan,
  type PrefetchCounters,
  type Prefetcher,
  type PrefetchOptions,
} from './prefetcher.js';
import { LOOSE, RecentFaults, Sign, SIGNS } from './recent.js';
import { StreamTable } from './stream-table.js';
import { Succession } from './succession.js';
import { ThreadTable } from './threads.js';
import { powerOfTwoFrom } from './window.js';

/** Streams that are followed, and threads and regions that are told apart, at a time. */
const STREAMS = 64;
const ROWS = 64;
/**
 * Other faults that may come between two of a beginning stream, for each entry of the history: as many as there may be
 * streams at once.
 */
const MEMORY = 4;
const FIRST_WINDOW = 4;
const LAST_FAILURE = 2;
/** Share of a plan's pages that have to be used for the plan to have paid. */
const PAYS = 2 / 5;
/** A stream whose window has come to so many pages is no chance: its thread may go by its stride again. */
const KNOWN_WINDOW = 16;
/** After a marker was not touched, so many faults are to be seen one by one. */
const DOUBT = 4;
/** The most windows that are on their way behind the one that is being used. */
const LEAD_MAX = 3;
/**
 * Pages looked at for each page planned, where neighbours follow each other: those that are resident are stepped over.
 */
const STEPS_PER_PAGE = 2;
/** A pace is no more than this. */
const PACE_MAX = 4;
/** From so many others on that wait with each fault, the pager is crowded: a plan steps over nothing. */
const CROWD = 0.4;
/**
 * What a page too many costs: the share of a stream's pages that are not touched, times the others that wait. Below
 * LITTLE_WASTE its pages are mapped ahead; from MUCH_WASTE on they are read no more than WASTEFUL_WINDOW at a time,
 * when no more of the last ones are left than that, and each is a victim once the stream has passed it.
 */
const LITTLE_WASTE = 0.05;
const MUCH_WASTE = 0.15;
const WASTEFUL_WINDOW = 8;
/**
 * Weight of the newest observation in the share of a stream's pages that are touched, and in that of all streams, with
 * which a new one begins.
 */
const TOUCH_LEARNING = 1 / 16;
const COMMON_LEARNING = 1 / 64;
/** After every so many pages read ahead it is asked whether at least so large a share of them was used. */
const TRIAL = 1024;
/** Pages mapped ahead that were still in their frames count as used too, and may be any number. */
const USED_MOST = 4 * TRIAL;
const CREDIT = 8;
const CREDIT_MAX = 32;
const EARNED = 4;
/** Every so many faults a kind of line that has less than at the start gets a credit back. */
const CREDIT_FAULTS = 2048;

export class StreamsPrefetcher implements Prefetcher {
  readonly name = 'streams';
  readonly counters: PrefetchCounters = { trendsFound: 0, trendsTried: 0 };
  private readonly streams = new StreamTable(STREAMS);
  private readonly threads = new ThreadTable(ROWS);
  private readonly regions = new ThreadTable(ROWS);
  private readonly neighbours = new Neighbours(ROWS);
  private readonly succession = new Succession(ROWS);
  private readonly regionThread = new Int32Array(ROWS);
  private readonly shared = new Uint8Array(ROWS);
  /** The stride and window of the stream that the thread was on last, if that paid; 0: none. */
  private readonly lastStride = new Int32Array(ROWS);
  private readonly lastWindow = new Int32Array(ROWS);
  /**
   * The stride of the last stream of the thread that paid and was too wide to be found where pages are resident; 0:
   * none.
   */
  private readonly knownStride = new Int32Array(ROWS);
  private readonly ofThread: RecentFaults;
  private readonly ofRegion: RecentFaults;
  private readonly credit = new Int32Array(SIGNS).fill(CREDIT);
  private windowMax: number;
  private faults = 0;
  /** Pages read ahead of late, and how many of these were used. */
  private fetched = 0;
  private used = 0;
  /** Too few were: only what is certain is read. */
  private isSuspended = false;
  /** The stream that the plan now given is of, and the page it was given at. */
  private planning: number = NONE;
  private at = 0;
  /** Share of the pages of all streams that are touched. An array for the reason that Plan.crowd is one. */
  private readonly commonTouched = new Float64Array(1).fill(1);
  /** The row of the thread whose chain the last list is of. */
  private walking = 0;

  constructor(options: PrefetchOptions) {
    this.windowMax = options.windowMax;
    this.ofThread = new RecentFaults(ROWS, options.history * MEMORY);
    this.ofRegion = new RecentFaults(ROWS, options.history * MEMORY);
  }

  configure({ history, windowMax }: PrefetchOptions): void {
    this.windowMax = windowMax;
    this.ofThread.memory = history * MEMORY;
    this.ofRegion.memory = history * MEMORY;
  }

  fault(page: PageIndex, thread: number, kind: number, ahead: number, plan: Plan): void {
    plan.clear();
    this.planning = NONE;
    if (plan.advice === Advice.random) return;
    this.faults = (this.faults + 1) | 0;
    if (this.faults % CREDIT_FAULTS === 0)
      for (let sign = 0; sign < SIGNS; sign++) if (this.credit[sign] < CREDIT) this.credit[sign]++;
    this.used = Math.min(USED_MOST, this.used + ahead + Number(kind === FaultKind.prefetchHit));
    const threadRow = this.threads.row(thread);
    if (this.threads.isNew) {
      this.ofThread.clear(threadRow);
      this.succession.clear(threadRow);
      this.lastStride[threadRow] = 0;
      this.knownStride[threadRow] = 0;
    }
    const stream = this.streams.match(page, thread);
    if (stream === NONE) return this.begin(page, thread, threadRow, kind, plan);
    this.follow(stream, page, kind, ahead, plan);
    const paid = this.streams.stride[stream] !== 0 && this.streams.sign[stream] === Sign.none;
    plan.streamed = paid && this.streams.failures[stream] === 0 && !this.wastesLess(MUCH_WASTE, stream, plan);
    const stride = paid ? this.streams.stride[stream] : 0;
    if (Math.abs(stride) > LOOSE && this.streams.window[stream] >= KNOWN_WINDOW) this.knownStride[threadRow] = stride;
    this.lastStride[threadRow] = stride;
    this.lastWindow[threadRow] = this.streams.window[stream];
  }

  /** The plan was carried out as far as the region and the frames allow: `plan` says up to where. */
  carriedOut(plan: Plan): void {
    this.fetched += plan.fetched;
    if (this.fetched >= TRIAL) this.judgeAll(plan.leastUse);
    if (plan.passed > 0) this.succession.pass(this.walking, plan);
    const row = this.planning;
    if (row === NONE) return;
    const { streams } = this;
    streams.ahead[row] = plan.mapped;
    streams.marker[row] = plan.mapped > 0 ? plan.marker : NONE;
    if (plan.count === 0) return;
    const stride = streams.stride[row];
    const looked = (plan.last - plan.start) / stride + 1;
    streams.pace[row] = Math.min(
      PACE_MAX,
      Math.max(1, looked / Math.max(1, plan.crowd[0] < CROWD ? plan.fetched : looked - plan.resident)),
    );
    streams.place(row, this.at, (plan.last - this.at) * stride > 0 ? plan.last : this.at);
  }

  private follow(row: number, page: number, kind: number, ahead: number, plan: Plan): void {
    const { streams } = this;
    const marker = streams.marker[row];
    const stride = streams.stride[row];
    const regular = streams.note(row, page, ahead > 0 || marker !== NONE);
    const steps = (streams.frontier[row] - page) / stride;
    const window = streams.window[row];
    const planned = streams.planned[row];
    streams.touch(row);
    if (kind === FaultKind.prefetchHit || (kind !== FaultKind.miss && steps >= 0)) streams.hits[row]++;
    const isMarker = ahead > 0 || page === marker;
    const isPast = !isMarker && marker !== NONE && (page - marker) * stride > 0;
    if (isMarker) {
      streams.hits[row] += ahead > 0 ? ahead : streams.ahead[row];
      if (streams.doubt[row] > 0) streams.doubt[row]--;
      this.learnTouched(row, 1, 1);
    } else if (isPast) {
      // The marker itself was not touched: perhaps half of what was mapped before it was not either.
      streams.hits[row] += streams.ahead[row] >> 1;
      streams.doubt[row] = DOUBT;
      this.learnTouched(row, 0, 1);
    } else if (streams.doubt[row] > 0) streams.doubt[row]--;
    if (isMarker || isPast) streams.marker[row] = NONE;
    if (regular > 1) return this.widen(row, page, stride * regular, plan);
    // In the midst of what was planned, and all the same not there: it was resident then, and has been evicted since.
    // Looked at again from here on.
    if (kind === FaultKind.miss && steps > 0 && steps <= planned)
      return this.plan(row, page, 0, 0, 1, streams.sign[row] === Sign.none && this.mapsAhead(row, plan), plan);
    const left = Math.max(0, Math.ceil(steps / streams.pace[row]));
    // Behind what was planned, or in the middle of it with more to come: nothing to read yet.
    const enough = this.wastesLess(MUCH_WASTE, row, plan) ? window : Math.min(window, WASTEFUL_WINDOW);
    if (steps > planned || (left >= enough && !isMarker)) return this.mapAhead(row, plan);
    this.counters.trendsTried++;
    this.counters.trendsFound++;
    const hits = streams.hits[row];
    const taken = steps < 0 ? planned : planned - steps;
    const pays = hits > 0 && (isMarker || hits * streams.pace[row] >= taken * PAYS);
    this.judge(row, pays, taken);
    if (streams.stride[row] === 0) return;
    streams.window[row] = Math.min(
      this.windowMax,
      pays ? Math.max(window * 2, powerOfTwoFrom(hits + 1)) : Math.max(1, window >> 1),
    );
    streams.hits[row] = 0;
    if (marker === NONE && taken > 0) this.learnTouched(row, hits, taken);
    const trusted = pays && this.mapsAhead(row, plan);
    // Its last window came too late: the stream is faster than its plans, and needs more of them at a time.
    if (isMarker && plan.late && trusted) streams.lead[row] = Math.min(LEAD_MAX, streams.lead[row] + 1);
    // A marker that was not planned: this window will be mapped as a whole, and the one behind it must be on its way
    // when its marker is touched.
    const windows = trusted && isMarker && kind === FaultKind.miss ? 2 : 1;
    this.plan(row, page, Math.max(0, steps), left, windows, trusted, plan);
  }

  /** Of a stream that pays: whether what is mapped ahead of its touches is likely enough to be touched. */
  private mapsAhead(row: number, plan: Plan): boolean {
    return this.streams.doubt[row] === 0 && this.wastesLess(LITTLE_WASTE, row, plan);
  }

  /** Whether a page too many of this stream costs less than that now. */
  private wastesLess(than: number, row: number, plan: Plan): boolean {
    return (1 - this.streams.touched[row]) * plan.crowd[0] < than;
  }

  /** Of the `taken` steps that were planned and taken, `hits` found a page out, and wanted it. */
  private learnTouched(row: number, hits: number, taken: number): void {
    const share = Math.min(1, (hits * this.streams.pace[row]) / taken);
    this.streams.touched[row] += (share - this.streams.touched[row]) * TOUCH_LEARNING;
    this.commonTouched[0] += (share - this.commonTouched[0]) * COMMON_LEARNING;
  }

  /** The stream goes several of its steps at a time: that is its stride. */
  private widen(row: number, page: number, stride: number, plan: Plan): void {
    const { streams } = this;
    streams.stride[row] = stride;
    streams.repeats[row] = 0;
    streams.doubt[row] = 0;
    streams.hits[row] = 0;
    streams.pace[row] = 1;
    this.plan(row, page, 0, 0, 1, false, plan);
  }

  /** Nothing is read, but what stands ready on a stream that pays is mapped. */
  private mapAhead(row: number, plan: Plan): void {
    const { streams } = this;
    if (streams.sign[row] !== Sign.none || streams.failures[row] > 0 || !this.mapsAhead(row, plan)) return;
    plan.stride = streams.stride[row];
    plan.mapAhead = true;
    this.planning = row;
  }

  /**
   * Where pages are few and touched in no order, chance meets what was read ahead often enough to look like streams.
   */
  private judgeAll(leastUse: Float64Array): void {
    const wastes = this.used < this.fetched * leastUse[0];
    if (wastes && !this.isSuspended) this.streams.dropAll();
    this.isSuspended = wastes;
    this.fetched >>= 1;
    this.used >>= 1;
  }

  private judge(row: number, pays: boolean, taken: number): void {
    const { streams } = this;
    if (pays) {
      streams.failures[row] = 0;
      const sign = streams.sign[row];
      if (sign !== Sign.none) this.credit[sign] = Math.min(CREDIT_MAX, this.credit[sign] + EARNED);
      streams.sign[row] = Sign.none;
    } else if (taken > 0 && ++streams.failures[row] > LAST_FAILURE) streams.drop(row);
  }

  /**
   * The next window, or the next two, `steps` steps from the page; `left` pages of what was planned before are still to
   * come.
   */
  private plan(
    row: number,
    page: number,
    steps: number,
    left: number,
    windows: number,
    trusted: boolean,
    plan: Plan,
  ): void {
    const { streams } = this;
    const stride = streams.stride[row];
    plan.stride = stride;
    plan.start = page + stride * (steps + 1);
    const window =
      trusted || this.wastesLess(MUCH_WASTE, row, plan)
        ? streams.window[row]
        : Math.min(streams.window[row], WASTEFUL_WINDOW);
    const lead = trusted ? streams.lead[row] : 1;
    const wanted = lead > 1 ? Math.max(windows * window, (lead + 1) * window - 1 - left) : windows * window;
    plan.count = Math.max(0, Math.min(wanted, (lead + 1) * this.windowMax - left));
    plan.steps = plan.crowd[0] < CROWD && Math.abs(stride) === 1 ? plan.count * STEPS_PER_PAGE : plan.count;
    plan.mapAhead = trusted;
    this.planning = row;
    this.at = page;
    // Until it is carried out: as if every page were there to be fetched.
    streams.place(row, page, page + stride * (steps + plan.count));
  }

  private begin(page: PageIndex, thread: number, threadRow: number, kind: number, plan: Plan): void {
    const { ofThread, ofRegion, regions } = this;
    this.counters.trendsTried++;
    const regionRow = regions.row(plan.regionFirst);
    if (regions.isNew) {
      ofRegion.clear(regionRow);
      this.neighbours.clear(regionRow);
      this.shared[regionRow] = 0;
    } else if (this.regionThread[regionRow] !== thread) this.shared[regionRow] = 1;
    this.regionThread[regionRow] = thread;
    let recent = ofThread;
    let sign = ofThread.search(threadRow, thread, page, this.faults, this.knownStride[threadRow]);
    if (this.shared[regionRow] === 1) {
      const together = ofRegion.search(regionRow, plan.regionFirst, page, this.faults, 0);
      if (sign === Sign.none) {
        recent = ofRegion;
        sign = together;
      }
    }
    this.neighbours.fault(regionRow, page, plan.regionFirst, plan.regionEnd, plan.leastUse);
    if (kind !== FaultKind.zero) this.succession.fault(threadRow, page);
    if (plan.advice === Advice.sequential) return this.open(page, thread, 1, 2 * FIRST_WINDOW, Sign.none, plan);
    if (sign !== Sign.none && ((this.credit[sign] > 0 && !this.isSuspended) || recent.certain)) {
      if (this.credit[sign] > 0) this.credit[sign]--;
      return this.open(page, thread, recent.stride, FIRST_WINDOW, sign, plan);
    }
    const lastStride = this.lastStride[threadRow];
    this.lastStride[threadRow] = 0;
    if (lastStride !== 0 && this.credit[Sign.jump] > 0 && !this.isSuspended) {
      this.credit[Sign.jump]--;
      return this.open(
        page,
        thread,
        lastStride,
        Math.max(FIRST_WINDOW, this.lastWindow[threadRow] >> 1),
        Sign.jump,
        plan,
      );
    }
    if (kind === FaultKind.zero) return;
    this.succession.plan(threadRow, page, Math.min(LIST_MOST, 2 * this.windowMax), plan);
    if (plan.listed > 0) {
      this.walking = threadRow;
      return;
    }
    const { below, above } = this.neighbours;
    if (below + above === 0 || this.isSuspended) return;
    plan.stride = 1;
    plan.start = page - below;
    plan.count = below + above + 1;
  }

  private open(page: number, thread: number, stride: number, window: number, sign: number, plan: Plan): void {
    this.counters.trendsFound++;
    const row = this.streams.add(page, thread, stride, Math.min(window, this.windowMax), sign, this.commonTouched[0]);
    this.plan(row, page, 0, 0, 1, false, plan);
  }
}
