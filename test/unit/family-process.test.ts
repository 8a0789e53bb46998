import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { namespaceOf, processOfThread } from '../../src/host/family-process.js';

test('a thread of our own namespace is known by its number', () => {
  assert.equal(processOfThread(namespaceOf(process.pid), process.pid), process.pid);
});

test('a process that is gone says nothing of threads: none is taken for one of its family', () => {
  const { pid } = spawnSync('true');
  assert.equal(namespaceOf(pid), undefined);
  assert.equal(processOfThread(namespaceOf(pid), 1), undefined);
});

test('in a namespace that nobody is in there is no such thread', () => {
  assert.equal(processOfThread('pid:[1]', 1), undefined);
});
