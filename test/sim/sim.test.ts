/** The pager on the simulated kernel and store: a million steps, the same trace for the same seed, mutants. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MUTANTS, mutate } from './mutants.js';
import { PAGER_MUTANTS } from './pager-mutants.js';
import { type RunOptions, runSeed } from './run.js';
import { SimFailure } from './world.js';

const RUNS = 220;
const STEPS = 6000;
/** Situations that the million steps must reach; without them the test proves nothing. */
const WANTED = [
  'map:ok',
  'map:EAGAIN',
  'map:ENOENT',
  'map:ESRCH',
  'partial map',
  'zero:ok',
  'zero:EAGAIN',
  'zero:EEXIST',
  'wake:ok',
  'unprotect:ok',
  'unprotect:EAGAIN',
  'poison:ok',
  'moveOut:ok',
  'moveOut:EBUSY',
  'moveOut:EINVAL',
  'moveOut:ENOENT',
  'moveOut:EAGAIN',
  'needed page taken',
  'discard:ok',
  'discard:EINVAL',
  'discard:ENOENT',
  'discard:EAGAIN',
  'read:ok',
  'read:EIO',
  'write:ok',
  'write:EIO',
  'write:ENOSPC',
  'store:corrupt read',
  'store:read outage',
  'store:damaged',
  'sigbus',
  'fault:read',
  'fault:write',
  'fault:wp',
  'fault:interrupted',
  'event:faultUnknown',
  'event:remove',
  'event:unmap',
  'event:remap',
  'event:fork',
  'event:targetExit',
  'event:helperLost',
  'event read during a discard',
  'call:madvise dontneed',
  'call:madvise free',
  'call:munmap',
  'call:mmap',
  'call:mmap fixed',
  'call:brk',
  'call:mprotect',
  'call:fork',
  'call:madvise wipeonfork',
  'call:madvise dontfork',
  'call:child exits',
  'call:mremap moves',
  'call:mremap moves and grows',
  'call:mremap moves over another',
  'call:mremap moves and leaves the old',
  'call:mremap shrinks',
  'call:registered mapping grows in place',
  'call:pin',
  'touch of a page that is about to be dropped',
  'lazily freed page vanishes',
  'register:ok',
  'register:EBUSY',
  'register:ENOMEM',
  'adopt:ok',
  'adopt:refused',
  'drop',
  'remote read:0',
  'remote read:5',
  'remote write:0',
  'remote write:5',
  'remote write:125',
  'store:corrupt remote read',
  'donor:gives',
  'donor:wants back',
  'donor:gets it back',
  'donor:dies',
  'control:limit',
  'control:prefetch',
  'wild plans',
  'control:buffer',
  'end:detach',
  'end:exit',
  'exit with faults open',
];

test('a million steps of threads, calls, errors and limits, against the oracle', () => {
  const coverage = new Map<string, number>();
  const started = performance.now();
  let steps = 0;
  for (let seed = 1; seed <= RUNS; seed++) {
    const result = runSeed(seed, STEPS);
    steps += result.steps;
    for (const [what, times] of result.coverage) coverage.set(what, (coverage.get(what) ?? 0) + times);
  }
  const seconds = (performance.now() - started) / 1000;
  const lines = [...coverage].sort().map(([what, times]) => `${what} ${times}`);
  console.log(`${steps} steps in ${RUNS} runs, ${Math.round(steps / seconds)} steps/s\n${lines.join(', ')}`);
  assert.ok(steps >= 1_000_000, `${steps} steps`);
  assert.deepEqual(
    WANTED.filter((what) => !coverage.has(what)),
    [],
    'never happened',
  );
});

test('the same seed gives the same trace, another seed another', () => {
  const hashes = [7, 7, 8].map((seed) => runSeed(seed, 5000).traceHash);
  assert.equal(hashes[0], hashes[1]);
  assert.notEqual(hashes[0], hashes[2]);
});

/** Seeds within which each mutant must be caught. */
const SEEDS = 60;

function mustBeCaught(options: RunOptions): void {
  let found: SimFailure | undefined;
  for (let seed = 1; seed <= SEEDS && found === undefined; seed++) {
    try {
      runSeed(seed, 5000, options);
    } catch (error) {
      if (!(error instanceof SimFailure)) throw error;
      found = error;
    }
  }
  assert.ok(found, `not found in ${SEEDS} runs`);
  assert.match(found.message, /npm run sim -- --seed \d+ --steps \d+/);
}

for (const mutant of MUTANTS) {
  const { name, change } = mutant;
  test(`finds a pager that ${name}`, () =>
    mustBeCaught({ wrap: (engine, world) => mutate(engine, world, mutant), ...(change && { change }) }));
}

for (const { name, change, breakRule } of PAGER_MUTANTS) {
  test(`finds a pager that ${name}`, () => mustBeCaught({ change, breakRule }));
}
