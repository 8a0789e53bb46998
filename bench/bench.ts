/**
 * npm run bench [-- --tiny] [--json OUT]: what leapd costs and gains, measured side by side with the kernel's own swap
 * and with plain C, in one run. Met or not met, every figure is printed; where something cannot run on this machine,
 * the reason is.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, resolve } from 'node:path';
import yargs from 'yargs';
import { floor } from './floor.js';
import { describeMachine, inWords } from './machine.js';
import { overheads } from './overheads.js';
import { paging } from './paging.js';
import { draw } from './rows.js';
import { streams } from './streams.js';
import { UndoStack } from '../src/host/undo-stack.js';

const MINUTE_MS = 60_000;

const full = {
  floorPages: 30_000,
  floorRounds: 5,
  pagingMib: 512,
  pagingRounds: 3,
  pagingBudgetMs: 12 * MINUTE_MS,
  streamsMib: 512,
  overheadMib: 256,
  overheadRounds: 3,
  calmMs: 3_000,
  idleMs: 5_000,
  recordTurns: 6,
  prefetchBuffer: 8000, // leapd's standard
};
/** Small enough for a test suite; the figures mean nothing, the rows are all there. */
const tiny: typeof full = {
  floorPages: 3_000,
  floorRounds: 1,
  pagingMib: 32,
  pagingRounds: 1,
  pagingBudgetMs: MINUTE_MS,
  streamsMib: 8,
  overheadMib: 16,
  overheadRounds: 1,
  calmMs: 200,
  idleMs: 500,
  recordTurns: 2,
  prefetchBuffer: 128,
};

const sections = ['floor', 'paging', 'costs', 'streams'] as const;

const options = yargs(process.argv.slice(2))
  .scriptName('npm run bench --')
  .usage(
    "Usage: $0 [options]\n\nMeasures leapd beside plain C and the kernel's swap, on a swap file and a zram that it makes and removes. Needs root.",
  )
  .option('tiny', { type: 'boolean', default: false, describe: 'everything once and small, to see that it runs' })
  .option('json', { type: 'string', requiresArg: true, describe: 'also write the figures to this file' })
  .option('dir', {
    type: 'string',
    requiresArg: true,
    default: tmpdir(),
    describe: 'directory for the swap files',
  })
  .option('only', {
    choices: sections,
    describe: 'one section only; streams (the prefetchers on four streams at once) runs only with this option',
  })
  .option('rounds', {
    type: 'number',
    requiresArg: true,
    describe: 'number of rounds; the table shows medians',
  })
  .version(false)
  .strict()
  .parseSync();

const scale = options.tiny ? tiny : full;
const rounds = (standard: number): number => Math.max(1, Math.floor(options.rounds ?? standard));
const wants = (section: (typeof sections)[number]): boolean => options.only === undefined || options.only === section;
const say = (what: string): void => void process.stderr.write(`${what}\n`);
const dir = resolve(options.dir);
const { prefetchBuffer } = scale;

const undo = new UndoStack();
undo.onSignals();
const machine = describeMachine(dir);
say(inWords(machine));

const floorRows = wants('floor')
  ? await floor(undo, { pages: scale.floorPages, rounds: rounds(scale.floorRounds) }, say)
  : [];
const costs = wants('costs')
  ? await overheads(undo, { ...scale, mib: scale.overheadMib, rounds: rounds(scale.overheadRounds) }, say)
  : [];
const plan = {
  mib: scale.pagingMib,
  rounds: rounds(scale.pagingRounds),
  budgetMs: scale.pagingBudgetMs,
  prefetchBuffer,
  dir,
};
const paged = wants('paging') ? await paging(undo, plan, say) : { rows: [], records: [] };

// Only when asked for: it is about the prefetchers among each other.
const several = options.only === 'streams' ? await streams(undo, { ...plan, mib: scale.streamsMib }, say) : [];

const rows = [...floorRows, ...paged.rows, ...costs, ...several];
process.stdout.write(`${inWords(machine)}\n\n${draw(rows)}\n`);
const judged = rows.filter((entry) => entry.leap?.met !== undefined);
const met = judged.filter((entry) => entry.leap?.met === true).length;
const partial = rows.filter((entry) => entry.reason !== undefined).length;
process.stdout.write(`\n${met} of ${judged.length} goals met; ${partial} rows could not be measured in full\n`);
if (options.json !== undefined) {
  mkdirSync(dirname(resolve(options.json)), { recursive: true });
  writeFileSync(
    options.json,
    `${JSON.stringify({ machine, tiny: options.tiny, scale, rows, paging: paged.records }, null, 1)}\n`,
  );
}
