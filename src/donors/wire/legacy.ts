/**
 * The messages of the original Leap and Infiniswap: one struct of 392 bytes for all, `u64 buf[32]` and `u32 rkey[32]`
 * big-endian, `i32 size_gb` and `i32 type` little-endian. A peer that sends no private data with its connection request
 * speaks this.
 */
import { WireError } from './wire-error.js';

export const LEGACY_BYTES = 392;
/** A donor has at most so many chunks, and a chunk has this size. */
export const LEGACY_CHUNKS = 32;
export const LEGACY_CHUNK_BYTES = 1n << 30n;

export const LegacyType = {
  done: 1,
  info: 2,
  infoSingle: 3,
  freeSize: 4,
  evict: 5,
  activity: 6,
  stop: 7,
  bind: 8,
  bindSingle: 9,
  query: 10,
} as const;

export type LegacyName = keyof typeof LegacyType;

/**
 * A place of the two arrays that is not all zero; its number is the donor's chunk. What the values mean depends on the
 * type.
 */
export interface LegacyEntry {
  readonly donorChunk: number;
  /** The chunk's address; with `activity` the operations on it, plus 1. */
  readonly buf: bigint;
  /** The chunk's key; with `stop` and `done` 1. */
  readonly rkey: number;
}

export interface LegacyMessage {
  readonly type: LegacyName;
  /** Chunks, of 1 GiB each; with `bindSingle` and `infoSingle` the session's chunk. */
  readonly size: number;
  readonly entries: readonly LegacyEntry[];
}

const RKEY_AT = 8 * LEGACY_CHUNKS;
const SIZE_AT = RKEY_AT + 4 * LEGACY_CHUNKS;
const TYPE_AT = SIZE_AT + 4;

export function encodeLegacy({ type, size, entries }: LegacyMessage): Uint8Array {
  const bytes = new Uint8Array(LEGACY_BYTES);
  const view = new DataView(bytes.buffer);
  for (const { donorChunk, buf, rkey } of entries) {
    if (!(Number.isInteger(donorChunk) && donorChunk >= 0 && donorChunk < LEGACY_CHUNKS)) {
      throw new RangeError(`there is no chunk ${donorChunk} of ${LEGACY_CHUNKS}`);
    }
    view.setBigUint64(8 * donorChunk, buf);
    view.setUint32(RKEY_AT + 4 * donorChunk, rkey);
  }
  view.setInt32(SIZE_AT, size, true);
  view.setInt32(TYPE_AT, LegacyType[type], true);
  return bytes;
}

const names = new Map<number, LegacyName>(
  Object.entries(LegacyType).map(([name, value]) => [value, name as LegacyName]),
);

/**
 * An original donor counts free memory after what it leaves to its host; below that its FREE_SIZE is negative. @throws
 * WireError
 */
function sizeOf(type: LegacyName, size: number): number {
  if (size >= 0) return size;
  if (type === 'freeSize') return 0;
  throw new WireError(`original message: its size is ${size}`);
}

/** @throws WireError */
export function decodeLegacy(bytes: Uint8Array): LegacyMessage {
  if (bytes.byteLength !== LEGACY_BYTES)
    throw new WireError(`original message: ${bytes.byteLength} bytes, not ${LEGACY_BYTES}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const number = view.getInt32(TYPE_AT, true);
  const type = names.get(number);
  if (type === undefined) throw new WireError(`original message: there is no type ${number}`);
  const size = sizeOf(type, view.getInt32(SIZE_AT, true));
  const entries: LegacyEntry[] = [];
  for (let donorChunk = 0; donorChunk < LEGACY_CHUNKS; donorChunk++) {
    const buf = view.getBigUint64(8 * donorChunk);
    const rkey = view.getUint32(RKEY_AT + 4 * donorChunk);
    if (buf !== 0n || rkey !== 0) entries.push({ donorChunk, buf, rkey });
  }
  return { type, size, entries };
}
