import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { call } from '../../src/cli/control-client.js';
import { ControlServer, type Handler } from '../../src/cli/control-server.js';
import { ExitCode, Refusal } from '../../src/cli/exit-codes.js';
import { lineCutter, MAX_LINE_BYTES, parseAnswer, parseRequest } from '../../src/cli/protocol.js';

async function serve(context: TestContext, handler: Handler): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'leap-unit-'));
  const path = join(directory, 'sub', 'control.sock');
  const server = await ControlServer.open(path, handler);
  context.after(async () => {
    await server.close();
    assert.equal(existsSync(path), false, 'the socket is removed');
    rmSync(directory, { recursive: true });
  });
  return path;
}

/** Sends raw bytes and returns all that comes back until the server closes, or `ms` have passed. */
async function raw(path: string, bytes: string, ms = 500): Promise<string> {
  const socket = connect(path);
  let text = '';
  socket.on('data', (chunk) => (text += chunk.toString()));
  socket.on('error', () => undefined);
  socket.write(bytes);
  await Promise.race([new Promise((resolve) => socket.once('close', resolve)), sleep(ms)]);
  socket.destroy();
  return text;
}

test('a request is answered, and only our user may ask', async (context) => {
  const path = await serve(context, async (request) => ({ command: request.command, given: request.arguments }));
  assert.deepEqual(await call({ socket: path, command: 'set', arguments: { history: '8' } }), {
    command: 'set',
    given: { history: '8' },
  });
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(statSync(dirname(path)).mode & 0o777, 0o700, 'its directory can be searched by us');
});

test('progress comes before the answer', async (context) => {
  const path = await serve(context, async (_request, progress) => {
    progress(1, 3);
    progress(2, 3);
    return null;
  });
  const seen: number[] = [];
  assert.equal(
    await call({ socket: path, command: 'detach', onProgress: (done, total) => seen.push(done, total) }),
    null,
  );
  assert.deepEqual(seen, [1, 3, 2, 3]);
});

test('a refusal arrives whole; a bug arrives as one', async (context) => {
  const path = await serve(context, async (request) => {
    if (request.command === 'detach') throw new Refusal(ExitCode.refused, 'no room', 'make room');
    throw new TypeError('oops');
  });
  await assert.rejects(
    call({ socket: path, command: 'detach' }),
    (error) =>
      error instanceof Refusal &&
      error.code === ExitCode.refused &&
      error.problem === 'no room' &&
      error.remedy === 'make room',
  );
  await assert.rejects(
    call({ socket: path, command: 'stats' }),
    (error) => error instanceof Refusal && error.code === ExitCode.internal && error.problem === 'oops',
  );
});

test('rubbish is answered with an error and harms nobody', async (context) => {
  const path = await serve(context, async () => 'fine');
  for (const line of [
    'rubbish',
    '[]',
    '{}',
    '{"version":2,"command":"stats"}',
    '{"version":1,"command":"format"}',
    '{"version":1,"command":"set","arguments":{"a":1}}',
    '{"version":1,"command":"set","arguments":[]}',
  ]) {
    assert.match(await raw(path, `${line}\n`, 100), /"error"/, line);
  }
  assert.match(await raw(path, 'x'.repeat(MAX_LINE_BYTES + 10)), /longer than/);
  assert.equal(await call({ socket: path, command: 'stats' }), 'fine');
});

test('lines of one connection are answered in their order', async (context) => {
  let running = 0;
  const path = await serve(context, async (request) => {
    assert.equal(++running, 1, 'one at a time');
    await sleep(request.command === 'stats' ? 30 : 1);
    running--;
    return request.command;
  });
  const answers = await raw(
    path,
    ['stats', 'status', 'set'].map((command) => `${JSON.stringify({ version: 1, command })}\n`).join(''),
    300,
  );
  assert.deepEqual(
    answers
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { result: string }).result),
    ['stats', 'status', 'set'],
  );
});

test('nobody there, and something else there', async (context) => {
  const path = await serve(context, async () => null);
  await assert.rejects(
    call({ socket: `${path}.not`, command: 'stats' }),
    (error) => error instanceof Refusal && error.code === ExitCode.control,
  );
  await assert.rejects(
    ControlServer.open(path, async () => null),
    /in use by another program/,
  );
  const file = `${path}.file`;
  writeFileSync(file, 'precious');
  await assert.rejects(
    ControlServer.open(file, async () => null),
    /is a file and no socket/,
  );
  await assert.rejects(
    ControlServer.open(`/${'x'.repeat(120)}`, async () => null),
    /longer than/,
  );
});

test('a silent server does not hold the client for ever', async (context) => {
  const path = await serve(context, () => sleep(300).then(() => null));
  await assert.rejects(call({ socket: path, command: 'stats', patienceMs: 50 }), /has not answered/);
});

test('closing waits for answers that are on their way', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'leap-unit-'));
  const path = join(directory, 'c.sock');
  const server = await ControlServer.open(path, () => sleep(100).then(() => 'done'));
  const answer = call({ socket: path, command: 'detach' });
  await sleep(30);
  await server.close();
  assert.equal(await answer, 'done');
  rmSync(directory, { recursive: true });
});

test('the line cutter joins and cuts as bytes come', () => {
  const lines: string[] = [];
  const cut = lineCutter((line) => lines.push(line));
  for (const piece of ['a', 'b\nc', '', 'd\n\n', 'é'.slice(0), '\n']) cut(Buffer.from(piece));
  const bytes = Buffer.from('ö\n');
  cut(bytes.subarray(0, 1));
  cut(bytes.subarray(1));
  assert.deepEqual(lines, ['ab', 'cd', '', 'é', 'ö']);
  assert.throws(() => lineCutter(() => undefined)(Buffer.alloc(MAX_LINE_BYTES + 1, 65)), /longer/);
});

test('requests and answers', () => {
  assert.deepEqual(parseRequest('{"version":1,"command":"stats"}'), { version: 1, command: 'stats', arguments: {} });
  assert.throws(() => parseAnswer('{"version":1}'), /neither/);
  assert.ok(parseAnswer('{"version":1,"result":null}'));
});
