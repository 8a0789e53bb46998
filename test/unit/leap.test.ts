import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LeapPrefetcher, THREADS } from '../../src/policy/prefetch/leap.js';
import { FaultKind, Plan } from '../../src/policy/prefetch/prefetcher.js';
import { pageIndex } from '../../src/core/types.js';
import { StreamPager } from './models/stream-pager.js';
import { Rng } from './rng.js';

const OPTIONS = { history: 32, windowMax: 32 };

/**
 * Faults one after the other; the plan of each as text: "start+stride*count", "!" when it may be mapped ahead, "-" when
 * there is none.
 */
function plans(
  leap: LeapPrefetcher,
  faults: readonly (readonly [page: number, kind: number, ahead?: number])[],
  thread = 1,
): string[] {
  const plan = new Plan();
  return faults.map(([page, kind, ahead = 0]) => {
    leap.fault(pageIndex(page), thread, kind, ahead, plan);
    return plan.count === 0 ? '-' : `${plan.start}+${plan.stride}*${plan.count}${plan.mapAhead ? '!' : ''}`;
  });
}
const { miss, prefetchHit, evictedHit, zero } = FaultKind;

test('a stream from its first fault: the window doubles, each plan begins where the last one ended', () => {
  const leap = new LeapPrefetcher(OPTIONS);
  const faults = [
    [100, miss],
    [101, miss],
    ...[102, 103, 104, 105, 106, 107].map((page) => [page, prefetchHit] as const),
  ] as const;
  assert.deepEqual(plans(leap, faults), ['-', '102+1*1', '103+1*2!', '105+1*2!', '-', '107+1*4!', '-', '111+1*4!']);
});

test('a fault at the marker is one step of the stream and brings what was mapped ahead as hits', () => {
  const leap = new LeapPrefetcher(OPTIONS);
  // Stride -3, and from the third fault on only every window's first page faults.
  const markers = [
    [894, 0],
    [891, 0],
    [885, 1],
    [879, 1],
    [867, 3],
  ].map(([page, ahead]) => [page, prefetchHit, ahead] as const);
  const faults = [[900, miss], [897, miss], ...markers] as const;
  assert.deepEqual(plans(leap, faults), [
    '-',
    '894+-3*1',
    '891+-3*2!',
    '885+-3*2!',
    '879+-3*4!',
    '867+-3*4!',
    '855+-3*8!',
  ]);
  assert.equal(leap.counters.trendsFound, 6);
});

test('a thread that had to wait for a window gets more of them read ahead, one more each time', () => {
  const leap = new LeapPrefetcher({ history: 32, windowMax: 4 });
  const plan = new Plan();
  /** A fault at a marker; how many pages are planned behind the ones it leaves in front of it. */
  const marker = (page: number, late: boolean): string => {
    plan.late = late;
    leap.fault(pageIndex(page), 1, prefetchHit, 3, plan);
    return `${plan.start}+${plan.count}`;
  };
  plans(leap, [
    [0, miss],
    [1, miss],
    [2, prefetchHit],
    [3, prefetchHit, 1],
    [5, prefetchHit, 1],
  ]);
  assert.equal(marker(9, false), '13+4', 'in time: one window behind this one');
  assert.equal(marker(13, true), '17+8', 'late: two');
  assert.equal(marker(17, false), '25+4', 'topped up to two');
  assert.equal(marker(21, true), '29+8', 'late again: three');
  assert.equal(marker(25, true), '37+4', 'and no more than that');
  // Elsewhere it begins anew.
  assert.equal(plans(leap, [[1000, miss]])[0], '1001+1*2');
});

test('a marker that the pager sets further on than the plan keeps the stream going', () => {
  const leap = new LeapPrefetcher(OPTIONS);
  const faults = [
    [10, zero],
    [11, zero],
    [12, zero],
    [15, zero, 2],
    [20, zero, 4],
    [29, zero, 8],
    [46, zero, 16],
  ] as const;
  assert.deepEqual(plans(leap, faults), ['-', '12+1*1', '13+1*2!', '16+1*4!', '21+1*8!', '30+1*16!', '47+1*32!']);
});

test('no trend, no hits: suspended; every prefetched page of a random pattern is paid for by a hit or a trend', () => {
  const leap = new LeapPrefetcher(OPTIONS);
  const pager = new StreamPager(leap, 1 << 20);
  const rng = new Rng(7);
  for (let i = 0; i < 20000; i++) pager.touch(rng.below(1 << 20));
  assert.ok(pager.fetched < 20, `fetched ${pager.fetched}`);
  assert.equal(pager.mappedAhead, 0);
});

test('off the trend the window is halved, along the old trend first, and around the page once no trend is left', () => {
  const leap = new LeapPrefetcher({ history: 8, windowMax: 32 });
  const pager = new StreamPager(leap, 4000);
  for (let page = 0; page < 1000; page++) pager.touch(page);
  const jumps = [
    [2000, miss],
    [3500, miss],
    [1200, miss],
    [3000, miss],
    [1500, miss],
    [3900, miss],
  ] as const;
  // The fourth jump leaves four steps of 1 among the newest eight deltas: no majority.
  assert.deepEqual(plans(leap, jumps.slice(0, 4)), ['2001+1*16', '3501+1*8', '1201+1*4', '2999+1*3']);
  assert.deepEqual(plans(leap, [[1203, prefetchHit]]), ['-'], 'a guess has no stream, and has ended the one before it');
  assert.deepEqual(plans(leap, jumps.slice(4)), ['1499+1*3', '3900+1*2']);
});

test('a window is never below half of the last, and goes on for five faults off the trend', () => {
  const leap = new LeapPrefetcher(OPTIONS);
  const pager = new StreamPager(leap, 100000);
  for (let page = 0; page < 2000; page++) pager.touch(page);
  const rng = new Rng(3);
  const far = Array.from({ length: 8 }, () => [10000 + rng.below(80000), miss] as const);
  const counts = plans(leap, far).map((text) => (text === '-' ? 0 : Number(text.split('*')[1].replace('!', ''))));
  // One more page when it is around the page that faulted, which is skipped.
  const allowed = [16, 8, 4, 2, 1, 0, 0, 0];
  counts.forEach((count, i) =>
    assert.ok(count === allowed[i] || (allowed[i] > 0 && count === allowed[i] + 1), `${counts.join(' ')}`),
  );
});

test('mapped ahead is only what is proven: not where few pages of the window were used, not behind a jump', () => {
  const grow = [
    [100, zero],
    [101, zero],
    [102, zero],
    [105, zero, 2],
    [110, zero, 4],
    [119, zero, 8],
  ] as const;
  const used = new LeapPrefetcher(OPTIONS);
  assert.deepEqual(plans(used, [...grow, [120, prefetchHit]]).at(-1), '136+1*8!');
  const unused = new LeapPrefetcher(OPTIONS);
  // The marker again, and the window before it 16 pages long; but only three of them were there to be mapped.
  assert.deepEqual(plans(unused, [...grow, [135, prefetchHit, 3]]).at(-1), '136+1*8');
  const jumps = new LeapPrefetcher(OPTIONS);
  const hits = Array.from({ length: 12 }, (_, i) => [121 + i, prefetchHit] as const);
  assert.deepEqual(plans(jumps, [...grow, [120, prefetchHit], ...hits, [7000, miss]]).at(-1), '7001+1*16');
});

test('threads do not spoil each other: two streams at once are as good as one', () => {
  for (const delay of [0, 3]) {
    const pager = new StreamPager(new LeapPrefetcher(OPTIONS), 20000, delay, false);
    for (let i = 0; i < 4000; i++) {
      pager.touch(i, 1);
      pager.touch(19999 - 2 * i, 2);
    }
    assert.ok(pager.misses < 8000 * 0.01, `delay ${delay}: ${pager.misses} misses`);
  }
});

test('the table of threads is bounded: the least recent thread is forgotten, the others are not', () => {
  const leap = new LeapPrefetcher(OPTIONS);
  plans(
    leap,
    [
      [0, miss],
      [1, miss],
    ],
    1,
  );
  plans(
    leap,
    [
      [0, miss],
      [1, miss],
    ],
    2,
  );
  for (let thread = 3; thread <= THREADS; thread++) plans(leap, [[5, miss]], thread);
  plans(leap, [[2, prefetchHit]], 1);
  assert.deepEqual(
    plans(
      leap,
      [
        [5, miss],
        [50, miss],
      ],
      1000,
    ),
    ['-', '95+45*1'],
    'takes the row of thread 2, and nothing of its history',
  );
  assert.deepEqual(plans(leap, [[3, prefetchHit]], 1), ['5+1*2!']);
  assert.deepEqual(plans(leap, [[2, prefetchHit]], 2), ['-'], 'as if it had never been here');
});

for (const [name, stride, pages] of [
  ['sequential', 1, 32768],
  ['stride 10', 10, 60000],
  ['backwards', -1, 32768],
] as const) {
  test(`${name}: one fault a window with map-ahead, and hardly a miss`, () => {
    const pager = new StreamPager(new LeapPrefetcher(OPTIONS), pages);
    const touches = Math.floor(pages / Math.abs(stride));
    for (let i = 0; i < touches; i++) pager.touch(stride > 0 ? i * stride : pages - 1 + i * stride);
    assert.ok(pager.misses <= 3, `${pager.misses} misses`);
    assert.ok(pager.faults < touches / 32 + 30, `${pager.faults} faults for ${touches} touches`);
    assert.ok(pager.largestPlan <= 32);
  });
}

test('fetches that arrive late are still ahead of the thread by a window', () => {
  const pager = new StreamPager(new LeapPrefetcher(OPTIONS), 32768, 24);
  for (let page = 0; page < 32768; page++) pager.touch(page);
  assert.ok(pager.misses <= 10, `${pager.misses} misses`);
});

test('rows of 20 pages at random places: few misses, and what is fetched in vain stays in proportion', () => {
  const pager = new StreamPager(new LeapPrefetcher(OPTIONS), 1 << 20);
  const rng = new Rng(11);
  for (let row = 0; row < 2000; row++) {
    const first = rng.below((1 << 20) - 20);
    for (let i = 0; i < 20; i++) pager.touch(first + i);
  }
  assert.ok(pager.misses < 2000 * 3, `${pager.misses} misses for 40000 touches`);
  assert.ok(pager.fetched < 2.2 * 40000, `${pager.fetched} fetched`);
});

test('most faults follow the trend: noise of one in five does not stop it', () => {
  const pager = new StreamPager(new LeapPrefetcher(OPTIONS), 1 << 20, 0, false);
  const rng = new Rng(5);
  for (let i = 0; i < 20000; i++) pager.touch(i % 5 === 4 ? 500000 + rng.below(500000) : i);
  assert.ok(pager.misses < 4000 + 16000 * 0.4, `${pager.misses} misses, of which 4000 are noise`);
});

test('a page that is found again in a frame after its eviction is no miss of the stream', () => {
  const leap = new LeapPrefetcher(OPTIONS);
  const seen = plans(leap, [
    [0, evictedHit],
    [1, evictedHit],
    [2, evictedHit],
    [3, evictedHit],
    [4, evictedHit],
    [5, evictedHit],
  ]);
  assert.deepEqual(seen, ['-', '2+1*1', '3+1*2!', '5+1*2!', '-', '7+1*4!']);
});

test('the same page twice is not logged', () => {
  const leap = new LeapPrefetcher(OPTIONS);
  assert.deepEqual(
    plans(leap, [
      [0, miss],
      [1, miss],
      [1, miss],
      [1, miss],
      [2, miss],
    ]).at(-1),
    '3+1*1',
  );
});

test('knobs at run time: a smaller window holds for the next plan, a new history size starts afresh', () => {
  const leap = new LeapPrefetcher(OPTIONS);
  const pager = new StreamPager(leap, 20000);
  for (let page = 0; page < 1000; page++) pager.touch(page);
  leap.configure({ history: 32, windowMax: 4 });
  pager.largestPlan = 0;
  for (let page = 1000; page < 2000; page++) pager.touch(page);
  assert.ok(pager.largestPlan > 0 && pager.largestPlan <= 2 * 4, 'one window, or two at a marker that was not planned');
  leap.configure({ history: 8, windowMax: 4 });
  assert.deepEqual(
    plans(leap, [
      [9000, miss],
      [12000, miss],
    ]).length,
    2,
  );
});

test('a marker that was not planned brings two windows: the one to map and the one behind it', () => {
  const leap = new LeapPrefetcher({ history: 32, windowMax: 8 });
  const plan = new Plan();
  let page = 100;
  for (let step = 0; step < 40; step++)
    leap.fault(pageIndex(page++), 1, step % 8 === 0 ? miss : FaultKind.prefetchHit, 0, plan);
  leap.fault(pageIndex((page += 8)), 1, miss, 8, plan);
  assert.deepEqual([plan.start, plan.stride, plan.count, plan.mapAhead], [page + 1, 1, 16, true]);
  leap.fault(pageIndex(page + 9), 1, FaultKind.prefetchHit, 8, plan);
  assert.deepEqual([plan.start, plan.stride, plan.count], [page + 17, 1, 8], 'from then on one window early');
});

test('any sequence of faults: plans keep their promises', () => {
  for (let seed = 1; seed <= 60; seed++) {
    const rng = new Rng(seed);
    const windowMax = 1 + rng.below(40);
    const leap = new LeapPrefetcher({ history: 1 + rng.below(40), windowMax });
    const plan = new Plan();
    let page = 1000;
    let lead = 1;
    for (let step = 0; step < 2000; step++) {
      page = rng.below(3) === 0 ? rng.below(100000) : page + 1 + rng.below(2);
      const ahead = rng.below(4) === 0 ? rng.below(windowMax) : 0;
      const kind = rng.below(4);
      plan.late = seed % 2 === 0 && rng.below(50) === 0;
      if (plan.late) lead = 3;
      leap.fault(pageIndex(page), rng.below(3), kind, ahead, plan);
      const most = lead > 1 ? (lead + 1) * windowMax : ahead > 0 && kind === miss ? 2 * windowMax : windowMax + 1;
      assert.ok(plan.count >= 0 && plan.count <= most, `seed ${seed} step ${step}: ${plan.count} of ${windowMax}`);
      assert.ok(
        plan.count === 0 || (plan.stride !== 0 && Number.isInteger(plan.stride) && Number.isInteger(plan.start)),
      );
      assert.ok(!plan.mapAhead || plan.stride !== 0);
      const distance = Math.abs(plan.start + plan.stride * (plan.count - 1) - page) / Math.abs(plan.stride);
      assert.ok(
        plan.count === 0 || distance <= (lead + 1) * windowMax,
        `seed ${seed} step ${step}: ${distance} steps away`,
      );
    }
    assert.ok(leap.counters.trendsFound <= leap.counters.trendsTried);
  }
});
