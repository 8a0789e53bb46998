/** A donor's chunks: prepared, lent, scrubbed, given back to the host. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChunkStore } from '../../server/chunk-store.js';
import type { FabricMemory } from '../../src/core/fabric.js';
import { FakeMemory } from './fake-memory.js';

const never = (error: unknown): void => assert.fail(String(error));

test('chunks are prepared one after the other, lent when ready, and scrubbed before they are lent again', async () => {
  const made: FakeMemory[] = [];
  const store = new ChunkStore(3, () => (made.push(new FakeMemory(made.length, true)), made.at(-1)!), never);
  assert.deepEqual([made.length, store.lend()], [1, undefined]);
  made[0]!.finish.pop()!();
  await new Promise(setImmediate);
  assert.deepEqual([made.length, store.counts().free], [2, 1]);
  const chunk = store.lend()!;
  assert.equal(chunk.number, 0);
  assert.equal(store.lend(), undefined);
  store.giveBack(chunk);
  assert.throws(() => store.giveBack(chunk), /not lent/);
  assert.equal(store.lend(), undefined, 'not before it is zeros');
  made[1]!.finish.pop()!();
  await new Promise(setImmediate);
  assert.equal(made[0]!.scrubs, 2); // what came back goes before what is new
  made[0]!.finish.pop()!();
  await new Promise(setImmediate);
  assert.equal(store.counts().free, 2);
});

test('a lower limit takes free chunks at once and says how many lent ones must come back', async () => {
  const store = new ChunkStore(4, () => new FakeMemory(0), never);
  await store.settled();
  const lent = [store.lend()!, store.lend()!, store.lend()!];
  assert.equal(store.setLimit(2), 1);
  assert.deepEqual(store.counts(), { total: 4, limit: 2, free: 0, lent: 3, preparing: 0, huge: 0 });
  store.giveBack(lent[0]!);
  await store.settled();
  assert.deepEqual([store.counts().free, store.counts().lent], [0, 2]); // its memory is the host's again
  store.giveBack(lent[1]!);
  await store.settled();
  assert.deepEqual([store.counts().free, store.counts().lent], [1, 1]);
  assert.equal(store.setLimit(9), 0);
  await store.settled();
  assert.deepEqual([store.counts().limit, store.counts().free], [4, 3]);
});

test('memory that cannot be had lowers the limit, and is said', async () => {
  const errors: unknown[] = [];
  let made = 0;
  const make = (): FabricMemory => {
    if (made++ === 2) throw new Error('no more');
    return new FakeMemory(made);
  };
  const store = new ChunkStore(5, make, (error) => errors.push(error));
  await store.settled();
  assert.deepEqual([errors.length, store.counts().limit, store.counts().free], [1, 2, 2]);
  const failing = new FakeMemory(1, true);
  const second = new ChunkStore(
    1,
    () => failing,
    (error) => errors.push(error),
  );
  failing.finish.pop()!(new Error('ENOMEM'));
  await second.settled();
  assert.deepEqual([errors.length, second.counts().limit, failing.isFree], [2, 0, true]);
});
