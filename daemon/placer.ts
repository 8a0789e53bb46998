/**
 * Carries out what src/policy/placement.ts decides: samples where the target's faulting threads run, moves this thread
 * there, sets the spin.
 */
import { availableParallelism } from 'node:os';
import { type Calibration, type Decision, NO_CPU, Placement } from '../src/policy/placement.js';

/** The part of the engine that this needs. */
export interface Placeable {
  sampleCpu(thread: number): number;
  /** @returns errno */
  place(cpu: number): number;
  setSpin(ns: number): void;
}

/** Between two samples, while there are faults. One costs a read in /proc. */
const SAMPLE_NS = 20e6;
/** Between two decisions. */
const DECIDE_NS = 100e6;

export class Placer {
  private readonly placement: Placement;
  private now: Decision = { cpu: NO_CPU, spinNs: 0 };
  private nextSample = 0;
  private lastDecision = 0;
  private faultsSampled = 0;
  private faultsDecided = 0;

  constructor(
    private readonly engine: Placeable,
    calibration?: Calibration,
    cpus = availableParallelism(),
  ) {
    this.placement = new Placement(cpus, calibration);
  }

  /** After every turn. @param faults how many there have been  @param thread whose the last was */
  turn(clockNs: number, faults: number, thread: number): void {
    if (clockNs < this.nextSample) return;
    this.nextSample = clockNs + SAMPLE_NS;
    if (faults > this.faultsSampled) {
      this.faultsSampled = faults;
      this.placement.record(this.engine.sampleCpu(thread));
    }
    const elapsed = clockNs - this.lastDecision;
    if (elapsed >= DECIDE_NS) this.decide(clockNs, elapsed, faults);
  }

  private decide(clockNs: number, elapsed: number, faults: number): void {
    const fresh = faults - this.faultsDecided;
    this.lastDecision = clockNs;
    this.faultsDecided = faults;
    const wanted = this.placement.decide(fresh === 0 ? Number.POSITIVE_INFINITY : elapsed / fresh);
    // A CPU that is not ours to run on is no reason to fail: we stay where we are.
    if (wanted.cpu !== this.now.cpu) this.engine.place(wanted.cpu);
    if (wanted.spinNs !== this.now.spinNs) this.engine.setSpin(wanted.spinNs);
    this.now = wanted;
  }
}
