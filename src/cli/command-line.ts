/** The yargs settings that all programs share, and what yargs finds wrong in our words. */
import yargs, { type Argv } from 'yargs';
import { ExitCode, Refusal } from './exit-codes.js';

/** Widest line of a help text; narrower on a narrow terminal. */
const HELP_COLUMNS = 110;
/** Width of a help text that goes to no terminal. */
const HELP_COLUMNS_NO_TERMINAL = 100;

export interface Program {
  readonly name: string;
  /** What the message says where yargs misses a positional argument. */
  readonly missing?: string;
  /** The end of the help text. */
  readonly epilogue: string;
  /** The help group of --help; yargs's own when undefined. */
  readonly helpGroup?: string;
}

/**
 * A strict parser of `args` that has --help and -h only, keeps values as the text that was typed, and throws a Refusal
 * for whatever is wrong instead of ending the process.
 * @param define adds the program's options and commands
 */
export function openCommandLine(
  { name, missing, epilogue, helpGroup }: Program,
  args: readonly string[],
  define: (parser: Argv) => Argv,
): Argv {
  const empty = yargs([...args])
    .scriptName(name)
    .parserConfiguration({
      'camel-case-expansion': false,
      'dot-notation': false,
      'boolean-negation': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'greedy-arrays': false,
    })
    .version(false)
    .help(false)
    .strict()
    .exitProcess(false)
    .wrap(Math.min(process.stdout.columns ?? HELP_COLUMNS_NO_TERMINAL, HELP_COLUMNS))
    .epilogue(epilogue)
    .fail((message: string | null, error: Error | undefined) => {
      const isMissing = missing !== undefined && message?.startsWith('Not enough non-option');
      refuseCommandLine(name, args, isMissing ? missing : message, error);
    });
  // After the program's own options, so that the help lists it last.
  const parser = define(empty).help('help', 'show this help').alias('help', 'h');
  return helpGroup === undefined ? parser : parser.group('help', helpGroup);
}

/** The text of --help; undefined when `args` does not ask for it. @param parser a parser of an empty command line */
export function helpFor(args: readonly string[], parser: () => Argv): Promise<string> | undefined {
  return args.includes('--help') || args.includes('-h') ? parser().getHelp() : undefined;
}

/** @throws Refusal, always */
function refuseCommandLine(program: string, args: readonly string[], message: string | null, error?: Error): never {
  if (error instanceof Refusal) throw error;
  const problem = describeFailure(message ?? error?.message ?? 'the command line is wrong', args);
  throw new Refusal(ExitCode.usage, problem, `see ${program} --help`);
}

function describeFailure(message: string, args: readonly string[]): string {
  const unknown = /^Unknown arguments?: (.*)$/.exec(message)?.[1]?.split(', ');
  if (unknown) {
    // yargs names options without their dashes; name them as they were typed.
    const isTyped = (flag: string): boolean => args.some((arg) => arg === flag || arg.startsWith(`${flag}=`));
    const typed = unknown.map((name) => [`--${name}`, `-${name}`].find(isTyped) ?? name);
    const what = typed[0]?.startsWith('-') ? 'option' : 'argument';
    return `unknown ${what}${typed.length > 1 ? 's' : ''} ${typed.join(', ')}`;
  }
  const noValue = /^Not enough arguments following: (.*)$/.exec(message);
  if (noValue) return `--${noValue[1]} needs a value`;
  return message;
}
