/** What leapd answers over the control socket, of a session that is made up. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerWith } from '../../daemon/control-commands.js';
import { PROTOCOL_VERSION, type Json } from '../../src/cli/protocol.js';
import type { Session } from '../../daemon/session.js';

const donor = {
  address: '10.0.0.2:9400',
  state: 'idle',
  chunks: 0,
  freeChunks: 0,
  reason: 'nobody listens there',
  reads: 1,
  writes: 2,
  readLatencyNs: { p50: 0, p99: 0 },
};

function status(remote: object | undefined): Promise<Json> {
  const made = {
    target: { pid: 7, name: 'seven' },
    state: 'paging',
    uptimeSeconds: 1,
    attached: { evict: 'move', attachMs: 1 },
    options: { swapFile: '/s', control: '/c', remote },
    pager: { stats: async () => ({ storedPages: 5, rdma: 'on', donors: [donor] }) },
  };
  return answerWith(
    made as unknown as Session,
    { version: PROTOCOL_VERSION, command: 'status', arguments: {} },
    () => true,
  );
}

test('the status tells of the donors, where there is a portal', async () => {
  const { rdma, donors } = (await status({})) as Record<string, unknown>;
  assert.deepEqual(
    [rdma, donors],
    ['on', [{ address: '10.0.0.2:9400', state: 'idle', chunks: 0, freeChunks: 0, reason: 'nobody listens there' }]],
  );
  assert.ok(!Object.keys((await status(undefined)) as object).includes('donors'));
});
