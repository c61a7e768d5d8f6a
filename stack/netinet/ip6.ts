/**
 * IPv6 (RFC 8200): input with extension headers and reassembly, output with fragmentation at the source and with trains.
 *
 *  |Version| Traffic Class |           Flow Label                  |
 *  |         Payload Length        |  Next Header  |   Hop Limit   |
 *  |                   Source Address, 16 bytes                    |
 *  |                Destination Address, 16 bytes                  |
 */

import { EADDRNOTAVAIL, EHOSTUNREACH, EMSGSIZE, ENOBUFS } from '../kern/errno.js';
import type { Mbuf } from '../kern/mbuf.js';
import { CSUM_SCTP, CSUM_UDP, M_BCAST, M_MCAST, M_NULL } from '../kern/mbuf.js';
import { IpInfo } from '../kern/protosw.js';
import type { SysctlRow } from '../kern/sysctl.js';
import { ETHERTYPE_IPV6 } from '../net/ethernet.js';
import { IFF_LOOPBACK, type Ifnet } from '../net/ifnet.js';
import type { Route } from '../net/route.js';
import type { Stack } from '../stack.js';
import { InAddr } from './in.js';
import { cutSegment, delayedChecksums, hasLoopbackAddress, IP_MAXPACKET, trainFits } from './ip.js';
import { Reassembly } from './reass.js';

export const IP6_HDR_LEN = 40;
export const IPPROTO_HOPOPTS = 0;
export const IPPROTO_ROUTING = 43;
export const IPPROTO_FRAGMENT = 44;
export const IPPROTO_NONE = 59;
export const IPPROTO_DSTOPTS = 60;
export const FRAGMENT_HDR_LEN = 8;

export const ICMP6_TIME_EXCEEDED = 3;
export const ICMP6_PARAM_PROBLEM = 4;
export const PARAM_HEADER = 0; // erroneous header field
export const PARAM_NEXT_HEADER = 1; // unrecognized next header
export const PARAM_OPTION = 2; // unrecognized option

/** Extension headers of one packet, and bytes of them; RFC 8504 §5.3 lets a host set such limits. */
const MAX_HEADERS = 8;
const MAX_HEADER_BYTES = 1024;
const MAX_OPTIONS = 32;

export const IP6_SYSCTLS: readonly SysctlRow[] = [
  { name: 'hlim', default: 64, min: 1, max: 255, meaning: 'hop limit of packets that we send' },
  { name: 'maxfragpackets', default: 64, min: 0, max: 1024, meaning: 'datagrams in reassembly at a time' },
  { name: 'maxfragsperpacket', default: 64, min: 1, max: 256, meaning: 'fragments of one datagram' },
  {
    name: 'fragttl',
    default: 60,
    min: 1,
    max: 255,
    meaning: 'time that a datagram may take to arrive (RFC 8200 section 4.5)',
    unit: 's',
  },
];

export const IP6_COUNTERS = {
  received: 0,
  delivered: 0,
  too_short: 0,
  bad_version: 0,
  bad_length: 0,
  bad_source: 0,
  bad_destination: 0,
  not_mine: 0,
  too_many_headers: 0,
  bad_header: 0,
  bad_option: 0,
  no_next_header: 0,
  no_protocol: 0,
  fragments_received: 0,
  atomic_fragments: 0,
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

export class Ip6 {
  readonly counters: Record<keyof typeof IP6_COUNTERS, number> = { ...IP6_COUNTERS };
  readonly settings = { hlim: 64, maxfragpackets: 64, maxfragsperpacket: 64, fragttl: 60 };
  readonly info = new IpInfo();
  /** Header bytes (extension headers included) that lie in front of the packet in hand. */
  headerLength = 0;
  readonly reassembly: Reassembly;
  readonly #stack: Stack;
  readonly #source = new InAddr(6);
  #id: number;
  // Walk of the extension headers: where it stands.
  #next = 0;
  #at = 0;

  constructor(stack: Stack) {
    this.#stack = stack;
    this.info.family = 6;
    this.#id = stack.random.u32();
    this.reassembly = new Reassembly(6, stack.pool, stack.callouts, this.settings, m =>
      stack.icmp6.error(m, ICMP6_TIME_EXCEEDED, 1, 0),
    );
    stack.sysctl.add('net.inet6.ip6', IP6_SYSCTLS, this.settings);
    stack.counters.add('ip6', this.counters);
    stack.counters.add('ip6.reass', this.reassembly.counters);
    stack.interfaces.attachProtocol(ETHERTYPE_IPV6, (ifp, m) => this.input(ifp, m));
  }

  // Input

  /** A packet from an interface, link header stripped. Takes ownership. */
  input(ifp: Ifnet, m: Mbuf) {
    const pool = this.#stack.pool;
    const c = this.counters;
    c.received++;
    if (pool.pktlen[m]! < IP6_HDR_LEN) return this.#drop(m, 'too_short');
    if ((m = pool.pullupTo(m, IP6_HDR_LEN)) === M_NULL) {
      c.nobufs++;
      return;
    }
    const dv = pool.dv;
    const at = pool.off[m]!;
    const word = dv.getUint32(at);
    if (word >>> 28 !== 6) return this.#drop(m, 'bad_version');
    if (pool.segsz[m] === 0) {
      const total = dv.getUint16(at + 4) + IP6_HDR_LEN;
      if (total > pool.pktlen[m]!) return this.#drop(m, 'bad_length');
      if (total < pool.pktlen[m]!) pool.trim(m, total);
    } else {
      if (pool.hdrlen[m]! < IP6_HDR_LEN) return this.#drop(m, 'bad_length');
      c.trains_received++;
    }
    const info = this.info;
    info.src.read6(dv, at + 8);
    info.dst.read6(dv, at + 24);
    if (!this.#acceptable(ifp, m)) return;
    info.ifp = ifp;
    info.ttl = dv.getUint8(at + 7);
    info.tos = (word >>> 20) & 0xff;
    info.udpSrc = 0;
    info.udpDst = 0;
    this.#next = dv.getUint8(at + 6);
    this.#at = IP6_HDR_LEN;
    if (this.#isExtension(this.#next) && (m = this.#extensions(m)) === M_NULL) return;
    pool.adj(m, this.#at);
    this.headerLength = this.#at;
    const row = this.#stack.protocols.inputFor(6, this.#next);
    if (row !== undefined) {
      c.delivered++;
      row.input!(m, info);
      return;
    }
    if (this.#next === IPPROTO_NONE) return this.#drop(m, 'no_next_header');
    c.no_protocol++;
    // RFC 4443 §3.4: the pointer shows the next-header field of the basic header when that is the culprit.
    this.#stack.icmp6.error(this.unstrip(m, 0), ICMP6_PARAM_PROBLEM, PARAM_NEXT_HEADER, 6);
  }

  /** Puts the headers, and `more` bytes of what was stripped behind them, back in front of the packet in hand. */
  unstrip(m: Mbuf, more: number): Mbuf {
    const pool = this.#stack.pool;
    const n = this.headerLength + more;
    pool.off[m]! -= n;
    pool.len[m]! += n;
    pool.pktlen[m]! += n;
    if (pool.segsz[m]! > 0) pool.hdrlen[m]! += n;
    return m;
  }

  #acceptable(ifp: Ifnet, m: Mbuf): boolean {
    const { src, dst } = this.info;
    const pool = this.#stack.pool;
    const lo = (ifp.flags & IFF_LOOPBACK) !== 0;
    // RFC 4291 §2.7, and v4-mapped addresses must not be on the wire (RFC 6890 table 20).
    if (src.isMulticast || src.isV4Mapped) return this.#refuse(m, 'bad_source');
    if (dst.isUnspecified || dst.isV4Mapped) return this.#refuse(m, 'bad_destination');
    if (!lo && (src.isLoopback || dst.isLoopback) && !hasLoopbackAddress(ifp))
      return this.#refuse(m, src.isLoopback ? 'bad_source' : 'bad_destination');
    if (ifp.has(dst)) return true;
    if (dst.isMulticast) {
      if (!this.isMember(ifp, dst)) return this.#refuse(m, 'not_mine');
      pool.csum[m]! |= M_MCAST;
      return true;
    }
    if (
      (pool.csum[m]! & (M_BCAST | M_MCAST)) === 0 &&
      !dst.isLinkLocal &&
      this.#stack.interfaces.ownerOf(dst) !== undefined
    )
      return true;
    return this.#refuse(m, 'not_mine');
  }

  /** True for groups that an interface is in: ff01::1, ff02::1 and the solicited-node groups of its addresses. */
  isMember(ifp: Ifnet, group: InAddr): boolean {
    if (group.w1 !== 0 || group.w0 >>> 16 === 0) return false;
    const scope = (group.w0 >>> 16) & 15;
    if (group.w2 === 0 && group.w3 === 1) return (group.w0 & 0xffff) === 0 && (scope === 1 || scope === 2);
    if (group.w0 !== (0xff020000 | 0) || group.w2 !== 1 || group.w3 >>> 24 !== 0xff) return false;
    for (let i = 0; i < ifp.addresses.length; i++) {
      const a = ifp.addresses[i]!.addr;
      if (a.family === 6 && ((a.w3 ^ group.w3) & 0xffffff) === 0) return true;
    }
    return false;
  }

  #isExtension(next: number): boolean {
    return (
      next === IPPROTO_HOPOPTS || next === IPPROTO_ROUTING || next === IPPROTO_FRAGMENT || next === IPPROTO_DSTOPTS
    );
  }

  /**
   * Walks the extension headers from #next at #at (offsets from the packet's first byte) to the upper layer's. Returns the
   * packet (perhaps another mbuf, or a reassembled one), or M_NULL when it is gone.
   */
  #extensions(m: Mbuf): Mbuf {
    const pool = this.#stack.pool;
    const dv = pool.dv;
    for (let count = 0; this.#isExtension(this.#next); count++) {
      const at = this.#at;
      if (count >= MAX_HEADERS || at > MAX_HEADER_BYTES) return this.#gone(m, 'too_many_headers');
      if (this.#next === IPPROTO_HOPOPTS && at !== IP6_HDR_LEN)
        // RFC 8200 §4.3: hop-by-hop options come first or not at all.
        return this.#problem(m, 'bad_header', PARAM_NEXT_HEADER, at);
      if (pool.pktlen[m]! < at + 8) return this.#gone(m, 'bad_header');
      if ((m = pool.pullupTo(m, at + 8)) === M_NULL) {
        this.counters.nobufs++;
        return M_NULL;
      }
      if (this.#next === IPPROTO_FRAGMENT) {
        if ((m = this.#fragmentInput(m)) === M_NULL) return M_NULL;
        continue;
      }
      const n = (dv.getUint8(pool.off[m]! + at + 1) + 1) << 3;
      if (pool.pktlen[m]! < at + n) return this.#gone(m, 'bad_header');
      if ((m = pool.pullupTo(m, at + n)) === M_NULL) {
        this.counters.nobufs++;
        return M_NULL;
      }
      const h = pool.off[m]! + at;
      if (this.#next === IPPROTO_ROUTING) {
        // RFC 8200 §4.4: no segments left, skip; else a type we do not know (type 0: RFC 5095 §3).
        if (dv.getUint8(h + 3) !== 0) return this.#problem(m, 'bad_header', PARAM_HEADER, at + 2);
      } else if (!this.#options(m, at, n)) return M_NULL;
      this.#next = dv.getUint8(h);
      this.#at = at + n;
    }
    return m;
  }

  /** Options of a hop-by-hop or destination header, RFC 8200 §4.2. We know none but the paddings. False: m is gone. */
  #options(m: Mbuf, at: number, n: number): boolean {
    const dv = this.#stack.pool.dv;
    const base = this.#stack.pool.off[m]!;
    const end = at + n;
    let o = at + 2;
    for (let count = 0; o < end; count++) {
      if (count >= MAX_OPTIONS) return this.#refuse(m, 'bad_option');
      const type = dv.getUint8(base + o);
      if (type === 0) {
        o++;
        continue;
      }
      if (o + 2 > end || o + 2 + dv.getUint8(base + o + 1) > end) return this.#refuse(m, 'bad_option');
      const action = type >>> 6;
      if (action !== 0) {
        const group = this.info.dst.isMulticast;
        if (action === 1 || (action === 3 && group)) return this.#refuse(m, 'bad_option');
        this.#problem(m, 'bad_option', PARAM_OPTION, o);
        return false;
      }
      o += 2 + dv.getUint8(base + o + 1);
    }
    return true;
  }

  /**
   * Fragment header at #at, RFC 8200 §4.5:  | next | 0 | offset 13 bits, 0 0, M | identification |
   * The reassembled packet keeps it among the headers in front.
   */
  #fragmentInput(m: Mbuf): Mbuf {
    const pool = this.#stack.pool;
    const dv = pool.dv;
    const c = this.counters;
    const h = pool.off[m]! + this.#at;
    const hlen = this.#at + FRAGMENT_HDR_LEN;
    const word = dv.getUint16(h + 2);
    const from = word & 0xfff8;
    const more = (word & 1) !== 0;
    const next = dv.getUint8(h);
    const n = pool.pktlen[m]! - hlen;
    if (pool.segsz[m] !== 0) return this.#gone(m, 'fragments_dropped');
    c.fragments_received++;
    if (from === 0 && !more) {
      // RFC 6946: an atomic fragment is a packet of its own.
      c.atomic_fragments++;
      this.#next = next;
      this.#at = hlen;
      return m;
    }
    if (n === 0) return this.#gone(m, 'fragments_dropped');
    if (more && (n & 7) !== 0) return this.#problem(m, 'fragments_dropped', PARAM_HEADER, 4);
    if (from + n + hlen - IP6_HDR_LEN > IP_MAXPACKET)
      return this.#problem(m, 'fragments_dropped', PARAM_HEADER, this.#at + 2);
    const { src, dst, tos } = this.info;
    const whole = this.reassembly.add(m, src, dst, dv.getInt32(h + 4), next, hlen, from, n, more, tos);
    if (whole === M_NULL) return M_NULL;
    c.reassembled++;
    this.info.tos = this.reassembly.tos;
    // The first fragment's headers are those of the packet; it may have had others than the one that came last.
    return this.#afterFragment(whole);
  }

  /** Walks the first fragment's headers again, up to behind its fragment header: they were checked when it came. */
  #afterFragment(m: Mbuf): Mbuf {
    const pool = this.#stack.pool;
    const base = pool.off[m]!;
    let next = pool.dv.getUint8(base + 6);
    let at = IP6_HDR_LEN;
    while (next !== IPPROTO_FRAGMENT) {
      next = pool.dv.getUint8(base + at);
      at += (pool.dv.getUint8(base + at + 1) + 1) << 3;
    }
    this.#next = pool.dv.getUint8(base + at);
    this.#at = at + FRAGMENT_HDR_LEN;
    return m;
  }

  #drop(m: Mbuf, why: keyof typeof IP6_COUNTERS): void {
    this.counters[why]++;
    this.#stack.pool.freem(m);
  }
  #refuse(m: Mbuf, why: keyof typeof IP6_COUNTERS): false {
    this.#drop(m, why);
    return false;
  }
  #gone(m: Mbuf, why: keyof typeof IP6_COUNTERS): Mbuf {
    this.#drop(m, why);
    return M_NULL;
  }
  #problem(m: Mbuf, why: keyof typeof IP6_COUNTERS, code: number, pointer: number): Mbuf {
    this.counters[why]++;
    this.#stack.icmp6.error(m, ICMP6_PARAM_PROBLEM, code, pointer);
    return M_NULL;
  }

  // Output

  /**
   * Sends a transport packet or train. As Ip.output; without `df` what is larger than the path's MTU is fragmented here,
   * as IPv6 routers do not.
   */
  output(
    m: Mbuf,
    src: InAddr,
    dst: InAddr,
    proto: number,
    tos: number,
    df: boolean,
    hlim = this.settings.hlim,
  ): number {
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
      if (!trainFits(pool.pktlen[m]!, pool.hdrlen[m]!, seg, IP6_HDR_LEN, pool.csum[m]!, ifp, mtu))
        return this.#split(m, src, dst, proto, tos, df, hlim);
      this.counters.trains_sent++;
    } else if (pool.pktlen[m]! + IP6_HDR_LEN > mtu) {
      if (df || pool.pktlen[m]! > IP_MAXPACKET) {
        this.#drop(m, 'too_big');
        return -EMSGSIZE;
      }
      return this.#fragment(m, route, src, dst, proto, tos, hlim, mtu);
    }
    if (!this.#checksums(m, src, dst, proto, ifp)) return -ENOBUFS;
    const e = this.#emit(m, route.ifp, src, dst, route.gateway ?? dst, proto, tos, hlim);
    if (e === 0) this.counters.sent++;
    return e;
  }

  /** Sends on an interface without asking for a route: neighbour discovery. The source may be unspecified. */
  outputOn(ifp: Ifnet, m: Mbuf, src: InAddr, dst: InAddr, proto: number, hlim: number): number {
    return this.#emit(m, ifp, src, dst, dst, proto, 0, hlim);
  }

  #emit(
    m: Mbuf,
    ifp: Ifnet,
    src: InAddr,
    dst: InAddr,
    nexthop: InAddr,
    proto: number,
    tos: number,
    hlim: number,
  ): number {
    const pool = this.#stack.pool;
    const payload = pool.pktlen[m]!;
    m = pool.prepend(m, IP6_HDR_LEN);
    if (m === M_NULL) {
      this.counters.nobufs++;
      return -ENOBUFS;
    }
    const dv = pool.dv;
    const at = pool.off[m]!;
    dv.setUint32(at, 0x60000000 | (tos << 20));
    dv.setUint16(at + 4, payload);
    dv.setUint16(at + 6, (proto << 8) | hlim);
    src.write(dv, at + 8);
    dst.write(dv, at + 24);
    return this.#stack.interfaces.output(ifp, m, ETHERTYPE_IPV6, nexthop);
  }

  #checksums(m: Mbuf, src: InAddr, dst: InAddr, proto: number, ifp: Ifnet | undefined): boolean {
    if ((this.#stack.pool.csum[m]! & (CSUM_UDP | CSUM_SCTP)) === 0) return true;
    if (delayedChecksums(this.#stack, m, src, dst, proto, ifp?.hwassist ?? 0)) return true;
    this.#drop(m, 'no_delayed_checksum');
    return false;
  }

  #split(m: Mbuf, src: InAddr, dst: InAddr, proto: number, tos: number, df: boolean, hlim: number): number {
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
      const e = this.output(p, src, dst, proto, tos, df, hlim);
      if (e < 0 && result === 0) result = e;
    }
    pool.freem(m);
    return result;
  }

  #fragment(
    m: Mbuf,
    route: Route,
    src: InAddr,
    dst: InAddr,
    proto: number,
    tos: number,
    hlim: number,
    mtu: number,
  ): number {
    if (!this.#checksums(m, src, dst, proto, undefined)) return -ENOBUFS;
    const pool = this.#stack.pool;
    const total = pool.pktlen[m]!;
    const unit = (mtu - IP6_HDR_LEN - FRAGMENT_HDR_LEN) & ~7;
    if (unit < 8) {
      this.#drop(m, 'too_big');
      return -EMSGSIZE;
    }
    // RFC 7739: not predictable from one destination's packets to another's.
    this.#id = (this.#id + 1 + (this.#stack.random.u32() & 0xff)) | 0;
    this.counters.fragmented++;
    let result = 0;
    for (let from = 0; from < total && result === 0; from += unit) {
      const n = Math.min(unit, total - from);
      const p = pool.get(n + FRAGMENT_HDR_LEN);
      if (p === M_NULL) {
        this.counters.nobufs++;
        result = -ENOBUFS;
        break;
      }
      const to = pool.off[p]!;
      pool.dv.setUint16(to, proto << 8);
      pool.dv.setUint16(to + 2, from | (from + n < total ? 1 : 0));
      pool.dv.setInt32(to + 4, this.#id);
      pool.copydata(m, from, n, to + FRAGMENT_HDR_LEN);
      pool.len[p] = pool.pktlen[p] = n + FRAGMENT_HDR_LEN;
      pool.flow[p] = pool.flow[m]!;
      this.counters.fragments_sent++;
      result = this.#emit(p, route.ifp, src, dst, route.gateway ?? dst, IPPROTO_FRAGMENT, tos, hlim);
    }
    if (result === 0) this.counters.sent++;
    pool.freem(m);
    return result;
  }
}
