/** The command line of leap-memserver. What a value means is decided here, before anything is touched. */
import { BlockList, isIP } from 'node:net';
import { totalmem } from 'node:os';
import yargs from 'yargs';
import { ExitCode, Refusal } from '../src/cli/exit-codes.js';
import { logLevels, parseValue, refuseCommandLine, type LogLevel } from '../daemon/leapd-options.js';
import { formatBytes, parseSize } from '../src/cli/size.js';
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

function bytes(name: string, text: string): number {
  const size = parseSize(text);
  return size?.kind === 'bytes'
    ? size.bytes
    : wrong(`--${name}: "${text}" is not an amount of memory such as 512M or 8G`);
}

function integer(name: string, text: string, least: number, most: number): number {
  if (!/^\d+$/.test(text)) return wrong(`--${name}: "${text}" is not a whole number`);
  const value = Number(text);
  return value >= least && value <= most ? value : wrong(`--${name}: ${text} is not between ${least} and ${most}`);
}

const exitCodes = `Exit codes:
   0  done
   2  an option or argument is wrong
   4  rights are missing, or the limit of locked memory is too low
   5  this machine has no RDMA device, or the address cannot be listened on
   8  no leap-memserver answers
  70  a bug in leap`;

function commandLine(args: readonly string[]) {
  const lending = 'Lending:';
  const who = 'Access:';
  const host = "The host's own memory:";
  const control = 'Control and logging:';
  return yargs([...args])
    .scriptName('leap-memserver')
    .usage('Usage: $0 --listen ADDRESS:PORT --memory SIZE [options]\n       $0 status [--json]\n')
    .usage(
      'Lends memory of this machine to leapd on other machines, over RDMA. It allocates all of --memory in the background.',
    )
    .parserConfiguration({
      'camel-case-expansion': false,
      'dot-notation': false,
      'boolean-negation': false,
      'parse-numbers': false,
      'greedy-arrays': false,
    })
    .command('$0', false)
    .command('status', 'show the chunks and clients of a running leap-memserver')
    .option('listen', {
      group: lending,
      describe: 'address and port to listen on; repeatable',
      type: 'string',
      array: true,
      requiresArg: true,
    })
    .option('memory', { group: lending, describe: 'memory to lend, such as 8G', type: 'string', requiresArg: true })
    .option('chunk', {
      group: lending,
      describe: 'chunk size, a power of two',
      type: 'string',
      requiresArg: true,
      default: '1G',
    })
    .example('$0 --listen 10.0.0.2:9400 --memory 8G', 'lend 8 GiB')
    .option('token-file', {
      group: who,
      describe: 'admit only clients that know the secret in this file',
      type: 'string',
      requiresArg: true,
    })
    .option('allow', {
      group: who,
      describe: 'admit only clients of this network; repeatable',
      type: 'string',
      array: true,
      requiresArg: true,
    })
    .option('max-clients', {
      group: who,
      describe: 'most clients at a time',
      type: 'string',
      requiresArg: true,
      default: '32',
    })
    .option('legacy', {
      group: who,
      describe: 'also admit original Leap and Infiniswap clients, which know no token',
      type: 'boolean',
    })
    .example(
      '$0 --listen 10.0.0.2:9400 --memory 8G --allow 10.0.0.0/24 --token-file /etc/leap/token',
      'lend only to clients of one network that know the secret',
    )
    .option('reserve', {
      group: host,
      describe: 'ask clients for chunks when less memory than this is free',
      type: 'string',
      requiresArg: true,
      default: '8G',
    })
    .option('reserve-upper', {
      group: host,
      describe: 'lend more again when more than this is free; by default twice the reserve',
      type: 'string',
      requiresArg: true,
    })
    .option('reserve-rounds', {
      group: host,
      describe: 'consecutive samples above --reserve-upper before more is lent',
      type: 'string',
      requiresArg: true,
      default: '20',
    })
    .option('reserve-weight', {
      group: host,
      describe: 'weight of the newest sample, in percent',
      type: 'string',
      requiresArg: true,
      default: '70',
    })
    .option('reserve-period', {
      group: host,
      describe: 'time between samples, in ms',
      type: 'string',
      requiresArg: true,
      default: '1000',
    })
    .option('drain', {
      group: host,
      describe: 'time for clients to fetch their pages, also before the end, in seconds',
      type: 'string',
      requiresArg: true,
      default: '600',
    })
    .example('$0 --listen 10.0.0.2:9400 --memory 2G --reserve 1G', 'on a small machine')
    .option('status', {
      group: control,
      describe: 'path of the socket for the status command',
      type: 'string',
      requiresArg: true,
      default: STATUS_SOCKET,
    })
    .option('log-level', {
      group: control,
      describe: `least level that is logged: ${logLevels.join(', ')}`,
      type: 'string',
      requiresArg: true,
      default: 'info',
    })
    .option('json', { group: control, describe: 'status: print one JSON object', type: 'boolean' })
    .example('$0 status --json', 'print chunks and clients for a script')
    .version(false)
    .help('help', 'show this help')
    .alias('help', 'h')
    .group('help', control)
    .strict()
    .exitProcess(false)
    .wrap(Math.min(process.stdout.columns ?? 100, 120))
    .epilogue(exitCodes)
    .fail((message: string | null, error: Error | undefined) =>
      refuseCommandLine('leap-memserver', args, message, error),
    );
}

/** The text of --help; undefined when the command line does not ask for it. */
export function helpText(args: readonly string[]): Promise<string> | undefined {
  return args.includes('--help') || args.includes('-h') ? commandLine([]).getHelp() : undefined;
}

/** @param hostBytes all memory of this machine  @throws Refusal */
export function parseOptions(args: readonly string[], hostBytes = totalmem()): ServeOptions | StatusOptions {
  const argv = commandLine(args).parseSync() as Record<string, unknown>;
  const several = new Set(['listen', 'allow', '_']);
  for (const [name, value] of Object.entries(argv)) {
    if (!several.has(name) && Array.isArray(value)) wrong(`--${name} is given ${value.length} times`, 'give it once');
    if (value === '' || (Array.isArray(value) && value.includes(''))) wrong(`--${name} needs a value`);
  }
  const text = (name: string): string | undefined => argv[name] as string | undefined;
  const given = (name: string): string => text(name) ?? wrong(`--${name} is missing`);
  const list = (name: string): readonly string[] => (argv[name] as string[] | undefined) ?? [];
  const status = given('status');
  if ((argv['_'] as string[])[0] === 'status') return { command: 'status', status, json: argv['json'] === true };
  if (argv['json'] === true) wrong('--json has no effect without status');

  const listen = list('listen').map(parseListen);
  if (listen.length === 0) wrong('--listen is missing');
  const chunkBytes = bytes('chunk', given('chunk'));
  if (chunkBytes < LEAST_CHUNK || 2 ** Math.round(Math.log2(chunkBytes)) !== chunkBytes) {
    wrong(
      `--chunk: ${given('chunk')} is not a power of two of at least ${formatBytes(LEAST_CHUNK)}`,
      'give for example 1G, as leapd does',
    );
  }
  const memoryBytes = bytes('memory', given('memory'));
  if (memoryBytes < chunkBytes) {
    wrong(
      `--memory: ${given('memory')} is less than a chunk of ${formatBytes(chunkBytes)}`,
      'give more, or a smaller --chunk',
    );
  }
  if (memoryBytes > hostBytes)
    wrong(`--memory: ${given('memory')} is more than this machine has (${formatBytes(hostBytes)})`, 'give less');
  const legacy = argv['legacy'] === true;
  if (legacy && BigInt(chunkBytes) !== LEGACY_CHUNK_BYTES)
    wrong('--legacy: original clients know only chunks of 1 GiB', 'leave out --chunk');
  const tokenFile = text('token-file');
  if (legacy && tokenFile !== undefined)
    wrong('--legacy admits clients that cannot prove the token', 'leave out one of --legacy and --token-file');
  const reserveBytes = bytes('reserve', given('reserve'));
  const upper = text('reserve-upper');
  const upperBytes =
    upper === undefined ? Math.max(2 * reserveBytes, reserveBytes + 2 * chunkBytes) : bytes('reserve-upper', upper);
  if (upperBytes < reserveBytes + chunkBytes) {
    wrong('--reserve-upper is less than a chunk above --reserve: lent memory would be asked back at once', 'give more');
  }
  return {
    command: 'serve',
    listen,
    memoryBytes,
    chunkBytes,
    reserveBytes,
    upperBytes,
    reserveRounds: integer('reserve-rounds', given('reserve-rounds'), 1, 86400),
    reserveWeight: integer('reserve-weight', given('reserve-weight'), 1, 100),
    reservePeriodMs: integer('reserve-period', given('reserve-period'), 10, 3_600_000),
    drainMs: 1000 * integer('drain', given('drain'), 1, 86400),
    maxClients: integer('max-clients', given('max-clients'), 1, 1024),
    tokenFile,
    allow: list('allow').length > 0 ? new AllowList(list('allow')) : undefined,
    legacy,
    status,
    logLevel: parseValue('log-level', given('log-level')),
  };
}
