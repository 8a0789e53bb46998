/** What a prefetcher is told of the plans it made. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Pager } from '../../src/pager/pager.js';
import type { Plan, Prefetcher } from '../../src/policy/prefetch/prefetcher.js';
import { ReturnsPolicy } from '../../src/policy/victim/returns.js';
import type { PageIndex } from '../../src/core/types.js';
import { FRAMES, pagerOptions } from './pager-options.js';
import { PlainEngine } from './plain-engine.js';

const PAGES = 1000;
const WINDOW = 8;

/** Asks for the next WINDOW pages at each fault, and keeps what came of it. */
class Watcher implements Prefetcher {
  readonly name = 'watcher';
  readonly counters = { trendsFound: 0, trendsTried: 0 };
  readonly outcomes: [asked: number, fetched: number, last: number][] = [];

  configure(): void {}

  fault(page: number, _thread: number, _kind: number, _ahead: number, plan: Plan): void {
    plan.start = page + 1;
    plan.stride = 1;
    plan.count = WINDOW;
  }

  carriedOut(plan: Plan): void {
    this.outcomes.push([plan.start, plan.fetched, plan.last]);
  }
}

for (const [buffer, fetched] of [
  [64, WINDOW],
  [3, 3],
  [0, 0],
] as const) {
  test(`with room for ${buffer} pages read ahead, ${fetched} of ${WINDOW} are, and the next plan may go on behind them`, () => {
    let touched = PAGES - 1;
    const engine = new PlainEngine(
      PAGES,
      FRAMES,
      () => touched,
      () => false,
    );
    const pager = new Pager(engine, pagerOptions({ prefetchBuffer: buffer }));
    const watcher = new Watcher();
    pager.attach();
    for (let turn = 0; turn < 1000; turn++) pager.step(0);
    pager.setPrefetch(watcher);
    touched = 100; // long in the swap file only
    for (let turn = 0; turn < 10; turn++) pager.step(0);
    assert.deepEqual(watcher.outcomes, [[101, fetched, 100 + fetched]]);
    assert.equal(pager.stats().prefetchIssued, fetched);
  });
}

/** Answers each fault with the next of the given lists. */
class Lister implements Prefetcher {
  readonly name = 'lister';
  readonly counters = { trendsFound: 0, trendsTried: 0 };
  readonly faults: [page: number, ahead: number][] = [];
  readonly outcomes: [mapped: number, passed: number, marker: number][] = [];

  constructor(private readonly lists: number[][]) {}

  configure(): void {}

  fault(page: number, _thread: number, _kind: number, ahead: number, plan: Plan): void {
    this.faults.push([page, ahead]);
    const list = this.lists.shift() ?? [];
    plan.list.set(list);
    plan.listed = list.length;
    plan.mapAhead = list.length > 0;
  }

  carriedOut(plan: Plan): void {
    this.outcomes.push([plan.mapped, plan.passed, plan.marker]);
  }
}

test('of listed pages those in the store are read, each once; what stands ready of the first half is mapped ahead, and the page behind it is the marker', () => {
  let touched = PAGES - 1;
  const engine = new PlainEngine(
    PAGES,
    FRAMES,
    () => touched,
    () => false,
  );
  const pager = new Pager(engine, pagerOptions());
  pager.attach();
  for (let turn = 0; turn < 1000; turn++) pager.step(0);
  const out = (from: number): number => engine.present.indexOf(0, from);
  const [first, ...wanted] = [20, 150, 40, 170, 60, 180, 80, 190].map(out); // in no order
  const lister = new Lister([
    [wanted[0], first, wanted[0], PAGES - 1, ...wanted.slice(1)],
    [PAGES - 1, ...wanted.slice(1), wanted[0], wanted[0]],
  ]);
  pager.setPrefetch(lister);
  const touch = (page: number): void => {
    touched = page;
    for (let turn = 0; turn < 10; turn++) pager.step(0);
  };

  touch(first);
  assert.deepEqual(lister.outcomes, [[0, 0, 0]], 'nothing stands ready yet');
  assert.equal(pager.stats().prefetchIssued, wanted.length);
  assert.ok(wanted.every((page) => engine.present[page] === 0));

  touch(wanted[0]); // of nine pages four are the first half, one of them resident
  assert.deepEqual(lister.outcomes[1], [3, 4, wanted[4]]);
  assert.deepEqual(
    wanted.map((page) => engine.present[page]),
    [1, 1, 1, 1, 0, 0, 0],
  );
  assert.equal(pager.stats().prefetchIssued, wanted.length, 'they had been read');

  touch(wanted[4]);
  assert.deepEqual(lister.faults.at(-1), [wanted[4], 3], 'the fault at the marker confirms the three before it');
  assert.equal(pager.stats().prefetchHits, 5);
  pager.checkInvariants();
});

test('the victim policy is told of a streamed page before it comes, and of no other', () => {
  let touched = PAGES - 1;
  const engine = new PlainEngine(
    PAGES,
    FRAMES,
    () => touched,
    () => false,
  );
  const pager = new Pager(engine, pagerOptions({ victims: 'returns' }));
  pager.attach();
  for (let turn = 0; turn < 1000; turn++) pager.step(0);
  const out = [...engine.present.keys()].filter((page) => engine.present[page] === 0).slice(0, 6);
  const policy = {
    name: 'teller',
    counters: { trendsFound: 0, trendsTried: 0 },
    configure: () => {},
    fault: (page: number, _thread: number, _kind: number, _ahead: number, plan: Plan) => {
      plan.streamed = out.indexOf(page) % 2 === 0;
    },
  };
  pager.setPrefetch(policy);
  const told: string[] = [];
  const { streamed, inserted } = ReturnsPolicy.prototype;
  const watches = [
    mock.method(ReturnsPolicy.prototype, 'streamed', function (this: ReturnsPolicy, page: PageIndex) {
      told.push(`streamed ${page}`);
      streamed.call(this, page);
    }),
    mock.method(ReturnsPolicy.prototype, 'inserted', function (this: ReturnsPolicy, page: PageIndex) {
      told.push(`inserted ${page}`);
      inserted.call(this, page);
    }),
  ];
  for (const page of out) {
    touched = page;
    for (let turn = 0; turn < 10; turn++) pager.step(0);
  }
  for (const watch of watches) watch.mock.restore();
  assert.deepEqual(
    told,
    out.flatMap((page, i) => [...(i % 2 === 0 ? [`streamed ${page}`] : []), `inserted ${page}`]),
  );
});
