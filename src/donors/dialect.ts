/**
 * How messages are put on the wire: our own way, or the original's. A donor that answers a connection without private
 * data speaks the original's.
 */
import { decodeLegacy, encodeLegacy, type LegacyMessage } from './wire/legacy.js';
import { decodeMessage, encodeMessage, type Message, WireError } from './wire/messages.js';

export interface Dialect {
  readonly name: 'leap' | 'original';
  /** @returns undefined for what this dialect has no word for */
  encode(message: Message): Uint8Array | undefined;
  /** @throws WireError */
  decode(bytes: Uint8Array): Message;
}

export const leapDialect = (messageBytes: number): Dialect => ({
  name: 'leap',
  encode: (message) => encodeMessage(message, messageBytes),
  decode: decodeMessage,
});

const GIB_SHIFT = 30n;

/** What a client of the original says, as our own messages. */
export const originalDialect: Dialect = {
  name: 'original',
  encode(message) {
    const legacy = toOriginal(message);
    return legacy && encodeLegacy(legacy);
  },
  decode(bytes) {
    return fromOriginal(decodeLegacy(bytes));
  },
};

function toOriginal(message: Message): LegacyMessage | undefined {
  switch (message.type) {
    case 'query':
      return { type: 'query', size: 0, entries: [] };
    case 'bind':
      return { type: 'bindSingle', size: message.sessionChunk, entries: [] };
    case 'activity':
      return {
        type: 'activity',
        size: message.activities.length,
        entries: message.activities.map(({ donorChunk, activity }) => ({
          donorChunk,
          buf: BigInt(activity) + 1n,
          rkey: 0,
        })),
      };
    case 'done':
      return {
        type: 'done',
        size: message.donorChunks.length,
        entries: message.donorChunks.map((donorChunk) => ({ donorChunk, buf: 0n, rkey: 1 })),
      };
    default:
      return undefined; // it has no way to give a chunk back but to go
  }
}

function fromOriginal({ type, size, entries }: LegacyMessage): Message {
  const request = 0;
  switch (type) {
    case 'freeSize':
      return { request, type: 'free', freeChunks: size, freeBytes: BigInt(size) << GIB_SHIFT };
    case 'infoSingle': {
      // The original clears the keys before each answer, but not the addresses: those of chunks given before still
      // stand.
      const given = entries.find(({ rkey }) => rkey !== 0);
      if (given === undefined) return { request, type: 'noRoom', sessionChunk: size };
      return {
        request,
        type: 'bound',
        sessionChunk: size,
        donorChunk: given.donorChunk,
        rkey: given.rkey,
        address: given.buf,
      };
    }
    case 'evict':
      return { request, type: 'evict', chunks: size };
    case 'stop':
      return {
        request,
        type: 'stop',
        donorChunks: entries.filter(({ rkey }) => rkey !== 0).map(({ donorChunk }) => donorChunk),
      };
    default:
      throw new WireError(`original message: a donor does not send ${type}`);
  }
}
