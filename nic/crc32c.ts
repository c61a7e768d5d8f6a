/**
 * CRC32c of SCTP packets (RFC 9260 §6.8, Appendix A): tables in TypeScript, and batch helpers that use the C module's
 * instruction when it is there.
 *
 * The checksum field (bytes 8..11 of the common header) counts as zero; it is sent lowest byte of the reflected CRC first.
 */
import { native } from './native.js';

/** SCTP common header, RFC 9260 §3.1. */
export const SCTP_HEADER = 12;
const CHECKSUM_AT = 8;

// Slicing by eight: TABLE[t * 256 + b] is the CRC of byte b followed by t zero bytes. Castagnoli polynomial, reflected.
const TABLE = new Int32Array(8 * 256);
for (let i = 0; i < 256; i++) {
  let c = i;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0x82f63b78 ^ (c >>> 1) : c >>> 1;
  TABLE[i] = c;
}
for (let i = 256; i < 2048; i++) {
  const c = TABLE[i - 256]!;
  TABLE[i] = TABLE[c & 255]! ^ (c >>> 8);
}

/** The CRC register after bytes [off, end); starts at -1, is complemented at the end. */
function run(crc: number, u8: Uint8Array, off: number, end: number): number {
  const t = TABLE;
  let c = crc;
  let i = off;
  for (; i + 8 <= end; i += 8) {
    c ^= u8[i]! | (u8[i + 1]! << 8) | (u8[i + 2]! << 16) | (u8[i + 3]! << 24);
    c =
      t[1792 + (c & 255)]! ^
      t[1536 + ((c >>> 8) & 255)]! ^
      t[1280 + ((c >>> 16) & 255)]! ^
      t[1024 + (c >>> 24)]! ^
      t[768 + u8[i + 4]!]! ^
      t[512 + u8[i + 5]!]! ^
      t[256 + u8[i + 6]!]! ^
      t[u8[i + 7]!]!;
  }
  for (; i < end; i++) c = t[(c ^ u8[i]!) & 255]! ^ (c >>> 8);
  return c;
}

/** CRC32c of `len` bytes at `off`, unsigned ("123456789" gives 0xe3069283). */
export function crc32c(u8: Uint8Array, off: number, len: number): number {
  return ~run(-1, u8, off, off + len) >>> 0;
}

/** CRC32c of the SCTP packet at `off` with its checksum field taken as zero. */
export function sctpCrc(u8: Uint8Array, off: number, len: number): number {
  let c = run(-1, u8, off, off + CHECKSUM_AT);
  for (let i = 0; i < 4; i++) c = TABLE[c & 255]! ^ (c >>> 8);
  return ~run(c, u8, off + SCTP_HEADER, off + len) >>> 0;
}

/** Fills in the checksum of the SCTP packet at `off`. Returns false, and writes nothing, when it is no whole header. */
export function sctpFill(u8: Uint8Array, off: number, len: number): boolean {
  if (len < SCTP_HEADER) return false;
  const c = sctpCrc(u8, off, len);
  u8[off + 8] = c;
  u8[off + 9] = c >>> 8;
  u8[off + 10] = c >>> 16;
  u8[off + 11] = c >>> 24;
  return true;
}

/** True when the SCTP packet at `off` carries the right checksum. */
export function sctpCheck(u8: Uint8Array, off: number, len: number): boolean {
  if (len < SCTP_HEADER) return false;
  const at = off + CHECKSUM_AT;
  const stored = u8[at]! | (u8[at + 1]! << 8) | (u8[at + 2]! << 16) | (u8[at + 3]! << 24);
  return stored === (sctpCrc(u8, off, len) | 0);
}

/** A call of the C module costs more than the tables need for so many bytes. */
const SMALL = 256;

const isSmall = (len: Int32Array, count: number): boolean => count === 1 && len[0]! <= SMALL;

/**
 * Fills in the checksum of every SCTP packet of entries [0, count). Entry i is [off[i], off[i]+len[i]); its first hdrlen[i]
 * bytes are headers in front of SCTP; the rest is one packet, or, when segsz[i] > 0, several of segsz[i] bytes each.
 */
export function sctpFillBatch(
  u8: Uint8Array,
  off: Int32Array,
  len: Int32Array,
  segsz: Int32Array,
  hdrlen: Int32Array,
  count: number,
): void {
  if (native !== undefined && !isSmall(len, count)) {
    native.crc32cFill(u8, off, len, segsz, hdrlen, count);
    return;
  }
  for (let i = 0; i < count; i++) {
    const end = off[i]! + len[i]!;
    const step = segsz[i]! || len[i]!;
    for (let at = off[i]! + hdrlen[i]!; at < end; at += step) sctpFill(u8, at, Math.min(step, end - at));
  }
}

/** Checks likewise: bad[i] = how many SCTP packets of entry i carry a wrong checksum (an empty entry has one). */
export function sctpCheckBatch(
  u8: Uint8Array,
  off: Int32Array,
  len: Int32Array,
  segsz: Int32Array,
  hdrlen: Int32Array,
  count: number,
  bad: Int32Array,
): void {
  if (native !== undefined && !isSmall(len, count)) {
    native.crc32cCheck(u8, off, len, segsz, hdrlen, count, bad);
    return;
  }
  sctpCheckBatchSoft(u8, off, len, segsz, hdrlen, count, bad);
}

/** The same without the C module. */
export function sctpCheckBatchSoft(
  u8: Uint8Array,
  off: Int32Array,
  len: Int32Array,
  segsz: Int32Array,
  hdrlen: Int32Array,
  count: number,
  bad: Int32Array,
): void {
  for (let i = 0; i < count; i++) {
    const end = off[i]! + len[i]!;
    const step = segsz[i]! || len[i]!;
    let at = off[i]! + hdrlen[i]!;
    let wrong = at >= end && segsz[i] === 0 ? 1 : 0;
    for (; at < end; at += step) if (!sctpCheck(u8, at, Math.min(step, end - at))) wrong++;
    bad[i] = wrong;
  }
}
