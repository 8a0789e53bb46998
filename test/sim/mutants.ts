/**
 * Mutants of the seam: a good pager with a proxy before its engine, which changes commands or events on their way. The
 * simulator must catch each of them. `pager-mutants.ts` has the mutants of the pager's own rules.
 */
import type { Engine } from '../../src/core/engine.js';
import { Command, COMMAND_WORDS, Errno, Event, EVENT_WORDS, HASH_WORDS } from '../../src/core/layout.js';
import type { Config } from './config.js';
import type { World } from './world.js';

export interface Mutant {
  readonly name: string;
  /** Makes the situation likely. */
  readonly change?: (config: Config) => Config;
  /** Changes a command in place. */
  readonly command?: (commands: Int32Array, at: number, engine: Engine, world: World) => void;
  /** Changes an event in place. @returns false when the pager is not to see it */
  readonly event?: (events: Int32Array, at: number, engine: Engine, world: World) => boolean;
}

const NEVER_SEEN = -1;
const busy = (config: Config): Config => ({ ...config, callRate: 0.1 });
const weigh =
  (calls: Partial<Config['weights']>) =>
  (config: Config): Config => ({ ...busy(config), weights: { ...config.weights, ...calls } });
const ignores = (name: string, type: number, calls: Partial<Config['weights']>): Mutant => ({
  name,
  change: weigh(calls),
  event: (events, at) => events[at] !== type,
});
/** Tells the pager that something went well which did not. */
const believes = (
  name: string,
  type: number,
  errno: number,
  word: number,
  change: (config: Config) => Config,
): Mutant => ({
  name,
  change,
  event: (events, at) => {
    if (events[at] === type && events[at + word] === errno) events[at + word] = 0;
    return true;
  },
});
const remote = (config: Config): Config => ({
  ...config,
  slotsPerChunk: 32,
  copies: 2,
  donors: 3,
  donorRate: 0.05,
  storeDelay: 50,
  syncStore: false,
  damage: 0,
});
/** The hashes that went out, by slot: put in place of those that come back. */
const sent = new WeakMap<Engine, Map<number, Int32Array>>();

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'loses a fault now and then',
    change: (config) => ({ ...config, pace: 1, interrupt: 0 }),
    event: (events, at, _engine, world) => events[at] !== Event.fault || !world.random.chance(0.02),
  },
  {
    name: 'never lifts a write protection',
    change: (config) => ({ ...config, useMove: false, busy: 0.3, crowding: 1 }),
    command: (commands, at) => {
      if (commands[at] === Command.unprotect) commands[at] = Command.zero; // finds the page there
    },
  },
  {
    name: 'maps another frame now and then',
    command: (commands, at, _engine, world) => {
      if (commands[at] === Command.map && commands[at + 2] > 0 && world.random.chance(0.05)) commands[at + 2]--;
    },
  },
  ignores('ignores madvise', Event.remove, { dontneed: 200 }),
  ignores('ignores munmap', Event.unmap, { munmap: 200, grow: 200, move: 200 }),
  ignores('ignores mremap', Event.remap, { move: 200 }),
  ignores('ignores fork', Event.fork, { fork: 200 }),
  believes('takes a failed write for done', Event.writeDone, Errno.EIO, 4, (config) => ({
    ...config,
    writeError: 0.3,
    corruptRead: 0,
  })),
  believes('takes a failed read for done', Event.readDone, Errno.EIO, 4, (config) => ({ ...config, readError: 0.3 })),
  believes('takes a write to a lost replica for done', Event.writeDone, Errno.ECANCELED, 4, remote),
  believes('takes a refused eviction for done', Event.evicted, Errno.EBUSY, 4, (config) => ({
    ...config,
    useMove: true,
    busy: 0.3,
  })),
  believes('takes a discard that an event made void for done', Event.evicted, Errno.EAGAIN, 4, (config) => ({
    ...weigh({ dontneed: 200 })(config),
    useMove: false,
    limit: 12,
  })),
  {
    name: 'takes a map that was put off for done',
    change: (config) => ({ ...config, eagain: 0.2 }),
    event: (events, at) => {
      if (events[at] === Event.mapped && events[at + 4] === Errno.EAGAIN) {
        events[at + 3] = events[at + 5];
        events[at + 4] = 0;
      }
      return true;
    },
  },
  {
    name: 'does not check what it reads',
    change: (config) => ({ ...config, corruptRead: 0.3, prefetch: 'none' }),
    command: (commands, at, engine) => {
      if (commands[at] !== Command.write) return;
      const hashes = sent.get(engine) ?? new Map<number, Int32Array>();
      sent.set(engine, hashes);
      for (let i = 0; i < commands[at + 3]; i++) {
        const frame = commands[at + 2] + i;
        hashes.set(commands[at + 1] + i, engine.frameHashes.slice(frame * HASH_WORDS, (frame + 1) * HASH_WORDS));
      }
    },
    event: (events, at, engine) => {
      if (events[at] !== Event.readDone || events[at + 4] !== 0) return true;
      for (let i = 0; i < events[at + 3]; i++) {
        const hash = sent.get(engine)?.get(events[at + 1] + i);
        if (hash !== undefined) engine.frameHashes.set(hash, (events[at + 2] + i) * HASH_WORDS);
      }
      return true;
    },
  },
];

/** An engine whose turn goes through the mutant; all else is the engine's own. */
export function mutate(engine: Engine, world: World, mutant: Mutant): Engine {
  const turn = (words: number, waitNs: number): number => {
    for (let at = 0; at < words; at += COMMAND_WORDS) mutant.command?.(engine.commands, at, engine, world);
    const told = engine.turn(words, waitNs);
    for (let at = 0; at < told; at += EVENT_WORDS) {
      if (mutant.event !== undefined && !mutant.event(engine.events, at, engine, world)) engine.events[at] = NEVER_SEEN;
    }
    return told;
  };
  return new Proxy(engine, {
    get: (target, name) => {
      if (name === 'turn') return turn;
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
