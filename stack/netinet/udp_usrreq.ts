/** Datagram sockets over UDP: control blocks, bounded receive buffers and the socket calls (RFC 768, RFC 1122 §4.1). */

import {
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  EAGAIN,
  ECONNREFUSED,
  EDESTADDRREQ,
  EHOSTUNREACH,
  EINVAL,
  EISCONN,
  EMSGSIZE,
  ENETUNREACH,
  ENOBUFS,
  ENOPROTOOPT,
  ENOTCONN,
  EOPNOTSUPP,
  EPIPE,
} from '../kern/errno.js';
import type { Mbuf } from '../kern/mbuf.js';
import { M_NULL } from '../kern/mbuf.js';
import { AF_INET, type CtlInput, type IpInfo } from '../kern/protosw.js';
import {
  MSG_EOR,
  MSG_PEEK,
  MSG_TRUNC,
  type RecvInfo,
  SHUT_RD,
  SHUT_WR,
  SO_BROADCAST,
  SO_ERROR,
  SO_RCVBUF,
  SOL_SOCKET,
  type SockAddr,
  type Socket,
  type Usrreqs,
} from '../kern/socket.js';
import type { Stack } from '../stack.js';
import { InAddr } from './in.js';
import { EPHEMERAL_FIRST, EPHEMERAL_LAST, UDP_HDR_LEN, type Udp } from './udp.js';

/** Datagrams that a socket's buffer holds at most, however short. */
const MAX_QUEUED = 512;
/** What a queued datagram costs beyond its bytes: its mbuf is larger than it. */
const OVERHEAD = 256;

/** A place in a receive buffer; reused. */
class Queued {
  m: Mbuf = M_NULL;
  readonly from = new InAddr();
  port = 0;
}

class UdpPcb {
  readonly so: Socket;
  readonly family: 4 | 6;
  readonly laddr: InAddr;
  lport = 0;
  readonly faddr: InAddr;
  fport = 0; // 0 = not connected
  readonly ring: Queued[] = [];
  head = 0;
  count = 0;
  bytes = 0;
  space: number;
  broadcast = false;
  shutRd = false;
  shutWr = false;
  woken = false;
  constructor(so: Socket, family: 4 | 6, space: number) {
    this.so = so;
    this.family = family;
    this.laddr = new InAddr(family);
    this.faddr = new InAddr(family);
    if (family === 4) this.laddr.w2 = this.faddr.w2 = 0xffff;
    this.space = space;
  }
}

export class UdpSockets {
  readonly usrreqs: Usrreqs;
  readonly #stack: Stack;
  readonly #udp: Udp;
  readonly #ports = new Map<number, UdpPcb[]>();
  readonly #wake: UdpPcb[] = [];

  constructor(stack: Stack, udp: Udp) {
    this.#stack = stack;
    this.#udp = udp;
    this.usrreqs = this.#calls();
  }

  usesPort(port: number): boolean {
    return this.#ports.has(port);
  }

  /** A datagram, UDP header in place and contiguous. True: taken (or dropped and counted); false: nobody listens. */
  input(m: Mbuf, info: IpInfo, srcPort: number, port: number): boolean {
    const pcb = this.#find(info.src, srcPort, info.dst, port);
    if (pcb === undefined) return false;
    const pool = this.#stack.pool;
    const n = pool.pktlen[m]! - UDP_HDR_LEN;
    if (pcb.shutRd || pcb.count === MAX_QUEUED || pcb.bytes + n + OVERHEAD > pcb.space) {
      this.#udp.counters.full++;
      pool.freem(m);
      return true;
    }
    pool.adj(m, UDP_HDR_LEN);
    const i = (pcb.head + pcb.count) % MAX_QUEUED;
    const q = (pcb.ring[i] ??= new Queued());
    q.m = m;
    q.from.copy(info.src);
    q.port = srcPort;
    pcb.count++;
    pcb.bytes += n + OVERHEAD;
    this.#udp.counters.delivered++;
    this.#notify(pcb);
    return true;
  }

  /** ICMP about a datagram that a socket had sent: only a connected socket is told (RFC 1122 §4.1.3.3). */
  ctlinput(c: CtlInput): void {
    if (c.payload.length < 4) return;
    const srcPort = (c.payload[0]! << 8) | c.payload[1]!;
    const dstPort = (c.payload[2]! << 8) | c.payload[3]!;
    const pcb = this.#find(c.dst, dstPort, c.src, srcPort);
    if (pcb === undefined || pcb.fport === 0) return;
    switch (c.kind) {
      case 'port-unreachable':
      case 'protocol-unreachable':
        pcb.so.error = ECONNREFUSED;
        break;
      case 'too-big':
        pcb.so.error = EMSGSIZE;
        break;
      case 'host-unreachable':
      case 'admin-prohibited':
        pcb.so.error = EHOSTUNREACH;
        break;
      case 'net-unreachable':
        pcb.so.error = ENETUNREACH;
        break;
      case 'time-exceeded':
        return;
    }
    pcb.so.errorReason = `ICMP ${c.kind} from the path to ${c.dst}`;
    this.#notify(pcb);
  }

  /** End of a batch: tells the sockets that have something new. */
  flush(): void {
    if (this.#wake.length === 0) return;
    for (let i = 0; i < this.#wake.length; i++) {
      const pcb = this.#wake[i]!;
      pcb.woken = false;
      pcb.so.upcall?.(pcb.so);
    }
    this.#wake.length = 0;
  }

  #notify(pcb: UdpPcb): void {
    if (pcb.woken) return;
    pcb.woken = true;
    this.#wake.push(pcb);
  }

  /** The best match: connected, then bound to the address, then to any. */
  #find(src: InAddr, srcPort: number, dst: InAddr, port: number): UdpPcb | undefined {
    const list = this.#ports.get(port);
    if (list === undefined) return undefined;
    let best: UdpPcb | undefined;
    let score = -1;
    for (let i = 0; i < list.length; i++) {
      const p = list[i]!;
      if (p.family !== dst.family) continue;
      const any = p.laddr.isUnspecified;
      // A group or broadcast address is nobody's own: who is bound to an address hears what is sent to that only.
      if (!any && !p.laddr.equals(dst)) continue;
      if (p.fport !== 0 && (p.fport !== srcPort || !p.faddr.equals(src))) continue;
      const s = (p.fport !== 0 ? 2 : 0) + (any ? 0 : 1);
      if (s > score) {
        best = p;
        score = s;
      }
    }
    return best;
  }

  #bind(pcb: UdpPcb, addr: InAddr | undefined, port: number): number {
    if (pcb.lport !== 0) return -EINVAL;
    if (!Number.isInteger(port) || port < 0 || port > 65535) return -EINVAL;
    if (addr !== undefined) {
      if (addr.family !== pcb.family) return -EAFNOSUPPORT;
      if (
        !addr.isUnspecified &&
        this.#stack.interfaces.ownerOf(addr) === undefined &&
        !(addr.family === 4 && addr.isLoopback)
      )
        return -EADDRNOTAVAIL;
    }
    const any = addr === undefined || addr.isUnspecified;
    const free = (p: number) =>
      !this.#udp.isTunnel(p) &&
      !this.#ports.get(p)?.some(o => o.family === pcb.family && (any || o.laddr.isUnspecified || o.laddr.equals(addr)));
    if (port === 0) {
      // RFC 6056 §3.3.1: a random port, then the next ones.
      const span = EPHEMERAL_LAST - EPHEMERAL_FIRST + 1;
      const start = this.#stack.random.u32() % span;
      const { steering } = this.#stack;
      for (let i = 0; i < span && port === 0; i++) {
        const p = EPHEMERAL_FIRST + ((start + i) % span);
        // Each queue of a host has ports of its own: the medium steers by them what comes back (kern/steering.ts).
        if (steering !== undefined && p % steering.queues !== steering.queue) continue;
        if (free(p)) port = p;
      }
      if (port === 0) return -EADDRNOTAVAIL;
    } else if (!free(port)) return -EADDRINUSE;
    pcb.lport = port;
    if (addr !== undefined) pcb.laddr.copy(addr);
    const list = this.#ports.get(port);
    if (list === undefined) this.#ports.set(port, [pcb]);
    else list.push(pcb);
    return 0;
  }

  #detach(pcb: UdpPcb): void {
    const list = this.#ports.get(pcb.lport)?.filter(p => p !== pcb);
    if (list !== undefined) {
      if (list.length === 0) this.#ports.delete(pcb.lport);
      else this.#ports.set(pcb.lport, list);
    }
    for (; pcb.count > 0; pcb.count--) {
      this.#stack.pool.freem(pcb.ring[pcb.head]!.m);
      pcb.head = (pcb.head + 1) % MAX_QUEUED;
    }
    pcb.bytes = 0;
  }

  #send(pcb: UdpPcb, data: Uint8Array, off: number, len: number, to: SockAddr | undefined): number {
    if (pcb.shutWr) return -EPIPE;
    if (pcb.so.error !== 0) return -pcb.so.takeError();
    if (to !== undefined && pcb.fport !== 0) return -EISCONN;
    const dst = to?.addr ?? pcb.faddr;
    const port = to?.port ?? pcb.fport;
    if (to === undefined && pcb.fport === 0) return -EDESTADDRREQ;
    if (dst.family !== pcb.family) return -EAFNOSUPPORT;
    if (!Number.isInteger(port) || port < 1 || port > 65535) return -EADDRNOTAVAIL;
    if (len > this.#udp.settings.maxdgram) return -EMSGSIZE;
    if (dst.isBroadcast && !pcb.broadcast) return -EACCES;
    if (pcb.lport === 0) {
      const e = this.#bind(pcb, undefined, 0);
      if (e < 0) return e;
    }
    const m = this.#stack.pool.fromBytes(data, off, len);
    if (m === M_NULL) {
      this.#udp.counters.nobufs++;
      return -ENOBUFS;
    }
    const e = this.#udp.output(m, pcb.laddr, dst, pcb.lport, port, 0, false);
    return e < 0 ? e : len;
  }

  #recv(pcb: UdpPcb, buf: Uint8Array, off: number, len: number, info: RecvInfo, flags: number): number {
    if (pcb.so.error !== 0) return -pcb.so.takeError();
    if (pcb.count === 0) return pcb.shutRd ? 0 : -EAGAIN;
    const pool = this.#stack.pool;
    const q = pcb.ring[pcb.head]!;
    const whole = pool.pktlen[q.m]!;
    const n = pool.copyout(q.m, 0, Math.min(whole, len), buf, off);
    info.msgFlags = MSG_EOR | (whole > n ? MSG_TRUNC : 0);
    info.from = { addr: q.from.clone(), port: q.port };
    info.notification = undefined;
    if ((flags & MSG_PEEK) === 0) {
      pool.freem(q.m);
      pcb.head = (pcb.head + 1) % MAX_QUEUED;
      pcb.count--;
      pcb.bytes -= whole + OVERHEAD;
    }
    return n;
  }

  #setopt(pcb: UdpPcb, level: number, name: number, value: unknown): number {
    if (level !== SOL_SOCKET) return -ENOPROTOOPT;
    if (name === SO_BROADCAST) {
      pcb.broadcast = Boolean(value);
      return 0;
    }
    if (name === SO_RCVBUF) {
      if (typeof value !== 'number' || !Number.isInteger(value) || value < OVERHEAD || value > 16777216) return -EINVAL;
      pcb.space = value;
      return 0;
    }
    return -ENOPROTOOPT;
  }

  #calls(): Usrreqs {
    const of = (so: Socket) => so.pcb as UdpPcb;
    return {
      attach: so => {
        so.pcb = new UdpPcb(so, so.proto.domain === AF_INET ? 4 : 6, this.#udp.settings.recvspace);
        return 0;
      },
      close: so => {
        this.#detach(of(so));
        return 0;
      },
      bind: (so, addrs) => (addrs.length === 1 ? this.#bind(of(so), addrs[0]!.addr, addrs[0]!.port) : -EINVAL),
      listen: () => -EOPNOTSUPP,
      connect: (so, addrs) => {
        const pcb = of(so);
        const to = addrs[0];
        if (addrs.length !== 1 || to === undefined) return -EINVAL;
        if (to.addr.family !== pcb.family) return -EAFNOSUPPORT;
        if (!Number.isInteger(to.port) || to.port < 1 || to.port > 65535) return -EADDRNOTAVAIL;
        const e = pcb.lport === 0 ? this.#bind(pcb, undefined, 0) : 0;
        if (e < 0) return e;
        // The local address is chosen now (RFC 1122 §4.1.3.5), so that answers match.
        if (pcb.laddr.isUnspecified && !this.#stack.routes.source(to.addr, pcb.laddr)) return -EADDRNOTAVAIL;
        pcb.faddr.copy(to.addr);
        pcb.fport = to.port;
        return 0;
      },
      accept: () => -EOPNOTSUPP,
      send: (so, data, off, len, to) => this.#send(of(so), data, off, len, to),
      recv: (so, buf, off, len, info, flags) => this.#recv(of(so), buf, off, len, info, flags),
      shutdown: (so, how) => {
        const pcb = of(so);
        if (pcb.fport === 0) return -ENOTCONN;
        if (how !== SHUT_WR) pcb.shutRd = true;
        if (how !== SHUT_RD) pcb.shutWr = true;
        this.#notify(pcb);
        return 0;
      },
      sockaddr: so => ({ addr: of(so).laddr.clone(), port: of(so).lport }),
      peeraddr: so => (of(so).fport === 0 ? -ENOTCONN : { addr: of(so).faddr.clone(), port: of(so).fport }),
      getopt: (so, level, name) => {
        if (level !== SOL_SOCKET) return -ENOPROTOOPT;
        if (name === SO_RCVBUF) return of(so).space;
        if (name === SO_BROADCAST) return of(so).broadcast ? 1 : 0;
        return name === SO_ERROR ? so.takeError() : -ENOPROTOOPT;
      },
      setopt: (so, level, name, value) => this.#setopt(of(so), level, name, value),
      readable: so => of(so).count > 0 || of(so).shutRd || so.error !== 0,
      writable: () => true,
      space: () => this.#udp.settings.maxdgram,
    };
  }
}
