/**
 * What leapctl and leapd say to each other over the control socket: one JSON object a line, each way. A request gets
 * any number of `progress` lines and then one answer. Both sides refuse another version and lines beyond the bound.
 */
import { ExitCode, Refusal } from './exit-codes.js';

export const PROTOCOL_VERSION = 1;
export const MAX_LINE_BYTES = 64 * 1024;
export const MAX_CONNECTIONS = 16;
/** A connection that says nothing for so long is closed. */
export const IDLE_MS = 60_000;

export const commands = ['status', 'stats', 'set', 'record', 'detach'] as const;
export type CommandName = (typeof commands)[number];

export interface Request {
  readonly version: number;
  readonly command: CommandName;
  readonly arguments: Readonly<Record<string, string>>;
}

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };

export type Answer =
  | { readonly version: number; readonly progress: { readonly done: number; readonly total: number } }
  | { readonly version: number; readonly result: Json }
  | {
      readonly version: number;
      readonly error: { readonly code: number; readonly problem: string; readonly remedy: string };
    };

const bad = (problem: string): never => {
  throw new Refusal(ExitCode.usage, problem, `leapd speaks version ${PROTOCOL_VERSION}, one JSON object a line`);
};

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function parseObject(line: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return bad('the line is not JSON');
  }
  if (!isObject(value)) return bad('the line is not a JSON object');
  if (value['version'] !== PROTOCOL_VERSION)
    return bad(`version ${JSON.stringify(value['version']) ?? 'none'} is not understood`);
  return value;
}

/** @throws Refusal. */
export function parseRequest(line: string): Request {
  const value = parseObject(line);
  const command =
    commands.find((name) => name === value['command']) ??
    bad(`there is no command ${JSON.stringify(value['command']) ?? 'given'}`);
  const given = value['arguments'] ?? {};
  if (!isObject(given)) return bad('the arguments are not an object');
  for (const [name, argument] of Object.entries(given)) {
    if (typeof argument !== 'string') return bad(`the argument ${name} is not a string`);
  }
  return { version: PROTOCOL_VERSION, command, arguments: given as Record<string, string> };
}

/** @throws Refusal. */
export function parseAnswer(line: string): Answer {
  const value = parseObject(line);
  if (!('progress' in value) && !('result' in value) && !isObject(value['error']))
    return bad('the answer holds neither result nor error');
  return value as unknown as Answer;
}

/**
 * Cuts a byte stream into lines. A line beyond the bound is an error and not a wait: nothing grows.
 * @returns the function to feed chunks to; it throws a Refusal.
 */
export function lineCutter(onLine: (line: string) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      if (end > MAX_LINE_BYTES) bad(`a line is longer than ${MAX_LINE_BYTES} bytes`);
      const line = rest.subarray(0, end).toString('utf8');
      rest = rest.subarray(end + 1);
      onLine(line);
    }
    if (rest.length > MAX_LINE_BYTES) bad(`a line is longer than ${MAX_LINE_BYTES} bytes`);
  };
}
