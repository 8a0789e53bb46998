/**
 * What a fault brings besides its own page: asks the prefetch policy, carries its plan out inside the region, maps
 * ahead.
 *
 * Map-ahead: with a trusted trend the pages of the plan that have arrived are mapped in the same copy as the page that
 * faulted, and the first that has not stays out as the marker. Its fault says that the trend goes on; by then the
 * window after it is on its way. One fault a window.
 */
import type { Family } from '../family/family.js';
import { Figure } from '../store/read-cost.js';
import type { Fetcher } from '../store/fetcher.js';
import { PageFlag, State } from '../tables/page-table.js';
import { FaultKind, Plan, type Prefetcher } from '../policy/prefetch/prefetcher.js';
import { createPrefetcher } from '../policy/prefetch/index.js';
import type { Region } from '../tables/regions.js';
import { SlotState } from '../tables/slot-table.js';
import { Streams } from './markers.js';
import type { Recorder } from '../trace/ring.js';
import { type PageIndex, pageIndex } from '../core/types.js';

/** The largest plan carried out, whatever a policy asks for. */
const PLAN_MAX = 1024;
/** Pages looked at for each page planned: those that are resident already are stepped over. */
const STEPS_PER_PAGE = 4;
/** Weight of the newest fault in the crowd's average. */
const CROWD_LEARNING = 1 / 64;

export class PrefetchPath {
  policy: Prefetcher;
  history: number;
  windowMax: number;
  /** While the faults are recorded. */
  recorder: Recorder | undefined;
  private readonly plan = new Plan();
  private readonly streams = new Streams();
  private readonly chosen = new Int32Array(PLAN_MAX);
  /** How many of the pages mapped ahead last had been prefetched; the others had only just been evicted. */
  private prefetched = 0;

  constructor(
    private readonly family: Family,
    private readonly fetcher: Fetcher,
  ) {
    const { prefetch, history, windowMax } = family.options;
    this.history = history;
    this.windowMax = windowMax;
    this.policy = createPrefetcher(prefetch, { history, windowMax });
  }

  configure(options: { prefetch?: string | Prefetcher; history?: number; windowMax?: number }): void {
    this.history = options.history ?? this.history;
    this.windowMax = options.windowMax ?? this.windowMax;
    if (typeof options.prefetch === 'object') this.policy = options.prefetch;
    else if (options.prefetch !== undefined && options.prefetch !== this.policy.name) {
      this.policy = createPrefetcher(options.prefetch, { history: this.history, windowMax: this.windowMax });
    } else this.policy.configure({ history: this.history, windowMax: this.windowMax });
  }

  /**
   * A thread has faulted on `page`, which is being served; `kind` says how it was found, `write` what the thread
   * wanted, `others` how many faults more wait for the pager.
   */
  fault(page: PageIndex, thread: number, kind: number, write: boolean, others: number): void {
    const { family, plan } = this;
    plan.crowd[0] += (others - plan.crowd[0]) * CROWD_LEARNING;
    const { regions } = family;
    this.recorder?.fault(page, thread, kind, write, family.now, regions);
    const confirmed = this.streams.confirm(thread, page);
    family.counters.prefetchHits += this.streams.prefetched;
    const region = regions.find(page);
    if (region === undefined) return;
    plan.clear();
    plan.regionFirst = region.first;
    plan.regionEnd = region.first + region.count;
    plan.advice = regions.adviceOf(page);
    plan.late = this.streams.late;
    plan.leastUse[0] = this.fetcher.cost.figures[Figure.leastUse];
    this.policy.fault(page, thread, kind, confirmed, plan);
    if (plan.streamed) family.victims.streamed(page);
    if ((plan.count <= 0 && plan.listed === 0 && !plan.mapAhead) || family.detaching) return;
    plan.last = plan.start + plan.stride * (plan.count - 1);
    plan.fetched = plan.count;
    if (plan.listed > 0) this.carryOutList(page, thread);
    else this.carryOut(page, thread, kind, region);
    this.policy.carriedOut?.(plan);
  }

  private carryOut(page: PageIndex, thread: number, kind: number, region: Region): void {
    const { family, plan } = this;
    if (kind === FaultKind.zero) {
      if (plan.mapAhead) this.zeroAhead(page, thread, plan.stride, Math.min(plan.count, PLAN_MAX), region);
      return;
    }
    const state = family.pages.state[page];
    if (plan.mapAhead) {
      if (state === State.buffered) this.mapAhead(page, thread, plan.stride, region, false);
      else if (state === State.fetching) {
        const frame = family.pages.frameOf(page);
        family.frames.aheadStride[frame] = plan.stride;
        family.frames.aheadThread[frame] = thread;
      }
    }
    if (plan.count > 0) this.prefetch(page, region);
  }

  /**
   * The page that a thread waited for has arrived, with its neighbours perhaps: they are mapped ahead now. @param
   * waitedNs since its fault
   */
  arrived(page: PageIndex, thread: number, stride: number, waitedNs: number): void {
    const region = this.family.regions.find(page);
    if (region !== undefined) this.mapAhead(page, thread, stride, region, this.isLate(waitedNs));
  }

  /** Whether a thread waited longer for planned pages than mapping a window takes: it is faster than its plans. */
  private isLate(waitedNs: number): boolean {
    return waitedNs > this.windowMax * this.fetcher.cost.figures[Figure.handling];
  }

  /**
   * Maps the pages that stand ready in frames along the stride behind `page`, up to the first that does not: the
   * marker. Some were prefetched; some have only just been evicted.
   */
  private mapAhead(page: PageIndex, thread: number, stride: number, region: Region, late: boolean): void {
    const { plan } = this;
    const { pages } = this.family;
    const last = region.first + region.count;
    let at: number = page + stride;
    plan.mapped = this.prefetched = 0;
    for (
      let steps = this.windowMax * STEPS_PER_PAGE;
      steps > 0 && at >= region.first && at < last;
      steps--, at += stride
    ) {
      if (pages.state[at] === State.resident) continue;
      if (plan.mapped >= this.windowMax || !this.mapReady(pageIndex(at))) break;
    }
    this.marked(thread, at, late);
  }

  /** Maps a page that stands ready in a frame, if nobody waits for it and there is room. */
  private mapReady(page: PageIndex): boolean {
    const { family } = this;
    const { pages } = family;
    if (
      pages.state[page] !== State.buffered ||
      pages.has(page, PageFlag.mapping | PageFlag.waiting) ||
      family.limit.room <= 0 ||
      family.commands.room < 2
    )
      return false;
    if (pages.has(page, PageFlag.prefetched)) this.prefetched++;
    const frame = pages.frameOf(page);
    family.clean.unlist(frame);
    family.map(page, frame);
    family.counters.mappedAhead++;
    this.plan.mapped++;
    return true;
  }

  private zeroAhead(page: PageIndex, thread: number, stride: number, count: number, region: Region): void {
    const { family, plan } = this;
    const { pages } = family;
    const last = region.first + region.count;
    let at: number = page + stride;
    plan.mapped = this.prefetched = 0;
    while (
      plan.mapped < count &&
      at >= region.first &&
      at < last &&
      pages.state[at] === State.empty &&
      family.limit.room > 1 &&
      family.commands.room > 2
    ) {
      const here = pageIndex(at);
      if (pages.has(here, PageFlag.mapping | PageFlag.waiting)) break;
      family.zero(here);
      plan.mapped++;
      at += stride;
    }
    this.marked(thread, at, false);
  }

  private marked(thread: number, marker: number, late: boolean): void {
    this.streams.set(thread, pageIndex(marker), this.plan.mapped, this.prefetched, late);
    this.plan.marker = marker;
  }

  private carryOutList(page: PageIndex, thread: number): void {
    const { plan, chosen } = this;
    const { list, listed } = plan;
    if (plan.mapAhead && this.family.pages.state[page] === State.buffered) this.mapList(thread);
    let count = 0;
    for (let i = 0; i < listed; i++) if (list[i] !== page && this.canBeFetched(list[i])) chosen[count++] = list[i];
    plan.fetched = count > 0 ? this.fetcher.prefetch(chosen, count) : 0;
  }

  /**
   * As mapAhead, along the first half of the plan's list: the second must be on its way when the thread comes to the
   * marker.
   */
  private mapList(thread: number): void {
    const { plan } = this;
    const { pages } = this.family;
    let at = 0;
    plan.mapped = this.prefetched = 0;
    for (; at < plan.listed >> 1; at++) {
      const page = pageIndex(plan.list[at]);
      if (pages.state[page] !== State.resident && !pages.has(page, PageFlag.mapping) && !this.mapReady(page)) break;
    }
    if (plan.mapped === 0) return;
    plan.passed = at;
    this.marked(thread, plan.list[at], false);
  }

  /** In the store, and to be had from there now. */
  private canBeFetched(at: number): boolean {
    const { pages, slots, chunks } = this.family;
    if (pages.state[at] !== State.stored) return false;
    const page = pageIndex(at);
    const slot = pages.slotOf(page);
    return !pages.has(page, PageFlag.lost) && slots.state[slot] === SlotState.valid && chunks.sourceOf(slot) !== 0;
  }

  private prefetch(page: PageIndex, region: Region): void {
    const { plan, chosen } = this;
    const last = region.first + region.count;
    const want = Math.min(plan.count, PLAN_MAX);
    let count = 0;
    let resident = 0;
    let at = plan.start;
    for (
      let steps = Math.max(want, plan.steps);
      steps > 0 && count < want && at >= region.first && at < last;
      steps--, at += plan.stride
    ) {
      if (at !== page && this.canBeFetched(at)) chosen[count++] = at;
      else if (this.family.pages.state[at] === State.resident) resident++;
    }
    plan.resident = resident;
    const reached = count > 0 ? this.fetcher.prefetch(chosen, count) : 0;
    plan.fetched = reached;
    plan.last = (reached < count ? chosen[reached] : at) - plan.stride;
  }
}
