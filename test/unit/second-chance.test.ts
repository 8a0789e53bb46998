import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SecondChance } from '../../src/policy/second-chance.js';
import { frameIndex, NONE, pageIndex } from '../../src/core/types.js';
import { heapGrowth } from './models/heap.js';
import { Rng } from './rng.js';

const FRAMES = 1024;

/** Pages that leave one after the other and come back in the order of `wanted`; each has the frame of its number. */
class World {
  found = 0;
  readonly chance: SecondChance;

  constructor(
    readonly pages: number,
    room = FRAMES,
  ) {
    this.chance = new SecondChance(pages, room);
  }

  evict(page: number): void {
    this.chance.left(pageIndex(page));
    this.chance.add(frameIndex(page));
    while (this.chance.size > FRAMES) this.chance.reclaim();
  }

  want(page: number): void {
    if (this.chance.remove(frameIndex(page))) this.found++;
    this.chance.returned(pageIndex(page));
  }
}

/**
 * Share of the returns that found their page, when a page comes back `distance()` evictions after it left, or as soon
 * as nothing else is due.
 */
function foundShare(evictions: number, from: number, distance: (now: number) => number): number {
  const world = new World(1 << 16);
  const due = new Map<number, number[]>();
  let late: number[] = [];
  let returns = 0;
  let fresh = 0;
  for (let now = 0; now < evictions; now++) {
    if (now === from) [returns, world.found] = [0, 0];
    late = [...(due.get(now) ?? []), ...late];
    due.delete(now);
    const back = late.shift();
    if (back !== undefined) {
      returns++;
      world.want(back);
    }
    const page = back ?? fresh++;
    world.evict(page);
    const at = now + distance(now);
    if (at < evictions) due.set(at, [...(due.get(at) ?? []), page]);
  }
  return world.found / returns;
}

test('what is added is there until it is removed or reclaimed, once', () => {
  const chance = new SecondChance(8);
  for (const frame of [3, 1, 5]) chance.add(frameIndex(frame));
  assert.throws(() => chance.add(frameIndex(3)), /already/);
  assert.deepEqual([chance.size, chance.has(frameIndex(1)), chance.has(frameIndex(2))], [3, true, false]);
  assert.deepEqual([chance.remove(frameIndex(1)), chance.remove(frameIndex(1))], [true, false]);
  assert.deepEqual([chance.reclaim(), chance.reclaim(), chance.reclaim(), chance.size], [3, 5, NONE, 0]);
});

test('against a set: each frame comes out once, and all of them in the end', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const rng = new Rng(seed);
    const chance = new SecondChance(64);
    chance.shift = rng.below(6);
    const there = new Set<number>();
    for (let step = 0; step < 500; step++) {
      const frame = rng.below(64);
      if (rng.below(3) > 0) {
        if (there.has(frame)) assert.equal(chance.remove(frameIndex(frame)), there.delete(frame));
        else {
          chance.add(frameIndex(frame));
          there.add(frame);
        }
      } else {
        const out = chance.reclaim();
        assert.equal(there.size > 0, out !== NONE);
        if (out !== NONE) assert.ok(there.delete(out), `seed ${seed} step ${step}`);
      }
      assert.equal(chance.size, there.size);
    }
    while (there.size > 0) assert.ok(there.delete(chance.reclaim()));
    assert.equal(chance.reclaim(), NONE);
  }
});

test('pages that come back within as many evictions as there are frames are found, all of them', () => {
  const share = foundShare(20 * FRAMES, 2 * FRAMES, () => FRAMES >> 1);
  assert.ok(share > 0.99, `${share} found`);
});

test('of a loop of three, six or twenty times as many pages, about a frame of it each is found', () => {
  for (const times of [3, 6, 20]) {
    const share = foundShare(12 * times * FRAMES, 6 * times * FRAMES, () => times * FRAMES);
    assert.ok(share > 0.6 / times, `${times} times: ${share} found`);
  }
});

test('a few that come back soon count for more than many that come back late, and a loop is forgotten', () => {
  const rng = new Rng(7);
  const mixed = foundShare(40 * FRAMES, 20 * FRAMES, () => (rng.below(10) < 5 ? 100 : 5 * FRAMES));
  assert.ok(mixed > 0.45, `${mixed} found`);
  // The loop ends, and what is kept of it is never wanted again.
  const changing = foundShare(218 * FRAMES, 208 * FRAMES, (now) =>
    now < 194 * FRAMES ? 6 * FRAMES : now < 200 * FRAMES ? Infinity : FRAMES / 2,
  );
  assert.ok(changing > 0.9, `${changing} found`);
});

test('nothing is allocated', () => {
  const rng = new Rng(3);
  const pages = Int32Array.from({ length: 100_000 }, () => rng.below(5000));
  const world = new World(5000);
  const grown = heapGrowth(() => {
    for (const page of pages) {
      if (world.chance.has(frameIndex(page))) world.want(page);
      else world.evict(page);
    }
  });
  assert.ok(grown < 100_000, `${grown} bytes for ${pages.length} pages`);
});
