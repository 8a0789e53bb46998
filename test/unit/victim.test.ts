import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pageIndex } from '../../src/core/types.js';
import { VICTIM_POLICIES, createVictimPolicy } from '../../src/policy/victim/index.js';
import type { VictimPolicy } from '../../src/policy/victim/victim.js';
import { heapGrowth } from './models/heap.js';
import { Rng } from './rng.js';

test('every name makes the policy of that name', () => {
  for (const name of VICTIM_POLICIES) assert.equal(createVictimPolicy(name).name, name);
  assert.throws(() => createVictimPolicy('clock'), /unknown victim policy clock; there are /);
});

test('fifo gives pages in the order in which they came', () => {
  const fifo = createVictimPolicy('fifo');
  fifo.reserve(10);
  for (const page of [4, 2, 7, 1]) fifo.inserted(pageIndex(page), false);
  fifo.removed(pageIndex(2));
  const out = new Int32Array(8);
  assert.equal(fifo.next(2, out), 2);
  fifo.restored(pageIndex(4));
  assert.equal(fifo.next(8, out.subarray(2)), 2);
  assert.deepEqual([...out.subarray(0, 4)], [4, 7, 1, 4]);
});

for (const name of VICTIM_POLICIES) {
  test(`${name}, against a set: only residents come out, each once, and all of them in the end`, () => {
    for (let seed = 1; seed <= 60; seed++) {
      const rng = new Rng(seed);
      const policy = createVictimPolicy(name);
      const resident = new Set<number>();
      let victims: number[] = []; // taken out by the last `next`
      let pages = 1 + rng.below(60);
      policy.reserve(pages);
      const out = new Int32Array(64);
      for (let step = 0; step < 600; step++) {
        const page = rng.below(pages);
        const at = `seed ${seed} step ${step}`;
        if (rng.below(4) === 0) policy.streamed(pageIndex(page)); // also one that is resident, or does not come
        switch (rng.below(8)) {
          case 0:
          case 1:
          case 2: // also a page that is resident already
            policy.inserted(pageIndex(page), rng.below(2) === 0);
            resident.add(page);
            break;
          case 3: // also a page that is not resident, or was a victim
            policy.removed(pageIndex(page));
            resident.delete(page);
            break;
          case 4:
            for (const victim of victims.filter((other) => !resident.has(other) && rng.below(2) === 0)) {
              policy.restored(pageIndex(victim));
              resident.add(victim);
            }
            break;
          case 5:
            pages += rng.below(3) === 0 ? rng.below(40) : 0;
            policy.reserve(pages);
            break;
          default: {
            const want = rng.below(rng.below(8) === 0 ? 64 : 6);
            const got = policy.next(want, out);
            victims = [...out.subarray(0, got)];
            assert.equal(got, Math.min(want, resident.size), at);
            for (const victim of victims)
              assert.ok(resident.delete(victim), `${at}: page ${victim} is not resident, or came twice`);
          }
        }
      }
      while (resident.size > 0) {
        const got = policy.next(64, out);
        assert.ok(got > 0, `seed ${seed}: ${resident.size} residents never come out`);
        for (const victim of out.subarray(0, got)) assert.ok(resident.delete(victim));
      }
      assert.equal(policy.next(64, out), 0);
    }
  });

  test(`${name}: pages that can never be taken do not hide the others`, () => {
    const policy = createVictimPolicy(name);
    policy.reserve(100);
    const taken = new Set<number>();
    const isPinned = (page: number): boolean => page < 8;
    for (let page = 0; page < 58; page++) {
      if (!isPinned(page)) policy.streamed(pageIndex(page));
      policy.inserted(pageIndex(page), false);
    }
    const out = new Int32Array(4);
    for (let batch = 0; batch < 300; batch++) {
      for (const page of out.slice(0, policy.next(4, out)))
        if (isPinned(page)) policy.restored(pageIndex(page));
        else taken.add(page);
    }
    assert.equal(taken.size, 50);
  });

  test(`${name}: a page that could not be taken is not offered again at once`, () => {
    const policy = createVictimPolicy(name);
    policy.reserve(1000);
    for (let page = 0; page < 1000; page++) policy.inserted(pageIndex(page), false);
    const out = new Int32Array(32);
    policy.next(32, out);
    const pinned = [...out];
    for (const page of pinned) policy.restored(pageIndex(page));
    for (let batch = 0; batch < 10; batch++) {
      policy.next(32, out);
      for (const page of out) assert.ok(!pinned.includes(page), `page ${page} again in batch ${batch}`);
    }
  });
}

test('no policy allocates after reserve', () => {
  const rng = new Rng(3);
  const pages = Int32Array.from({ length: 100000 }, () => rng.below(5000));
  const out = new Int32Array(16);
  for (const name of VICTIM_POLICIES) {
    const policy = createVictimPolicy(name);
    policy.reserve(5000);
    const grown = heapGrowth(() => {
      for (let i = 0; i < pages.length; i++) {
        if (i % 3 === 0) policy.streamed(pageIndex(pages[i]));
        policy.inserted(pageIndex(pages[i]), false);
        if (i % 16 === 0) policy.next(16, out);
        if (i % 100 === 0) policy.removed(pageIndex(pages[i]));
      }
    });
    assert.ok(grown < 100_000, `${name}: ${grown} bytes for ${pages.length} pages`);
  }
});

/** Touches that fault, of a pattern that runs with `local` pages resident. The policy is told of faults only. */
function faults(
  policy: VictimPolicy,
  pages: number,
  local: number,
  touches: number,
  next: () => number,
  after = 0,
  streamed = false,
): number {
  const resident = new Uint8Array(pages);
  const out = new Int32Array(16);
  let residents = 0;
  let count = 0;
  policy.reserve(pages);
  for (let i = 0; i < pages + touches; i++) {
    const page = i < pages ? i : next();
    if (resident[page] === 1) continue;
    if (i >= pages + after) count++;
    resident[page] = 1;
    if (streamed && i >= pages) policy.streamed(pageIndex(page));
    policy.inserted(pageIndex(page), false);
    if (++residents <= local) continue;
    const got = policy.next(16, out);
    for (let v = 0; v < got; v++) resident[out[v]] = 0;
    residents -= got;
  }
  return count;
}

const PAGES = 8192;
const HOT = Math.floor(PAGES / 5);
/** Faults of the default policy, as a share of FIFO's on the same touches. */
function againstFifo(share: number, touches: number, after: number, pattern: (rng: Rng) => () => number): number {
  const local = Math.floor(PAGES * share);
  const [ours, fifo] = ['returns', 'fifo'].map((name) =>
    faults(createVictimPolicy(name), PAGES, local, touches, pattern(new Rng(9)), after),
  );
  return ours / fifo;
}
const eightyTwenty =
  (rng: Rng, offset: () => number = () => 0) =>
  (): number => {
    const page = rng.below(10) < 8 ? rng.below(HOT) * 5 : rng.below(PAGES);
    return (page + offset()) % PAGES;
  };

test('returns: hot pages stay. 80 % of touches on 20 % of pages, a quarter of them local', () => {
  assert.ok(againstFifo(0.25, PAGES, 0, (rng) => eightyTwenty(rng)) < 1, 'while it learns');
  assert.ok(againstFifo(0.25, 8 * PAGES, 4 * PAGES, (rng) => eightyTwenty(rng)) < 0.75, 'when it has learned');
});

test('returns: a scan does not push hot pages out, and a part of a loop that is too large stays', () => {
  let scan = 0;
  assert.ok(
    againstFifo(
      0.25,
      8 * PAGES,
      2 * PAGES,
      (rng) => () => (rng.below(2) === 0 ? rng.below(PAGES / 8) * 8 : scan++ % PAGES),
    ) < 0.8,
  );
  let loop = 0;
  assert.ok(againstFifo(0.5, 8 * PAGES, 2 * PAGES, () => () => loop++ % Math.floor(PAGES * 0.6)) < 0.6);
});

test('returns: of a loop that does not fit, most of what can stay stays, while it learns too', () => {
  for (const [share, first, later] of [
    [0.5, 0.7, 0.65],
    [0.25, 0.92, 0.85],
  ] as const) {
    let [early, late] = [0, 0];
    assert.ok(againstFifo(share, PAGES, 0, () => () => early++ % PAGES) < first, `${share} local, first sweep`);
    assert.ok(againstFifo(share, 8 * PAGES, 4 * PAGES, () => () => late++ % PAGES) < later, `${share} local, later`);
  }
});

test('returns: what was hot once is given up. The hot set moves again and again; random touches; sweeps', () => {
  const moving = (rng: Rng): (() => number) => {
    let touches = 0;
    return eightyTwenty(rng, () => Math.floor(touches++ / (2 * PAGES)));
  };
  assert.ok(againstFifo(0.25, 20 * PAGES, 0, moving) < 1.15);
  assert.ok(againstFifo(0.25, 8 * PAGES, 0, (rng) => () => rng.below(PAGES)) < 1.02);
  let sweep = 0;
  assert.ok(againstFifo(0.5, 8 * PAGES, 0, () => () => sweep++ % PAGES) <= 1);
});

test('returns: what a stream passes leaves soon, and more of its loop stays', () => {
  const sweep = (streamed: boolean): number => {
    let at = 0;
    return faults(createVictimPolicy('returns'), PAGES, PAGES / 2, 4 * PAGES, () => at++ % PAGES, 0, streamed);
  };
  const [told, untold] = [sweep(true), sweep(false)];
  assert.ok(told < 0.93 * untold, `${told} faults, ${untold} without a word`);
});

test('returns: what a stream passes leaves soon, but not at once: many threads are each on a page', () => {
  const policy = createVictimPolicy('returns');
  policy.reserve(1000);
  const out = new Int32Array(1);
  let soon = 0;
  for (let page = 0; page < 1000; page++) {
    policy.streamed(pageIndex(page));
    policy.inserted(pageIndex(page), false);
    if (page < 300) continue;
    assert.equal(policy.next(1, out), 1);
    assert.ok(page - out[0] >= 64, `page ${out[0]} of ${page}`);
    soon += Number(page - out[0] < 80);
  }
  assert.ok(soon > 500, `${soon} of 700 victims had been passed of late`);
});

test('returns: the same events give the same victims', () => {
  const run = (): number => faults(createVictimPolicy('returns'), PAGES, 2000, 20000, eightyTwenty(new Rng(4)));
  assert.equal(run(), run());
});
