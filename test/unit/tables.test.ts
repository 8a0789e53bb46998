import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Chunks } from '../../src/tables/chunks.js';
import { CommandWriter } from '../../src/core/command-writer.js';
import { FrameState, FrameTable } from '../../src/tables/frame-table.js';
import { BATCH_PAGES, Command, HASH_WORDS } from '../../src/core/layout.js';
import { PageQueue } from '../../src/tables/page-queue.js';
import { PageTable, State, STATES, STATE_NAMES, TRANSITIONS } from '../../src/tables/page-table.js';
import { SlotState, SlotTable } from '../../src/tables/slot-table.js';
import { type FrameIndex, frameIndex, NONE, pageIndex } from '../../src/core/types.js';
import { Rng } from './rng.js';

const keep = (): boolean => false;

test('page states: every cell of the transition table is kept, and counted', () => {
  for (let from = 0; from < STATES; from++) {
    for (let to = 0; to < STATES; to++) {
      const table = new PageTable();
      table.reserve(1);
      table.state[0] = from;
      table.counts[from] = 1;
      const move = (): void => table.setState(pageIndex(0), to);
      if (!TRANSITIONS[from]![to]) {
        assert.throws(move, new RegExp(`${STATE_NAMES[from]} to ${STATE_NAMES[to]}`));
        continue;
      }
      move();
      assert.equal(table.state[0], to);
      assert.deepEqual([table.counts[from], table.counts[to]], [0, 1]);
    }
  }
});

// 97 and 96: with and without a last word of the map of free frames that is not full.
for (const count of [97, 96, 2100]) {
  test(`${count} frames: runs are free neighbours, never given twice, none lost`, () => {
    const rng = new Rng(7);
    const frames = new FrameTable(count);
    const held = new Set<number>();
    for (let step = 0; step < 20000; step++) {
      if (rng.below(20) < (step % 4000 < 2000 ? 11 : 9)) {
        const want = 1 + rng.below(20);
        if (rng.below(10) === 0) frames.leaveToReads(rng.below(count));
        const first =
          rng.below(3) === 0
            ? frames.takeReadRun(want, FrameState.filling)
            : frames.takeRun(want, FrameState.filling, keep);
        assert.equal(first === NONE, held.size === count);
        assert.ok(first === NONE || (frames.runLength > 0 && frames.runLength <= want));
        for (let i = 0; first !== NONE && i < frames.runLength; i++) {
          assert.ok(!held.has(first + i) && first + i < count);
          held.add(first + i);
        }
      } else if (held.size > 0) {
        const frame = [...held][rng.below(held.size)]!;
        held.delete(frame);
        frames.release(frameIndex(frame));
      }
      assert.equal(frames.free, count - held.size);
    }
    while (held.size < count) {
      const first = frames.takeRun(count, FrameState.filling, keep);
      for (let i = 0; i < frames.runLength; i++) held.add(first + i);
    }
    assert.equal(frames.takeReadRun(1, FrameState.filling), NONE);
    frames.release(frameIndex(5));
    assert.throws(() => frames.release(frameIndex(5)), /freed twice/);
  });
}

test('slots: a page gets its home, a shared or busy home gives way to a spare, a free spare is used again', () => {
  const hashes = new Int32Array(8 * HASH_WORDS).map((_, i) => i);
  const slots = new SlotTable(hashes, new Chunks(2), () => {
    slots.reserve(40);
    return [20, 2];
  });
  slots.reserve(20);
  const home = slots.allocate(pageIndex(3), frameIndex(1));
  assert.equal(home, 3);
  assert.equal(slots.sourceOf(home), 1);
  assert.ok(
    slots.matches(home, frameIndex(1)) && !slots.matches(home, frameIndex(2)),
    'pending: compared with the source frame',
  );
  slots.becomeValid(home);
  hashes.fill(9, HASH_WORDS, 2 * HASH_WORDS); // the frame is used for something else; the slot keeps the hash it had
  assert.ok(!slots.matches(home, frameIndex(1)));
  assert.ok(slots.share(home) && slots.isShared(home));
  const spare = slots.allocate(pageIndex(3), frameIndex(2));
  assert.equal(spare, 20);
  slots.becomeValid(spare);
  slots.drop(spare);
  assert.equal(slots.state[spare], SlotState.free);
  assert.equal(slots.allocate(pageIndex(3), frameIndex(2)), 20);
  assert.equal(slots.drop(home), 1);
  assert.equal(slots.drop(home), 0);
  assert.equal(slots.state[home], SlotState.free);
  assert.throws(() => slots.drop(home), /too often/);
});

test('slots: a pending slot that nobody refers to is free only when its write has completed', () => {
  const slots = new SlotTable(new Int32Array(HASH_WORDS * 4), new Chunks(2), () => [10, 2]);
  slots.reserve(20);
  const slot = slots.allocate(pageIndex(1), frameIndex(0));
  slots.drop(slot);
  assert.equal(slots.state[slot], SlotState.pending);
  assert.equal(slots.allocate(pageIndex(1), frameIndex(1)), 10, 'not written by two frames at once');
  slots.becomeValid(slot);
  assert.equal(slots.state[slot], SlotState.free);
});

test('commands: neighbours join, other things do not, and the buffer says when it is full', () => {
  const buffer = new Int32Array(6 * 4);
  const writer = new CommandWriter(buffer);
  writer.put(Command.map, 5, 9, true, true);
  writer.put(Command.map, 6, 10, true, true);
  writer.put(Command.map, 4, 8, true, true); // a stream that goes down
  writer.put(Command.map, 7, 11, false, true); // a region begins
  writer.put(Command.map, 6, 10, true, false); // and ends
  writer.put(Command.map, 5, 8, true, true); // the frame does not precede
  writer.put(Command.map, 6, 10, true, true); // nor follow
  writer.put(Command.zero, 9, 0, true, true);
  writer.put(Command.zero, 10, 0, true, true);
  writer.put(Command.zero, 8, 0, true, true);
  const records = [
    [Command.map, 4, 8, 3],
    [Command.map, 7, 11, 1],
    [Command.map, 6, 10, 1],
    [Command.map, 5, 8, 1],
    [Command.map, 6, 10, 1],
    [Command.zero, 8, 0, 3],
  ];
  assert.deepEqual([...buffer], records.flat());
  assert.equal(writer.room, 0);
  assert.throws(() => writer.put(Command.wake, 1, 0, true, true), /overrun/);
});

test('commands: no record is longer than a batch', () => {
  const buffer = new Int32Array(3 * 4);
  const writer = new CommandWriter(buffer);
  for (let page = 0; page < BATCH_PAGES + 1; page++) writer.put(Command.map, page, page, true, true);
  writer.put(Command.map, BATCH_PAGES - 1, BATCH_PAGES - 1, true, true);
  assert.deepEqual(
    [...buffer.subarray(0, writer.words)],
    [Command.map, 0, 0, BATCH_PAGES, Command.map, BATCH_PAGES - 1, BATCH_PAGES - 1, 2],
  );
});

test('frames: a run goes on over those that can be vacated, and leaves the ones at the bottom to reads', () => {
  const frames = new FrameTable(64);
  frames.leaveToReads(8);
  assert.equal(frames.takeRun(56, FrameState.clean, keep), 8);
  for (const free of [10, 20]) frames.release(frameIndex(free));
  const asked: number[] = [];
  const vacate = (frame: FrameIndex): boolean => {
    asked.push(frame);
    if (frame === 13) return false;
    frames.release(frame);
    return true;
  };
  assert.deepEqual([frames.takeRun(5, FrameState.evicting, vacate), frames.runLength, asked], [10, 3, [11, 12, 13]]);
  assert.deepEqual([frames.free, frames.freeBelow], [9, 8], 'the one at 20, and those below');
  assert.deepEqual([frames.takeRun(5, FrameState.evicting, keep), frames.runLength], [20, 1]);
  assert.deepEqual([frames.takeReadRun(5, FrameState.filling), frames.runLength], [0, 5]);
  frames.leaveToReads(0);
  assert.deepEqual([frames.takeRun(5, FrameState.evicting, keep), frames.runLength, frames.free], [5, 3, 0]);
});

test('queues keep their order while they grow and wrap', () => {
  const rng = new Rng(3);
  const faults = new PageQueue();
  const pages = new PageQueue(4);
  const model: number[] = [];
  for (let step = 0; step < 50000; step++) {
    if (rng.below(100) < 52) {
      const page = pageIndex(rng.below(1e6));
      faults.push(page, page + 1, page & 3, page * 1e9);
      pages.push(page);
      model.push(page);
    } else if (model.length > 0) {
      const page = model.shift()!;
      assert.equal(faults.shift(), page);
      assert.deepEqual([faults.thread, faults.flags, faults.at], [page + 1, page & 3, page * 1e9]);
      assert.equal(pages.shift(), page);
    }
    assert.equal(faults.length, model.length);
  }
});

test('states are named', () => {
  const named = Object.entries(State).map(([name, value]) => [name.toUpperCase(), STATE_NAMES[value]]);
  for (const [expected, name] of named) assert.equal(name, expected);
  assert.deepEqual(Object.values(State), [...STATE_NAMES.keys()]);
  assert.equal(STATES, STATE_NAMES.length);
});
