/**
 * The proof that a peer knows the token, and the form of a token file. The token itself never crosses the wire: each
 * side sends a MAC over both nonces and its own role. It can neither be replayed in another connection nor sent back
 * as the other side's. Pure: src/host/authenticator.ts implements the cryptography.
 */
const LEAST_TOKEN_BYTES = 16;

/** Which side of a connection a MAC speaks for. */
export type Role = 'client' | 'donor';

/** Makes nonces and MACs. */
export interface Authenticator {
  /** @returns NONCE_BYTES random bytes */
  newNonce(): Uint8Array;
  /** @returns the MAC_BYTES bytes that `role` sends  @throws RangeError: a nonce is not NONCE_BYTES long */
  macOf(role: Role, token: Uint8Array, clientNonce: Uint8Array, donorNonce: Uint8Array): Uint8Array;
  /** Compares in constant time; a MAC of another length is wrong. */
  isMacOf(mac: Uint8Array, role: Role, token: Uint8Array, clientNonce: Uint8Array, donorNonce: Uint8Array): boolean;
}

/**
 * The token in a file's text, without the white space around it.
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
