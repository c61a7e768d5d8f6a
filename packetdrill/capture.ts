/**
 * What the stack under test sends, read off the wire: SCTP as far as its common header, alone or in UDP (RFC 6951), and the
 * ICMP packets that a script asks for (RFC 792, RFC 4443). Lengths are checked before anything is read.
 */

import { InAddr, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_UDP } from '../stack/netinet/in.js';
import { finish, sumPseudo, sumRange } from '../stack/netinet/in_cksum.js';
import { crc32c } from '../stack/sctp/crc32c.js';
import type { Ports } from './ast.js';
import { ETHER_HEADER, ETHERTYPE_IP, ETHERTYPE_IPV6, SCTP_HEADER, UDP_HEADER, view } from './wire.js';

/** Of every packet. */
interface IpPart {
  /** Virtual time, ns. */
  readonly at: number;
  readonly src: InAddr;
  readonly dst: InAddr;
  readonly ttl: number;
  readonly tos: number;
  readonly flowlabel: number;
}
export interface CapturedSctp extends IpPart {
  readonly kind: 'sctp';
  /** UDP ports when it was encapsulated. */
  readonly udp: Ports | undefined;
  readonly srcPort: number;
  readonly dstPort: number;
  readonly tag: number;
  readonly checksum: 'good' | 'bad' | 'zero';
  /** Behind the common header. */
  readonly body: Uint8Array;
}
export interface CapturedIcmp extends IpPart {
  readonly kind: 'icmp';
  readonly type: number;
  readonly code: number;
  /** The word behind type, code and checksum: identifier, MTU. */
  readonly word: number;
  readonly checksum: 'good' | 'bad';
  /** What it quotes, if that is a packet with UDP or SCTP in it. */
  readonly quoted:
    | { readonly udp: { readonly ports: Ports; readonly len: number } | undefined; readonly tag?: number }
    | undefined;
}
export type Captured = CapturedSctp | CapturedIcmp;

/** An IP packet in [off, bytes.length): its header, and the payload. Undefined: cut short, or a fragment. */
function ipHeader(
  bytes: Uint8Array,
  off: number,
): { readonly ip: Omit<IpPart, 'at'>; readonly proto: number; readonly payload: Uint8Array } | undefined {
  const dv = view(bytes);
  const room = bytes.length - off;
  if (room < 20) return undefined;
  const version = dv.getUint8(off) >>> 4;
  if (version === 4) {
    const hlen = (dv.getUint8(off) & 15) * 4;
    const end = Math.min(bytes.length, off + dv.getUint16(off + 2));
    // A fragment shows no packet.
    if ((dv.getUint16(off + 6) & 0x3fff) !== 0 || hlen < 20 || off + hlen > end) return undefined;
    const ip = {
      src: new InAddr().read4(dv, off + 12),
      dst: new InAddr().read4(dv, off + 16),
      ttl: dv.getUint8(off + 8),
      tos: dv.getUint8(off + 1),
      flowlabel: 0,
    };
    return { ip, proto: dv.getUint8(off + 9), payload: bytes.subarray(off + hlen, end) };
  }
  if (version !== 6 || room < 40) return undefined;
  const word = dv.getUint32(off);
  const ip = {
    src: new InAddr(6).read6(dv, off + 8),
    dst: new InAddr(6).read6(dv, off + 24),
    ttl: dv.getUint8(off + 7),
    tos: (word >>> 20) & 0xff,
    flowlabel: word & 0xfffff,
  };
  const end = Math.min(bytes.length, off + 40 + dv.getUint16(off + 4));
  return { ip, proto: dv.getUint8(off + 6), payload: bytes.subarray(off + 40, end) };
}

/**
 * Reads a frame; undefined when it carries neither SCTP nor, with `icmp`, ICMP. `decapsulate`: SCTP in UDP counts
 * (`--udp_encapsulation=sctp`).
 */
export function capture(at: number, bytes: Uint8Array, decapsulate: boolean, icmp = false): Captured | undefined {
  if (bytes.length < ETHER_HEADER) return undefined;
  const type = view(bytes).getUint16(12);
  if (type !== ETHERTYPE_IP && type !== ETHERTYPE_IPV6) return undefined;
  const h = ipHeader(bytes, ETHER_HEADER);
  if (h === undefined) return undefined;
  if (icmp && (h.proto === IPPROTO_ICMP || h.proto === IPPROTO_ICMPV6)) return icmpPart({ at, ...h.ip }, h.payload);
  return sctpPart({ at, ...h.ip }, h.proto, h.payload, decapsulate);
}

function sctpPart(ip: IpPart, proto: number, payload: Uint8Array, decapsulate: boolean): CapturedSctp | undefined {
  let sctp = payload;
  let udp: Ports | undefined;
  if (proto === IPPROTO_UDP && decapsulate && payload.length >= UDP_HEADER) {
    const dv = view(payload);
    udp = { src: dv.getUint16(0), dst: dv.getUint16(2) };
    sctp = payload.subarray(UDP_HEADER);
  } else if (proto !== IPPROTO_SCTP) return undefined;
  if (sctp.length < SCTP_HEADER) return undefined;
  const copy = sctp.slice();
  const dv = view(copy);
  const told = dv.getUint32(8, true);
  dv.setUint32(8, 0);
  const checksum = told === crc32c(copy, 0, copy.length) ? 'good' : told === 0 ? 'zero' : 'bad';
  return {
    kind: 'sctp',
    ...ip,
    udp,
    srcPort: dv.getUint16(0),
    dstPort: dv.getUint16(2),
    tag: dv.getUint32(4),
    checksum,
    body: copy.subarray(SCTP_HEADER),
  };
}

function icmpPart(ip: IpPart, payload: Uint8Array): CapturedIcmp | undefined {
  if (payload.length < 8) return undefined;
  const dv = view(payload);
  const sum = sumRange(dv, 0, payload.length);
  const pseudo = ip.src.family === 4 ? 0 : sumPseudo(ip.src, ip.dst, IPPROTO_ICMPV6, payload.length);
  return {
    kind: 'icmp',
    ...ip,
    type: dv.getUint8(0),
    code: dv.getUint8(1),
    word: dv.getUint32(4),
    checksum: finish(sum + pseudo) === 0 ? 'good' : 'bad',
    quoted: quotedPart(payload),
  };
}

/** An error quotes the IP header of what it answers and at least eight bytes behind it. */
function quotedPart(icmp: Uint8Array): CapturedIcmp['quoted'] {
  const h = ipHeader(icmp, 8);
  if (h === undefined || h.payload.length < 8) return undefined;
  const dv = view(h.payload);
  if (h.proto === IPPROTO_SCTP) return { udp: undefined, tag: dv.getUint32(4) };
  if (h.proto !== IPPROTO_UDP) return undefined;
  const udp = { ports: { src: dv.getUint16(0), dst: dv.getUint16(2) }, len: dv.getUint16(4) };
  return h.payload.length < UDP_HEADER + 8 ? { udp } : { udp, tag: dv.getUint32(UDP_HEADER + 4) };
}

/** First chunk of a packet: type, and its bytes up to its length. Undefined when there is none that is whole. */
export function firstChunk(body: Uint8Array): { readonly type: number; readonly bytes: Uint8Array } | undefined {
  if (body.length < 4) return undefined;
  const len = (body[2]! << 8) | body[3]!;
  return len < 4 || len > body.length ? undefined : { type: body[0]!, bytes: body.subarray(0, len) };
}

/** The first parameter of a type in the list that starts at `from` of a chunk; its value. */
export function findParameter(chunk: Uint8Array, from: number, type: number): Uint8Array | undefined {
  for (let o = from; o + 4 <= chunk.length; ) {
    const len = (chunk[o + 2]! << 8) | chunk[o + 3]!;
    if (len < 4 || o + len > chunk.length) return undefined;
    if (((chunk[o]! << 8) | chunk[o + 1]!) === type) return chunk.slice(o + 4, o + len);
    o += (len + 3) & ~3;
  }
  return undefined;
}
