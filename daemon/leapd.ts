#!/usr/bin/env node
/** leapd --pid N: pages a running process. Everything is in the modules; this is the way in. */
import { setPriority } from 'node:os';
import { writeFileSync } from 'node:fs';
import { exitWith } from '../src/cli/exit-codes.js';
import { guardProcess } from '../src/host/guard.js';
import { openLog, type Log } from '../src/cli/log.js';
import { helpText, parseOptions } from './leapd-options.js';
import { run } from './run.js';

async function main(args: readonly string[]): Promise<number> {
  guardProcess();
  const help = helpText(args);
  if (help !== undefined) {
    process.stdout.write(`${await help}\n`);
    return 0;
  }
  const options = parseOptions(args);
  process.title = `leapd ${options.pid}`;
  return run(options, () => {
    const log = openLog(options.logLevel, options.pid);
    standFirm(log);
    return log;
  });
}

/** The target stands still whenever leapd does: ask the kernel to take others first. What is not allowed is no loss. */
function standFirm(log: Log): void {
  try {
    setPriority(-10);
    writeFileSync('/proc/self/oom_score_adj', '-900');
  } catch (error) {
    log.debug({ err: error }, 'leapd runs with ordinary priority, and the kernel may kill it when memory runs out');
  }
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => exitWith('leapd', error),
);
