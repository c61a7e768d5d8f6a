/**
 * ICMPv6 (RFC 4443): echo, errors in and out. Neighbour discovery messages are handed to nd6.
 *
 *  |     Type      |     Code      |   Checksum (with pseudo-header) |
 *  |   MTU, pointer, or identifier and sequence                      |
 *  |   as much of the offending packet as fits 1,280 bytes           |
 */

import { ENOBUFS } from '../kern/errno.js';
import type { Mbuf } from '../kern/mbuf.js';
import { CSUM_L4_OK, M_BCAST, M_LOOP, M_MCAST, M_NULL } from '../kern/mbuf.js';
import { AF_INET6, type CtlInput, type IpInfo, type Protosw, SOCK_RAW } from '../kern/protosw.js';
import type { SysctlRow } from '../kern/sysctl.js';
import type { Stack } from '../stack.js';
import { notify, RateLimit } from './ctlinput.js';
import { InAddr, IPPROTO_ICMPV6 } from './in.js';
import { finish, sumChain, sumPseudo } from './in_cksum.js';
import {
  FRAGMENT_HDR_LEN,
  IP6_HDR_LEN,
  IPPROTO_DSTOPTS,
  IPPROTO_FRAGMENT,
  IPPROTO_HOPOPTS,
  IPPROTO_ROUTING,
} from './ip6.js';

export const ICMP6_DST_UNREACH = 1;
export const ICMP6_PACKET_TOO_BIG = 2;
export const ICMP6_TIME_EXCEEDED = 3;
export const ICMP6_PARAM_PROBLEM = 4;
export const ICMP6_ECHO_REQUEST = 128;
export const ICMP6_ECHO_REPLY = 129;
export const ND_FIRST = 133; // router solicitation
export const ND_LAST = 137; // redirect
export const ICMP6_UNREACH_PORT = 4;
const ICMP6_HDR_LEN = 8;
/** Smallest MTU of a link (RFC 8200 §5). */
const IPV6_MMTU = 1280;
const QUOTE = IPV6_MMTU - IP6_HDR_LEN - ICMP6_HDR_LEN;

export const ICMP6_SYSCTLS: readonly SysctlRow[] = [
  {
    name: 'errppslimit',
    default: 200,
    min: 0,
    max: 1_000_000,
    meaning: 'error messages sent in a second',
    unit: '1/s',
  },
  {
    name: 'echolim',
    default: 10_000,
    min: 0,
    max: 1_000_000,
    meaning: 'echo requests answered in a second',
    unit: '1/s',
  },
];

export const ICMP6_COUNTERS = {
  received: 0,
  too_short: 0,
  bad_checksum: 0,
  echo_received: 0,
  echo_answered: 0,
  echo_ignored: 0,
  echo_replies: 0,
  errors_received: 0,
  errors_not_ours: 0,
  errors_malformed: 0,
  errors_delivered: 0,
  neighbour_discovery: 0,
  unknown_type: 0,
  errors_sent: 0,
  errors_suppressed: 0,
  errors_limited: 0,
  echo_limited: 0,
  nobufs: 0,
};

export class Icmp6 {
  readonly counters: Record<keyof typeof ICMP6_COUNTERS, number> = { ...ICMP6_COUNTERS };
  readonly settings = { errppslimit: 200, echolim: 10_000 };
  onEchoReply: ((from: InAddr, id: number, seq: number, bytes: number) => void) | undefined;
  readonly #stack: Stack;
  readonly #errors: RateLimit;
  readonly #echoes: RateLimit;
  readonly #src = new InAddr(6);
  readonly #dst = new InAddr(6);
  readonly #from = new InAddr(6);

  constructor(stack: Stack) {
    this.#stack = stack;
    stack.sysctl.add('net.inet6.icmp6', ICMP6_SYSCTLS, this.settings);
    stack.counters.add('icmp6', this.counters);
    this.#errors = new RateLimit(stack.clock, () => this.settings.errppslimit);
    this.#echoes = new RateLimit(stack.clock, () => this.settings.echolim);
    const row: Protosw = {
      domain: AF_INET6,
      type: SOCK_RAW,
      protocol: IPPROTO_ICMPV6,
      name: 'icmp6',
      input: (m, info) => this.input(m, info),
    };
    stack.protocols.add(row);
  }

  /** An ICMPv6 message, headers stripped. Takes ownership. */
  input(m: Mbuf, info: IpInfo) {
    const pool = this.#stack.pool;
    const c = this.counters;
    c.received++;
    const n = pool.pktlen[m]!;
    if (n < ICMP6_HDR_LEN) return this.#drop(m, 'too_short');
    if ((pool.csum[m]! & (CSUM_L4_OK | M_LOOP)) === 0) {
      const sum = sumPseudo(info.src, info.dst, IPPROTO_ICMPV6, n) + sumChain(pool, m, 0, n);
      if (finish(sum) !== 0) return this.#drop(m, 'bad_checksum');
    }
    const type = pool.dv.getUint8(pool.off[m]!);
    if (pool.len[m]! < n && type !== ICMP6_ECHO_REQUEST && (m = pool.pullup(m)) === M_NULL) {
      c.nobufs++;
      return;
    }
    if ((m = pool.pullupTo(m, ICMP6_HDR_LEN)) === M_NULL) {
      c.nobufs++;
      return;
    }
    const at = pool.off[m]!;
    if (type === ICMP6_ECHO_REQUEST) return this.#echo(m, info);
    if (type >= ICMP6_DST_UNREACH && type <= ICMP6_PARAM_PROBLEM) return this.#error(m);
    if (type >= ND_FIRST && type <= ND_LAST) {
      c.neighbour_discovery++;
      return this.#stack.nd6.input(m, info);
    }
    if (type !== ICMP6_ECHO_REPLY) return this.#drop(m, 'unknown_type');
    c.echo_replies++;
    this.onEchoReply?.(info.src, pool.dv.getUint16(at + 4), pool.dv.getUint16(at + 6), n - ICMP6_HDR_LEN);
    pool.freem(m);
  }

  #echo(m: Mbuf, info: IpInfo) {
    const pool = this.#stack.pool;
    this.counters.echo_received++;
    if (info.src.isUnspecified) return this.#drop(m, 'echo_ignored');
    if (!this.#echoes.take()) return this.#drop(m, 'echo_limited');
    pool.dv.setUint8(pool.off[m]!, ICMP6_ECHO_REPLY);
    // RFC 4443 §4.2: what was sent to a group is answered from our own address.
    const group = (pool.csum[m]! & (M_BCAST | M_MCAST)) !== 0 || info.dst.isMulticast;
    if (this.#send(m, group ? undefined : info.dst, info.src, info.tos & 0xfc) === 0) this.counters.echo_answered++;
  }

  /** Fills in the checksum and sends. */
  #send(m: Mbuf, src: InAddr | undefined, dst: InAddr, tos: number): number {
    const pool = this.#stack.pool;
    if (src === undefined) {
      if (!this.#stack.routes.source(dst, this.#from)) {
        this.#drop(m, 'errors_suppressed');
        return -1;
      }
      src = this.#from;
    }
    const n = pool.pktlen[m]!;
    pool.csum[m] = 0;
    pool.segsz[m] = 0;
    pool.hdrlen[m] = 0;
    const field = pool.off[m]! + 2;
    pool.dv.setUint16(field, 0);
    pool.dv.setUint16(field, finish(sumPseudo(src, dst, IPPROTO_ICMPV6, n) + sumChain(pool, m, 0, n)));
    return this.#stack.ip6.output(m, src, dst, IPPROTO_ICMPV6, tos, false);
  }

  #error(m: Mbuf) {
    const pool = this.#stack.pool;
    const dv = pool.dv;
    const c = this.counters;
    c.errors_received++;
    const at = pool.off[m]!;
    const inner = at + ICMP6_HDR_LEN;
    const n = pool.pktlen[m]! - ICMP6_HDR_LEN;
    if (n < IP6_HDR_LEN || dv.getUint8(inner) >>> 4 !== 6) return this.#drop(m, 'errors_malformed');
    const src = this.#src.read6(dv, inner + 8);
    const dst = this.#dst.read6(dv, inner + 24);
    if (this.#stack.interfaces.ownerOf(src) === undefined) return this.#drop(m, 'errors_not_ours');
    const type = dv.getUint8(at);
    const kind = kindOf6(type, dv.getUint8(at + 1));
    if (kind === undefined) return this.#drop(m, 'unknown_type');
    // Our own packets carry at most a fragment header, but a router may have seen others in tunnels: skip what we know.
    let next = dv.getUint8(inner + 6);
    let skip = IP6_HDR_LEN;
    for (let i = 0; i < 8 && skip + 8 <= n; i++) {
      if (next === IPPROTO_FRAGMENT) {
        if ((dv.getUint16(inner + skip + 2) & 0xfff8) !== 0) return this.#drop(m, 'errors_malformed');
        next = dv.getUint8(inner + skip);
        skip += FRAGMENT_HDR_LEN;
      } else if (next === IPPROTO_HOPOPTS || next === IPPROTO_DSTOPTS || next === IPPROTO_ROUTING) {
        next = dv.getUint8(inner + skip);
        skip += (dv.getUint8(inner + skip + 1) + 1) << 3;
      } else break;
    }
    if (n < skip + 8) return this.#drop(m, 'errors_malformed');
    const mtu = kind === 'too-big' ? dv.getUint32(at + 4) : 0;
    // RFC 8201 §4: what reports less than every IPv6 link can carry MUST be discarded.
    if (kind === 'too-big' && mtu < IPV6_MMTU) return this.#drop(m, 'errors_malformed');
    if (kind === 'too-big') this.#stack.routes.learnPmtu(dst, mtu);
    if (notify(this.#stack, kind, src, dst, next, mtu, inner + skip, n - skip)) c.errors_delivered++;
    pool.freem(m);
  }

  /** Reports trouble with a packet to its sender: `m` starts with its IPv6 header (contiguous). Takes ownership. */
  error(m: Mbuf, type: number, code: number, param: number) {
    const pool = this.#stack.pool;
    const dv = pool.dv;
    const at = pool.off[m]!;
    const src = this.#src.read6(dv, at + 8);
    const dst = this.#dst.read6(dv, at + 24);
    if (!this.#mayReport(m, src, dst, type, code)) return this.#drop(m, 'errors_suppressed');
    if (!this.#errors.take()) return this.#drop(m, 'errors_limited');
    const n = Math.min(pool.pktlen[m]!, QUOTE);
    const e = pool.get(ICMP6_HDR_LEN + n);
    if (e === M_NULL) return this.#drop(m, 'nobufs');
    const to = pool.off[e]!;
    dv.setUint16(to, (type << 8) | code);
    dv.setUint32(to + 4, param);
    pool.copydata(m, 0, n, to + ICMP6_HDR_LEN);
    pool.len[e] = pool.pktlen[e] = ICMP6_HDR_LEN + n;
    pool.freem(m);
    this.counters.errors_sent++;
    this.#send(e, dst.isMulticast ? undefined : dst, src, 0);
  }

  /** RFC 4443 §2.4 (e): not about errors, groups (but for too-big and unknown options), or packets from nobody. */
  #mayReport(m: Mbuf, src: InAddr, dst: InAddr, type: number, code: number): boolean {
    const pool = this.#stack.pool;
    const at = pool.off[m]!;
    if (src.isUnspecified || src.isMulticast) return false;
    const many = dst.isMulticast || (pool.csum[m]! & (M_BCAST | M_MCAST)) !== 0;
    if (many && type !== ICMP6_PACKET_TOO_BIG && !(type === ICMP6_PARAM_PROBLEM && code === 2)) return false;
    if (pool.dv.getUint8(at + 6) !== IPPROTO_ICMPV6) return true;
    return pool.len[m]! > IP6_HDR_LEN && pool.dv.getUint8(at + IP6_HDR_LEN) >= 128;
  }

  /** Sends an echo request. Returns 0 or -errno. */
  ping(dst: InAddr, id: number, seq: number, bytes: number, src?: InAddr): number {
    const pool = this.#stack.pool;
    const m = pool.get(ICMP6_HDR_LEN + bytes);
    if (m === M_NULL) return -ENOBUFS;
    const at = pool.off[m]!;
    pool.dv.setUint32(at, (ICMP6_ECHO_REQUEST << 24) >>> 0);
    pool.dv.setUint16(at + 4, id);
    pool.dv.setUint16(at + 6, seq);
    for (let i = 0; i < bytes; i++) pool.dv.setUint8(at + ICMP6_HDR_LEN + i, i);
    pool.len[m] = pool.pktlen[m] = ICMP6_HDR_LEN + bytes;
    return this.#send(m, src, dst, 0);
  }

  #drop(m: Mbuf, why: keyof typeof ICMP6_COUNTERS): void {
    this.counters[why]++;
    this.#stack.pool.freem(m);
  }
}

/** What a message means to a transport (RFC 4443 §3, RFC 9260 §10); undefined: nothing. */
export function kindOf6(type: number, code: number): CtlInput['kind'] | undefined {
  switch (type) {
    case ICMP6_PACKET_TOO_BIG:
      return 'too-big';
    case ICMP6_TIME_EXCEEDED:
      return 'time-exceeded';
    case ICMP6_PARAM_PROBLEM:
      return code === 1 ? 'protocol-unreachable' : undefined;
    default:
      if (code === 0) return 'net-unreachable';
      if (code === 1 || code === 5 || code === 6) return 'admin-prohibited';
      return code === ICMP6_UNREACH_PORT ? 'port-unreachable' : 'host-unreachable';
  }
}
