/** What becomes of pages that the swap file has no room for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../src/core/layout.js';
import { Pager } from '../../src/pager/pager.js';
import { FRAMES, pagerOptions } from './pager-options.js';
import { PlainEngine } from './plain-engine.js';

const PAGES = 1000;
/** The file has room for so many; in a full file what it has already can still be written over. */
const ROOM = 500;
const SECONDS = 8;

test('a full swap file is tried once a second, and told of once; nothing is lost', () => {
  const warnings: string[] = [];
  const engine = new PlainEngine(
    PAGES,
    FRAMES,
    (n) => (n * 7) % PAGES,
    () => true,
  );
  const pager = new Pager(
    engine,
    pagerOptions({ notify: (level, message) => void (level === 'warn' && warnings.push(message)) }),
  );
  let begun = -1;
  const tries = new Set<number>();
  engine.writeErrno = (slot) => (slot < ROOM ? Errno.ok : (tries.add(engine.clock[0]!), Errno.ENOSPC));
  pager.attach();
  for (let turns = 0; begun < 0 || engine.clock[0]! - begun < SECONDS * 1e9; turns++) {
    assert.ok(turns < 10_000_000);
    pager.step(1e6);
    if (tries.size > 0 && begun < 0) begun = engine.clock[0]!;
  }
  assert.ok(tries.size > 2 && tries.size <= 2 * (SECONDS + 1), `${tries.size} turns with a write that failed`);
  assert.equal(warnings.length, 1, warnings.join('; '));
  engine.writeErrno = () => Errno.ok;
  pager.requestDetach();
  for (let turns = 0; pager.step(1e6); turns++) assert.ok(turns < 1_000_000);
  assert.deepEqual([engine.present.indexOf(0), pager.stats().lostPages], [-1, 0]);
});
