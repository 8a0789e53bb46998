/**
 * HMAC-SHA-256 proofs that a peer knows the token, made with OpenSSL; src/donors/wire/auth.ts says what they protect.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Authenticator, Role } from '../donors/wire/auth.js';
import { MAC_BYTES, NONCE_BYTES } from '../donors/wire/messages.js';

const roleWord: Readonly<Record<Role, string>> = { client: 'leap client 1', donor: 'leap donor 1' };

export const newNonce: Authenticator['newNonce'] = () => new Uint8Array(randomBytes(NONCE_BYTES));

export const macOf: Authenticator['macOf'] = (role, token, clientNonce, donorNonce) => {
  if (clientNonce.byteLength !== NONCE_BYTES || donorNonce.byteLength !== NONCE_BYTES)
    throw new RangeError(`a nonce has ${NONCE_BYTES} bytes`);
  return new Uint8Array(
    createHmac('sha256', token).update(roleWord[role]).update(clientNonce).update(donorNonce).digest(),
  );
};

export const isMacOf: Authenticator['isMacOf'] = (mac, ...proof) =>
  mac.byteLength === MAC_BYTES && timingSafeEqual(mac, macOf(...proof));

export const authenticator: Authenticator = { newNonce, macOf, isMacOf };
