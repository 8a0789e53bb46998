/** Looks now and then whether the target has begun to do I/O that pins its pages; eviction rests while it does. */
import type { Log } from './log.js';
import type { PagerClient } from './pager-client.js';
import { findPins } from './pinned.js';

const PERIOD_MS = 5000;
/** A target with very many descriptors is looked at less often: the looking takes at most a two-hundredth of a CPU. */
const REST_FACTOR = 200;

export class PinWatch {
  private resting = false;
  private notBefore = 0;

  constructor(
    private readonly pid: number,
    private readonly pager: PagerClient,
    private readonly log: Log,
  ) {}

  start(): NodeJS.Timeout {
    return setInterval(() => this.look(), PERIOD_MS);
  }

  private look(): void {
    const begin = performance.now();
    if (begin < this.notBefore) return;
    const pins = findPins(this.pid);
    this.notBefore = performance.now() + (performance.now() - begin) * REST_FACTOR;
    const found = pins.length > 0;
    if (found === this.resting) return;
    this.resting = found;
    if (found) this.log.warn({ pins: pins.slice(0, 3) }, 'devices may write into the process: nothing is evicted until that ends, also above the limit');
    else this.log.info('no device writes into the process any more: evicting again');
    this.pager.change({ evicting: !found }).catch((error: unknown) => this.log.debug({ err: error }, 'the pager has ended meanwhile'));
  }
}
