/**
 * The messages between a client and a donor once they are connected, version 1; docs/wire.md has the byte tables and
 * the sequences. Control plane only: pages are read and written one-sided. Pure: bytes to values and back, everything
 * checked.
 */
import { Reader, Writer } from './bytes.js';
import { refusalCode } from './handshake.js';
import { WireError, type RefusalCode } from './wire-error.js';

export { RefusalCode, WireError } from './wire-error.js';
export * from './handshake.js';

export const MAC_BYTES = 32;
const HEADER_BYTES = 8;
const MAX_MESSAGE_BYTES = 0xffff;

export const MessageType = {
  auth: 1,
  authenticated: 2,
  refused: 3,
  query: 4,
  free: 5,
  bind: 6,
  bound: 7,
  noRoom: 8,
  release: 9,
  released: 10,
  evict: 11,
  activity: 12,
  stop: 13,
  done: 14,
} as const;

export type MessageName = keyof typeof MessageType;

export interface ChunkActivity {
  readonly donorChunk: number;
  /** Higher: used more. */
  readonly activity: number;
}

/** `request` is chosen by who asks, and stands in the answer. */
interface Numbered {
  readonly request: number;
}

export type Message = Numbered &
  (
    | { readonly type: 'auth' | 'authenticated'; readonly mac: Uint8Array }
    | { readonly type: 'refused'; readonly code: RefusalCode; readonly text: string }
    | { readonly type: 'query' }
    | { readonly type: 'free'; readonly freeChunks: number; readonly freeBytes: bigint }
    | { readonly type: 'bind' | 'noRoom'; readonly sessionChunk: number }
    | {
        readonly type: 'bound';
        readonly sessionChunk: number;
        readonly donorChunk: number;
        readonly rkey: number;
        readonly address: bigint;
      }
    | { readonly type: 'release' | 'released'; readonly donorChunk: number }
    | { readonly type: 'evict'; readonly chunks: number }
    | { readonly type: 'activity'; readonly activities: readonly ChunkActivity[] }
    | { readonly type: 'stop' | 'done'; readonly donorChunks: readonly number[] }
  );

/** How many chunks one message of so many bytes can name. */
export const mostActivities = (messageBytes: number): number => Math.floor((messageBytes - HEADER_BYTES) / 8);
export const mostChunks = (messageBytes: number): number => Math.floor((messageBytes - HEADER_BYTES) / 4);

/** @param messageBytes the longest message that the peer takes  @throws RangeError: the message is longer */
export function encodeMessage(message: Message, messageBytes = MAX_MESSAGE_BYTES): Uint8Array {
  const body = encodeBody(message, messageBytes);
  const length = HEADER_BYTES + body.length;
  if (length > messageBytes)
    throw new RangeError(`${message.type}: ${length} bytes, and messages hold ${messageBytes}`);
  return new Writer()
    .u16(MessageType[message.type])
    .u16(length)
    .u32(message.request)
    .raw(body.bytes(), body.length)
    .bytes();
}

/** What follows the header. The text of a refusal is cut to what `messageBytes` leave. */
function encodeBody(message: Message, messageBytes: number): Writer {
  const body = new Writer();
  switch (message.type) {
    case 'auth':
    case 'authenticated':
      return body.raw(message.mac, MAC_BYTES);
    case 'refused': {
      const text = Writer.text(message.text, Math.min(messageBytes, MAX_MESSAGE_BYTES) - HEADER_BYTES - 4);
      return body.u16(message.code).u16(text.byteLength).raw(text, text.byteLength);
    }
    case 'query':
      return body;
    case 'free':
      return body.u32(message.freeChunks).u64(message.freeBytes);
    case 'bind':
    case 'noRoom':
      return body.u32(message.sessionChunk);
    case 'bound':
      return body.u32(message.sessionChunk).u32(message.donorChunk).u32(message.rkey).u64(message.address);
    case 'release':
    case 'released':
      return body.u32(message.donorChunk);
    case 'evict':
      return body.u32(message.chunks);
    case 'activity':
      for (const { donorChunk, activity } of message.activities) body.u32(donorChunk).u32(activity);
      return body;
    case 'stop':
    case 'done':
      for (const donorChunk of message.donorChunks) body.u32(donorChunk);
      return body;
  }
}

const names = new Map<number, MessageName>(
  Object.entries(MessageType).map(([name, value]) => [value, name as MessageName]),
);

/** @throws WireError */
export function decodeMessage(bytes: Uint8Array): Message {
  const header = new Reader(bytes, 'message');
  const number = header.u16();
  const type = names.get(number);
  if (type === undefined) throw new WireError(`message: there is no type ${number}`);
  const length = header.u16();
  const request = header.u32();
  if (length !== bytes.byteLength) throw new WireError(`${type}: it says ${length} bytes and has ${bytes.byteLength}`);
  const reader = new Reader(bytes.subarray(HEADER_BYTES), type);
  const message: Message = { request, ...decodeBody(type, reader) };
  reader.end();
  return message;
}

type Body = Message extends infer Each ? (Each extends Message ? Omit<Each, 'request'> : never) : never;

function decodeBody(type: MessageName, reader: Reader): Body {
  switch (type) {
    case 'auth':
    case 'authenticated':
      return { type, mac: reader.raw(MAC_BYTES) };
    case 'refused':
      return { type, code: refusalCode(reader.u16(), type), text: reader.text(reader.u16()) };
    case 'query':
      return { type };
    case 'free':
      return { type, freeChunks: reader.u32(), freeBytes: reader.u64() };
    case 'bind':
    case 'noRoom':
      return { type, sessionChunk: reader.u32() };
    case 'bound':
      return { type, sessionChunk: reader.u32(), donorChunk: reader.u32(), rkey: reader.u32(), address: reader.u64() };
    case 'release':
    case 'released':
      return { type, donorChunk: reader.u32() };
    case 'evict':
      return { type, chunks: reader.u32() };
    case 'activity':
      return { type, activities: list(reader, 8, () => ({ donorChunk: reader.u32(), activity: reader.u32() })) };
    case 'stop':
    case 'done':
      return { type, donorChunks: list(reader, 4, () => reader.u32()) };
  }
}

/** What is left, cut into items; a broken last one is too short, and an error. */
function list<Item>(reader: Reader, itemBytes: number, read: () => Item): Item[] {
  return Array.from({ length: Math.ceil(reader.rest / itemBytes) }, read);
}
