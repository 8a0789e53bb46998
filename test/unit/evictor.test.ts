/** Pages that UFFDIO_MOVE refuses: shared, or pinned for a device that would go on writing to the old page if they were dropped. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Pager } from '../../src/pager.js';
import { PlainEngine } from './plain-engine.js';

const PAGES = 1000;

function paged(): { readonly engine: PlainEngine; readonly pager: Pager; readonly rest: () => void } {
  const engine = new PlainEngine(PAGES, 256, () => PAGES - 1, () => false);
  for (let page = 0; page < 500; page++) engine.pinned.add(page);
  const pager = new Pager(engine, {
    localLimit: { pages: 200 },
    frames: 256,
    prefetchBuffer: 64,
    prefetch: 'none',
    history: 32,
    windowMax: 8,
    victims: 'fifo',
    evict: 'auto',
    copies: 2,
  });
  pager.attach();
  const rest = (): void => {
    for (let turn = 0; turn < 2000; turn++) pager.step(0);
    pager.checkInvariants();
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

test('memory that is known to be pinned is never discarded', () => {
  const { engine, pager, rest } = paged();
  pager.setDiscardRefused(false);
  rest();
  assert.equal(pager.refusalsToClear, 0);
  pager.clearRefusals(1_000_000);
  rest();
  assert.equal(engine.discarded, 0);
});
