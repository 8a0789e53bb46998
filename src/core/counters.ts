/** Counters of the pager, and the record of them that `leapctl stats` prints. Pages are 4 KiB. */
import { LatencyHistogram } from './latency-histogram.js';

/** What the pager has counted since the attach, in pages unless said otherwise. */
export class Counters {
  /** Page faults. */
  faults = 0;
  demandReads = 0;
  prefetchIssued = 0;
  prefetchHits = 0;
  prefetchUnused = 0;
  mappedAhead = 0;
  evictions = 0;
  cleanEvictions = 0;
  /** Pages that were all zeros when they were evicted, and so were not stored. */
  zeroPages = 0;
  /** Pages that UFFDIO_MOVE refused: shared after a fork, or pinned. */
  busyEvictions = 0;
  /** Faults on pages that had just been evicted and were still in a frame. */
  secondChances = 0;
  /** Pages read from and written to the swap file. */
  swapReads = 0;
  swapWrites = 0;
  /** Pages read from and written to donors. */
  remoteReads = 0;
  remoteWrites = 0;
  readErrors = 0;
  writeErrors = 0;
  /** Pages whose bytes came back from the store with a wrong hash; they are not mapped. */
  hashMismatches = 0;
  lostPages = 0;
  /** Children followed. */
  forks = 0;

  /** Latency of the faults served, from the harvest of the fault to its page being mapped. */
  readonly faultLatency = new LatencyHistogram();
}

/** What `leapctl stats` prints, beside what leapd adds (pid, uptime). */
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
  /** Replicas that are mapped on donors. */
  readonly chunksMapped: number;
  /** Pages that should get another copy and do not have it yet. */
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
