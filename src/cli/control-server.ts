/** leapd's end of the control socket: bounded connections, bounded lines, one request at a time on each connection. */
import { chmodSync, lstatSync, mkdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { errnoName, ExitCode, Refusal } from './exit-codes.js';
import {
  IDLE_MS,
  lineCutter,
  MAX_CONNECTIONS,
  parseRequest,
  PROTOCOL_VERSION,
  type Answer,
  type Json,
  type Request,
} from './protocol.js';

/** @returns false when nobody listens any more. */
export type Progress = (done: number, total: number) => boolean;
/** Answers a request; a Refusal goes back to the caller as it is. */
export type Handler = (request: Request, progress: Progress) => Promise<Json>;

/** sun_path holds 108 bytes with the closing zero; the kernel cuts or refuses what is longer. */
const MAX_PATH_BYTES = 107;
const CLOSE_MS = 1000;
/** What a client may leave unread before it is dropped. */
const MAX_UNSENT_BYTES = 1 << 20;

export class ControlServer {
  private constructor(
    private readonly server: Server,
    private readonly sockets: Set<Socket>,
    private readonly pending: Set<Promise<void>>,
    private readonly path: string,
  ) {}

  /** @throws Refusal when the socket cannot be made. */
  static async open(path: string, handle: Handler): Promise<ControlServer> {
    if (Buffer.byteLength(path) > MAX_PATH_BYTES) refuse(path, `is longer than ${MAX_PATH_BYTES} bytes`);
    await clearWay(path);
    const sockets = new Set<Socket>();
    const pending = new Set<Promise<void>>();
    const server = createServer((socket) => serve(socket, sockets, pending, handle));
    server.maxConnections = MAX_CONNECTIONS;
    let former: number | undefined;
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      former = process.umask(0o177); // from its first moment on, only this user may connect to the socket
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(path, resolve);
      });
      chmodSync(path, 0o600);
    } catch (error) {
      refuse(path, `cannot be made (${errnoName(error)})`);
    } finally {
      if (former !== undefined) process.umask(former);
    }
    server.on('error', () => undefined); // a connection that could not be accepted is the client's loss alone
    return new ControlServer(server, sockets, pending, path);
  }

  /** Closes the socket and removes it. Requests in work are still answered, within a second. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    const patience = setTimeout(() => this.sockets.forEach((socket) => socket.destroy()), CLOSE_MS);
    await Promise.race([Promise.allSettled(this.pending), closed]);
    for (const socket of this.sockets) socket.end();
    await closed;
    clearTimeout(patience);
    rmSync(this.path, { force: true });
  }
}

function refuse(path: string, why: string): never {
  throw new Refusal(ExitCode.control, `the control socket ${path} ${why}`, 'give another with --control PATH');
}

/** Removes a socket that nobody listens on any more; leaves everything else alone. */
async function clearWay(path: string): Promise<void> {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return;
  if (!there.isSocket()) refuse(path, 'is in the way: it is a file and no socket');
  const listening = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
  if (listening) refuse(path, 'is in use by another program');
  rmSync(path, { force: true });
}

function serve(socket: Socket, sockets: Set<Socket>, pending: Set<Promise<void>>, handle: Handler): void {
  sockets.add(socket);
  socket.setTimeout(IDLE_MS, () => socket.destroy());
  socket.once('close', () => sockets.delete(socket));
  socket.on('error', () => socket.destroy());
  const send = (answer: Answer): void => {
    if (socket.destroyed || socket.writableEnded) return;
    if (socket.writableLength > MAX_UNSENT_BYTES) socket.destroy();
    else socket.write(`${JSON.stringify(answer)}\n`);
  };
  const answer = async (line: string): Promise<void> => {
    try {
      const request = parseRequest(line);
      const progress: Progress = (done, total) => {
        send({ version: PROTOCOL_VERSION, progress: { done, total } });
        return !socket.destroyed;
      };
      send({ version: PROTOCOL_VERSION, result: await handle(request, progress) });
    } catch (error) {
      send({ version: PROTOCOL_VERSION, error: describe(error) });
    }
  };
  // One request at a time: nothing more is read before the lines that have come are answered, in their order.
  const lines: string[] = [];
  const cut = lineCutter((line) => lines.push(line));
  socket.on('data', (chunk) => {
    let error: unknown;
    try {
      cut(chunk);
    } catch (failure) {
      error = failure;
    }
    socket.pause();
    const work = (async () => {
      for (const line of lines.splice(0)) await answer(line);
      if (error !== undefined) {
        send({ version: PROTOCOL_VERSION, error: describe(error) });
        socket.end();
      }
      socket.resume();
    })();
    pending.add(work);
    void work.finally(() => pending.delete(work));
  });
}

function describe(error: unknown): { code: number; problem: string; remedy: string } {
  if (error instanceof Refusal) return { code: error.code, problem: error.problem, remedy: error.remedy };
  const problem = error instanceof Error ? error.message : String(error);
  return { code: ExitCode.internal, problem, remedy: 'this is a bug in leap; its log says more' };
}
