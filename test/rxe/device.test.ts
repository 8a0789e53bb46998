/** The VM itself: a real RDMA stack under the tests that follow. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readdirSync } from 'node:fs';
import test from 'node:test';
import { addresses, addresses6, device, netdev, notInVm, runPair, runTool } from './harness.js';

const options = { skip: notInVm };

test('the rxe device is active on the dummy network', options, async () => {
  const link = await runTool('rdma', ['link', 'show', `${device}/1`]);
  assert.match(link, new RegExp(`state ACTIVE physical_state LINK_UP netdev ${netdev}`));
  assert.match(await runTool('ibv_devinfo', ['-d', device]), /PORT_ACTIVE/);
  assert.ok(readdirSync('/dev/infiniband').includes('rdma_cm'));
});

test('memory can be locked without limit', options, () => {
  assert.match(readFileSync('/proc/self/limits', 'utf8'), /Max locked memory\s+unlimited\s+unlimited/);
});

test('/dev/userfaultfd opens', options, () => closeSync(openSync('/dev/userfaultfd', 'r+')));

for (const [name, address] of [
  ['IPv4', addresses[1]],
  ['IPv6', addresses6[1]],
] as const) {
  test(`rping passes over ${name}`, options, async () => {
    assert.ok(address !== undefined);
    const said = await runPair('rping', ['-s', '-a', address, '-C', '5'], ['-c', '-a', address, '-C', '5', '-v']);
    assert.equal(said.match(/ping data: rdma-ping-\d/g)?.length, 5, said);
  });
}
