/** What the main thread and the pager's worker thread say to each other. All of it is plain data. */
import type { PagerStats } from '../src/core/counters.js';
import type { PagerOptions } from '../src/core/pager-options.js';
import type { PrefetcherName } from '../src/policy/prefetch/index.js';
import type { DonorStats } from '../src/donors/donors.js';
import type { RecordMemory } from '../src/trace/ring.js';
import type { EvictName } from './leapd-option-table.js';
import type { RemoteSettings } from './remote-settings.js';

/** What the worker is started with. */
export interface PagerSettings extends Omit<PagerOptions, 'evict' | 'frames' | 'notify'> {
  readonly pid: number;
  readonly swapFile: string;
  readonly evict: EvictName;
  /** The target may have memory pinned for DMA: what UFFDIO_MOVE refuses is then never discarded. */
  readonly allowPinned: boolean;
  /** Undefined: the swap file is all there is. */
  readonly remote: RemoteSettings | undefined;
}

/** What the pager's thread says of itself and of the donors. */
export interface Stats extends PagerStats {
  readonly rdma: 'on' | 'off';
  readonly donors: readonly DonorStats[];
}

/** What may be changed at run time. */
export interface PagerChanges {
  readonly localPages?: number;
  readonly prefetch?: PrefetcherName;
  readonly history?: number;
  readonly windowMax?: number;
  readonly prefetchBuffer?: number;
  readonly evicting?: boolean;
  /** Nothing had memory pinned: answer to `pages-refused`. */
  readonly clearRefusals?: number;
  readonly rdma?: boolean;
  /** Where every fault is to be recorded; null: nowhere any more. */
  readonly record?: RecordMemory | null;
}

export interface WorkerData {
  readonly settings: PagerSettings;
  /** Two words, see below. */
  readonly flags: Int32Array;
}
/** 1 while messages wait for the worker: it looks at its port only then. */
export const MAIL = 0;
/**
 * 1 when the main thread has read `unwakeable`: from then on the descriptor may be closed, and its number used for
 * something else.
 */
export const PARTED = 1;

export type ToPager =
  | { readonly kind: 'stats'; readonly id: number }
  | { readonly kind: 'change'; readonly id: number; readonly changes: PagerChanges }
  | { readonly kind: 'detach' };

export type LogKind = 'debug' | 'info' | 'warn' | 'error';

/** How paging ended: asked for, or because the target is gone. */
export type Ending = 'detached' | 'target-gone';

/** How the engine went about it, for the log and for `leapctl status`. */
export interface AttachFacts {
  /** "move", "discard", "discard-single". */
  readonly evict: string;
  readonly attachMs: number;
}

export type FromPager =
  | { readonly kind: 'wakeable'; readonly wakeFd: number }
  | { readonly kind: 'unwakeable' }
  | { readonly kind: 'attached'; readonly facts: AttachFacts }
  /** The target is as it was. */
  | { readonly kind: 'refused'; readonly reason: string; readonly message: string }
  | { readonly kind: 'stats'; readonly id: number; readonly stats: Stats }
  | { readonly kind: 'changed'; readonly id: number; readonly error?: string }
  /**
   * Pages could not be moved: they wait for a look at these processes, and for `clearRefusals` if nothing in them has
   * memory pinned. Asked again and again.
   */
  | { readonly kind: 'pages-refused'; readonly refusals: number; readonly pids: readonly number[] }
  | {
      readonly kind: 'log';
      readonly level: LogKind;
      readonly message: string;
      readonly facts?: Readonly<Record<string, unknown>>;
    }
  | { readonly kind: 'ended'; readonly ending: Ending; readonly stats: PagerStats };
