/**
 * Packets as bytes: IPv4 and IPv6 (RFC 791, RFC 8200), UDP around SCTP (RFC 6951), the SCTP common header with its CRC32c
 * (RFC 9260 §3.1, §6.8), and ICMP errors that quote a packet of the stack under test (RFC 792, RFC 4443). Frames carry an
 * Ethernet header without addresses: the medium has none.
 */

import { InAddr, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_UDP } from '../stack/netinet/in.js';
import { finish, sumPseudo, sumRange } from '../stack/netinet/in_cksum.js';
import { crc32c } from '../stack/sctp/crc32c.js';
import type { IcmpPacket, IpInfo, Ports } from './ast.js';
import { ScriptError, Writer } from './encode.js';
import { icmpNumbers } from './forms.js';

const ETHER_HEADER = 14;
const SCTP_HEADER = 12;
const UDP_HEADER = 8;
/** TTL and hop limit of injected packets that say nothing else (facts part 1.2). */
const DEFAULT_TTL = 255;

/** The conversation under test: addresses of both sides and the live ports. */
export interface Tuple {
  readonly local: InAddr;
  readonly remote: InAddr;
  localPort: number;
  remotePort: number;
}

const view = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.length);

// ------------------------------------------------------------------------------------------------------------- injection

/** An SCTP packet: common header of the peer, `body` behind it; the checksum right, one too large, or 0. */
export function sctpPacket(
  ports: { readonly src: number; readonly dst: number },
  tag: number,
  body: Uint8Array,
  checksum: 'good' | 'bad' | 'zero',
): Uint8Array {
  const out = new Uint8Array(SCTP_HEADER + body.length);
  const dv = view(out);
  dv.setUint16(0, ports.src);
  dv.setUint16(2, ports.dst);
  dv.setUint32(4, tag);
  out.set(body, SCTP_HEADER);
  if (checksum === 'zero') return out;
  const crc = crc32c(out, 0, out.length);
  dv.setUint32(8, checksum === 'bad' ? (crc + 1) >>> 0 : crc, true);
  return out;
}

/** A UDP datagram from the peer, with its checksum. */
export function udpDatagram(t: Tuple, ports: Ports, payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(UDP_HEADER + payload.length);
  const dv = view(out);
  dv.setUint16(0, ports.src);
  dv.setUint16(2, ports.dst);
  dv.setUint16(4, out.length);
  out.set(payload, UDP_HEADER);
  const sum = finish(sumRange(dv, 0, out.length) + sumPseudo(t.remote, t.local, IPPROTO_UDP, out.length));
  dv.setUint16(6, sum === 0 ? 0xffff : sum);
  return out;
}

/** The traffic class octet that an IpInfo writes. */
function tosOf(ip: IpInfo | undefined): number {
  const ecn = ip?.ecn === 'ect01' ? 2 : ip?.ecn;
  let tos = ip?.tos ?? 0;
  if (ip?.dscp !== undefined) tos = (ip.dscp << 2) | (tos & 3);
  if (ecn !== undefined) tos = (tos & 0xfc) | ecn;
  return tos;
}

/** An Ethernet frame with an IP packet in it. */
function ipFrame(src: InAddr, dst: InAddr, proto: number, payload: Uint8Array, ip: IpInfo | undefined): Uint8Array {
  return frame(src.family, ipPacket(src, dst, proto, payload, ip));
}

function ipPacket(src: InAddr, dst: InAddr, proto: number, payload: Uint8Array, ip: IpInfo | undefined): Uint8Array {
  const four = src.family === 4;
  const head = four ? 20 : 40;
  const out = new Uint8Array(head + payload.length);
  const dv = view(out);
  const ttl = ip?.ttl ?? DEFAULT_TTL;
  if (four) {
    dv.setUint8(0, 0x45);
    dv.setUint8(1, tosOf(ip));
    dv.setUint16(2, out.length);
    dv.setUint8(8, ttl);
    dv.setUint8(9, proto);
    src.write(dv, 12);
    dst.write(dv, 16);
    dv.setUint16(10, finish(sumRange(dv, 0, 20)));
  } else {
    dv.setUint32(0, ((6 << 28) | (tosOf(ip) << 20) | (ip?.flowlabel ?? 0)) >>> 0);
    dv.setUint16(4, payload.length);
    dv.setUint8(6, proto);
    dv.setUint8(7, ttl);
    src.write(dv, 8);
    dst.write(dv, 24);
  }
  out.set(payload, head);
  return out;
}

function frame(family: 4 | 6, packet: Uint8Array): Uint8Array {
  const out = new Uint8Array(ETHER_HEADER + packet.length);
  view(out).setUint16(12, family === 4 ? 0x0800 : 0x86dd);
  out.set(packet, ETHER_HEADER);
  return out;
}

/** The frame that carries an SCTP packet, or SCTP in UDP, towards the stack under test. */
export function sctpFrame(t: Tuple, sctp: Uint8Array, udp: Ports | undefined, ip: IpInfo | undefined): Uint8Array {
  return udp === undefined
    ? ipFrame(t.remote, t.local, IPPROTO_SCTP, sctp, ip)
    : ipFrame(t.remote, t.local, IPPROTO_UDP, udpDatagram(t, udp, sctp), ip);
}

/** The frame of an ICMP packet. `tag`: what stands for the verification tag of a quoted SCTP packet. */
export function icmpFrame(t: Tuple, p: IcmpPacket, tag: number): Uint8Array {
  const family = t.local.family === 4 ? 'ipv4' : 'ipv6';
  const numbers = icmpNumbers(family, p.type, p.code);
  if (numbers === undefined)
    throw new ScriptError(
      `no ICMP of ${family} is called "${p.type}${p.code === undefined ? '' : ` ${p.code}`}"`,
      p.icmpAt,
    );
  const w = new Writer();
  w.u8(numbers.type).u8(numbers.code).u16(0);
  // RFC 1191: the MTU is the low half of the word; ICMPv6 (RFC 4443 §3.2) has all of it.
  if (p.mtu !== undefined) {
    if (family === 'ipv4') w.u16(0).u16(p.mtu);
    else w.u32(p.mtu);
  } else w.u16(p.id ?? 0).u16(0);
  if (p.echoed !== undefined) w.bytes(quoted(t, p, tag));
  const out = w.take();
  const dv = view(out);
  const [src, dst] = [t.remote, t.local];
  const pseudo = family === 'ipv4' ? 0 : sumPseudo(src, dst, IPPROTO_ICMPV6, out.length);
  dv.setUint16(2, finish(sumRange(dv, 0, out.length) + pseudo));
  return ipFrame(src, dst, family === 'ipv4' ? IPPROTO_ICMP : IPPROTO_ICMPV6, out, p.ip);
}

/** The IP header of a packet of the stack under test and the first bytes behind it. */
function quoted(t: Tuple, p: IcmpPacket, tag: number): Uint8Array {
  const e = p.echoed!;
  const w = new Writer();
  if (e.kind === 'sctp') {
    if (e.udp !== undefined) w.u16(e.udp.src).u16(e.udp.dst).u16(16).u16(0);
    w.u16(t.localPort).u16(t.remotePort).u32(tag);
    return ipPacket(t.local, t.remote, e.udp === undefined ? IPPROTO_SCTP : IPPROTO_UDP, w.take(), undefined);
  }
  w.u16(t.localPort).u16(t.remotePort);
  if (e.kind === 'udp')
    return ipPacket(
      t.local,
      t.remote,
      IPPROTO_UDP,
      w
        .u16(e.len + 8)
        .u16(0)
        .take(),
      undefined,
    );
  return ipPacket(t.local, t.remote, 6, w.u32(e.start).take(), undefined);
}

// --------------------------------------------------------------------------------------------------------------- capture

/** A packet that the stack under test has sent, taken apart as far as its SCTP common header. */
export interface Captured {
  /** Virtual time, ns. */
  readonly at: number;
  readonly src: InAddr;
  readonly dst: InAddr;
  readonly ttl: number;
  readonly tos: number;
  readonly flowlabel: number;
  /** UDP ports when it was encapsulated. */
  readonly udp: Ports | undefined;
  readonly srcPort: number;
  readonly dstPort: number;
  readonly tag: number;
  readonly checksum: 'good' | 'bad' | 'zero';
  /** Behind the common header. */
  readonly body: Uint8Array;
}

/** Reads a frame; undefined when it carries no SCTP. `decapsulate`: SCTP in UDP counts (`--udp_encapsulation=sctp`). */
export function capture(at: number, bytes: Uint8Array, decapsulate: boolean): Captured | undefined {
  const dv = view(bytes);
  if (bytes.length < ETHER_HEADER + 20) return undefined;
  const type = dv.getUint16(12);
  const o = ETHER_HEADER;
  if (type === 0x0800) {
    const hlen = (dv.getUint8(o) & 15) * 4;
    const end = Math.min(bytes.length, o + dv.getUint16(o + 2));
    // A fragment shows no packet.
    if ((dv.getUint16(o + 6) & 0x3fff) !== 0 || hlen < 20 || o + hlen > end) return undefined;
    const ip = {
      src: new InAddr().read4(dv, o + 12),
      dst: new InAddr().read4(dv, o + 16),
      ttl: dv.getUint8(o + 8),
      tos: dv.getUint8(o + 1),
      flowlabel: 0,
    };
    return transport(at, ip, dv.getUint8(o + 9), bytes.subarray(o + hlen, end), decapsulate);
  }
  if (type !== 0x86dd || bytes.length < o + 40) return undefined;
  const word = dv.getUint32(o);
  const ip = {
    src: new InAddr(6).read6(dv, o + 8),
    dst: new InAddr(6).read6(dv, o + 24),
    ttl: dv.getUint8(o + 7),
    tos: (word >>> 20) & 0xff,
    flowlabel: word & 0xfffff,
  };
  const end = Math.min(bytes.length, o + 40 + dv.getUint16(o + 4));
  return transport(at, ip, dv.getUint8(o + 6), bytes.subarray(o + 40, end), decapsulate);
}

type IpPart = Pick<Captured, 'src' | 'dst' | 'ttl' | 'tos' | 'flowlabel'>;

function transport(
  at: number,
  ip: IpPart,
  proto: number,
  payload: Uint8Array,
  decapsulate: boolean,
): Captured | undefined {
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
    at,
    ...ip,
    udp,
    srcPort: dv.getUint16(0),
    dstPort: dv.getUint16(2),
    tag: dv.getUint32(4),
    checksum,
    body: copy.subarray(SCTP_HEADER),
  };
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
