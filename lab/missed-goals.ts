/**
 * Where `streams` misses STORE_GOAL today: for a trace and a store, how many times as long as with the best other
 * policy its threads stall at most. test/unit/store-goal.ts holds these figures; each is to fall, and none may
 * rise.
 */
export const STORE_GOAL = 1.02;

export const MISSED: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  '6 threads, 10 % noise': { nvme: 1.09, rdma: 1.12, swapfile: 1.04 },
  cc1plus: { swapfile: 1.43 },
  json: { swapfile: 1.28 },
  jvm: { swapfile: 1.03 },
  perl: { nvme: 1.18, rdma: 1.05, swapfile: 1.23 },
  postgres: { nvme: 1.43, rdma: 1.15, swapfile: 1.43 },
  ruby: { nvme: 1.09, swapfile: 1.09 },
  'sequential and zipf and random threads': { nvme: 1.35 },
  xz: { nvme: 1.06, rdma: 1.08, swapfile: 1.1 },
};
