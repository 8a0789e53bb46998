/**
 * A pager of one thread, reduced to what a prefetch policy notices: pages are in the store, in the buffer or resident;
 * fetches arrive after `delay` touches; with a trusted plan what has arrived is mapped ahead, up to the first page that
 * has not: the marker. Nothing is evicted but by `evict`.
 */
import { FaultKind, Plan, type Prefetcher } from '../../../src/policy/prefetch/prefetcher.js';
import { pageIndex } from '../../../src/core/types.js';

const STORED = 0;
const FETCHING = 1;
const BUFFERED = 2;
const RESIDENT = 3;

export class StreamPager {
  misses = 0;
  hits = 0;
  fetched = 0;
  mappedAhead = 0;
  largestPlan = 0;
  /** Faults that were said to be a stream's that passes its pages one by one. */
  streamed = 0;
  /** Others that wait at each fault. */
  crowd = 0;
  private readonly state: Uint8Array;
  private readonly arrivals: { page: number; at: number }[] = [];
  private readonly plan = new Plan();
  private now = 0;
  private marker = -1;
  private confirmed = 0;

  constructor(
    private readonly policy: Prefetcher,
    readonly pages: number,
    private readonly delay = 0,
    private readonly mapsAhead = true,
  ) {
    this.state = new Uint8Array(pages);
  }

  get faults(): number {
    return this.misses + this.hits;
  }

  /** Prefetched pages that were never used; mapped-ahead ones that were not are not told apart. */
  get unused(): number {
    return this.state.reduce((count, state) => count + (state === BUFFERED || state === FETCHING ? 1 : 0), 0);
  }

  touch(page: number, thread = 1): void {
    this.now++;
    while (this.arrivals.length > 0 && this.arrivals[0].at <= this.now) this.arrive(this.arrivals.shift()!.page);
    if (this.state[page] === RESIDENT) return;
    const kind = this.state[page] === STORED ? FaultKind.miss : FaultKind.prefetchHit;
    if (kind === FaultKind.miss) this.misses++;
    else this.hits++;
    const ahead = page === this.marker ? this.confirmed : 0;
    if (ahead > 0) this.marker = -1;
    this.state[page] = RESIDENT;
    this.plan.crowd[0] = this.crowd;
    this.policy.fault(pageIndex(page), thread, kind, ahead, this.plan);
    this.largestPlan = Math.max(this.largestPlan, this.plan.count);
    this.largestPlan = Math.max(this.largestPlan, this.plan.listed);
    this.streamed += Number(this.plan.streamed);
    if (this.plan.listed > 0) this.carryOutList();
    else if (this.plan.mapAhead && this.mapsAhead) this.mapAhead(page);
    for (let i = 0, at = this.plan.start; i < this.plan.count; i++, at += this.plan.stride) this.fetch(at);
  }

  /** All pages, or those that `leaves` says, are in the store only. */
  evict(leaves: (page: number) => boolean = () => true): void {
    for (let page = 0; page < this.pages; page++) if (leaves(page)) this.state[page] = STORED;
  }

  private carryOutList(): void {
    const { plan } = this;
    let at = 0;
    let mapped = 0;
    for (; plan.mapAhead && this.mapsAhead && at < plan.listed >> 1; at++) {
      const page = plan.list[at];
      if (this.state[page] === RESIDENT) continue;
      if (this.state[page] !== BUFFERED) break;
      this.state[page] = RESIDENT;
      mapped++;
    }
    for (let i = 0; i < plan.listed; i++) this.fetch(plan.list[i]);
    plan.passed = mapped > 0 ? at : 0;
    this.mappedAhead += mapped;
    if (plan.passed > 0) this.marker = plan.list[at];
    this.confirmed = mapped;
    this.policy.carriedOut?.(plan);
  }

  private fetch(page: number): void {
    if (page < 0 || page >= this.pages || this.state[page] !== STORED) return;
    this.fetched++;
    this.state[page] = FETCHING;
    if (this.delay === 0) this.arrive(page);
    else this.arrivals.push({ page, at: this.now + this.delay });
  }

  private arrive(page: number): void {
    if (this.state[page] === FETCHING) this.state[page] = BUFFERED;
  }

  private mapAhead(page: number): void {
    let mapped = 0;
    let at = page + this.plan.stride;
    for (
      ;
      at >= 0 && at < this.pages && (this.state[at] === BUFFERED || this.state[at] === RESIDENT);
      at += this.plan.stride
    ) {
      if (this.state[at] === RESIDENT) continue;
      this.state[at] = RESIDENT;
      mapped++;
    }
    this.marker = at;
    this.confirmed = mapped;
    this.mappedAhead += mapped;
  }
}
