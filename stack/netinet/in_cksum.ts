/** The Internet checksum (RFC 1071) over mbufs, and the pseudo-headers of IPv4 (RFC 768) and IPv6 (RFC 8200 §8.1). */

import type { Mbuf, MbufPool } from '../kern/mbuf.js';
import { M_NULL } from '../kern/mbuf.js';
import type { InAddr } from './in.js';

/** Bytes after which the running sum is folded, so that it stays a small integer. */
const FOLD_BYTES = 8192;

/** Folds carries into 16 bits. */
export function fold(sum: number): number {
  sum = (sum & 0xffff) + (sum >>> 16);
  return (sum & 0xffff) + (sum >>> 16);
}

/** Ones'-complement sum of n bytes at a region offset, taken as big-endian words and padded with zero; 0..0xffff. */
export function sumRange(dv: DataView, off: number, n: number): number {
  let sum = 0;
  const end = off + n;
  while (end - off >= 16) {
    const stop = Math.min(end, off + FOLD_BYTES) - 15;
    for (; off < stop; off += 16) {
      const a = dv.getInt32(off);
      const b = dv.getInt32(off + 4);
      const c = dv.getInt32(off + 8);
      const d = dv.getInt32(off + 12);
      sum +=
        (a >>> 16) + (a & 0xffff) + (b >>> 16) + (b & 0xffff) + (c >>> 16) + (c & 0xffff) + (d >>> 16) + (d & 0xffff);
    }
    sum = fold(sum);
  }
  for (; off + 1 < end; off += 2) sum += dv.getUint16(off);
  if (off < end) sum += dv.getUint8(off) << 8;
  return fold(sum);
}

/** Sum of n bytes from `skip` bytes into a chain; 0..0xffff. A chain that ends early counts as padded with zero. */
export function sumChain(
  pool: Pick<MbufPool, 'dv' | 'off' | 'len' | 'next'>,
  m: Mbuf,
  skip: number,
  n: number,
): number {
  let sum = 0;
  let done = 0;
  for (; m !== M_NULL && done < n; m = pool.next[m]!) {
    const len = pool.len[m]!;
    if (skip >= len) {
      skip -= len;
      continue;
    }
    const part = Math.min(len - skip, n - done);
    const s = sumRange(pool.dv, pool.off[m]! + skip, part);
    // A piece that begins at an odd byte of the packet contributes with its bytes swapped (RFC 1071 §2 (B)).
    sum += (done & 1) === 0 ? s : ((s & 0xff) << 8) | (s >>> 8);
    done += part;
    skip = 0;
  }
  return fold(sum);
}

/** Sum of an address's words. */
export function sumAddr(a: InAddr): number {
  const low = (a.w3 >>> 16) + (a.w3 & 0xffff);
  if (a.family === 4) return low;
  return low + (a.w0 >>> 16) + (a.w0 & 0xffff) + (a.w1 >>> 16) + (a.w1 & 0xffff) + (a.w2 >>> 16) + (a.w2 & 0xffff);
}

/** Sum of the pseudo-header of either family for an upper-layer packet of `len` bytes; 0..0xffff. */
export function sumPseudo(src: InAddr, dst: InAddr, proto: number, len: number): number {
  return fold(fold(sumAddr(src) + sumAddr(dst) + proto + (len >>> 16)) + (len & 0xffff));
}

/** The checksum field for a sum that includes everything but the field. */
export function finish(sum: number): number {
  return ~fold(sum) & 0xffff;
}
