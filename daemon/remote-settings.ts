/**
 * From the options to what the pager's thread needs of the donors: the portal read, names looked up, the token read.
 * Nothing is touched before.
 */
import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import {
  isPortalText,
  parsePortalFile,
  parsePortalText,
  PortalError,
  type PortalAddress,
  type PortalEntry,
} from '../src/donors/portal.js';
import { errnoName, ExitCode, Refusal } from '../src/cli/exit-codes.js';
import type { RemoteOptions } from './leapd-options.js';
import { readToken } from '../src/cli/token-file.js';

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

/** A name's address. */
export type Lookup = (name: string) => Promise<string>;

/**
 * @returns besides, what to warn of: a donor whose name cannot be looked up is no reason to do without the others
 * @throws Refusal
 */
export async function remoteSettings(
  options: RemoteOptions,
  find: Lookup = lookUp,
): Promise<{ readonly settings: RemoteSettings; readonly warnings: readonly string[] }> {
  const { portal, on, tokenFile, chunkBytes, ahead, activity, threshold, legacy } = options;
  const entries = readPortal(portal);
  const token = tokenFile === undefined ? undefined : readToken(tokenFile);
  const warnings: string[] = [];
  const donors: PortalEntry[] = [];
  for (const found of await Promise.all(entries.map((entry) => numeric(entry, find)))) {
    if (typeof found === 'string') warnings.push(`${found}; this donor is left out`);
    else donors.push(distinct(found, donors));
  }
  if (donors.length === 0)
    throw new Refusal(
      ExitCode.usage,
      warnings[0]?.replace(/;.*/, '') ?? `${portal} names no donor`,
      'give its numeric address, or repair the name service',
    );
  const addresses = donors.map(({ host, port }) => ({ host, port }));
  return {
    settings: { on, donors: addresses, token, chunkBytes: chunkBytes ?? 0, ahead, activity, threshold, legacy },
    warnings,
  };
}

function readPortal(portal: string): PortalEntry[] {
  try {
    return isPortalText(portal) ? parsePortalText(portal) : parsePortalFile(readText(portal), portal);
  } catch (error) {
    if (error instanceof PortalError) throw new Refusal(ExitCode.usage, error.message, FORM);
    throw error;
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Refusal(ExitCode.usage, `--portal: ${path} cannot be read (${errnoName(error)})`, FORM);
  }
}

const lookUp: Lookup = async (name) => (await lookup(name)).address;

/** @returns in words what is wrong, when the name has no address */
async function numeric({ host, port, where }: PortalEntry, find: Lookup): Promise<PortalEntry | string> {
  try {
    return { host: await find(host), port, where };
  } catch (error) {
    return `${where}: the name ${host} cannot be looked up (${errnoName(error)})`;
  }
}

/** Two copies of a page on what seems to be two donors would be lost together. */
function distinct(entry: PortalEntry, others: readonly PortalEntry[]): PortalEntry {
  const same = others.find(({ host, port }) => host === entry.host && port === entry.port);
  if (same === undefined) return entry;
  throw new Refusal(
    ExitCode.usage,
    `${entry.where}: ${entry.host}:${entry.port} is also the donor of ${same.where}`,
    'name each donor once',
  );
}
