/**
 * Copies between byte arrays on the data path (bcopy). The methods of typed arrays stand far up their prototype chain, where
 * V8's optimizer does not reach them: taken from there once, a call goes straight to the copying.
 */

const { copyWithin, set } = Uint8Array.prototype;

/** Copies n bytes from `from` to `to` within one array; the ranges may overlap. */
export function bcopy(u8: Uint8Array, from: number, to: number, n: number): void {
  copyWithin.call(u8, to, from, from + n);
}

/** Copies all of `bytes` to `at` in another array. RangeError when they do not fit. */
export function bcopyin(u8: Uint8Array, at: number, bytes: Uint8Array): void {
  set.call(u8, bytes, at);
}
