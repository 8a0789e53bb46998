/**
 * The pager under bench/floor.c's target, with its placement forced: leapd's engine and pager and nothing around them.
 *
 * usage: floor-leap same|other CPU PID PAGES SWAPFILE
 *
 * It takes the target's pages into frames, says READY, and serves the target's touches from those frames until the
 * target ends. Nothing is prefetched or evicted meanwhile, so that every touch is one fault, one turn, one copy.
 */
import { writeSync } from 'node:fs';
import { NativeEngine } from '../src/host/native-engine.js';
import { framesFor, PLAIN } from '../src/core/pager-options.js';
import { Pager } from '../src/pager/pager.js';

const TURN_NS = 250e6;
const TICK_NS = 250e6; // as leapd's own worker
const SPIN_NS = 100_000;
const LEAST_LOCAL_PAGES = 16;
const NO_LIMIT = 2 ** 30;
const TAKE_AWAY_TURNS = 100_000;

const [placement = '', cpu = '', pid = '', pages = '', swapFile = ''] = process.argv.slice(2);
const frames = framesFor(Number(pages), { share: 1 });
const engine = NativeEngine.attach({ pid: Number(pid), frames, swapFile });
engine.place(Number(cpu));
engine.setSpin(placement === 'other' ? SPIN_NS : 0);
const pager = new Pager(engine, { ...PLAIN, localLimit: { pages: LEAST_LOCAL_PAGES }, frames, prefetchBuffer: 0 });
pager.attach();

let turns = 0;
let stats = pager.stats();
for (
  ;
  turns < TAKE_AWAY_TURNS && (stats.residentPages > LEAST_LOCAL_PAGES || stats.swapWrites < stats.evictions);
  turns++
) {
  pager.step(0);
  stats = pager.stats();
}
if (turns === TAKE_AWAY_TURNS) throw new Error(`${stats.residentPages} pages are still resident after ${turns} turns`);
pager.setLocalLimit(NO_LIMIT);
writeSync(1, 'READY\n');

let nextTick = 0;
while (pager.step(TURN_NS)) {
  const now = engine.clock[0] ?? 0;
  if (now >= nextTick) {
    nextTick = now + TICK_NS;
    pager.tick();
  }
}
