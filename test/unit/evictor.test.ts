/**
 * What is moved out together, and pages that UFFDIO_MOVE refuses: shared, or pinned for a device that would go on
 * writing to the old page if they were dropped.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Command, COMMAND_WORDS } from '../../src/core/layout.js';
import { Pager } from '../../src/pager/pager.js';
import { VICTIM_POLICIES } from '../../src/policy/victim/index.js';
import { FRAMES, pagerOptions } from './pager-options.js';
import { PlainEngine } from './plain-engine.js';

const PAGES = 1000;

/** The last page is all that the target touches. */
function paged(
  pinned = 500,
  there = true,
  needed = 0,
): { readonly engine: PlainEngine; readonly pager: Pager; readonly rest: (turns?: number) => void } {
  let touched = 0;
  const engine = new PlainEngine(
    PAGES,
    FRAMES,
    () => touched,
    () => false,
  );
  for (let page = 0; page < pinned; page++) engine.pinned.add(page);
  for (let page = 0; page < needed; page++) engine.needed.set(page, 0);
  if (!there) engine.present[PAGES - 1] = 0;
  const pager = new Pager(engine, pagerOptions());
  pager.attach();
  const rest = (turns = 2000): void => {
    for (let turn = 0; turn < turns; turn++) pager.step(0);
    pager.checkInvariants();
    touched = PAGES - 1;
  };
  return { engine, pager, rest };
}

test('a page that cannot be moved is discarded only after a look, made later than the refusal, that found nothing pinned', () => {
  const { engine, pager, rest } = paged();
  pager.clearRefusals(1_000_000); // a look that was made before
  rest();
  assert.equal(engine.discarded, 0);
  const { residentPages } = pager.stats();
  assert.ok(residentPages >= 500, `${residentPages} pages are resident: all that were refused`);
  const refusals = pager.refusalsToClear;
  assert.ok(refusals > 0);
  pager.clearRefusals(refusals);
  rest();
  assert.ok(engine.discarded > 0);
  assert.ok(pager.stats().residentPages <= 200);
});

for (const victims of VICTIM_POLICIES) {
  test(`${victims}: pages that were refused do not keep the others from leaving, while nobody looks`, () => {
    const engine = new PlainEngine(
      PAGES,
      FRAMES,
      (touch) => 500 + (touch % 400),
      () => false,
    );
    for (let page = 0; page < 70; page++) engine.pinned.add(page);
    const pager = new Pager(engine, pagerOptions({ victims, localLimit: { pages: 400 }, frames: 24 }));
    pager.attach();
    const run = (turns: number): void => {
      for (let turn = 0; turn < turns; turn++) {
        pager.step(0);
        if (turn % 50 === 0) pager.tick();
      }
    };
    run(4000); // long enough for all that come back to be known for that
    pager.setLocalLimit(200);
    const { touches } = engine;
    run(2000);
    pager.checkInvariants();
    assert.equal(pager.refusalsToClear, 70);
    assert.ok(pager.stats().residentPages <= 200, `${pager.stats().residentPages} resident`);
    assert.ok(engine.touches > touches + 500, `${engine.touches - touches} touches`);
  });
}

test('memory that is known to be pinned is never discarded', () => {
  const { engine, pager, rest } = paged();
  pager.setDiscardRefused(false);
  rest();
  assert.equal(pager.refusalsToClear, 0);
  pager.clearRefusals(1_000_000);
  rest();
  assert.equal(engine.discarded, 0);
});

test('a fault does not wait for a look at refused pages: the limit gives way until there has been one', () => {
  const { engine, pager, rest } = paged(PAGES, false);
  rest();
  assert.ok(pager.refusalsToClear > 0);
  for (let tick = 0; tick < 5; tick++) {
    pager.tick(); // eviction is tried again
    rest(1);
  }
  rest(20);
  assert.equal(engine.present[PAGES - 1], 1, 'nobody has looked, and the page is there');
  pager.clearRefusals(pager.refusalsToClear);
  engine.pinned.clear();
  rest();
  assert.ok(pager.stats().residentPages <= 200, 'after the look the limit holds again');
});

test('a look counts for a moment only: what was cleared and not needed then is looked at again', () => {
  const { engine, pager, rest } = paged();
  rest();
  const refusals = pager.refusalsToClear;
  pager.setLocalLimit(700);
  pager.clearRefusals(refusals);
  rest(100);
  const before = engine.discarded;
  assert.ok(before > 0 && before < refusals, `${before} of ${refusals} discarded`);
  engine.clock[0] += 1e9;
  pager.setLocalLimit(200);
  rest();
  assert.equal(engine.discarded, before, 'a device may have been given the others meanwhile');
  assert.ok(pager.refusalsToClear > 0);
  pager.clearRefusals(pager.refusalsToClear);
  rest();
  assert.ok(pager.stats().residentPages <= 200);
});

test('a page that the kernel needs when a thread exits goes back at once and is not taken again; the others leave as ever', () => {
  const { engine, pager, rest } = paged(0, true, 50);
  let out = 0;
  for (let turn = 0; turn < 2000; turn++) {
    pager.step(0);
    let absent = 0;
    for (let page = 0; page < 50; page++) absent += Number(engine.present[page] === 0);
    out = absent === 0 ? 0 : out + 1;
    assert.ok(out <= 2, 'in the turn after the one that told of it');
  }
  rest();
  assert.deepEqual([...engine.needed.values()], new Array(50).fill(1));
  assert.ok(pager.stats().residentPages <= 200 && pager.stats().residentPages > 100);
});

test('where more is kept than the limit is, a fault does not wait for room that cannot be had', () => {
  const { engine, pager, rest } = paged(0, false, PAGES);
  rest();
  rest(20);
  assert.equal(engine.present[PAGES - 1], 1);
  assert.equal(pager.stats().evictionStalled, true);
});

test('while a limit that was lowered is still to be reached, faults do not wait for that', () => {
  let touched = 0;
  const engine = new PlainEngine(
    8000,
    FRAMES,
    () => touched,
    () => false,
  );
  const pager = new Pager(engine, pagerOptions({ localLimit: { pages: 7900 } }));
  pager.attach();
  for (let turn = 0; turn < 50; turn++) pager.step(0);
  pager.setLocalLimit(100);
  let longest = 0;
  let waited = 0;
  let served = 0;
  for (let turn = 0; pager.stats().residentPages > 150; turn++) {
    assert.ok(turn < 5000, 'the limit is reached');
    pager.step(0);
    if (engine.present[touched] === 0) longest = Math.max(longest, ++waited);
    else {
      waited = 0;
      served++;
      touched = engine.present.indexOf(0);
    }
  }
  pager.checkInvariants();
  assert.ok(served > 50 && longest <= 5, `${served} faults were served meanwhile, the slowest in ${longest} turns`);
});

for (const [way, step] of [
  ['up', 1],
  ['down', -1],
] as const) {
  test(`of a loop that goes ${way} and does not fit, neighbours are read, mapped and moved out together`, () => {
    const pages = 4000;
    const frames = 600;
    const engine = new PlainEngine(
      pages,
      frames,
      (n) => (((n * step) % pages) + pages) % pages,
      () => false,
    );
    const records = new Int32Array(16);
    const moved = new Int32Array(16);
    const turn = engine.turn.bind(engine);
    engine.turn = (words, waitNs) => {
      for (let at = 0; at < words && engine.touches > pages; at += COMMAND_WORDS) {
        const command = engine.commands[at]! & 15;
        records[command]++;
        moved[command] += engine.commands[at + 3]!;
      }
      return turn(words, waitNs);
    };
    const pager = new Pager(
      engine,
      pagerOptions({ localLimit: { pages: pages / 2 }, frames, prefetchBuffer: 400, prefetch: 'leap' }),
    );
    pager.attach();
    for (let turns = 0; engine.touches < 8 * pages; turns++) {
      assert.ok(turns < 1e6);
      pager.step(0);
    }
    pager.checkInvariants();
    for (const [command, least] of [
      [Command.read, 4],
      [Command.map, 4],
      [Command.moveOut, step > 0 ? 16 : 8],
    ]) {
      const run = moved[command] / records[command];
      assert.ok(
        moved[command] > pages && run >= least,
        `command ${command}: ${moved[command]} pages, ${run.toFixed(1)} a time`,
      );
    }
  });
}
