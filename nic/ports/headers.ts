/**
 * Headers that a port reads or writes itself: IPv4 (RFC 791), IPv6 (RFC 8200) and UDP (RFC 768) around SCTP (RFC 6951),
 * and the cutting of a train into the single packets that it stands for.
 */
import { SCTP_HEADER, sctpFill } from '../crc32c.js';
import { native } from '../native.js';
import type { PortAddress } from './address.js';
import type { Batch, PortCapabilities } from './port.js';

export const IP4_HEADER = 20;
export const IP6_HEADER = 40;
export const UDP_HEADER = 8;
const PROTO_UDP = 17;
const PROTO_SCTP = 132;
const TTL = 64;

const u16 = (u8: Uint8Array, at: number) => (u8[at]! << 8) | u8[at + 1]!;
const u32 = (u8: Uint8Array, at: number) => (u8[at]! << 24) | (u8[at + 1]! << 16) | (u8[at + 2]! << 8) | u8[at + 3]!;

function put16(u8: Uint8Array, at: number, v: number): void {
  u8[at] = v >>> 8;
  u8[at + 1] = v;
}
function put32(u8: Uint8Array, at: number, v: number): void {
  u8[at] = v >>> 24;
  u8[at + 1] = v >>> 16;
  u8[at + 2] = v >>> 8;
  u8[at + 3] = v;
}

export const FRAME_OK = 0;
export const FRAME_UNSUPPORTED = 1; // not UDP, another family or source, a fragment, extension headers
export const FRAME_BROKEN = 2; // lengths that contradict each other

/**
 * Strips and writes the IP and UDP headers of one bound socket. `parse` leaves its findings in the public fields, so that a
 * batch costs no objects.
 */
export class UdpFraming {
  readonly family: 4 | 6;
  /** IP and UDP header bytes that `write` puts in front. */
  readonly header: number;
  readonly #local: Int32Array;
  port: number;

  // What parse found.
  payload = 0; // byte offset of the UDP payload
  length = 0; // its length in bytes
  remotePort = 0;
  tos = 0;
  w0 = 0;
  w1 = 0;
  w2 = 0;
  w3 = 0;

  constructor(local: PortAddress, port: number) {
    this.family = local.family;
    this.header = (local.family === 4 ? IP4_HEADER : IP6_HEADER) + UDP_HEADER;
    this.#local = local.w;
    this.port = port;
  }

  /** Reads the headers of entry i. A train's own IP and UDP lengths are not looked at: its length is the batch's. */
  parse(u8: Uint8Array, batch: Batch, i: number): number {
    const off = batch.off[i]!;
    const len = batch.len[i]!;
    if (off < 0 || len < IP4_HEADER + UDP_HEADER || off + len > u8.length) return FRAME_BROKEN;
    const version = u8[off]! >>> 4;
    if (version !== this.family) return FRAME_UNSUPPORTED;
    const l4 = version === 4 ? this.#parse4(u8, off, len) : this.#parse6(u8, off, len);
    if (l4 < 0) return -l4;
    const end = batch.segsz[i]! > 0 ? off + len : this.#end;
    if (u16(u8, l4) !== this.port || (this.remotePort = u16(u8, l4 + 2)) === 0) return FRAME_UNSUPPORTED;
    this.payload = l4 + UDP_HEADER;
    if (batch.segsz[i]! > 0) {
      if (batch.hdrlen[i] !== this.payload - off || this.payload >= end) return FRAME_BROKEN;
      this.length = end - this.payload;
    } else {
      const n = u16(u8, l4 + 4);
      if (n < UDP_HEADER || l4 + n > end) return FRAME_BROKEN;
      this.length = n - UDP_HEADER;
    }
    return FRAME_OK;
  }

  #end = 0; // end of the IP packet by its own length field

  /** Offset of the UDP header, or minus a FRAME code. */
  #parse4(u8: Uint8Array, off: number, len: number): number {
    const ihl = (u8[off]! & 15) * 4;
    const total = u16(u8, off + 2);
    if (ihl < IP4_HEADER || ihl + UDP_HEADER > len) return -FRAME_BROKEN;
    if (u8[off + 9] !== PROTO_UDP || (u16(u8, off + 6) & 0x3fff) !== 0) return -FRAME_UNSUPPORTED;
    this.#end = off + total;
    if (total > len) this.#end = off; // a single packet's own length is believed only when it fits
    if (u32(u8, off + 12) !== this.#local[3]) return -FRAME_UNSUPPORTED;
    this.tos = u8[off + 1]!;
    this.w0 = 0;
    this.w1 = 0;
    this.w2 = 0xffff;
    this.w3 = u32(u8, off + 16);
    return off + ihl;
  }

  #parse6(u8: Uint8Array, off: number, len: number): number {
    if (len < IP6_HEADER + UDP_HEADER) return -FRAME_BROKEN;
    if (u8[off + 6] !== PROTO_UDP) return -FRAME_UNSUPPORTED;
    const total = IP6_HEADER + u16(u8, off + 4);
    this.#end = total > len ? off : off + total;
    for (let w = 0; w < 4; w++) if (u32(u8, off + 8 + 4 * w) !== this.#local[w]) return -FRAME_UNSUPPORTED;
    this.tos = (u16(u8, off) >>> 4) & 255;
    this.w0 = u32(u8, off + 24);
    this.w1 = u32(u8, off + 28);
    this.w2 = u32(u8, off + 32);
    this.w3 = u32(u8, off + 36);
    return off + IP6_HEADER;
  }

  /**
   * Writes headers at `off` for a payload of `length` bytes that follows them: from the given remote address to the local
   * one. Checksums are zero (BATCH_L3_TRUSTED); a train's length fields are those of the whole.
   */
  write(
    u8: Uint8Array,
    off: number,
    length: number,
    tos: number,
    port: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
  ): void {
    const local = this.#local;
    let l4 = off + IP4_HEADER;
    if (this.family === 4) {
      put32(u8, off, 0x45000000 | (tos << 16) | (length + this.header));
      put32(u8, off + 4, 0x4000); // identification 0, DF (RFC 6864 §4)
      put32(u8, off + 8, (TTL << 24) | (PROTO_UDP << 16));
      put32(u8, off + 12, w3);
      put32(u8, off + 16, local[3]!);
    } else {
      l4 = off + IP6_HEADER;
      put32(u8, off, 0x60000000 | (tos << 20));
      put32(u8, off + 4, ((length + UDP_HEADER) << 16) | (PROTO_UDP << 8) | TTL);
      put32(u8, off + 8, w0);
      put32(u8, off + 12, w1);
      put32(u8, off + 16, w2);
      put32(u8, off + 20, w3);
      for (let w = 0; w < 4; w++) put32(u8, off + 24 + 4 * w, local[w]!);
    }
    put16(u8, l4, port);
    put16(u8, l4 + 2, this.port);
    put32(u8, l4 + 4, (length + UDP_HEADER) << 16);
  }
}

/** The ones' complement sum of RFC 1071 over [at, end), added to `sum`; not yet folded or complemented. */
export function sum16(u8: Uint8Array, at: number, end: number, sum: number): number {
  let s = sum;
  let i = at;
  for (; i + 1 < end; i += 2) s += (u8[i]! << 8) | u8[i + 1]!;
  if (i < end) s += u8[i]! << 8;
  return s;
}

/** Folds a sum to 16 bits and complements it. */
export function fold16(sum: number): number {
  let s = sum;
  while (s > 0xffff) s = (s % 0x10000) + Math.floor(s / 0x10000);
  return ~s & 0xffff;
}

/** Offset of the IP header of a packet at `at`, or -1 when it carries none that is whole. */
export function findIp(u8: Uint8Array, at: number, end: number, carries: PortCapabilities['carries']): number {
  let l3 = at;
  if (carries === 'ethernet') {
    if (at + 14 > end) return -1;
    let type = u16(u8, at + 12);
    l3 = at + 14;
    if (type === 0x8100 && at + 18 <= end) {
      type = u16(u8, at + 16);
      l3 = at + 18;
    }
    if (type !== 0x0800 && type !== 0x86dd) return -1;
  }
  if (l3 + IP4_HEADER > end) return -1;
  const version = u8[l3]! >>> 4;
  if (version === 4) return (u8[l3]! & 15) >= 5 && l3 + (u8[l3]! & 15) * 4 <= end ? l3 : -1;
  return version === 6 && l3 + IP6_HEADER <= end ? l3 : -1;
}

/**
 * Makes the IP (and UDP) headers of the single packet [l3, end) agree with its length, checksums included. With `crc` the
 * SCTP checksum is filled in too, before UDP's, which covers it. `sctpInUdp`: the UDP payload is SCTP.
 */
export function repairHeaders(u8: Uint8Array, l3: number, end: number, crc: boolean, sctpInUdp: boolean): void {
  const v4 = u8[l3]! >>> 4 === 4;
  const ihl = v4 ? (u8[l3]! & 15) * 4 : IP6_HEADER;
  const l4 = l3 + ihl;
  const proto = v4 ? u8[l3 + 9]! : u8[l3 + 6]!;
  if (v4) {
    put16(u8, l3 + 2, end - l3);
    put16(u8, l3 + 10, 0);
    put16(u8, l3 + 10, fold16(sum16(u8, l3, l4, 0)));
  } else {
    put16(u8, l3 + 4, end - l4);
  }
  if (proto === PROTO_SCTP && crc && end - l4 >= SCTP_HEADER) sctpFill(u8, l4, end - l4);
  if (proto !== PROTO_UDP || end - l4 < UDP_HEADER) return;
  if (sctpInUdp && crc) sctpFill(u8, l4 + UDP_HEADER, end - l4 - UDP_HEADER);
  put16(u8, l4 + 4, end - l4);
  put16(u8, l4 + 6, 0);
  const pseudo = sum16(u8, v4 ? l3 + 12 : l3 + 8, v4 ? l3 + 20 : l3 + 40, PROTO_UDP + (end - l4));
  put16(u8, l4 + 6, fold16(sum16(u8, l4, end, pseudo)) || 0xffff); // zero means "none" (RFC 768)
}

/** How many single packets entry i stands for. */
export function segments(batch: Batch, i: number): number {
  const size = batch.segsz[i]!;
  return size > 0 ? Math.max(1, Math.ceil((batch.len[i]! - batch.hdrlen[i]!) / size)) : 1;
}

/**
 * Copies the k-th single packet of entry i to `dst` at `at` (as it is: repairHeaders makes its headers true).
 * Returns its length, or 0 when it has more than `room` bytes.
 */
export function copySegment(
  src: Uint8Array,
  batch: Batch,
  i: number,
  k: number,
  dst: Uint8Array,
  at: number,
  room: number,
): number {
  const off = batch.off[i]!;
  const size = batch.segsz[i]!;
  if (size === 0) {
    const n = batch.len[i]!;
    if (n > room) return 0;
    copyBytes(src, off, dst, at, n);
    return n;
  }
  const h = batch.hdrlen[i]!;
  const from = off + h + k * size;
  const n = Math.min(size, off + batch.len[i]! - from);
  if (h + n > room) return 0;
  copyBytes(src, off, dst, at, h);
  copyBytes(src, from, dst, at + h, n);
  return h + n;
}

/** Copies between two regions. A loop wins for headers; for more the C module, or one view, which costs less than the bytes. */
export function copyBytes(src: Uint8Array, from: number, dst: Uint8Array, at: number, n: number): void {
  if (src === dst) {
    dst.copyWithin(at, from, from + n);
  } else if (n <= 64) {
    for (let i = 0; i < n; i++) dst[at + i] = src[from + i]!;
  } else if (native !== undefined) {
    native.copy(src, from, dst, at, n);
  } else {
    dst.set(src.subarray(from, from + n), at);
  }
}
