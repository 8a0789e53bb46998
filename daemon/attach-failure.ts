/**
 * Why an attach failed, by the engine's word for it, as one line for the user. Whatever the reason, the target is as it
 * was.
 */
import { ExitCode, Refusal } from '../src/cli/exit-codes.js';
import type { PagerSettings } from './pager-messages.js';

interface Explanation {
  readonly code: ExitCode;
  readonly remedy: string;
}

/** By the kinds of native/base/error.h. */
const explanations: Readonly<Record<string, Explanation>> = {
  'no-process': { code: ExitCode.target, remedy: 'it has just ended; look for another with: pgrep -a NAME' },
  'kernel-thread': { code: ExitCode.target, remedy: 'only user processes have memory to page' },
  self: { code: ExitCode.target, remedy: 'name another process' },
  helper: { code: ExitCode.target, remedy: 'name the process that is to be paged' },
  zombie: { code: ExitCode.target, remedy: 'it has ended, and its parent has not collected it yet' },
  traced: {
    code: ExitCode.target,
    remedy: 'detach the debugger, then run leapd again; the debugger may attach again afterwards',
  },
  'already-managed': { code: ExitCode.target, remedy: 'find its leapd with: leapctl status' },
  orphaned: { code: ExitCode.orphaned, remedy: 'see what happened to its leapd with: leapctl status' },
  '32-bit': { code: ExitCode.target, remedy: 'leapd pages 64-bit programs only' },
  'not-permitted': {
    code: ExitCode.rights,
    remedy: 'run leapd as root, in a container with --cap-add SYS_PTRACE --cap-add SYS_ADMIN',
  },
  namespace: { code: ExitCode.target, remedy: 'page one of its children instead: leapd --pid CHILD' },
  dispatch: { code: ExitCode.target, remedy: 'page it on Linux 6.4 to 6.16, or without syscall user dispatch' },
  seccomp: { code: ExitCode.rights, remedy: 'give leapd CAP_SYS_ADMIN' },
  'kernel-too-old': { code: ExitCode.system, remedy: 'check this machine with: leapctl doctor' },
  addon: { code: ExitCode.system, remedy: 'build it with: npm run build' },
  memory: { code: ExitCode.system, remedy: 'leapd itself needs more memory: give a smaller --prefetch-buffer' },
  swap: { code: ExitCode.swapFile, remedy: 'give another --swap-file' },
  rdma: {
    code: ExitCode.system,
    remedy:
      'check this machine with: leapctl doctor; without --portal, or with --rdma off, leapd pages to the swap file alone',
  },
  memlock: { code: ExitCode.system, remedy: 'raise it with: ulimit -l unlimited' },
  timeout: { code: ExitCode.attach, remedy: 'try again' },
  frozen: { code: ExitCode.attach, remedy: 'thaw its control group first' },
  limit: { code: ExitCode.attach, remedy: 'raise the limits of the process: prlimit --nofile and --as' },
};

const unexplained: Explanation = {
  code: ExitCode.attach,
  remedy: 'the process is unchanged; check this machine with: leapctl doctor',
};

export function attachRefusal(settings: PagerSettings, reason: string, message: string): Refusal {
  const { code, remedy } = explanations[reason] ?? unexplained;
  return new Refusal(code, `leapd cannot attach to process ${settings.pid}: ${message}`, remedy);
}
