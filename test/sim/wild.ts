/**
 * A prefetch policy that plans anything: pages nobody needs, twice, of other processes, or none at all. No plan may
 * hurt the pager.
 */
import { LIST_MOST, type Plan, type Prefetcher } from '../../src/policy/prefetch/prefetcher.js';
import type { Random } from './world.js';

/** Beyond all pages that a run has. */
const FAR = 5000;

export class WildPrefetcher implements Prefetcher {
  readonly name = 'wild';
  readonly counters = { trendsFound: 0, trendsTried: 0 };

  constructor(private readonly random: Random) {}

  configure(): void {}

  fault(page: number, _thread: number, _kind: number, _ahead: number, plan: Plan): void {
    const { random } = this;
    const anyPage = (): number => (random.chance(0.8) ? page + random.between(-20, 20) : random.between(-1, FAR));
    plan.clear();
    plan.mapAhead = random.chance(0.5);
    plan.streamed = random.chance(0.3);
    plan.stride = random.pick([1, -1, 2, 10, -7, 1000]);
    if (random.chance(0.4)) {
      plan.listed = random.below(LIST_MOST + 1);
      for (let i = 0; i < plan.listed; i++) plan.list[i] = anyPage();
    } else if (random.chance(0.8)) {
      plan.start = anyPage();
      plan.count = random.below(40);
      plan.steps = random.below(100);
    }
  }
}
