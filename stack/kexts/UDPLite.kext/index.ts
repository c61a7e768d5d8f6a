/**
 * UDPLite.kext: UDP-Lite (RFC 3828), datagrams whose checksum may cover only their first bytes, so that the rest is
 * delivered even when a bit of it has been turned over. A protocol handler in AF_INET and AF_INET6, with sockets.
 *
 *  |          Source Port          |       Destination Port        |
 *  |       Checksum Coverage       |           Checksum            |
 *
 * The length is IP's. Coverage counts from the header's first byte; 0 means all, 1 to 7 are illegal (§3.1). The checksum
 * is never left out. Socket options as Linux has them (udplite(7)), level IPPROTO_UDPLITE: UDPLITE_SEND_CSCOV and
 * UDPLITE_RECV_CSCOV, the least coverage that a receiver takes; illegal values 1 to 7 are raised to 8.
 */

import {
  AF_INET,
  AF_INET6,
  type CtlInput,
  cksumChain,
  cksumFinish,
  cksumPseudo,
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
  InAddr,
  IPPROTO_UDPLITE,
  type IpInfo,
  type Kext,
  type KextManifest,
  KPI_IDENTIFIER,
  type Kpi,
  M_BCAST,
  M_MCAST,
  M_NULL,
  type Mbuf,
  MSG_EOR,
  MSG_PEEK,
  MSG_TRUNC,
  type Protosw,
  type RecvInfo,
  SHUT_RD,
  SHUT_WR,
  SO_BROADCAST,
  SO_ERROR,
  SO_RCVBUF,
  SOCK_DGRAM,
  SOL_SOCKET,
  type SockAddr,
  type Socket,
  type Usrreqs,
} from '../../kpi.js';

export const UDPLITE_KEXT = 'org.nke.UDPLite';
export const UDPLITE_SEND_CSCOV = 10;
export const UDPLITE_RECV_CSCOV = 11;
const HEADER = 8;
/** Datagrams that a socket's buffer holds at most, however short, and what one costs beyond its bytes. */
const MAX_QUEUED = 256;
const OVERHEAD = 256;
/** RFC 6335 §6. */
const EPHEMERAL_FIRST = 49152;
const EPHEMERAL_LAST = 65535;

const manifest: KextManifest = {
  identifier: UDPLITE_KEXT,
  version: '1.0.0',
  kind: 'protocol',
  about: 'UDP-Lite, RFC 3828',
  dependencies: { [KPI_IDENTIFIER]: '1.1.0' },
  parameters: {
    recvspace: {
      type: 'integer',
      default: 262144,
      min: 1024,
      max: 16777216,
      meaning: 'receive buffer of a new socket, bytes',
      live: true,
    },
  },
};

const COUNTERS = {
  received: 0,
  too_short: 0,
  bad_coverage: 0,
  no_checksum: 0,
  bad_checksum: 0,
  too_little_covered: 0,
  partly_covered: 0,
  no_port: 0,
  delivered: 0,
  full: 0,
  sent: 0,
  nobufs: 0,
};

class Queued {
  m: Mbuf = M_NULL;
  readonly from = new InAddr();
  port = 0;
}

class Pcb {
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
  /** Bytes that the checksum of what is sent covers; 0 = all. */
  sendCoverage = 0;
  /** Least coverage of what is taken; undefined = any, 0 = all. */
  recvCoverage: number | undefined;
  broadcast = false;
  shutRd = false;
  shutWr = false;
  woken = false;
  constructor(so: Socket, family: 4 | 6, space: number) {
    this.so = so;
    this.family = family;
    this.laddr = new InAddr(family);
    this.faddr = new InAddr(family);
    this.space = space;
  }
}

class UdpLite {
  readonly counters: Record<keyof typeof COUNTERS, number> = { ...COUNTERS };
  readonly #kpi: Kpi;
  readonly #ports = new Map<number, Pcb[]>();
  readonly #wake: Pcb[] = [];

  constructor(kpi: Kpi) {
    this.#kpi = kpi;
  }

  start(): number {
    const usrreqs = this.#calls();
    let e = this.#kpi.counters('udplite', this.counters);
    for (const domain of [AF_INET, AF_INET6]) {
      if (e < 0) return e;
      const row: Protosw = {
        domain,
        type: SOCK_DGRAM,
        protocol: IPPROTO_UDPLITE,
        name: domain === AF_INET ? 'udplite' : 'udplite6',
        input: (m, info) => this.#input(m, info),
        ctlinput: c => this.#ctlinput(c),
        ...(domain === AF_INET ? { flush: () => this.#flush() } : {}),
        usrreqs,
      };
      e = this.#kpi.proto_add(row);
    }
    return e;
  }

  #drop(m: Mbuf, why: keyof typeof COUNTERS): void {
    this.counters[why]++;
    this.#kpi.pool.freem(m);
  }

  /** A datagram, IP header stripped. */
  #input(m: Mbuf, info: IpInfo) {
    const { pool } = this.#kpi;
    const c = this.counters;
    c.received++;
    const length = pool.pktlen[m]!;
    if (length < HEADER || pool.segsz[m] !== 0) return this.#drop(m, 'too_short');
    if (pool.len[m]! < HEADER) {
      m = pool.pullupTo(m, HEADER);
      if (m === M_NULL) {
        c.nobufs++;
        return;
      }
      if (pool.len[m]! < HEADER) return this.#drop(m, 'too_short');
    }
    const { dv } = pool;
    const at = pool.off[m]!;
    const stated = dv.getUint16(at + 4);
    // §3.1: less than the header, or more than there is, must be discarded.
    if ((stated !== 0 && stated < HEADER) || stated > length) return this.#drop(m, 'bad_coverage');
    const coverage = stated === 0 ? length : stated;
    if (dv.getUint16(at + 6) === 0) return this.#drop(m, 'no_checksum');
    // The pseudo-header has the length of the datagram, not of what is covered (§3.2).
    const sum = cksumPseudo(info.src, info.dst, IPPROTO_UDPLITE, length) + cksumChain(pool, m, 0, coverage);
    if (cksumFinish(sum) !== 0) return this.#drop(m, 'bad_checksum');
    if (coverage < length) c.partly_covered++;
    const srcPort = dv.getUint16(at);
    const pcb = this.#find(info.src, srcPort, info.dst, dv.getUint16(at + 2));
    if (pcb === undefined) {
      c.no_port++;
      if ((pool.csum[m]! & (M_BCAST | M_MCAST)) !== 0 || pool.next[m] !== M_NULL) pool.freem(m);
      else this.#kpi.icmp_port_unreach(m, info);
      return;
    }
    if (coverage < length && pcb.recvCoverage !== undefined && (pcb.recvCoverage === 0 || coverage < pcb.recvCoverage))
      return this.#drop(m, 'too_little_covered');
    const n = length - HEADER;
    // What waits in buffers counts as held by this extension: it keeps below what it may hold.
    const full = pcb.count === MAX_QUEUED || pcb.bytes + n + OVERHEAD > pcb.space || pool.held >= pool.limit;
    if (pcb.shutRd || full) return this.#drop(m, 'full');
    pool.adj(m, HEADER);
    const i = (pcb.head + pcb.count) % MAX_QUEUED;
    const q = (pcb.ring[i] ??= new Queued());
    q.m = m;
    q.from.copy(info.src);
    q.port = srcPort;
    pcb.count++;
    pcb.bytes += n + OVERHEAD;
    c.delivered++;
    this.#notify(pcb);
  }

  /** ICMP about a datagram of ours: only a connected socket is told (RFC 1122 §4.1.3.3). */
  #ctlinput(c: CtlInput): void {
    if (c.payload.length < 4) return;
    const ports = c.payload;
    const pcb = this.#find(c.dst, (ports[2]! << 8) | ports[3]!, c.src, (ports[0]! << 8) | ports[1]!);
    if (pcb === undefined || pcb.fport === 0) return;
    const errors: Partial<Record<CtlInput['kind'], number>> = {
      'port-unreachable': ECONNREFUSED,
      'protocol-unreachable': ECONNREFUSED,
      'too-big': EMSGSIZE,
      'host-unreachable': EHOSTUNREACH,
      'admin-prohibited': EHOSTUNREACH,
      'net-unreachable': ENETUNREACH,
    };
    const error = errors[c.kind];
    if (error === undefined) return;
    pcb.so.error = error;
    pcb.so.errorReason = `ICMP ${c.kind} from the path to ${c.dst}`;
    this.#notify(pcb);
  }

  /** End of a batch: tells the sockets that have something new. */
  #flush(): void {
    if (this.#wake.length === 0) return;
    for (let i = 0; i < this.#wake.length; i++) {
      const pcb = this.#wake[i]!;
      pcb.woken = false;
      pcb.so.upcall?.(pcb.so);
    }
    this.#wake.length = 0;
  }
  #notify(pcb: Pcb): void {
    if (pcb.woken) return;
    pcb.woken = true;
    this.#wake.push(pcb);
  }

  /** The best match: connected, then bound to the address, then to any. */
  #find(src: InAddr, srcPort: number, dst: InAddr, port: number): Pcb | undefined {
    const list = this.#ports.get(port);
    if (list === undefined) return undefined;
    let best: Pcb | undefined;
    let score = -1;
    for (let i = 0; i < list.length; i++) {
      const p = list[i]!;
      if (p.family !== dst.family) continue;
      const any = p.laddr.isUnspecified;
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

  #bind(pcb: Pcb, addr: InAddr | undefined, port: number): number {
    if (pcb.lport !== 0 || !Number.isInteger(port) || port < 0 || port > 65535) return -EINVAL;
    if (addr !== undefined && addr.family !== pcb.family) return -EAFNOSUPPORT;
    const any = addr === undefined || addr.isUnspecified;
    if (!any && !this.#kpi.ip_is_local(addr)) return -EADDRNOTAVAIL;
    const free = (p: number) =>
      !this.#ports.get(p)?.some(o => o.family === pcb.family && (any || o.laddr.isUnspecified || o.laddr.equals(addr)));
    let chosen = port;
    if (port === 0) {
      // RFC 6056 §3.3.1: a random port, then the next ones.
      const span = EPHEMERAL_LAST - EPHEMERAL_FIRST + 1;
      const first = this.#kpi.random.u32() % span;
      for (let i = 0; i < span && chosen === 0; i++) {
        const p = EPHEMERAL_FIRST + ((first + i) % span);
        if (free(p)) chosen = p;
      }
      if (chosen === 0) return -EADDRNOTAVAIL;
    } else if (!free(port)) return -EADDRINUSE;
    pcb.lport = chosen;
    if (addr !== undefined) pcb.laddr.copy(addr);
    const list = this.#ports.get(chosen);
    if (list === undefined) this.#ports.set(chosen, [pcb]);
    else list.push(pcb);
    return 0;
  }

  #close(pcb: Pcb): void {
    const list = this.#ports.get(pcb.lport)?.filter(p => p !== pcb);
    if (list !== undefined && list.length > 0) this.#ports.set(pcb.lport, list);
    else this.#ports.delete(pcb.lport);
    for (; pcb.count > 0; pcb.count--) {
      this.#kpi.pool.freem(pcb.ring[pcb.head]!.m);
      pcb.head = (pcb.head + 1) % MAX_QUEUED;
    }
    pcb.bytes = 0;
  }

  #send(pcb: Pcb, data: Uint8Array, off: number, len: number, to: SockAddr | undefined): number {
    if (pcb.shutWr) return -EPIPE;
    if (pcb.so.error !== 0) return -pcb.so.takeError();
    if (to !== undefined && pcb.fport !== 0) return -EISCONN;
    if (to === undefined && pcb.fport === 0) return -EDESTADDRREQ;
    const dst = to?.addr ?? pcb.faddr;
    const port = to?.port ?? pcb.fport;
    if (dst.family !== pcb.family) return -EAFNOSUPPORT;
    if (!Number.isInteger(port) || port < 1 || port > 65535) return -EADDRNOTAVAIL;
    if (len > 65535 - HEADER - (dst.family === 4 ? 20 : 0)) return -EMSGSIZE;
    if (dst.isBroadcast && !pcb.broadcast) return -EACCES;
    if (pcb.lport === 0) {
      const e = this.#bind(pcb, undefined, 0);
      if (e < 0) return e;
    }
    // The checksum has the source's address in it.
    this.#src.copy(pcb.laddr);
    if (this.#src.isUnspecified && !this.#kpi.ip_source(dst, this.#src)) return -EHOSTUNREACH;
    const { pool } = this.#kpi;
    let m = pool.fromBytes(data, off, len);
    if (m !== M_NULL) m = pool.prepend(m, HEADER);
    if (m === M_NULL) {
      this.counters.nobufs++;
      return -ENOBUFS;
    }
    const { dv } = pool;
    const at = pool.off[m]!;
    const length = pool.pktlen[m]!;
    const coverage = pcb.sendCoverage === 0 ? length : Math.min(pcb.sendCoverage, length);
    dv.setUint16(at, pcb.lport);
    dv.setUint16(at + 2, port);
    dv.setUint16(at + 4, coverage);
    dv.setUint16(at + 6, 0);
    const sum = cksumPseudo(this.#src, dst, IPPROTO_UDPLITE, length) + cksumChain(pool, m, 0, coverage);
    dv.setUint16(at + 6, cksumFinish(sum) || 0xffff);
    const e = this.#kpi.ip_output(m, this.#src, dst, IPPROTO_UDPLITE, 0, false);
    if (e < 0) return e;
    this.counters.sent++;
    return len;
  }
  readonly #src = new InAddr();

  #recv(pcb: Pcb, buf: Uint8Array, off: number, len: number, info: RecvInfo, flags: number): number {
    if (pcb.so.error !== 0) return -pcb.so.takeError();
    if (pcb.count === 0) return pcb.shutRd ? 0 : -EAGAIN;
    const { pool } = this.#kpi;
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

  #connect(pcb: Pcb, to: SockAddr): number {
    if (to.addr.family !== pcb.family) return -EAFNOSUPPORT;
    if (!Number.isInteger(to.port) || to.port < 1 || to.port > 65535) return -EADDRNOTAVAIL;
    const e = pcb.lport === 0 ? this.#bind(pcb, undefined, 0) : 0;
    if (e < 0) return e;
    if (pcb.laddr.isUnspecified && !this.#kpi.ip_source(to.addr, pcb.laddr)) return -EADDRNOTAVAIL;
    pcb.faddr.copy(to.addr);
    pcb.fport = to.port;
    return 0;
  }

  #getopt(pcb: Pcb, level: number, name: number): unknown {
    if (level === IPPROTO_UDPLITE) {
      if (name === UDPLITE_SEND_CSCOV) return pcb.sendCoverage;
      return name === UDPLITE_RECV_CSCOV ? (pcb.recvCoverage ?? 0) : -ENOPROTOOPT;
    }
    if (level !== SOL_SOCKET) return -ENOPROTOOPT;
    if (name === SO_RCVBUF) return pcb.space;
    if (name === SO_BROADCAST) return pcb.broadcast ? 1 : 0;
    return name === SO_ERROR ? pcb.so.takeError() : -ENOPROTOOPT;
  }
  #setopt(pcb: Pcb, level: number, name: number, value: unknown): number {
    const n = typeof value === 'number' && Number.isInteger(value) ? value : -1;
    if (level === IPPROTO_UDPLITE && (name === UDPLITE_SEND_CSCOV || name === UDPLITE_RECV_CSCOV)) {
      if (n < 0) return -EINVAL;
      const coverage = n === 0 ? 0 : Math.min(Math.max(n, HEADER), 65535);
      if (name === UDPLITE_SEND_CSCOV) pcb.sendCoverage = coverage;
      else pcb.recvCoverage = coverage;
      return 0;
    }
    if (level !== SOL_SOCKET) return -ENOPROTOOPT;
    if (name === SO_BROADCAST) {
      pcb.broadcast = Boolean(value);
      return 0;
    }
    if (name !== SO_RCVBUF) return -ENOPROTOOPT;
    if (n < OVERHEAD || n > 16777216) return -EINVAL;
    pcb.space = n;
    return 0;
  }

  #calls(): Usrreqs {
    const of = (so: Socket) => so.pcb as Pcb;
    return {
      attach: so => {
        so.pcb = new Pcb(so, so.proto.domain === AF_INET ? 4 : 6, this.#kpi.params.recvspace as number);
        return 0;
      },
      close: so => {
        this.#close(of(so));
        return 0;
      },
      bind: (so, addrs) => (addrs.length === 1 ? this.#bind(of(so), addrs[0]!.addr, addrs[0]!.port) : -EINVAL),
      listen: () => -EOPNOTSUPP,
      connect: (so, addrs) => (addrs.length === 1 ? this.#connect(of(so), addrs[0]!) : -EINVAL),
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
      getopt: (so, level, name) => this.#getopt(of(so), level, name),
      setopt: (so, level, name, value) => this.#setopt(of(so), level, name, value),
      readable: so => of(so).count > 0 || of(so).shutRd || so.error !== 0,
      writable: () => true,
      space: () => 65507,
    };
  }
}

/** The extension, to be handed to `stack.kexts.load`. */
export function udpLiteKext(): Kext {
  return {
    manifest,
    start: kpi => new UdpLite(kpi).start(),
    stop: () => 0,
  };
}
