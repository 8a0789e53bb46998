/** What the exit code of leapd and leapctl says. Printed by --help; a script may rely on the numbers. */
export const ExitCode = {
  ok: 0,
  failed: 1,
  usage: 2,
  target: 3,
  rights: 4,
  system: 5,
  swapFile: 6,
  attach: 7,
  control: 8,
  refused: 9,
  orphaned: 11,
  internal: 70,
} as const;

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export const exitCodeMeaning: Readonly<Record<keyof typeof ExitCode, string>> = {
  ok: 'done',
  failed: 'leapctl doctor found that something leapd needs is missing',
  usage: 'an option or argument is wrong',
  target: 'this process cannot be paged',
  rights: 'rights are missing',
  system: 'this machine or kernel lacks something that leapd needs',
  swapFile: 'the swap file cannot be used',
  attach: 'the attach failed; the target is unchanged',
  control: 'no leapd answers for this process',
  refused: 'leapd refused the command and goes on paging',
  orphaned: 'an earlier leapd died and left the target waiting',
  internal: 'a bug in leap',
};

type ExitCodeName = keyof typeof ExitCode;

/** The end of a help text. @param names the codes that the program uses; by default all */
export function exitCodeTable(names: readonly ExitCodeName[] = Object.keys(ExitCode) as ExitCodeName[]): string {
  const lines = names.map((name) => `  ${String(ExitCode[name]).padStart(2)}  ${exitCodeMeaning[name]}`);
  return ['Exit codes:', ...lines].join('\n');
}

/**
 * An expected failure: one line that says what is wrong, what to do about it, and the exit code. No stack is shown for
 * it.
 */
export class Refusal extends Error {
  constructor(
    readonly code: ExitCode,
    /** What is wrong. */
    readonly problem: string,
    /** What to do, or the next command to type. */
    readonly remedy: string,
  ) {
    super(oneLine(`${problem}; ${remedy}`));
    this.name = 'Refusal';
  }
}

const oneLine = (text: string): string => text.replace(/\s*\n\s*/g, ' ');

/** Ends the process: one line for a Refusal, the stack for a bug. Only for when no target is attached. */
export function exitWith(program: string, error: unknown): never {
  if (error instanceof Refusal) {
    process.stderr.write(`${program}: ${error.message}\n`);
    process.exit(error.code);
  }
  process.stderr.write(
    `${program}: a bug in leap: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
  );
  process.exit(ExitCode.internal);
}

/** The errno name of a failed system call ("ENOENT"), or the message where there is none. */
export function errnoName(error: unknown): string {
  if (error instanceof Error) return (error as NodeJS.ErrnoException).code ?? error.message;
  return String(error);
}
