/** The one way in which tables of numbers grow. */

/** @returns a copy of `old` with room for `length` numbers; the new ones are 0. Allocates: control plane only */
export function widened<T extends Uint8Array | Int32Array | Float64Array>(old: T, length: number): T {
  const wider = new (old.constructor as new (length: number) => T)(length);
  wider.set(old);
  return wider;
}
