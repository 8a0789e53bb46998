/** The VM itself: a real RDMA stack under the tests that follow. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readdirSync } from 'node:fs';
import test from 'node:test';
import { addresses, addresses6, device, netdev, notInVm, rates, runPair, runTool } from './harness.js';

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

for (const [name, address] of [['IPv4', addresses[1]], ['IPv6', addresses6[1]]] as const) {
  test(`rping passes over ${name}`, options, async () => {
    assert.ok(address !== undefined);
    const said = await runPair('rping', ['-s', '-a', address, '-C', '5'], ['-c', '-a', address, '-C', '5', '-v']);
    assert.equal(said.match(/ping data: rdma-ping-\d/g)?.length, 5, said);
  });
}

test('4 KiB and 128 KiB READs have a rate', options, async (t) => {
  const { latencyUs, bandwidth } = await rates();
  t.diagnostic(`ib_read_lat, 4 KiB: p50 ${latencyUs.p50} us, p99 ${latencyUs.p99} us; ib_read_bw, 128 KiB: ${bandwidth} MB/s`);
  assert.ok(latencyUs.p50 > 0 && latencyUs.p99 >= latencyUs.p50, JSON.stringify(latencyUs));
  assert.ok(bandwidth > 0, String(bandwidth));
});
