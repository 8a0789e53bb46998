/** npm run sim -- --seeds N [--steps N] [--seed S]: the simulator by hand. One seed replays one run. */
import yargs from 'yargs';
import { runSeed } from './run.js';
import { SimFailure } from './world.js';

const STEPS = 20_000;

const { seeds, steps, seed, verbose } = await yargs(process.argv.slice(2))
  .scriptName('npm run sim --')
  .option('seeds', { type: 'number', default: 100, describe: 'number of runs, each with its own seed' })
  .option('steps', { type: 'number', default: STEPS, describe: 'simulated steps per run' })
  .option('seed', { type: 'number', describe: 'the only seed to run; with --seeds the first one' })
  .option('verbose', { type: 'boolean', default: false, describe: 'count what happened' })
  .strict()
  .parseAsync();

const first = seed ?? 1;
const count = seed === undefined || process.argv.includes('--seeds') ? seeds : 1;
const started = performance.now();
const coverage = new Map<string, number>();
let done = 0;
let failed = 0;
let firstFailure: SimFailure | undefined;
for (let at = first; at < first + count; at++) {
  try {
    const result = runSeed(at, steps);
    done += result.steps;
    for (const [what, times] of result.coverage) coverage.set(what, (coverage.get(what) ?? 0) + times);
    if (count === 1)
      console.log(`seed ${at}: ${result.steps} steps in ${result.turns} turns, trace ${result.traceHash.toString(16)}`);
  } catch (error) {
    if (!(error instanceof SimFailure)) throw error;
    failed++;
    done += error.step;
    firstFailure ??= error;
    if (count > 1) console.log(`seed ${at} failed at step ${error.step}: ${error.what.split('\n')[0]}`);
  }
}
const seconds = (performance.now() - started) / 1000;
if (verbose) for (const [what, times] of [...coverage].sort()) console.log(`${String(times).padStart(9)}  ${what}`);
if (firstFailure !== undefined) console.error(firstFailure.message);
console.log(`${count} runs, ${failed} failed, ${done} steps, ${Math.round(done / seconds)} steps/s`);
process.exitCode = failed === 0 ? 0 : 1;
