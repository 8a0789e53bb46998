/**
 * Section "streams": four streams at once, in one thread and in four, under leapd with each of three prefetchers, in
 * the same run.
 */
import { Leapd } from './leapd-program.js';
import { MEMORY_DIR } from './leapd-run.js';
import type { PagingPlan } from './paging.js';
import { median, stores, type Store } from './paging-run.js';
import { row, type Row } from './rows.js';
import { streamPatterns, TouchProgram, type StreamPattern } from './touch-program.js';
import { reasonOf, type UndoStack } from '../src/host/undo-stack.js';

const OURS = 'streams';
const others = ['leap', 'readahead'] as const;
type Prefetcher = typeof OURS | (typeof others)[number];

const localShares = [0.5, 0.25] as const;
/** Ours is to be as good as the better of the others, or next to it. */
const GOAL = 1.01;

const patternNames: Readonly<Record<StreamPattern, string>> = {
  interleaved: '4 streams in one thread',
  threads: '4 threads, a stream each',
};
const storeNames: Readonly<Record<Store, string>> = { disk: 'swap file on disk', memory: 'swap file on tmpfs' };

interface Figure {
  readonly store: Store;
  readonly share: number;
  readonly prefetcher: Prefetcher;
  readonly pattern?: StreamPattern;
  readonly usPerTouch?: number;
  readonly reason?: string;
}

export async function streams(undo: UndoStack, plan: PagingPlan, say: (what: string) => void): Promise<Row[]> {
  const figures: Figure[] = [];
  const start = performance.now();
  for (let round = 0; round < plan.rounds; round++) {
    const spent = performance.now() - start;
    if (round > 0 && (spent * (round + 1)) / round > plan.budgetMs) break;
    for (const store of stores) {
      for (const share of localShares) {
        for (const prefetcher of [OURS, ...others] as const) {
          say(
            `streams, round ${round + 1} of ${plan.rounds}: ${plan.mib} MiB, ${share * 100} % local, ${store}, ${prefetcher}`,
          );
          figures.push(...(await once(undo, plan, store, share, prefetcher)));
        }
      }
    }
  }
  return rowsOf(figures);
}

async function once(
  undo: UndoStack,
  { mib, dir, prefetchBuffer }: PagingPlan,
  store: Store,
  share: number,
  prefetcher: Prefetcher,
): Promise<Figure[]> {
  try {
    return await undo.within(async () => {
      const touch = await TouchProgram.start(undo, mib);
      const localBytes = mib * 2 ** 20 * share;
      const leapd = await Leapd.attach(undo, {
        pid: touch.pid,
        localBytes,
        swapDir: store === 'disk' ? dir : MEMORY_DIR,
        prefetchBuffer,
        prefetch: prefetcher,
      });
      await leapd.settled();
      const figures: Figure[] = [];
      for (const pattern of streamPatterns)
        figures.push({ store, share, prefetcher, pattern, usPerTouch: await touch.run(pattern) });
      await leapd.detach();
      await touch.check();
      return figures;
    });
  } catch (error) {
    return [{ store, share, prefetcher, reason: `${prefetcher}, ${store}, ${share * 100} %: ${reasonOf(error)}` }];
  }
}

function rowsOf(figures: readonly Figure[]): Row[] {
  return stores.flatMap((store) =>
    localShares.flatMap((share) => {
      const here = figures.filter((figure) => figure.store === store && figure.share === share);
      const reason = [...new Set(here.flatMap((figure) => figure.reason ?? []))].join('; ');
      return streamPatterns.flatMap((pattern) => {
        const of = (prefetcher: Prefetcher): number | undefined => {
          const values = here.flatMap((figure) =>
            figure.prefetcher === prefetcher && figure.pattern === pattern ? (figure.usPerTouch ?? []) : [],
          );
          return values.length === 0 ? undefined : median(values);
        };
        return others.map((other) => {
          const against = of(other);
          return row({
            id: `streams.${store}.${share * 100}.${pattern}.${other}`,
            section: `The prefetcher ${OURS}, ${share * 100} % local: ${storeNames[store]}`,
            what: `${patternNames[pattern]}, against ${other}`,
            unit: 'us a touch',
            leap: of(OURS),
            framesInside: undefined,
            goal: GOAL,
            ...(against !== undefined && { against }),
            ...(reason !== '' && { reason }),
          });
        });
      });
    }),
  );
}
