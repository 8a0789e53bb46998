/** Donors for the tests in the VM: leap-memservers on addresses of the one rxe device, and portals that name them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child } from '../e2e/child.js';
import { type Leapd, type Options, type Scene, type Stats, START_MS, WORK_MS } from '../e2e/harness.js';
import { poll } from '../e2e/child.js';

const memserver = fileURLToPath(new URL('../../server/leap-memserver.js', import.meta.url));
export const CHUNK = '4M';
const PORT = 9400;

/** The address of a donor; number 1 is the client's. */
export const addressOf = (donor: number): string => `10.9.0.${donor}:${PORT}`;

export class Donor extends Child {
  private constructor(
    readonly address: string,
    args: readonly string[],
  ) {
    super(`donor ${address}`, process.execPath, [memserver, ...args]);
  }

  static async start(scene: Scene, address: string, options: Options = {}): Promise<Donor> {
    const all: Options = { memory: '64M', chunk: CHUNK, reserve: '64M', status: join(scene.directory, `donor-${address.replace(/\W/g, '-')}`), ...options };
    const donor = scene.add(new Donor(address, ['--listen', address, ...Object.entries(all).flatMap(([name, value]) => (value === true ? [`--${name}`] : [`--${name}`, String(value)]))]));
    await donor.line(/lending memory/, START_MS);
    return donor;
  }
}

export function portal(scene: Scene, addresses: readonly string[]): string {
  const file = join(scene.directory, 'portal.txt');
  writeFileSync(file, `${addresses.length}\n${addresses.join('\n')}\n`);
  return file;
}

/** Waits until leapd's counters are as wanted. */
export async function until(leapd: Leapd, what: string, wanted: (stats: Stats) => boolean, ms = WORK_MS): Promise<Stats> {
  let stats: Stats = {};
  return poll(
    () => `${what}: ${JSON.stringify(stats)}${leapd.tail()}`,
    ms,
    async () => {
      stats = await leapd.stats();
      return wanted(stats) ? stats : undefined;
    },
  );
}

export const donorOf = (stats: Stats, address: string) => stats.donors?.find((donor) => donor.address === address);
/** Replicas that donors hold now. */
export const mapped = (stats: Stats): number => stats['chunksMapped'] ?? 0;
/** Pages that have gone to and come from donors. */
export const traffic = (stats: Stats): number => (stats['remoteReads'] ?? 0) + (stats['remoteWrites'] ?? 0);
