/** `leapctl doctor`: what this machine offers leapd. Every probe only looks. */
import { availableParallelism, freemem, release } from 'node:os';
import { Capability, hasCapability, isAtLeast, kernelVersion, OLDEST_KERNEL } from '../src/host/machine.js';
import { memoryMounts } from './memory-fit.js';
import type { Calibration } from '../src/policy/placement.js';
import { probeNative, type NativeProbe } from '../src/host/native-probe.js';
import { readStatus, readText } from '../src/host/process-info.js';
import { formatBytes, formatNs } from '../src/cli/size.js';

export interface Finding {
  readonly what: string;
  /** good; slower or less: works, with a loss; missing: leapd cannot work. */
  readonly verdict: 'good' | 'less' | 'missing';
  readonly found: string;
  readonly advice?: string;
}

export async function examine(): Promise<Finding[]> {
  const native = await probeNative();
  return [
    kernel(),
    rights(),
    ...userfaultfd(native),
    seccomp(),
    groups(),
    cpus(native),
    ...haltPolling(),
    mapLimit(),
    ...remote(native),
    lockedMemory(),
    memory(),
  ];
}

const less = (what: string, found: string, advice: string): Finding => ({ what, verdict: 'less', found, advice });
const missing = (what: string, found: string, advice: string): Finding => ({ what, verdict: 'missing', found, advice });
const good = (what: string, found: string): Finding => ({ what, verdict: 'good', found });

/** What each newer kernel adds, newest first. */
const newer = [
  [[6, 13], 'process_madvise: many runs of pages are discarded in one call'],
  [[6, 8], 'UFFDIO_MOVE: pages are evicted without a page fault of a thread that writes to them meanwhile'],
  [[6, 6], 'UFFDIO_POISON: a page that is lost raises SIGBUS'],
  [[6, 1], '/dev/userfaultfd: processes without rights of their own can be paged'],
] as const;

function kernel(): Finding {
  const version = kernelVersion();
  if (!isAtLeast(version, OLDEST_KERNEL))
    return missing('kernel', release(), `leapd needs Linux ${OLDEST_KERNEL.join('.')}`);
  const lacking = newer.filter(([wanted]) => !isAtLeast(version, wanted));
  if (lacking.length === 0) return good('kernel', release());
  return less('kernel', release(), lacking.map(([wanted, what]) => `${wanted.join('.')} adds ${what}`).join('\n'));
}

function rights(): Finding {
  if (!hasCapability(Capability.sysPtrace)) return missing('rights', 'no CAP_SYS_PTRACE', 'run leapd as root');
  if (!hasCapability(Capability.sysAdmin))
    return less('rights', 'no CAP_SYS_ADMIN', 'processes under a seccomp filter are refused without it');
  return good('rights', 'CAP_SYS_PTRACE, CAP_SYS_ADMIN');
}

/** The features that leapd makes use of, where they are. */
const wantedFeatures = [
  'pagefault-flag-wp',
  'event-fork',
  'event-remap',
  'event-remove',
  'event-unmap',
  'thread-id',
  'move',
  'poison',
];

function userfaultfd({ problem, probe }: NativeProbe): Finding[] {
  if (probe === undefined) return [missing('native addon', problem ?? 'not loaded', 'build it with: npm run build')];
  if (problem !== undefined)
    return [missing('userfaultfd', problem, 'run as root; in a container allow userfaultfd in its seccomp profile')];
  return [
    good('userfaultfd', wantedFeatures.filter((name) => probe.features.includes(name)).join(', ')),
    probe.features.includes('move')
      ? good('UFFDIO_MOVE', 'available: pages are moved')
      : less(
          'UFFDIO_MOVE',
          'not available: pages are write-protected, copied and discarded',
          'Linux 6.8 can move pages, which is faster',
        ),
    probe.userfaultfdDevice
      ? good('/dev/userfaultfd', 'available')
      : less(
          '/dev/userfaultfd',
          'not available',
          'only processes that may use userfaultfd themselves can be paged; Linux 6.1 has it',
        ),
    probe.ioUring
      ? good('io_uring', 'allowed')
      : less(
          'io_uring',
          `refused (errno ${probe.ioUringErrno})`,
          'the swap file is slower without it; allow it with: sysctl kernel.io_uring_disabled=0',
        ),
  ];
}

function seccomp(): Finding {
  const mode = readStatus('self')?.get('Seccomp') ?? '0';
  if (mode === '0') return good('seccomp filter', 'none');
  return less(
    'seccomp filter',
    'active',
    'it must allow ptrace, pidfd_getfd, process_madvise, userfaultfd and io_uring',
  );
}

function groups(): Finding {
  const mounts = memoryMounts(readText('/proc/self/mountinfo') ?? '');
  const counting = mounts.filter(
    ({ version, point }) => version === 1 || (readText(`${point}/cgroup.controllers`) ?? '').includes('memory'),
  );
  if (counting.length === 0)
    return less(
      'control groups',
      'none found',
      'before a detach, leapd checks only whether the machine has room for the stored memory',
    );
  return good('control groups', counting.map(({ version, point }) => `version ${version} at ${point}`).join(', '));
}

function cpus({ calibration }: NativeProbe): Finding {
  const count = availableParallelism();
  if (count <= 1) return less('CPUs', '1', 'leapd and the process take turns');
  return good('CPUs', calibration === undefined ? String(count) : `${count}; ${bestPlace(calibration)}`);
}

/** Where src/policy/placement.ts has the pager run as long as the faults come from one CPU. */
export function bestPlace({ sameCpuBlocking, otherCpuSpinning, otherCpuBlocking }: Calibration): string {
  const [same, spinning, sleeping] = [sameCpuBlocking, otherCpuSpinning, otherCpuBlocking].map(formatNs);
  if (sameCpuBlocking <= otherCpuSpinning)
    return `a fault is served fastest on its own CPU (${same}; from another, spinning ${spinning}, asleep ${sleeping})`;
  const how =
    otherCpuSpinning < otherCpuBlocking
      ? `by one that spins (${spinning}; asleep ${sleeping}`
      : `asleep (${sleeping}; spinning ${spinning}`;
  return `a fault is served fastest from another CPU, ${how}, on its own ${same})`;
}

const HALT_POLL_NS = 200_000;

/**
 * In a virtual machine a halted CPU is woken by its host. Polling a moment before the halt saves that; the governor's
 * parameters are there whether it is in use or not.
 */
export function haltPolling(read: typeof readText = readText): Finding[] {
  if (!/^flags\s*:.*\bhypervisor\b/m.test(read('/proc/cpuinfo') ?? '')) return [];
  const path = '/sys/module/haltpoll/parameters/guest_halt_poll_ns';
  const polls = Number(read(path)?.trim() ?? Number.NaN);
  const cost = 'without it, serving a fault from another CPU takes far longer; try: modprobe cpuidle_haltpoll force=1';
  if (Number.isNaN(polls)) return [less('halt polling', 'virtual machine, no haltpoll', cost)];
  const [driver, governor] = ['driver', 'governor_ro'].map(
    (name) => read(`/sys/devices/system/cpu/cpuidle/current_${name}`)?.trim() ?? 'none',
  );
  if (driver === 'none' || governor !== 'haltpoll')
    return [
      less('halt polling', `virtual machine, haltpoll not in use (idle driver ${driver}, governor ${governor})`, cost),
    ];
  if (polls >= HALT_POLL_NS) return [good('halt polling', `${polls} ns`)];
  return [less('halt polling', `virtual machine, ${polls} ns`, `faster with: echo ${HALT_POLL_NS} > ${path}`)];
}

/** RDMA is for --portal alone: without it leapd pages to a swap file. */
function remote({ rdma }: NativeProbe): Finding[] {
  if (rdma === undefined) return [];
  if (rdma.why !== '')
    return [less('RDMA devices', rdma.why, 'needed for --portal only; without RDMA, leapd pages to a swap file')];
  return [
    good(
      'RDMA devices',
      rdma.devices.map(({ name, port, state, activeMtu }) => `${name}/${port} ${state}, MTU ${activeMtu}`).join('; '),
    ),
  ];
}

/** What RDMA registers is locked; the limit does not bind who has CAP_IPC_LOCK. */
export function lockedMemory(read: typeof readText = readText, unbound = hasCapability(Capability.ipcLock)): Finding {
  const limit = /^Max locked memory\s+(\S+)/m.exec(read('/proc/self/limits') ?? '')?.[1] ?? 'unknown';
  if (limit === 'unlimited') return good('locked memory', 'unlimited');
  const found = `at most ${limit === 'unknown' ? 'an unknown amount' : formatBytes(Number(limit))}`;
  if (unbound) return good('locked memory', `${found}, but no limit with CAP_IPC_LOCK`);
  return less('locked memory', found, 'for --portal raise it with: ulimit -l unlimited');
}

const FEW_MAPS = 65530;

function mapLimit(): Finding {
  const limit = Number(readText('/proc/sys/vm/max_map_count')?.trim() ?? 0);
  if (limit >= FEW_MAPS) return good('mapping limit', String(limit));
  const advice = `registering memory can split mappings; raise it with: sysctl vm.max_map_count=${FEW_MAPS}`;
  return less('mapping limit', String(limit), advice);
}

const memory = (): Finding => good('free memory', formatBytes(freemem()));
