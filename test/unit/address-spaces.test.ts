/** The rooms of address spaces: mappings found, moved, removed, inherited by a child, and children given a helper. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Mapping } from '../../src/core/engine.js';
import { Errno, Event, FAULT_WRITE, vpnHigh, vpnLow } from '../../src/core/layout.js';
import { pageIndex, type SpaceId, spaceId, type Vpn, vpn } from '../../src/core/types.js';
import { Family } from '../../src/family/family.js';
import { State } from '../../src/tables/page-table.js';
import { MappingCache } from '../../src/spaces/mapping-cache.js';
import { isPageable } from '../../src/spaces/pageable.js';
import { Registrar } from '../../src/spaces/registrar.js';
import { Pager } from '../../src/pager/pager.js';
import { pagerOptions } from './pager-options.js';
import { PlainEngine } from './plain-engine.js';

const PAGES = 64;
const AT = 0x7f0000000;
const TARGET = spaceId(0);
const CHILD = spaceId(1);

const mapping = (start: number, count: number, more: Partial<Mapping> = {}): Mapping => ({
  start: vpn(start),
  end: vpn(start + count),
  permissions: 'rw-p',
  inode: 0,
  path: '',
  flags: ['rd', 'wr'],
  ...more,
});

/** An engine whose mappings, events and helpers the test sets, and that writes down the calls of the control plane. */
class ScriptedEngine extends PlainEngine {
  readonly calls: string[] = [];
  readonly script = new Map<SpaceId, Mapping[]>();
  own = { start: vpn(0), end: vpn(0) };
  fullReadings = 0;
  /** What `register` answers to a range that is larger than asked for, and to others. */
  registerErrno = { larger: 0, exact: 0 };
  helpers = new Set<number>([TARGET]);
  adoptable = false;
  dead = new Set<number>();
  private queued: number[][] = [];

  constructor() {
    super(
      PAGES * 4,
      256,
      () => 0,
      () => false,
    );
    this.script.set(TARGET, [mapping(AT, PAGES)]);
  }

  /** An event of the next turn. */
  event(...words: number[]): void {
    this.queued.push(words);
  }

  range(kind: number, space: number, start: number, end: number): void {
    this.event(kind, space, vpnLow(start), vpnHigh(start), vpnLow(end), vpnHigh(end));
  }

  moved(from: number, to: number, count: number): void {
    this.event(Event.remap, TARGET, vpnLow(from), vpnHigh(from), vpnLow(to), vpnHigh(to), count);
  }

  override turn(commandWords: number): number {
    let words = super.turn(commandWords);
    for (const [kind, ...rest] of this.queued) {
      const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = rest;
      words = this.emit(kind!, a, b, c, d, e);
      this.events[words - 2] = f;
    }
    this.queued = [];
    return words;
  }

  override mappingList(space: SpaceId = TARGET): string {
    return (this.script.get(space) ?? []).map(({ start, end, path }) => `${start}-${end} ${path}`).join('\n');
  }
  override mappings(space: SpaceId = TARGET): Mapping[] {
    this.fullReadings++;
    return this.script.get(space) ?? [];
  }
  override ownArea(): { start: Vpn; end: Vpn } {
    return this.own;
  }
  override register(space: number, start: number, count: number): number {
    const errno = this.script.get(spaceId(space))!.some((one) => one.start === start && one.end === start + count)
      ? this.registerErrno.exact
      : this.registerErrno.larger;
    this.calls.push(`register ${start - AT}+${count}: ${errno}`);
    return errno;
  }
  override unregister(_space: number, start: number, count: number): number {
    this.calls.push(`unregister ${start - AT}+${count}`);
    return 0;
  }
  override bind(space = 0, start = 0, count = 0, first = 0): void {
    this.calls.push(`bind ${space} ${start - AT}+${count} to ${first}`);
  }
  override unbind(space = 0, start = 0, count = 0): void {
    this.calls.push(`unbind ${space} ${start - AT}+${count}`);
  }
  override residency(_space: number, _start: number, count: number, out: Uint8Array): number {
    out.fill(1, 0, count);
    return 0;
  }
  override canEvict(space = 0): boolean {
    return this.helpers.has(space);
  }
  override adopt(space = 0): boolean {
    this.calls.push(`adopt ${space}`);
    if (this.adoptable) this.helpers.add(space);
    return this.adoptable;
  }
  override isAlive(space = 0): boolean {
    return !this.dead.has(space);
  }
  override drop(space = 0): void {
    this.calls.push(`drop ${space}`);
  }
}

function attached(engine = new ScriptedEngine(), limit = PAGES * 4): { engine: ScriptedEngine; pager: Pager } {
  const pager = new Pager(engine, pagerOptions({ localLimit: { pages: limit } }));
  pager.attach();
  engine.calls.length = 0;
  return { engine, pager };
}
const tick = (pager: Pager): void => {
  pager.tick();
  pager.step(0);
  pager.checkInvariants();
};

test('a scan takes what is pageable, once, and nothing else', () => {
  const { engine, pager } = attached();
  assert.equal(pager.stats().registeredPages, PAGES);
  engine.script.set(TARGET, [mapping(AT, PAGES), mapping(AT + 100, 8), mapping(AT + 120, 8, { inode: 5 })]);
  tick(pager);
  assert.equal(pager.stats().registeredPages, PAGES + 8);
  assert.equal(pager.stats().residentPages, PAGES + 8);
  const { length } = engine.calls;
  tick(pager);
  assert.equal(engine.calls.length, length, 'nothing has changed');
});

test('a mapping that is gone is left to its event: it may have been moved', () => {
  const { engine, pager } = attached();
  engine.script.set(TARGET, [mapping(AT + 1000, PAGES)]);
  engine.registerErrno = { larger: Errno.ENOMEM, exact: Errno.ENOMEM };
  tick(pager);
  assert.equal(pager.stats().registeredPages, PAGES);
  engine.range(Event.unmap, TARGET, AT, AT + 16);
  pager.step(0);
  pager.checkInvariants();
  assert.equal(pager.stats().registeredPages, PAGES - 16);
  assert.ok(engine.calls.includes('unbind 0 0+16'));
});

test('pages keep their index when the target moves them', () => {
  const { engine, pager } = attached();
  engine.moved(AT + 8, AT + 500, 8);
  engine.range(Event.unmap, TARGET, AT + 8, AT + 16);
  pager.step(0);
  pager.checkInvariants();
  assert.deepEqual(engine.calls, ['unbind 0 8+8', 'bind 0 500+8 to 8']);
  assert.equal(pager.stats().registeredPages, PAGES, 'the second event of the move takes nothing away');
});

test('the second event of a move takes nothing away that was moved to the old place meanwhile', () => {
  const { engine, pager } = attached();
  engine.script.set(TARGET, [mapping(AT, PAGES - 24, { flags: ['um'] }), mapping(AT + 500, 8, { flags: ['um'] })]);
  engine.moved(AT + 8, AT + 500, 8);
  engine.moved(AT + PAGES - 24, AT + 8, 8);
  engine.range(Event.unmap, TARGET, AT + 8, AT + 16);
  pager.step(0);
  pager.checkInvariants();
  assert.ok(engine.calls.includes(`bind 0 8+8 to ${PAGES - 24}`));
  assert.equal(pager.stats().registeredPages, PAGES);
});

test('a child inherits its parent’s regions, without what it gets nothing of', () => {
  const { engine, pager } = attached();
  engine.script.set(TARGET, [
    mapping(AT, 8, { flags: ['um'] }),
    mapping(AT + 8, 8, { flags: ['um', 'dc'] }),
    mapping(AT + 16, 8, { flags: ['um', 'wf'] }),
    mapping(AT + 24, PAGES - 24, { flags: ['um'] }),
  ]);
  engine.event(Event.fork, TARGET, CHILD, 0);
  pager.step(0);
  pager.checkInvariants();
  const bound = engine.calls.filter((call) => call.startsWith('bind 1')).map((call) => call.split(' ')[2]);
  assert.deepEqual(bound, ['0+8', '16+8', `24+${PAGES - 24}`]);
  const { spaces, forks, residentPages } = pager.stats();
  assert.deepEqual([spaces, forks, residentPages], [2, 1, PAGES], 'a child without a helper does not count');
});

test('a child is given a helper when it faults; refused, it is tried again a second later at most ten times', () => {
  const { engine, pager } = attached();
  engine.event(Event.fork, TARGET, CHILD, 0);
  pager.step(0);
  const fault = (): void => {
    engine.event(Event.fault, PAGES, 9, FAULT_WRITE, CHILD);
    pager.step(0);
    pager.step(0);
  };
  fault();
  fault();
  assert.equal(engine.calls.filter((call) => call === 'adopt 1').length, 1, 'not again at once');
  for (let i = 0; i < 20; i++) {
    engine.clock[0] += 2e9;
    fault();
  }
  assert.equal(engine.calls.filter((call) => call === 'adopt 1').length, 10);
  assert.equal(pager.stats().residentPages, PAGES);
});

test('the pages of an adopted child count, and no longer when its helper is lost; a dead child is dropped', () => {
  const { engine, pager } = attached();
  engine.event(Event.fork, TARGET, CHILD, 0);
  pager.step(0);
  engine.adoptable = true;
  engine.event(Event.fault, PAGES, 9, FAULT_WRITE, CHILD);
  pager.step(0);
  pager.checkInvariants();
  assert.equal(pager.stats().residentPages, 2 * PAGES);
  engine.helpers.delete(CHILD);
  engine.event(Event.helperLost, CHILD);
  pager.step(0);
  pager.checkInvariants();
  assert.equal(pager.stats().residentPages, PAGES);
  engine.dead.add(CHILD);
  tick(pager);
  assert.deepEqual([pager.stats().spaces, pager.stats().registeredPages], [1, PAGES]);
  assert.ok(engine.calls.includes('drop 1'));
});

test('mappings are read in full when their list has changed, when asked to, and now and then', () => {
  const engine = new ScriptedEngine();
  const cache = new MappingCache(engine);
  const first = cache.read(TARGET);
  assert.equal(cache.read(TARGET), first);
  assert.equal(engine.fullReadings, 1);
  assert.equal(cache.read(TARGET, true).length, 1);
  assert.equal(engine.fullReadings, 2);
  engine.script.set(TARGET, [mapping(AT, PAGES + 1)]);
  assert.equal(cache.read(TARGET)[0]!.end, AT + PAGES + 1);
  assert.equal(engine.fullReadings, 3);
  for (let i = 0; i < 21; i++) cache.read(TARGET);
  assert.equal(engine.fullReadings, 4, 'flags change without the list');
  engine.script.set(TARGET, []);
  assert.deepEqual(cache.read(TARGET), []);
});

test('a range is registered with the unmapped room around it, up to what stands there', () => {
  const engine = new ScriptedEngine();
  engine.script.set(TARGET, [mapping(AT - 50, 10), mapping(AT, 8), mapping(AT + 40, 8), mapping(AT + 90, 8)]);
  engine.own = { start: vpn(AT + 20), end: vpn(AT + 30) };
  const family = new Family(engine, pagerOptions());
  const cache = new MappingCache(engine);
  assert.equal(cache.read(TARGET).length, 4);
  const registrar = new Registrar(family, cache);
  assert.ok(registrar.take({ space: TARGET, start: vpn(AT), count: 8 }));
  engine.registerErrno.larger = Errno.EINVAL;
  assert.ok(registrar.take({ space: TARGET, start: vpn(AT + 40), count: 8 }));
  assert.ok(registrar.take({ space: TARGET, start: vpn(AT + 90), count: 8 }));
  assert.deepEqual(engine.calls, ['register -40+60: 0', 'register 30+60: 22', 'register 40+8: 0', 'register 90+8: 0']);
});

test('a range that cannot be registered is reported once, with its cause', () => {
  const reports: string[] = [];
  const engine = new ScriptedEngine();
  engine.registerErrno.exact = Errno.EBUSY;
  const family = new Family(
    engine,
    pagerOptions({ notify: (level, message, facts) => reports.push(`${level} ${message} ${String(facts['start'])}`) }),
  );
  const registrar = new Registrar(family, new MappingCache(engine));
  const span = { space: TARGET, start: vpn(AT), count: PAGES };
  assert.equal(registrar.take(span), false);
  assert.equal(registrar.take(span), false);
  assert.equal(engine.calls.length, 2, 'it may be free by then');
  assert.equal(registrar.take({ ...span, count: 2 ** 30 }), false);
  assert.equal(registrar.take({ ...span, count: 2 ** 30 }), false);
  assert.deepEqual(reports, [
    'info the target uses userfaultfd on a mapping itself: it stays resident 0x7f0000000000',
    'warn a mapping is too large to be paged: it stays resident 0x7f0000000000',
  ]);
  assert.equal(family.pages.state[pageIndex(0)] ?? State.unused, State.unused);
});

test('heap, mmap and thread stacks are pageable; locked, shared, wiped, read-only and file mappings are not', () => {
  assert.ok(isPageable(mapping(AT, 1)));
  assert.ok(isPageable(mapping(AT, 1, { path: '[heap]' })));
  assert.ok(isPageable(mapping(AT, 1, { path: '[anon: glibc: malloc]' })));
  assert.ok(isPageable(mapping(AT, 1, { path: '[stack:77]' })));
  const others: Partial<Mapping>[] = [
    { path: '[stack]' },
    { path: '[vdso]' },
    { inode: 3 },
    { permissions: 'r--p' },
    { permissions: 'rw-s' },
    ...['lo', 'ht', 'sh', 'io', 'pf', 'mm', 'wf', 'dc', 'gd', 'ss'].map((flag) => ({ flags: ['rd', flag] })),
  ];
  for (const other of others) assert.equal(isPageable(mapping(AT, 1, other)), false, JSON.stringify(other));
});
