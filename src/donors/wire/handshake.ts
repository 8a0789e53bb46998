/**
 * What a connection begins with, in the private data of the connection manager: Hello with the request, Welcome with
 * the accept, Refusal with the reject. docs/wire.md has the byte tables.
 */
import { Reader, Writer } from './bytes.js';
import { RefusalCode, WireError } from './wire-error.js';

export const WIRE_VERSION = 1;
export const NONCE_BYTES = 16;
/** What the connection manager leaves of the private data for RDMA_PS_TCP. */
export const MAX_HELLO_BYTES = 56;
export const MAX_WELCOME_BYTES = 196;
export const MAX_REFUSAL_BYTES = 148;

/** "LEAP", read as a little-endian number. */
const MAGIC = 0x5041454c;
const REFUSAL_HEAD_BYTES = 10;
/** A message must hold at least the longest one of fixed size. */
const LEAST_MESSAGE_BYTES = 64;

export interface Hello {
  /** I have a token, and can prove it. */
  readonly hasToken: boolean;
  readonly nonce: Uint8Array;
  /** The longest message I take. */
  readonly messageBytes: number;
  /** The chunk size I want; 0: any. */
  readonly chunkBytes: bigint;
}

export interface Welcome {
  /** Send AUTH first. */
  readonly tokenRequired: boolean;
  readonly nonce: Uint8Array;
  readonly chunkBytes: bigint;
  readonly freeChunks: number;
  readonly messageBytes: number;
}

export interface Refusal {
  readonly code: RefusalCode;
  readonly text: string;
}

export function encodeHello(hello: Hello): Uint8Array {
  const writer = new Writer()
    .u32(MAGIC)
    .u16(WIRE_VERSION)
    .u16(hello.hasToken ? 1 : 0)
    .raw(hello.nonce, NONCE_BYTES);
  return writer.u64(hello.chunkBytes).u16(hello.messageBytes).u16(0).bytes();
}

export function encodeWelcome(welcome: Welcome): Uint8Array {
  const writer = new Writer()
    .u32(MAGIC)
    .u16(WIRE_VERSION)
    .u16(welcome.tokenRequired ? 1 : 0)
    .raw(welcome.nonce, NONCE_BYTES);
  return writer.u64(welcome.chunkBytes).u32(welcome.freeChunks).u16(welcome.messageBytes).u16(0).bytes();
}

/** Text that does not fit is cut. */
export function encodeRefusal(refusal: Refusal): Uint8Array {
  const text = Writer.text(refusal.text, MAX_REFUSAL_BYTES - REFUSAL_HEAD_BYTES);
  return new Writer()
    .u32(MAGIC)
    .u16(WIRE_VERSION)
    .u16(refusal.code)
    .u16(text.byteLength)
    .raw(text, text.byteLength)
    .bytes();
}

/** @throws WireError, with the code to refuse with */
export function decodeHello(bytes: Uint8Array): Hello {
  const reader = begin(bytes, 'Hello', MAX_HELLO_BYTES);
  const hasToken = flag(reader, 'Hello');
  const nonce = reader.raw(NONCE_BYTES);
  const chunkBytes = chunkSize(reader.u64(), 'Hello', true);
  const messageBytes = messageSize(reader.u16(), 'Hello');
  end(reader, 'Hello');
  return { hasToken, nonce, chunkBytes, messageBytes };
}

/** @throws WireError */
export function decodeWelcome(bytes: Uint8Array): Welcome {
  const reader = begin(bytes, 'Welcome', MAX_WELCOME_BYTES);
  const tokenRequired = flag(reader, 'Welcome');
  const nonce = reader.raw(NONCE_BYTES);
  const chunkBytes = chunkSize(reader.u64(), 'Welcome', false);
  const freeChunks = reader.u32();
  const messageBytes = messageSize(reader.u16(), 'Welcome');
  end(reader, 'Welcome');
  return { tokenRequired, nonce, chunkBytes, freeChunks, messageBytes };
}

/**
 * A refusal is read whatever its version says: wrongVersion comes from the other one. @throws WireError: the reject was
 * not a donor's own
 */
export function decodeRefusal(bytes: Uint8Array): Refusal {
  const reader = new Reader(bytes, 'Refusal');
  if (bytes.byteLength > MAX_REFUSAL_BYTES)
    throw new WireError(`Refusal: ${bytes.byteLength} bytes are more than private data can be`);
  if (reader.u32() !== MAGIC) throw new WireError('Refusal: it does not begin with LEAP');
  reader.u16();
  const code = refusalCode(reader.u16(), 'Refusal');
  const text = reader.text(reader.u16());
  reader.padding();
  return { code, text };
}

/** @throws WireError */
export function refusalCode(value: number, what: string): RefusalCode {
  const code = Object.values(RefusalCode).find((known) => known === value);
  if (code === undefined) throw new WireError(`${what}: there is no code ${value}`);
  return code;
}

function begin(bytes: Uint8Array, what: string, most: number): Reader {
  if (bytes.byteLength > most)
    throw new WireError(`${what}: ${bytes.byteLength} bytes are more than private data can be`);
  const reader = new Reader(bytes, what);
  if (reader.u32() !== MAGIC) throw new WireError(`${what}: it does not begin with LEAP`);
  const version = reader.u16();
  if (version !== WIRE_VERSION)
    throw new WireError(`${what}: version ${version}, and this is version ${WIRE_VERSION}`, RefusalCode.wrongVersion);
  return reader;
}

function end(reader: Reader, what: string): void {
  if (reader.u16() !== 0) throw new WireError(`${what}: its reserved field is not 0`);
  reader.padding();
}

function flag(reader: Reader, what: string): boolean {
  const flags = reader.u16();
  if (flags > 1) throw new WireError(`${what}: flags ${flags} are not known`);
  return flags === 1;
}

const isChunkSize = (bytes: bigint): boolean => bytes >= 4096n && bytes <= 1n << 40n && (bytes & (bytes - 1n)) === 0n;

function chunkSize(bytes: bigint, what: string, mayBeAny: boolean): bigint {
  if ((mayBeAny && bytes === 0n) || isChunkSize(bytes)) return bytes;
  throw new WireError(`${what}: ${bytes} bytes are no chunk size`, RefusalCode.wrongChunkSize);
}

function messageSize(bytes: number, what: string): number {
  if (bytes < LEAST_MESSAGE_BYTES)
    throw new WireError(`${what}: messages of ${bytes} bytes are too short, ${LEAST_MESSAGE_BYTES} is the least`);
  return bytes;
}
