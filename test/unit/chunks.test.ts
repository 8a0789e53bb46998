import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Chunks, Place, placeAt, placeIndex, ReplicaState } from '../../src/tables/chunks.js';
import { type Copies, slotIndex } from '../../src/core/types.js';

const { swap, first, second } = Place;
const [unmapped, mapped, leaving] = [ReplicaState.unmapped, ReplicaState.mapped, ReplicaState.leaving];

function make(copies: Copies, states: readonly [number, number] = [unmapped, unmapped]): Chunks {
  const chunks = new Chunks(copies);
  chunks.reserve(1000);
  chunks.setSize(256);
  states.forEach((state, replica) => chunks.setState(replica, 1, state));
  return chunks;
}
const slot = slotIndex(300); // of chunk 1

test('where a copy goes: by the copies wanted and what is mapped; a replica that leaves gets none', () => {
  const wanted: readonly [Copies, readonly [number, number], number][] = [
    [1, [unmapped, unmapped], swap],
    [1, [mapped, unmapped], first],
    [1, [unmapped, mapped], second],
    [1, [mapped, mapped], first],
    [1, [leaving, mapped], second],
    [2, [unmapped, unmapped], swap],
    [2, [mapped, unmapped], first | swap],
    [2, [mapped, mapped], first | second],
    [2, [leaving, mapped], second | swap],
    [2, [leaving, leaving], swap],
    [3, [unmapped, unmapped], swap],
    [3, [unmapped, mapped], second | swap],
    [3, [mapped, mapped], first | second | swap],
  ];
  for (const [copies, states, places] of wanted) {
    assert.equal(make(copies, states).wantedOf(slot), places, `${copies} copies, ${states.join(' ')}`);
    assert.equal(make(copies, states).wantedOf(slotIndex(10)), swap, 'another chunk is another matter');
    // What is where it ought to be is safe: write-back would otherwise write it for ever.
    const chunks = make(copies, states);
    chunks.places[slot] = places;
    assert.ok(chunks.isSafe(slot) && !chunks.lacks(slot), `${copies} copies, ${states.join(' ')}`);
  }
});

test('what is safe, and what lacks a copy', () => {
  const two = make(2, [mapped, mapped]);
  for (const [places, safe, lacks] of [
    [0, false, true],
    [first, false, true],
    [second, false, true],
    [swap, true, true],
    [first | swap, true, false],
    [first | second, true, false],
  ] as const) {
    two.places[slot] = places;
    assert.deepEqual([two.isSafe(slot), two.lacks(slot)], [safe, lacks], `places ${places}`);
  }
  two.places[slot] = first | second;
  two.setState(0, 1, leaving);
  assert.ok(!two.isSafe(slot), 'a replica that leaves does not count');
  const three = make(3, [mapped, mapped]);
  three.places[slot] = first | second;
  assert.ok(!three.isSafe(slot), 'three copies: one in the swap file');
  const none = make(2);
  none.places[slot] = swap;
  assert.ok(none.isSafe(slot) && !none.lacks(slot));
});

test('where a slot is read from: a donor before the swap file, one that stays before one that leaves, two in turns', () => {
  const chunks = make(2, [leaving, mapped]);
  const source = (places: number): number => ((chunks.places[slot] = places), chunks.sourceOf(slot));
  assert.deepEqual(
    [source(0), source(swap), source(swap | first), source(first | second), source(swap | second)],
    [0, swap, first, second, second],
  );
  const both = make(2, [mapped, mapped]);
  both.places.fill(first | second, 256, 512);
  const seen = new Map<number, number>();
  for (let s = 256; s < 512; s++)
    seen.set(both.sourceOf(slotIndex(s)), (seen.get(both.sourceOf(slotIndex(s))) ?? 0) + 1);
  assert.deepEqual([...seen].sort(), [
    [first, 128],
    [second, 128],
  ]);
});

test('losing a replica forgets its bits in its chunk alone; chunks come with slots', () => {
  const chunks = make(2, [mapped, mapped]);
  chunks.places.fill(first | second, 0, 1000);
  chunks.clear(0, 1);
  assert.deepEqual(
    [chunks.places[255], chunks.places[256], chunks.places[511], chunks.places[512]],
    [first | second, second, second, first | second],
  );
  assert.equal(chunks.count, 4);
  chunks.reserve(1025);
  assert.equal(chunks.count, 5);
  assert.equal(chunks.stateOf(1, 1), mapped);
  assert.ok(chunks.begins(slotIndex(256)) && !chunks.begins(slotIndex(257)));
  assert.throws(() => make(2).setSize(256), /known already/);
  assert.throws(() => new Chunks(2).setSize(100), /100 slots/);
  for (const place of [swap, first, second]) assert.equal(placeAt(placeIndex(place)), place);
});
