import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FrameList } from '../../src/tables/frame-list.js';
import { PrefetchBuffer } from '../../src/tables/prefetch-buffer.js';
import { NONE, frameIndex } from '../../src/core/types.js';
import { Rng } from './rng.js';

/** The frames from the oldest to the newest; the way back must be the same. */
function walk(list: FrameList): number[] {
  const [newer, older, end] = [list['newer'], list['older'], list['sentinel']];
  const there: number[] = [];
  const back: number[] = [];
  for (let at = newer[end]!; at !== end; at = newer[at]!) there.push(at);
  for (let at = older[end]!; at !== end; at = older[at]!) back.push(at);
  assert.deepEqual(back.reverse(), there);
  assert.equal(list.oldest(), there[0] ?? NONE);
  return there;
}

test('frames leave oldest first, and a used one leaves at once from anywhere', () => {
  const buffer = new PrefetchBuffer(8, 4);
  for (const frame of [3, 1, 5]) buffer.add(frameIndex(frame));
  assert.equal(buffer.oldest(), 3);
  assert.equal(buffer.remove(frameIndex(1)), true);
  assert.equal(buffer.remove(frameIndex(1)), false);
  assert.deepEqual(walk(buffer), [3, 5]);
  assert.deepEqual([buffer.reclaim(), buffer.reclaim(), buffer.reclaim()], [3, 5, NONE]);
  assert.equal(buffer.size, 0);
});

test('the capacity is a limit for the caller, at run time too', () => {
  const buffer = new PrefetchBuffer(10, 3);
  for (let frame = 0; frame < 3; frame++) buffer.add(frameIndex(frame));
  const room = (): number => buffer.capacity - buffer.size;
  assert.equal(room(), 0);
  buffer.capacity = 1;
  assert.equal(room(), -2);
  while (room() < 0) buffer.reclaim();
  assert.deepEqual([buffer.size, buffer.oldest()], [1, 2]);
  buffer.capacity = 0;
  assert.equal(room(), -1);
  buffer.capacity = 100;
  assert.equal(room(), 99);
  for (const capacity of [-1, 0.5, NaN]) assert.throws(() => (buffer.capacity = capacity), RangeError);
});

test('a frame cannot be in twice', () => {
  const buffer = new PrefetchBuffer(2);
  buffer.add(frameIndex(0));
  assert.throws(() => buffer.add(frameIndex(0)), /already/);
});

test('against a naive model, and walked from end to end', () => {
  for (let seed = 1; seed <= 60; seed++) {
    const rng = new Rng(seed);
    const frames = 1 + rng.below(20);
    const list = new FrameList(frames);
    let model: number[] = [];
    for (let step = 0; step < 400; step++) {
      const frame = rng.below(frames);
      const action = rng.below(5);
      if (action < 2 && !model.includes(frame)) {
        list.add(frameIndex(frame));
        model.push(frame);
      } else if (action === 3) {
        assert.equal(list.remove(frameIndex(frame)), model.includes(frame));
        model = model.filter((other) => other !== frame);
      } else if (action === 4) {
        assert.equal(list.reclaim(), model.shift() ?? NONE);
      }
      assert.deepEqual(walk(list), model, `seed ${seed} step ${step}`);
      assert.equal(list.size, model.length);
      assert.equal(list.has(frameIndex(frame)), model.includes(frame));
    }
  }
});
