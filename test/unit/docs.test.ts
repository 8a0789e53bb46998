/** The documents: links, file names, options and counters are true, lines fit, and retired phrases stay away. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { helpCommands, helpOf, OPTIONS_DOC, withHelp } from '../../scripts/options-doc.js';
import { Pager } from '../../src/pager/pager.js';
import { FRAMES, pagerOptions } from './pager-options.js';
import { PlainEngine } from './plain-engine.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const COLUMNS = 120;
/** Phrases that hint instead of saying; CONTRIBUTING.md says how to write. */
const RETIRED = [
  /\bsuch a one\b/i,
  /\bso many\b/i,
  /\bwhoever\b/i,
  /\bnor (will|does|is) any\b/i,
  /\bwhat is wanted\b/i,
  /(?<!there )\bis no\b(?! (longer|more|less))/i,
  /\bof ours\b/i,
  /\bin (whose|nobody's) hands\b/i,
  /\bforetel/i,
  /\b(is|are|in) doubt(ed)?\b/i,
  /\bto be had\b/i,
];
/** Options of other programs that the documents name. */
const FOREIGN_OPTIONS = new Set(['--privileged', '--build-arg', '--pdeathsig', '--rm']);

interface Line {
  readonly file: string;
  readonly number: number;
  readonly text: string;
  /** Inside a fenced block. */
  readonly isCode: boolean;
}

const files = ['.', 'docs'].flatMap((directory) =>
  readdirSync(join(root, directory)).flatMap((name) => (name.endsWith('.md') ? [join(directory, name)] : [])),
);
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

function linesOf(file: string): Line[] {
  let isCode = false;
  return read(file)
    .split('\n')
    .map((text, at) => {
      const isFence = text.startsWith('```');
      if (isFence) isCode = !isCode;
      return { file, number: at + 1, text, isCode: isCode || isFence };
    });
}

const lines = files.flatMap(linesOf);
const prose = lines.filter(({ isCode }) => !isCode);
const at = ({ file, number }: Line): string => `${file}:${number}`;

/** Code spans of the prose, with where they stand. */
const spans = prose.flatMap((line) =>
  [...line.text.matchAll(/`([^`]+)`/g)].map(([, span = '']) => ({ span, where: at(line) })),
);

/** The anchor that GitHub makes of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');

const anchorsOf = (file: string): string[] =>
  linesOf(file).flatMap(({ text, isCode }) => {
    const heading = isCode ? undefined : /^#+ (.*)$/.exec(text)?.[1];
    return heading === undefined ? [] : [anchorOf(heading)];
  });

test('every document is found', () => {
  for (const name of ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'docs/options.md']) {
    assert.ok(files.includes(name), name);
  }
});

test('internal links resolve', () => {
  const broken: string[] = [];
  for (const line of prose) {
    for (const [, target = ''] of line.text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue;
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? line.file : join(dirname(line.file), path);
      const isThere = existsSync(join(root, file)) && (anchor === undefined || anchorsOf(file).includes(anchor));
      if (!isThere) broken.push(`${at(line)} ${target}`);
    }
  }
  assert.deepEqual(broken, []);
});

const ROOMS = readdirSync(root, { withFileTypes: true }).flatMap((entry) =>
  entry.isDirectory() && !/^(\.|dist$|build$|node_modules$)/.test(entry.name) ? [entry.name] : [],
);
const names = new Set(
  ROOMS.flatMap((room) =>
    readdirSync(join(root, room), { encoding: 'utf8', recursive: true }).map((path) => basename(path)),
  ),
);

/** What git ignores is made by the build. */
const isMade = (path: string): boolean => /^(build|node_modules)\//.test(path);

test('every file that a document names exists', () => {
  const missing: string[] = [];
  for (const { span, where } of spans) {
    for (const word of span.split(' ')) {
      if (/^[\w-]+(\.test)?\.(ts|cc|h|c|sh)$/.test(word) && !names.has(word)) missing.push(`${where} ${word}`);
      if (!/^[a-z.][\w.-]*\/[\w./-]*$/i.test(word) || isMade(word)) continue;
      const source = word.replace(/^dist\/(.*)\.js$/, '$1.ts');
      if (!existsSync(join(root, source))) missing.push(`${where} ${word}`);
    }
  }
  assert.deepEqual(missing, []);
});

test('every npm script that a document names exists', () => {
  const { scripts } = JSON.parse(read('package.json')) as { readonly scripts: Readonly<Record<string, string>> };
  const named = lines.flatMap((line) =>
    [...line.text.matchAll(/\bnpm run ([a-z][\w:-]*)/g)].map(([, name = '']) => ({ name, where: at(line) })),
  );
  assert.ok(named.length > 10);
  assert.deepEqual(
    named.filter(({ name }) => scripts[name] === undefined),
    [],
  );
});

test('lines of prose fit, and retired phrases stay away', () => {
  const found: string[] = [];
  let isRetiredTable = false;
  for (const line of prose) {
    if (line.text.startsWith('#')) isRetiredTable = line.text === '### Retired words';
    if (isRetiredTable) continue;
    if (line.text.length > COLUMNS && !line.text.startsWith('|')) found.push(`${at(line)} ${line.text.length} columns`);
    for (const phrase of RETIRED) if (phrase.test(line.text)) found.push(`${at(line)} ${phrase}`);
  }
  assert.deepEqual(found, []);
});

/** The text of every string and template literal of a source file, with its line. */
function literalsOf(path: string): { readonly text: string; readonly where: string }[] {
  const source = ts.createSourceFile(path, read(path), ts.ScriptTarget.Latest, true);
  const found: { text: string; where: string }[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) {
      found.push({ text: node.text, where: `${path}:${source.getLineAndCharacterOfPosition(node.pos).line + 1}` });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

test('retired phrases stay away from messages and help texts', () => {
  const sources = ROOMS.filter((room) => room !== 'test').flatMap((room) =>
    readdirSync(join(root, room), { encoding: 'utf8', recursive: true })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => join(room, name)),
  );
  const literals = sources.flatMap(literalsOf);
  assert.ok(literals.length > 1000);
  assert.deepEqual(
    literals.filter(({ text }) => RETIRED.some((phrase) => phrase.test(text))),
    [],
  );
});

const optionsText = readFileSync(OPTIONS_DOC, 'utf8');

test('docs/options.md holds the help texts as the programs print them', async () => {
  assert.equal(await withHelp(optionsText), optionsText, 'run: node dist/scripts/options-doc.js');
});

test('docs/options.md covers every program and every command with options of its own', async () => {
  const { bin } = JSON.parse(read('package.json')) as { readonly bin: Readonly<Record<string, string>> };
  const commands = helpCommands(optionsText);
  for (const name of Object.keys(bin)) assert.ok(commands.includes(`${name} --help`), name);
  const own = (help: string): string[] =>
    [...help.matchAll(/^ +(?:-\w, )?(--[a-z][\w-]*)/gm)].map(([, name = '']) => name);
  for (const program of ['leapctl', 'leap-lab']) {
    const help = await helpOf(`${program} --help`);
    const common = own(help);
    for (const [, command = ''] of help.matchAll(new RegExp(`^  ${program} (\\w+)`, 'gm'))) {
      const more = own(await helpOf(`${program} ${command} --help`)).filter((option) => !common.includes(option));
      if (more.length > 0) assert.ok(commands.includes(`${program} ${command} --help`), `${program} ${command}`);
    }
  }
});

test('every option that a document names is an option of some program', () => {
  const known = new Set([...optionsText.matchAll(/^ +(?:-\w, )?(--[a-z][\w-]*)/gm)].map(([, name = '']) => name));
  assert.ok(known.has('--local-memory') && known.has('--reserve') && known.has('--policies'));
  const unknown: string[] = [];
  for (const { span, where } of spans) {
    for (const [name] of span.matchAll(/(?<![\w-])--[a-z][\w-]*/g)) {
      if (!known.has(name) && !FOREIGN_OPTIONS.has(name)) unknown.push(`${where} ${name}`);
    }
  }
  assert.deepEqual(unknown, []);
});

test('docs/options.md explains every counter, and no others', () => {
  const engine = new PlainEngine(
    64,
    FRAMES,
    () => 0,
    () => false,
  );
  const counters = Object.keys(new Pager(engine, pagerOptions()).stats());
  /** What leapd adds to the pager's own counters. */
  const added = ['pid', 'name', 'uptimeSeconds', 'rdma', 'donors'];
  const table = /### Counters\n([^]*?)\n#/.exec(optionsText)?.[1] ?? '';
  const explained = table.split('\n').flatMap((row) => {
    const [, first = ''] = /^\| (`.*?) \|/.exec(row) ?? [];
    return [...first.matchAll(/`(\w+)`/g)].map(([, name = '']) => name);
  });
  assert.deepEqual(explained.sort(), [...counters, ...added].sort());
});
