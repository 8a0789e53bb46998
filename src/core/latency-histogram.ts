/**
 * A histogram of latencies in ns: a count for each bucket, from which percentiles are computed.
 *
 * A value falls into the bucket of its leading BUCKET_BITS + 1 bits, so the values of one bucket differ by less than
 * 1/128. The first two rows of 128 buckets hold one value each; each later row is an octave. `record` is on the fault
 * path: it allocates nothing and takes no logarithm.
 */

/** Longest latency told apart, in ns (2.1 s); longer ones are counted as this. */
const LATENCY_MAX = 2 ** 31 - 1;
const BUCKET_BITS = 7;

export class LatencyHistogram {
  private readonly buckets = new Int32Array(32 << BUCKET_BITS);

  /** Counts one latency. @param ns values below 1 are counted as 1 */
  record(ns: number): void {
    const value = ns < 1 ? 1 : ns > LATENCY_MAX ? LATENCY_MAX : ns | 0;
    const shift = Math.max(0, 31 - BUCKET_BITS - Math.clz32(value));
    this.buckets[(shift << BUCKET_BITS) + (value >>> shift)]++;
  }

  /** How many latencies have been recorded. */
  get count(): number {
    return this.buckets.reduce((sum, count) => sum + count, 0);
  }

  /** The largest latency recorded, in ns, rounded up to the end of its bucket; 0 when there is none. */
  get max(): number {
    return this.percentile(100);
  }

  /**
   * @param percent 0 to 100
   * @returns the latency in ns that `percent` of the recorded ones do not exceed, rounded up to the end of its bucket;
   *   0 when nothing has been recorded
   */
  percentile(percent: number): number {
    const total = this.count;
    const rank = Math.max(1, Math.ceil((percent * total) / 100));
    let passed = 0;
    for (let at = 0; at < this.buckets.length; at++) {
      passed += this.buckets[at];
      if (passed >= rank) return lastValueOf(at);
    }
    return 0;
  }
}

/** The largest value of a bucket, in ns: the inverse of `record`. */
function lastValueOf(bucket: number): number {
  const shift = Math.max(0, (bucket >> BUCKET_BITS) - 1);
  return (bucket - (shift << BUCKET_BITS) + 1) * 2 ** shift - 1;
}
