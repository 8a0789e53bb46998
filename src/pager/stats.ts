/** The record that `leapctl stats` prints, gathered from the tables, the counters and the paths. Cold: it allocates. */
import type { Counters, PagerStats } from '../core/counters.js';
import { PAGE_SIZE } from '../core/types.js';
import type { Family } from '../family/family.js';
import type { PrefetchPath } from '../faults/prefetch-path.js';
import type { Replicas } from '../store/replicas.js';
import { State } from '../tables/page-table.js';

export function pagerStats(
  state: PagerStats['state'],
  family: Family,
  prefetch: PrefetchPath,
  replicas: Replicas,
): PagerStats {
  const { counters } = family;
  return {
    state,
    ...pageStats(family),
    prefetch: prefetch.policy.name,
    history: prefetch.history,
    prefetchBuffer: family.prefetched.capacity,
    windowMax: prefetch.windowMax,
    ...faultStats(counters),
    trendsFound: prefetch.policy.counters.trendsFound,
    trendsTried: prefetch.policy.counters.trendsTried,
    ...evictionStats(counters),
    ...trafficStats(counters, replicas),
    framesFree: family.frames.free,
    frames: family.frames.count,
    evictionStalled: family.limit.evictionStalled,
  };
}

function pageStats({ limit, regions, counters, pages, spaces }: Family) {
  const { counts } = pages;
  return {
    localLimitPages: limit.pages,
    registeredPages: regions.all().reduce((sum, region) => sum + region.count, 0),
    residentPages: limit.resident,
    storedPages: counts[State.stored] + counts[State.fetching],
    bufferedPages: counts[State.buffered],
    zeroPages: counters.zeroPages,
    spaces: spaces.length,
  };
}

function faultStats(counters: Counters) {
  const { faultLatency } = counters;
  return {
    faults: counters.faults,
    faultLatencyNs: {
      p50: faultLatency.percentile(50),
      p99: faultLatency.percentile(99),
      p999: faultLatency.percentile(99.9),
      max: faultLatency.max,
    },
    demandReads: counters.demandReads,
    prefetchIssued: counters.prefetchIssued,
    prefetchHits: counters.prefetchHits,
    prefetchUnused: counters.prefetchUnused,
    mappedAhead: counters.mappedAhead,
  };
}

function evictionStats(counters: Counters) {
  return {
    evictions: counters.evictions,
    cleanEvictions: counters.cleanEvictions,
    busyEvictions: counters.busyEvictions,
    secondChances: counters.secondChances,
  };
}

function trafficStats(counters: Counters, replicas: Replicas) {
  return {
    swapReads: counters.swapReads,
    swapWrites: counters.swapWrites,
    remoteReads: counters.remoteReads,
    remoteWrites: counters.remoteWrites,
    chunksMapped: replicas.mapped,
    copiesPending: replicas.pending,
    bytesRead: (counters.swapReads + counters.remoteReads) * PAGE_SIZE,
    bytesWritten: (counters.swapWrites + counters.remoteWrites) * PAGE_SIZE,
    readErrors: counters.readErrors,
    writeErrors: counters.writeErrors,
    hashMismatches: counters.hashMismatches,
    lostPages: counters.lostPages,
    forks: counters.forks,
  };
}
