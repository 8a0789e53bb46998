/** How a donor gets chunks back from clients that are quick, slow, or deaf. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ClientSession } from '../../server/client-session.js';
import { ACTIVITY_MS, Reclaim, timesFor } from '../../server/reclaim.js';

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const never = (error: unknown): void => assert.fail(String(error));

class FakeClient implements ClientSession {
  readonly state = 'open';
  givesBackAtOnce = false;
  readonly stops: (readonly number[])[] = [];
  asked = 0;
  constructor(readonly chunks: Set<number>) {}
  receive(): void {}
  tick(): void {}
  askActivity(): void {
    this.asked++;
  }
  stop(donorChunks: readonly number[]): void {
    this.stops.push(donorChunks);
  }
}

const times = timesFor(64 * MiB, 100_000);

test('the patience for a chunk follows from its size', () => {
  assert.deepEqual(times, { activityMs: ACTIVITY_MS, chunkMs: 32_000, totalMs: 100_000 });
  assert.equal(timesFor(GiB, 600_000).chunkMs, 62_000);
});

test('the least active chunks of all clients stop, and those that a message had no room for are the most active', () => {
  const [a, b, idle] = [new FakeClient(new Set([0, 1])), new FakeClient(new Set([2, 3])), new FakeClient(new Set())];
  const reclaim = new Reclaim([a, b, idle], 2, 0, never, times);
  assert.deepEqual([a.asked, b.asked, idle.asked], [1, 1, 0]);
  reclaim.activity(
    a,
    [
      { donorChunk: 0, activity: 50 },
      { donorChunk: 1, activity: 3 },
    ],
    10,
  );
  assert.deepEqual(a.stops, []);
  reclaim.activity(b, [{ donorChunk: 2, activity: 9 }], 20); // chunk 3 it does not speak of
  assert.deepEqual([a.stops, b.stops], [[[1]], [[2]]]);
  assert.equal(reclaim.tick(30), false);
  a.chunks.delete(1);
  b.chunks.delete(2);
  assert.equal(reclaim.tick(40), true);
  const many = new FakeClient(new Set(Array.from({ length: 600 }, (_, i) => i)));
  const second = new Reclaim([many], 512, 0, never, times);
  second.activity(
    many,
    Array.from({ length: 511 }, (_, i) => ({ donorChunk: 599 - i, activity: i })),
    10,
  );
  assert.deepEqual(
    [...many.stops[0]!].sort((one, other) => one - other),
    [0, ...Array.from({ length: 511 }, (_, i) => 89 + i)],
  );
});

/** @returns why the client was cut off, when it was */
function cutting(client: FakeClient, wanted: number, given = times): { reclaim: Reclaim<FakeClient>; cut: string[] } {
  const cut: string[] = [];
  const reclaim: Reclaim<FakeClient> = new Reclaim(
    [client],
    wanted,
    0,
    (each, reason) => {
      cut.push(reason);
      const { size } = each.chunks;
      each.chunks.clear();
      reclaim.gone(each, size);
    },
    given,
  );
  return { reclaim, cut };
}

test('who does not answer in time is cut off, and that counts', () => {
  const [deaf, b] = [new FakeClient(new Set([0, 1])), new FakeClient(new Set([2]))];
  const cut: string[] = [];
  const reclaim: Reclaim<FakeClient> = new Reclaim(
    [deaf, b],
    2,
    0,
    (client, reason) => {
      cut.push(reason);
      const { size } = client.chunks;
      client.chunks.clear();
      reclaim.gone(client, size);
    },
    times,
  );
  reclaim.activity(b, [], 5);
  assert.equal(reclaim.tick(ACTIVITY_MS), false);
  assert.equal(reclaim.tick(ACTIVITY_MS + 1), true);
  assert.deepEqual([cut, b.stops], [['no ACTIVITY in time'], [[]]]); // two are back already
});

test('who gives back chunk after chunk has time, up to the end of it; who stands still has not', () => {
  const still = new FakeClient(new Set([5]));
  const standing = cutting(still, 1);
  standing.reclaim.activity(still, [], 100);
  assert.equal(standing.reclaim.tick(32_100), false);
  assert.equal(standing.reclaim.tick(32_101), true);
  assert.deepEqual(standing.cut, ['1 of 1 chunks not given back in time']);

  const slow = new FakeClient(new Set([0, 1, 2, 3]));
  const { reclaim, cut } = cutting(slow, 4);
  reclaim.activity(slow, [], 0);
  for (const [chunk, at] of [
    [0, 30_000],
    [1, 60_000],
    [2, 90_000],
  ] as const) {
    assert.equal(reclaim.tick(at), false);
    slow.chunks.delete(chunk);
    assert.equal(reclaim.tick(at), false);
  }
  assert.deepEqual([reclaim.tick(100_000), cut], [false, []]);
  assert.deepEqual([reclaim.tick(100_001), cut], [true, ['1 of 4 chunks not given back in time']]);

  const original = new FakeClient(new Set([0, 1, 2]));
  original.givesBackAtOnce = true;
  const single = cutting(original, 3);
  single.reclaim.activity(original, [], 0);
  assert.equal(single.reclaim.tick(96_000), false, 'its one DONE comes after the last of them');
  assert.equal(single.reclaim.tick(96_001), true);
});
