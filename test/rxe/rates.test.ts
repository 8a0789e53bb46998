/**
 * What leapd gets out of the device, beside what rdma-core's own tools get out of it in the same boot. Everything here
 * is emulated, so only the ratios mean something: a demand read against ib_read_lat and the cost of a bare userfaultfd
 * fault, a stream of windows against ib_read_bw.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { PAGE_BYTES, type Pattern, TouchProgram } from '../../bench/touch-program.js';
import { UndoStack } from '../../src/host/undo-stack.js';
import { calibrate } from '../../src/host/native-engine.js';
import { Scene, type Stats } from '../e2e/harness.js';
import { addressOf, Donor, mapped, portal, until } from './donors.js';
import { notInVm, rates } from './harness.js';

const MIB = 16;
/**
 * Of the pages: so many at least must come from the donor for a rate to be one of RDMA. The rest is in the frames that
 * what is evicted passes through.
 */
const REMOTE_SHARE = 0.85;
/**
 * Twice the worst that was seen, for a machine that is busy with other things besides: 11 where an idle one has 3 to 8
 * (the bare fault varies), 6 where it has 4, 0.12 where it has 0.29.
 */
const bounds = { demand: 20, read: 12, stream: 0.06 };

interface Quantiles {
  readonly p50: number;
  readonly p99: number;
}

const us = (ns: number): string => (ns / 1000).toFixed(0);

/**
 * The host may have been busy with other things in one of the two that are compared: so often they are measured before
 * the bounds decide.
 */
const ATTEMPTS = 3;

interface Ratios {
  readonly demand: number;
  readonly read: number;
  readonly stream: number;
}
const isWithin = ({ demand, read, stream }: Ratios): boolean =>
  demand < bounds.demand && read < bounds.read && stream > bounds.stream;

test(
  'demand reads and streams of leapd against ib_read_lat and ib_read_bw',
  { skip: notInVm, timeout: 400_000 },
  async (t) => {
    const scene = new Scene(t);
    await Donor.start(scene, addressOf(2), { memory: '32M', chunk: '32M' }); // one chunk holds all
    let ratios = await measured(t, scene);
    for (let attempt = 1; attempt < ATTEMPTS && !isWithin(ratios); attempt++) ratios = await measured(t, scene);
    assert.ok(isWithin(ratios), `${JSON.stringify(ratios)}, and may be ${JSON.stringify(bounds)}`);
  },
);

async function measured(t: TestContext, scene: Scene): Promise<Ratios> {
  const tools = await rates();
  assert.ok(
    tools.latencyUs.p50 > 0 && tools.latencyUs.p99 >= tools.latencyUs.p50 && tools.bandwidth > 0,
    JSON.stringify(tools),
  );
  const floor = calibrate().sameCpuBlocking / 1000;
  const undo = new UndoStack();
  return undo.within(async () => {
    const program = await TouchProgram.start(undo, MIB);
    const small = '256K';
    const leapd = await scene.attach(program.pid, {
      portal: portal(scene, [addressOf(2)]),
      copies: 1,
      'local-memory': small,
      'prefetch-buffer': 96,
    });
    // All that has left the process is on the donor, what left it before the chunk was mapped too.
    const out = (): Promise<Stats> =>
      until(leapd, 'all pages on the donor', (now) => {
        const left = now['evictions']! - now['cleanEvictions']! - now['zeroPages']!;
        return (
          mapped(now) > 0 &&
          now['residentPages']! <= now['localLimitPages']! &&
          now['remoteWrites']! >= left &&
          now['copiesPending'] === 0
        );
      });
    /**
     * Runs a pattern with the limit lifted: but for the last few nothing is evicted while pages come in, reads alone as
     * the tools do.
     */
    const pass = async (pattern: Pattern): Promise<{ remote: number; us: number; stats: Stats }> => {
      const before = await out();
      await leapd.set({ 'local-memory': String(before['registeredPages']! * PAGE_BYTES) });
      const perTouch = await program.run(pattern);
      const came = (now: Stats, name: string): number => now[name]! - before[name]!;
      const stats = await until(
        leapd,
        'every read from the donor',
        (now) => came(now, 'remoteReads') === came(now, 'demandReads') + came(now, 'prefetchIssued'),
      );
      for (const none of ['swapReads', 'swapWrites']) assert.equal(came(stats, none), 0, `${none} during a pass`);
      for (const bad of ['hashMismatches', 'lostPages', 'readErrors', 'writeErrors']) assert.equal(stats[bad], 0, bad);
      return { remote: came(stats, 'remoteReads'), us: perTouch * program.pages, stats };
    };

    await leapd.set({ prefetch: 'none' });
    const demand = await pass('random');
    const { faults, demandReads, faultLatencyNs, donors } = demand.stats as unknown as {
      faults: number;
      demandReads: number;
      faultLatencyNs: Quantiles;
      donors: { readLatencyNs: Quantiles }[];
    };
    assert.equal(demand.remote, demandReads);
    assert.ok(demandReads > REMOTE_SHARE * faults, `${demandReads} of ${faults} faults were reads`);
    const read = donors[0]!.readLatencyNs;
    const ratio = faultLatencyNs.p50 / 1000 / (tools.latencyUs.p50 + floor);
    t.diagnostic(
      `4 KiB: ib_read_lat p50 ${tools.latencyUs.p50} p99 ${tools.latencyUs.p99} us; a bare userfaultfd fault p50 ${floor.toFixed(0)} us`,
    );
    t.diagnostic(
      `4 KiB: leapd's reads p50 ${us(read.p50)} p99 ${us(read.p99)} us; its faults p50 ${us(faultLatencyNs.p50)} p99 ${us(faultLatencyNs.p99)} us`,
    );
    t.diagnostic(
      `demand fault p50 / (ib_read_lat p50 + bare fault): ${ratio.toFixed(2)} (goal 1.2); ${demandReads} of ${faults} faults read from the donor`,
    );

    await leapd.set({ prefetch: 'leap', 'window-max': '32', 'local-memory': small });
    const stream = await pass('seq');
    assert.ok(
      stream.remote > REMOTE_SHARE * program.pages,
      `${stream.remote} of ${program.pages} pages came from the donor`,
    );
    const rate = (stream.remote * PAGE_BYTES) / stream.us;
    t.diagnostic(
      `128 KiB: ib_read_bw ${tools.bandwidth.toFixed(1)} MB/s; a sequential pass under leapd reads ${rate.toFixed(1)} MB/s: ${(rate / tools.bandwidth).toFixed(2)} (goal 0.9)`,
    );
    t.diagnostic(`of its ${program.pages} pages ${stream.remote} came from the donor`);
    await program.check();
    await leapd.detach();
    return { demand: ratio, read: read.p50 / 1000 / tools.latencyUs.p50, stream: rate / tools.bandwidth };
  });
}
