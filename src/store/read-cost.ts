/**
 * What a read costs on this store and machine, measured while the pager runs: the policies weigh a page read ahead
 * by it.
 *
 *     duration of a read = latency + queued pages * perPage      queued: other pages in flight when it was commanded
 *
 * The line is fitted by least squares, with older reads forgotten exponentially. `perPage` is then what one more
 * page in flight delays the next read: little where the store serves reads side by side, a page's transfer time
 * where they wait for one channel. Handling is the pager's own time for a page of a command. All times are in ns.
 *
 * No allocation after construction: numbers that are not whole stand in arrays, since they are boxed everywhere else.
 */

/** Weight of the newest read, and of the newest turn. */
const LEARNING = 1 / 256;
/**
 * Added to the variance of the queued pages, in pages squared: one length of the queue alone says nothing of a
 * slope.
 */
const RIDGE = 1;
/**
 * A longer read than this many mean ones is an accident of the store (another program's flush), and counts as
 * this long.
 */
const OUTLIER = 8;

/** Names of what stands in `figures`. */
export const Figure = { latency: 0, perPage: 1, handling: 2, leastUse: 3 } as const;
/** Names of the moving averages. */
const Mean = { queued: 0, duration: 1, squared: 2, product: 3, turnEnd: 4 } as const;

/** Least probability of use at which reading a page ahead pays, until the first read was measured. */
export const LEAST_USE = 0.15;

export class ReadCost {
  /**
   * By `Figure`: latency of a read with nothing else in flight, perPage, handling; leastUse: what a page costs /
   * the latency.
   */
  readonly figures = new Float64Array(4);
  private readonly means = new Float64Array(5);
  private readonly begun: Float64Array;
  private readonly queued: Int32Array;
  private reads = 0;
  private turns = 0;

  /**
   * @param frames how many frames there are: one read at a time goes into each
   * @param clock the engine's: when the turn ended, when its commands had been executed
   */
  constructor(
    frames: number,
    private readonly clock: Float64Array,
  ) {
    this.begun = new Float64Array(frames);
    this.queued = new Int32Array(frames);
    this.figures[Figure.leastUse] = LEAST_USE;
  }

  /** The read into `frame` has been commanded. @param others pages whose reads are in flight already */
  begin(frame: number, others: number): void {
    this.begun[frame] = this.clock[0];
    this.queued[frame] = others;
  }

  /** The reads into `count` frames from `first` on have completed, in one request. */
  end(first: number, count: number): void {
    const { means, figures, queued } = this;
    const last = first + count - 1;
    const frame = queued[first] > queued[last] ? first : last;
    const others = queued[frame];
    const weight = Math.max(LEARNING, 1 / ++this.reads);
    let duration = this.clock[0] - this.begun[frame];
    if (this.reads > 1) duration = Math.min(duration, OUTLIER * means[Mean.duration]);
    means[Mean.queued] += (others - means[Mean.queued]) * weight;
    means[Mean.duration] += (duration - means[Mean.duration]) * weight;
    means[Mean.squared] += (others * others - means[Mean.squared]) * weight;
    means[Mean.product] += (others * duration - means[Mean.product]) * weight;
    const variance = means[Mean.squared] - means[Mean.queued] * means[Mean.queued];
    const covariance = means[Mean.product] - means[Mean.queued] * means[Mean.duration];
    const perPage = Math.max(0, covariance / (Math.max(0, variance) + RIDGE));
    figures[Figure.perPage] = perPage;
    figures[Figure.latency] = Math.max(1, means[Mean.duration] - means[Mean.queued] * perPage);
    figures[Figure.leastUse] = Math.min(1, (perPage + figures[Figure.handling]) / figures[Figure.latency]);
  }

  /** A turn is over. @param pages those of its commands, in all */
  turned(pages: number): void {
    const { means, figures, clock } = this;
    if (pages > 0 && means[Mean.turnEnd] > 0) {
      const ns = (clock[1] - means[Mean.turnEnd]) / pages;
      figures[Figure.handling] += (ns - figures[Figure.handling]) * Math.max(LEARNING, 1 / ++this.turns);
    }
    means[Mean.turnEnd] = clock[0];
  }
}
