/** What the pager counts, and the latency of the faults it served. */
import * as hdr from 'hdr-histogram-js';
import type { Histogram } from 'hdr-histogram-js';

/** ns: 2.1 s; longer ones are counted as that. */
const LATENCY_MOST = 2 ** 31 - 1;
/** Two values in one bucket differ by less than 1/128. */
const BUCKET_BITS = 7;

export class Counters {
  faults = 0;
  demandReads = 0;
  prefetchIssued = 0;
  prefetchHits = 0;
  prefetchUnused = 0;
  mappedAhead = 0;
  evictions = 0;
  cleanEvictions = 0;
  /** Pages that were all zeros when they were evicted: stored nowhere. */
  zeroPages = 0;
  /** Pages that were shared after a fork, or pinned, when UFFDIO_MOVE came. */
  busyEvictions = 0;
  /** Faults on pages that had just been evicted and were still in a frame. */
  secondChances = 0;
  /** Pages read from, written to the swap file. */
  swapReads = 0;
  swapWrites = 0;
  /** Pages read from, written to donors. */
  remoteReads = 0;
  remoteWrites = 0;
  readErrors = 0;
  writeErrors = 0;
  /** Pages whose bytes came back with another hash; never mapped. */
  hashMismatches = 0;
  lostPages = 0;
  forks = 0;

  private readonly histogram: Histogram = hdr.build({
    bitBucketSize: 32,
    lowestDiscernibleValue: 1,
    highestTrackableValue: LATENCY_MOST,
    numberOfSignificantValueDigits: 2,
    useWebAssembly: false,
  });

  /** Latencies not yet in the histogram, counted by their leading BUCKET_BITS bits: it takes logarithms, which no fault has to wait for. */
  private readonly buckets = new Int32Array(32 << BUCKET_BITS);

  recordLatency(ns: number): void {
    const value = ns < 1 ? 1 : ns > LATENCY_MOST ? LATENCY_MOST : ns | 0;
    const shift = Math.max(0, 31 - BUCKET_BITS - Math.clz32(value));
    this.buckets[(shift << BUCKET_BITS) + (value >>> shift)]++;
  }

  /** The latency of the faults served so far, ns. */
  get faultLatency(): Histogram {
    const { buckets, histogram } = this;
    for (let at = 0; at < buckets.length; at++) {
      if (buckets[at] === 0) continue;
      // The inverse of the above: the first two rows are the values themselves, each later one is an octave.
      const shift = Math.max(0, (at >> BUCKET_BITS) - 1);
      histogram.recordValueWithCount((at - (shift << BUCKET_BITS)) * 2 ** shift, buckets[at]);
      buckets[at] = 0;
    }
    return histogram;
  }
}

/** What `leapctl stats` prints, beside what the daemon adds (pid, uptime). Pages are 4 KiB. */
export interface PagerStats {
  readonly state: 'paging' | 'detaching' | 'ended';
  readonly localLimitPages: number;
  readonly registeredPages: number;
  readonly residentPages: number;
  readonly storedPages: number;
  readonly bufferedPages: number;
  readonly zeroPages: number;
  readonly spaces: number;
  readonly prefetch: string;
  readonly history: number;
  readonly prefetchBuffer: number;
  readonly windowMax: number;
  readonly faults: number;
  readonly faultLatencyNs: { readonly p50: number; readonly p99: number; readonly p999: number; readonly max: number };
  readonly demandReads: number;
  readonly prefetchIssued: number;
  readonly prefetchHits: number;
  readonly prefetchUnused: number;
  readonly mappedAhead: number;
  readonly trendsFound: number;
  readonly trendsTried: number;
  readonly evictions: number;
  readonly cleanEvictions: number;
  readonly busyEvictions: number;
  readonly secondChances: number;
  readonly swapReads: number;
  readonly swapWrites: number;
  readonly remoteReads: number;
  readonly remoteWrites: number;
  /** Replicas of chunks that donors hold for us now. */
  readonly chunksMapped: number;
  /** Pages that are to get another copy and have it not yet. */
  readonly copiesPending: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly readErrors: number;
  readonly writeErrors: number;
  readonly hashMismatches: number;
  readonly lostPages: number;
  readonly forks: number;
  readonly framesFree: number;
  readonly frames: number;
  readonly evictionStalled: boolean;
}
