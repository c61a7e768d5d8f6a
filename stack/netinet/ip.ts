/**
 * IPv4 (RFC 791, host requirements of RFC 1122 §3): input with reassembly, output with fragmentation and with trains.
 *
 *   0                   1                   2                   3
 *   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *  |Version|  IHL  |      TOS      |          Total Length         |
 *  |         Identification        |Flags|     Fragment Offset     |
 *  |      TTL      |    Protocol   |        Header Checksum        |
 *  |                         Source Address                        |
 *  |                      Destination Address                      |
 *  |                    Options, skipped (RFC 7126)                |
 *
 * A train (mbuf.segsz > 0) gets one header, whose total length is that of the whole train: who cuts it (card or port)
 * writes length, identification and checksum anew for each packet.
 */

import { EADDRNOTAVAIL, EHOSTUNREACH, EMSGSIZE, ENOBUFS } from '../kern/errno.js';
import type { Mbuf } from '../kern/mbuf.js';
import { CSUM_IP, CSUM_L3_OK, CSUM_SCTP, CSUM_UDP, M_BCAST, M_LOOP, M_MCAST, M_NULL } from '../kern/mbuf.js';
import { IpInfo } from '../kern/protosw.js';
import type { SysctlRow } from '../kern/sysctl.js';
import { ETHERTYPE_IP } from '../net/ethernet.js';
import { IFF_LOOPBACK, type Ifnet } from '../net/ifnet.js';
import type { Route } from '../net/route.js';
import type { Stack } from '../stack.js';
import { InAddr, IPPROTO_UDP } from './in.js';
import { finish, fold, sumChain, sumPseudo, sumRange } from './in_cksum.js';
import { Reassembly } from './reass.js';

export const IP_HDR_LEN = 20;
export const IP_MAXPACKET = 65535;
export const IP_DF = 0x4000;
export const IP_MF = 0x2000;
export const IP_OFFMASK = 0x1fff;
export const ICMP_UNREACH = 3;
export const ICMP_UNREACH_PROTOCOL = 2;

export const IP_SYSCTLS: readonly SysctlRow[] = [
  { name: 'ttl', default: 64, min: 1, max: 255, meaning: 'time to live of packets that we send' },
  { name: 'maxfragpackets', default: 64, min: 0, max: 1024, meaning: 'datagrams in reassembly at a time' },
  { name: 'maxfragsperpacket', default: 64, min: 1, max: 256, meaning: 'fragments of one datagram' },
  { name: 'fragttl', default: 30, min: 1, max: 255, meaning: 'time that a datagram may take to arrive', unit: 's' },
];

export const IP_COUNTERS = {
  received: 0,
  delivered: 0,
  too_short: 0,
  bad_version: 0,
  bad_header_length: 0,
  bad_length: 0,
  bad_checksum: 0,
  bad_source: 0,
  bad_destination: 0,
  not_mine: 0,
  options: 0,
  no_protocol: 0,
  fragments_received: 0,
  reassembled: 0,
  fragments_dropped: 0,
  sent: 0,
  no_route: 0,
  no_source: 0,
  too_big: 0,
  fragmented: 0,
  fragments_sent: 0,
  trains_received: 0,
  trains_sent: 0,
  trains_split: 0,
  nobufs: 0,
  no_delayed_checksum: 0,
};

export class Ip {
  readonly counters: Record<keyof typeof IP_COUNTERS, number> = { ...IP_COUNTERS };
  readonly settings = { ttl: 64, maxfragpackets: 64, maxfragsperpacket: 64, fragttl: 30 };
  /** What protocols are told of the packet in hand. */
  readonly info = new IpInfo();
  /** Header bytes of the packet in hand, which lie in front of it in its first mbuf: see `unstrip`. */
  headerLength = 0;
  readonly reassembly: Reassembly;
  readonly #stack: Stack;
  readonly #source = new InAddr();
  #id: number;

  constructor(stack: Stack) {
    this.#stack = stack;
    this.#id = stack.random.u32() & 0xffff;
    this.reassembly = new Reassembly(4, stack.pool, stack.callouts, this.settings, (m, first) =>
      this.#expired(m, first),
    );
    stack.sysctl.add('net.inet.ip', IP_SYSCTLS, this.settings);
    stack.counters.add('ip', this.counters);
    stack.counters.add('ip.reass', this.reassembly.counters);
    stack.interfaces.attachProtocol(ETHERTYPE_IP, (ifp, m) => this.input(ifp, m));
  }

  // Input

  /** A packet from an interface, link header stripped. Takes ownership. */
  input(ifp: Ifnet, m: Mbuf) {
    const pool = this.#stack.pool;
    const c = this.counters;
    c.received++;
    if (pool.pktlen[m]! < IP_HDR_LEN) return this.#drop(m, 'too_short');
    if ((m = pool.pullupTo(m, IP_HDR_LEN)) === M_NULL) {
      c.nobufs++;
      return;
    }
    const dv = pool.dv;
    let at = pool.off[m]!;
    const vhl = dv.getUint8(at);
    if (vhl >>> 4 !== 4) return this.#drop(m, 'bad_version');
    const hlen = (vhl & 15) << 2;
    if (hlen < IP_HDR_LEN || hlen > pool.pktlen[m]!) return this.#drop(m, 'bad_header_length');
    if (hlen > IP_HDR_LEN) {
      c.options++;
      if ((m = pool.pullupTo(m, hlen)) === M_NULL) {
        c.nobufs++;
        return;
      }
      at = pool.off[m]!;
    }
    const total = dv.getUint16(at + 2);
    if (pool.segsz[m] === 0) {
      if (total < hlen || total > pool.pktlen[m]!) return this.#drop(m, 'bad_length');
      if (total < pool.pktlen[m]!) pool.trim(m, total);
    } else {
      // The driver made the train: its lengths are the mbuf's. It cannot be a fragment.
      if (pool.hdrlen[m]! < hlen || (dv.getUint16(at + 6) & (IP_MF | IP_OFFMASK)) !== 0)
        return this.#drop(m, 'bad_length');
      c.trains_received++;
    }
    if ((pool.csum[m]! & (CSUM_L3_OK | M_LOOP)) === 0 && sumRange(dv, at, hlen) !== 0xffff)
      return this.#drop(m, 'bad_checksum');
    const info = this.info;
    info.src.read4(dv, at + 12);
    info.dst.read4(dv, at + 16);
    if (!this.#acceptable(ifp, m)) return;
    const fragment = dv.getUint16(at + 6);
    if ((fragment & (IP_MF | IP_OFFMASK)) !== 0) {
      if ((m = this.#fragmentInput(m, at, hlen, fragment)) === M_NULL) return;
      at = pool.off[m]!;
    }
    info.ifp = ifp;
    info.ttl = dv.getUint8(at + 8);
    info.tos = dv.getUint8(at + 1);
    info.udpSrc = 0;
    info.udpDst = 0;
    const proto = dv.getUint8(at + 9);
    const headerLength = (dv.getUint8(at) & 15) << 2;
    pool.adj(m, headerLength);
    this.headerLength = headerLength;
    this.deliver(proto, m);
  }

  /** Hands a packet (header stripped, info filled) to its protocol. */
  deliver(proto: number, m: Mbuf): void {
    const row = this.#stack.protocols.inputFor(4, proto);
    if (row !== undefined) {
      this.counters.delivered++;
      row.input!(m, this.info);
      return;
    }
    this.counters.no_protocol++;
    this.#stack.icmp.error(this.unstrip(m, 0), ICMP_UNREACH, ICMP_UNREACH_PROTOCOL, 0);
  }

  /** Puts the IP header, and `more` bytes of what was stripped behind it, back in front of the packet in hand. */
  unstrip(m: Mbuf, more: number): Mbuf {
    const pool = this.#stack.pool;
    const n = this.headerLength + more;
    pool.off[m]! -= n;
    pool.len[m]! += n;
    pool.pktlen[m]! += n;
    if (pool.segsz[m]! > 0) pool.hdrlen[m]! += n;
    return m;
  }

  /** RFC 1122 §3.2.1.3: which addresses may stand in a received packet. Drops and counts it otherwise. */
  #acceptable(ifp: Ifnet, m: Mbuf): boolean {
    const { src, dst } = this.info;
    const lo = (ifp.flags & IFF_LOOPBACK) !== 0;
    if (src.isMulticast || src.isBroadcast || (src.w3 >>> 24 === 0 && !src.isUnspecified)) {
      this.#drop(m, 'bad_source');
      return false;
    }
    // 127/8 only inside the host, or on a card whose own address says that its medium is a loopback.
    if (!lo && (src.isLoopback || dst.isLoopback) && !hasLoopbackAddress(ifp)) {
      this.#drop(m, src.isLoopback ? 'bad_source' : 'bad_destination');
      return false;
    }
    if (ifp.has(dst)) return true;
    if (dst.isMulticast) {
      // 224.0.0.1, all hosts on this link, is the one group that we are in (RFC 1112 §4).
      if (dst.w3 === (0xe0000001 | 0)) return true;
    } else if (this.#stack.routes.isBroadcast(ifp, dst)) {
      this.#stack.pool.csum[m]! |= M_BCAST;
      return true;
    } else if ((this.#stack.pool.csum[m]! & (M_BCAST | M_MCAST)) === 0) {
      // Weak host model, RFC 1122 §3.3.4.2; but not for what was sent to everybody.
      if (this.#stack.interfaces.ownerOf(dst) !== undefined) return true;
      if (lo && dst.isLoopback) return true;
    }
    this.#drop(m, 'not_mine');
    return false;
  }

  #fragmentInput(m: Mbuf, at: number, hlen: number, fragment: number): Mbuf {
    const pool = this.#stack.pool;
    const dv = pool.dv;
    this.counters.fragments_received++;
    const from = (fragment & IP_OFFMASK) << 3;
    const n = pool.pktlen[m]! - hlen;
    const more = (fragment & IP_MF) !== 0;
    // RFC 791 §3.2: all but the last are multiples of 8 bytes; and the whole must fit a datagram.
    if (n === 0 || (more && (n & 7) !== 0) || from + n + hlen > IP_MAXPACKET) {
      this.#drop(m, 'fragments_dropped');
      return M_NULL;
    }
    const tos = dv.getUint8(at + 1);
    const whole = this.reassembly.add(
      m,
      this.info.src,
      this.info.dst,
      dv.getUint16(at + 4),
      dv.getUint8(at + 9),
      hlen,
      from,
      n,
      more,
      tos,
    );
    if (whole === M_NULL) return M_NULL;
    this.counters.reassembled++;
    const h = pool.off[whole]!;
    dv.setUint16(h + 2, pool.pktlen[whole]!);
    dv.setUint16(h + 6, 0);
    dv.setUint8(h + 1, this.reassembly.tos);
    return whole;
  }

  /** A datagram whose fragments did not all come in time: RFC 1122 §3.3.2 wants the sender told if the first did. */
  #expired(m: Mbuf, first: boolean): void {
    if (first) this.#stack.icmp.error(m, 11, 1, 0);
    else this.#stack.pool.freem(m);
  }

  #drop(m: Mbuf, why: keyof typeof IP_COUNTERS): void {
    this.counters[why]++;
    this.#stack.pool.freem(m);
  }

  // Output

  /**
   * Sends a transport packet or train from src (unspecified: chosen) to dst. Takes ownership. With `df` the first hop's
   * MTU alone decides, not the cache of path MTUs, so that a transport's own probes (RFC 8899) may try larger ones.
   * Returns 0, -EHOSTUNREACH, -EADDRNOTAVAIL, -EMSGSIZE, -ENETDOWN or -ENOBUFS.
   */
  output(m: Mbuf, src: InAddr, dst: InAddr, proto: number, tos: number, df: boolean, ttl = this.settings.ttl): number {
    const stack = this.#stack;
    const pool = stack.pool;
    const route = stack.routes.lookupFrom(src, dst);
    if (route === undefined) {
      this.#drop(m, 'no_route');
      return -EHOSTUNREACH;
    }
    if (src.isUnspecified) {
      if (!stack.routes.source(dst, this.#source)) {
        this.#drop(m, 'no_source');
        return -EADDRNOTAVAIL;
      }
      src = this.#source;
    }
    const ifp = route.ifp;
    const mtu = df ? route.mtu : stack.routes.pmtu(dst, route);
    const seg = pool.segsz[m]!;
    if (seg > 0) {
      if (!trainFits(pool.pktlen[m]!, pool.hdrlen[m]!, seg, IP_HDR_LEN, pool.csum[m]!, ifp, mtu))
        return this.#split(m, src, dst, proto, tos, df, ttl);
      this.counters.trains_sent++;
    } else if (pool.pktlen[m]! + IP_HDR_LEN > mtu) {
      if (df || pool.pktlen[m]! + IP_HDR_LEN > IP_MAXPACKET) {
        this.#drop(m, 'too_big');
        return -EMSGSIZE;
      }
      return this.#fragment(m, route, src, dst, proto, tos, ttl, mtu);
    }
    if (!this.#checksums(m, src, dst, proto, ifp)) return -ENOBUFS;
    const e = this.#emit(m, route, src, dst, proto, tos, ttl, df ? IP_DF : 0, df ? 0 : this.#nextId());
    if (e === 0) this.counters.sent++;
    return e;
  }

  /** Prepends the header and gives the packet to dlil. */
  #emit(
    m: Mbuf,
    route: Route,
    src: InAddr,
    dst: InAddr,
    proto: number,
    tos: number,
    ttl: number,
    frag: number,
    id: number,
  ): number {
    const pool = this.#stack.pool;
    const ifp = route.ifp;
    m = pool.prepend(m, IP_HDR_LEN);
    if (m === M_NULL) {
      this.counters.nobufs++;
      return -ENOBUFS;
    }
    const dv = pool.dv;
    const at = pool.off[m]!;
    const total = pool.pktlen[m]!;
    dv.setUint16(at, 0x4500 | tos);
    dv.setUint16(at + 2, total);
    dv.setUint16(at + 4, id);
    dv.setUint16(at + 6, frag);
    dv.setUint16(at + 8, (ttl << 8) | proto);
    dv.setInt32(at + 12, src.w3);
    dv.setInt32(at + 16, dst.w3);
    if ((ifp.hwassist & CSUM_IP) !== 0) {
      dv.setUint16(at + 10, 0);
      pool.csum[m]! |= CSUM_IP;
    } else {
      const s = src.w3;
      const d = dst.w3;
      const sum =
        (0x4500 | tos) +
        total +
        id +
        frag +
        ((ttl << 8) | proto) +
        (s >>> 16) +
        (s & 0xffff) +
        (d >>> 16) +
        (d & 0xffff);
      dv.setUint16(at + 10, ~fold(sum) & 0xffff);
    }
    return this.#stack.interfaces.output(ifp, m, ETHERTYPE_IP, route.gateway ?? dst);
  }

  /** Fills in what the card will not. False: the packet could not be finished, and is gone. */
  #checksums(m: Mbuf, src: InAddr, dst: InAddr, proto: number, ifp: Ifnet | undefined): boolean {
    if ((this.#stack.pool.csum[m]! & (CSUM_UDP | CSUM_SCTP)) === 0) return true;
    if (delayedChecksums(this.#stack, m, src, dst, proto, ifp?.hwassist ?? 0)) return true;
    this.#drop(m, 'no_delayed_checksum');
    return false;
  }

  /** Sends a train as single packets: the interface takes none, or not this one. */
  #split(m: Mbuf, src: InAddr, dst: InAddr, proto: number, tos: number, df: boolean, ttl: number): number {
    this.counters.trains_split++;
    const pool = this.#stack.pool;
    const total = pool.pktlen[m]!;
    let result = 0;
    for (let at = pool.hdrlen[m]!; at < total; at += pool.segsz[m]!) {
      const p = cutSegment(this.#stack, m, at, proto);
      if (p === M_NULL) {
        this.counters.nobufs++;
        result = -ENOBUFS;
        break;
      }
      const e = this.output(p, src, dst, proto, tos, df, ttl);
      if (e < 0 && result === 0) result = e;
    }
    pool.freem(m);
    return result;
  }

  /** RFC 791 §3.2, fragmentation at the source. The checksums of the layers above are finished first. */
  #fragment(
    m: Mbuf,
    route: Route,
    src: InAddr,
    dst: InAddr,
    proto: number,
    tos: number,
    ttl: number,
    mtu: number,
  ): number {
    if (!this.#checksums(m, src, dst, proto, undefined)) return -ENOBUFS;
    const pool = this.#stack.pool;
    const total = pool.pktlen[m]!;
    const unit = (mtu - IP_HDR_LEN) & ~7;
    if (unit < 8) {
      this.#drop(m, 'too_big');
      return -EMSGSIZE;
    }
    const id = this.#nextId();
    this.counters.fragmented++;
    let result = 0;
    for (let from = 0; from < total && result === 0; from += unit) {
      const n = Math.min(unit, total - from);
      const p = pool.get(n);
      if (p === M_NULL) {
        this.counters.nobufs++;
        result = -ENOBUFS;
        break;
      }
      pool.len[p] = pool.pktlen[p] = pool.copydata(m, from, n, pool.off[p]!);
      pool.flow[p] = pool.flow[m]!;
      this.counters.fragments_sent++;
      result = this.#emit(p, route, src, dst, proto, tos, ttl, (from >>> 3) | (from + n < total ? IP_MF : 0), id);
    }
    if (result === 0) this.counters.sent++;
    pool.freem(m);
    return result;
  }

  /** Identification for packets that may be fragmented (RFC 6864 §4.1: atomic ones carry 0). */
  #nextId(): number {
    this.#id = (this.#id + 1 + (this.#stack.random.u32() & 7)) & 0xffff;
    return this.#id;
  }
}

/** True when a card was given an address of loopback scope. */
export function hasLoopbackAddress(ifp: Ifnet): boolean {
  for (let i = 0; i < ifp.addresses.length; i++) if (ifp.addresses[i]!.addr.isLoopback) return true;
  return false;
}

/**
 * True when an interface takes a train as it is: `pktlen` bytes of which `hdrlen` are headers, before `iphdr` bytes of IP
 * and the Ethernet header are put in front. What the card is to fill in for each packet, it must be able to.
 */
export function trainFits(
  pktlen: number,
  hdrlen: number,
  seg: number,
  iphdr: number,
  csum: number,
  ifp: Ifnet,
  mtu: number,
): boolean {
  return (
    pktlen + iphdr + 14 <= ifp.trainBytes &&
    pktlen + iphdr <= IP_MAXPACKET &&
    Math.ceil((pktlen - hdrlen) / seg) <= ifp.trainSegments &&
    hdrlen + seg + iphdr <= mtu &&
    (csum & (CSUM_UDP | CSUM_SCTP) & ~ifp.hwassist) === 0
  );
}

/** A single packet out of a train: its headers, and the payload from byte `at` on. M_NULL when the pool is empty. */
export function cutSegment(stack: Stack, m: Mbuf, at: number, proto: number): Mbuf {
  const pool = stack.pool;
  const hdr = pool.hdrlen[m]!;
  const n = Math.min(pool.segsz[m]!, pool.pktlen[m]! - at);
  const p = pool.get(hdr + n);
  if (p === M_NULL) return M_NULL;
  const to = pool.off[p]!;
  pool.copydata(m, 0, hdr, to);
  pool.copydata(m, at, n, to + hdr);
  pool.len[p] = pool.pktlen[p] = hdr + n;
  pool.csum[p] = pool.csum[m]!;
  pool.flow[p] = pool.flow[m]!;
  if (proto === IPPROTO_UDP && hdr >= 8) pool.dv.setUint16(to + 4, hdr + n);
  return p;
}

/**
 * in_delayed_cksum: computes the checksums that were left to a card that cannot do them (`hwassist`). A UDP checksum that
 * the card does stays zero: it fills in the whole, pseudo-header included. SCTP's CRC32c is asked of the SCTP extension; false when it is not there to do it.
 */
export function delayedChecksums(
  stack: Stack,
  m: Mbuf,
  src: InAddr,
  dst: InAddr,
  proto: number,
  hwassist: number,
): boolean {
  const pool = stack.pool;
  const todo = pool.csum[m]!;
  if ((todo & CSUM_SCTP & ~hwassist) !== 0) {
    if (stack.sctpDelayedChecksum === undefined) return false;
    stack.sctpDelayedChecksum(m, proto === IPPROTO_UDP ? 8 : 0);
    pool.csum[m]! &= ~CSUM_SCTP;
  }
  if ((todo & CSUM_UDP & ~hwassist) !== 0 && pool.len[m]! >= 8) {
    const n = pool.pktlen[m]!;
    const field = pool.off[m]! + 6;
    pool.dv.setUint16(field, 0);
    const sum = finish(sumPseudo(src, dst, IPPROTO_UDP, n) + sumChain(pool, m, 0, n));
    pool.dv.setUint16(field, sum === 0 ? 0xffff : sum); // RFC 768: zero means none
    pool.csum[m]! &= ~CSUM_UDP;
  }
  return true;
}
