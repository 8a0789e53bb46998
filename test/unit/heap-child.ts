/**
 * Prints the bytes allocated per fault, for each pattern. heap.test.ts runs it with --expose-gc and a young generation
 * so large that nothing is collected. Arguments: prefetcher, victim policy.
 */
import { Pager } from '../../src/pager/pager.js';
import { pagerOptions } from './pager-options.js';
import { PlainEngine } from './plain-engine.js';

const PAGES = 4090;
const FRAMES = 512;
const FAULTS = 100_000;

const patterns: Record<string, (n: number) => number> = {
  sequential: (n) => n % PAGES,
  stride: (n) => (n % 409) * 10 + (Math.floor(n / 409) % 10),
  random: (n) => (Math.imul(n ^ (n >>> 7), 0x9e3779b1) >>> 0) % PAGES,
};

for (const [name, touch] of Object.entries(patterns)) {
  const engine = new PlainEngine(PAGES, FRAMES, touch, (n) => n % 3 === 0);
  const pager = new Pager(
    engine,
    pagerOptions({
      localLimit: { share: 0.5 },
      frames: FRAMES,
      prefetchBuffer: 256,
      prefetch: process.argv[2] ?? 'leap',
      windowMax: 32,
      victims: process.argv[3] ?? 'returns',
    }),
  );
  pager.attach();
  const run = (faults: number): void => {
    const end = engine.faults + faults;
    for (let turns = 0; engine.faults < end; turns++) {
      if (turns > 200 * faults) throw new Error('no progress');
      pager.step(0);
    }
  };
  run(20_000); // until it is compiled, and the tables have their size
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  run(FAULTS);
  const grown = process.memoryUsage().heapUsed - before;
  pager.checkInvariants();
  console.log(JSON.stringify({ name, bytesPerFault: grown / FAULTS, touches: engine.touches, stats: pager.stats() }));
}
