/** Programs that check their own memory, paged to donors over a real RDMA stack: no wrong byte, and the traffic was remote. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Options, paged, Scene, type Stats } from '../e2e/harness.js';
import { addressOf, Donor, donorOf, portal, until } from './donors.js';
import { notInVm } from './harness.js';

const options = { skip: notInVm, timeout: 240_000 };
const two = [addressOf(2), addressOf(3)];

/** What must hold when every page has its copies on two donors. */
function assertRemote(stats: Stats): void {
  assert.ok(stats['remoteWrites']! > 0 && stats['remoteReads']! > 0, JSON.stringify(stats));
  for (const bad of ['hashMismatches', 'lostPages', 'readErrors', 'writeErrors']) assert.equal(stats[bad], 0, bad);
}

for (const [program, work] of [
  ['mix', { pages: 2048, rounds: 2 }],
  ['threads', { pages: 1024, rounds: 1 }],
  ['forker', { pages: 1024, rounds: 2 }],
  ['syscalls', { pages: 1024, rounds: 1 }],
  ['unmap', { pages: 1024, rounds: 2 }],
] as const) {
  test(`${program}, two copies on two donors`, options, async (t) => {
    const scene = new Scene(t);
    for (const address of two) await Donor.start(scene, address);
    let stats: Stats = {};
    await paged(t, {
      program,
      options: work,
      leapd: { portal: portal(scene, two) },
      end: 'detach',
      before: (leapd) => until(leapd, 'chunks on both donors', (now) => two.every((address) => (donorOf(now, address)?.chunks ?? 0) > 0)),
      meanwhile: async (target, leapd) => {
        await target.line(/^HOLD$/, 120_000);
        stats = await leapd.stats();
      },
    });
    assertRemote(stats);
    t.diagnostic(`${stats['remoteReads']} pages read, ${stats['remoteWrites']} written remotely; ${stats['swapWrites']} to the swap file before the donors were mapped`);
  });
}

test('one donor: the second copy is in the swap file, and reads are remote', options, async (t) => {
  const scene = new Scene(t);
  await Donor.start(scene, addressOf(2));
  let stats: Stats = {};
  await paged(t, {
    program: 'mix',
    options: { pages: 2048, rounds: 2 },
    leapd: { portal: `rdma://1,${addressOf(2)}` },
    end: 'detach',
    before: (leapd) => until(leapd, 'a chunk', (now) => (donorOf(now, addressOf(2))?.chunks ?? 0) > 0),
    meanwhile: async (target, leapd) => {
      await target.line(/^HOLD$/, 120_000);
      stats = await leapd.stats();
    },
  });
  assertRemote(stats);
  assert.ok(stats['swapWrites']! > 0, 'every page has a copy in the swap file');
});

test('IPv6, one copy, a token, a chunk size', options, async (t) => {
  const scene = new Scene(t);
  const { writeFileSync } = await import('node:fs');
  const token = `${scene.directory}/token`;
  writeFileSync(token, 'not quite a secret, but long enough\n', { mode: 0o600 });
  await Donor.start(scene, '[fd00:9::2]:9400', { 'token-file': token });
  const leapd: Options = { portal: portal(scene, ['[fd00:9::2]:9400']), 'token-file': token, copies: 1, chunk: '4M' };
  let stats: Stats = {};
  await paged(t, {
    program: 'mix',
    options: { pages: 2048, rounds: 1 },
    leapd,
    before: (running) => until(running, 'a chunk', (now) => (donorOf(now, '[fd00:9::2]:9400')?.chunks ?? 0) > 0),
    meanwhile: async (_target, running) => void (stats = await until(running, 'remote traffic', (now) => now['remoteReads']! > 50 && now['remoteWrites']! > 50)),
    endless: true,
  });
  assertRemote(stats);
});
