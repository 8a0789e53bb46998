import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tokenFrom } from '../../src/donors/wire/auth.js';
import { isMacOf, macOf, newNonce } from '../../src/host/authenticator.js';
import {
  decodeLegacy,
  encodeLegacy,
  LEGACY_BYTES,
  LegacyType,
  type LegacyMessage,
  type LegacyName,
} from '../../src/donors/wire/legacy.js';
import {
  decodeHello,
  decodeMessage,
  decodeRefusal,
  decodeWelcome,
  encodeHello,
  encodeMessage,
  encodeRefusal,
  encodeWelcome,
  MAX_HELLO_BYTES,
  MAX_REFUSAL_BYTES,
  MAX_WELCOME_BYTES,
  MessageType,
  mostActivities,
  mostChunks,
  RefusalCode,
  WireError,
  type Message,
} from '../../src/donors/wire/messages.js';
import { Rng } from './rng.js';

const nonce = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
const mac = Uint8Array.from({ length: 32 }, (_, i) => 255 - i);
const hello = { hasToken: true, nonce, messageBytes: 4096, chunkBytes: 1n << 30n };
const welcome = { tokenRequired: true, nonce, chunkBytes: 1n << 22n, freeChunks: 7, messageBytes: 4096 };

const messages: Message[] = [
  { type: 'auth', request: 1, mac },
  { type: 'authenticated', request: 1, mac },
  { type: 'refused', request: 0xffffffff, code: RefusalCode.full, text: 'voll: ä' },
  { type: 'query', request: 2 },
  { type: 'free', request: 2, freeChunks: 5, freeBytes: 5n << 30n },
  { type: 'bind', request: 3, sessionChunk: 9 },
  { type: 'noRoom', request: 3, sessionChunk: 9 },
  { type: 'bound', request: 3, sessionChunk: 9, donorChunk: 4, rkey: 0xfffffffe, address: 0xfedcba9876543210n },
  { type: 'release', request: 4, donorChunk: 4 },
  { type: 'released', request: 4, donorChunk: 4 },
  { type: 'evict', request: 5, chunks: 2 },
  {
    type: 'activity',
    request: 5,
    activities: [
      { donorChunk: 4, activity: 100 },
      { donorChunk: 6, activity: 0xffffffff },
    ],
  },
  { type: 'activity', request: 5, activities: [] },
  { type: 'stop', request: 6, donorChunks: [6, 7] },
  { type: 'stop', request: 6, donorChunks: [] },
  { type: 'done', request: 6, donorChunks: [6] },
];

const padded = (bytes: Uint8Array, length: number): Uint8Array => {
  const result = new Uint8Array(length);
  result.set(bytes);
  return result;
};
const changed = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
  const result = bytes.slice();
  result[at] = value;
  return result;
};
const refused = (code: number, pattern: RegExp) => (error: unknown) =>
  error instanceof WireError && error.code === code && pattern.test(error.message) && !error.message.includes('\n');

test('each message comes back as it was', () => {
  for (const message of messages) assert.deepEqual(decodeMessage(encodeMessage(message)), message);
  assert.deepEqual(new Set(messages.map(({ type }) => type)), new Set(Object.keys(MessageType)));
});

test('the bytes are those of docs/wire.md', () => {
  const bound = encodeMessage({
    type: 'bound',
    request: 0x01020304,
    sessionChunk: 1,
    donorChunk: 2,
    rkey: 0xaabbccdd,
    address: 0x1122334455667788n,
  });
  assert.equal(
    Buffer.from(bound).toString('hex'),
    '07001c0004030201' + '01000000' + '02000000' + 'ddccbbaa' + '8877665544332211',
  );
  const bytes = encodeHello(hello);
  const begin = '4c454150' + '0100' + '0100';
  assert.equal(
    Buffer.from(bytes).toString('hex'),
    begin + Buffer.from(nonce).toString('hex') + '0000004000000000' + '0010' + '0000',
  );
});

test('private data comes back, also padded by the connection manager', () => {
  assert.deepEqual(decodeHello(encodeHello(hello)), hello);
  assert.deepEqual(decodeHello(padded(encodeHello(hello), MAX_HELLO_BYTES)), hello);
  assert.deepEqual(decodeHello(encodeHello({ ...hello, chunkBytes: 0n })).chunkBytes, 0n);
  assert.deepEqual(decodeWelcome(padded(encodeWelcome(welcome), MAX_WELCOME_BYTES)), welcome);
  const refusal = { code: RefusalCode.tokenWrong, text: 'no' };
  assert.deepEqual(decodeRefusal(padded(encodeRefusal(refusal), MAX_REFUSAL_BYTES)), refusal);
  const long = encodeRefusal({ code: RefusalCode.full, text: 'ä'.repeat(500) });
  assert.equal(long.byteLength, MAX_REFUSAL_BYTES);
  assert.equal(decodeRefusal(long).text, 'ä'.repeat(69));
});

test('a truncated or lengthened message is refused at every length', () => {
  for (const message of messages) {
    const bytes = encodeMessage(message);
    for (let length = 0; length < bytes.byteLength; length++)
      assert.throws(() => decodeMessage(bytes.subarray(0, length)), WireError);
    assert.throws(() => decodeMessage(padded(bytes, bytes.byteLength + 1)), WireError);
    // With a header that lies about the length too: only what still is a whole list is read.
    for (let length = 8; length < bytes.byteLength; length++) {
      const cut = changed(bytes.slice(0, length), 2, length);
      cut[3] = 0;
      const isList =
        (message.type === 'activity' && (length - 8) % 8 === 0) ||
        (['stop', 'done'].includes(message.type) && (length - 8) % 4 === 0);
      if (isList) assert.equal(decodeMessage(cut).type, message.type);
      else assert.throws(() => decodeMessage(cut), refused(RefusalCode.malformed, /too short/));
    }
  }
});

test('truncated private data is refused at every length', () => {
  for (const [bytes, decode] of [
    [encodeHello(hello), decodeHello],
    [encodeWelcome(welcome), decodeWelcome],
    [encodeRefusal({ code: RefusalCode.full, text: 'full' }), decodeRefusal],
  ] as const) {
    for (let length = 0; length < bytes.byteLength; length++)
      assert.throws(() => decode(bytes.subarray(0, length)), WireError);
    assert.throws(() => decode(padded(bytes, 197)), WireError);
    assert.throws(
      () => decode(changed(padded(bytes, bytes.byteLength + 1), bytes.byteLength, 1)),
      refused(RefusalCode.malformed, /too long/),
    );
    assert.throws(() => decode(changed(bytes, 0, 0)), refused(RefusalCode.malformed, /LEAP/));
  }
});

test('what is wrong with a Hello decides the answer', () => {
  const bytes = encodeHello(hello);
  assert.throws(() => decodeHello(changed(bytes, 4, 2)), refused(RefusalCode.wrongVersion, /version 2/));
  assert.throws(() => decodeHello(changed(bytes, 6, 2)), refused(RefusalCode.malformed, /flags/));
  assert.throws(() => decodeHello(changed(bytes, 24, 1)), refused(RefusalCode.wrongChunkSize, /chunk size/));
  assert.throws(() => decodeHello(changed(bytes, 33, 0)), refused(RefusalCode.malformed, /too short/));
  assert.throws(() => decodeHello(changed(bytes, 34, 1)), refused(RefusalCode.malformed, /reserved/));
  assert.throws(
    () => decodeWelcome(encodeWelcome({ ...welcome, chunkBytes: 0n })),
    refused(RefusalCode.wrongChunkSize, /chunk size/),
  );
  assert.throws(
    () => decodeRefusal(changed(encodeRefusal({ code: 4, text: '' }), 6, 99)),
    refused(RefusalCode.malformed, /no code 99/),
  );
});

test('garbage is refused or read, and nothing else', () => {
  const rng = new Rng(7);
  const decoders = [decodeHello, decodeWelcome, decodeRefusal, decodeMessage, decodeLegacy];
  for (let round = 0; round < 20_000; round++) {
    const bytes = Uint8Array.from({ length: rng.below(64) }, () => rng.below(256));
    // a header that is right
    if (round % 2 === 0 && bytes.byteLength >= 8) bytes.set([rng.below(16), 0, bytes.byteLength, 0]);
    for (const decode of decoders) {
      try {
        decode(bytes);
      } catch (error) {
        assert.ok(error instanceof WireError, String(error));
      }
    }
  }
});

test('text of a peer cannot break a log', () => {
  const bytes = encodeMessage({ type: 'refused', request: 1, code: RefusalCode.full, text: 'a\nb\u001b[2J' });
  assert.equal((decodeMessage(bytes) as { text: string }).text, 'a b [2J');
  assert.throws(() => decodeMessage(changed(bytes, 12, 0xff)), refused(RefusalCode.malformed, /UTF-8/));
});

test('what does not fit is a bug of the sender', () => {
  assert.throws(() => encodeMessage({ type: 'bind', request: 1, sessionChunk: -1 }), RangeError);
  assert.throws(() => encodeMessage({ type: 'bind', request: 2 ** 32, sessionChunk: 1 }), RangeError);
  assert.throws(() => encodeMessage({ type: 'auth', request: 1, mac: nonce }), RangeError);
  const most = mostChunks(64);
  const chunks = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
  assert.equal(encodeMessage({ type: 'stop', request: 1, donorChunks: chunks(most) }, 64).byteLength, 64);
  assert.throws(() => encodeMessage({ type: 'stop', request: 1, donorChunks: chunks(most + 1) }, 64), RangeError);
  assert.equal(mostActivities(64), 7);
});

test('original messages, byte by byte', () => {
  const info: LegacyMessage = {
    type: 'infoSingle',
    size: 5,
    entries: [{ donorChunk: 2, buf: 0x1122334455667788n, rkey: 0xaabbccdd }],
  };
  const bytes = encodeLegacy(info);
  assert.equal(bytes.byteLength, LEGACY_BYTES);
  assert.equal(Buffer.from(bytes.subarray(16, 24)).toString('hex'), '1122334455667788');
  assert.equal(Buffer.from(bytes.subarray(256 + 8, 256 + 12)).toString('hex'), 'aabbccdd');
  assert.equal(Buffer.from(bytes.subarray(384)).toString('hex'), '0500000003000000');
  assert.deepEqual(decodeLegacy(bytes), info);
  for (const type of Object.keys(LegacyType) as LegacyName[]) {
    const message: LegacyMessage = {
      type,
      size: 1,
      entries: [
        { donorChunk: 0, buf: 3n, rkey: 0 },
        { donorChunk: 31, buf: 0n, rkey: 1 },
      ],
    };
    assert.deepEqual(decodeLegacy(encodeLegacy(message)), message);
  }
  for (let length = 0; length < LEGACY_BYTES; length++)
    assert.throws(() => decodeLegacy(bytes.subarray(0, length)), WireError);
  assert.throws(() => decodeLegacy(padded(bytes, LEGACY_BYTES + 1)), WireError);
  assert.throws(() => decodeLegacy(changed(bytes, 388, 11)), refused(RefusalCode.malformed, /no type 11/));
  assert.throws(() => decodeLegacy(changed(bytes, 387, 0x80)), refused(RefusalCode.malformed, /size/));
  const overdrawn = encodeLegacy({ type: 'freeSize', size: -3, entries: [] });
  assert.deepEqual(
    decodeLegacy(overdrawn),
    { type: 'freeSize', size: 0, entries: [] },
    'less free than its host needs',
  );
  assert.throws(() => encodeLegacy({ ...info, entries: [{ donorChunk: 32, buf: 1n, rkey: 1 }] }), RangeError);
});

test('a MAC proves the token, for one role and one pair of nonces', () => {
  const token = new TextEncoder().encode('a token of enough bytes');
  const other = newNonce();
  const mine = macOf('client', token, nonce, other);
  assert.ok(isMacOf(mine, 'client', token, nonce, other));
  assert.ok(!isMacOf(mine, 'donor', token, nonce, other)); // sent back
  assert.ok(!isMacOf(mine, 'client', token, other, nonce));
  assert.ok(!isMacOf(mine, 'client', token, nonce, newNonce())); // another connection
  assert.ok(!isMacOf(mine, 'client', new TextEncoder().encode('another token of length'), nonce, other));
  assert.ok(!isMacOf(mine.subarray(0, 31), 'client', token, nonce, other));
  assert.notDeepEqual(newNonce(), newNonce());
});

test('a token file is ours alone and long enough', () => {
  assert.deepEqual(tokenFrom(' 0123456789abcdef \n', 0o100600), {
    token: new TextEncoder().encode('0123456789abcdef'),
  });
  assert.match((tokenFrom('0123456789abcde', 0o600) as { problem: string }).problem, /15 bytes/);
  for (const mode of [0o640, 0o604, 0o620, 0o601])
    assert.match((tokenFrom('0123456789abcdef', mode) as { problem: string }).problem, /others/);
});
