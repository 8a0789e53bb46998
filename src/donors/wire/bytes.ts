/** Little-endian fields one after the other, each checked against the end of the bytes and against its range. */
import { WireError } from './wire-error.js';

const U16_MAX = 0xffff;
const U32_MAX = 0xffffffff;
const U64_MAX = 0xffffffffffffffffn;

const utf8 = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();

export class Reader {
  private readonly view: DataView;
  private at = 0;

  /** @param what names the message in errors */
  constructor(
    private readonly bytes: Uint8Array,
    private readonly what: string,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get rest(): number {
    return this.bytes.byteLength - this.at;
  }

  u16(): number {
    return this.view.getUint16(this.take(2), true);
  }

  u32(): number {
    return this.view.getUint32(this.take(4), true);
  }

  u64(): bigint {
    return this.view.getBigUint64(this.take(8), true);
  }

  raw(count: number): Uint8Array {
    const at = this.take(count);
    return this.bytes.slice(at, at + count);
  }

  /** UTF-8; what would disturb a log becomes a blank. */
  text(count: number): string {
    const at = this.take(count);
    try {
      return utf8.decode(this.bytes.subarray(at, at + count)).replace(/\p{C}/gu, ' ');
    } catch {
      throw new WireError(`${this.what}: its text is not UTF-8`);
    }
  }

  /** Nothing follows. */
  end(): void {
    if (this.rest !== 0) throw new WireError(`${this.what}: ${this.rest} bytes too long`);
  }

  /** Nothing but zeros follow: the connection manager pads private data to its full length. */
  padding(): void {
    if (this.bytes.subarray(this.at).some((byte) => byte !== 0))
      throw new WireError(`${this.what}: ${this.rest} bytes too long`);
  }

  private take(count: number): number {
    if (count > this.rest) throw new WireError(`${this.what}: ${count - this.rest} bytes too short`);
    const at = this.at;
    this.at += count;
    return at;
  }
}

/** The sender's side: a value out of range is a bug of ours, and a RangeError. */
export class Writer {
  private readonly parts: number[] = [];

  get length(): number {
    return this.parts.length;
  }

  u16(value: number): this {
    return this.integer(value, U16_MAX, 2);
  }

  u32(value: number): this {
    return this.integer(value, U32_MAX, 4);
  }

  u64(value: bigint): this {
    if (value < 0n || value > U64_MAX) throw new RangeError(`${value} does not fit 64 bits`);
    return this.u32(Number(value & 0xffffffffn)).u32(Number(value >> 32n));
  }

  raw(bytes: Uint8Array, count: number): this {
    if (bytes.byteLength !== count) throw new RangeError(`${bytes.byteLength} bytes where ${count} belong`);
    for (const byte of bytes) this.parts.push(byte);
    return this;
  }

  /** As much of the text as fits `most` bytes. @returns how many those are; a character is never cut in two */
  static text(text: string, most: number): Uint8Array {
    const room = new Uint8Array(most);
    return room.subarray(0, encoder.encodeInto(text, room).written);
  }

  bytes(): Uint8Array {
    return Uint8Array.from(this.parts);
  }

  private integer(value: number, most: number, bytes: number): this {
    if (!Number.isInteger(value) || value < 0 || value > most)
      throw new RangeError(`${value} is not between 0 and ${most}`);
    for (let i = 0; i < bytes; i++) this.parts.push(Math.floor(value / 2 ** (8 * i)) & 0xff);
    return this;
  }
}
