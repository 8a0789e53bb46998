/** The command line of leapctl. */
import yargs, { type Argv } from 'yargs';
import { settable } from './control-commands.js';
import { parseSeconds, parseValue, refuseCommandLine } from './leapd-options.js';
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
  parser.positional('pid', { describe: 'the paged process', type: 'string', demandOption: true });

function commandLine(args: readonly string[]) {
  return yargs([...args])
    .scriptName('leapctl')
    .usage('Usage: $0 <command> [options]\n\nLooks at a running leapd and tells it what to do.')
    .parserConfiguration({
      'camel-case-expansion': false,
      'dot-notation': false,
      'boolean-negation': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
    })
    .command('status [pid]', 'who is under leapd, or the state of one process', (parser) =>
      parser.positional('pid', { describe: 'the paged process; all when left out', type: 'string' }),
    )
    .command('stats <pid>', 'every counter of the pager', (parser) =>
      pidArgument(parser).option('log', { type: 'boolean', describe: "write them into leapd's log too, in one line" }),
    )
    .command('set <pid> <settings..>', `change ${settable.join(', ')} while it runs`, (parser) =>
      pidArgument(parser).positional('settings', {
        describe: 'NAME=VALUE',
        type: 'string',
        array: true,
        demandOption: true,
      }),
    )
    .command(
      'record <pid>',
      'write down every fault, to be replayed with leap-lab; ends with Ctrl-C, or --stop from elsewhere',
      (parser) =>
        pidArgument(parser)
          .option('out', { type: 'string', requiresArg: true, describe: 'the trace file, which must not be there yet' })
          .option('seconds', { type: 'string', requiresArg: true, describe: 'end by itself after so long' })
          .option('exact', {
            type: 'boolean',
            describe: 'read nothing ahead meanwhile, so that every first touch is in it',
          })
          .option('record-max', {
            type: 'string',
            requiresArg: true,
            describe: 'the most that the file may take, such as 64M',
          })
          .option('stop', { type: 'boolean', describe: 'end the recording that is under way' }),
    )
    .command('detach <pid>', 'put all memory back and end leapd', (parser) =>
      pidArgument(parser).option('force', { type: 'boolean', describe: 'even if the memory does not seem to fit' }),
    )
    .command('doctor', 'what this machine offers leapd, and what would make it faster')
    .option('json', { type: 'boolean', describe: 'print one JSON object' })
    .option('control', {
      type: 'string',
      requiresArg: true,
      describe: 'the socket of leapd, where it is not the usual one',
    })
    .example('$0 status', 'all processes under leapd')
    .example('$0 stats 1234 --json', 'counters for a script')
    .example('$0 set 1234 local-memory=256M prefetch=leap', 'change two things at once')
    .example('$0 record 1234 --out trace.leap --seconds 30', 'half a minute of faults')
    .example('$0 detach 1234', 'the process goes on without leapd')
    .example('$0 doctor', 'kernel, rights, userfaultfd, io_uring, control groups')
    .demandCommand(1, 1, 'a command is missing', 'only one command at a time')
    .version(false)
    .help('help', 'show this help')
    .alias('help', 'h')
    .strict()
    .exitProcess(false)
    .wrap(Math.min(process.stdout.columns ?? 100, 110))
    .epilogue(exitCodeTable())
    .fail((message: string | null, error: Error | undefined) => {
      refuseCommandLine(
        'leapctl',
        args,
        message?.startsWith('Not enough non-option') ? 'the process, or what to set, is missing' : message,
        error,
      );
    });
}

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
    throw new Refusal(ExitCode.usage, '--stop goes with no other option', 'it ends the recording that is under way');
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
      throw new Refusal(ExitCode.usage, `"${word}" is no NAME=VALUE`, `what can be set: ${settable.join(', ')}`);
    }
    if (name in settings) throw new Refusal(ExitCode.usage, `${name} is given twice`, 'give it once');
    settings[name] = value;
  }
  return settings;
}
