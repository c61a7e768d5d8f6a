/**
 * ICMP for IPv4 (RFC 792; host rules of RFC 1122 §3.2.2; path MTU discovery of RFC 1191).
 *
 *  |     Type      |     Code      |          Checksum             |
 *  |   unused, or pointer, or identifier and sequence; code 4: MTU |
 *  |   echo: data; errors: the offending IP header and what follows |
 */

import { ENOBUFS } from '../kern/errno.js';
import type { Mbuf } from '../kern/mbuf.js';
import { CSUM_L4_OK, M_BCAST, M_LOOP, M_MCAST, M_NULL } from '../kern/mbuf.js';
import { AF_INET, type CtlInput, type IpInfo, type Protosw, SOCK_RAW } from '../kern/protosw.js';
import type { SysctlRow } from '../kern/sysctl.js';
import type { Stack } from '../stack.js';
import { notify, RateLimit } from './ctlinput.js';
import { InAddr, IPPROTO_ICMP } from './in.js';
import { finish, sumChain, sumRange } from './in_cksum.js';

export const ICMP_ECHOREPLY = 0;
export const ICMP_UNREACH = 3;
export const ICMP_ECHO = 8;
export const ICMP_TIMXCEED = 11;
export const ICMP_PARAMPROB = 12;
export const ICMP_UNREACH_NEEDFRAG = 4;
export const ICMP_UNREACH_PORT = 3;
const ICMP_HDR_LEN = 8;
/** RFC 1812 §4.3.2.3: as much of the offending packet as fits 576 bytes. */
const QUOTE = 576 - 20 - ICMP_HDR_LEN;

export const ICMP_SYSCTLS: readonly SysctlRow[] = [
  { name: 'icmplim', default: 200, min: 0, max: 1_000_000, meaning: 'error messages sent in a second', unit: '1/s' },
  {
    name: 'echolim',
    default: 10_000,
    min: 0,
    max: 1_000_000,
    meaning: 'echo requests answered in a second',
    unit: '1/s',
  },
];

export const ICMP_COUNTERS = {
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
  unknown_type: 0,
  errors_sent: 0,
  errors_suppressed: 0,
  errors_limited: 0,
  echo_limited: 0,
  nobufs: 0,
};

/** RFC 1191 §7.1: MTUs in use, for routers that do not say theirs. */
const PLATEAUS = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

export class Icmp {
  readonly counters: Record<keyof typeof ICMP_COUNTERS, number> = { ...ICMP_COUNTERS };
  readonly settings = { icmplim: 200, echolim: 10_000 };
  /** Called for every echo reply: source, identifier, sequence number. For `nke ping`. */
  onEchoReply: ((from: InAddr, id: number, seq: number, bytes: number) => void) | undefined;
  readonly #stack: Stack;
  readonly #errors: RateLimit;
  readonly #echoes: RateLimit;
  readonly #src = new InAddr();
  readonly #dst = new InAddr();

  constructor(stack: Stack) {
    this.#stack = stack;
    stack.sysctl.add('net.inet.icmp', ICMP_SYSCTLS, this.settings);
    stack.counters.add('icmp', this.counters);
    this.#errors = new RateLimit(stack.clock, () => this.settings.icmplim);
    this.#echoes = new RateLimit(stack.clock, () => this.settings.echolim);
    const row: Protosw = {
      domain: AF_INET,
      type: SOCK_RAW,
      protocol: IPPROTO_ICMP,
      name: 'icmp',
      input: (m, info) => this.input(m, info),
    };
    stack.protocols.add(row);
  }

  /** An ICMP message, IP header stripped. Takes ownership. */
  input(m: Mbuf, info: IpInfo) {
    const pool = this.#stack.pool;
    const c = this.counters;
    c.received++;
    const n = pool.pktlen[m]!;
    if (n < ICMP_HDR_LEN) return this.#drop(m, 'too_short');
    if ((pool.csum[m]! & (CSUM_L4_OK | M_LOOP)) === 0 && sumChain(pool, m, 0, n) !== 0xffff)
      return this.#drop(m, 'bad_checksum');
    if ((m = pool.pullupTo(m, Math.min(n, 128))) === M_NULL) {
      c.nobufs++;
      return;
    }
    const at = pool.off[m]!;
    switch (pool.dv.getUint8(at)) {
      case ICMP_ECHO:
        return this.#echo(m, info);
      case ICMP_ECHOREPLY:
        c.echo_replies++;
        this.onEchoReply?.(info.src, pool.dv.getUint16(at + 4), pool.dv.getUint16(at + 6), n - ICMP_HDR_LEN);
        pool.freem(m);
        return;
      case ICMP_UNREACH:
      case ICMP_TIMXCEED:
      case ICMP_PARAMPROB:
        return this.#error(m);
      default:
        return this.#drop(m, 'unknown_type');
    }
  }

  #echo(m: Mbuf, info: IpInfo) {
    const pool = this.#stack.pool;
    const c = this.counters;
    c.echo_received++;
    // RFC 1122 §3.2.2.6 lets a host be silent to echo by broadcast; answering would amplify.
    if ((pool.csum[m]! & (M_BCAST | M_MCAST)) !== 0 || info.dst.isMulticast || info.src.isUnspecified)
      return this.#drop(m, 'echo_ignored');
    if (!this.#echoes.take()) return this.#drop(m, 'echo_limited');
    const dv = pool.dv;
    const at = pool.off[m]!;
    dv.setUint8(at, ICMP_ECHOREPLY);
    dv.setUint16(at + 2, 0);
    dv.setUint16(at + 2, finish(sumChain(pool, m, 0, pool.pktlen[m]!)));
    this.#send(m, info.dst, info.src, info.tos);
    c.echo_answered++;
  }

  #send(m: Mbuf, src: InAddr, dst: InAddr, tos: number): number {
    const pool = this.#stack.pool;
    pool.csum[m] = 0;
    pool.segsz[m] = 0;
    pool.hdrlen[m] = 0;
    return this.#stack.ip.output(m, src, dst, IPPROTO_ICMP, tos & 0xfc, false);
  }

  /** Somebody's report about a packet of ours. */
  #error(m: Mbuf) {
    const pool = this.#stack.pool;
    const dv = pool.dv;
    const c = this.counters;
    c.errors_received++;
    if ((m = pool.pullup(m)) === M_NULL) {
      c.nobufs++;
      return;
    }
    const at = pool.off[m]!;
    const inner = at + ICMP_HDR_LEN;
    const n = pool.pktlen[m]! - ICMP_HDR_LEN;
    if (n < 28 || dv.getUint8(inner) >>> 4 !== 4) return this.#drop(m, 'errors_malformed');
    const hlen = (dv.getUint8(inner) & 15) << 2;
    if (hlen < 20 || n < hlen + 8) return this.#drop(m, 'errors_malformed');
    // Only the first fragment shows the transport's header.
    if ((dv.getUint16(inner + 6) & 0x1fff) !== 0) return this.#drop(m, 'errors_malformed');
    const src = this.#src.read4(dv, inner + 12);
    const dst = this.#dst.read4(dv, inner + 16);
    if (this.#stack.interfaces.ownerOf(src) === undefined) return this.#drop(m, 'errors_not_ours');
    const type = dv.getUint8(at);
    const code = dv.getUint8(at + 1);
    const kind = kindOf(type, code);
    if (kind === undefined) return this.#drop(m, 'unknown_type');
    let mtu = 0;
    if (kind === 'too-big') {
      mtu = dv.getUint16(at + 6);
      const length = dv.getUint16(inner + 2);
      this.#stack.routes.learnPmtu(dst, mtu !== 0 ? mtu : (PLATEAUS.find(p => p < length) ?? 68));
    }
    if (notify(this.#stack, kind, src, dst, dv.getUint8(inner + 9), mtu, inner + hlen, n - hlen)) c.errors_delivered++;
    pool.freem(m);
  }

  /**
   * Reports trouble with a packet to its sender: `m` starts with its IP header (contiguous). Takes ownership.
   * `param` is the 32-bit word behind the checksum: a pointer in the top byte, or an MTU.
   */
  error(m: Mbuf, type: number, code: number, param: number) {
    const pool = this.#stack.pool;
    const c = this.counters;
    const dv = pool.dv;
    const at = pool.off[m]!;
    const src = this.#src.read4(dv, at + 12);
    const dst = this.#dst.read4(dv, at + 16);
    if (!this.#mayReport(m, src, dst)) return this.#drop(m, 'errors_suppressed');
    if (!this.#errors.take()) return this.#drop(m, 'errors_limited');
    const n = Math.min(pool.pktlen[m]!, QUOTE);
    const e = pool.get(ICMP_HDR_LEN + n);
    if (e === M_NULL) return this.#drop(m, 'nobufs');
    const to = pool.off[e]!;
    dv.setUint16(to, (type << 8) | code);
    dv.setUint16(to + 2, 0);
    dv.setInt32(to + 4, param);
    pool.copydata(m, 0, n, to + ICMP_HDR_LEN);
    pool.len[e] = pool.pktlen[e] = ICMP_HDR_LEN + n;
    dv.setUint16(to + 2, finish(sumRange(dv, to, ICMP_HDR_LEN + n)));
    pool.freem(m);
    c.errors_sent++;
    // From the address that was spoken to, so that a multi-homed peer recognises us.
    this.#send(e, dst, src, 0xc0);
  }

  /** RFC 1122 §3.2.2: never about ICMP errors, later fragments, what was sent to many, or from nobody in particular. */
  #mayReport(m: Mbuf, src: InAddr, dst: InAddr): boolean {
    const pool = this.#stack.pool;
    const at = pool.off[m]!;
    if ((pool.csum[m]! & (M_BCAST | M_MCAST)) !== 0 || dst.isMulticast || dst.isBroadcast) return false;
    if (src.isUnspecified || src.isMulticast || src.isBroadcast) return false;
    if ((pool.dv.getUint16(at + 6) & 0x1fff) !== 0) return false;
    if (pool.dv.getUint8(at + 9) !== IPPROTO_ICMP) return true;
    const hlen = (pool.dv.getUint8(at) & 15) << 2;
    if (pool.len[m]! <= hlen) return false;
    const type = pool.dv.getUint8(at + hlen);
    return type === ICMP_ECHO || type === ICMP_ECHOREPLY;
  }

  /** Sends an echo request. Returns 0 or what ip.output returned. */
  ping(dst: InAddr, id: number, seq: number, bytes: number, src: InAddr = new InAddr()): number {
    const pool = this.#stack.pool;
    const m = pool.get(ICMP_HDR_LEN + bytes);
    if (m === M_NULL) return -ENOBUFS;
    const dv = pool.dv;
    const at = pool.off[m]!;
    dv.setUint32(at, ICMP_ECHO << 24);
    dv.setUint16(at + 4, id);
    dv.setUint16(at + 6, seq);
    for (let i = 0; i < bytes; i++) dv.setUint8(at + ICMP_HDR_LEN + i, i);
    pool.len[m] = pool.pktlen[m] = ICMP_HDR_LEN + bytes;
    dv.setUint16(at + 2, finish(sumRange(dv, at, ICMP_HDR_LEN + bytes)));
    return this.#stack.ip.output(m, src, dst, IPPROTO_ICMP, 0, false);
  }

  #drop(m: Mbuf, why: keyof typeof ICMP_COUNTERS): void {
    this.counters[why]++;
    this.#stack.pool.freem(m);
  }
}

/** What a message means to a transport (RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1); undefined: nothing. */
export function kindOf(type: number, code: number): CtlInput['kind'] | undefined {
  if (type === ICMP_TIMXCEED) return 'time-exceeded';
  if (type !== ICMP_UNREACH) return undefined;
  switch (code) {
    case 0:
    case 6:
    case 11:
      return 'net-unreachable';
    case 2:
      return 'protocol-unreachable';
    case 3:
      return 'port-unreachable';
    case 4:
      return 'too-big';
    case 9:
    case 10:
    case 13:
      return 'admin-prohibited';
    default:
      return 'host-unreachable';
  }
}
