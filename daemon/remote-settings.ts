/** From the options to what the pager's thread needs of the donors: the portal read, names looked up, the token read. Nothing is touched before. */
import { lookup } from 'node:dns/promises';
import { readFileSync, statSync } from 'node:fs';
import { isPortalText, parsePortalFile, parsePortalText, PortalError, type PortalAddress } from '../src/remote/portal.js';
import { tokenFrom } from '../src/wire/auth.js';
import { errnoName, ExitCode, Refusal } from './exit-codes.js';
import type { RemoteOptions } from './options.js';

/** Plain data: it crosses to the worker. */
export interface RemoteSettings {
  readonly on: boolean;
  /** Numeric addresses. */
  readonly donors: readonly PortalAddress[];
  readonly token: Uint8Array | undefined;
  readonly chunkBytes: number;
  readonly ahead: boolean;
  readonly activity: RemoteOptions['activity'];
  readonly threshold: number;
  readonly legacy: boolean;
}

const FORM = 'a portal has one donor a line, such as 10.0.0.2:9400';

/** @throws Refusal */
export async function remoteSettings(options: RemoteOptions): Promise<RemoteSettings> {
  const { portal, on, tokenFile, chunkBytes, ahead, activity, threshold, legacy } = options;
  const donors = await Promise.all(readPortal(portal).map(numeric));
  const token = tokenFile === undefined ? undefined : readToken(tokenFile);
  return { on, donors, token, chunkBytes: chunkBytes ?? 0, ahead, activity, threshold, legacy };
}

function readPortal(portal: string): PortalAddress[] {
  try {
    return isPortalText(portal) ? parsePortalText(portal) : parsePortalFile(readText(portal, '--portal', FORM), portal);
  } catch (error) {
    if (error instanceof PortalError) throw new Refusal(ExitCode.usage, error.message, FORM);
    throw error;
  }
}

function readText(path: string, option: string, remedy: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Refusal(ExitCode.usage, `${option}: ${path} cannot be read (${errnoName(error)})`, remedy);
  }
}

async function numeric({ host, port }: PortalAddress): Promise<PortalAddress> {
  try {
    return { host: (await lookup(host)).address, port };
  } catch (error) {
    throw new Refusal(ExitCode.usage, `--portal: there is no address for the name ${host} (${errnoName(error)})`, 'give its number, or mend the name service');
  }
}

/** Shared with leap-memserver. @throws Refusal */
export function readToken(path: string): Uint8Array {
  const text = readText(path, '--token-file', 'make one with: head -c 32 /dev/urandom | base64');
  const read = tokenFrom(text, statSync(path).mode);
  if ('token' in read) return read.token;
  throw new Refusal(ExitCode.usage, `--token-file: ${path} ${read.problem}`, read.remedy);
}
