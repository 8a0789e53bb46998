/**
 * Everything that can go wrong with donors, while a program that checks its own memory works under leapd: it must
 * finish with every byte right. Where the test says so, the pages are seen to be remote again afterwards.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test, type TestContext } from 'node:test';
import { type Leapd, type Options, paged, Scene, type Stats } from '../e2e/harness.js';
import { addressOf, CHUNK, Donor, donorOf, Donors, mapped, portal, traffic, until } from './donors.js';
import { device, netdev, notInVm } from './harness.js';

const options = { skip: notInVm, timeout: 420_000 };
const two = [addressOf(2), addressOf(3)];

const pool = new Donors();
after(() => pool.close());
const addressesOf = (donors: readonly Donor[]): string[] => donors.map(({ address }) => address);

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

/** The donors at these addresses are no longer connected. They stay so for half a second at least. */
const isLost = (leapd: Leapd, ...addresses: readonly string[]): Promise<Stats> =>
  until(leapd, 'the loss is noticed', (now) =>
    addresses.every((address) => donorOf(now, address)?.state !== 'connected'),
  );

/** They are connected, and each holds pages. */
const areBack = (leapd: Leapd, ...addresses: readonly string[]): Promise<Stats> =>
  until(leapd, 'connected again, with chunks', (now) =>
    addresses.every((address) => {
      const donor = donorOf(now, address);
      return donor?.state === 'connected' && donor.chunks > 0;
    }),
  );

/** Three times what leapd keeps in the process and in frames. */
const PAGES = 1024;

/** Runs the endless program under leapd with these donors, and `act` while it works. */
async function underLoad(
  t: TestContext,
  scene: Scene,
  addresses: readonly string[],
  act: (leapd: Leapd) => Promise<void>,
  more: Options = {},
  pages = PAGES,
): Promise<void> {
  const leapd = await paged(t, {
    program: 'mix',
    options: { pages },
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

/**
 * Every page has its copies. The program stands still meanwhile: what it makes leapd evict is always on its way to
 * them.
 */
async function whole(leapd: Leapd): Promise<void> {
  process.kill(leapd.target, 'SIGSTOP');
  await until(leapd, 'every page has its copies', (now) => now['copiesPending'] === 0);
  process.kill(leapd.target, 'SIGCONT');
}

// Two at a time: they are apart, and most of their time is that of a Node that starts, on one CPU.
describe('donors that come and go', { concurrency: 2 }, () => {
  test('RDMA switched off and on again at run time', options, async (t) => {
    const scene = new Scene(t);
    const donors = await pool.take(t, 2);
    await underLoad(t, scene, addressesOf(donors), async (leapd) => {
      await isRemote(leapd);
      await leapd.set({ rdma: 'off' });
      await until(
        leapd,
        'all chunks given back',
        (now) => mapped(now) === 0 && now.donors!.every(({ state, chunks }) => state === 'idle' && chunks === 0),
      );
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
    const donors = await pool.take(t, 2);
    await underLoad(
      t,
      scene,
      addressesOf(donors),
      async (leapd) => {
        await goesOn(leapd);
        assert.equal(traffic(await leapd.stats()), 0);
        await leapd.set({ rdma: 'on' });
        await isRemote(leapd);
      },
      { rdma: 'off' },
    );
  });

  test('two leapds on one donor, one of them killed', options, async (t) => {
    const scene = new Scene(t);
    const donors = await pool.take(t, 1);
    const [donor] = donors;
    assert.ok(donor);
    const other = scene.target('mix', { seed: 5, pages: PAGES, rounds: 0 });
    const pid = await other.ready();
    const second = await scene.attach(pid, { portal: `rdma://1,${donor.address}` });
    other.send('go');
    await until(second, 'remote traffic', (now) => traffic(now) > 300);
    const [its] = (await donor.status()).clients;
    assert.ok(its !== undefined && its.chunks.length > 0);
    await underLoad(t, scene, addressesOf(donors), async (leapd) => {
      await isRemote(leapd);
      const before = await donor.status();
      assert.equal(before.clients.length, 2);
      second.kill('SIGKILL');
      process.kill(pid, 'SIGKILL'); // it would wait for ever
      await donor.settled(
        'the chunks of the killed client, scrubbed and free again',
        ({ clients, chunks, chunksReturned }) => {
          const [left] = clients;
          if (clients.length !== 1 || left === undefined || left.peer === its.peer) return false;
          return (
            chunksReturned >= before.chunksReturned + its.chunks.length &&
            chunks.lent === left.chunks.length &&
            chunks.free === chunks.total - chunks.lent
          );
        },
      );
      await isRemote(leapd);
    });
  });

  test('donors that are too small for all of it', options, async (t) => {
    const scene = new Scene(t);
    const small = [addressOf(4), addressOf(5)];
    await Promise.all(small.map((address) => Donor.start(scene, address, { memory: CHUNK })));
    await underLoad(
      t,
      scene,
      small,
      async (leapd) => {
        const stats = await isRemote(leapd);
        assert.ok(mapped(stats) > 0 && mapped(stats) <= 2, `${mapped(stats)} replicas of ${CHUNK} fit`);
        await until(leapd, 'the rest in the swap file', (now) => now['swapWrites']! > 300);
      },
      {},
      2 * PAGES, // two chunks
    );
  });

  test('a donor killed with -9 under load, and one that takes its place', options, async (t) => {
    const scene = new Scene(t);
    const donors = await pool.take(t, 3);
    await underLoad(t, scene, addressesOf(donors), async (leapd) => {
      await isRemote(leapd);
      await whole(leapd);
      const stats = await leapd.stats();
      const victim = donors.find(({ address }) => (donorOf(stats, address)?.chunks ?? 0) > 0)!;
      victim.kill('SIGKILL');
      await isLost(leapd, victim.address);
      await isRemote(leapd);
      await until(
        leapd,
        'new replicas',
        (now) => donorOf(now, victim.address)?.chunks === 0 && mapped(now) >= mapped(stats),
      );
      assert.ok(leapd.said(new RegExp(`donor ${victim.address} is lost`)));
    });
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

  test('all donors killed, and one back again', options, async (t) => {
    const scene = new Scene(t);
    const donors = await pool.take(t, 2);
    await underLoad(t, scene, addressesOf(donors), async (leapd) => {
      await isRemote(leapd);
      for (const donor of donors) {
        await whole(leapd); // with two copies, one donor after the other may go: each time what is left is copied again
        donor.kill('SIGKILL');
        await isLost(leapd, donor.address);
      }
      const swapped = (await goesOn(leapd))['swapWrites']!;
      assert.ok(swapped > 0, 'the swap file takes over');
      await Donor.start(scene, donors[1]!.address); // it has been away for less long, and is tried again sooner
      await isRemote(leapd);
    });
  });

  test('all donors killed at once, with three copies', options, async (t) => {
    const scene = new Scene(t);
    const donors = await pool.take(t, 2);
    await underLoad(
      t,
      scene,
      addressesOf(donors),
      async (leapd) => {
        await isRemote(leapd);
        for (const donor of donors) donor.kill('SIGKILL');
        const before = (await isLost(leapd, ...addressesOf(donors)))['swapReads']!;
        await until(leapd, 'pages read from the swap file', (now) => now['swapReads']! > before + 200);
      },
      { copies: 3 },
    );
  });
});

// This one has a few seconds to give its pages back in.
test('a donor that is told to end gives everybody time', options, async (t) => {
  const scene = new Scene(t);
  const donors = await pool.take(t, 1);
  await underLoad(
    t,
    scene,
    addressesOf(donors),
    async (leapd) => {
      await isRemote(leapd);
      const [donor] = donors;
      donor!.kill('SIGTERM');
      await until(leapd, 'the chunks given back', (now) => mapped(now) === 0);
      assert.equal((await donor!.end(60_000)).code, 0, donor!.tail());
    },
    { copies: 1 }, // nothing else has these pages: each must be fetched back first
  );
});

// These change what all donors stand on.

test('a donor that is short of memory takes chunks back under load', options, async (t) => {
  const scene = new Scene(t);
  const free = (): number =>
    Number(/MemAvailable:\s+(\d+)/.exec(execFileSync('cat', ['/proc/meminfo'], { encoding: 'utf8' }))?.[1]) / 1024;
  // It wants all but 400 MiB of what is free now to stay free; then somebody takes more than that.
  const reserve = Math.floor(free() - 400);
  const donor = await Donor.start(scene, two[0]!, { reserve: `${reserve}M`, 'reserve-period': 500 });
  const hog = join(scene.directory, 'hog');
  mkdirSync(hog);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=100%', 'hog', hog]);
  scene.atEnd(() => execFileSync('umount', [hog]));
  await underLoad(t, scene, two.slice(0, 1), async (leapd) => {
    await isRemote(leapd);
    execFileSync('fallocate', ['-l', `${Math.max(100, Math.floor(free() - reserve + 100))}M`, join(hog, 'file')]);
    await until(leapd, 'chunks given back', (now) => mapped(now) === 0);
    assert.ok(leapd.said(/asks for \d+ chunks/), leapd.tail());
    assert.ok(donor.exit === undefined);
    rmSync(join(hog, 'file'));
  });
});

test('the address of a donor goes away', options, async (t) => {
  const scene = new Scene(t);
  await Promise.all(two.map((address) => Donor.start(scene, address)));
  const away = two[1]!;
  const ip = (...args: string[]): void => void execFileSync('ip', args);
  scene.atEnd(() => ip('addr', 'replace', '10.9.0.3/24', 'dev', netdev));
  await underLoad(t, scene, two, async (leapd) => {
    await isRemote(leapd);
    await whole(leapd);
    await areBack(leapd, away);
    ip('addr', 'del', '10.9.0.3/24', 'dev', netdev);
    await isLost(leapd, away);
    await goesOn(leapd);
    ip('addr', 'add', '10.9.0.3/24', 'dev', netdev);
    await areBack(leapd, away);
    await isRemote(leapd);
  });
});

test('the RDMA device is removed', options, async (t) => {
  const scene = new Scene(t);
  const donors = await pool.take(t, 2);
  const rdma = (...args: string[]): void => void execFileSync('rdma', args, { stdio: 'ignore', timeout: 60_000 });
  await underLoad(
    t,
    scene,
    addressesOf(donors),
    async (leapd) => {
      await isRemote(leapd);
      rdma('link', 'del', device);
      await isLost(leapd, ...addressesOf(donors));
      await goesOn(leapd);
      rdma('link', 'add', device, 'type', 'rxe', 'netdev', netdev);
      await isRemote(leapd);
    },
    { copies: 3 }, // both donors are gone at once
  );
});
