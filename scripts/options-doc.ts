/**
 * Writes the help texts of all programs into docs/options.md: node dist/scripts/options-doc.js. Each stands between
 * `<!-- begin: COMMAND -->` and `<!-- end -->`. test/unit/docs.test.ts fails when the file is stale.
 */
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../../', import.meta.url));
export const OPTIONS_DOC = join(root, 'docs', 'options.md');

interface Package {
  readonly bin: Readonly<Record<string, string>>;
  readonly scripts: Readonly<Record<string, string>>;
}
const { bin, scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Package;

const BLOCK = /<!-- begin: (.*?) -->\n[^]*?<!-- end -->/g;

/** The commands whose help a document holds, in its order. */
export const helpCommands = (text: string): string[] => [...text.matchAll(BLOCK)].map(([, command = '']) => command);

const helps = new Map<string, Promise<string>>();

/**
 * @param command as a user types it: `leapctl record --help`, `npm run sim -- --help`  @throws Error: no such program
 */
export function helpOf(command: string): Promise<string> {
  const help = helps.get(command) ?? runHelp(command);
  helps.set(command, help);
  return help;
}

async function runHelp(command: string): Promise<string> {
  const [, script, name = '', rest = ''] = /^(?:npm run (\S+) --|(\S+))(.*)$/.exec(command) ?? [];
  const file = script === undefined ? bin[name] : /node (\S+)$/.exec(scripts[script] ?? '')?.[1];
  if (file === undefined) throw new Error(`package.json has no program for "${command}"`);
  const { stdout } = await promisify(execFile)(process.execPath, [join(root, file), ...rest.trim().split(' ')]);
  return stdout.trimEnd();
}

/** The document with every help text as the programs print it now. */
export async function withHelp(text: string): Promise<string> {
  const commands = helpCommands(text);
  const texts = await Promise.all(commands.map(helpOf));
  const byCommand = new Map(commands.map((command, at) => [command, texts[at]]));
  return text.replace(
    BLOCK,
    (_, command: string) => `<!-- begin: ${command} -->\n\n\`\`\`\n${byCommand.get(command)}\n\`\`\`\n\n<!-- end -->`,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(OPTIONS_DOC, await withHelp(readFileSync(OPTIONS_DOC, 'utf8')));
}
