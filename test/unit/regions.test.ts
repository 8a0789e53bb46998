import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RegionTable } from '../../src/tables/regions.js';
import { pageIndex, spaceId, vpn } from '../../src/core/types.js';
import { Rng } from './rng.js';

const target = spaceId(0);

test('a region that grows at its end keeps one run of indices', () => {
  const table = new RegionTable();
  const first = table.add(target, vpn(100), 10);
  const grown = table.add(target, vpn(110), 5);
  assert.equal(grown.first, first.first + 10);
  assert.equal(table.all().length, 1);
  assert.equal(table.find(pageIndex(first.first + 14))?.count, 15);
});

test('a move keeps the indices, and a partial one splits the region', () => {
  const table = new RegionTable();
  const region = table.add(target, vpn(100), 10);
  table.move(target, vpn(103), vpn(500), 4);
  const [moved] = table.inside(target, 500, 504);
  assert.deepEqual([moved!.start, moved!.count, moved!.first], [500, 4, region.first + 3]);
  assert.deepEqual(table.gaps(target, 100, 110), [[103, 107]]);
});

test('against a naive model: random adds, removes and moves in two spaces', () => {
  for (let seed = 1; seed <= 30; seed++) {
    const rng = new Rng(seed);
    const table = new RegionTable();
    const model = new Map<string, number>(); // "space:vpn" -> index
    for (let step = 0; step < 200; step++) {
      const space = spaceId(rng.below(2));
      const start = rng.below(200);
      const count = 1 + rng.below(30);
      const action = rng.below(3);
      if (action === 0) {
        for (const [from, to] of table.gaps(space, start, start + count)) {
          const added = table.add(space, vpn(from), to - from);
          for (let i = 0; i < to - from; i++) model.set(`${space}:${from + i}`, added.first + i);
        }
      } else if (action === 1) {
        table.remove(space, start, start + count);
        for (let i = 0; i < count; i++) model.delete(`${space}:${start + i}`);
      } else {
        const to = 1000 + step * 100;
        table.move(space, vpn(start), vpn(to), count);
        for (let i = 0; i < count; i++) {
          const index = model.get(`${space}:${start + i}`);
          if (index === undefined) continue;
          model.delete(`${space}:${start + i}`);
          model.set(`${space}:${to + i}`, index);
        }
      }
      const indices = [...model.values()];
      assert.equal(new Set(indices).size, indices.length, 'an index was given out twice');
      const pages = table.all().reduce((sum, region) => sum + region.count, 0);
      assert.equal(pages, model.size);
      for (const [key, index] of model) {
        const [space, at] = key.split(':').map(Number);
        const region = table.find(pageIndex(index));
        assert.ok(
          region !== undefined && region.space === space && region.start + (index - region.first) === at,
          `seed ${seed} step ${step}: ${key}`,
        );
      }
    }
  }
});
