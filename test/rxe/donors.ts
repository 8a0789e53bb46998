/** Donors for the tests in the VM: leap-memservers on addresses of the one rxe device, and portals that name them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { call } from '../../src/cli/control-client.js';
import type { Status } from '../../server/server.js';
import { Child, poll } from '../e2e/child.js';
import { type Leapd, type Options, type Scene, type Stats, START_MS, WORK_MS } from '../e2e/harness.js';

const memserver = fileURLToPath(new URL('../../server/leap-memserver.js', import.meta.url));
export const CHUNK = '4M';
const PORT = 9400;
/** From number 2 on. */
const DONOR_ADDRESSES = 5;

/** The address of a donor; number 1 is the client's. */
export const addressOf = (donor: number, port = PORT): string => `10.9.0.${donor}:${port}`;

export class Donor extends Child {
  private constructor(
    readonly address: string,
    private readonly socket: string,
    args: readonly string[],
  ) {
    super(`donor ${address}`, process.execPath, [memserver, '--listen', address, '--status', socket, ...args]);
  }

  static async start(scene: Pick<Scene, 'add' | 'directory'>, address: string, options: Options = {}): Promise<Donor> {
    const all: Options = { memory: '16M', chunk: CHUNK, reserve: '64M', ...options };
    const socket = join(scene.directory, `donor-${address.replace(/\W/g, '-')}`);
    const donor = scene.add(
      new Donor(
        address,
        socket,
        Object.entries(all).flatMap(([name, value]) => (value === true ? [`--${name}`] : [`--${name}`, String(value)])),
      ),
    );
    await donor.line(/lending memory/, START_MS);
    return donor;
  }

  async status(): Promise<Status> {
    return (await call({ socket: this.socket, command: 'status' })) as unknown as Status;
  }

  /** It has back all that it had lent, cleared, and nobody is connected. */
  async isAsNew(): Promise<boolean> {
    if (this.exit !== undefined) return false;
    const asNew = ({ clients, chunks, listen, listening }: Status): boolean =>
      clients.length === 0 && chunks.free === chunks.total && listening === listen.length;
    return this.settled('everything back', asNew, START_MS).then(
      () => true,
      () => false,
    );
  }

  /** Waits until its status is as wanted. */
  async settled(what: string, wanted: (status: Status) => boolean, ms = WORK_MS): Promise<Status> {
    let status = await this.status();
    return poll(
      () => `${what}: ${JSON.stringify(status)}${this.tail()}`,
      ms,
      async () => (wanted((status = await this.status())) ? status : undefined),
    );
  }
}

/**
 * Donors that outlive a test: the next one finds them as new, or gets others. A Node takes an emulated machine five
 * seconds to start, most of what a test takes.
 */
export class Donors {
  readonly directory = mkdtempSync(join(tmpdir(), 'leap-donors-'));
  private readonly idle: Donor[] = [];
  private started = 0;

  add<T extends Child>(child: T): T {
    return child; // this process's end is theirs
  }

  /** For this test alone. */
  async take(test: TestContext, count: number): Promise<Donor[]> {
    const taken = await Promise.all(Array.from({ length: count }, () => this.next()));
    test.after(() => void this.idle.push(...taken));
    return taken;
  }

  private async next(): Promise<Donor> {
    for (let donor = this.idle.shift(); donor !== undefined; donor = this.idle.shift()) {
      if (await donor.isAsNew()) return donor;
      donor.kill('SIGKILL');
    }
    const number = this.started++;
    return Donor.start(this, addressOf(2 + (number % DONOR_ADDRESSES), PORT + 1 + number));
  }

  async close(): Promise<void> {
    for (const donor of this.idle) donor.kill('SIGKILL');
    await Promise.all(this.idle.map(({ closed }) => closed));
    rmSync(this.directory, { recursive: true });
  }
}

export function portal(scene: Scene, addresses: readonly string[]): string {
  const file = join(scene.directory, 'portal.txt');
  writeFileSync(file, `${addresses.length}\n${addresses.join('\n')}\n`);
  return file;
}

/** Waits until leapd's counters are as wanted. */
export async function until(
  leapd: Leapd,
  what: string,
  wanted: (stats: Stats) => boolean,
  ms = WORK_MS,
): Promise<Stats> {
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
