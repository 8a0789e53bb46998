/** Taking a process under this leapd: one leapd a process, and a clear word about whoever was there before. */
import { errnoName, ExitCode, Refusal } from '../src/cli/exit-codes.js';
import { identify } from '../src/host/process-info.js';
import { judge, RECORD_VERSION, type Claim, type Registry } from './registry.js';
import type { Target } from './target.js';

/** "2026-01-02 03:04:05", in UTC. */
const at = (date: Date | string | undefined): string =>
  date === undefined ? 'an unknown time' : new Date(date).toISOString().replace('T', ' ').slice(0, 19);

/** @throws Refusal: the process is a leapd, is under one, or was left behind by one. */
export function checkClaims(registry: Registry, pid: number): void {
  for (const claim of registry.all()) {
    const condition = judge(claim);
    const living = condition === 'active' || condition === 'ending';
    if (claim.leapd.pid === pid && living) {
      const problem = `process ${pid} is the leapd of process ${claim.target.pid}`;
      throw new Refusal(ExitCode.target, problem, 'name another process: leapd cannot page a leapd');
    }
    if (claim.target.pid !== pid) continue;
    if (condition === 'active') {
      throw new Refusal(
        ExitCode.target,
        `process ${pid} is already under leapd ${claim.leapd.pid}, since ${at(claim.startedAt)} UTC`,
        `see leapctl status ${pid}, or end it with: leapctl detach ${pid}`,
      );
    }
    if (condition === 'ending') {
      throw new Refusal(
        ExitCode.target,
        `leapd ${claim.leapd.pid} is still cleaning up after the previous process ${pid}`,
        'try again in a moment',
      );
    }
    if (condition === 'orphaned') throw describeOrphan(registry, claim);
  }
}

/** What became of the leapd of a process that waits. */
export function describeOrphan(registry: Registry, claim: Claim): Refusal {
  const { pid, name } = claim.target;
  const how = claim.failure === undefined ? 'was killed' : `ended on an error (${claim.failure})`;
  const seen = at(registry.lastSeen(pid));
  return new Refusal(
    ExitCode.orphaned,
    `leapd ${claim.leapd.pid}, which paged process ${pid} (${name}) since ${at(claim.startedAt)}, ${how} after ${seen} UTC without detaching: ` +
      `the process waits when it touches a stored page, instead of reading zeros; its stored pages are in ${claim.swapFile}`,
    'this version cannot take over: leave the process waiting until one can, ' +
      `or give it up with: kill -9 ${pid} (the next leapd then removes the swap file)`,
  );
}

/**
 * Writes the record that makes `target` ours. @throws Refusal when another leapd was faster, or the directory cannot be
 * written.
 */
export function claimTarget(registry: Registry, target: Target, swapFile: string, control: string): Claim {
  const leapd = identify(process.pid);
  if (leapd === undefined) throw new Error('/proc does not show this process');
  const claim: Claim = {
    version: RECORD_VERSION,
    target: { pid: target.pid, startTime: target.startTime, name: target.name },
    leapd,
    startedAt: new Date().toISOString(),
    swapFile,
    control,
    attached: false,
  };
  const path = registry.pathOf(target.pid);
  let taken: boolean;
  try {
    taken = registry.claim(claim);
  } catch (error) {
    throw new Refusal(
      ExitCode.rights,
      `${path} cannot be written (${errnoName(error)})`,
      'leapd keeps its record there; run it as root',
    );
  }
  if (!taken) {
    checkClaims(registry, target.pid);
    throw new Refusal(
      ExitCode.target,
      `${path} exists and is not a record that this leapd can read`,
      'remove it if no leapd is running',
    );
  }
  return claim;
}
