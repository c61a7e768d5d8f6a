/**
 * Internet addresses as four 32-bit words, one shape for both families, so that the data path compares words and
 * allocates nothing. IPv4 a.b.c.d is held v4-mapped (::ffff:a.b.c.d, RFC 4291 §2.5.5.2) with family 4.
 * Instances are mutable scratch or frozen by convention: who stores one stores a `clone()`.
 */

export const AF_INET = 2;
export const AF_INET6 = 28; // FreeBSD's number
export const IPPROTO_ICMP = 1;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_ICMPV6 = 58;
export const IPPROTO_SCTP = 132;
export const IPPROTO_UDPLITE = 136;

/** Scope of an address, RFC 4291 and draft-stewart-tsvwg-sctp-ipv4 (which SCTP uses to decide what it lists to a peer). */
export type Scope = 'unspecified' | 'loopback' | 'link' | 'private' | 'global' | 'multicast' | 'broadcast';

export class InAddr {
  family: 4 | 6;
  w0: number;
  w1: number;
  w2: number;
  w3: number;
  constructor(family: 4 | 6 = 4, w0 = 0, w1 = 0, w2 = family === 4 ? 0xffff : 0, w3 = 0) {
    this.family = family;
    this.w0 = w0 | 0;
    this.w1 = w1 | 0;
    this.w2 = w2 | 0;
    this.w3 = w3 | 0;
  }

  /** Parses "192.0.2.1" or "2001:db8::1" (a v4-mapped text gives family 6). Returns undefined for anything else. */
  static parse(text: string): InAddr | undefined {
    return text.includes(':') ? parse6(text) : parse4(text);
  }
  /** Like parse, but throws TypeError: for constants in programs and tests. */
  static of(text: string): InAddr {
    const a = InAddr.parse(text);
    if (a === undefined) throw new TypeError(`not an Internet address: ${text}`);
    return a;
  }

  clone(): InAddr {
    return new InAddr(this.family, this.w0, this.w1, this.w2, this.w3);
  }
  copy(from: InAddr): void {
    this.family = from.family;
    this.w0 = from.w0;
    this.w1 = from.w1;
    this.w2 = from.w2;
    this.w3 = from.w3;
  }
  equals(b: InAddr): boolean {
    return this.w3 === b.w3 && this.w2 === b.w2 && this.w1 === b.w1 && this.w0 === b.w0 && this.family === b.family;
  }
  /** Reads 4 bytes of an IPv4 address at a region offset. */
  read4(dv: DataView, off: number): this {
    this.family = 4;
    this.w0 = 0;
    this.w1 = 0;
    this.w2 = 0xffff;
    this.w3 = dv.getInt32(off);
    return this;
  }
  /** Reads 16 bytes of an IPv6 address at a region offset. */
  read6(dv: DataView, off: number): this {
    this.family = 6;
    this.w0 = dv.getInt32(off);
    this.w1 = dv.getInt32(off + 4);
    this.w2 = dv.getInt32(off + 8);
    this.w3 = dv.getInt32(off + 12);
    return this;
  }
  /** Writes 4 or 16 bytes at a region offset; returns how many. */
  write(dv: DataView, off: number): number {
    if (this.family === 4) {
      dv.setInt32(off, this.w3);
      return 4;
    }
    dv.setInt32(off, this.w0);
    dv.setInt32(off + 4, this.w1);
    dv.setInt32(off + 8, this.w2);
    dv.setInt32(off + 12, this.w3);
    return 16;
  }
  /** A 32-bit hash for tables. */
  hash(): number {
    return (Math.imul(this.w0 ^ this.w1, 0x85ebca6b) ^ Math.imul(this.w2 ^ this.w3, 0xc2b2ae35)) >>> 0;
  }

  get isV4Mapped(): boolean {
    return this.family === 6 && this.w0 === 0 && this.w1 === 0 && this.w2 === 0xffff;
  }
  get isUnspecified(): boolean {
    return this.w3 === 0 && (this.family === 4 || (this.w0 === 0 && this.w1 === 0 && this.w2 === 0));
  }
  get isLoopback(): boolean {
    return this.family === 4
      ? this.w3 >>> 24 === 127
      : this.w0 === 0 && this.w1 === 0 && this.w2 === 0 && this.w3 === 1;
  }
  get isMulticast(): boolean {
    return this.family === 4 ? this.w3 >>> 28 === 14 : this.w0 >>> 24 === 0xff;
  }
  get isBroadcast(): boolean {
    return this.family === 4 && this.w3 === -1;
  }
  get isLinkLocal(): boolean {
    return this.family === 4 ? this.w3 >>> 16 === 0xa9fe : this.w0 >>> 22 === 0x3fa;
  }
  get scope(): Scope {
    if (this.isUnspecified) return 'unspecified';
    if (this.isLoopback) return 'loopback';
    if (this.isMulticast) return 'multicast';
    if (this.isBroadcast) return 'broadcast';
    if (this.isLinkLocal) return 'link';
    if (this.family === 4) {
      const b = this.w3 >>> 16;
      if (b >>> 8 === 10 || b >>> 4 === 0xac1 || b === 0xc0a8) return 'private';
    } else if (this.w0 >>> 25 === 0x7e) return 'private'; // fc00::/7
    return 'global';
  }
  /** True when the first `bits` bits are the same. Families must match. */
  inPrefix(net: InAddr, bits: number): boolean {
    if (this.family !== net.family) return false;
    if (this.family === 4) return bits === 0 || (this.w3 ^ net.w3) >>> (32 - bits) === 0;
    return (
      sameBits(this.w0 ^ net.w0, bits) &&
      sameBits(this.w1 ^ net.w1, bits - 32) &&
      sameBits(this.w2 ^ net.w2, bits - 64) &&
      sameBits(this.w3 ^ net.w3, bits - 96)
    );
  }

  /** Text form: dotted quad, or RFC 5952. */
  toString(): string {
    if (this.family === 4) return dotted(this.w3);
    if (this.isV4Mapped) return `::ffff:${dotted(this.w3)}`;
    const g: number[] = [];
    for (const w of [this.w0, this.w1, this.w2, this.w3]) g.push(w >>> 16, w & 0xffff);
    let best = -1;
    let bestLen = 1;
    for (let i = 0; i < 8; i++) {
      let n = 0;
      while (i + n < 8 && g[i + n] === 0) n++;
      if (n > bestLen) {
        best = i;
        bestLen = n;
      }
    }
    const hex = (from: number, to: number) =>
      g
        .slice(from, to)
        .map(x => x.toString(16))
        .join(':');
    return best < 0 ? hex(0, 8) : `${hex(0, best)}::${hex(best + bestLen, 8)}`;
  }
}

/** True when the first `bits` bits of a difference are zero; any number of bits, also none or more than a word. */
function sameBits(difference: number, bits: number): boolean {
  return bits <= 0 || (bits >= 32 ? difference === 0 : difference >>> (32 - bits) === 0);
}

function dotted(w: number): string {
  return `${w >>> 24}.${(w >>> 16) & 255}.${(w >>> 8) & 255}.${w & 255}`;
}

function quad(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let w = 0;
  for (const p of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(p) || Number(p) > 255) return undefined;
    w = (w << 8) | Number(p);
  }
  return w;
}

function parse4(text: string): InAddr | undefined {
  const w = quad(text);
  return w === undefined ? undefined : new InAddr(4, 0, 0, 0xffff, w);
}

function parse6(text: string): InAddr | undefined {
  let s = text;
  const tail = s.slice(s.lastIndexOf(':') + 1);
  if (tail.includes('.')) {
    const w = quad(tail);
    if (w === undefined) return undefined;
    s = `${s.slice(0, s.length - tail.length)}${(w >>> 16).toString(16)}:${(w & 0xffff).toString(16)}`;
  }
  const halves = s.split('::');
  if (halves.length > 2) return undefined;
  const groups = (h: string) => (h === '' ? [] : h.split(':'));
  const left = groups(halves[0]!);
  const right = halves.length === 2 ? groups(halves[1]!) : [];
  const missing = 8 - left.length - right.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const all = [...left, ...(Array(missing).fill('0') as string[]), ...right];
  if (!all.every(x => /^[0-9a-fA-F]{1,4}$/.test(x))) return undefined;
  const n = all.map(x => Number.parseInt(x, 16));
  const word = (i: number) => (n[i]! << 16) | n[i + 1]!;
  return new InAddr(6, word(0), word(2), word(4), word(6));
}
