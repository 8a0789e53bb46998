/** What a prefetcher is told of the plans it made. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Pager } from '../../src/pager.js';
import type { Plan, Prefetcher } from '../../src/prefetch/prefetcher.js';
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

for (const [buffer, fetched] of [[64, WINDOW], [3, 3], [0, 0]] as const) {
  test(`with room for ${buffer} pages read ahead, ${fetched} of ${WINDOW} are, and the next plan may go on behind them`, () => {
    let touched = PAGES - 1;
    const engine = new PlainEngine(PAGES, FRAMES, () => touched, () => false);
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
