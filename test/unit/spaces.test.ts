/** What the pager makes of mappings that turn out to be of another kind than it takes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Mapping } from '../../src/core/engine.js';
import { Event, vpnHigh, vpnLow } from '../../src/core/layout.js';
import { Pager } from '../../src/pager/pager.js';
import { vpn } from '../../src/core/types.js';
import { pagerOptions } from './pager-options.js';
import { PlainEngine } from './plain-engine.js';

const PAGES = 100;
const CAUGHT = vpn(0x7f0000000 + PAGES + 10);

/**
 * Beside the mapping that is paged stands one of a file, which was registered with the room around that; a thread
 * touches it.
 */
class CaughtEngine extends PlainEngine {
  readonly unregistered: [number, number][] = [];
  private touched = false;

  override mappings(): Mapping[] {
    const caught: Mapping = {
      start: CAUGHT,
      end: vpn(CAUGHT + 5),
      permissions: 'rw-p',
      inode: 7,
      path: '/memfd:x (deleted)',
      flags: ['rd', 'wr', 'um'],
    };
    return [...super.mappings(), caught];
  }

  override unregister(_space?: number, start = 0, count = 0): number {
    this.unregistered.push([start, count]);
    return 0;
  }

  override turn(commandWords: number): number {
    const words = super.turn(commandWords);
    if (this.touched) return words;
    this.touched = true;
    return this.emit(Event.faultUnknown, 0, vpnLow(CAUGHT + 2), vpnHigh(CAUGHT + 2), 7, 0);
  }
}

test('a mapping of another kind that was registered by mistake is let go of when it is touched', () => {
  const engine = new CaughtEngine(
    PAGES,
    64,
    () => 0,
    () => false,
  );
  const pager = new Pager(engine, pagerOptions({ localLimit: { pages: 50 }, frames: 64, prefetchBuffer: 16 }));
  pager.attach();
  const { registeredPages } = pager.stats();
  for (let turn = 0; turn < 10; turn++) pager.step(0);
  assert.deepEqual(engine.unregistered, [[CAUGHT, 5]]);
  assert.deepEqual([pager.stats().registeredPages, registeredPages], [PAGES, PAGES], 'and never taken for ours');
});
