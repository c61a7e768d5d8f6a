/**
 * UDP (RFC 768; over IPv6 RFC 8200 §8.1): kernel tunnels, as FreeBSD's udp_set_kernel_tunneling(9), which carry SCTP
 * (RFC 6951), output of single packets and trains, and the port tables. Datagram sockets are in udp_usrreq.ts.
 *
 *  |          Source Port          |       Destination Port        |
 *  |            Length             |           Checksum            |
 */

import { EADDRINUSE, EINVAL, EMSGSIZE, ENOBUFS, ENOENT } from '../kern/errno.js';
import type { Mbuf } from '../kern/mbuf.js';
import { CSUM_L4_OK, CSUM_UDP, M_LOOP, M_NULL } from '../kern/mbuf.js';
import { AF_INET, AF_INET6, type CtlInput, type IpInfo, type Protosw, SOCK_DGRAM } from '../kern/protosw.js';
import type { SysctlRow } from '../kern/sysctl.js';
import type { Stack } from '../stack.js';
import { ICMP_UNREACH, ICMP_UNREACH_PORT } from './icmp.js';
import { ICMP6_DST_UNREACH, ICMP6_UNREACH_PORT } from './icmp6.js';
import { type InAddr, IPPROTO_UDP } from './in.js';
import { finish, sumChain, sumPseudo } from './in_cksum.js';
import { UdpSockets } from './udp_usrreq.js';

export const UDP_HDR_LEN = 8;
/** Ports that are handed out: RFC 6335 §6. */
export const EPHEMERAL_FIRST = 49152;
export const EPHEMERAL_LAST = 65535;

/** Takes ownership of a packet whose UDP header is stripped; info.udpSrc and info.udpDst are its ports. */
export type UdpTunnel = (m: Mbuf, info: IpInfo) => void;

export const UDP_SYSCTLS: readonly SysctlRow[] = [
  {
    name: 'checksum',
    default: 1,
    min: 0,
    max: 1,
    meaning: 'compute checksums over IPv4 (over IPv6 always, RFC 8200 section 8.1)',
  },
  {
    name: 'recvspace',
    default: 262144,
    min: 1024,
    max: 16777216,
    meaning: 'receive buffer of a new socket',
    unit: 'bytes',
  },
  {
    name: 'maxdgram',
    default: 65507,
    min: 512,
    max: 65507,
    meaning: 'largest datagram that a socket sends',
    unit: 'bytes',
  },
];

export const UDP_COUNTERS = {
  received: 0,
  too_short: 0,
  bad_length: 0,
  bad_checksum: 0,
  no_checksum: 0,
  no_port: 0,
  no_port_many: 0,
  tunnelled_in: 0,
  tunnelled_out: 0,
  delivered: 0,
  full: 0,
  sent: 0,
  too_big: 0,
  nobufs: 0,
};

export class Udp {
  readonly counters: Record<keyof typeof UDP_COUNTERS, number> = { ...UDP_COUNTERS };
  readonly settings = { checksum: 1, recvspace: 262144, maxdgram: 65507 };
  readonly sockets: UdpSockets;
  readonly #stack: Stack;
  readonly #tunnels = new Map<number, UdpTunnel>();

  constructor(stack: Stack) {
    this.#stack = stack;
    stack.sysctl.add('net.inet.udp', UDP_SYSCTLS, this.settings);
    stack.counters.add('udp', this.counters);
    this.sockets = new UdpSockets(stack, this);
    const flush = () => this.sockets.flush();
    for (const [domain, name] of [
      [AF_INET, 'udp'],
      [AF_INET6, 'udp6'],
    ] as const) {
      const row: Protosw = {
        domain,
        type: SOCK_DGRAM,
        protocol: IPPROTO_UDP,
        name,
        input: (m, info) => this.input(m, info),
        ctlinput: (c: CtlInput) => this.sockets.ctlinput(c),
        flush,
        usrreqs: this.sockets.usrreqs,
      };
      stack.protocols.add(row);
    }
  }

  /** Hands every datagram to a local port (both families, all addresses) to `input`. Returns 0, -EINVAL or -EADDRINUSE. */
  tunnel(port: number, input: UdpTunnel): number {
    if (!Number.isInteger(port) || port < 1 || port > 65535) return -EINVAL;
    if (this.#tunnels.has(port) || this.sockets.usesPort(port)) return -EADDRINUSE;
    this.#tunnels.set(port, input);
    return 0;
  }
  /** Returns 0 or -ENOENT. */
  untunnel(port: number): number {
    return this.#tunnels.delete(port) ? 0 : -ENOENT;
  }
  isTunnel(port: number): boolean {
    return this.#tunnels.has(port);
  }
  get tunnels(): readonly number[] {
    return [...this.#tunnels.keys()];
  }

  /** A datagram or train, IP header stripped. Takes ownership. */
  input(m: Mbuf, info: IpInfo) {
    const pool = this.#stack.pool;
    const c = this.counters;
    c.received++;
    if (pool.pktlen[m]! < UDP_HDR_LEN) return this.#drop(m, 'too_short');
    if ((m = pool.pullupTo(m, UDP_HDR_LEN)) === M_NULL) {
      c.nobufs++;
      return;
    }
    const dv = pool.dv;
    const at = pool.off[m]!;
    const train = pool.segsz[m]! !== 0;
    if (train) {
      if (pool.hdrlen[m]! < UDP_HDR_LEN) return this.#drop(m, 'bad_length');
    } else {
      const length = dv.getUint16(at + 4);
      if (length < UDP_HDR_LEN || length > pool.pktlen[m]!) return this.#drop(m, 'bad_length');
      if (length < pool.pktlen[m]!) pool.trim(m, length);
    }
    const port = dv.getUint16(at + 2);
    const tunnel = this.#tunnels.get(port);
    if ((pool.csum[m]! & (CSUM_L4_OK | M_LOOP)) === 0 && !this.#verify(m, info, at, train, tunnel !== undefined))
      return;
    if (tunnel !== undefined) {
      c.tunnelled_in++;
      info.udpSrc = dv.getUint16(at);
      info.udpDst = port;
      pool.adj(m, UDP_HDR_LEN);
      tunnel(m, info);
      return;
    }
    if (train) return this.#drop(m, 'no_port'); // sockets take datagrams; only tunnels are offered trains
    if (this.sockets.input(m, info, dv.getUint16(at), port)) return;
    const many = info.dst.isMulticast || this.#stack.routes.isBroadcast(info.ifp!, info.dst);
    if (many) return this.#drop(m, 'no_port_many');
    c.no_port++;
    if (info.family === 4) this.#stack.icmp.error(this.#stack.ip.unstrip(m, 0), ICMP_UNREACH, ICMP_UNREACH_PORT, 0);
    else this.#stack.icmp6.error(this.#stack.ip6.unstrip(m, 0), ICMP6_DST_UNREACH, ICMP6_UNREACH_PORT, 0);
  }

  /** Checks the checksum; false: m was dropped and counted. */
  #verify(m: Mbuf, info: IpInfo, at: number, train: boolean, tunnel: boolean): boolean {
    const pool = this.#stack.pool;
    if (pool.dv.getUint16(at + 6) === 0) {
      // None: allowed over IPv4, and over IPv6 to a tunnel that checks what it carries (RFC 6935 §5, RFC 6936 §4).
      if (info.family === 4 || tunnel) return true;
      this.#drop(m, 'no_checksum');
      return false;
    }
    // One checksum cannot speak for a train: whoever made it has to have checked it.
    const n = pool.pktlen[m]!;
    if (!train && finish(sumPseudo(info.src, info.dst, IPPROTO_UDP, n) + sumChain(pool, m, 0, n)) === 0) return true;
    this.#drop(m, 'bad_checksum');
    return false;
  }

  /**
   * Puts a UDP header in front (one for a whole train) and sends. Takes ownership. The checksum is the card's or
   * ip.output's business; over IPv4 it can be left out by sysctl. Returns as Ip.output, or -EMSGSIZE.
   */
  output(m: Mbuf, src: InAddr, dst: InAddr, srcPort: number, dstPort: number, tos: number, df: boolean): number {
    const pool = this.#stack.pool;
    if (pool.segsz[m] === 0 && pool.pktlen[m]! + UDP_HDR_LEN > 65535) {
      this.#drop(m, 'too_big');
      return -EMSGSIZE;
    }
    m = pool.prepend(m, UDP_HDR_LEN);
    if (m === M_NULL) {
      this.counters.nobufs++;
      return -ENOBUFS;
    }
    const dv = pool.dv;
    const at = pool.off[m]!;
    dv.setUint16(at, srcPort);
    dv.setUint16(at + 2, dstPort);
    dv.setUint16(at + 4, pool.pktlen[m]!);
    dv.setUint16(at + 6, 0);
    if (dst.family === 6 || this.settings.checksum !== 0) pool.csum[m]! |= CSUM_UDP;
    this.counters.sent++;
    if (this.#tunnels.has(srcPort)) this.counters.tunnelled_out++;
    const { ip, ip6 } = this.#stack;
    return dst.family === 4
      ? ip.output(m, src, dst, IPPROTO_UDP, tos, df)
      : ip6.output(m, src, dst, IPPROTO_UDP, tos, df);
  }

  #drop(m: Mbuf, why: keyof typeof UDP_COUNTERS): void {
    this.counters[why]++;
    this.#stack.pool.freem(m);
  }
}
