// Records as lines of JSON in buffers: read and written again in order, then in the order of their names.
const COUNT = 350_000;
const make = (i) =>
  JSON.stringify({
    id: i,
    name: `record ${(i * 7919) % 350_003}`,
    tags: [`t${i % 17}`, `t${i % 31}`],
    at: { x: i % 977, y: (i * 31) % 997 },
    notes: 'lorem ipsum '.repeat(4),
  });
const input = Buffer.alloc(COUNT * 176);
const output = Buffer.alloc(input.length);
const starts = new Int32Array(COUNT + 1);
for (let i = 0; i < COUNT; i++) starts[i + 1] = starts[i] + input.write(`${make(i)}\n`, starts[i]);
const read = (i) => JSON.parse(input.toString('utf8', starts[i], starts[i + 1]));
console.log('READY');
process.stdin.once('data', () => {
  let at = 0;
  const names = new Array(COUNT);
  for (let i = 0; i < COUNT; i++) {
    const record = read(i);
    names[i] = Number(record.name.slice(7));
    record.at.x += 1;
    at += output.write(`${JSON.stringify(record)}\n`, at);
  }
  const order = Int32Array.from(names.keys()).sort((a, b) => names[a] - names[b]);
  at = 0;
  for (let i = 0; i < 30_000; i++) at += output.write(`${JSON.stringify(read(order[i]))}\n`, at);
  console.log('DONE', at);
  process.exit(0);
});
