/** Registers ranges of a space with userfaultfd, and reports once each range that cannot be registered. */
import type { Family } from '../family/family.js';
import { Errno } from '../core/layout.js';
import { PAGE_SIZE, type SpaceId, type Vpn, vpn } from '../core/types.js';
import type { MappingCache } from './mapping-cache.js';

/** A range of one space, in pages. */
export interface Span {
  readonly space: SpaceId;
  readonly start: Vpn;
  readonly count: number;
}

const keyOf = ({ space, start, count }: Span): string => `${space}:${start}:${count}`;

export class Registrar {
  /** Ranges that stay resident and have been reported. */
  private readonly reported = new Set<string>();
  /** Ranges for which there are not enough page indices: they are not tried again. */
  private readonly tooLarge = new Set<string>();

  constructor(
    private readonly family: Family,
    private readonly cache: MappingCache,
  ) {}

  /**
   * Makes room for the pages of a range, then registers it.
   * @returns false: it stays resident, which has been reported
   */
  take(span: Span): boolean {
    const { family } = this;
    const key = keyOf(span);
    if (this.tooLarge.has(key)) return false;
    if (!family.indices.makeRoom(span.count)) {
      // Where a mapping of ours has grown in place the range is registered already; no page of it is out.
      family.engine.unregister(span.space, span.start, span.count);
      this.tooLarge.add(key);
      this.report('warn', 'a mapping is too large to be paged: it stays resident', span);
      return false;
    }
    const errno = this.register(span);
    if (errno === Errno.ok) return true;
    if (this.reported.has(key)) return false;
    this.reported.add(key);
    if (errno === Errno.EBUSY)
      this.report('info', 'the target uses userfaultfd on a mapping itself: it stays resident', span, errno);
    else this.report('warn', 'a mapping could not be registered: it stays resident', span, errno);
    return false;
  }

  /**
   * Registers more than the range: all of its mapping and the unmapped room beside it. Since the last reading the
   * mapping may have grown, or a new one may stand in an old place. With the edge of a registration inside a mapping
   * the kernel splits it in two, and the target's next mremap over both fails (EFAULT).
   */
  private register({ space, start, count }: Span): number {
    const { engine } = this.family;
    const { low, high } = this.roomAround(space, start, start + count);
    if (low === start && high === start + count) return engine.register(space, start, count);
    const errno = engine.register(space, low, high - low);
    return errno === Errno.ok ? errno : engine.register(space, start, count);
  }

  /** From the end of the mapping before [start, end) to the start of the one behind, as of the last reading. */
  private roomAround(space: SpaceId, start: number, end: number): { low: Vpn; high: Vpn } {
    let low = 0;
    let high = Infinity;
    for (const other of [...this.cache.last(space), this.family.engine.ownArea(space)]) {
      if (other.end <= start) low = Math.max(low, other.end);
      if (other.start >= end) high = Math.min(high, other.start);
    }
    return low === 0 || high === Infinity ? { low: vpn(start), high: vpn(end) } : { low: vpn(low), high: vpn(high) };
  }

  private report(level: 'info' | 'warn', message: string, { start, count }: Span, errno?: number): void {
    this.family.notify(level, message, {
      start: `0x${(start * PAGE_SIZE).toString(16)}`,
      pages: count,
      ...(errno !== undefined && { errno }),
    });
  }
}
