/**
 * Proof that a peer knows the token, without the token on the wire: each side's MAC covers both nonces and its own role, so it can neither be
 * replayed in another connection nor sent back as the other side's.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { NONCE_BYTES } from './handshake.js';
import { MAC_BYTES } from './messages.js';

const LEAST_TOKEN_BYTES = 16;

export type Role = 'client' | 'donor';

const roleWord: Readonly<Record<Role, string>> = { client: 'leap client 1', donor: 'leap donor 1' };

export const newNonce = (): Uint8Array => new Uint8Array(randomBytes(NONCE_BYTES));

export function macOf(role: Role, token: Uint8Array, clientNonce: Uint8Array, donorNonce: Uint8Array): Uint8Array {
  if (clientNonce.byteLength !== NONCE_BYTES || donorNonce.byteLength !== NONCE_BYTES)
    throw new RangeError(`a nonce has ${NONCE_BYTES} bytes`);
  return new Uint8Array(
    createHmac('sha256', token).update(roleWord[role]).update(clientNonce).update(donorNonce).digest(),
  );
}

export function isMacOf(
  mac: Uint8Array,
  role: Role,
  token: Uint8Array,
  clientNonce: Uint8Array,
  donorNonce: Uint8Array,
): boolean {
  return mac.byteLength === MAC_BYTES && timingSafeEqual(mac, macOf(role, token, clientNonce, donorNonce));
}

/**
 * The token in a file's text: blanks around it do not count.
 * @param mode permission bits of the file
 * @returns the token, or what is wrong with it, as the end of a sentence that begins with the file's name
 */
export function tokenFrom(
  text: string,
  mode: number,
): { readonly token: Uint8Array } | { readonly problem: string; readonly remedy: string } {
  if ((mode & 0o077) !== 0) {
    return {
      problem: `may be read or written by others (mode ${(mode & 0o777).toString(8)})`,
      remedy: 'chmod 600 it, and make a new token',
    };
  }
  const token = new TextEncoder().encode(text.trim());
  if (token.byteLength >= LEAST_TOKEN_BYTES) return { token };
  return {
    problem: `holds a token of ${token.byteLength} bytes, and ${LEAST_TOKEN_BYTES} is the least`,
    remedy: 'make one with: head -c 32 /dev/urandom | base64',
  };
}
