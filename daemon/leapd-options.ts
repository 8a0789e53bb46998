/**
 * The options of leapd as one typed table: groups of options, each with its parser, its help and an example for the group. yargs reads the
 * command line and prints the help; what a value means is decided here, before anything is touched. `leapctl set` uses the same parsers.
 */
import yargs from 'yargs';
import type { Copies } from '../src/tables/chunks.js';
import { BATCH_PAGES } from '../src/core/layout.js';
import { DEFAULT_ACTIVITY } from '../src/donors/activity.js';
import {
  DEFAULT_HISTORY,
  DEFAULT_PREFETCHER,
  DEFAULT_WINDOW_MAX,
  PREFETCHERS,
  type PrefetcherName,
} from '../src/policy/prefetch/index.js';
import { DEFAULT_PREFETCH_BUFFER } from '../src/tables/prefetch-buffer.js';
import { DEFAULT_VICTIM_POLICY, VICTIM_POLICIES, type VictimPolicyName } from '../src/policy/victim/index.js';
import { ExitCode, exitCodeTable, Refusal } from '../src/cli/exit-codes.js';
import { parseSize, type Size } from '../src/cli/size.js';

const evictNames = ['auto', 'move', 'discard', 'discard-single'] as const;
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;

export type EvictName = (typeof evictNames)[number];
export type LogLevel = (typeof logLevels)[number];

interface Option<T> {
  /** A switch stands alone; every other option has a value. */
  readonly switch?: true;
  readonly help: string;
  /** What counts when the option is not given, as it would be typed; PID stands for the target's number. */
  readonly standard?: string;
  /** Refuses with what is wrong; `parseValue` puts the option's name before it. */
  readonly parse: (text: string) => T;
}

interface Group {
  readonly title: string;
  readonly example: readonly [command: string, what: string];
  readonly names: readonly OptionName[];
}

const wrong = (what: string): never => {
  throw new Refusal(ExitCode.usage, what, 'see leapd --help');
};

const oneOf =
  <T extends string>(choices: readonly T[]) =>
  (text: string): T =>
    choices.find((choice) => choice === text) ?? wrong(`"${text}" is not one of ${choices.join(', ')}`);

const integer =
  (least: number, most: number) =>
  (text: string): number => {
    if (!/^-?\d+$/.test(text)) return wrong(`"${text}" is not a whole number`);
    const value = Number(text);
    return value >= least && value <= most ? value : wrong(`${text} is not between ${least} and ${most}`);
  };

const size = (text: string): Size => {
  const parsed = parseSize(text) ?? wrong(`"${text}" is not an amount of memory such as 512M, 2G or 50%`);
  if (parsed.kind === 'percent' && parsed.percent > 100) return wrong(`${text} is more than the whole process (100%)`);
  if ((parsed.kind === 'percent' ? parsed.percent : parsed.bytes) === 0)
    return wrong('0 leaves the process no memory to run in');
  return parsed;
};

const copies = (text: string): Copies =>
  ([1, 2, 3] as const).find((n) => String(n) === text) ?? wrong(`"${text}" is not one of 1, 2, 3`);

/** In bytes. */
const chunkSize = (text: string): number => {
  const { bytes } = ((parsed) =>
    parsed.kind === 'bytes' ? parsed : wrong(`${text} is not an amount of memory such as 64M or 1G`))(size(text));
  return Number.isInteger(Math.log2(bytes)) && bytes >= 4096 ? bytes : wrong(`${text} is not a power of two`);
};

/** WRITES/READS, percent. */
const weights = (text: string): { readonly writes: number; readonly reads: number } => {
  const [, writes, reads] = /^(\d{1,3})\/(\d{1,3})$/.exec(text) ?? [];
  if (writes === undefined || Number(writes) > 100 || Number(reads) > 100)
    return wrong(`"${text}" is not two percentages such as 50/50`);
  return { writes: Number(writes), reads: Number(reads) };
};

const bytes = (text: string): number => {
  const parsed = parseSize(text);
  return parsed?.kind === 'bytes' && parsed.bytes >= LEAST_RECORD_BYTES
    ? parsed.bytes
    : wrong(`"${text}" is not a size of 4K or more, such as 256M`);
};

const path = (text: string): string => text;
const given = (): true => true;

const LEAST_RECORD_BYTES = 4096;
const PID_MAX = 2 ** 22; // the kernel's own limit on 64-bit machines (PID_MAX_LIMIT)

const table = {
  pid: { help: 'id of the process to page', parse: integer(1, PID_MAX) },
  'local-memory': {
    help: 'memory that stays resident: 512M, 2G, or a share of what is resident now, such as 50%',
    standard: '50%',
    parse: size,
  },
  'swap-file': {
    help: 'swap file for the rest; leapd creates it and removes it at the end',
    standard: '/var/tmp/leap-PID.swap',
    parse: path,
  },
  'allow-pinned': {
    switch: true,
    help: 'page the process although it does O_DIRECT or io_uring I/O from its memory',
    parse: given,
  },
  force: { switch: true, help: 'at the end, put all memory back even if it may not fit', parse: given },
  prefetch: {
    help: `prefetcher: ${PREFETCHERS.join(', ')}`,
    standard: DEFAULT_PREFETCHER,
    parse: oneOf(PREFETCHERS),
  },
  history: {
    help: 'faults of each thread in which the prefetcher looks for a trend',
    standard: String(DEFAULT_HISTORY),
    parse: integer(4, 4096),
  },
  'window-max': {
    help: 'most pages to read ahead after one fault',
    standard: String(DEFAULT_WINDOW_MAX),
    parse: integer(1, BATCH_PAGES),
  },
  'prefetch-buffer': {
    help: 'most pages that are read ahead and not used yet',
    standard: String(DEFAULT_PREFETCH_BUFFER),
    parse: integer(0, 1 << 20),
  },
  evict: { help: `how pages are evicted: ${evictNames.join(', ')}`, standard: 'auto', parse: oneOf(evictNames) },
  victims: {
    help: `which pages are evicted first: ${VICTIM_POLICIES.join(', ')}`,
    standard: DEFAULT_VICTIM_POLICY,
    parse: oneOf(VICTIM_POLICIES),
  },
  record: { help: 'record every page fault into this file, for leap-lab', parse: path },
  'record-max': { help: 'largest size of the recording', standard: '256M', parse: bytes },
  control: { help: 'path of the socket for leapctl', standard: '/run/leap/PID.sock', parse: path },
  'log-level': {
    help: `least level that is logged: ${logLevels.join(', ')}`,
    standard: 'info',
    parse: oneOf(logLevels),
  },
  portal: {
    help: 'the donors: a file with one address:port a line, or a text such as rdma://N,address:port,...',
    parse: path,
  },
  rdma: {
    help: 'off: start with the swap file alone; leapctl set PID rdma=on switches RDMA on later',
    standard: 'on',
    parse: oneOf(['on', 'off']),
  },
  copies: {
    help: 'copies of each page: 1 survives no loss, 2 the loss of any donor, 3 (one in the swap file) the loss of all',
    standard: '2',
    parse: copies,
  },
  'token-file': {
    help: 'file with the secret of the donors; a donor that does not prove that it knows it is not used',
    parse: path,
  },
  chunk: { help: 'take only donors with chunks of this size; by default the first donor sets it', parse: chunkSize },
  'map-chunks': {
    help: 'ahead: map each chunk before its first write; active: map only active chunks',
    standard: 'ahead',
    parse: oneOf(['ahead', 'active']),
  },
  'activity-period': {
    help: 'time over which the activity of a chunk is summed up, in ms',
    standard: String(DEFAULT_ACTIVITY.periodMs),
    parse: integer(10, 3_600_000),
  },
  'activity-weights': {
    help: 'weights of a written and of a read page, in percent',
    standard: `${DEFAULT_ACTIVITY.writeWeight}/${DEFAULT_ACTIVITY.readWeight}`,
    parse: weights,
  },
  'activity-threshold': {
    help: 'a chunk with more activity than this in a period is active',
    standard: '0',
    parse: integer(0, 1e9),
  },
  legacy: { switch: true, help: 'take donors of the original Leap and Infiniswap too', parse: given },
} satisfies Record<string, Option<unknown>>;

export type OptionName = keyof typeof table;
type Value<Name extends OptionName> = ReturnType<(typeof table)[Name]['parse']>;
type Parsed = { readonly [Name in OptionName]?: Value<Name> };
/** Options that have a value even when they are not given. */
type Standard = { [Name in OptionName]: (typeof table)[Name] extends { standard: string } ? Name : never }[OptionName];

const groups: readonly Group[] = [
  {
    title: 'Process and memory:',
    example: ['leapd --pid 1234 --local-memory 512M', 'keep 512 MiB of process 1234 in memory'],
    names: ['pid', 'local-memory', 'swap-file', 'allow-pinned', 'force'],
  },
  {
    title: 'Prefetching:',
    example: ['leapd --pid 1234 --history 64', 'look for trends in longer histories'],
    names: ['prefetch', 'history', 'window-max', 'prefetch-buffer'],
  },
  {
    title: 'Eviction:',
    example: ['leapd --pid 1234 --evict discard', 'evict as on kernels before 6.8'],
    names: ['evict', 'victims'],
  },
  {
    title: 'Control and logging:',
    example: ['leapd --pid 1234 --log-level debug', 'log more'],
    names: ['control', 'log-level'],
  },
  {
    title: 'Remote memory:',
    example: ['leapd --pid 1234 --portal portal.txt', 'page to the donors that portal.txt names, over RDMA'],
    names: [
      'portal',
      'rdma',
      'copies',
      'token-file',
      'chunk',
      'map-chunks',
      'activity-period',
      'activity-weights',
      'activity-threshold',
      'legacy',
    ],
  },
  {
    title: 'Recording:',
    example: ['leapd --pid 1234 --record trace.leap', 'record every page fault, to replay with leap-lab'],
    names: ['record', 'record-max'],
  },
];

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

const isName = (name: string): name is OptionName => Object.hasOwn(table, name);
const isSwitch = (name: OptionName): boolean => 'switch' in table[name];

/** Reads one value by the table. @param as what the messages call it  @throws Refusal */
export function parseValue<Name extends OptionName>(name: Name, text: string, as = `--${name}`): Value<Name> {
  try {
    return table[name].parse(text) as Value<Name>;
  } catch (error) {
    if (error instanceof Refusal) throw new Refusal(error.code, `${as}: ${error.problem}`, error.remedy);
    throw error;
  }
}

function commandLine(args: readonly string[]) {
  const parser = yargs([...args])
    .scriptName('leapd')
    .usage('Usage: $0 --pid PID [options]\n')
    .usage(
      'Pages a running, unmodified process: memory beyond --local-memory is stored on donors, over RDMA, or in a swap file. Ctrl-C puts it all back.',
    )
    .parserConfiguration({
      'camel-case-expansion': false,
      'dot-notation': false,
      'boolean-negation': false,
      'parse-numbers': false,
    })
    .version(false)
    .help(false)
    .strict()
    .exitProcess(false)
    .wrap(Math.min(process.stdout.columns ?? 100, 110))
    .epilogue(exitCodeTable())
    .fail((message: string | null, error: Error | undefined) => refuseCommandLine('leapd', args, message, error));
  for (const group of groups) {
    for (const name of group.names) {
      const option: Option<unknown> = table[name];
      const base = { describe: option.help, group: group.title };
      if (isSwitch(name)) parser.option(name, { ...base, type: 'boolean' });
      else
        parser.option(name, {
          ...base,
          requiresArg: true,
          ...(option.standard && { defaultDescription: option.standard }),
        });
    }
    parser.example(group.example[0].replace('leapd', '$0'), group.example[1]);
  }
  return parser.help('help', 'show this help').alias('help', 'h').group('help', 'Control and logging:');
}

/** What yargs found wrong, in our words. @throws Refusal. */
export function refuseCommandLine(
  program: string,
  args: readonly string[],
  message: string | null,
  error?: Error,
): never {
  if (error instanceof Refusal) throw error;
  throw new Refusal(
    ExitCode.usage,
    describeFailure(message ?? error?.message ?? 'the command line is wrong', args),
    `see ${program} --help`,
  );
}

function describeFailure(message: string, args: readonly string[]): string {
  const unknown = /^Unknown arguments?: (.*)$/.exec(message)?.[1]?.split(', ');
  if (unknown) {
    // yargs names options without their dashes; say them as they were typed.
    const isTyped = (flag: string): boolean => args.some((arg) => arg === flag || arg.startsWith(`${flag}=`));
    const typed = unknown.map((name) => [`--${name}`, `-${name}`].find(isTyped) ?? name);
    return `unknown ${typed[0]?.startsWith('-') ? 'option' : 'argument'}${typed.length > 1 ? 's' : ''} ${typed.join(', ')}`;
  }
  const noValue = /^Not enough arguments following: (.*)$/.exec(message);
  if (noValue) return `--${noValue[1]} needs a value`;
  return message;
}

const MOST_SECONDS = 86_400;

/** How long a recording is to take. @throws Refusal */
export function parseSeconds(text: string): number {
  const isTime = /^\d+(\.\d+)?$/.test(text) && Number(text) > 0 && Number(text) <= MOST_SECONDS;
  return isTime ? Number(text) : wrong(`--seconds: "${text}" is not a time from 0 to ${MOST_SECONDS} s`);
}

/** The text of --help; undefined when the command line does not ask for it. */
export function helpText(args: readonly string[]): Promise<string> | undefined {
  return args.includes('--help') || args.includes('-h') ? commandLine([]).getHelp() : undefined;
}

/** @throws Refusal: an option is unknown, wrong, missing, given twice, or contradicts another. */
export function parseOptions(args: readonly string[]): LeapdOptions {
  const argv = commandLine(args).parseSync() as Record<string, unknown>;
  const parsed: { [name: string]: unknown } = {};
  for (const [name, raw] of Object.entries(argv)) {
    if (!isName(name) || raw === undefined) continue;
    if (Array.isArray(raw)) throw new Refusal(ExitCode.usage, `--${name} is given ${raw.length} times`, 'give it once');
    if (isSwitch(name) && raw !== true)
      throw new Refusal(ExitCode.usage, `--${name} takes no value`, 'give it alone, or leave it out');
    if (raw === '') throw new Refusal(ExitCode.usage, `--${name} needs a value`, 'see leapd --help');
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
