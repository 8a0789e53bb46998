/**
 * Looks whether anything in the family does I/O that pins its pages: now and then, and whenever pages could not be
 * moved away, which may be why. While something does, eviction rests.
 */
import type { Log } from '../src/cli/log.js';
import type { PagerClient } from './pager-client.js';
import { findPins } from './pinned.js';

const PERIOD_MS = 5000;
/**
 * A target with very many descriptors is looked at less often: the looking takes at most such a part of a CPU, now and
 * then and when asked to.
 */
const REST_FACTOR = 200;
const ASKED_REST_FACTOR = 20;

export class PinWatch {
  private resting = false;
  private lookedAt = -Infinity;
  private tookMs = 0;
  /** The family, as far as it is known. */
  private pids: readonly number[];

  constructor(
    pid: number,
    private readonly pager: PagerClient,
    private readonly log: Log,
  ) {
    this.pids = [pid];
  }

  start(): NodeJS.Timeout {
    this.pager.onRefused = (refusals, pids) => {
      this.pids = pids;
      if (this.rested(ASKED_REST_FACTOR) && !this.look()) this.change({ clearRefusals: refusals });
    };
    return setInterval(() => {
      if (this.rested(REST_FACTOR)) this.look();
    }, PERIOD_MS);
  }

  private rested(factor: number): boolean {
    return performance.now() - this.lookedAt >= this.tookMs * factor;
  }

  /** @returns whether anything is pinned */
  private look(): boolean {
    const begin = performance.now();
    const pins = this.pids.flatMap((pid) => findPins(pid));
    this.lookedAt = performance.now();
    this.tookMs = this.lookedAt - begin;
    const found = pins.length > 0;
    if (found === this.resting) return found;
    this.resting = found;
    if (found)
      this.log.warn(
        { pins: pins.slice(0, 3) },
        'a device may write into the memory of the process: eviction stops until that ends, also above the limit',
      );
    else this.log.info('no device writes into the memory of the process any longer: evicting again');
    this.change({ evicting: !found });
    return found;
  }

  private change(changes: Parameters<PagerClient['change']>[0]): void {
    this.pager.change(changes).catch((error: unknown) => this.log.debug({ err: error }, 'the pager has ended'));
  }
}
