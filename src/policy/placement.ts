/**
 * Where the pager's thread runs, and how long it spins before it sleeps. One fault costs least when the pager sleeps on
 * the CPU of the thread that faults: waking it there is a switch, waking it on a halted CPU is an interrupt (and in a
 * virtual machine an exit to the host). When the faults come from several CPUs no place is right, and spinning for a
 * bounded time saves the wake-up instead.
 *
 *     most recent faults on one CPU     follow: pinned there, no spin
 *     but the target runs away          beside: pinned to another one, spin for twice the gap between faults
 *     spread                            free:   unpinned, the same spin
 *     (faults that come slowly)                 no spin
 *
 * A target that may run anywhere runs away: when we wake it the kernel sees us on its CPU and another one idle. To
 * follow it there would make every wake-up one across CPUs, the dearest of all; beside it, it stays where it is.
 * Following is tried again now and then, less and less often.
 *
 * Pure: samples go in, a decision comes out.
 */

/** What one fault costs on this machine by where it is served, p50 in ns; 0: not measured. */
export interface Calibration {
  readonly sameCpuBlocking: number;
  readonly otherCpuSpinning: number;
  readonly otherCpuBlocking: number;
}

export interface Decision {
  /** The CPU to run on, or NO_CPU for any. */
  readonly cpu: number;
  readonly spinNs: number;
}

export const NO_CPU = -1;
/** Samples that a decision rests on. */
export const SAMPLES = 16;
/** Fewer say nothing. */
export const LEAST_SAMPLES = 4;
/** The most that the pager spins after its last event. */
export const MAX_SPIN_NS = 400_000;
/**
 * Decisions without following after the target ran away for the first time; twice as many after each further time, up
 * to REST_MAX.
 */
export const REST = 50;
const REST_MAX = 6400;

const FOLLOW_SHARE = 0.75;
/** Lower than FOLLOW_SHARE, so that a load on the edge does not send the pager back and forth. */
const LEAVE_SHARE = 0.5;

export class Placement {
  private readonly ring = new Int32Array(SAMPLES);
  private filled = 0;
  private next = 0;
  private decision: Decision = { cpu: NO_CPU, spinNs: 0 };
  private following = false;
  private rest = 0;
  private nextRest = REST;

  /**
   * @param cpus how many CPUs the pager may run on: with one there is nothing to choose, and spinning would keep the
   * target from running
   * @param calibration undefined: not measured; then following counts as the better way
   */
  constructor(
    private readonly cpus: number,
    private readonly calibration?: Calibration,
  ) {}

  /** A thread that has just faulted was last seen on this CPU. */
  record(cpu: number): void {
    if (cpu < 0) return;
    this.ring[this.next] = cpu;
    this.next = (this.next + 1) % SAMPLES;
    if (this.filled < SAMPLES) this.filled++;
  }

  /** @param gapNs mean time between the faults of the last period; Infinity when there were none */
  decide(gapNs: number): Decision {
    if (this.cpus <= 1) return this.decision;
    if (this.rest > 0) this.rest--;
    if (this.filled < LEAST_SAMPLES && Number.isFinite(gapNs)) return this.decision;
    const was = this.decision.cpu;
    const cpu = this.filled < LEAST_SAMPLES ? was : this.choose();
    if (cpu !== was) this.filled = this.next = 0; // what was seen until now was seen from another place
    const spins = !this.following && this.spinningPays() && gapNs * 2 <= MAX_SPIN_NS;
    this.decision = { cpu, spinNs: spins ? Math.max(1000, Math.round(gapNs * 2)) : 0 };
    return this.decision;
  }

  private choose(): number {
    const { cpu, share } = this.dominant();
    const at = this.decision.cpu;
    if (this.following) {
      if (cpu === at && share >= LEAVE_SHARE) return at;
      this.following = false;
      if (share < LEAVE_SHARE) return NO_CPU;
      this.rest = this.nextRest;
      this.nextRest = Math.min(this.nextRest * 2, REST_MAX);
      return this.beside(cpu);
    }
    if (share < LEAVE_SHARE) return NO_CPU;
    if (this.rest === 0 && share >= FOLLOW_SHARE && this.followingPays()) {
      this.following = true;
      return cpu;
    }
    return at !== NO_CPU && at !== cpu ? at : this.beside(cpu);
  }

  private beside(cpu: number): number {
    return (cpu + 1) % this.cpus;
  }

  private followingPays(): boolean {
    const { calibration } = this;
    return (
      calibration === undefined ||
      calibration.otherCpuSpinning === 0 ||
      calibration.sameCpuBlocking <= calibration.otherCpuSpinning
    );
  }

  private spinningPays(): boolean {
    const { calibration } = this;
    return (
      calibration === undefined ||
      calibration.otherCpuBlocking === 0 ||
      calibration.otherCpuSpinning < calibration.otherCpuBlocking
    );
  }

  /** The CPU that most samples name. SAMPLES is small: counting each against all costs less than a table of CPUs. */
  private dominant(): { cpu: number; share: number } {
    let cpu = NO_CPU;
    let most = 0;
    for (let i = 0; i < this.filled; i++) {
      let count = 0;
      for (let j = 0; j < this.filled; j++) if (this.ring[j] === this.ring[i]) count++;
      if (count > most) {
        most = count;
        cpu = this.ring[i] ?? NO_CPU;
      }
    }
    return { cpu, share: this.filled === 0 ? 0 : most / this.filled };
  }
}
