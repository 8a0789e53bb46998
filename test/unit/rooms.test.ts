/**
 * The rooms of the source tree and what each may import. A room imports only rooms that stand below it; pure rooms
 * import no Node module and no package, so the simulator and the laboratory run them unchanged; no two files import
 * each other, not even types. ARCHITECTURE.md draws the same.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import ts from 'typescript';
import { root } from '../../src/host/checkout.js';

/**
 * From the ground up. A folder named here includes the folders in it, but for those that have an entry of their own.
 */
const PURE = [
  'src/core',
  'src/tables',
  'src/trace',
  'src/policy',
  'src/family',
  'src/store',
  'src/spaces',
  'src/eviction',
  'src/faults',
  'src/pager',
  'src/donors/wire',
  'src/donors',
] as const;
/**
 * These talk to the machine. Each row may import all pure rooms and the rows below it; rooms in one row do not import
 * each other.
 */
const IMPURE = [['src/cli'], ['src/host'], ['lab', 'daemon', 'server', 'bench', 'scripts'], ['test']] as const;
/**
 * Violations that are still to be mended; a new one fails, and so does one that is mended and not taken off this list.
 */
const KNOWN: readonly string[] = ['test/sim/world.ts -> test/sim/config.ts -> test/sim/world.ts'];
const rows: readonly (readonly string[])[] = [...PURE.map((room) => [room]), ...IMPURE];
const rowOf = (room: string): number => rows.findIndex((row) => row.includes(room));

const NATIVE = [
  ['base'],
  ['uffd'],
  ['target'],
  ['helper'],
  ['attach'],
  ['store'],
  ['rdma'],
  ['engine'],
  ['addon'],
  ['test'],
] as const;

function roomOf(file: string): string {
  for (let folder = dirname(file); folder !== '.'; folder = dirname(folder)) if (rowOf(folder) >= 0) return folder;
  throw new Error(`${file} is in no room: give its folder a place in test/unit/rooms.test.ts and ARCHITECTURE.md`);
}

const filesBelow = (folder: string): string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name));
const sources = [...new Set(rows.flat().flatMap(filesBelow))].filter((file) => file.endsWith('.ts')).sort();
const importsOf = new Map(
  sources.map((file) => {
    const { importedFiles } = ts.preProcessFile(readFileSync(join(root, file), 'utf8'), true, true);
    return [file, importedFiles.map(({ fileName }) => fileName)] as const;
  }),
);
const target = (file: string, name: string): string => normalize(join(dirname(file), name)).replace(/\.js$/, '.ts');
const localImports = (file: string): string[] =>
  importsOf
    .get(file)!
    .filter((name) => name.startsWith('.'))
    .map((name) => target(file, name));

test('every import leads to a room below', () => {
  assert.ok(sources.length > 150);
  const wrong = sources.flatMap((file) =>
    localImports(file)
      .filter((imported) => {
        const [from, to] = [roomOf(file), roomOf(imported)];
        return from !== to && rowOf(to) >= rowOf(from);
      })
      .map((imported) => `${file} imports ${imported}`),
  );
  assert.deepEqual(
    wrong,
    KNOWN.filter((line) => line.includes(' imports ') && !/ node:/.test(line)),
  );
});

test('pure rooms import no Node module and no package', () => {
  const wrong = sources
    .filter((file) => (PURE as readonly string[]).includes(roomOf(file)))
    .flatMap((file) =>
      importsOf
        .get(file)!
        .filter((name) => !name.startsWith('.'))
        .map((name) => `${file} imports ${name}`),
    );
  assert.deepEqual(
    wrong,
    KNOWN.filter((line) => / imports node:/.test(line)),
  );
});

test('no files import each other, not even types', () => {
  const done = new Set<string>();
  const path: string[] = [];
  const cycles: string[] = [];
  const visit = (file: string): void => {
    if (path.includes(file)) {
      cycles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
      return;
    }
    if (done.has(file)) return;
    path.push(file);
    for (const imported of localImports(file)) visit(imported);
    path.pop();
    done.add(file);
  };
  for (const file of sources) visit(file);
  assert.deepEqual(
    cycles,
    KNOWN.filter((line) => line.includes('->')),
  );
});

test('native code includes rooms below its own', () => {
  const nativeRow = (room: string): number => NATIVE.findIndex((row) => (row as readonly string[]).includes(room));
  const files = filesBelow('native').filter((file) => /\.(cc|h)$/.test(file));
  assert.ok(files.length > 50);
  const wrong = files.flatMap((file) => {
    const home = dirname(file).replace('native/', '');
    const from = nativeRow(home);
    assert.ok(from >= 0, `${file} is in no room`);
    return [...readFileSync(join(root, file), 'utf8').matchAll(/^#include "(\w+)\/[^"]+"/gm)]
      .filter(([, room]) => room !== home && (nativeRow(room!) < 0 || nativeRow(room!) >= from))
      .map(([line]) => `${file}: ${line}`);
  });
  assert.deepEqual(wrong, []);
});
