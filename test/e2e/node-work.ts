/**
 * Real work in Node: maps, buffers, JSON, garbage collection; about 80 MB of it. Started as a program by
 * programs.test.ts.
 */
import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';

let state = 12345;
const random = (limit: number): number => {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
};

interface Entry {
  id: number;
  tags: string[];
  text: string;
}
const entries = new Map<string, Entry>();
for (let i = 0; i < 50_000; i++)
  entries.set(`key-${i}`, { id: i, tags: [`t${random(50)}`, `t${random(50)}`], text: 'x'.repeat(random(80)) });
const randomBytes = (length: number): Buffer => Buffer.from(Array.from({ length }, () => random(256)));
const buffers = Array.from({ length: 300 }, () => Buffer.concat(Array<Buffer>(20).fill(randomBytes(2048))));
const typed = Float64Array.from({ length: 500_000 }, () => random(2 ** 30));

process.stdout.write('READY\n');
createInterface({ input: process.stdin }).once('line', () => {
  const hash = createHash('sha256');
  for (let turn = 0; turn < 2; turn++) {
    for (const buffer of buffers) hash.update(buffer);
    const groups = new Map<string, number[]>();
    for (const { id, tags } of entries.values())
      for (const tag of tags) groups.set(tag, [...(groups.get(tag)?.slice(-20) ?? []), id]);
    hash.update(JSON.stringify([...groups].sort(([a], [b]) => (a < b ? -1 : 1))));
    const copy = JSON.parse(JSON.stringify([...entries].filter((_, i) => i % 3 === turn))) as [string, Entry][];
    for (const [key, entry] of copy) entries.set(`${key}-${turn}`, { ...entry, text: entry.text + turn });
    typed.sort((a, b) => ((a * 31 + turn) % 65_537) - ((b * 31 + turn) % 65_537) || a - b);
    hash.update(Buffer.from(typed.buffer, 0, 65_536));
    for (let i = turn; i < 50_000; i += 7) entries.delete(`key-${i}`);
  }
  hash.update(JSON.stringify([...entries.keys()]));
  hash.update(Buffer.from(typed.buffer));
  process.stdout.write(`DONE ${hash.digest('hex')}\n`);
  process.exit(0);
});
