/**
 * Offload engine of the card: header parsing, CRC32c of SCTP (RFC 9260 §6.8) over a batch, Internet checksums (RFC 1071,
 * RFC 768, RFC 8200 §8.1), cutting a train into single frames, and the Toeplitz hash of receive-side scaling (VIRTIO 1.2
 * §5.1.6.4). It works in place on offsets into one region and allocates nothing after construction.
 */

import { sctpCheckBatch, sctpFillBatch } from './crc32c.js';
import type { Memory } from './ports/port.js';

export const ETHER_HEADER = 14;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_IPV6 = 0x86dd;
export const ETHERTYPE_VLAN = 0x8100;
const PROTO_UDP = 17;
const PROTO_SCTP = 132;
const UDP_HEADER = 8;

/** The IPv6 extension headers that may stand in front of the payload, RFC 8200 §4.1: at most this many are followed. */
const EXTENSIONS_MAX = 8;

/** Key of the RSS hash that every vendor's documentation uses for its test vectors. */
export const DEFAULT_RSS_KEY: readonly number[] = [
  0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
  0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
  0x01, 0xfa,
];
export const RSS_KEY_BYTES = 40;
const RSS_INPUT_MAX = 36; // two IPv6 addresses and two ports

export class OffloadEngine {
  // What `parse` found. Offsets are absolute.
  /** 4 or 6, or 0 when the frame holds no well-formed IP packet. */
  ip = 0;
  /** First byte of the IP header, of the layer 4 header, and first byte behind the IP packet (Ethernet padding is not in it). */
  l3 = 0;
  l4 = 0;
  end = 0;
  /** Protocol behind all extension headers. */
  proto = 0;
  /** Part of a fragmented packet: layer 4 cannot be checked or filled. */
  fragment = false;
  etherType = 0;

  readonly #u8: Uint8Array;
  readonly #dv: DataView;
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;

  // CRC32c work of a batch: entries as nic/crc32c.ts takes them, and the caller's own index of each.
  jobs = 0;
  readonly jobIndex: Int32Array;
  readonly #jobOff: Int32Array;
  readonly #jobLen: Int32Array;
  readonly #jobSegsz: Int32Array;
  readonly #jobHdrlen: Int32Array;
  /** After `check`: how many SCTP packets of job j had a wrong CRC32c. */
  readonly bad: Int32Array;

  readonly #toeplitz = new Int32Array(RSS_INPUT_MAX * 256);

  constructor(memory: Memory, batch: number) {
    this.#u8 = memory.u8;
    this.#dv = memory.dv;
    this.#u16 = new Uint16Array(memory.buffer, 0, memory.buffer.byteLength >>> 1);
    this.#u32 = new Uint32Array(memory.buffer, 0, memory.buffer.byteLength >>> 2);
    this.jobIndex = new Int32Array(batch);
    this.#jobOff = new Int32Array(batch);
    this.#jobLen = new Int32Array(batch);
    this.#jobSegsz = new Int32Array(batch);
    this.#jobHdrlen = new Int32Array(batch);
    this.bad = new Int32Array(batch);
    this.setRssKey(DEFAULT_RSS_KEY);
  }

  /**
   * Parses the frame of `len` bytes at `off`: Ethernet with at most one VLAN tag, IPv4 or IPv6 with extension headers.
   * With train > 0 that many bytes are headers of a train, whose IP length fields are not believed. Returns true, and fills
   * the fields, when it holds an IP packet whose headers are whole.
   */
  parse(off: number, len: number, train = 0): boolean {
    this.ip = 0;
    this.proto = 0;
    this.fragment = false;
    const limit = off + len;
    if (len < ETHER_HEADER) return false;
    let l3 = off + ETHER_HEADER;
    let type = this.#dv.getUint16(off + 12);
    if (type === ETHERTYPE_VLAN && len >= ETHER_HEADER + 4) {
      type = this.#dv.getUint16(off + 16);
      l3 += 4;
    }
    this.etherType = type;
    this.l3 = l3;
    if (type === ETHERTYPE_IPV4) return this.#parse4(l3, limit, train > 0);
    if (type === ETHERTYPE_IPV6) return this.#parse6(l3, limit, train > 0);
    return false;
  }

  #parse4(l3: number, limit: number, train: boolean): boolean {
    if (l3 + 20 > limit) return false;
    const vihl = this.#u8[l3]!;
    const ihl = (vihl & 15) << 2;
    if (vihl >>> 4 !== 4 || ihl < 20 || l3 + ihl > limit) return false;
    const total = this.#dv.getUint16(l3 + 2);
    if (train) this.end = limit;
    else {
      if (total < ihl || l3 + total > limit) return false;
      this.end = l3 + total;
    }
    this.fragment = (this.#dv.getUint16(l3 + 6) & 0x3fff) !== 0;
    this.l4 = l3 + ihl;
    this.proto = this.#u8[l3 + 9]!;
    this.ip = 4;
    return true;
  }

  #parse6(l3: number, limit: number, train: boolean): boolean {
    if (l3 + 40 > limit || this.#u8[l3]! >>> 4 !== 6) return false;
    const payload = this.#dv.getUint16(l3 + 4);
    if (!train && l3 + 40 + payload > limit) return false;
    const end = train ? limit : l3 + 40 + payload;
    let next = this.#u8[l3 + 6]!;
    let at = l3 + 40;
    for (let i = 0; i < EXTENSIONS_MAX; i++) {
      if (next === 44) {
        // Fragment header; an atomic fragment (RFC 6946) is a whole packet.
        if (at + 8 > end) return false;
        if ((this.#dv.getUint16(at + 2) & 0xfff9) !== 0) this.fragment = true;
        next = this.#u8[at]!;
        at += 8;
      } else if (next === 0 || next === 43 || next === 60) {
        if (at + 8 > end) return false;
        next = this.#u8[at]!;
        at += (this.#u8[at + 1]! + 1) << 3;
      } else break;
      if (at > end) return false;
    }
    this.end = end;
    this.l4 = at;
    this.proto = next;
    this.ip = 6;
    return true;
  }

  /**
   * Offset of the SCTP packet of the frame parsed last, or -1: SCTP straight in IP, or in UDP when `inUdp` says that UDP
   * is taken for SCTP here (RFC 6951 §5.1). A fragment has none.
   */
  sctpAt(inUdp: boolean): number {
    if (this.fragment) return -1;
    if (this.proto === PROTO_SCTP) return this.l4;
    return inUdp && this.proto === PROTO_UDP && this.l4 + UDP_HEADER <= this.end ? this.l4 + UDP_HEADER : -1;
  }
  get isUdp(): boolean {
    return this.proto === PROTO_UDP && !this.fragment && this.l4 + UDP_HEADER <= this.end;
  }

  /** Notes a CRC32c job: SCTP at `at`, up to `end`; `segsz` > 0 when it is several packets of that many bytes. */
  addJob(index: number, at: number, end: number, segsz: number): void {
    const j = this.jobs++;
    this.jobIndex[j] = index;
    this.#jobOff[j] = at;
    this.#jobLen[j] = end - at;
    this.#jobSegsz[j] = segsz;
    this.#jobHdrlen[j] = 0;
  }
  /** Fills in the CRC32c of all jobs noted, in one call, and forgets them. */
  fill(): void {
    if (this.jobs > 0) sctpFillBatch(this.#u8, this.#jobOff, this.#jobLen, this.#jobSegsz, this.#jobHdrlen, this.jobs);
    this.jobs = 0;
  }
  /** Checks all jobs noted; the results stay in `bad` (by job) until the caller sets `jobs` to 0. */
  check(): void {
    if (this.jobs > 0)
      sctpCheckBatch(this.#u8, this.#jobOff, this.#jobLen, this.#jobSegsz, this.#jobHdrlen, this.jobs, this.bad);
  }

  /**
   * One's complement sum of bytes [off, off+len) in little-endian words (RFC 1071 §2(B): the byte order does not matter
   * as long as it is kept), added to `sum`; folded to 16 bits.
   */
  sum(off: number, len: number, sum = 0): number {
    let s = sum;
    let at = off;
    let left = len;
    if ((at & 1) !== 0) {
      // Odd start: byte by byte. Our own buffers never lie so.
      for (let i = 0; i < left; i++) s += (i & 1) === 0 ? this.#u8[at + i]! : this.#u8[at + i]! << 8;
      return fold(s);
    }
    if ((at & 2) !== 0 && left >= 2) {
      s += this.#u16[at >>> 1]!;
      at += 2;
      left -= 2;
    }
    const u32 = this.#u32;
    let w = at >>> 2;
    // At most 32768 halves of 65535 stay below 2^31 in each of the two sums.
    const words = Math.min(left >>> 2, 16384);
    const stop = w + words;
    let hi = 0;
    for (; w + 4 <= stop; w += 4) {
      const a = u32[w]!;
      const b = u32[w + 1]!;
      const c = u32[w + 2]!;
      const d = u32[w + 3]!;
      s += (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff);
      hi += (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16);
    }
    for (; w < stop; w++) {
      s += u32[w]! & 0xffff;
      hi += u32[w]! >>> 16;
    }
    s = fold(fold(s) + fold(hi));
    at += words << 2;
    left -= words << 2;
    if (left >= 4) return this.sum(at, left, s);
    if (left >= 2) {
      s += this.#u16[at >>> 1]!;
      at += 2;
      left -= 2;
    }
    if (left === 1) s += this.#u8[at]!;
    return fold(s);
  }

  /** Sum of the pseudo-header of an IP packet whose layer 4 is `len` bytes of `proto`. */
  #pseudo(ip: number, l3: number, proto: number, len: number): number {
    const addresses = ip === 4 ? this.sum(l3 + 12, 8) : this.sum(l3 + 8, 32);
    return fold(addresses + (proto << 8) + (((len & 0xff) << 8) | ((len >>> 8) & 0xff)));
  }

  /** True when the IPv4 header checksum at `l3` is right. */
  ipv4Good(l3: number): boolean {
    return this.sum(l3, (this.#u8[l3]! & 15) << 2) === 0xffff;
  }
  /** Fills in the IPv4 header checksum. */
  ipv4Fill(l3: number): void {
    this.#store16(l3 + 10, 0);
    this.#store16(l3 + 10, ~this.sum(l3, (this.#u8[l3]! & 15) << 2));
  }
  /** True when the UDP checksum of the frame parsed last is right; with IPv4 a zero one means "none" (RFC 768). */
  udpGood(): boolean {
    const len = this.#dv.getUint16(this.l4 + 4);
    if (len < UDP_HEADER || this.l4 + len > this.end) return false;
    if (this.#dv.getUint16(this.l4 + 6) === 0) return this.ip === 4;
    return this.sum(this.l4, len, this.#pseudo(this.ip, this.l3, PROTO_UDP, len)) === 0xffff;
  }
  /** Fills in the UDP checksum of the datagram [l4, end) of an IP packet at l3. */
  udpFill(ip: number, l3: number, l4: number, end: number): void {
    this.#store16(l4 + 6, 0);
    const c = ~this.sum(l4, end - l4, this.#pseudo(ip, l3, PROTO_UDP, end - l4)) & 0xffff;
    this.#store16(l4 + 6, c === 0 ? 0xffff : c);
  }
  /** VIRTIO 1.2 §5.1.6.2: sums from `start` to `end`, pseudo-header sum already in place, and stores at start + offset. */
  partialFill(start: number, end: number, offset: number): void {
    const c = ~this.sum(start, end - start) & 0xffff;
    this.#store16(start + offset, c === 0 ? 0xffff : c);
  }
  #store16(at: number, little: number): void {
    this.#u8[at] = little;
    this.#u8[at + 1] = little >>> 8;
  }

  /**
   * Writes packet `i` of the train [off, off+len) to `dst`: the `hdrlen` header bytes, then its `segsz` bytes of payload;
   * then sets IPv4 total length, identification (counting up, RFC 6864 wants them different) and header checksum, or the
   * IPv6 payload length, and UDP length and checksum. `l3` and `l4` are relative to `off`; l4 is the UDP header's, or 0.
   * With `udpCsum`, or when the train's header has one, a UDP checksum is filled in. Returns the length written.
   */
  segment(
    off: number,
    len: number,
    hdrlen: number,
    segsz: number,
    i: number,
    dst: number,
    ip: number,
    l3: number,
    l4: number,
    udpCsum: boolean,
  ): number {
    const from = off + hdrlen + i * segsz;
    const bytes = Math.min(segsz, off + len - from);
    this.#u8.copyWithin(dst, off, off + hdrlen);
    this.#u8.copyWithin(dst + hdrlen, from, from + bytes);
    const total = hdrlen + bytes;
    const dv = this.#dv;
    if (l4 > 0) dv.setUint16(dst + l4 + 4, total - l4);
    if (ip === 4) {
      dv.setUint16(dst + l3 + 2, total - l3);
      dv.setUint16(dst + l3 + 4, (dv.getUint16(off + l3 + 4) + i) & 0xffff);
      this.ipv4Fill(dst + l3);
    } else dv.setUint16(dst + l3 + 4, total - l3 - 40);
    if (l4 > 0 && (udpCsum || dv.getUint16(off + l4 + 6) !== 0)) this.udpFill(ip, dst + l3, dst + l4, dst + total);
    return total;
  }

  /** Sets the Toeplitz key (40 bytes; shorter ones are filled with zeros) and builds the tables. */
  setRssKey(key: ArrayLike<number>): void {
    const k = new Uint8Array(RSS_KEY_BYTES + 8);
    for (let i = 0; i < Math.min(key.length, RSS_KEY_BYTES); i++) k[i] = key[i]!;
    const window = (bit: number) => {
      const at = bit >>> 3;
      const s = bit & 7;
      const word = (k[at]! << 24) | (k[at + 1]! << 16) | (k[at + 2]! << 8) | k[at + 3]!;
      return s === 0 ? word : (word << s) | (k[at + 4]! >>> (8 - s));
    };
    for (let pos = 0; pos < RSS_INPUT_MAX; pos++)
      for (let byte = 0; byte < 256; byte++) {
        let h = 0;
        for (let b = 0; b < 8; b++) if ((byte & (0x80 >>> b)) !== 0) h ^= window(pos * 8 + b);
        this.#toeplitz[pos * 256 + byte] = h;
      }
  }

  /** Toeplitz hash of the frame parsed last: addresses, and ports of UDP when `ports`. */
  rssHash(ports: boolean): number {
    const u8 = this.#u8;
    const t = this.#toeplitz;
    const from = this.ip === 4 ? this.l3 + 12 : this.l3 + 8;
    const n = this.ip === 4 ? 8 : 32;
    let h = 0;
    for (let i = 0; i < n; i++) h ^= t[(i << 8) | u8[from + i]!]!;
    if (ports) for (let i = 0; i < 4; i++) h ^= t[((n + i) << 8) | u8[this.l4 + i]!]!;
    return h;
  }
}

function fold(s: number): number {
  let x = (s & 0xffff) + (s >>> 16);
  x = (x & 0xffff) + (x >>> 16);
  return x;
}

/**
 * The card's own packet memory: pieces taken in order and given back in order (by mark), each contiguous.
 * Holds frames that lay scattered over several descriptors and the packets that a train was cut into.
 */
export class ScratchRing {
  readonly #base: number;
  readonly #size: number;
  #head = 0;
  #tail = 0;
  constructor(base: number, size: number) {
    this.#base = base;
    this.#size = size;
  }
  /** Offset of n contiguous bytes, or -1 when there is no room now. Starts at 2 mod 4, so that IP headers are aligned. */
  alloc(n: number): number {
    const need = (n + 2 + 63) & ~63;
    const pos = this.#head % this.#size;
    const pad = pos + need > this.#size ? this.#size - pos : 0;
    if (this.#head + pad + need - this.#tail > this.#size) {
      // With nothing taken the ring starts anew at its first byte, so that a piece as large as the ring always fits.
      if (this.#head !== this.#tail || need > this.#size) return -1;
      this.#head += pad;
      this.#tail = this.#head;
      this.#head += need;
    } else this.#head += pad + need;
    return this.#base + ((this.#head - need) % this.#size) + 2;
  }
  /** Where the ring stands: everything taken so far. Give it to `release` when all of that is done with. */
  get mark(): number {
    return this.#head;
  }
  release(mark: number): void {
    this.#tail = mark;
  }
  /** Takes back what was taken last: everything since `mark` was read. */
  rewind(mark: number): void {
    this.#head = Math.max(mark, this.#tail);
  }
  reset(): void {
    this.#head = this.#tail = 0;
  }
  get used(): number {
    return this.#head - this.#tail;
  }
}
