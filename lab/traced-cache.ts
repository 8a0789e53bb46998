/** memcached under load: two threads, items of about 1 KiB, reads by a skewed choice, replacements. */
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LineChild } from '../src/host/line-child.js';
import type { UndoStack } from '../src/host/undo-stack.js';
import { randomFrom } from './random.js';

const cacheSocket = (dir: string): string => join(dir, 'cache');

/** Starts memcached and fills it. */
export async function startCache(undo: UndoStack, dir: string): Promise<LineChild> {
  const server = new LineChild(undo, 'memcached', 'memcached', [
    '-u',
    'root',
    '-m',
    '128',
    '-t',
    '2',
    '-s',
    cacheSocket(dir),
  ]);
  for (let attempt = 0; attempt < 100; attempt++) {
    await sleep(50);
    const socket = await connected(cacheSocket(dir)).catch(() => undefined);
    if (socket === undefined) continue;
    await ask(socket, CACHE_ITEMS, (i) => setItem(i), 'STORED\r\n');
    socket.end();
    return server;
  }
  throw new Error('memcached does not listen');
}

const CACHE_ITEMS = 36_000;
const CACHE_REQUESTS = 80_000;
const CACHE_BATCH = 50;
const setItem = (item: number): string =>
  `set item${item} 0 0 ${800 + (item % 400)}\r\n${'x'.repeat(800 + (item % 400))}\r\n`;

const connected = (path: string): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = createConnection(path, () => resolve(socket));
    socket.once('error', reject);
  });

/** Makes requests, a batch at a time. @param ending how each answer ends */
async function ask(socket: Socket, count: number, request: (i: number) => string, ending: string): Promise<void> {
  socket.setEncoding('latin1');
  for (let first = 0; first < count; first += CACHE_BATCH) {
    const size = Math.min(CACHE_BATCH, count - first);
    socket.write(Array.from({ length: size }, (_, i) => request(first + i)).join(''));
    let rest = '';
    for (let answered = 0; answered < size;) {
      const data =
        rest + (await new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(String(chunk)))));
      const parts = data.split(ending);
      answered += parts.length - 1;
      rest = parts[parts.length - 1];
    }
  }
}

/** Two clients: one reads, items that are asked for often more often; one replaces. */
export async function loadCache(dir: string): Promise<void> {
  const random = randomFrom(2);
  const item = (): number => Math.floor(CACHE_ITEMS * random() ** 3);
  const [reader, writer] = [await connected(cacheSocket(dir)), await connected(cacheSocket(dir))];
  try {
    await Promise.all([
      ask(reader, CACHE_REQUESTS, () => `get item${item()}\r\n`, 'END\r\n'),
      ask(writer, CACHE_REQUESTS / 4, () => setItem(item()), 'STORED\r\n'),
    ]);
  } finally {
    reader.destroy();
    writer.destroy();
  }
}
