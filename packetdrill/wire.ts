/**
 * Injected packets as bytes: IPv4 and IPv6 (RFC 791, RFC 8200), UDP around SCTP (RFC 6951), the SCTP common header with its
 * CRC32c (RFC 9260 §3.1, §6.8), ICMP errors that quote a packet of the stack under test (RFC 792, RFC 4443), and headers
 * outside (RFC 2003, RFC 2473, GRE of RFC 2784, MPLS of RFC 3032 and RFC 4023). Frames carry an Ethernet header without
 * addresses: the medium has none.
 */

import { InAddr, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } from '../stack/netinet/in.js';
import { finish, sumPseudo, sumRange } from '../stack/netinet/in_cksum.js';
import { crc32c } from '../stack/sctp/crc32c.js';
import type { Encap, IcmpPacket, IpInfo, Ports } from './ast.js';
import { ScriptError, Writer } from './encode.js';
import { icmpNumbers } from './forms.js';

export const ETHER_HEADER = 14;
export const SCTP_HEADER = 12;
export const UDP_HEADER = 8;
/** What stands in the type field of an Ethernet or GRE header. */
export const ETHERTYPE_IP = 0x0800;
export const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_MPLS = 0x8847;
const IPPROTO_IPIP = 4;
const IPPROTO_IPV6 = 41;
const IPPROTO_GRE = 47;
const IPPROTO_MPLS = 137;
/** TTL and hop limit of injected packets that say nothing else (facts part 1.2). */
const DEFAULT_TTL = 255;

/** The conversation under test: addresses of both sides and the live ports. */
export interface Tuple {
  readonly local: InAddr;
  readonly remote: InAddr;
  localPort: number;
  remotePort: number;
}

export const view = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.length);

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
  view(out).setUint16(12, family === 4 ? ETHERTYPE_IP : ETHERTYPE_IPV6);
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
  return ipPacket(t.local, t.remote, IPPROTO_TCP, w.u32(e.start).take(), undefined);
}

/** A frame with outer headers around its packet, the first of them outermost. */
export function encapsulate(inner: Uint8Array, headers: readonly Encap[]): Uint8Array {
  if (headers.length === 0) return inner;
  let packet = inner.subarray(ETHER_HEADER);
  let type = view(inner).getUint16(12);
  for (const e of [...headers].reverse()) {
    switch (e.kind) {
      case 'gre': {
        const w = new Writer().u16(0).u16(type).bytes(packet);
        [packet, type] = [w.take(), IPPROTO_GRE];
        break;
      }
      case 'mpls': {
        const w = new Writer();
        for (const l of e.labels) w.u32(((l.label << 12) | (l.tc << 9) | (l.bottom ? 0x100 : 0) | l.ttl) >>> 0);
        [packet, type] = [w.bytes(packet).take(), ETHERTYPE_MPLS];
        break;
      }
      default: {
        const [src, dst] = [InAddr.of(e.src), InAddr.of(e.dst)];
        packet = ipPacket(src, dst, PROTOCOLS.get(type) ?? type, packet, e.ip);
        type = e.kind === 'ipv4' ? ETHERTYPE_IP : ETHERTYPE_IPV6;
      }
    }
  }
  if (type !== ETHERTYPE_IP && type !== ETHERTYPE_IPV6)
    throw new ScriptError('the outermost header is not ipv4 or ipv6');
  return frame(type === ETHERTYPE_IP ? 4 : 6, packet);
}
/** IP's number of what has one of Ethernet's. */
const PROTOCOLS: ReadonlyMap<number, number> = new Map([
  [ETHERTYPE_IP, IPPROTO_IPIP],
  [ETHERTYPE_IPV6, IPPROTO_IPV6],
  [ETHERTYPE_MPLS, IPPROTO_MPLS],
]);
