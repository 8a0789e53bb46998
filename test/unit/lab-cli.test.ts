/** leap-lab as a program: what it refuses, in one line and with an exit code, and what it writes. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { generate } from '../../lab/patterns.js';
import { encodeTrace, readTrace, writeTrace } from '../../lab/trace-file.js';
import { TraceEncoder } from '../../src/trace/format.js';

const program = fileURLToPath(new URL('../../lab/leap-lab.js', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'leap-lab-'));
after(() => rmSync(directory, { recursive: true, force: true }));
const file = (name: string, bytes: Uint8Array | string): void => writeFileSync(join(directory, name), bytes);

interface Answer {
  readonly code: number | null;
  readonly out: string;
  readonly lines: readonly string[];
}

/** Its arguments as one would type them in the directory with the traces. */
function lab(line: string): Answer {
  const args = line.split(' ').filter((word) => word !== '');
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    cwd: directory,
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { code: status, out: stdout, lines: stderr.split('\n').filter((text) => text !== '') };
}

const small = generate('interleaved', { pages: 1024, touches: 3000 });
const whole = encodeTrace(small);
const other = whole.slice();
other[7] = 9;
const nowhere = new TraceEncoder();
nowhere.fault(0, false, 0, 5, 1);
nowhere.end(0);
writeTrace(join(directory, 'small.leap'), small);
file('cut.leap', whole.subarray(0, whole.length >> 1));
file('cut.leap.gz', gzipSync(whole).subarray(0, 3000));
file('other.leap', other);
file('empty.leap', '');
file('text', 'time,page\n1,2\n');
file('nowhere.leap', nowhere.take());

const refusals: readonly (readonly [line: string, says: RegExp])[] = [
  ['', /a command is missing/],
  ['replay none.leap', /none\.leap: it cannot be read \(ENOENT\)/],
  ['replay text', /text: it is not a trace/],
  ['replay empty.leap', /empty\.leap: it is empty/],
  ['replay other.leap', /other\.leap: it is of version 9, and this program reads version 1/],
  ['replay nowhere.leap', /nowhere\.leap: it has no fault inside a region/],
  ['replay small.leap --policies ours,magic', /--policies: there is no policy "magic"; there are streams, /],
  ['replay small.leap --local 0%', /--local: "0%" is not a share/],
  ['replay small.leap --local 25%,200%', /--local: "200%" is not a share/],
  ['replay small.leap --buffer -1', /--buffer: "-1" is not a whole number from 16/],
  ['replay small.leap --store custom', /--store: "custom" is not one of rdma, .*custom:25us,2000MB/],
  ['replay small.leap --store toString', /--store: "toString" is not one of/],
  ['replay small.leap --json --csv', /json and csv are mutually exclusive/],
  [
    'replay small.leap --policies none --local 50% --html none/page.html',
    /--html: none\/page\.html cannot be written \(ENOENT\)/,
  ],
  ['generate tango --out x', /there is no pattern "tango"/],
  ['generate zipf --out x --pages 1', /--pages: "1" is not a whole number from 64/],
  ['generate zipf --out none/x', /none\/x: it cannot be written \(ENOENT\)/],
];

test('bad input is refused in one line that says what is wrong and what to do', () => {
  for (const [line, says] of refusals) {
    const { code, lines } = lab(line);
    assert.equal(code, 2, `${line}: ${lines.join('\n')}`);
    assert.equal(lines.length, 1, `${line}: ${lines.join('\n')}`);
    assert.match(lines[0] ?? '', /^leap-lab: .*; ./);
    assert.match(lines[0] ?? '', says, line);
  }
  assert.equal(existsSync(join(directory, 'x')), false);
});

interface Replayed {
  readonly traces: readonly {
    readonly trace: string;
    readonly store: string;
    readonly faults: number;
    readonly results: readonly Readonly<Record<string, number | string>>[];
  }[];
}

const replayed = (line: string): Replayed['traces'] => {
  const { code, out, lines } = lab(`replay ${line} --json`);
  assert.equal(code, 0, lines.join('\n'));
  return (JSON.parse(out) as Replayed).traces;
};

test('a trace that was cut off is replayed as far as it goes, and that is said', () => {
  for (const name of ['cut.leap', 'cut.leap.gz']) {
    const { code, out, lines } = lab(`replay ${name} --policies ours --local 50%`);
    const { length } = readTrace(join(directory, name));
    assert.ok(length > 100 && length < 3000);
    assert.deepEqual([code, lines], [0, [`leap-lab: ${name} ends in the middle: ${length} faults could be read`]]);
    assert.match(out, new RegExp(`^${name}: faults ${length},`));
  }
});

test('generate makes the trace that gen: replays, compressed or not', () => {
  const options = '--pages 1024 --touches 3000 --streams 4 --writes 0.5 --compute 2000 --seed 3';
  for (const name of ['made.leap', 'made.leap.gz']) {
    const { code, lines, out } = lab(`generate threads ${options} --out ${name}`);
    assert.deepEqual([code, lines, out], [0, [], '']);
    const { about: _about, ...trace } = readTrace(join(directory, name));
    const { about: _other, ...wanted } = generate('threads', {
      pages: 1024,
      touches: 3000,
      streams: 4,
      writes: 0.5,
      computeNs: 2000,
      seed: 3,
    });
    assert.deepEqual(trace, wanted);
  }
  assert.ok(readFileSync(join(directory, 'made.leap.gz')).length < readFileSync(join(directory, 'made.leap')).length);
});

test("--json and --csv give the same figures; a store of one's own counts", () => {
  const line = 'small.leap --policies ours,leap --local 25%,50% --store custom:25us,2000MB';
  const [own] = replayed(line);
  const [rdma] = replayed('small.leap --policies ours,leap --local 25%,50%');
  assert.deepEqual(
    [own?.trace, own?.store, own?.faults, rdma?.store],
    ['small.leap', 'custom:25us,2000MB', 3000, 'rdma'],
  );
  own?.results.forEach((result, i) =>
    assert.ok(Number(result['stallNs']) > Number(rdma?.results[i]?.['stallNs']), 'a slower store, a longer stall'),
  );

  const { code, out } = lab(`replay ${line} --csv`);
  assert.equal(code, 0);
  const [head, ...rows] = out
    .trimEnd()
    .split('\n')
    .map((row) => row.split(','));
  assert.deepEqual(
    rows.map((row) => row.slice(0, 3)),
    [
      ...['streams', 'leap'].map((policy) => ['small.leap', '0.25', policy]),
      ...['streams', 'leap'].map((policy) => ['small.leap', '0.5', policy]),
    ],
  );
  for (const name of ['demandReads', 'coverage', 'accuracy', 'stallNs']) {
    assert.deepEqual(
      rows.map((row) => Number(row[head?.indexOf(name) ?? -1])),
      own?.results.map((result) => result[name]),
      name,
    );
  }
});

test('--html writes one page that needs no other', () => {
  const { code, out, lines } = lab('replay small.leap gen:zipf --policies ours,none --local 50% --html page.html');
  assert.deepEqual([code, lines], [0, []]);
  assert.match(out, /small\.leap: .*\n/); // the table all the same
  const page = readFileSync(join(directory, 'page.html'), 'utf8');
  assert.match(page, /^<!doctype html>/);
  for (const name of ['small.leap', 'gen:zipf', 'streams']) assert.ok(page.includes(name), name);
  assert.ok((page.match(/<svg/g) ?? []).length >= 6);
  // A namespace is a name and no address.
  const bare = page.replaceAll(/ xmlns(:\w+)?="[^"]*"/g, '');
  assert.doesNotMatch(bare, /:\/\/|<link|<script|<iframe|\bsrc=|\bhref=|@import|url\(/i);
});
