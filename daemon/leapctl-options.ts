/** The command line of leapctl. */
import type { Argv } from 'yargs';
import { openCommandLine } from '../src/cli/command-line.js';
import { parseSeconds, parseValue, settable } from './leapd-option-table.js';
import { ExitCode, exitCodeTable, Refusal } from '../src/cli/exit-codes.js';

export interface LeapctlOptions {
  readonly command: 'status' | 'stats' | 'set' | 'record' | 'detach' | 'doctor';
  readonly pid: number | undefined;
  readonly control: string | undefined;
  readonly json: boolean;
  readonly force: boolean;
  readonly log: boolean;
  /** What `record` was given, as it was typed. */
  readonly record: RecordRequest | 'stop' | undefined;
  readonly settings: Readonly<Record<string, string>>;
}

export interface RecordRequest {
  readonly out: string;
  readonly seconds: string | undefined;
  readonly exact: boolean;
  readonly max: string | undefined;
}

const pidArgument = (parser: Argv): Argv =>
  parser.positional('pid', { describe: 'id of the paged process', type: 'string', demandOption: true });

const recordArguments = (parser: Argv): Argv =>
  pidArgument(parser)
    .option('out', { type: 'string', requiresArg: true, describe: 'trace file; it must not exist yet' })
    .option('seconds', { type: 'string', requiresArg: true, describe: 'end after this many seconds' })
    .option('exact', {
      type: 'boolean',
      describe: 'read nothing ahead meanwhile, so that the trace has every first touch',
    })
    .option('record-max', {
      type: 'string',
      requiresArg: true,
      describe: 'largest size of the file, such as 64M',
    })
    .option('stop', { type: 'boolean', describe: 'end the current recording' });

function commandLine(args: readonly string[]): Argv {
  const program = {
    name: 'leapctl',
    missing: 'the process id, or a setting, is missing',
    epilogue: exitCodeTable(),
  };
  return openCommandLine(program, args, (parser) =>
    addExamples(addCommands(parser.usage('Usage: $0 <command> [options]\n\nShows and controls a running leapd.')))
      .option('json', { type: 'boolean', describe: 'print one JSON object' })
      .option('control', {
        type: 'string',
        requiresArg: true,
        describe: "path of leapd's socket, if it is not the default",
      })
      .demandCommand(1, 1, 'a command is missing', 'only one command at a time'),
  );
}

const addCommands = (all: Argv): Argv =>
  all
    .command('status [pid]', 'list the processes under leapd, or show the state of one', (parser) =>
      parser.positional('pid', { describe: 'id of the paged process; by default all are listed', type: 'string' }),
    )
    .command('stats <pid>', 'print every counter of the pager', (parser) =>
      pidArgument(parser).option('log', { type: 'boolean', describe: "also write them into leapd's log, in one line" }),
    )
    .command('set <pid> <settings..>', `change settings while it runs: ${settable.join(', ')}`, (parser) =>
      pidArgument(parser).positional('settings', {
        describe: 'NAME=VALUE',
        type: 'string',
        array: true,
        demandOption: true,
      }),
    )
    .command(
      'record <pid>',
      'record every page fault, to replay with leap-lab; ends with Ctrl-C, or with --stop from another shell',
      recordArguments,
    )
    .command('detach <pid>', 'put all memory back and end leapd', (parser) =>
      pidArgument(parser).option('force', { type: 'boolean', describe: 'detach even if the memory may not fit' }),
    )
    .command('doctor', 'check what this machine offers leapd, and what would make it faster');

const addExamples = (parser: Argv): Argv =>
  parser
    .example('$0 status', 'list all processes under leapd')
    .example('$0 stats 1234 --json', 'print the counters for a script')
    .example('$0 set 1234 local-memory=256M prefetch=leap', 'change two settings at once')
    .example('$0 record 1234 --out trace.leap --seconds 30', 'record for half a minute')
    .example('$0 detach 1234', 'the process goes on without leapd')
    .example('$0 doctor', 'check kernel, rights, userfaultfd, io_uring, control groups');

/** @returns undefined when help was asked for, and has been printed. @throws Refusal. */
export async function parseLeapctl(args: readonly string[]): Promise<LeapctlOptions | undefined> {
  const argv = (await commandLine(args).parseAsync()) as Record<string, unknown>;
  if (argv['help'] === true) return undefined;
  const [command] = argv['_'] as LeapctlOptions['command'][];
  for (const name of ['control', 'json', 'force', 'log', 'out', 'seconds', 'exact', 'record-max', 'stop']) {
    if (Array.isArray(argv[name]))
      throw new Refusal(ExitCode.usage, `--${name} is given more than once`, 'give it once');
  }
  if (command === undefined) throw new Refusal(ExitCode.usage, 'a command is missing', 'see leapctl --help');
  const pid = argv['pid'];
  return {
    command,
    pid: pid === undefined ? undefined : parseValue('pid', String(pid), 'the process'),
    control: argv['control'] as string | undefined,
    json: argv['json'] === true,
    force: argv['force'] === true,
    log: argv['log'] === true,
    record: command === 'record' ? recordOf(argv) : undefined,
    settings: parseSettings((argv['settings'] as string[] | undefined) ?? []),
  };
}

function recordOf(argv: Record<string, unknown>): LeapctlOptions['record'] {
  const text = (name: string): string | undefined => argv[name] as string | undefined;
  const [out, seconds, max] = [text('out'), text('seconds'), text('record-max')];
  if (argv['stop'] === true) {
    if (out === undefined && seconds === undefined && max === undefined && argv['exact'] === undefined) return 'stop';
    throw new Refusal(
      ExitCode.usage,
      '--stop excludes every other option',
      'give it alone to end the current recording',
    );
  }
  if (seconds !== undefined) parseSeconds(seconds);
  if (max !== undefined) parseValue('record-max', max);
  if (out === undefined || out === '')
    throw new Refusal(
      ExitCode.usage,
      out === undefined ? '--out or --stop is missing' : '--out needs a value',
      'see leapctl --help',
    );
  return { out, seconds, exact: argv['exact'] === true, max };
}

export function parseSettings(words: readonly string[]): Record<string, string> {
  const settings: Record<string, string> = {};
  for (const word of words) {
    const [, name, value] = /^([^=]+)=(.+)$/.exec(word) ?? [];
    if (name === undefined || value === undefined) {
      throw new Refusal(ExitCode.usage, `"${word}" is not of the form NAME=VALUE`, `settings: ${settable.join(', ')}`);
    }
    if (name in settings) throw new Refusal(ExitCode.usage, `${name} is given twice`, 'give it once');
    settings[name] = value;
  }
  return settings;
}
