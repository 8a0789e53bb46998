/**
 * Compares the victim policies on patterns of touches, offline: how many touches read the store, how many find the page
 * in a frame. Run: node dist/lab/victim-lab.js [--frames 4000] [--local 25,50] [--pages 131072]. Its tables stand in
 * docs/victims.md.
 *
 * Every page is written once, in order; then the pattern runs for `pages` touches (the policy has to learn in them) and
 * for 3 * pages more. A policy sees what it sees in the pager: pages that come, and pages that come back.
 */
import { parseArgs } from 'node:util';
import { SecondChance } from '../src/policy/second-chance.js';
import { frameIndex, pageIndex } from '../src/core/types.js';
import { VICTIM_POLICIES, createVictimPolicy } from '../src/policy/victim/index.js';
import type { VictimPolicy } from '../src/policy/victim/victim.js';
import { type Random, randomFrom, shuffled, zipfOver } from './random.js';

const BATCH = 32;

type Pattern = (pages: number, random: Random) => () => number;

/** 80 % of the touches on 20 % of the pages, by the page's place in `order` shifted by `offset()`. */
function eightyTwenty(pages: number, random: Random, order: Int32Array, offset: () => number): () => number {
  const hot = Math.floor(pages * 0.2);
  return () => {
    const at = random() < 0.8 ? Math.floor(random() * hot) : hot + Math.floor(random() * (pages - hot));
    return order[(at + offset()) % pages];
  };
}

const PATTERNS: Record<string, Pattern> = {
  '80/20': (pages, random) => eightyTwenty(pages, random, shuffled(pages, random), () => 0),
  '80/20, hot pages first': (pages, random) =>
    eightyTwenty(
      pages,
      random,
      Int32Array.from({ length: pages }, (_, page) => page),
      () => 0,
    ),
  '80/20, hot set moves': (pages, random) => {
    let touches = 0;
    const hot = Math.floor(pages * 0.2);
    return eightyTwenty(pages, random, shuffled(pages, random), () => Math.floor(touches++ / pages) * hot);
  },
  'zipf 0.99': zipfOver,
  random: (pages, random) => () => Math.floor(random() * pages),
  'sequential sweeps': (pages) => {
    let at = 0;
    return () => at++ % pages;
  },
  'stride 10': (pages) => {
    let at = -10;
    return () => {
      at += 10;
      if (at >= pages) at = ((at % 10) + 1) % 10;
      return at;
    };
  },
  'loop over 60 %': (pages) => {
    let at = 0;
    return () => at++ % Math.floor(pages * 0.6);
  },
  'scan + hot 15 %': (pages, random) => {
    const order = shuffled(pages, random);
    let at = 0;
    return () => (random() < 0.5 ? order[Math.floor(random() * pages * 0.15)] : at++ % pages);
  },
  'sliding window': (pages, random) => {
    let touches = 0;
    return () => (Math.floor(touches++ / 8) + Math.floor(random() * random() * pages * 0.3)) % pages;
  },
};

interface Count {
  store: number;
  frame: number;
}

function run(
  policy: VictimPolicy,
  pattern: Pattern,
  pages: number,
  local: number,
  frames: number,
  phases: number[],
): Count[] {
  const resident = new Uint8Array(pages);
  /** A page's frame has the page's number: the buffer holds at most `frames` of them. */
  const buffer = new SecondChance(pages, frames);
  const victims = new Int32Array(BATCH);
  let residents = 0;
  let count: Count = { store: 0, frame: 0 };

  const evict = (): void => {
    const got = policy.next(BATCH, victims);
    for (let i = 0; i < got; i++) {
      const page = victims[i];
      if (resident[page] === 0) throw new Error(`${policy.name} gave page ${page}, which is not resident`);
      resident[page] = 0;
      buffer.left(pageIndex(page));
      buffer.add(frameIndex(page));
    }
    residents -= got;
    while (buffer.size > frames) buffer.reclaim();
  };
  const touch = (page: number): void => {
    if (resident[page] === 1) return;
    if (buffer.remove(frameIndex(page))) count.frame++;
    else count.store++;
    resident[page] = 1;
    buffer.returned(pageIndex(page));
    policy.inserted(pageIndex(page), false);
    if (++residents > local) evict();
  };

  policy.reserve(pages);
  for (let page = 0; page < pages; page++) touch(page);
  const next = pattern(pages, randomFrom(1));
  return phases.map((touches) => {
    count = { store: 0, frame: 0 };
    for (let i = 0; i < touches; i++) touch(next());
    return count;
  });
}

const { values } = parseArgs({
  options: {
    frames: { type: 'string', default: '4000' },
    local: { type: 'string', default: '25,50' },
    pages: { type: 'string', default: '131072' },
  },
});
const pages = Number(values.pages);
const frames = Number(values.frames);
console.log(`${pages} pages, ${frames} frames`);
console.log(
  `touches that read the store + that found the page in a frame, in the first ${pages}, and in the next ${3 * pages}`,
);
for (const percent of values.local.split(',').map(Number)) {
  console.log(
    `\n| ${percent} % local | ${VICTIM_POLICIES.join(' | ')} |\n|---|${'---|'.repeat(VICTIM_POLICIES.length)}`,
  );
  for (const [name, pattern] of Object.entries(PATTERNS)) {
    const cells = VICTIM_POLICIES.map((policy) =>
      run(createVictimPolicy(policy), pattern, pages, Math.floor((pages * percent) / 100), frames, [pages, 3 * pages])
        .map(({ store, frame }) => `${store} + ${frame}`)
        .join(', '),
    );
    console.log(`| ${name} | ${cells.join(' | ')} |`);
  }
}
