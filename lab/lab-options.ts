/** The command line of leap-lab. */
import type { Argv } from 'yargs';
import { openCommandLine } from '../src/cli/command-line.js';
import { ExitCode, exitCodeTable, Refusal } from '../src/cli/exit-codes.js';
import { parseSize } from '../src/cli/size.js';
import {
  DEFAULT_HISTORY,
  DEFAULT_WINDOW_MAX,
  isPrefetcherName,
  PREFETCHERS,
  type PrefetcherName,
} from '../src/policy/prefetch/index.js';
import { DEFAULT_PREFETCH_BUFFER } from '../src/tables/prefetch-buffer.js';
import { PATTERN_DEFAULTS, PATTERNS, type PatternName, type PatternOptions } from './patterns.js';
import { type StoreModel, STORES } from './store-model.js';

export interface ReplayCommand {
  readonly command: 'replay';
  readonly traces: readonly string[];
  readonly policies: readonly PrefetcherName[];
  readonly local: readonly number[];
  readonly buffer: number;
  readonly store: StoreModel;
  readonly history: number;
  readonly windowMax: number;
  readonly output: 'table' | 'json' | 'csv';
  readonly html: string | undefined;
}

export interface GenerateCommand {
  readonly command: 'generate';
  readonly pattern: PatternName;
  readonly options: PatternOptions;
  readonly out: string;
}

/** Our own policy goes by this name too. */
const ALIASES: Readonly<Record<string, PrefetcherName>> = { ours: 'streams' };
const MOST_PAGES = 2 ** 24;
const MOST_TOUCHES = 2 ** 25;

const wrong = (problem: string): never => {
  throw new Refusal(ExitCode.usage, problem, 'see leap-lab --help');
};

function policyNamed(name: string): PrefetcherName {
  const policy = ALIASES[name] ?? name;
  return isPrefetcherName(policy)
    ? policy
    : wrong(`--policies: there is no policy "${name}"; there are ${PREFETCHERS.join(', ')}`);
}

function shareOf(text: string): number {
  const size = parseSize(text);
  if (size?.kind !== 'percent' || size.percent <= 0 || size.percent > 100)
    return wrong(`--local: "${text}" is not a share such as 25%`);
  return size.percent / 100;
}

function storeNamed(text: string): StoreModel {
  const known = Object.hasOwn(STORES, text) ? STORES[text] : undefined;
  if (known !== undefined) return known;
  const [, latency, bandwidth] = /^custom:(\d+(?:\.\d+)?)(?:us)?,(\d+(?:\.\d+)?)(?:MB(?:\/s)?)?$/.exec(text) ?? [];
  if (latency === undefined || Number(bandwidth) === 0)
    return wrong(`--store: "${text}" is not one of ${Object.keys(STORES).join(', ')}, custom:25us,2000MB`);
  return { name: text, latencyNs: Number(latency) * 1000, bytesPerNs: Number(bandwidth) / 1000, requestNs: 0 };
}

function integer(name: string, text: string, least: number, most: number): number {
  if (!/^\d+$/.test(text) || Number(text) < least || Number(text) > most)
    return wrong(`--${name}: "${text}" is not a whole number from ${least} to ${most}`);
  return Number(text);
}

function share(name: string, text: string): number {
  const value = Number(text);
  return text !== '' && value >= 0 && value <= 1 ? value : wrong(`--${name}: "${text}" is not a share from 0 to 1`);
}

const listed = (text: string): string[] => text.split(',').filter((word) => word !== '');

function commandLine(args: readonly string[]): Argv {
  const program = {
    name: 'leap-lab',
    missing: 'a trace or a pattern is missing',
    epilogue: exitCodeTable(['ok', 'usage', 'internal']),
  };
  return openCommandLine(program, args, addCommands);
}

function addCommands(parser: Argv): Argv {
  const { pages, touches, streams, stride, noise, writes, computeNs, seed } = PATTERN_DEFAULTS;
  const value = { type: 'string', requiresArg: true } as const;
  return parser
    .usage(
      'Usage: $0 <command> [options]\n\nReplays traces of page faults through the modules that leapd runs, under each prefetch policy.',
    )
    .command('replay <traces..>', 'replay traces (files, or gen:PATTERN) and compare the policies', (command) =>
      command
        .positional('traces', {
          type: 'string',
          array: true,
          demandOption: true,
          describe: 'files of leapctl record or leap-lab generate; gen:PATTERN for a synthetic one',
        })
        .option('policies', {
          ...value,
          default: PREFETCHERS.join(','),
          describe: 'policies to compare; ours is another name for streams',
        })
        .option('local', { ...value, default: '25%,50%', describe: 'shares of the touched pages that stay resident' })
        .option('buffer', {
          ...value,
          default: String(DEFAULT_PREFETCH_BUFFER),
          describe: 'prefetch buffer in pages; at most an eighth of the trace',
        })
        .option('store', {
          ...value,
          default: 'rdma',
          describe: `${Object.keys(STORES).join(', ')}, or custom:LATENCY,BANDWIDTH in us and MB/s: custom:25us,2000MB`,
        })
        .option('history', { ...value, default: String(DEFAULT_HISTORY), describe: 'as the option of leapd' })
        .option('window-max', { ...value, default: String(DEFAULT_WINDOW_MAX), describe: 'as the option of leapd' })
        .option('json', { type: 'boolean', describe: 'print one JSON object' })
        .option('csv', { type: 'boolean', describe: 'print comma-separated values' })
        .conflicts('json', 'csv')
        .option('html', { ...value, describe: 'also write an HTML page with curves to this file' }),
    )
    .command('generate <pattern>', `make a synthetic trace: ${PATTERNS.join(', ')}`, (command) =>
      command
        .positional('pattern', { type: 'string', demandOption: true, describe: PATTERNS.join(', ') })
        .option('out', { ...value, demandOption: true, describe: 'output file; compressed if its name ends in .gz' })
        .option('pages', { ...value, default: String(pages), describe: 'size of the region, in pages' })
        .option('touches', { ...value, default: String(touches), describe: 'number of accesses' })
        .option('streams', {
          ...value,
          default: String(streams),
          describe: 'streams of pattern interleaved, threads of pattern threads',
        })
        .option('stride', { ...value, default: String(stride), describe: 'distance between two accesses, in pages' })
        .option('noise', {
          ...value,
          default: String(noise),
          describe: 'share of the accesses that go to a random page instead',
        })
        .option('writes', { ...value, default: String(writes), describe: 'share of the accesses that write' })
        .option('compute', {
          ...value,
          default: String(computeNs),
          describe: 'time between two accesses of a thread, in ns',
        })
        .option('seed', { ...value, default: String(seed), describe: 'seed of the random numbers' }),
    )
    .example('$0 replay trace.leap --policies ours,leap,readahead', 'compare three policies on a recorded trace')
    .example('$0 replay gen:interleaved --html page.html', 'replay a synthetic trace and draw curves')
    .example('$0 generate interleaved --streams 8 --out eight.leap.gz', 'write a trace file')
    .demandCommand(1, 1, 'a command is missing', 'only one command at a time');
}

/** @returns undefined when help was asked for, and has been printed. @throws Refusal */
export async function parseLab(args: readonly string[]): Promise<ReplayCommand | GenerateCommand | undefined> {
  const argv = (await commandLine(args).parseAsync()) as Record<string, unknown>;
  if (argv['help'] === true) return undefined;
  for (const [name, given] of Object.entries(argv)) {
    if (Array.isArray(given) && name !== '_' && name !== 'traces') wrong(`--${name} is given more than once`);
  }
  const text = (name: string): string => String(argv[name]);
  return (argv['_'] as string[])[0] === 'replay' ? replayCommand(argv, text) : generateCommand(text);
}

function replayCommand(argv: Record<string, unknown>, text: (name: string) => string): ReplayCommand {
  const policies = [...new Set(listed(text('policies')).map(policyNamed))];
  const local = listed(text('local')).map(shareOf);
  if (policies.length === 0) wrong('--policies names no policy');
  if (local.length === 0) wrong('--local names no share');
  return {
    command: 'replay',
    traces: (argv['traces'] as string[]).map(String),
    policies,
    local,
    buffer: integer('buffer', text('buffer'), 16, 2 ** 20),
    store: storeNamed(text('store')),
    history: integer('history', text('history'), 4, 4096),
    windowMax: integer('window-max', text('window-max'), 1, 64),
    output: argv['json'] === true ? 'json' : argv['csv'] === true ? 'csv' : 'table',
    html: argv['html'] as string | undefined,
  };
}

export function patternNamed(name: string): PatternName {
  return (
    PATTERNS.find((pattern) => pattern === name) ??
    wrong(`there is no pattern "${name}"; there are ${PATTERNS.join(', ')}`)
  );
}

function generateCommand(text: (name: string) => string): GenerateCommand {
  const pages = integer('pages', text('pages'), 64, MOST_PAGES);
  return {
    command: 'generate',
    pattern: patternNamed(text('pattern')),
    out: text('out'),
    options: {
      pages,
      touches: integer('touches', text('touches'), 1, MOST_TOUCHES),
      streams: integer('streams', text('streams'), 1, Math.min(1024, pages >> 4)),
      stride: integer('stride', text('stride'), 1, pages >> 1),
      noise: share('noise', text('noise')),
      writes: share('writes', text('writes')),
      computeNs: integer('compute', text('compute'), 1, 1e9),
      seed: integer('seed', text('seed'), 0, 2 ** 31),
    },
  };
}
