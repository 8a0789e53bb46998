#!/usr/bin/env node
/** leapctl: asks a running leapd over its control socket, and says what this machine offers (doctor). */
import { resolve } from 'node:path';
import { describeOrphan } from './claim.js';
import { call } from '../src/cli/control-client.js';
import { examine, type Finding } from './doctor.js';
import { ExitCode, exitWith, Refusal } from '../src/cli/exit-codes.js';
import { parseLeapctl, type LeapctlOptions } from './leapctl-options.js';
import { printObject, printTable } from '../src/cli/table-print.js';
import { openProgress } from '../src/cli/progress.js';
import type { CommandName, Json } from '../src/cli/protocol.js';
import { judge, Registry } from './registry.js';

/**
 * A detach says how far it is five times a second, but its first check may take a moment on a machine under pressure.
 */
const PATIENCE_MS = 30_000;

/** What the doctor's first two columns take, with all borders. */
const DOCTOR_LEFT_COLUMNS = 36;

async function main(args: readonly string[]): Promise<ExitCode> {
  const options = await parseLeapctl(args);
  if (options === undefined) return ExitCode.ok;
  switch (options.command) {
    case 'doctor':
      return doctor(options);
    case 'status':
      return options.pid === undefined && options.control === undefined
        ? list(options)
        : show(options, await ask(options, 'status'));
    case 'stats':
      return show(options, await ask(options, 'stats', options.log ? { log: 'yes' } : {}));
    case 'set':
      return show(options, await ask(options, 'set', options.settings));
    case 'record':
      return record(options);
    case 'detach':
      return detach(options);
  }
}

/** @throws Refusal: no leapd, or a dead one. */
function socketOf({ pid, control }: LeapctlOptions): string {
  if (control !== undefined) return control;
  const registry = new Registry();
  const claim = pid === undefined ? undefined : registry.read(pid);
  const condition = claim && judge(claim);
  if (claim && condition === 'orphaned') throw describeOrphan(registry, claim);
  if (!claim || condition === 'stale') {
    throw new Refusal(
      ExitCode.control,
      `process ${pid} is not under leapd`,
      `list those that are with: leapctl status, or start with: leapd --pid ${pid}`,
    );
  }
  return claim.control;
}

const ask = (
  options: LeapctlOptions,
  command: CommandName,
  given: Readonly<Record<string, string>> = {},
): Promise<Json> => call({ socket: socketOf(options), command, arguments: given });

function show({ json }: LeapctlOptions, answer: Json): ExitCode {
  if (json) process.stdout.write(`${JSON.stringify(answer)}\n`);
  else printObject(answer);
  return ExitCode.ok;
}

function list({ json }: LeapctlOptions): ExitCode {
  const claims = new Registry().all().map((claim) => ({
    pid: claim.target.pid,
    name: claim.target.name,
    condition: judge(claim),
    leapd: claim.leapd.pid,
    startedAt: claim.startedAt,
    swapFile: claim.swapFile,
    control: claim.control,
  }));
  if (json) process.stdout.write(`${JSON.stringify({ processes: claims })}\n`);
  else if (claims.length === 0) process.stdout.write('no process is under leapd; start with: leapd --pid PID\n');
  else {
    const rows = claims.map((claim) => [
      String(claim.pid),
      claim.name,
      claim.condition,
      String(claim.leapd),
      claim.startedAt,
      claim.swapFile,
    ]);
    printTable(rows, ['pid', 'name', 'condition', 'leapd', 'since', 'swap file']);
  }
  return ExitCode.ok;
}

/**
 * Follows the recording to its end: the time is up, Ctrl-C, --stop from elsewhere, or the end of the target. Then the
 * file is whole.
 */
async function record(options: LeapctlOptions): Promise<ExitCode> {
  const { record: request } = options;
  if (request === 'stop' || request === undefined) return show(options, await ask(options, 'record', { stop: 'yes' }));
  const { out, seconds, exact, max } = request;
  const path = resolve(out);
  const say = (text: string): void => void (options.json || process.stderr.write(`${text}\n`));
  // over already, or not yet begun
  const stop = (): void => void ask(options, 'record', { stop: 'yes' }).catch(() => undefined);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  let begun = false;
  try {
    const answer = await call({
      socket: socketOf(options),
      command: 'record',
      arguments: {
        out: path,
        follow: 'yes',
        ...(seconds !== undefined && { seconds }),
        ...(exact && { exact: 'yes' }),
        ...(max !== undefined && { 'record-max': max }),
      },
      onProgress: () => {
        if (!begun) say(`recording into ${out}${seconds === undefined ? '; end it with Ctrl-C' : ` for ${seconds} s`}`);
        begun = true;
      },
    });
    return show(options, answer);
  } catch (error) {
    if (!begun || !(error instanceof Refusal) || error.code !== ExitCode.control) throw error;
    say(`the process has ended, or is no longer paged; ${out} is complete`);
    return show(options, { path, endedEarly: 'paging has ended' });
  }
}

async function detach(options: LeapctlOptions): Promise<ExitCode> {
  const progress = options.json
    ? undefined
    : openProgress('putting pages back', (text) => process.stderr.write(`${text}\n`));
  try {
    const answer = await call({
      socket: socketOf(options),
      command: 'detach',
      arguments: options.force ? { force: 'yes' } : {},
      patienceMs: PATIENCE_MS,
      onProgress: (done, total) => progress?.update(done, total),
    });
    progress?.stop();
    return show(options, answer);
  } finally {
    progress?.stop();
  }
}

async function doctor({ json }: LeapctlOptions): Promise<ExitCode> {
  const findings = await examine();
  if (json) process.stdout.write(`${JSON.stringify({ findings })}\n`);
  else {
    const rows = findings.map(({ what, verdict, found, advice }) => [
      what,
      verdict,
      advice === undefined ? found : `${found}\n${advice}`,
    ]);
    printTable(rows, undefined, Math.max(30, Math.min(process.stdout.columns ?? 100, 120) - DOCTOR_LEFT_COLUMNS));
  }
  return findings.some((finding: Finding) => finding.verdict === 'missing') ? ExitCode.failed : ExitCode.ok;
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code; // not exit(): what is written to a pipe has to leave first
  },
  (error: unknown) => exitWith('leapctl', error),
);
