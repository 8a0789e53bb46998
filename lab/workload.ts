/**
 * A trace made ready to run: its pages numbered without gaps, and for each thread its accesses with the time that it
 * computes after each.
 *
 * A trace tells when each fault came, not when it was served. The shortest usual time between two faults of a thread is
 * taken for the time that it took to serve one; what is beyond it is the thread's own, up to a bound: a pause of a
 * program that waits for a request is none of the pager's.
 */
import { FaultKind } from '../src/policy/prefetch/prefetcher.js';
import type { Trace } from '../src/trace/format.js';

const LEAST_GAP_NS = 100;
const LONGEST_GAP_NS = 200_000;
/** Which share of the gaps of a recorded trace is taken for the time of the service alone. */
const SERVICE_QUANTILE = 0.25;

export interface WorkloadThread {
  readonly id: number;
  readonly startNs: number;
  readonly accesses: Int32Array;
  readonly writes: Uint8Array;
  /** What the thread computes after each access, ns. */
  readonly gaps: Float64Array;
}

export interface Workload {
  readonly pages: number;
  readonly regions: readonly { readonly count: number; readonly advice: number }[];
  readonly threads: readonly WorkloadThread[];
  readonly touchedPages: number;
  readonly isTouched: Uint8Array;
  /** The page came into being with its first access. */
  readonly firstTouchIsZero: Uint8Array;
  /** Faults of the trace that lie in no region, and were left out. */
  readonly strays: number;
}

export function workloadOf(trace: Trace): Workload {
  const firsts = trace.regions.map(({ first }) => first);
  const bases: number[] = [];
  let pages = 0;
  for (const { count } of trace.regions) {
    bases.push(pages);
    pages += count;
  }
  const compact = (page: number): number => {
    let low = 0;
    for (let high = firsts.length; low < high;) {
      const middle = (low + high) >> 1;
      if (firsts[middle] <= page) low = middle + 1;
      else high = middle;
    }
    const region = trace.regions[low - 1];
    return region !== undefined && page < region.first + region.count ? bases[low - 1] + page - region.first : -1;
  };

  const isTouched = new Uint8Array(pages);
  const firstTouchIsZero = new Uint8Array(pages);
  const byThread = new Map<number, { page: number; write: number; time: number }[]>();
  let touchedPages = 0;
  let strays = 0;
  for (let i = 0; i < trace.length; i++) {
    const page = compact(trace.page[i]);
    if (page < 0) {
      strays++;
      continue;
    }
    if (isTouched[page] === 0) {
      isTouched[page] = 1;
      touchedPages++;
      if (trace.kind[i] === FaultKind.zero) firstTouchIsZero[page] = 1;
    }
    const list = byThread.get(trace.thread[i]);
    const access = { page, write: trace.write[i], time: trace.time[i] };
    if (list === undefined) byThread.set(trace.thread[i], [access]);
    else list.push(access);
  }

  const service = trace.about['made'] === 'leap-lab generate' ? 0 : serviceNs([...byThread.values()]);
  const threads = [...byThread].map(([id, list]): WorkloadThread => ({
    id,
    startNs: list[0].time,
    accesses: Int32Array.from(list, ({ page }) => page),
    writes: Uint8Array.from(list, ({ write }) => write),
    gaps: Float64Array.from(list, ({ time }, i) => {
      const gap = (list[i + 1]?.time ?? time) - time - service;
      return Math.min(LONGEST_GAP_NS, Math.max(LEAST_GAP_NS, gap));
    }),
  }));
  return { pages, regions: trace.regions, threads, touchedPages, isTouched, firstTouchIsZero, strays };
}

function serviceNs(threads: readonly (readonly { readonly time: number }[])[]): number {
  const gaps = threads.flatMap((list) => list.slice(1).map(({ time }, i) => time - list[i].time)).sort((a, b) => a - b);
  return gaps[Math.floor(gaps.length * SERVICE_QUANTILE)] ?? 0;
}
