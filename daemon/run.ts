/**
 * The life of one leapd: claim, attach, serve, drain, clean up. What fails before the attach is undone in reverse.
 *
 *     start --(refusal)--> undone in reverse, exit code
 *     start --> paging --(signal, detach)--> detaching --> ended: clean, 0
 *                 \--(target exits or execs)-----------> ended: clean, 0
 *                  \--(pager fails)--> record says why, swap file kept, 70
 */
import { resolve } from 'node:path';
import { ControlServer } from '../src/cli/control-server.js';
import { ExitCode } from '../src/cli/exit-codes.js';
import type { Log } from '../src/cli/log.js';
import { checkHost } from '../src/host/machine.js';
import { checkClaims, claimTarget } from './claim.js';
import { answerWith } from './control-commands.js';
import type { LeapdOptions } from './leapd-options.js';
import { PagerClient } from './pager-client.js';
import { checkRecordPath } from './recording.js';
import { Registry, type Claim } from './registry.js';
import { remoteSettings } from './remote-settings.js';
import { PagerFailure, Session } from './session.js';
import { checkSwapPath } from './swap-path.js';
import { checkTarget, localLimit } from './target.js';

/** Steps that undo a start, in the order in which they were made necessary. */
type Undo = (() => unknown)[];

/**
 * Runs a leapd from its checks to its end. @throws Refusal before the attach, and after a failed one: the target is as
 * it was
 */
export async function run(options: LeapdOptions, openLog: () => Log): Promise<ExitCode> {
  checkHost();
  const registry = new Registry();
  const swept = registry.sweep();
  checkClaims(registry, options.pid);
  const checked = await check(options);
  const undo: Undo = [];
  try {
    return await start(options, { registry, swept, checked, openLog }, undo);
  } catch (error) {
    if (error instanceof PagerFailure) return ExitCode.internal; // what the target needs stays
    for (const step of undo.reverse()) await step();
    throw error;
  }
}

type Checked = Awaited<ReturnType<typeof check>>;

/** What can be found wrong before anything is written. @throws Refusal */
async function check(options: LeapdOptions) {
  const target = checkTarget(options.pid, options.allowPinned);
  const remote = options.remote && (await remoteSettings(options.remote));
  const limit = localLimit(options.localMemory, target);
  if (options.record !== undefined) checkRecordPath(resolve(options.record));
  return { target, remote, limit };
}

interface Preparation {
  readonly registry: Registry;
  /** Records of dead leapds that were cleared up. */
  readonly swept: readonly Claim[];
  readonly checked: Checked;
  readonly openLog: () => Log;
}

async function start(options: LeapdOptions, preparation: Preparation, undo: Undo): Promise<ExitCode> {
  const { registry, swept, checked } = preparation;
  const { target, remote, limit } = checked;
  const draft = claimTarget(registry, target, resolve(options.swapFile), resolve(options.control));
  undo.push(() => registry.release(target.pid));
  const { swapFile, control } = draft;
  const localPages = 'pages' in limit ? limit.pages : Math.floor(target.usedPages * limit.share);
  const scarce = checkSwapPath(swapFile, target.usedPages - localPages, remote !== undefined);
  let session: Session | undefined;
  const server = await ControlServer.open(control, (request, progress) => answerWith(session, request, progress));
  undo.push(() => server.close());

  const log = preparation.openLog();
  logSwept(log, swept);
  for (const warning of [...(remote?.warnings ?? []), ...(scarce === undefined ? [] : [scarce])]) log.warn(warning);
  registry.update({ ...draft, attached: true, attaching: true });
  const settings = { ...settingsOf(options), remote: remote?.settings, localLimit: limit, swapFile };
  const pager = new PagerClient(settings, log);
  session = new Session({ ...options, swapFile, control }, target, pager, log);
  session.listen();
  const facts = await pager.attach();
  const claim = { ...draft, attached: true };
  registry.signOfAttach(claim);
  return session.serve(registry, claim, facts, server);
}

function logSwept(log: Log, swept: readonly Claim[]): void {
  for (const { leapd, target, swapFile } of swept) {
    const what = `removed the files of leapd ${leapd.pid}, which was killed; its process ${target.pid} has ended too`;
    log.info({ swapFile }, what);
  }
}

function settingsOf({
  pid,
  prefetch,
  history,
  windowMax,
  prefetchBuffer,
  evict,
  victims,
  allowPinned,
  remote,
}: LeapdOptions) {
  return {
    pid,
    prefetch,
    history,
    windowMax,
    prefetchBuffer,
    evict,
    victims,
    allowPinned,
    copies: remote?.copies ?? 2,
  };
}
