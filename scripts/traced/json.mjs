// Parses, changes and writes again a list of records, with the garbage that this makes.
const make = (i) => ({ id: i, name: `record ${(i * 7919) % 100_003}`, tags: [`t${i % 17}`, `t${i % 31}`], at: { x: i % 977, y: (i * 31) % 997 }, notes: 'lorem ipsum '.repeat(4) });
const text = JSON.stringify(Array.from({ length: 120_000 }, (_, i) => make(i)));
let records = JSON.parse(text);
console.log('READY');
process.stdin.once('data', () => {
  for (let round = 0; round < 3; round++) {
    records.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    for (const record of records) record.at.x += round;
    records = JSON.parse(JSON.stringify(records));
  }
  console.log('DONE', records.length);
  process.exit(0);
});
