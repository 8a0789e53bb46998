/**
 * From the options of the command line to the donors: what is wrong with a portal or a token file is said in one line,
 * and where.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { ExitCode, Refusal } from '../../src/cli/exit-codes.js';
import { parseOptions } from '../../daemon/leapd-options.js';
import { remoteSettings } from '../../daemon/remote-settings.js';

const names: Readonly<Record<string, string>> = { 'donor-a': '10.0.0.2', alias: '10.0.0.2', 'donor-b': 'fd00::3' };
const find = async (name: string): Promise<string> => {
  const address = names[name] ?? (/^[\d.]+$/.test(name) ? name : undefined);
  if (address === undefined) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });
  return address;
};

type Settings = Awaited<ReturnType<typeof remoteSettings>>;

/** @param text of the portal file; undefined: there is none */
function read(context: TestContext, text: string | undefined, ...more: string[]): Promise<Settings> {
  const directory = mkdtempSync(join(tmpdir(), 'leap-unit-'));
  context.after(() => rmSync(directory, { recursive: true }));
  const portal = join(directory, 'portal.txt');
  if (text !== undefined) writeFileSync(portal, text);
  return remoteSettings(parseOptions(['--pid', '7', '--portal', portal, ...more]).remote!, find);
}

const refused = (settings: Promise<Settings>, pattern: RegExp): Promise<void> =>
  assert.rejects(
    settings,
    (error) =>
      error instanceof Refusal &&
      error.code === ExitCode.usage &&
      pattern.test(error.message) &&
      !error.message.includes('\n'),
    String(pattern),
  );

test('names are looked up', async (t) => {
  const { settings, warnings } = await read(t, 'donor-a:9400\ndonor-b:9401\n192.0.2.1:1\n');
  assert.deepEqual(settings.donors, [
    { host: '10.0.0.2', port: 9400 },
    { host: 'fd00::3', port: 9401 },
    { host: '192.0.2.1', port: 1 },
  ]);
  assert.deepEqual([warnings, settings.token, settings.chunkBytes], [[], undefined, 0]);
});

test('a portal that cannot be used', async (t) => {
  await refused(read(t, undefined), /--portal: .*portal\.txt cannot be read \(ENOENT\); a portal has one donor a line/);
  await refused(read(t, ''), /portal\.txt names no donor/);
  await refused(read(t, '# donors\n10.0.0.2:9400\n10.0.0.3\n'), /portal\.txt, line 3: "10\.0\.0\.3" is not an address/);
  await refused(
    read(t, 'donor-a:9400\n\nalias:9400\n'),
    /portal\.txt, line 3: 10\.0\.0\.2:9400 is also the donor of .*portal\.txt, line 1/,
  );
});

test('a name without an address: the others are used, and it is said which line it is', async (t) => {
  const { settings, warnings } = await read(t, '2\nnobody:9400\ndonor-a:9400\n');
  assert.deepEqual(settings.donors, [{ host: '10.0.0.2', port: 9400 }]);
  assert.equal(warnings.length, 1);
  assert.match(
    warnings[0]!,
    /portal\.txt, line 2: the name nobody cannot be looked up \(ENOTFOUND\); this donor is left out/,
  );
  await refused(
    read(t, '\nnobody:9400\n'),
    /portal\.txt, line 2: the name nobody cannot be looked up \(ENOTFOUND\); give its numeric address/,
  );
});

test('a token file', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'leap-unit-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'token');
  const portal = (): Promise<Settings> => read(t, '10.0.0.2:9400\n', '--token-file', file);
  await refused(portal(), /--token-file: .*token cannot be read \(ENOENT\); make one with/);
  writeFileSync(file, 'sixteen bytes, at least\n', { mode: 0o600 });
  assert.deepEqual((await portal()).settings.token, new TextEncoder().encode('sixteen bytes, at least'));
  chmodSync(file, 0o644);
  await refused(portal(), /token may be read or written by others \(mode 644\)/);
  writeFileSync(file, 'short');
  chmodSync(file, 0o600);
  await refused(portal(), /token holds a token of 5 bytes, and 16 is the least/);
  await refused(
    read(t, '10.0.0.2:9400\n', '--token-file', directory),
    /cannot be read \(EISDIR\)|may be read or written by others/,
  );
});
