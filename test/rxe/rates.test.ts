/**
 * What leapd gets out of the device, beside what rdma-core's own tools get out of it in the same boot. Everything here is emulated, so only the ratios
 * mean something: a demand read against ib_read_lat and the cost of a bare userfaultfd fault, a stream of windows against ib_read_bw.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_BYTES, TouchProgram } from '../../bench/touch-program.js';
import { UndoStack } from '../../bench/undo.js';
import { calibrate } from '../../daemon/native-engine.js';
import { Scene } from '../e2e/harness.js';
import { addressOf, Donor, mapped, portal, until } from './donors.js';
import { notInVm, rates } from './harness.js';

const MIB = 16;
interface Quantiles {
  readonly p50: number;
  readonly p99: number;
}

const us = (ns: number): string => (ns / 1000).toFixed(0);

test('demand reads and streams of leapd against ib_read_lat and ib_read_bw', { skip: notInVm, timeout: 400_000 }, async (t) => {
  const tools = await rates();
  const floor = calibrate().sameCpuBlocking / 1000;
  const scene = new Scene(t);
  await Donor.start(scene, addressOf(2), { memory: '128M', chunk: '16M' });
  const undo = new UndoStack();
  await undo.within(async () => {
    const program = await TouchProgram.start(undo, MIB);
    const small = '2M';
    const leapd = await scene.attach(program.pid, { portal: portal(scene, [addressOf(2)]), copies: 1, 'local-memory': small, 'prefetch-buffer': 256 });
    // Everything goes out; then the limit is lifted, so that nothing is evicted while pages come in: reads alone, as the tools do.
    const out = (): Promise<unknown> => until(leapd, 'the chunk, and all pages out', (now) => mapped(now) > 0 && now['residentPages']! <= now['localLimitPages']!);
    await out();
    await leapd.set({ prefetch: 'none', 'local-memory': '1G' });
    await program.run('random');
    const { faultLatencyNs, donors } = (await leapd.stats()) as unknown as { faultLatencyNs: Quantiles; donors: { readLatencyNs: Quantiles }[] };
    const read = donors[0]!.readLatencyNs;
    const ratio = faultLatencyNs.p50 / 1000 / (tools.latencyUs.p50 + floor);
    t.diagnostic(`4 KiB: ib_read_lat p50 ${tools.latencyUs.p50} p99 ${tools.latencyUs.p99} us; a bare userfaultfd fault p50 ${floor.toFixed(0)} us`);
    t.diagnostic(`4 KiB: leapd's reads p50 ${us(read.p50)} p99 ${us(read.p99)} us; its faults p50 ${us(faultLatencyNs.p50)} p99 ${us(faultLatencyNs.p99)} us`);
    t.diagnostic(`demand fault p50 / (ib_read_lat p50 + bare fault): ${ratio.toFixed(2)} (goal 1.2)`);
    assert.ok(Number.isFinite(ratio) && ratio < 50, String(ratio));

    await leapd.set({ prefetch: 'leap', 'window-max': '32', 'local-memory': small });
    await out();
    await leapd.set({ 'local-memory': '1G' });
    const before = await leapd.stats();
    const perTouch = await program.run('seq');
    const after = await leapd.stats();
    const remote = (after['remoteReads']! - before['remoteReads']!) * PAGE_BYTES;
    const rate = remote / (perTouch * program.pages);
    t.diagnostic(`128 KiB: ib_read_bw ${tools.bandwidth.toFixed(1)} MB/s; a sequential pass under leapd reads ${rate.toFixed(1)} MB/s: ${(rate / tools.bandwidth).toFixed(2)} (goal 0.9)`);
    assert.ok(remote > 0 && after['lostPages'] === 0 && after['hashMismatches'] === 0);
    await program.check();
    await leapd.detach();
  });
});
