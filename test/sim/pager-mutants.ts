/**
 * Mutants of the pager's own rules: each takes one rule out of a new pager. The simulator must catch every one.
 * `mutants.ts` has the mutants of the seam between pager and engine.
 */
import { Errno } from '../../src/core/layout.js';
import { NONE, frameIndex } from '../../src/core/types.js';
import type { Pager } from '../../src/pager/pager.js';
import { State } from '../../src/tables/page-table.js';
import { CALLS, type CallName, type Config } from './config.js';

export interface PagerMutant {
  readonly name: string;
  /** Makes the situation likely in which the rule matters. */
  readonly change: (config: Config) => Config;
  readonly breakRule: (pager: Pager) => void;
}

/** A program that often makes the given system calls, and few others. */
const calling =
  (weights: Partial<Config['weights']>, more: Partial<Config> = {}) =>
  (config: Config): Config => ({
    ...config,
    callRate: 0.15,
    weights: { ...config.weights, ...weights },
    ...more,
  });

/** Weights of a program that makes no other system call than this one. */
const only = (name: CallName): Config['weights'] => {
  const weights = {} as Record<CallName, number>;
  for (const call of CALLS) weights[call] = Number(call === name);
  return weights;
};

/** Runs `act` with `owner[name]` replaced. */
function during<Owner extends object, Name extends keyof Owner, Result>(
  owner: Owner,
  name: Name,
  replacement: Owner[Name],
  act: () => Result,
): Result {
  const good = owner[name];
  owner[name] = replacement;
  try {
    return act();
  } finally {
    owner[name] = good;
  }
}

export const PAGER_MUTANTS: readonly PagerMutant[] = [
  {
    name: 'digests address events before results',
    change: calling({ dontneed: 200, munmap: 100, mmap: 100 }),
    breakRule: (pager) => {
      const digest = pager['digest'].bind(pager);
      const address = pager['digestAddressEvents'].bind(pager);
      pager['digest'] = (words) => {
        address(words);
        during(
          pager as unknown as { digestAddressEvents: () => void },
          'digestAddressEvents',
          () => {},
          () => digest(words),
        );
      };
    },
  },
  {
    name: 'serves faults before it digests address events',
    // Many threads touch the same pages, which are often out, and remove them; nothing else happens.
    change: calling(
      {},
      {
        pace: 40,
        harvest: 64,
        limit: 12,
        frames: 16,
        crowding: 1,
        threads: 5,
        prefetch: 'none',
        callRate: 0.05,
        weights: only('dontneed'),
      },
    ),
    breakRule: (pager) => {
      const address = pager['digestAddressEvents'].bind(pager);
      const faults = pager['faults'];
      const serve = faults.serve.bind(faults);
      let words = 0;
      pager['digestAddressEvents'] = (count) => void (words = count);
      faults.serve = () => {
        serve();
        if (words > 0) address(words);
        words = 0;
      };
    },
  },
  {
    name: 'brings removed pages back from the store',
    change: calling({ dontneed: 200 }, { limit: 12, frames: 16 }),
    breakRule: (pager) => {
      const family = pager['family'];
      const removal = pager['spaces']['events']['removal'];
      const empty = removal.empty.bind(removal);
      removal.empty = (page) => {
        if (family.pages.state[page] !== State.stored) empty(page);
      };
    },
  },
  {
    name: 'takes a page that is mapped after its removal for resident',
    change: calling({ dontneed: 200, free: 200 }, { limit: 12 }),
    breakRule: (pager) => {
      const events = pager['spaces']['events'];
      const mappingScan = pager['spaces']['mappingScan'];
      events['recheckRegion'] = (region) => mappingScan['learn'](region);
    },
  },
  {
    name: 'maps what it reads whatever its hash',
    change: (config) => ({ ...config, corruptRead: 0.3, prefetch: 'none' }),
    breakRule: (pager) => {
      const { slots } = pager['family'];
      const { fetcher } = pager['faults'];
      const readOne = fetcher['readOne'].bind(fetcher);
      fetcher['readOne'] = (...given) =>
        during(
          slots,
          'matches',
          () => true,
          () => readOne(...given),
        );
    },
  },
  {
    name: 'takes every page that comes back for unchanged',
    change: (config) => ({ ...config, limit: 12 }),
    breakRule: (pager) => {
      const family = pager['family'];
      const writeBack = pager['writeBack'];
      const keep = writeBack.keep.bind(writeBack);
      writeBack.keep = (page, frame) =>
        during(
          family.slots,
          'matches',
          () => true,
          () => keep(page, frame),
        );
    },
  },
  {
    name: 'lists a frame as clean before its write completes',
    change: (config) => ({ ...config, limit: 12, frames: 12, syncStore: false, storeDelay: 50 }),
    breakRule: (pager) => {
      const family = pager['family'];
      const writeBack = pager['writeBack'];
      const begin = writeBack['begin'].bind(writeBack);
      writeBack['begin'] = (most) => {
        const count = begin(most);
        for (let i = 0; i < count; i++) {
          const frame = frameIndex(writeBack['batch'][i]);
          if (family.frames.pageOf(frame) !== NONE) family.evicted.add(frame);
        }
        return count;
      };
    },
  },
  {
    name: 'calls a slot valid though a write to it failed',
    change: (config) => ({ ...config, limit: 12, writeError: 0.3, corruptRead: 0, slotsPerChunk: 0 }),
    breakRule: (pager) => {
      const writeBack = pager['writeBack'];
      const writtenOne = writeBack['writtenOne'].bind(writeBack);
      writeBack['writtenOne'] = (slot, frame, _errno, place) => writtenOne(slot, frame, Errno.ok, place);
    },
  },
  {
    name: 'does not count the slots that a child shares',
    change: calling({ fork: 200 }, { limit: 24 }),
    breakRule: (pager) => {
      const { slots } = pager['family'];
      const fork = pager['spaces']['fork'];
      const inherit = fork['inheritPage'].bind(fork);
      fork['inheritPage'] = (from, to) =>
        during(
          slots,
          'share',
          () => true,
          () => inherit(from, to),
        );
    },
  },
  {
    name: 'gives a slot free while an abandoned read of it is in flight',
    change: calling({ dontneed: 200 }, { limit: 12, frames: 24, syncStore: false, storeDelay: 50 }),
    breakRule: (pager) => {
      const { frames } = pager['family'];
      const writeBack = pager['writeBack'];
      const { fetcher } = pager['faults'];
      const orphan = fetcher.orphan.bind(fetcher);
      const readOne = fetcher['readOne'].bind(fetcher);
      fetcher.orphan = (page, frame) => {
        writeBack.release(frames.slotOf(frame));
        orphan(page, frame);
      };
      fetcher['readOne'] = (slot, frame, errno, place) => {
        if (frames.pageOf(frame) === NONE) frames.release(frame);
        else readOne(slot, frame, errno, place);
      };
    },
  },
  {
    name: 'leaves a thread waiting whose read was abandoned',
    change: calling({ dontneed: 200 }, { limit: 12, frames: 24, syncStore: false, storeDelay: 50, threads: 4 }),
    breakRule: (pager) => {
      const { fetcher } = pager['faults'];
      const orphan = fetcher.orphan.bind(fetcher);
      const silent = fetcher as unknown as { arrived: () => void };
      fetcher.orphan = (page, frame) =>
        during(
          silent,
          'arrived',
          () => {},
          () => orphan(page, frame),
        );
    },
  },
  {
    name: 'discards refused pages although memory is pinned',
    change: calling({ pin: 300 }, { useMove: true, limit: 12, look: 0.1, busy: 0 }),
    breakRule: (pager) => {
      const evictor = pager['evictor'];
      Object.defineProperty(evictor, 'discardRefused', { get: () => true, set: () => {} });
    },
  },
  {
    name: 'keeps the old copies of a slot that gets new bytes',
    change: (config) => ({ ...config, limit: 12, frames: 12, corruptRead: 0, damage: 0 }),
    breakRule: (pager) => {
      const { slots, chunks } = pager['family'];
      const becomePending = slots.becomePending.bind(slots);
      slots.becomePending = (slot, source) =>
        during(
          chunks,
          'forget',
          () => {},
          () => becomePending(slot, source),
        );
    },
  },
  {
    name: 'does not keep the limit',
    change: (config) => ({ ...config, limit: 12, look: 0.1, writeError: 0, writeOutage: 0, pace: 1 }),
    breakRule: (pager) => {
      pager['evictor'].run = () => {};
      Object.defineProperty(pager['family'].limit, 'admits', { get: () => true });
    },
  },
];
