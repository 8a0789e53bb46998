/**
 * The trace file: docs/trace.md says it in words. A head, then records of one tag byte and varints; pages as
 * differences from the thread's page before, times as differences. The last record says that the file is whole; without
 * it the file was cut off, and is good up to its last full record.
 */
import type { RecordSink } from './ring.js';

const TRACE_MAGIC = 'leaptrc';
const TRACE_VERSION = 1;
/** Times are kept in steps of 100 ns. */
export const TICK_NS = 100;
const HEAD_BYTES = 8;

const Tag = { end: 0, fault: 1, regions: 2, region: 3, about: 4 } as const;
const TAG_BITS = 3;
const KIND_SHIFT = 3;
const WRITE = 1 << 5;
const SAME_THREAD = 1 << 6;
const CHUNK_BYTES = 1 << 16;
const LONGEST_RECORD = 64;

/** Writes records one behind the other; `take` gives what has come together. */
export class TraceEncoder implements RecordSink {
  faults = 0;
  private bytes = new Uint8Array(CHUNK_BYTES);
  private length = 0;
  private tick = 0;
  private firstNs = NaN;
  private thread = -1;
  private readonly pages = new Map<number, number>();

  /** @param about what the trace is of: a name, a process, a date... */
  constructor(about: Readonly<Record<string, string | number>> = {}) {
    this.bytes.set(new TextEncoder().encode(TRACE_MAGIC));
    this.bytes[HEAD_BYTES - 1] = TRACE_VERSION;
    this.length = HEAD_BYTES;
    const text = new TextEncoder().encode(JSON.stringify(about));
    this.byte(Tag.about);
    this.varint(text.length);
    this.room(text.length);
    this.bytes.set(text, this.length);
    this.length += text.length;
  }

  fault(kind: number, write: boolean, timeNs: number, page: number, thread: number): void {
    this.room(LONGEST_RECORD);
    if (Number.isNaN(this.firstNs)) this.firstNs = timeNs;
    const tick = Math.max(this.tick, Math.round((timeNs - this.firstNs) / TICK_NS));
    this.byte(Tag.fault | (kind << KIND_SHIFT) | (write ? WRITE : 0) | (thread === this.thread ? SAME_THREAD : 0));
    this.varint(tick - this.tick);
    if (thread !== this.thread) this.varint(thread);
    this.zigzag(page - (this.pages.get(thread) ?? 0));
    this.tick = tick;
    this.thread = thread;
    this.pages.set(thread, page);
    this.faults++;
  }

  regions(): void {
    this.room(LONGEST_RECORD);
    this.byte(Tag.regions);
  }

  region(space: number, advice: number, start: number, first: number, count: number): void {
    this.room(LONGEST_RECORD);
    this.byte(Tag.region);
    for (const value of [space, advice, start, first, count]) this.varint(value);
  }

  /** The last record. @param lost faults that came and are not in the file */
  end(lost: number): void {
    this.room(LONGEST_RECORD);
    this.byte(Tag.end);
    this.varint(this.faults);
    this.varint(lost);
  }

  take(): Uint8Array {
    const taken = this.bytes.slice(0, this.length);
    this.length = 0;
    return taken;
  }

  private room(bytes: number): void {
    if (this.length + bytes <= this.bytes.length) return;
    const wider = new Uint8Array(this.bytes.length * 2 + bytes);
    wider.set(this.bytes);
    this.bytes = wider;
  }

  private byte(value: number): void {
    this.bytes[this.length++] = value;
  }

  private varint(value: number): void {
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.byte((rest % 128) | 128);
    this.byte(rest);
  }

  private zigzag(value: number): void {
    this.varint(value < 0 ? -2 * value - 1 : 2 * value);
  }
}

export interface TraceRegion {
  readonly space: number;
  readonly advice: number;
  /** Page number of its first address. */
  readonly start: number;
  readonly first: number;
  readonly count: number;
}

/** A trace in memory: fault i came at time[i] ns, by thread[i], on page[i]. */
export interface Trace {
  readonly about: Readonly<Record<string, string | number>>;
  readonly length: number;
  readonly time: Float64Array;
  readonly thread: Int32Array;
  readonly page: Int32Array;
  readonly kind: Uint8Array;
  readonly write: Uint8Array;
  /** Disjoint, by first page. */
  readonly regions: readonly TraceRegion[];
  /** Faults that came and could not be written down. */
  readonly lost: number;
  /** The file ends in the middle. */
  readonly cutOff: boolean;
}

/** The bytes are no trace, or none that can be read: the message says why. */
export class TraceError extends Error {}
/** The bytes end in the middle of a record. */
class CutOff extends Error {}

class Reader {
  at = HEAD_BYTES;
  constructor(private readonly bytes: Uint8Array) {}

  get done(): boolean {
    return this.at >= this.bytes.length;
  }

  byte(): number {
    if (this.done) throw new CutOff();
    return this.bytes[this.at++];
  }

  varint(): number {
    let value = 0;
    for (let scale = 1; scale < 2 ** 56; scale *= 128) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    throw new TraceError(`a number at byte ${this.at} is too long`);
  }

  zigzag(): number {
    const value = this.varint();
    return value % 2 === 1 ? -(value + 1) / 2 : value / 2;
  }

  text(length: number): string {
    if (this.at + length > this.bytes.length) throw new CutOff();
    return new TextDecoder().decode(this.bytes.subarray(this.at, (this.at += length)));
  }
}

/** @throws TraceError */
export function decodeTrace(bytes: Uint8Array): Trace {
  if (bytes.length === 0) throw new TraceError('it is empty');
  if (bytes.length < HEAD_BYTES || new TextDecoder().decode(bytes.subarray(0, HEAD_BYTES - 1)) !== TRACE_MAGIC)
    throw new TraceError('it is not a trace');
  const version = bytes[HEAD_BYTES - 1];
  if (version !== TRACE_VERSION)
    throw new TraceError(`it is of version ${version}, and this program reads version ${TRACE_VERSION}`);
  const time: number[] = [];
  const thread: number[] = [];
  const page: number[] = [];
  const kind: number[] = [];
  const write: number[] = [];
  const pages = new Map<number, number>();
  const reader = new Reader(bytes);
  let about: Record<string, string | number> = {};
  let regions: TraceRegion[] = [];
  let tick = 0;
  let last = -1;
  let lost = 0;
  let cutOff = true;
  try {
    while (cutOff) {
      const tag = reader.byte();
      switch (tag & ((1 << TAG_BITS) - 1)) {
        case Tag.fault: {
          const ticks = reader.varint();
          const by = tag & SAME_THREAD ? last : reader.varint();
          const at = (pages.get(by) ?? 0) + reader.zigzag();
          if (at < 0 || at >= 2 ** 31) throw new TraceError(`fault ${page.length} is on page ${at}`);
          tick += ticks;
          last = by;
          pages.set(by, at);
          time.push(tick * TICK_NS);
          thread.push(by);
          page.push(at);
          kind.push((tag >> KIND_SHIFT) & 3);
          write.push(tag & WRITE ? 1 : 0);
          break;
        }
        case Tag.regions:
          break;
        case Tag.region: {
          const [space, advice, start, first, count] = [
            reader.varint(),
            reader.varint(),
            reader.varint(),
            reader.varint(),
            reader.varint(),
          ];
          regions = withRegion(regions, { space, advice, start, first, count });
          break;
        }
        case Tag.about:
          about = parseAbout(reader.text(reader.varint()));
          break;
        case Tag.end: {
          const faults = reader.varint();
          lost = reader.varint();
          if (faults !== page.length)
            throw new TraceError(`it says that it holds ${faults} faults, and holds ${page.length}`);
          cutOff = false;
          break;
        }
        default:
          throw new TraceError(`there is no record of kind ${tag & ((1 << TAG_BITS) - 1)} (byte ${reader.at - 1})`);
      }
    }
  } catch (error) {
    if (!(error instanceof CutOff)) throw error;
  }
  return {
    about,
    length: page.length,
    time: Float64Array.from(time),
    thread: Int32Array.from(thread),
    page: Int32Array.from(page),
    kind: Uint8Array.from(kind),
    write: Uint8Array.from(write),
    regions,
    lost,
    cutOff,
  };
}

function parseAbout(text: string): Record<string, string | number> {
  try {
    return JSON.parse(text) as Record<string, string | number>;
  } catch {
    throw new TraceError('its description is not JSON');
  }
}

/** The newer region takes the place of whatever it reaches over. */
function withRegion(regions: readonly TraceRegion[], added: TraceRegion): TraceRegion[] {
  const end = added.first + added.count;
  const kept = regions.flatMap((old): TraceRegion[] => {
    const oldEnd = old.first + old.count;
    if (oldEnd <= added.first || old.first >= end) return [old];
    const left = { ...old, count: added.first - old.first };
    const right = { ...old, start: old.start + (end - old.first), first: end, count: oldEnd - end };
    return [left, right].filter(({ count }) => count > 0);
  });
  return [...kept, added].sort((a, b) => a.first - b.first);
}
