/**
 * The command line of leapd: yargs reads it and prints the help; what a value means is decided here, before leapd acts.
 */
import type { Argv } from 'yargs';
import type { Copies } from '../src/core/types.js';
import { helpFor, openCommandLine } from '../src/cli/command-line.js';
import { ExitCode, exitCodeTable, Refusal } from '../src/cli/exit-codes.js';
import type { LogLevel } from '../src/cli/log-level.js';
import type { Size } from '../src/cli/size.js';
import type { PrefetcherName } from '../src/policy/prefetch/index.js';
import type { VictimPolicyName } from '../src/policy/victim/index.js';
import {
  groups,
  isName,
  isSwitch,
  parseValue,
  table,
  type EvictName,
  type Option,
  type OptionName,
  type Parsed,
  type Standard,
  type Value,
} from './leapd-option-table.js';

export interface LeapdOptions {
  readonly pid: number;
  readonly localMemory: Size;
  readonly swapFile: string;
  readonly allowPinned: boolean;
  readonly force: boolean;
  readonly prefetch: PrefetcherName;
  readonly history: number;
  readonly windowMax: number;
  readonly prefetchBuffer: number;
  readonly evict: EvictName;
  readonly victims: VictimPolicyName;
  readonly record: string | undefined;
  readonly recordMax: number;
  readonly control: string;
  readonly logLevel: LogLevel;
  /** Undefined without a portal. */
  readonly remote: RemoteOptions | undefined;
}

export interface RemoteOptions {
  /** A file's name, or rdma://... */
  readonly portal: string;
  readonly on: boolean;
  readonly copies: Copies;
  readonly tokenFile: string | undefined;
  /** Bytes; undefined: whatever the donors have. */
  readonly chunkBytes: number | undefined;
  readonly ahead: boolean;
  readonly activity: { readonly periodMs: number; readonly writeWeight: number; readonly readWeight: number };
  readonly threshold: number;
  readonly legacy: boolean;
}

const wrong = (problem: string, remedy = 'see leapd --help'): never => {
  throw new Refusal(ExitCode.usage, problem, remedy);
};

function commandLine(args: readonly string[]): Argv {
  const program = { name: 'leapd', epilogue: exitCodeTable(), helpGroup: 'Control and logging:' };
  return openCommandLine(program, args, addOptions);
}

function addOptions(parser: Argv): Argv {
  parser
    .usage('Usage: $0 --pid PID [options]\n')
    .usage(
      'Pages a running, unmodified process: memory beyond --local-memory is stored on donors, over RDMA, or in a swap file. Ctrl-C puts it all back.',
    );
  for (const { title, names, example } of groups) {
    for (const name of names) addOption(parser, name, title);
    parser.example(example[0].replace('leapd', '$0'), example[1]);
  }
  return parser;
}

function addOption(parser: Argv, name: OptionName, group: string): void {
  const { help, standard }: Option<unknown> = table[name];
  const base = { describe: help, group };
  if (isSwitch(name)) parser.option(name, { ...base, type: 'boolean' });
  else parser.option(name, { ...base, requiresArg: true, ...(standard && { defaultDescription: standard }) });
}

/** The text of --help; undefined when the command line does not ask for it. */
export const helpText = (args: readonly string[]): Promise<string> | undefined => helpFor(args, () => commandLine([]));

/** @throws Refusal: an option is unknown, wrong, missing, given twice, or contradicts another. */
export function parseOptions(args: readonly string[]): LeapdOptions {
  const argv = commandLine(args).parseSync() as Record<string, unknown>;
  const parsed: { [name: string]: unknown } = {};
  for (const [name, raw] of Object.entries(argv)) {
    if (!isName(name) || raw === undefined) continue;
    if (Array.isArray(raw)) wrong(`--${name} is given ${raw.length} times`, 'give it once');
    if (isSwitch(name) && raw !== true) wrong(`--${name} takes no value`, 'give it alone, or leave it out');
    if (raw === '') wrong(`--${name} needs a value`);
    parsed[name] = parseValue(name, String(raw));
  }
  return settle(parsed as Parsed);
}

const looksForTrends = (prefetch: PrefetcherName): boolean => ['streams', 'leap', 'leap-kernel'].includes(prefetch);

/** Contradictions between options, and the values of those not given. */
function settle(given: Parsed): LeapdOptions {
  const pid = given.pid ?? wrong('--pid is missing');
  const value = <Name extends Standard>(name: Name): Value<Name> =>
    (given[name] as Value<Name> | undefined) ?? parseValue(name, table[name].standard.replace('PID', String(pid)));
  const prefetch = value('prefetch');
  if (given['window-max'] !== undefined && prefetch === 'none')
    wrong('--window-max has no effect with --prefetch none');
  if (given.history !== undefined && !looksForTrends(prefetch))
    wrong(`--history has no effect with --prefetch ${prefetch}, which looks for no trends`);
  return {
    pid,
    prefetch,
    localMemory: value('local-memory'),
    swapFile: value('swap-file'),
    allowPinned: given['allow-pinned'] ?? false,
    force: given.force ?? false,
    history: value('history'),
    windowMax: value('window-max'),
    prefetchBuffer: value('prefetch-buffer'),
    evict: value('evict'),
    victims: value('victims'),
    record: given.record,
    recordMax: value('record-max'),
    control: value('control'),
    logLevel: value('log-level'),
    remote: remoteOf(given, value),
  };
}

const remoteNames = [
  'rdma',
  'copies',
  'token-file',
  'chunk',
  'map-chunks',
  'activity-period',
  'activity-weights',
  'activity-threshold',
  'legacy',
] as const;

function remoteOf(given: Parsed, value: <Name extends Standard>(name: Name) => Value<Name>): RemoteOptions | undefined {
  const { portal } = given;
  if (portal === undefined) {
    const alone = remoteNames.find((name) => given[name] !== undefined);
    if (alone !== undefined) wrong(`--${alone} has no effect without --portal`);
    return undefined;
  }
  const { writes, reads } = value('activity-weights');
  if (given.legacy && given['token-file'] !== undefined)
    wrong('--legacy admits donors that cannot prove the token: leave out one of --legacy and --token-file');
  return {
    portal,
    on: value('rdma') === 'on',
    copies: value('copies'),
    tokenFile: given['token-file'],
    chunkBytes: given.chunk,
    ahead: value('map-chunks') === 'ahead',
    activity: { periodMs: value('activity-period'), writeWeight: writes, readWeight: reads },
    threshold: value('activity-threshold'),
    legacy: given.legacy ?? false,
  };
}
