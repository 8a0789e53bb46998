/** What the pager counts, and the latency of the faults it served. */
import * as hdr from 'hdr-histogram-js';
import type { Histogram } from 'hdr-histogram-js';

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
    highestTrackableValue: 2 ** 31 - 1, // ns: 2.1 s; longer ones are counted as that
    numberOfSignificantValueDigits: 2,
    useWebAssembly: false,
  });

  /** Latencies not yet in the histogram: it takes logarithms, which a fault need not wait for. */
  private readonly latencies = new Int32Array(1024);
  private latencyCount = 0;

  recordLatency(ns: number): void {
    if (this.latencyCount === this.latencies.length) this.settle();
    this.latencies[this.latencyCount++] = ns < 1 ? 1 : ns > 2147483647 ? 2147483647 : ns;
  }

  /** The latency of the faults served so far, ns. */
  get faultLatency(): Histogram {
    this.settle();
    return this.histogram;
  }

  private settle(): void {
    for (let i = 0; i < this.latencyCount; i++) this.histogram.recordValue(this.latencies[i]);
    this.latencyCount = 0;
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
