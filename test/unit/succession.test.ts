/**
 * Walks that come again in the same order, at no stride: what the policy `streams` makes of them, and the chains behind
 * that.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomFrom, shuffled } from '../../lab/random.js';
import { createPrefetcher } from '../../src/policy/prefetch/index.js';
import { Plan } from '../../src/policy/prefetch/prefetcher.js';
import { Succession } from '../../src/policy/prefetch/succession.js';
import { pageIndex } from '../../src/core/types.js';
import { StreamPager } from './models/stream-pager.js';
import { Rng } from './rng.js';

const PAGES = 1 << 17;
/** The pages lie too far apart to be neighbours, and on no stride. */
const APART = 30;
const MOST = 64;

/** `count` pages in no order. */
function walk(seed: number, count: number): number[] {
  const random = randomFrom(seed);
  return [...shuffled(count, random)].map((i) => i * APART + Math.floor(random() * (APART / 2)));
}

/** Laps of a walk, all of memory evicted before each; misses of each lap. */
function laps(
  pager: StreamPager,
  count: number,
  order: readonly number[],
  touch = (page: number): void => pager.touch(page),
): number[] {
  return Array.from({ length: count }, () => {
    pager.evict();
    const before = pager.misses;
    for (const page of order) touch(page);
    return pager.misses - before;
  });
}

test('the second lap of a walk in no order is foretold, and its pages are mapped ahead', () => {
  const pager = new StreamPager(createPrefetcher('streams'), PAGES, 8);
  const [first, second, third] = laps(pager, 3, walk(1, 4000));
  assert.ok(first > 3950, `${first} misses of the first lap`);
  assert.ok(second < 40 && third < 20, `${second} and ${third} misses of the next laps`);
  const { faults } = pager;
  laps(pager, 1, walk(1, 4000));
  assert.ok(pager.faults - faults < 4000 / 8, `${pager.faults - faults} faults of a lap`);
});

test('where half of the walk is resident, another half each time, the chain steps over it and loses nothing', () => {
  const pager = new StreamPager(createPrefetcher('streams'), PAGES, 8);
  const order = walk(2, 4000);
  let misses = 0;
  for (let lap = 0; lap < 8; lap++) {
    const rng = new Rng(lap + 10);
    pager.evict(() => rng.below(2) === 0);
    misses = pager.misses;
    for (const page of order) pager.touch(page);
    misses = pager.misses - misses;
  }
  assert.ok(misses < 200, `${misses} misses of some 2000 pages that were out`);
});

test('two threads, each on a walk of its own', () => {
  const pager = new StreamPager(createPrefetcher('streams'), PAGES, 8);
  const walks = [walk(3, 2000), walk(4, 2000).map((page) => page + 64_000)];
  const [, , third] = laps(
    pager,
    3,
    walks[0].flatMap((page, i) => [page, walks[1][i]]),
    (page) => pager.touch(page, page < 64_000 ? 1 : 2),
  );
  assert.ok(third < 80, `${third} misses`);
});

test('a tenth of the touches go anywhere: most of the walk is foretold all the same, and little is read for nothing', () => {
  const rng = new Rng(5);
  const pager = new StreamPager(createPrefetcher('streams'), PAGES, 8);
  const order = walk(5, 4000);
  const touch = (page: number): void => pager.touch(rng.below(10) === 0 ? rng.below(4000) * APART : page);
  laps(pager, 6, order, touch);
  const { misses, fetched } = pager;
  const [last] = laps(pager, 1, order, touch);
  assert.ok(last < 2600, `${last} misses of 3800`);
  assert.ok(pager.fetched - fetched < 2 * (4000 - (pager.misses - misses)), `${pager.fetched - fetched} pages fetched`);
});

test('a new order takes the place of the old one', () => {
  const pager = new StreamPager(createPrefetcher('streams'), PAGES, 8);
  laps(pager, 3, walk(6, 3000));
  const misses = laps(pager, 6, walk(7, 3000));
  assert.ok(misses[5] < 100, `misses of the laps after the change: ${misses}`);
});

test('on random faults nothing is planned', () => {
  const rng = new Rng(8);
  const succession = new Succession(1);
  const plan = new Plan();
  succession.clear(0);
  for (let i = 0; i < 50_000; i++) {
    const page = pageIndex(rng.below(PAGES));
    plan.clear();
    succession.fault(0, page);
    succession.plan(0, page, MOST, plan);
    assert.equal(plan.listed, 0);
  }
});

/** A thread on its own, whose faults are all seen. */
class Walk {
  private readonly succession = new Succession(1);
  private readonly plan = new Plan();

  constructor() {
    this.succession.clear(0);
  }

  /** @returns what was planned at the last of these faults */
  fault(...pages: readonly number[]): number[] {
    for (const page of pages) {
      this.plan.clear();
      this.succession.fault(0, pageIndex(page));
      this.succession.plan(0, pageIndex(page), MOST, this.plan);
    }
    return [...this.plan.list.subarray(0, this.plan.listed)];
  }

  /** The first `count` pages of the plan have been mapped ahead. */
  pass(count: number): void {
    this.plan.passed = count;
    this.succession.pass(0, this.plan);
  }

  /** Faults on, over pages of a loop, until there is a plan. @returns that, and where it was made */
  untilPlanned(loop: readonly number[], from: number): { at: number; planned: number[] } {
    for (let at = from; at < from + 2 * MOST; at++) {
      const planned = this.fault(loop[at % loop.length]);
      if (planned.length > 0) return { at, planned };
    }
    throw new Error('nothing is planned');
  }
}

const LOOP = Array.from({ length: 100 }, (_, i) => ((i * 7919) % 10_007) + 1);
const ahead = (loop: readonly number[], at: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => loop[(at + 1 + i) % loop.length]);

test('a plan is what followed the last time, deeper and deeper, topped up when half of it is used up', () => {
  const thread = new Walk();
  thread.fault(...LOOP, ...LOOP.slice(0, 3));
  let { at, planned } = thread.untilPlanned(LOOP, 3);
  const depths: number[] = [];
  for (let plans = 0; plans < 8; plans++) {
    assert.deepEqual(planned, ahead(LOOP, at, planned.length), `the plan at ${at}`);
    depths.push(planned.length);
    const before = at;
    ({ at, planned } = thread.untilPlanned(LOOP, at + 1));
    assert.ok(at - before >= depths[plans] / 2, `${depths[plans]} pages planned at ${before}, and again at ${at}`);
  }
  assert.deepEqual([depths[0], depths[7]], [4, MOST]);
});

test('a page that turns up between two others is put in between, and what is resident meanwhile stays on the chain', () => {
  const thread = new Walk();
  const between = [...LOOP.slice(0, 50), 20_000, ...LOOP.slice(50)];
  thread.fault(...LOOP, ...between.filter((page) => page !== LOOP[50]));
  const plans = between.map((page) => thread.fault(page));
  const plan = plans.find((pages) => pages.includes(LOOP[49]) && pages.includes(LOOP[51]));
  assert.ok(plan !== undefined);
  assert.deepEqual(plan.slice(plan.indexOf(LOOP[49])).slice(0, 4), between.slice(49, 53));
});

test('of what was mapped ahead the thread is not seen: it is planned on from there', () => {
  const thread = new Walk();
  thread.fault(...LOOP, ...LOOP.slice(0, 60));
  const { at, planned } = thread.untilPlanned(LOOP, 60);
  assert.ok(planned.length >= 16);
  thread.pass(8);
  const marker = at + 9;
  const next = thread.fault(LOOP[marker % LOOP.length]);
  assert.deepEqual(next, ahead(LOOP, marker, next.length));
  assert.ok(next.length > 0);
});
