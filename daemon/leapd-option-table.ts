/**
 * The options of leapd as one typed table: groups of options, each with its parser, its help and an example for the
 * group. `leapctl set` uses the same parsers.
 */
import type { Copies } from '../src/core/types.js';
import { BATCH_PAGES } from '../src/core/layout.js';
import { DEFAULT_ACTIVITY } from '../src/donors/activity.js';
import { DEFAULT_HISTORY, DEFAULT_PREFETCHER, DEFAULT_WINDOW_MAX, PREFETCHERS } from '../src/policy/prefetch/index.js';
import { DEFAULT_PREFETCH_BUFFER } from '../src/tables/prefetch-buffer.js';
import { DEFAULT_VICTIM_POLICY, VICTIM_POLICIES } from '../src/policy/victim/index.js';
import { PAGE_SIZE } from '../src/core/types.js';
import { logLevels } from '../src/cli/log-level.js';
import { badValue, integer, isPowerOfTwo, oneOf, readValue, type Parser } from '../src/cli/option-parsers.js';
import { parseSize, type Size } from '../src/cli/size.js';

const evictNames = ['auto', 'move', 'discard', 'discard-single'] as const;

export type EvictName = (typeof evictNames)[number];

export interface Option<T> {
  /** A switch stands alone; every other option has a value. */
  readonly switch?: true;
  readonly help: string;
  /** The default, as it would be typed; PID stands for the target's number. */
  readonly standard?: string;
  readonly parse: Parser<T>;
}

interface Group {
  readonly title: string;
  readonly example: readonly [command: string, what: string];
  readonly names: readonly OptionName[];
}

const size = (text: string): Size => {
  const parsed = parseSize(text) ?? badValue(`"${text}" is not an amount of memory such as 512M, 2G or 50%`);
  if (parsed.kind === 'percent' && parsed.percent > 100)
    return badValue(`${text} is more than the whole process (100%)`);
  if ((parsed.kind === 'percent' ? parsed.percent : parsed.bytes) === 0)
    return badValue('0 leaves the process no memory to run in');
  return parsed;
};

const copies = (text: string): Copies =>
  ([1, 2, 3] as const).find((n) => String(n) === text) ?? badValue(`"${text}" is not one of 1, 2, 3`);

/** In bytes. */
const chunkSize = (text: string): number => {
  const parsed = size(text);
  if (parsed.kind === 'percent') return badValue(`${text} is not an amount of memory such as 64M or 1G`);
  const { bytes } = parsed;
  return isPowerOfTwo(bytes) && bytes >= PAGE_SIZE ? bytes : badValue(`${text} is not a power of two`);
};

/** WRITES/READS, percent. */
const weights = (text: string): { readonly writes: number; readonly reads: number } => {
  const [, writes, reads] = /^(\d{1,3})\/(\d{1,3})$/.exec(text) ?? [];
  if (writes === undefined || Number(writes) > 100 || Number(reads) > 100)
    return badValue(`"${text}" is not two percentages such as 50/50`);
  return { writes: Number(writes), reads: Number(reads) };
};

/** In bytes. */
const recordSize = (text: string): number => {
  const parsed = parseSize(text);
  return parsed?.kind === 'bytes' && parsed.bytes >= LEAST_RECORD_BYTES
    ? parsed.bytes
    : badValue(`"${text}" is not a size of 4K or more, such as 256M`);
};

const path = (text: string): string => text;
const given = (): true => true;

const LEAST_RECORD_BYTES = 4096;
const PID_MAX = 2 ** 22; // the kernel's own limit on 64-bit machines (PID_MAX_LIMIT)

export const table = {
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
  'record-max': { help: 'largest size of the recording', standard: '256M', parse: recordSize },
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
export type Value<Name extends OptionName> = ReturnType<(typeof table)[Name]['parse']>;
export type Parsed = { readonly [Name in OptionName]?: Value<Name> };
/** Options that have a default. */
export type Standard = {
  [Name in OptionName]: (typeof table)[Name] extends { standard: string } ? Name : never;
}[OptionName];

export const groups: readonly Group[] = [
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

export const isName = (name: string): name is OptionName => Object.hasOwn(table, name);
export const isSwitch = (name: OptionName): boolean => 'switch' in table[name];

/** Reads one value by the table. @param as what the messages call it  @throws Refusal */
export function parseValue<Name extends OptionName>(name: Name, text: string, as = `--${name}`): Value<Name> {
  return readValue('leapd', as, text, table[name].parse as Parser<Value<Name>>);
}

const MOST_SECONDS = 86_400;

const seconds: Parser<number> = (text) => {
  const isTime = /^\d+(\.\d+)?$/.test(text) && Number(text) > 0 && Number(text) <= MOST_SECONDS;
  return isTime ? Number(text) : badValue(`"${text}" is not a time from 0 to ${MOST_SECONDS} s`);
};

/** How long a recording is to take, in seconds. @throws Refusal */
export const parseSeconds = (text: string): number => readValue('leapd', '--seconds', text, seconds);

/** Options that `leapctl set` can change while leapd runs. */
export const settable = ['local-memory', 'prefetch', 'history', 'window-max', 'prefetch-buffer', 'rdma'] as const;
