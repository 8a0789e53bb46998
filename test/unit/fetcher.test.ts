/**
 * Reads that fail: an error may pass and is waited out, wrong bytes are asked for again at once; what stays so is lost,
 * and no sooner.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../src/core/layout.js';
import { Pager } from '../../src/pager/pager.js';
import { FRAMES, pagerOptions } from './pager-options.js';
import { PlainEngine } from './plain-engine.js';

const PAGES = 1000;
const LIMIT = 200;
const TURN_NS = 250e6;

/** A target at rest, most of it in the swap file; `touch` lets it go on to a page that is out. */
function paged(prefetch = 'none'): {
  readonly engine: PlainEngine;
  readonly pager: Pager;
  readonly touch: (page?: number) => number;
} {
  let touched = PAGES - 1;
  const engine = new PlainEngine(
    PAGES,
    FRAMES,
    () => touched,
    () => false,
  );
  const pager = new Pager(engine, pagerOptions({ localLimit: { pages: LIMIT }, prefetch }));
  pager.attach();
  for (let turn = 0; turn < 1000; turn++) pager.step(0);
  const touch = (page = 0): number => (touched = page); // long in the swap file only
  return { engine, pager, touch };
}

/** @returns how many turns it took, and how many ns */
function until(
  pager: Pager,
  engine: PlainEngine,
  done: () => boolean,
): { readonly turns: number; readonly ns: number } {
  const begin = engine.clock[0]!;
  let turns = 0;
  for (; !done(); turns++) {
    assert.ok(turns < 5000, 'it never comes, or the pager is too busy to wait for it');
    pager.step(TURN_NS);
  }
  pager.checkInvariants();
  return { turns, ns: engine.clock[0]! - begin };
}

test('the swap file cannot be read for a while: the thread waits, and no page is lost', () => {
  const { engine, pager, touch } = paged();
  const well = engine.clock[0]! + 5e9;
  let reads = 0;
  engine.readErrno = () => (reads++, engine.clock[0]! < well ? Errno.EIO : 0);
  const page = touch();
  const { turns, ns } = until(pager, engine, () => engine.present[page] === 1);
  assert.ok(ns >= 5e9 && ns < 11e9, `${ns} ns`);
  assert.ok(reads < 15 && turns < 100, `${reads} reads in ${turns} turns`);
  const { lostPages, faultLatencyNs } = pager.stats();
  assert.equal(lostPages, 0);
  assert.ok(
    faultLatencyNs.max > 2.1e9,
    `the longest wait is told of, as far as it is counted: ${faultLatencyNs.max} ns`,
  );
});

test('a page that cannot be read for ten seconds is lost', () => {
  const { engine, pager, touch } = paged();
  engine.readErrno = (slot) => (slot === 0 ? Errno.EIO : 0);
  const page = touch();
  const { turns, ns } = until(pager, engine, () => engine.poisoned.has(page));
  assert.ok(ns >= 10e9 && ns < 12e9, `${ns} ns`);
  assert.ok(turns < 100, `${turns} turns`);
  assert.equal(pager.stats().lostPages, 1);
});

test('wrong bytes are asked for again at once', () => {
  const { engine, pager, touch } = paged();
  engine.places[0]![0] = -7;
  const page = touch();
  const { ns } = until(pager, engine, () => engine.poisoned.has(page));
  assert.ok(ns < 1e6, `${ns} ns`);
  assert.equal(pager.stats().hashMismatches, 4);
});

test('a detach waits for a store that is away for a while, and loses nothing', () => {
  const { engine, pager } = paged();
  const well = engine.clock[0]! + 3e9;
  engine.readErrno = () => (engine.clock[0]! < well ? Errno.EIO : 0);
  pager.requestDetach();
  let turns = 0;
  while (pager.step(TURN_NS)) assert.ok(++turns < 5000, 'the detach does not end, or is busy while it can do nothing');
  assert.equal(engine.present.indexOf(0), -1);
  assert.equal(pager.stats().lostPages, 0);
});

test('a page that cannot be read takes no neighbour along', () => {
  const { engine, pager } = paged();
  engine.readErrno = (slot) => (slot === 5 ? Errno.EIO : 0);
  pager.requestDetach();
  for (let turns = 0; pager.step(TURN_NS); turns++) assert.ok(turns < 5000);
  assert.deepEqual([...engine.poisoned], [5]);
  assert.equal(
    engine.present.reduce((sum, there) => sum + there),
    PAGES - 1,
  );
});

test('where no page can be made to raise SIGBUS a detach ends all the same, and the lost page reads as nothing else', () => {
  const { engine, pager, touch } = paged();
  engine.canPoison = false;
  engine.readErrno = (slot) => (slot === 0 ? Errno.EIO : 0);
  touch();
  until(pager, engine, () => pager.stats().lostPages === 1);
  const { turns } = until(pager, engine, () => (pager.requestDetach(), !pager.step(TURN_NS)));
  assert.ok(turns < 1000, `${turns} turns`);
  assert.equal(pager.strandedPages, 1);
  assert.deepEqual([engine.present[0], engine.registered[0]], [0, 1], 'its toucher waits');
  for (let page = 1; page < PAGES; page++) assert.deepEqual([engine.present[page], engine.registered[page]], [1, 0]);
});

test('a thread that waits for a lost page is served when somebody removes that', () => {
  const { engine, pager, touch } = paged();
  engine.canPoison = false;
  engine.readErrno = (slot) => (slot === 0 ? Errno.EIO : 0);
  const page = touch();
  until(pager, engine, () => pager.stats().lostPages === 1);
  engine.remove(page);
  until(pager, engine, () => engine.present[page] === 1);
});

test('what failed when nobody waited for it is forgotten: who waits later waits as long as ever', () => {
  const { engine, pager, touch } = paged('next-n');
  const ahead = 8;
  let well = 0;
  engine.readErrno = () => (engine.clock[0]! < well ? Errno.EIO : 0);
  const touchIn = (page: number, outageNs: number): void => {
    well = engine.clock[0]! + outageNs;
    touch(page);
    until(pager, engine, () => engine.present[page] === 1);
  };
  for (let page = 0; page < ahead; page++) {
    touchIn(page, 5e6); // one read of each of the next pages fails
    const rested = engine.clock[0]! + 6e9;
    until(pager, engine, () => engine.clock[0]! > rested);
  }
  assert.ok(pager.stats().readErrors > ahead);
  touchIn(ahead, 9e9);
  assert.equal(pager.stats().lostPages, 0);
});
