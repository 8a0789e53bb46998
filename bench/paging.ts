/**
 * Section "paging": the five patterns under leapd and under the kernel's swap, at two limits, with two kinds of store,
 * side by side.
 */
import { kernelRun } from './kernel-run.js';
import { leapdRun } from './leapd-run.js';
import { median, stores, type PagingRun, type PatternFigures, type Place, type Store } from './paging-run.js';
import { row, type Row } from './rows.js';
import { PAGE_BYTES, patterns, type Pattern } from './touch-program.js';
import { CannotRun, reasonOf, type UndoStack } from '../src/host/undo-stack.js';

const localShares = [0.5, 0.25] as const;

/** leapd's time over the kernel's. */
const goals: Readonly<Record<Store, Readonly<Record<Pattern, number>>>> = {
  disk: { seq: 0.3, stride: 0.3, random: 1.0, write: 0.5, zipf: 1.0 },
  memory: { seq: 0.6, stride: 0.6, random: 1.2, write: 0.6, zipf: 1.2 },
};
const ZIPF_MISSES_SHARE = 0.25; // the limit at which misses are compared
const FEWER = 1 - 1e-6; // "fewer than the kernel's" as a bound on the ratio

const storeNames: Readonly<Record<Store, string>> = {
  disk: 'swap file on disk; against a kernel swap file there',
  memory: 'swap file on tmpfs; against kernel zram',
};
const patternNames: Readonly<Record<Pattern, string>> = {
  seq: 'sequential read',
  stride: 'stride-10 read',
  random: 'uniform random read',
  write: 'sequential write',
  zipf: 'zipf read (80 % on 20 %)',
};

const pagers = ['kernel', 'leapd', 'inside'] as const;
type Pager = (typeof pagers)[number];

export interface PagingPlan {
  readonly mib: number;
  readonly rounds: number;
  /** No new round begins that would end after so long. */
  readonly budgetMs: number;
  readonly prefetchBuffer: number;
  readonly dir: string;
}

export interface PagingRecord {
  readonly round: number;
  readonly store: Store;
  readonly share: number;
  readonly pager: Pager;
  readonly run?: PagingRun;
  readonly reason?: string;
}

export interface PagingResult {
  readonly rows: readonly Row[];
  readonly records: readonly PagingRecord[];
}

export async function paging(undo: UndoStack, plan: PagingPlan, say: (what: string) => void): Promise<PagingResult> {
  const records: PagingRecord[] = [];
  const start = performance.now();
  for (let round = 0; round < plan.rounds; round++) {
    const spent = performance.now() - start;
    if (round > 0 && (spent * (round + 1)) / round > plan.budgetMs) break;
    for (const share of localShares) {
      for (const store of stores) {
        for (const pager of pagers) {
          say(
            `paging, round ${round + 1} of ${plan.rounds}: ${plan.mib} MiB, ${share * 100} % local, ${store}, ${pager}`,
          );
          records.push(await once(undo, plan, records, { round, store, share, pager }));
        }
      }
    }
  }
  const checksums = new Set(records.flatMap((record) => record.run?.checksum ?? []));
  if (checksums.size > 1)
    throw new Error(`the paged programs ended with different memory: ${[...checksums].join(', ')}`);
  return { rows: [...timeRows(records), ...missRows(records)], records };
}

type Key = Pick<PagingRecord, 'round' | 'store' | 'share' | 'pager'>;

async function once(
  undo: UndoStack,
  plan: PagingPlan,
  earlier: readonly PagingRecord[],
  key: Key,
): Promise<PagingRecord> {
  const place: Place = { undo, store: key.store, dir: plan.dir };
  const localBytes = plan.mib * 2 ** 20 * key.share;
  try {
    if (key.pager === 'kernel') return { ...key, run: await kernelRun(place, plan.mib, localBytes) };
    const pagesBytes = key.pager === 'inside' ? localBytes - frameBytes(earlier, localBytes) : localBytes;
    return { ...key, run: await leapdRun(place, plan.mib, pagesBytes, plan.prefetchBuffer) };
  } catch (error) {
    return { ...key, reason: `${key.pager}, ${key.store}, ${key.share * 100} %: ${reasonOf(error)}` };
  }
}

/** What the frames of the leapd before this one took. */
function frameBytes(earlier: readonly PagingRecord[], localBytes: number): number {
  const frames = earlier.findLast((record) => record.pager === 'leapd')?.run?.facts['frames'];
  if (typeof frames !== 'number') throw new CannotRun('leapd does not report its number of frames');
  if (frames * PAGE_BYTES >= localBytes) throw new CannotRun(`its ${frames} frames alone exceed the limit`);
  return frames * PAGE_BYTES;
}

function figuresOf(
  records: readonly PagingRecord[],
  store: Store,
  share: number,
  pager: Pager,
  pattern: Pattern,
): PatternFigures[] {
  const matching = records.filter(
    (record) => record.store === store && record.share === share && record.pager === pager,
  );
  return matching.flatMap((record) => record.run?.figures.filter((figure) => figure.pattern === pattern) ?? []);
}

type Values = {
  readonly leap: number | undefined;
  readonly against?: number;
  readonly framesInside: number | undefined;
  readonly reason?: string;
};

function compare(
  records: readonly PagingRecord[],
  store: Store,
  share: number,
  pattern: Pattern,
  pick: (figure: PatternFigures) => number,
): Values {
  const of = (pager: Pager): number | undefined => {
    const values = figuresOf(records, store, share, pager, pattern).map(pick);
    return values.length === 0 ? undefined : median(values);
  };
  const against = of('kernel');
  const reasons = records
    .filter((record) => record.store === store && record.share === share)
    .flatMap((record) => record.reason ?? []);
  const reason = [...new Set(reasons)].join('; ');
  return {
    leap: of('leapd'),
    framesInside: of('inside'),
    ...(against !== undefined && { against }),
    ...(reason !== '' && { reason }),
  };
}

function timeRows(records: readonly PagingRecord[]): Row[] {
  const rows: Row[] = [];
  for (const store of stores) {
    for (const share of localShares) {
      for (const pattern of patterns) {
        rows.push(
          row({
            id: `paging.${store}.${share * 100}.${pattern}`,
            section: `Paging, ${share * 100} % local: ${storeNames[store]}`,
            what: patternNames[pattern],
            unit: 'us a touch',
            goal: goals[store][pattern],
            ...compare(records, store, share, pattern, (figure) => figure.usPerTouch),
          }),
        );
      }
    }
  }
  return rows;
}

/** What reached the store on zipf: faults that waited for it, and pages that were read. */
function missRows(records: readonly PagingRecord[]): Row[] {
  const section = `Zipf, ${ZIPF_MISSES_SHARE * 100} % local: what reached the store`;
  return stores.flatMap((store) => [
    row({
      id: `paging.misses.${store}`,
      section,
      what: `${store}: demand reads; against major faults`,
      unit: 'faults',
      goal: FEWER,
      ...compare(records, store, ZIPF_MISSES_SHARE, 'zipf', (figure) => figure.misses),
    }),
    row({
      id: `paging.read.${store}`,
      section,
      what: `${store}: pages read in, ahead of need or not`,
      unit: 'pages',
      ...compare(records, store, ZIPF_MISSES_SHARE, 'zipf', (figure) => figure.pagesIn),
    }),
  ]);
}
