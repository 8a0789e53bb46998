/** A client that binds a chunk, fills it, and waits to be killed. Arguments: address, port. */
import { Probe } from './probe.js';

const [address = '', port = ''] = process.argv.slice(2);
const probe = new Probe();
await probe.connect(address, Number(port));
const { donorChunk, rkey, address: remote } = await probe.bind();
probe.fabric.arena.fill(0x5a);
await probe.move(true, probe.fabric.arena.byteLength, remote, rkey);
process.stdout.write(`${JSON.stringify({ donorChunk, rkey, remote: String(remote) })}\n`);
// Reads and writes go on until the end.
for (;;) await probe.move(Math.random() < 0.5, 65536, remote, rkey);
