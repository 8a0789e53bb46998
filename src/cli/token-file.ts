/** The token that leapd and leap-memserver know, in a file that nobody else may read. */
import { readFileSync, statSync } from 'node:fs';
import { tokenFrom } from '../donors/wire/auth.js';
import { errnoName, ExitCode, Refusal } from './exit-codes.js';

/** @throws Refusal */
export function readToken(path: string): Uint8Array {
  let text: string;
  let mode: number;
  try {
    mode = statSync(path).mode;
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const problem = `--token-file: ${path} cannot be read (${errnoName(error)})`;
    throw new Refusal(ExitCode.usage, problem, 'make one with: (umask 077; head -c 32 /dev/urandom | base64 > FILE)');
  }
  const found = tokenFrom(text, mode);
  if ('token' in found) return found.token;
  throw new Refusal(ExitCode.usage, `--token-file: ${path} ${found.problem}`, found.remedy);
}
