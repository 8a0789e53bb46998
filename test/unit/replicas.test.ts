/** What becomes of pages that were evicted before there was a donor for them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Copies } from '../../src/core/types.js';
import { Errno } from '../../src/core/layout.js';
import { Pager } from '../../src/pager/pager.js';
import { slotIndex } from '../../src/core/types.js';
import { FRAMES, pagerOptions } from './pager-options.js';
import { PlainEngine } from './plain-engine.js';

const PAGES = 1000;
const LIMIT = 200;
/** Turns in which the target rests. */
const REST = 50_000; // 50 ms: two passes of the repairer

interface Paged {
  readonly engine: PlainEngine;
  readonly pager: Pager;
  readonly rest: () => void;
  /** The target goes on to this page, for so many turns. */
  readonly touch: (page: number, turns: number) => void;
}

/** @param donors what there is of them before anything is evicted */
function paged(copies: Copies, pages = PAGES, prefetch = 'none', donors: (pager: Pager) => void = () => {}): Paged {
  let touched = 0;
  const engine = new PlainEngine(
    pages,
    FRAMES,
    () => touched,
    () => false,
  );
  const pager = new Pager(engine, pagerOptions({ localLimit: { pages: LIMIT }, copies, prefetch }));
  pager.attach();
  donors(pager);
  const rest = (): void => {
    touched = engine.present.indexOf(1);
    for (let turn = 0; turn < REST; turn++) pager.step(0);
    pager.checkInvariants();
  };
  const touch = (page: number, turns: number): void => {
    touched = page;
    for (let turn = 0; turn < turns; turn++) pager.step(0);
  };
  rest();
  return { engine, pager, rest, touch };
}

/** How many of the pages that are out a place has. */
const held = (engine: PlainEngine, place: number): number =>
  engine.present.reduce(
    (sum, present, page) => sum + Number(present === 0 && engine.places[place][page] === engine.content[page]),
    0,
  );

test('pages that went to the swap file before a donor was there follow to it when it is, though nobody touches them', () => {
  const { engine, pager, rest } = paged(1);
  const out = PAGES - pager.stats().residentPages;
  assert.ok(out >= PAGES - LIMIT);
  assert.equal(held(engine, 0), out, 'without a donor: in the swap file');
  pager.replicas.setSize(1024);
  pager.replicas.map(0, 0, 1, 0, 0n);
  rest();
  assert.equal(held(engine, 1), out);
  assert.equal(pager.stats().copiesPending, 0);
  const { swapReads } = pager.stats();
  rest();
  assert.equal(pager.stats().swapReads, swapReads, 'once, and then there is rest');
});

test('with two copies and one donor after the other, each replica gets every page', () => {
  const { engine, pager, rest } = paged(2);
  const out = held(engine, 0);
  pager.replicas.setSize(1024);
  pager.replicas.map(0, 0, 1, 0, 0n);
  rest();
  assert.equal(held(engine, 1), out);
  // In the swap file and on a donor is two copies; the loss of that donor must bring the pages to the other one.
  pager.replicas.map(1, 0, 2, 0, 0n);
  pager.replicas.lose(0, 0);
  rest();
  assert.equal(held(engine, 2), out);
});

test('a chunk of 1 GiB is gone through at once when the target rests', () => {
  const slotsPerChunk = 2 ** 18;
  const { engine, pager } = paged(1, slotsPerChunk);
  pager.replicas.setSize(slotsPerChunk);
  pager.replicas.map(0, 0, 1, 0, 0n);
  engine.waited = 0;
  for (let turns = 0; pager.chunks.suspects > 0; turns++) {
    assert.ok(turns < 1_000_000);
    pager.step(250e6);
  }
  assert.equal(pager.stats().copiesPending, 0);
  assert.ok(engine.waited < 1e9, `${engine.waited / 1e9} s of waiting`);
});

test('a slot that cannot be read does not keep the other chunks from being repaired, nor its own for ever', () => {
  const { engine, pager, rest } = paged(1);
  const out = held(engine, 0);
  const bad = 3;
  let reads = 0;
  engine.readErrno = (slot, place) => (place === 0 && slot === bad ? (reads++, Errno.EIO) : 0);
  pager.replicas.setSize(256);
  for (let chunk = 0; chunk < 4; chunk++) pager.replicas.map(0, chunk, 1, 0, 0n);
  rest();
  assert.equal(held(engine, 1), out - 1);
  for (let turns = 0; pager.chunks.suspects > 0; turns++) {
    assert.ok(turns < 100_000, 'it is tried for ever');
    pager.step(250e6);
  }
  assert.ok(reads > 1 && reads < 15, `${reads} reads`);
  // Doubted anew it is tried anew.
  engine.readErrno = () => 0;
  pager.replicas.leave(0, 0);
  pager.replicas.map(1, 0, 2, 0, 0n);
  rest();
  assert.equal(engine.places[2]![bad], engine.content[bad]);
});

test('wrong bytes from a slot that the repairer has just been at are made up for in another pass', () => {
  const slotsPerChunk = 2 ** 15; // eight turns of looking
  const { engine, pager, rest, touch } = paged(2, slotsPerChunk, 'next-n', ({ replicas }) => {
    replicas.setSize(slotsPerChunk);
    for (const replica of [0, 1]) replicas.map(replica, 0, replica + 1, 0, 0n);
  });
  assert.equal(pager.stats().copiesPending, 0);
  const bad = slotIndex(5);
  const rotten = [1, 2].find((place) => pager.chunks.sourceOf(bad) === 1 << place)!;
  engine.places[rotten]![bad] = -7;
  pager.chunks.doubt(0);
  pager.step(0);
  touch(bad - 1, 5); // reads it ahead
  assert.deepEqual(
    [engine.present[bad], pager.stats().hashMismatches, pager.chunks.suspects],
    [0, 1, 1],
    'the pass goes on while they come',
  );
  rest();
  assert.ok(pager.chunks.isSafe(bad), 'there are two copies again');
  pager.replicas.lose(2 - rotten, 0); // the donor that had the good one
  touch(bad, 10);
  assert.deepEqual([engine.present[bad], pager.stats().lostPages], [1, 0]);
});

for (const heals of [true, false]) {
  test(`a donor that gave wrong bytes is asked again when no other place is left; ${heals ? 'they may be right then' : 'what stays wrong is lost'}`, () => {
    const { engine, pager, rest, touch } = paged(2, PAGES, 'next-n', ({ replicas }) => {
      replicas.setSize(1024);
      for (const replica of [0, 1]) replicas.map(replica, 0, replica + 1, 0, 0n);
    });
    const bad = slotIndex(5);
    const rotten = [1, 2].find((place) => pager.chunks.sourceOf(bad) === 1 << place)!;
    engine.places[rotten]![bad] = -7;
    touch(bad - 1, 1);
    for (let turn = 0; pager.stats().hashMismatches === 0; turn++) {
      assert.ok(turn < 10, 'it is read ahead');
      pager.step(0);
    }
    assert.equal(pager.chunks.isSafe(bad), false);
    engine.readErrno = (_slot, place) => (place === 3 - rotten ? Errno.ECANCELED : 0);
    if (heals) engine.places[rotten]![bad] = engine.content[bad]!;
    pager.replicas.lose(2 - rotten, 0); // the donor that had the good one
    touch(bad, 20);
    const { lostPages, hashMismatches } = pager.stats();
    assert.deepEqual(
      [engine.present[bad], engine.poisoned.has(bad), lostPages, hashMismatches],
      heals ? [1, false, 0, 1] : [0, true, 1, 5],
    );
    rest();
  });
}

test('with few frames the repairer and eviction share them', () => {
  const frames = 5;
  const engine: PlainEngine = new PlainEngine(
    PAGES,
    frames,
    (): number => engine.present.indexOf(1),
    () => false,
  );
  const pager = new Pager(
    engine,
    pagerOptions({ localLimit: { pages: LIMIT }, copies: 1, prefetch: 'none', frames, prefetchBuffer: 1 }),
  );
  pager.attach();
  for (let turn = 0; pager.stats().residentPages > LIMIT; turn++) {
    assert.ok(turn < REST);
    pager.step(0);
  }
  pager.replicas.setSize(1024);
  pager.replicas.map(0, 0, 1, 0, 0n);
  pager.setLocalLimit(LIMIT >> 1);
  for (let turn = 0; turn < 60; turn++) pager.step(0);
  const { residentPages } = pager.stats();
  const copied = held(engine, 1);
  assert.ok(residentPages < LIMIT - 10 && copied > 5, `${residentPages} resident, ${copied} copied`);
});
