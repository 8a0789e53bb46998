/**
 * Evict from where pages do not come back.
 *
 * A pager in user space cannot see touches of mapped pages; all it learns is which of the pages it evicted are wanted
 * again, and how soon. So:
 *
 * 1. Residents are kept in classes by what is known of them: how far apart their last eviction and return were, in
 *    evictions, compared with the number of residents R. A page that never returned is `fresh`.
 *        fresh | < R/4 | < R/2 | < R | >= R | streamed
 *    A page that a stream passes is in class `streamed`, whatever its distances say.
 * 2. Each class is a list in order of arrival, and can be evicted from at either end: that makes two *arms* a class.
 *    Old end first is FIFO; new end first keeps a part of a loop that is larger than memory.
 * 3. For each arm the policy measures how many of its victims come back within a horizon of R/16 evictions. That is
 *    long enough to tell hot from cold, and short enough for most returns to be cheap: the victim is still in a frame.
 * 4. Each victim, with its neighbours, comes from an arm drawn at random. The weight of an arm is the share of its end
 *    times  residents of the class / (return rate + DOUBT)^3.
 *
 * Where the two ends of a class that returns late do as well as each other, most victims come from the new end: what
 * has been there for long is the surer to be there when a loop comes round to it. Where one class returns ten times as
 * often, it is evicted from hundreds of times more seldom, but never left alone: what was hot once shows that it is
 * cold now. A page that has just arrived waits in a nursery before either end can take it; a streamed one, which its
 * thread has touched and is about to leave, for an eighth of that time. The measurements against FIFO and S3-FIFO are
 * in docs/victims.md.
 *
 * 10 bytes a page, and a constant number of steps for each page that comes or goes.
 */
import type { PageIndex } from '../../core/types.js';
import { PageLists } from './lists.js';
import type { VictimPolicy } from './victim.js';

// What is known of a page: its class while it is resident, and also the number of its list...
const FRESH = 0;
const STREAMED = 5;
const CLASSES = 6;
/** ... or that it is out, with the clock of its eviction as its note. */
const GHOST = CLASSES;
/** The lists of pages that have just arrived: of any class but one, and of that one. */
const NURSERY = CLASSES;
const STREAM_NURSERY = CLASSES + 1;
const LISTS = CLASSES + 2;
/** Arm c takes class c at its old end, arm CLASSES + c at its new end. */
const ARMS = 2 * CLASSES;

/** The nursery and the horizon, as shares of the residents: 1/16. */
const SHARE_SHIFT = 4;
const HORIZON_MIN = 32;
/** The nursery of streamed pages: 1/128, but one in which each of many threads has the page that it is on. */
const STREAM_SHARE_SHIFT = 7;
const STREAM_NURSERY_MIN = 64;
/** Victims observed at a time, a power of two; of a longer horizon every n-th one is. */
const SAMPLES = 2048;
/** Weight of the newest observation in an arm's return rate. */
const LEARNING = 1 / 64;
/**
 * The most victims that one draw takes: neighbours in memory that came one after the other leave together, in one move
 * and one write.
 */
const CLUSTER = 16;
/** Added to each rate, so that differences within the noise of so few observations do not count. */
const DOUBT = 0.01;
/**
 * Of the classes from this one on, and of pages that never returned, so many of eight victims are taken at the new end,
 * all else being equal. Which of them come back first is beyond the horizon; but of a loop that is larger than memory
 * the others stay eight times as long, long enough to be used again.
 */
const LATE = 3;
const NEW_END = 7;
/**
 * What to believe before anything was seen: a page that came back after d evictions will be back within the horizon h
 * with a chance of h / d; streams are long.
 */
const PRIOR_RATES = [0.01, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64];

/** What each arm's weight is multiplied by for that. */
const SHARES = Float64Array.from({ length: ARMS }, (_, arm) => {
  const isNewEnd = arm >= CLASSES;
  const known = isNewEnd ? arm - CLASSES : arm;
  return known !== FRESH && known < LATE ? 1 / 2 : (isNewEnd ? NEW_END : 8 - NEW_END) / 8;
});

export class ReturnsPolicy implements VictimPolicy {
  readonly name = 'returns';
  private readonly lists = new PageLists(LISTS);
  private classes = new Uint8Array(0);
  private residents = 0;
  /** Evictions, modulo 2^32. */
  private clock = 0;
  private seed = 1;
  private readonly rates = Float64Array.from([...PRIOR_RATES, ...PRIOR_RATES]);
  /** For each arm 1 / (rate + DOUBT)^3. */
  private readonly values = this.rates.map(valueOf);
  private readonly weights = new Float64Array(ARMS);
  private total = 0;
  // The victims under observation: a ring, the oldest at `head`.
  private readonly samplePages = new Int32Array(SAMPLES);
  private readonly sampleClocks = new Int32Array(SAMPLES);
  private readonly sampleArms = new Uint8Array(SAMPLES);
  private head = 0;
  private observed = 0;

  reserve(pages: number): void {
    if (pages <= this.classes.length) return;
    this.lists.reserve(pages);
    const wider = new Uint8Array(pages);
    wider.set(this.classes);
    this.classes = wider;
  }

  inserted(page: PageIndex): void {
    const { lists, classes } = this;
    if (lists.listOf(page) >= 0) return;
    if (classes[page] === GHOST) classes[page] = this.classAt((this.clock - lists.noteOf(page)) | 0);
    lists.push(classes[page] === STREAMED ? STREAM_NURSERY : NURSERY, page);
    this.residents++;
    if (lists.size(NURSERY) > this.residents >> SHARE_SHIFT) this.graduate(NURSERY);
    if (lists.size(STREAM_NURSERY) > Math.max(STREAM_NURSERY_MIN, this.residents >> STREAM_SHARE_SHIFT))
      this.graduate(STREAM_NURSERY);
  }

  streamed(page: PageIndex): void {
    if (this.lists.listOf(page) < 0) this.classes[page] = STREAMED;
  }

  removed(page: PageIndex): void {
    if (this.lists.listOf(page) >= 0) {
      this.lists.remove(page);
      this.residents--;
    }
    // Whatever stands at this index later is another page.
    this.classes[page] = FRESH;
  }

  next(want: number, out: Int32Array): number {
    const horizon = Math.max(HORIZON_MIN, this.residents >> SHARE_SHIFT);
    const every = Math.ceil(horizon / SAMPLES);
    const count = Math.min(want, this.residents);
    this.learn(horizon);
    this.weigh();
    let arm = 0;
    let left = 0;
    for (let i = 0; i < count; i++) {
      if (left === 0 || !this.isNeighbour(arm, out[i - 1])) {
        arm = this.draw();
        left = CLUSTER;
      }
      left--;
      const page = arm < CLASSES ? this.lists.shift(arm) : this.lists.pop(arm - CLASSES);
      if (this.clock % every === 0 && this.observed < SAMPLES) this.observe(page, arm);
      this.classes[page] = GHOST;
      this.lists.setNote(page, this.clock);
      this.clock = (this.clock + 1) | 0;
      this.residents--;
      out[i] = page;
    }
    return count;
  }

  /**
   * It counts as a victim that came back at once: an arm whose victims cannot be taken is no better than one whose
   * victims return. In exchange a page leaves each nursery, else pages that can never be taken would be all that is
   * offered while the nurseries hold the others.
   */
  restored(page: PageIndex): void {
    if (this.lists.size(NURSERY) > 0) this.graduate(NURSERY);
    if (this.lists.size(STREAM_NURSERY) > 0) this.graduate(STREAM_NURSERY);
    this.inserted(page);
  }

  private classAt(distance: number): number {
    const residents = this.residents;
    return distance * 4 < residents ? 1 : distance * 2 < residents ? 2 : distance < residents ? 3 : 4;
  }

  /** A nursery's oldest page joins its class. */
  private graduate(nursery: number): void {
    const page = this.lists.shift(nursery);
    this.lists.push(this.classes[page], page);
  }

  /** Whether the arm's next victim stands beside this page in memory. */
  private isNeighbour(arm: number, page: number): boolean {
    const next = arm < CLASSES ? this.lists.oldest(arm) : this.lists.newest(arm - CLASSES);
    return next >= 0 && (next === page + 1 || next === page - 1);
  }

  /** Sets the arms' weights; all are 0 when the residents are in the nurseries. */
  private weigh(): void {
    this.total = 0;
    for (let arm = 0; arm < ARMS; arm++) {
      const size = this.lists.size(arm < CLASSES ? arm : arm - CLASSES);
      this.weights[arm] = size * this.values[arm] * SHARES[arm];
      this.total += this.weights[arm];
    }
  }

  /** An arm by its weight, of a class that is not empty. There is at least one resident. */
  private draw(): number {
    for (;;) {
      let at = this.random() * this.total;
      let arm = 0;
      while (arm < ARMS - 1 && at >= this.weights[arm]) at -= this.weights[arm++];
      if (this.lists.size(arm < CLASSES ? arm : arm - CLASSES) > 0) return arm;
      // The batch has emptied a class, or all that are left are in a nursery.
      const streamed = this.lists.size(STREAM_NURSERY);
      if (this.lists.size(NURSERY) + streamed === this.residents)
        this.graduate(streamed > 0 ? STREAM_NURSERY : NURSERY);
      this.weigh();
    }
  }

  private observe(page: number, arm: number): void {
    const at = (this.head + this.observed++) & (SAMPLES - 1);
    this.samplePages[at] = page;
    this.sampleClocks[at] = this.clock;
    this.sampleArms[at] = arm;
  }

  /** Victims that have been out for the horizon, or have come back within it, tell of the arm that took them. */
  private learn(horizon: number): void {
    while (this.observed > 0 && ((this.clock - this.sampleClocks[this.head]) | 0) >= horizon) {
      const page = this.samplePages[this.head];
      const arm = this.sampleArms[this.head];
      const stillOut = this.classes[page] === GHOST && this.lists.noteOf(page) === this.sampleClocks[this.head];
      const forgotten = this.classes[page] === FRESH && this.lists.listOf(page) < 0;
      if (!forgotten) {
        this.rates[arm] += ((stillOut ? 0 : 1) - this.rates[arm]) * LEARNING;
        this.values[arm] = valueOf(this.rates[arm]);
      }
      this.head = (this.head + 1) & (SAMPLES - 1);
      this.observed--;
    }
  }

  /** In [0, 1): xorshift, so that a run can be repeated. */
  private random(): number {
    let x = this.seed;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.seed = x;
    return (x >>> 0) / 2 ** 32;
  }
}

function valueOf(rate: number): number {
  const cost = rate + DOUBT;
  return 1 / (cost * cost * cost);
}
