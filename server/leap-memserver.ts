#!/usr/bin/env node
/** leap-memserver: lends this machine's memory over RDMA. Everything is in the modules; this is the way in. */
import { call } from '../src/cli/control-client.js';
import { ControlServer } from '../src/cli/control-server.js';
import { ExitCode, exitWith, Refusal } from '../src/cli/exit-codes.js';
import { printObject, printTable } from '../src/cli/table-print.js';
import { openLog, type Log } from '../src/cli/log.js';
import { guardProcess } from '../src/host/guard.js';
import { isNativeError } from '../src/host/native-engine.js';
import { readToken } from '../src/cli/token-file.js';
import { MESSAGE_BYTES } from './client.js';
import { availableBytes, checkLockedMemory } from './host-memory.js';
import { createFabric } from '../src/host/native-fabric.js';
import { helpText, parseOptions, type ServeOptions, type StatusOptions } from './memserver-options.js';
import { MemoryServer, type Status } from './server.js';

async function main(args: readonly string[]): Promise<ExitCode> {
  guardProcess();
  const help = helpText(args);
  if (help !== undefined) {
    process.stdout.write(`${await help}\n`);
    return ExitCode.ok;
  }
  const options = parseOptions(args);
  return options.command === 'status' ? status(options) : serve(options);
}

async function serve(options: ServeOptions): Promise<ExitCode> {
  const token = options.tokenFile === undefined ? undefined : readToken(options.tokenFile);
  checkLockedMemory(options.memoryBytes);
  const log = openLog(options.logLevel, process.pid);
  const server = open(options, token, log);
  process.title = 'leap-memserver';
  const stopped = new Promise<string>((resolve) => {
    let isAsked = false;
    const ask = (signal: string): void => {
      if (isAsked) server.hurry();
      isAsked = true;
      resolve(signal);
    };
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, ask);
  });
  process.on('SIGHUP', () => undefined);
  const control = await ControlServer.open(options.status, async ({ command }) => {
    if (command === 'status') return server.status();
    throw new Refusal(ExitCode.refused, `leap-memserver has no command ${command}`, 'ask for: status');
  }).catch((error: unknown) => {
    throw error instanceof Refusal ? new Refusal(error.code, error.problem, 'give another with --status PATH') : error;
  });
  log.info({ signal: await stopped }, 'received a signal to end');
  await server.end();
  await control.close();
  return ExitCode.ok;
}

/** @throws Refusal: no RDMA here, or an address cannot be listened on */
function open(options: ServeOptions, token: Uint8Array | undefined, log: Log): MemoryServer {
  try {
    const fabric = createFabric({ messageBytes: MESSAGE_BYTES });
    const server = new MemoryServer(options, {
      fabric,
      log,
      token,
      available: availableBytes,
      now: () => performance.now(),
    });
    server.start();
    return server;
  } catch (error) {
    if (!isNativeError(error)) throw error;
    if (error.kind === 'rdma')
      throw new Refusal(ExitCode.system, error.message, 'list the RDMA devices with: rdma link');
    if (error.kind === 'listen') {
      throw new Refusal(
        ExitCode.system,
        `--listen: ${error.message}`,
        'give an address that an RDMA device has: rdma link; ip address',
      );
    }
    if (error.kind === 'memlock') throw new Refusal(ExitCode.rights, error.message, 'then start it again');
    throw error;
  }
}

async function status(options: StatusOptions): Promise<ExitCode> {
  const answer = await call({ socket: options.status, command: 'status' }).catch((error: unknown) => {
    if (!(error instanceof Refusal) || error.code !== ExitCode.control) throw error;
    throw new Refusal(
      ExitCode.control,
      `no leap-memserver answers on ${options.status}`,
      'start one, or give its socket with --status PATH',
    );
  });
  if (options.json) process.stdout.write(`${JSON.stringify(answer)}\n`);
  else print(answer as unknown as Status);
  return ExitCode.ok;
}

/** What printObject leaves out, lists, as a line or a table. */
function print({ listen, clients, ...counts }: Status): void {
  printObject({ listen: listen.join(', '), ...counts });
  if (clients.length === 0) return;
  const rows = clients.map(({ peer, protocol, state, chunks, seconds }) => [
    peer,
    protocol,
    state,
    String(chunks.length),
    `${seconds} s`,
  ]);
  printTable(rows, ['client', 'protocol', 'state', 'chunks', 'for']);
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => exitWith('leap-memserver', error),
);
