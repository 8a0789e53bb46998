/** What the tests in the Soft-RoCE VM share: its addresses, rdma-core's own tools, and what the device can do. */
import { Child, describeExit, sleep } from '../e2e/child.js';

/** Why these tests cannot run here; false in the VM. For the `skip` of a test. */
export const notInVm: string | false =
  process.env['LEAP_RXE'] === '1' ? false : 'needs the Soft-RoCE VM: npm run test:rxe';

export const device = 'rxe0';
export const netdev = 'rdma-net';
/** Addresses of the one rxe device: a client and five donors. */
export const addresses = [1, 2, 3, 4, 5, 6].map((last) => `10.9.0.${last}`);
export const addresses6 = [1, 2, 3, 4].map((last) => `fd00:9::${last}`);

/** How much longer things may take here than on the machine itself: emulation is about ten times slower. */
export const SLOW = 10;
const TOOL_MS = 90_000;

/** Runs a program to its end. @returns its output, both streams. @throws when it does not end with 0 in time. */
export async function runTool(command: string, args: readonly string[], ms = TOOL_MS): Promise<string> {
  const child = new Child(command, command, args);
  try {
    const exit = await child.end(ms);
    if (exit.code !== 0)
      throw new Error(`${[command, ...args].join(' ')} ended with ${describeExit(exit)}${child.tail()}`);
    return child.lines.join('\n');
  } finally {
    child.kill('SIGKILL');
  }
}

/**
 * Runs a client against a server, both programs of rdma-core or perftest. None of them tells when it listens, so the
 * client is tried again while the server is still starting. @returns the client's output.
 */
export async function runPair(
  command: string,
  server: readonly string[],
  client: readonly string[],
  ms = TOOL_MS,
): Promise<string> {
  const deadline = performance.now() + ms;
  const listener = new Child(`${command} (server)`, command, server);
  try {
    for (;;) {
      await sleep(1000);
      try {
        return await runTool(command, client, Math.max(deadline - performance.now(), 1000));
      } catch (error) {
        if (performance.now() > deadline || listener.exit !== undefined)
          throw new Error(`${(error as Error).message}\nserver: ${listener.tail()}`);
      }
    }
  } finally {
    listener.kill('SIGKILL');
    await listener.closed;
  }
}

export interface Rates {
  /** A READ of 4 KiB, microseconds. */
  readonly latencyUs: { readonly p50: number; readonly p99: number };
  /** READs of 128 KiB, MB/s. */
  readonly bandwidth: number;
}

/** What rdma-core's own tools get out of the device, in this boot. */
export async function rates(): Promise<Rates> {
  const perftest = async (command: string, options: readonly string[]): Promise<number[]> => {
    const common = ['-R', '-F', '-d', device, ...options];
    const output = await runPair(command, common, [...common, addresses[0] ?? '']);
    const numbers = output.split('\n').map((line) => line.trim().split(/\s+/).map(Number));
    const row = numbers.find((row) => row.length >= 5 && row.every((value) => Number.isFinite(value)));
    if (row === undefined) throw new Error(`${command} gave no figures:\n${output}`);
    return row;
  };
  // bytes, iterations, min, max, typical (the median), average, deviation, 99 %, 99.9 %
  const latency = await perftest('ib_read_lat', ['-s', '4096', '-n', '1000']);
  // bytes, iterations, peak, average, messages
  const bandwidth = await perftest('ib_read_bw', ['-s', '131072', '-n', '500']);
  return { latencyUs: { p50: latency[4] ?? NaN, p99: latency[7] ?? NaN }, bandwidth: bandwidth[3] ?? NaN };
}
