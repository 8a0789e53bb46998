/** Write-back: which evicted pages are written, when and in what units, and what follows when a write fails. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno, Event } from '../../src/core/layout.js';
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

/** Pages and answers of the writes that the engine has executed. */
class Watched extends PlainEngine {
  readonly writesOf = new Map<number, number>();
  writeCommands = 0;
  pagesWritten = 0;

  protected override emit(...event: [number, number, number, number, number, number]): number {
    const [kind, first, , count] = event;
    if (kind === Event.writeDone) {
      this.writeCommands++;
      this.pagesWritten += count;
      for (let slot = first; slot < first + count; slot++) this.writesOf.set(slot, (this.writesOf.get(slot) ?? 0) + 1);
    }
    return super.emit(...event);
  }
}

/** A target that touches its pages one after the other, `rounds` times, and then rests until everything is written. */
function swept(rounds: number, changes: boolean, prepare: (engine: Watched) => void = () => undefined) {
  const touches = rounds * PAGES;
  const engine = new Watched(
    PAGES,
    FRAMES,
    (n) => (n < touches ? n % PAGES : PAGES - 1),
    (n) => changes && n < touches,
  );
  prepare(engine);
  const pager = new Pager(engine, pagerOptions());
  pager.attach();
  for (let turns = 0; engine.touches < touches; turns++) {
    assert.ok(turns < 1_000_000);
    pager.step(1e6);
  }
  for (let turns = 0; turns < 5000; turns++) pager.step(1e6);
  pager.checkInvariants();
  return { engine, pager };
}

/** Every page that is out has its last bytes in its home slot. */
function assertStored(engine: Watched): void {
  const out = [...engine.present.keys()].filter((page) => engine.present[page] === 0);
  assert.ok(out.length >= PAGES - 200, `${out.length} pages are out`);
  for (const page of out) assert.equal(engine.places[0]![page], engine.content[page], `page ${page}`);
}

test('a page that has not changed since it was written is not written again', () => {
  const { engine, pager } = swept(5, false);
  assertStored(engine);
  assert.equal(Math.max(...engine.writesOf.values()), 1);
  assert.ok(pager.stats().cleanEvictions > 3 * (PAGES - 200), `${pager.stats().cleanEvictions} clean evictions`);
});

test('a page that has changed is written again, and its slot has the last bytes', () => {
  const { engine, pager } = swept(5, true);
  assertStored(engine);
  assert.equal(pager.stats().cleanEvictions, 0);
  assert.ok(engine.pagesWritten > 3 * (PAGES - 200), `${engine.pagesWritten} pages written`);
});

test('neighbours are written by one command', () => {
  const { engine } = swept(2, true);
  assert.ok(engine.pagesWritten >= 8 * engine.writeCommands, `${engine.pagesWritten} in ${engine.writeCommands}`);
});

test('a write that fails once is repeated, and its bytes are not given up before', () => {
  const failed = new Set<number>();
  const { engine, pager } = swept(3, true, (made) => {
    made.writeErrno = (slot) => (slot % 97 === 5 && !failed.has(slot) ? (failed.add(slot), Errno.EIO) : Errno.ok);
  });
  assert.equal(failed.size, 11);
  assertStored(engine);
  assert.equal(pager.stats().lostPages, 0);
});
