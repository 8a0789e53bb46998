/**
 * Parsers of option values that several programs share. A parser takes the text that was typed and throws BadValue with
 * what is wrong; `readValue` turns that into a Refusal that names the option and the program.
 */
import { ExitCode, Refusal } from './exit-codes.js';
import { parseSize } from './size.js';

export type Parser<T> = (text: string) => T;

/** What is wrong with a value; it does not name the option. */
export class BadValue extends Error {}

/** @throws BadValue */
export const badValue = (problem: string): never => {
  throw new BadValue(problem);
};

/** @param as what the message calls the option, such as "--pid"  @throws Refusal */
export function readValue<T>(program: string, as: string, text: string, parse: Parser<T>): T {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof BadValue)) throw error;
    throw new Refusal(ExitCode.usage, `${as}: ${error.message}`, `see ${program} --help`);
  }
}

export const oneOf =
  <T extends string>(choices: readonly T[]): Parser<T> =>
  (text) =>
    choices.find((choice) => choice === text) ?? badValue(`"${text}" is not one of ${choices.join(', ')}`);

/** A whole number from `least` to `most`, both included. */
export const integer =
  (least: number, most: number): Parser<number> =>
  (text) => {
    if (!/^-?\d+$/.test(text)) return badValue(`"${text}" is not a whole number`);
    const value = Number(text);
    return value >= least && value <= most ? value : badValue(`${text} is not between ${least} and ${most}`);
  };

/** An amount of memory, in bytes; a share of something is refused. */
export const byteCount: Parser<number> = (text) => {
  const size = parseSize(text);
  return size?.kind === 'bytes' ? size.bytes : badValue(`"${text}" is not an amount of memory such as 512M or 8G`);
};

export const isPowerOfTwo = (value: number): boolean => Number.isInteger(Math.log2(value));
