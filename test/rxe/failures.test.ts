/**
 * Everything that can go wrong with donors, while a program that checks its own memory works under leapd: it must finish with every byte right.
 * Where the test says so, the pages are seen to be remote again afterwards.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { type Leapd, type Options, paged, Scene, type Stats } from '../e2e/harness.js';
import { addressOf, Donor, donorOf, mapped, portal, traffic, until } from './donors.js';
import { device, netdev, notInVm } from './harness.js';

const options = { skip: notInVm, timeout: 420_000 };
const two = [addressOf(2), addressOf(3)];
const three = [...two, addressOf(4)];

/** Some more work under leapd, with donors or without. */
async function goesOn(leapd: Leapd): Promise<Stats> {
  const { faults } = (await leapd.stats()) as { faults: number };
  return until(leapd, 'more faults served', (now) => now['faults']! > faults + 200);
}

/** The traffic goes to donors again. */
async function isRemote(leapd: Leapd): Promise<Stats> {
  const before = traffic(await leapd.stats());
  return until(leapd, 'remote traffic', (now) => traffic(now) > before + 200);
}

/** Runs the endless program under leapd with these donors, and `act` when its pages are remote. */
async function underLoad(t: TestContext, scene: Scene, addresses: readonly string[], act: (leapd: Leapd) => Promise<void>, more: Options = {}): Promise<void> {
  const leapd = await paged(t, {
    program: 'mix',
    options: { pages: 2048 },
    endless: true,
    busyMs: 0,
    leapd: { portal: portal(scene, addresses), ...more },
    meanwhile: async (_target, running) => {
      await act(running);
      const stats = await goesOn(running);
      for (const bad of ['hashMismatches', 'lostPages']) assert.equal(stats[bad], 0, bad);
    },
  });
  assert.ok(!leapd.said(/is lost: a touch raises SIGBUS/), leapd.tail());
}

const whole = (leapd: Leapd) => until(leapd, 'every page has its copies', (now) => now['copiesPending']! < 64 && mapped(now) > 0);

test('a donor killed with -9 under load, and one that takes its place', options, async (t) => {
  const scene = new Scene(t);
  const donors = await Promise.all(three.map((address) => Donor.start(scene, address)));
  await underLoad(t, scene, three, async (leapd) => {
    await isRemote(leapd);
    await whole(leapd);
    const stats = await leapd.stats();
    const victim = donors.find(({ address }) => (donorOf(stats, address)?.chunks ?? 0) > 0)!;
    victim.kill('SIGKILL');
    await until(leapd, 'the loss is noticed', (now) => donorOf(now, victim.address)?.state !== 'connected');
    await isRemote(leapd);
    await until(leapd, 'new replicas', (now) => donorOf(now, victim.address)?.chunks === 0 && mapped(now) >= mapped(stats));
    assert.ok(leapd.said(new RegExp(`donor ${victim.address} is lost`)));
  });
});

test('all donors killed, and one back again', options, async (t) => {
  const scene = new Scene(t);
  const donors = await Promise.all(two.map((address) => Donor.start(scene, address)));
  await underLoad(t, scene, two, async (leapd) => {
    await isRemote(leapd);
    for (const donor of donors) {
      await whole(leapd); // with two copies, one donor after the other may go: each time what is left is copied again
      donor.kill('SIGKILL');
      await until(leapd, 'the loss is noticed', (now) => donorOf(now, donor.address)?.state !== 'connected');
      await until(leapd, 'the copies made again', (now) => now['copiesPending']! < 64);
    }
    const swapped = (await goesOn(leapd))['swapWrites']!;
    assert.ok(swapped > 0, 'the swap file takes over');
    await Donor.start(scene, two[0]!);
    await isRemote(leapd);
  });
});

test('all donors killed at once, with three copies', options, async (t) => {
  const scene = new Scene(t);
  const donors = await Promise.all(two.map((address) => Donor.start(scene, address)));
  await underLoad(
    t,
    scene,
    two,
    async (leapd) => {
      await isRemote(leapd);
      for (const donor of donors) donor.kill('SIGKILL');
      await until(leapd, 'the loss is noticed', (now) => now.donors!.every(({ state }) => state !== 'connected'));
    },
    { copies: 3 },
  );
});

test('a donor that is started late', options, async (t) => {
  const scene = new Scene(t);
  await underLoad(t, scene, two, async (leapd) => {
    await goesOn(leapd);
    assert.equal(traffic(await leapd.stats()), 0);
    assert.ok(leapd.said(/cannot be used/), 'an unreachable donor is said');
    await Donor.start(scene, two[1]!);
    await isRemote(leapd);
  });
});

test('RDMA switched off and on again at run time', options, async (t) => {
  const scene = new Scene(t);
  for (const address of two) await Donor.start(scene, address);
  await underLoad(t, scene, two, async (leapd) => {
    await isRemote(leapd);
    await leapd.set({ rdma: 'off' });
    await until(leapd, 'all chunks given back', (now) => mapped(now) === 0 && now.donors!.every(({ state, chunks }) => state === 'idle' && chunks === 0));
    const before = traffic(await leapd.stats());
    const stats = await goesOn(leapd);
    assert.equal(traffic(stats), before, 'nothing goes to donors while RDMA is off');
    assert.equal(String(stats['rdma']), 'off');
    await leapd.set({ rdma: 'on' });
    await isRemote(leapd);
  });
});

test('RDMA that is switched on later', options, async (t) => {
  const scene = new Scene(t);
  for (const address of two) await Donor.start(scene, address);
  await underLoad(
    t,
    scene,
    two,
    async (leapd) => {
      await goesOn(leapd);
      assert.equal(traffic(await leapd.stats()), 0);
      await leapd.set({ rdma: 'on' });
      await isRemote(leapd);
    },
    { rdma: 'off' },
  );
});

test('donors that are too small for all of it', options, async (t) => {
  const scene = new Scene(t);
  for (const address of two) await Donor.start(scene, address, { memory: '4M' });
  await underLoad(t, scene, two, async (leapd) => {
    const stats = await isRemote(leapd);
    assert.ok(mapped(stats) > 0 && mapped(stats) <= 2, `${mapped(stats)} replicas of 4 MiB fit`);
    await until(leapd, 'the rest in the swap file', (now) => now['swapWrites']! > 300);
  });
});

test('a donor that is short of memory takes chunks back under load', options, async (t) => {
  const scene = new Scene(t);
  const free = (): number => Number(/MemAvailable:\s+(\d+)/.exec(execFileSync('cat', ['/proc/meminfo'], { encoding: 'utf8' }))?.[1]) / 1024;
  // It wants all but 700 MiB of what is free now to stay free; then somebody takes more than that.
  const reserve = Math.floor(free() - 700);
  const donor = await Donor.start(scene, two[0]!, { reserve: `${reserve}M`, 'reserve-period': 500 });
  const hog = join(scene.directory, 'hog');
  mkdirSync(hog);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=100%', 'hog', hog]);
  scene.atEnd(() => execFileSync('umount', [hog]));
  await underLoad(t, scene, two.slice(0, 1), async (leapd) => {
    await isRemote(leapd);
    execFileSync('fallocate', ['-l', `${Math.max(100, Math.floor(free() - reserve + 100))}M`, join(hog, 'file')]);
    await until(leapd, 'chunks given back', (now) => mapped(now) === 0);
    assert.ok(leapd.said(/wants \d+ chunks? back/), leapd.tail());
    assert.ok(donor.exit === undefined);
    rmSync(join(hog, 'file'));
  });
});

test('a donor that is told to end gives everybody time', options, async (t) => {
  const scene = new Scene(t);
  const [donor] = await Promise.all(two.map((address) => Donor.start(scene, address)));
  await underLoad(
    t,
    scene,
    two.slice(0, 1),
    async (leapd) => {
      await isRemote(leapd);
      donor!.kill('SIGTERM');
      await until(leapd, 'the chunks given back', (now) => mapped(now) === 0);
      assert.equal((await donor!.end(60_000)).code, 0, donor!.tail());
    },
    { copies: 1 }, // nothing else has these pages: each must be fetched back first
  );
});

test('two leapds on one donor, one of them killed', options, async (t) => {
  const scene = new Scene(t);
  const donor = await Donor.start(scene, two[0]!);
  const other = scene.target('mix', { seed: 5, pages: 2048, rounds: 0 });
  const pid = await other.ready();
  const second = await scene.attach(pid, { portal: `rdma://1,${two[0]!}` });
  other.send('go');
  await until(second, 'remote traffic', (now) => traffic(now) > 300);
  await underLoad(t, scene, two.slice(0, 1), async (leapd) => {
    await isRemote(leapd);
    second.kill('SIGKILL');
    process.kill(pid, 'SIGKILL'); // it would wait for ever
    await donor.until('the loss of the client', 60_000, () => (donor.lines.some((line) => /client.*(gone|left|lost|closed)|scrub/i.test(line)) ? true : undefined));
    await isRemote(leapd);
  });
});

test('the address of a donor goes away', options, async (t) => {
  const scene = new Scene(t);
  for (const address of two) await Donor.start(scene, address);
  const ip = (...args: string[]): void => void execFileSync('ip', args);
  scene.atEnd(() => execFileSync('sh', ['-c', `ip addr replace 10.9.0.3/24 dev ${netdev}`]));
  await underLoad(t, scene, two, async (leapd) => {
    await isRemote(leapd);
    await whole(leapd);
    ip('addr', 'del', '10.9.0.3/24', 'dev', netdev);
    await goesOn(leapd);
    ip('addr', 'add', '10.9.0.3/24', 'dev', netdev);
    await isRemote(leapd);
  });
});

test('the RDMA device is removed', options, async (t) => {
  const scene = new Scene(t);
  for (const address of two) await Donor.start(scene, address);
  const rdma = (...args: string[]): void => void execFileSync('rdma', args, { stdio: 'ignore', timeout: 60_000 });
  await underLoad(
    t,
    scene,
    two,
    async (leapd) => {
      await isRemote(leapd);
      rdma('link', 'del', device);
      await until(leapd, 'the loss is noticed', (now) => now.donors!.every(({ state }) => state !== 'connected'));
      await goesOn(leapd);
      rdma('link', 'add', device, 'type', 'rxe', 'netdev', netdev);
    },
    { copies: 3 }, // both donors are gone at once
  );
});
