/** What leapd answers to each command of the control socket. */
import { isAbsolute } from 'node:path';
import type { Progress } from '../src/cli/control-server.js';
import { ExitCode, Refusal } from '../src/cli/exit-codes.js';
import { parseSeconds, parseValue, settable } from './leapd-option-table.js';
import type { PagerChanges } from './pager-messages.js';
import type { Json, Request } from '../src/cli/protocol.js';
import type { Recording } from './recording.js';
import type { Session } from './session.js';
import { readText } from '../src/host/process-info.js';
import type { Size } from '../src/cli/size.js';
import { anonymousPages, LEAST_LOCAL_PAGES, localPages } from './target.js';

/** @param session undefined while leapd is still attaching. @throws Refusal. */
export async function answerWith(session: Session | undefined, request: Request, progress: Progress): Promise<Json> {
  if (session === undefined || session.state === 'attaching')
    throw new Refusal(ExitCode.refused, 'leapd is still attaching', 'try again in a moment');
  switch (request.command) {
    case 'status':
      return status(session);
    case 'stats':
      return stats(session, request.arguments['log'] === 'yes');
    case 'set':
      return set(session, request.arguments);
    case 'record':
      return record(session, request.arguments, progress);
    case 'detach':
      return detach(session, request.arguments['force'] === 'yes', progress);
  }
}

async function detach(session: Session, force: boolean, progress: Progress): Promise<Json> {
  const ending = await session.detach(force, progress);
  return { pid: session.target.pid, ending, uptimeSeconds: session.uptimeSeconds };
}

/** Between two looks for whether a follower is still there. */
const FOLLOW_MS = 500;

/**
 * Begins to record, and (`follow`) answers when that is over; or (`stop`) ends it. The answer says what was recorded.
 */
async function record(session: Session, given: Readonly<Record<string, string>>, progress: Progress): Promise<Json> {
  if (given['stop'] === 'yes') return { ...(await session.stopRecording()) };
  const out = given['out'] ?? '';
  if (!isAbsolute(out))
    throw new Refusal(ExitCode.usage, `the trace "${out}" is not an absolute path`, 'give an absolute path');
  const max =
    given['record-max'] === undefined
      ? session.options.recordMax
      : parseValue('record-max', given['record-max'], 'record-max');
  const seconds = given['seconds'] === undefined ? undefined : parseSeconds(given['seconds']);
  const recording = await session.startRecording(out, { exact: given['exact'] === 'yes', maxBytes: max, seconds });
  return given['follow'] === 'yes' ? follow(recording, progress) : { recording: out };
}

/** A follower that has gone takes the recording along: nobody else is there to end it. */
async function follow(recording: Recording, progress: Progress): Promise<Json> {
  const look = (): void => {
    if (!progress(recording.faults, 0)) void recording.stop('the leapctl that started it has ended');
  };
  look(); // says that it has begun
  const timer = setInterval(look, FOLLOW_MS);
  try {
    return { ...(await recording.over) };
  } finally {
    clearInterval(timer);
  }
}

/** One object with every counter of the pager, and whose they are. @param toLog leapd's log gets it too, in one line */
async function stats(session: Session, toLog = false): Promise<Json> {
  if (toLog && !session.log.isLevelEnabled('info'))
    throw new Refusal(
      ExitCode.refused,
      `the log of this leapd has no room for it (--log-level ${session.log.level})`,
      'it takes info or more',
    );
  const { pid, name } = session.target;
  const { donors, ...counters } = await session.pager.stats();
  const all = {
    pid,
    name,
    ...counters,
    donors: donors.map((donor) => ({ ...donor })),
    state: session.state,
    uptimeSeconds: session.uptimeSeconds,
  };
  if (toLog) session.log.info(all, 'counters');
  return all;
}

async function status(session: Session): Promise<Json> {
  const { localLimitPages, residentPages, storedPages, bufferedPages, prefetch, rdma, donors } =
    await session.pager.stats();
  return {
    pid: session.target.pid,
    name: session.target.name,
    state: session.state,
    leapd: process.pid,
    evict: session.attached?.evict ?? '',
    attachMs: session.attached?.attachMs ?? 0,
    uptimeSeconds: session.uptimeSeconds,
    localLimitPages,
    residentPages,
    storedPages,
    bufferedPages,
    prefetch,
    swapFile: session.options.swapFile,
    control: session.options.control,
    ...(session.options.remote && {
      rdma,
      donors: donors.map(({ address, state, chunks, freeChunks, reason }) => ({
        address,
        state,
        chunks,
        freeChunks,
        reason,
      })),
    }),
  };
}

/** All values are read before the first one acts. */
async function set(session: Session, given: Readonly<Record<string, string>>): Promise<Json> {
  const names = Object.keys(given);
  const unknown = names.find((name) => !settable.some((known) => known === name));
  if (unknown !== undefined || names.length === 0) {
    const problem = unknown === undefined ? 'nothing to set' : `${unknown} cannot be set at run time`;
    throw new Refusal(ExitCode.usage, problem, `settings that can be changed: ${settable.join(', ')}`);
  }
  const value = (name: (typeof settable)[number]): string | undefined => given[name];
  const [memory, prefetch, history, windowMax, buffer, rdma] = settable.map(value);
  const changes: PagerChanges = {
    ...(memory !== undefined && {
      localPages: await limitNow(session, parseValue('local-memory', memory, 'local-memory')),
    }),
    ...(prefetch !== undefined && { prefetch: parseValue('prefetch', prefetch, 'prefetch') }),
    ...(history !== undefined && { history: parseValue('history', history, 'history') }),
    ...(windowMax !== undefined && { windowMax: parseValue('window-max', windowMax, 'window-max') }),
    ...(rdma !== undefined && { rdma: parseValue('rdma', rdma, 'rdma') === 'on' }),
    ...(buffer !== undefined && {
      prefetchBuffer: await bufferNow(session, parseValue('prefetch-buffer', buffer, 'prefetch-buffer')),
    }),
  };
  try {
    await session.pager.change(changes);
  } catch (error) {
    throw new Refusal(
      ExitCode.refused,
      error instanceof Error ? error.message : String(error),
      'the settings given before it stay in force',
    );
  }
  return stats(session);
}

/** A share is one of what the process uses now, local or not. */
async function limitNow(session: Session, size: Size): Promise<number> {
  const { residentPages, storedPages, bufferedPages, registeredPages } = await session.pager.stats();
  if (size.kind === 'percent')
    return Math.max(
      LEAST_LOCAL_PAGES,
      Math.floor(((residentPages + storedPages + bufferedPages) * size.percent) / 100),
    );
  const { pid } = session.target;
  // Its children count too, and what is registered of them; what it has mapped just now counts before it is registered.
  const mappedPages = Math.max(registeredPages, anonymousPages(readText(`/proc/${pid}/maps`) ?? ''));
  return localPages(size.bytes, { pid, mappedPages }, 'local-memory');
}

/** Frames are made at the start, and a page read ahead takes one. */
async function bufferNow(session: Session, pages: number): Promise<number> {
  const { frames } = await session.pager.stats();
  if (pages <= frames) return pages;
  throw new Refusal(
    ExitCode.usage,
    `prefetch-buffer: ${pages} is more than the ${frames} frames made at the start`,
    `give at most ${frames}, or start leapd with --prefetch-buffer ${pages}`,
  );
}
