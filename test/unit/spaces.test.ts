/** Mappings that cannot be paged, and children that get less than a copy of everything. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Pager } from '../../src/pager.js';
import { PlainEngine } from './plain-engine.js';

const PAGES = 1000;

function paged(engine: PlainEngine): { readonly pager: Pager; readonly said: string[] } {
  const said: string[] = [];
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
    notify: (_level, message) => said.push(message),
  });
  pager.attach();
  return { pager, said };
}

test('a mapping of more pages than there are indices is left alone, with a word, and paging goes on', () => {
  const engine = new PlainEngine(PAGES, 256, (n) => n % PAGES, () => true);
  const { pager, said } = paged(engine);
  engine.mapMore(2 ** 31);
  for (let turn = 0; turn < 5000; turn++) {
    if (turn % 100 === 0) pager.tick();
    pager.step(0);
  }
  assert.deepEqual(said.filter((message) => message.includes('too large')).length, 1);
  assert.ok(engine.touches > 3 * PAGES);
  pager.checkInvariants();
});
