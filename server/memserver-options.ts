/** The command line of leap-memserver. What a value means is decided here, before anything is touched. */
import { BlockList, isIP } from 'node:net';
import { totalmem } from 'node:os';
import type { Argv } from 'yargs';
import { helpFor, openCommandLine } from '../src/cli/command-line.js';
import { ExitCode, Refusal } from '../src/cli/exit-codes.js';
import { logLevels, type LogLevel } from '../src/cli/log-level.js';
import { byteCount, integer, isPowerOfTwo, oneOf, readValue, type Parser } from '../src/cli/option-parsers.js';
import { formatBytes } from '../src/cli/size.js';
import { LEGACY_CHUNK_BYTES } from '../src/donors/wire/legacy.js';

const STATUS_SOCKET = '/run/leap/memserver.sock';
const LEAST_CHUNK = 4 * 2 ** 20;

export interface Listen {
  readonly address: string;
  readonly port: number;
  /** As it was typed. */
  readonly text: string;
}

export interface ServeOptions {
  readonly command: 'serve';
  readonly listen: readonly Listen[];
  readonly memoryBytes: number;
  readonly chunkBytes: number;
  readonly reserveBytes: number;
  readonly upperBytes: number;
  readonly reserveRounds: number;
  readonly reserveWeight: number;
  readonly reservePeriodMs: number;
  /** What clients have to empty the chunks that are wanted back. */
  readonly drainMs: number;
  readonly maxClients: number;
  readonly tokenFile: string | undefined;
  /** undefined: everybody. */
  readonly allow: AllowList | undefined;
  readonly legacy: boolean;
  readonly status: string;
  readonly logLevel: LogLevel;
}

export interface StatusOptions {
  readonly command: 'status';
  readonly status: string;
  readonly json: boolean;
}

const wrong = (problem: string, remedy = 'see leap-memserver --help'): never => {
  throw new Refusal(ExitCode.usage, problem, remedy);
};

/** Networks and single addresses, of both families. */
export class AllowList {
  private readonly list = new BlockList();

  constructor(readonly texts: readonly string[]) {
    for (const text of texts) this.add(text);
  }

  allows(address: string): boolean {
    const plain = address.replace(/%.*$/, '');
    const family = isIP(plain);
    return family !== 0 && this.list.check(plain, family === 6 ? 'ipv6' : 'ipv4');
  }

  private add(text: string): void {
    const [, address = '', prefix] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
    const family = isIP(address);
    const bits = family === 6 ? 128 : 32;
    if (family === 0 || Number(prefix ?? 0) > bits)
      wrong(`--allow: "${text}" is not a network such as 10.0.0.0/24, fd00::/8 or 10.0.0.7`);
    this.list.addSubnet(address, Number(prefix ?? bits), family === 6 ? 'ipv6' : 'ipv4');
  }
}

/** "10.0.0.2:9400", "[fe80::1%eth0]:9400". */
export function parseListen(text: string): Listen {
  const [, inBrackets, plain, port = ''] = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text) ?? [];
  const address = inBrackets ?? plain ?? '';
  if (isIP(address) === 0) {
    wrong(
      `--listen: "${text}" is not an address and port such as 10.0.0.2:9400 or [fd00::2]:9400`,
      'give the address of an RDMA device',
    );
  }
  if (Number(port) < 1 || Number(port) > 65535) wrong(`--listen: port ${port} is not between 1 and 65535`);
  return { address, port: Number(port), text };
}

/** The address of "10.0.0.2:9400" and "[fd00::2]:9400"; an IPv4 address in IPv6 clothes is an IPv4 one. */
export function hostOf(peer: string): string {
  const host = peer.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return host.replace(/^::ffff:(?=\d+\.)/i, '');
}

const read = <T>(name: string, text: string, parse: Parser<T>): T =>
  readValue('leap-memserver', `--${name}`, text, parse);

const exitCodes = `Exit codes:
   0  done
   2  an option or argument is wrong
   4  rights are missing, or the limit of locked memory is too low
   5  this machine has no RDMA device, or the address cannot be listened on
   8  no leap-memserver answers
  70  a bug in leap`;

/** An option with a value, as it was typed. */
const value = { type: 'string', requiresArg: true } as const;

const CONTROL = 'Control and logging:';

function commandLine(args: readonly string[]): Argv {
  const program = { name: 'leap-memserver', epilogue: exitCodes, helpGroup: CONTROL };
  return openCommandLine(program, args, (parser) => {
    parser
      .usage('Usage: $0 --listen ADDRESS:PORT --memory SIZE [options]\n       $0 status [--json]\n')
      .usage(
        'Lends memory of this machine to leapd on other machines, over RDMA. It allocates all of --memory in the background.',
      )
      .command('$0', false)
      .command('status', 'show the chunks and clients of a running leap-memserver');
    addLending(parser, 'Lending:');
    addAccess(parser, 'Access:');
    addHost(parser, "The host's own memory:");
    return addControl(parser, CONTROL);
  });
}

const addLending = (parser: Argv, group: string): Argv =>
  parser
    .option('listen', {
      group,
      describe: 'address and port to listen on; repeatable',
      array: true,
      ...value,
    })
    .option('memory', { group, describe: 'memory to lend, such as 8G', ...value })
    .option('chunk', {
      group,
      describe: 'chunk size, a power of two',
      ...value,
      default: '1G',
    })
    .example('$0 --listen 10.0.0.2:9400 --memory 8G', 'lend 8 GiB');

const addAccess = (parser: Argv, group: string): Argv =>
  parser
    .option('token-file', {
      group,
      describe: 'admit only clients that know the secret in this file',
      ...value,
    })
    .option('allow', {
      group,
      describe: 'admit only clients of this network; repeatable',
      array: true,
      ...value,
    })
    .option('max-clients', {
      group,
      describe: 'most clients at a time',
      ...value,
      default: '32',
    })
    .option('legacy', {
      group,
      describe: 'also admit original Leap and Infiniswap clients, which know no token',
      type: 'boolean',
    })
    .example(
      '$0 --listen 10.0.0.2:9400 --memory 8G --allow 10.0.0.0/24 --token-file /etc/leap/token',
      'lend only to clients of one network that know the secret',
    );

const addHost = (parser: Argv, group: string): Argv =>
  parser
    .option('reserve', {
      group,
      describe: 'ask clients for chunks when less memory than this is free',
      ...value,
      default: '8G',
    })
    .option('reserve-upper', {
      group,
      describe: 'lend more again when more than this is free; by default twice the reserve',
      ...value,
    })
    .option('reserve-rounds', {
      group,
      describe: 'consecutive samples above --reserve-upper before more is lent',
      ...value,
      default: '20',
    })
    .option('reserve-weight', {
      group,
      describe: 'weight of the newest sample, in percent',
      ...value,
      default: '70',
    })
    .option('reserve-period', {
      group,
      describe: 'time between samples, in ms',
      ...value,
      default: '1000',
    })
    .option('drain', {
      group,
      describe: 'time for clients to fetch their pages, also before the end, in seconds',
      ...value,
      default: '600',
    })
    .example('$0 --listen 10.0.0.2:9400 --memory 2G --reserve 1G', 'on a small machine');

const addControl = (parser: Argv, group: string): Argv =>
  parser
    .option('status', {
      group,
      describe: 'path of the socket for the status command',
      ...value,
      default: STATUS_SOCKET,
    })
    .option('log-level', {
      group,
      describe: `least level that is logged: ${logLevels.join(', ')}`,
      ...value,
      default: 'info',
    })
    .option('json', { group, describe: 'status: print one JSON object', type: 'boolean' })
    .example('$0 status --json', 'print chunks and clients for a script');

/** The text of --help; undefined when the command line does not ask for it. */
export const helpText = (args: readonly string[]): Promise<string> | undefined => helpFor(args, () => commandLine([]));

/** What yargs read: the text of each option. */
interface Given {
  readonly argv: Record<string, unknown>;
  text(name: string): string | undefined;
  /** @throws Refusal: it is missing */
  need(name: string): string;
  list(name: string): readonly string[];
  number(name: string, least: number, most: number): number;
  bytes(name: string): number;
}

/** @throws Refusal: an option is unknown, empty, or given twice */
function readArguments(args: readonly string[]): Given {
  const argv = commandLine(args).parseSync() as Record<string, unknown>;
  const several = new Set(['listen', 'allow', '_']);
  for (const [name, value] of Object.entries(argv)) {
    if (!several.has(name) && Array.isArray(value)) wrong(`--${name} is given ${value.length} times`, 'give it once');
    if (value === '' || (Array.isArray(value) && value.includes(''))) wrong(`--${name} needs a value`);
  }
  const text = (name: string): string | undefined => argv[name] as string | undefined;
  const need = (name: string): string => text(name) ?? wrong(`--${name} is missing`);
  return {
    argv,
    text,
    need,
    list: (name) => (argv[name] as string[] | undefined) ?? [],
    number: (name, least, most) => read(name, need(name), integer(least, most)),
    bytes: (name) => read(name, need(name), byteCount),
  };
}

/** @param hostBytes all memory of this machine  @throws Refusal */
export function parseOptions(args: readonly string[], hostBytes = totalmem()): ServeOptions | StatusOptions {
  const given = readArguments(args);
  const { argv, need, list, number } = given;
  const status = need('status');
  if ((argv['_'] as string[])[0] === 'status') return { command: 'status', status, json: argv['json'] === true };
  if (argv['json'] === true) wrong('--json has no effect without status');

  const listen = list('listen').map(parseListen);
  if (listen.length === 0) wrong('--listen is missing');
  const sizes = sizesOf(given, hostBytes);
  return {
    command: 'serve',
    listen,
    ...sizes,
    reserveRounds: number('reserve-rounds', 1, 86400),
    reserveWeight: number('reserve-weight', 1, 100),
    reservePeriodMs: number('reserve-period', 10, 3_600_000),
    drainMs: 1000 * number('drain', 1, 86400),
    maxClients: number('max-clients', 1, 1024),
    ...accessOf(given, sizes.chunkBytes),
    allow: list('allow').length > 0 ? new AllowList(list('allow')) : undefined,
    status,
    logLevel: read('log-level', need('log-level'), oneOf(logLevels)),
  };
}

type Sizes = Pick<ServeOptions, 'memoryBytes' | 'chunkBytes' | 'reserveBytes' | 'upperBytes'>;

/** @throws Refusal: they do not fit each other, or this machine */
function sizesOf({ need, text, bytes }: Given, hostBytes: number): Sizes {
  const chunkBytes = bytes('chunk');
  if (chunkBytes < LEAST_CHUNK || !isPowerOfTwo(chunkBytes)) {
    wrong(
      `--chunk: ${need('chunk')} is not a power of two of at least ${formatBytes(LEAST_CHUNK)}`,
      'give for example 1G, as leapd does',
    );
  }
  const memoryBytes = bytes('memory');
  if (memoryBytes < chunkBytes) {
    wrong(
      `--memory: ${need('memory')} is less than a chunk of ${formatBytes(chunkBytes)}`,
      'give more, or a smaller --chunk',
    );
  }
  if (memoryBytes > hostBytes)
    wrong(`--memory: ${need('memory')} is more than this machine has (${formatBytes(hostBytes)})`, 'give less');
  const reserveBytes = bytes('reserve');
  const isGiven = text('reserve-upper') !== undefined;
  const upperBytes = isGiven ? bytes('reserve-upper') : Math.max(2 * reserveBytes, reserveBytes + 2 * chunkBytes);
  if (upperBytes < reserveBytes + chunkBytes) {
    wrong('--reserve-upper is less than a chunk above --reserve: lent memory would be asked back at once', 'give more');
  }
  return { memoryBytes, chunkBytes, reserveBytes, upperBytes };
}

/** @throws Refusal: --legacy contradicts another option */
function accessOf({ argv, text }: Given, chunkBytes: number): Pick<ServeOptions, 'legacy' | 'tokenFile'> {
  const legacy = argv['legacy'] === true;
  if (legacy && BigInt(chunkBytes) !== LEGACY_CHUNK_BYTES)
    wrong('--legacy: original clients know only chunks of 1 GiB', 'leave out --chunk');
  const tokenFile = text('token-file');
  if (legacy && tokenFile !== undefined)
    wrong('--legacy admits clients that cannot prove the token', 'leave out one of --legacy and --token-file');
  return { legacy, tokenFile };
}
