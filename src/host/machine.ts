/** What leapd needs of the machine it runs on, apart from the target: architecture, kernel, rights. */
import { arch, release } from 'node:os';
import { ExitCode, Refusal } from '../cli/exit-codes.js';
import { readStatus } from './process-info.js';

/** Write-protect faults work from 5.11 on; before 5.10 they can hang the target. */
export const OLDEST_KERNEL = [5, 11] as const;

export const Capability = { ipcLock: 14, sysPtrace: 19, sysAdmin: 21 } as const;

export function kernelVersion(text = release()): readonly [major: number, minor: number] {
  const match = /^(\d+)\.(\d+)/.exec(text);
  return [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)];
}

export function isAtLeast(version: readonly [number, number], wanted: readonly [number, number]): boolean {
  return version[0] > wanted[0] || (version[0] === wanted[0] && version[1] >= wanted[1]);
}

export function hasCapability(bit: number, status = readStatus('self')): boolean {
  const effective = status?.get('CapEff');
  return effective !== undefined && ((BigInt(`0x${effective}`) >> BigInt(bit)) & 1n) === 1n;
}

/** @throws Refusal: this machine, kernel or user cannot page another process. */
export function checkHost(): void {
  if (process.platform !== 'linux' || arch() !== 'x64') {
    throw new Refusal(
      ExitCode.system,
      `leapd runs on Linux on x86-64 only, and this is ${process.platform} on ${arch()}`,
      'use a machine with Linux on x86-64',
    );
  }
  if (!isAtLeast(kernelVersion(), OLDEST_KERNEL)) {
    const problem = `Linux ${release()} is too old: leapd needs ${OLDEST_KERNEL.join('.')}`;
    throw new Refusal(ExitCode.system, problem, 'boot a newer kernel, best 6.8 or later');
  }
  if (!hasCapability(Capability.sysPtrace)) {
    throw new Refusal(
      ExitCode.rights,
      'CAP_SYS_PTRACE is missing, and attaching to a process needs it',
      'run leapd as root',
    );
  }
}
