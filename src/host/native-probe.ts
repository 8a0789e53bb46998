/** What the addon finds out about this machine, for the doctor: also where it is missing, or refused. */
import type { RdmaReport } from '../core/fabric.js';
import type { Probe } from './native-engine.js';
import type { Calibration } from '../policy/placement.js';

export interface NativeProbe {
  /** Why there is nothing else here. */
  readonly problem?: string;
  readonly probe?: Probe;
  /** Not where userfaultfd is refused. */
  readonly calibration?: Calibration;
  readonly rdma?: RdmaReport;
}

export async function probeNative(): Promise<NativeProbe> {
  try {
    const { calibrate, probe, rdma } = await import('./native-engine.js');
    const found = probe();
    const both = { probe: found, rdma: rdma() };
    return found.userfaultfd === '' ? { ...both, calibration: calibrate() } : { ...both, problem: found.userfaultfd };
  } catch (error) {
    return { problem: error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error) };
  }
}
