/**
 * The socket's side of SCTP: attach, bind, listen, connect, accept, send, recv, shutdown, close (RFC 6458 §3, §4; errors
 * as FreeBSD gives them, facts part 2.4). One-to-one is SOCK_STREAM, one-to-many SOCK_SEQPACKET.
 */

import { SEC } from '../kern/clock.js';
import {
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  EAGAIN,
  EALREADY,
  ECONNRESET,
  EHOSTUNREACH,
  EINPROGRESS,
  EINVAL,
  EISCONN,
  EMSGSIZE,
  ENOBUFS,
  ENOENT,
  ENOTCONN,
  EOPNOTSUPP,
  EPIPE,
} from '../kern/errno.js';
import { CLUSTER_BYTES } from '../kern/mbuf.js';
import { AF_INET6, type Protosw, SOCK_STREAM } from '../kern/protosw.js';
import {
  MSG_EOR,
  MSG_NOTIFICATION,
  MSG_PEEK,
  type RecvInfo,
  type SendInfo,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  type SockAddr,
  Socket,
  type Usrreqs,
} from '../kern/socket.js';
import { InAddr } from '../netinet/in.js';
import { abortAssociation, endAssociation, releaseEndpoint, userAbort } from './abort.js';
import { SCTP_ABORT, SCTP_EOF, SCTP_SACK_IMMEDIATELY, SCTP_UNORDERED } from './api.js';
import type { Association } from './association.js';
import { CAUSE_OUT_OF_RESOURCE, CAUSE_USER_ABORT, DATA_B, DATA_E, DATA_HEADER, DATA_I, DATA_U } from './constants.js';
import { Endpoint } from './endpoint.js';
import { getOption, setOption } from './options.js';
import { findPath, ownAddresses } from './paths.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { startAssociation } from './setup.js';
import { startShutdown } from './shutdown.js';
import { cause, EMPTY } from './wire.js';

/** Ports given out when none was asked for (RFC 6335 §6). */
const EPHEMERAL_FIRST = 49152;
const EPHEMERAL_COUNT = 16384;
/** Mbufs of each kind that senders must leave for the rest of the stack. */
const RESERVE = 192;

const endpointOf = (so: Socket): Endpoint => so.pcb as Endpoint;

/** The functions of one stack's SCTP sockets. */
export function sctpUsrreqs(s: Sctp): Usrreqs {
  return {
    attach: so => attach(s, so),
    close: so => close(s, endpointOf(so)),
    bind: (so, addrs) => bind(s, endpointOf(so), addrs),
    listen: (so, backlog) => listen(s, endpointOf(so), backlog),
    connect: (so, addrs) => connect(s, endpointOf(so), addrs),
    accept: so => accept(so, endpointOf(so)),
    send: (so, data, off, len, to, info, flags) => send(s, endpointOf(so), data, off, len, to, info, flags),
    recv: (so, buf, off, len, info, flags) => recv(s, endpointOf(so), buf, off, len, info, flags),
    shutdown: (so, how) => shutdown(s, endpointOf(so), how),
    sockaddr: so => sockaddr(endpointOf(so)),
    peeraddr: so => {
      const a = endpointOf(so).style === 'one-to-one' ? endpointOf(so).only : undefined;
      return a === undefined ? -ENOTCONN : { addr: a.primary.addr.clone(), port: a.peerPort };
    },
    getopt: (so, level, name, arg) => getOption(s, endpointOf(so), level, name, arg),
    setopt: (so, level, name, value) => setOption(s, endpointOf(so), level, name, value),
    readable: so => {
      const ep = endpointOf(so);
      return ep.rcv.count > 0 || ep.acceptQueue.length > 0 || ep.ended || ep.peerDone || so.error !== 0;
    },
    writable: so => {
      const ep = endpointOf(so);
      if (so.error !== 0 || ep.ended) return true;
      return ep.style === 'one-to-many' || (ep.only?.established === true && room(ep, ep.only) > 0);
    },
    space: so => {
      const ep = endpointOf(so);
      const a = ep.only;
      return a === undefined ? ep.sndLimit : Math.max(0, room(ep, a));
    },
  };
}

function room(ep: Endpoint, a: Association): number {
  return ep.sndLimit - a.queuedBytes;
}

function attach(s: Sctp, so: Socket): number {
  const p: Protosw = so.proto;
  const ep = new Endpoint(
    so,
    p.type === SOCK_STREAM ? 'one-to-one' : 'one-to-many',
    p.domain === AF_INET6 ? 6 : 4,
    s.tunables,
  );
  so.pcb = ep;
  s.endpoints.add(ep);
  return 0;
}

/** True when two endpoints on one port would claim the same packets. */
function conflicts(s: Sctp, ep: Endpoint, port: number, addrs: readonly InAddr[]): boolean {
  for (const other of s.onPort(port)) {
    if (other === ep || other.gone || (other.connected && other.listener !== undefined) || other.accepted) continue;
    if (addrs.length === 0 || other.addresses.length === 0) return true;
    if (addrs.some(x => other.addresses.some(y => y.equals(x)))) return true;
  }
  return false;
}

const isPort = (n: number): boolean => Number.isInteger(n) && n >= 0 && n <= 65535;
/** An IPv4 address written as IPv6 is the IPv4 address. */
const unmapped = (a: InAddr): InAddr => (a.isV4Mapped ? new InAddr(4, 0, 0, 0xffff, a.w3) : a);

/** Binds to addresses of one port; unspecified = all of ours. SCTP_BINDX_ADD_ADDR of an unbound socket comes here too. */
export function bind(s: Sctp, ep: Endpoint, addrs: readonly SockAddr[]): number {
  if (ep.port !== 0 || addrs.length === 0) return -EINVAL;
  const port = addrs[0]!.port;
  if (!isPort(port) || addrs.some(x => x.port !== port)) return -EINVAL;
  const wanted: InAddr[] = [];
  for (const { addr } of addrs) {
    if (addr.isUnspecified) {
      if (addrs.length > 1) return -EINVAL;
      continue;
    }
    const a = unmapped(addr);
    if (ep.family === 4 && addr.family === 6) return -EAFNOSUPPORT;
    if (s.stack.interfaces.ownerOf(a) === undefined) return -EADDRNOTAVAIL;
    wanted.push(a.clone());
  }
  return take(s, ep, port, wanted);
}

function take(s: Sctp, ep: Endpoint, port: number, addrs: readonly InAddr[]): number {
  let chosen = port;
  if (port === 0) {
    const start = s.stack.random.u32() % EPHEMERAL_COUNT;
    for (let i = 0; i < EPHEMERAL_COUNT && chosen === 0; i++) {
      const candidate = EPHEMERAL_FIRST + ((start + i) % EPHEMERAL_COUNT);
      if (s.onPort(candidate).length === 0) chosen = candidate;
    }
    if (chosen === 0) return -EADDRNOTAVAIL;
  } else if (conflicts(s, ep, port, addrs)) return -EADDRINUSE;
  ep.port = chosen;
  ep.addresses.push(...addrs);
  s.addPort(ep);
  return 0;
}

/** backlog 0 on a one-to-many socket turns listening off (RFC 6458 §3.1.3). */
function listen(s: Sctp, ep: Endpoint, backlog: number): number {
  if (ep.style === 'one-to-one' && (ep.accepted || ep.only?.established)) return -EADDRINUSE;
  if (ep.style === 'one-to-one' && ep.connected) return -EINVAL;
  if (ep.port === 0) {
    const e = take(s, ep, 0, []);
    if (e < 0) return e;
  }
  ep.listening = backlog > 0 || ep.style === 'one-to-one';
  ep.backlog = Math.max(backlog, 1);
  return 0;
}

function connect(s: Sctp, ep: Endpoint, addrs: readonly SockAddr[]): number {
  if (addrs.length === 0) return -EINVAL;
  if (ep.listening && ep.style === 'one-to-one') return -EOPNOTSUPP;
  if (ep.style === 'one-to-one' && ep.connected)
    return ep.only?.established ? -EISCONN : ep.ended ? -EISCONN : -EALREADY;
  const e = begin(s, ep, addrs);
  return typeof e === 'number' ? e : -EINPROGRESS;
}

/** Starts an association to a peer's addresses, or -errno. */
function begin(s: Sctp, ep: Endpoint, addrs: readonly SockAddr[]): Association | number {
  const port = addrs[0]!.port;
  if (!isPort(port) || port === 0 || addrs.some(x => x.port !== port)) return -EINVAL;
  const list: InAddr[] = [];
  for (const { addr } of addrs) {
    const a = unmapped(addr);
    if (ep.family === 4 && a.family === 6) return -EAFNOSUPPORT;
    if (a.isMulticast || a.isBroadcast || a.isUnspecified) return -EINVAL;
    if (!list.some(b => b.equals(a))) list.push(a);
  }
  if (ep.options.encapsPort !== 0 && s.tunnelPort === 0) {
    if (ep.so !== undefined)
      ep.so.errorReason = 'SCTP in UDP is asked for, but net.inet.sctp.udp_tunneling_port is 0 (RFC 6951 §5.1)';
    return -EHOSTUNREACH;
  }
  const own = ownAddresses(s, ep);
  if (
    !list.some(
      d =>
        own.some(o => o.addr.family === d.family && o.addr.isLoopback === d.isLoopback) &&
        s.stack.routes.lookup(d) !== undefined,
    )
  )
    return -EHOSTUNREACH;
  if (ep.port === 0) {
    const e = take(s, ep, 0, []);
    if (e < 0) return e;
  }
  for (const a of ep.asocs.values())
    if (a.peerPort === port && list.some(d => findPath(a, d) !== undefined)) return -EALREADY;
  ep.connected = true;
  return startAssociation(s, ep, list, port);
}

function accept(so: Socket, ep: Endpoint): Socket | number {
  if (ep.style === 'one-to-many') return -EOPNOTSUPP;
  if (!ep.listening) return -EINVAL;
  const child = ep.acceptQueue.shift();
  if (child === undefined) return -EAGAIN;
  const made = new Socket(so.proto, so.kick);
  made.pcb = child;
  child.so = made;
  child.listener = undefined;
  child.accepted = true;
  return made;
}

function lookup(ep: Endpoint, to: SockAddr | undefined, info: SendInfo): Association | undefined {
  if (ep.style === 'one-to-one') return ep.only;
  if (info.assocId > 2) return ep.find(info.assocId);
  if (to === undefined) return undefined;
  const addr = unmapped(to.addr);
  for (const a of ep.asocs.values()) if (a.peerPort === to.port && findPath(a, addr) !== undefined) return a;
  return undefined;
}

function send(
  s: Sctp,
  ep: Endpoint,
  data: Uint8Array,
  off: number,
  len: number,
  to: SockAddr | undefined,
  given: SendInfo | undefined,
  _flags: number,
): number {
  const so = ep.so;
  if (!inside(data, off, len)) return -EINVAL;
  if (so !== undefined && so.error !== 0) return -so.takeError();
  if (ep.listening && ep.style === 'one-to-one') return -EINVAL;
  const info = given ?? ep.defaultSend;
  const control = info.flags & (SCTP_EOF | SCTP_ABORT);
  if (len === 0 && control === 0) return -EINVAL;
  if (ep.cantSend) return -EPIPE;
  let a = lookup(ep, to, info);
  if (a === undefined) {
    if (ep.ended) return -ECONNRESET;
    if (ep.style === 'one-to-one') return -ENOTCONN;
    if (info.assocId > 2 || control !== 0) return -ENOENT;
    if (to === undefined) return -ENOTCONN;
    const begun = begin(s, ep, [to]);
    if (typeof begun === 'number') return begun;
    a = begun;
  }
  if ((info.flags & SCTP_ABORT) !== 0) {
    if (!a.established) return -EINVAL; // it has to be up first; close does it before
    if (len > 1448) return -EMSGSIZE;
    userAbort(s, a, data.subarray(off, off + len));
    return len;
  }
  if (a.closing) return ep.style === 'one-to-one' ? -EPIPE : -ECONNRESET;
  if (len > 0) {
    const e = queueMessage(s, ep, a, data, off, len, info);
    if (e < 0) return e;
  }
  if ((info.flags & SCTP_EOF) !== 0) startShutdown(s, a);
  return len;
}

/** True when [off, off + len) lies in the bytes. */
const inside = (bytes: Uint8Array, off: number, len: number): boolean =>
  Number.isInteger(off) && Number.isInteger(len) && off >= 0 && len >= 0 && off + len <= bytes.length;

/** Largest payload of one DATA chunk: the smallest path MTU, or what the user set (SCTP_MAXSEG). */
export function fragmentationPoint(a: Association): number {
  let n = 65532;
  for (let i = 0; i < a.paths.length; i++) {
    const r = a.paths[i]!.chunkRoom - DATA_HEADER;
    if (r < n) n = r;
  }
  if (a.maxseg > 0 && a.maxseg < n) n = a.maxseg & ~3;
  return n;
}

/** Cuts a message into chunks on its stream's queue. All or nothing. */
function queueMessage(
  s: Sctp,
  ep: Endpoint,
  a: Association,
  data: Uint8Array,
  off: number,
  len: number,
  info: SendInfo,
): number {
  if (info.sid >>> 0 !== info.sid || info.sid >= a.outStreamCount) return -EINVAL;
  if (len > ep.sndLimit) return -EMSGSIZE;
  const point = fragmentationPoint(a);
  if (ep.options.disableFragments && len > point) return -EMSGSIZE;
  if (room(ep, a) < len) {
    ep.sendBlocked = true;
    return -EAGAIN;
  }
  const pool = s.chunks.pool;
  const pieces = len <= point ? 1 : Math.ceil(len / point);
  // A piece beyond a cluster is a chain of them.
  const mbufs = len < 256 ? 1 : pieces * Math.ceil(Math.min(len, point) / CLUSTER_BYTES);
  if ((len < 256 ? pool.freeSmall : pool.freeClusters) < RESERVE + mbufs) {
    ep.sendBlocked = true;
    return a.queuedChunks > 0 ? -EAGAIN : -ENOBUFS;
  }
  const stream = a.out.get(info.sid);
  const flags =
    ((info.flags & SCTP_UNORDERED) !== 0 ? DATA_U : 0) | ((info.flags & SCTP_SACK_IMMEDIATELY) !== 0 ? DATA_I : 0);
  const ssn = (flags & DATA_U) !== 0 ? 0 : stream.nextSsn;
  const c = s.chunks;
  for (let i = 0, at = 0; i < pieces; i++) {
    const n = Math.min(point, len - at);
    const m = c.fromUser(data, off + at, n);
    if (m === 0) {
      s.stats.sctps_nomem++;
      return takeBack(s, a, info.sid, i);
    }
    const last = i === pieces - 1;
    c.sid[m] = info.sid;
    c.ssn[m] = ssn;
    c.ppid[m] = info.ppid;
    c.context[m] = info.context;
    c.flags[m] = (i === 0 ? DATA_B : 0) | (last ? DATA_E : 0) | (last ? flags : flags & DATA_U);
    c.state[m] = 0;
    stream.queue.push(pool, m);
    at += n;
  }
  if (pieces > 1) s.stats.sctps_fragmsgs++;
  if ((flags & DATA_U) === 0) stream.nextSsn = (stream.nextSsn + 1) & 0xffff;
  a.out.pending += pieces;
  a.out.pendingBytes += len;
  a.queuedBytes += len;
  a.queuedChunks += pieces;
  a.dryReported = false;
  a.scheduler.added(a, stream);
  s.markDirty(a);
  return len;
}

/** No mbuf in the middle of a message: the pieces queued so far (the last ones of the stream) are freed again. */
function takeBack(s: Sctp, a: Association, sid: number, pieces: number): number {
  const pool = s.chunks.pool;
  const q = a.out.get(sid).queue;
  const keep = q.count - pieces;
  let m = q.head;
  let before = 0;
  for (let i = 0; i < keep; i++) {
    before = m;
    m = pool.nextpkt[m]!;
  }
  while (m !== 0) {
    const next = pool.nextpkt[m]!;
    pool.freem(m);
    m = next;
  }
  q.count = keep;
  q.tail = before;
  if (before === 0) q.head = 0;
  else pool.nextpkt[before] = 0;
  return -ENOBUFS;
}

function recv(s: Sctp, ep: Endpoint, buf: Uint8Array, off: number, len: number, info: RecvInfo, flags: number): number {
  const pool = s.chunks.pool;
  const c = s.chunks;
  info.msgFlags = 0;
  info.notification = undefined;
  if (!inside(buf, off, len)) return -EINVAL;
  const m = ep.rcv.head;
  if (m === 0) {
    const so = ep.so;
    if (so !== undefined && so.error !== 0) return -so.takeError();
    if (ep.ended || ep.peerDone || ep.cantReceive) return 0;
    if (ep.style === 'one-to-one' && !ep.connected) return -ENOTCONN;
    return -EAGAIN;
  }
  const peek = (flags & MSG_PEEK) !== 0;
  if (ep.isNote(m)) {
    ep.takeNote(m, info);
    info.msgFlags = MSG_NOTIFICATION | MSG_EOR;
    if (!peek) {
      ep.dropNote(m);
      ep.rcv.shift(pool);
      pool.freem(m);
    }
    return 0;
  }
  const a = ep.asocs.get(c.assoc[m]! as never);
  info.sid = c.sid[m]!;
  info.ssn = c.ssn[m]!;
  info.ppid = c.ppid[m]! >>> 0;
  info.tsn = c.tsn[m]! >>> 0;
  info.cumtsn = (a?.cumTsn ?? c.cumtsn[m]!) >>> 0;
  info.flags = (c.flags[m]! & DATA_U) !== 0 ? SCTP_UNORDERED : 0;
  info.context = 0;
  info.assocId = c.assoc[m]!;
  if (a !== undefined) {
    const p = a.lastFrom ?? a.primary;
    if (info.from === undefined || info.from.port !== a.peerPort || !info.from.addr.equals(p.addr))
      info.from = { addr: p.addr.clone(), port: a.peerPort };
  }
  const total = c.msglen[m]!;
  const n = Math.min(len, total);
  copyOut(s, m, n, buf, off);
  if (peek) {
    if (n === total && c.eor[m] === 1) info.msgFlags |= MSG_EOR;
    return n;
  }
  ep.rcvBytes -= n;
  if (n === total) {
    ep.rcv.shift(pool);
    if (c.eor[m] === 1) info.msgFlags |= MSG_EOR;
    else if (a !== undefined && a.pdHead === m) a.pdHead = 0;
    pool.freem(m);
  } else consume(s, m, n);
  if (a !== undefined) {
    a.deliveredBytes -= n;
    tuneReceive(s, ep, a, n);
    s.receiver.readerAdvanced(a);
  }
  return n;
}

function copyOut(s: Sctp, m: number, n: number, buf: Uint8Array, off: number): void {
  s.chunks.pool.copyout(m, 0, n, buf, off);
}

/** Cuts n bytes off the front of a message that stays at the head of the queue. */
function consume(s: Sctp, m: number, n: number): void {
  const pool = s.chunks.pool;
  s.chunks.msglen[m]! -= n;
  let x = m;
  while (n > 0) {
    const part = Math.min(n, pool.len[x]!);
    pool.off[x]! += part;
    pool.len[x]! -= part;
    n -= part;
    if (pool.len[x] === 0 && x !== m) {
      // Middle mbufs are freed as they empty; the first one stays, it carries the message's columns.
      const rest = pool.free(x);
      pool.next[m] = rest;
      x = rest;
    } else if (n > 0) x = pool.next[x]!;
  }
  // The tail may have been freed only if the message is empty, which is not the case here.
}

/** Receive buffers grow to twice what the reader takes in a round trip (after dynamic right-sizing). */
function tuneReceive(s: Sctp, ep: Endpoint, a: Association, n: number): void {
  if (!ep.rcvAuto) return;
  a.tuneBytes += n;
  const rtt = a.primary.srtt > 0 ? a.primary.srtt : SEC / 10;
  const elapsed = s.now - a.tuneStart;
  if (elapsed < rtt) return;
  const want = Math.min(2 * a.tuneBytes, s.tunables.recvbuf_max);
  if (want > ep.rcvLimit) ep.rcvLimit = Math.min(want, ep.rcvLimit * 2);
  a.tuneBytes = 0;
  a.tuneStart = s.now;
}

function shutdown(s: Sctp, ep: Endpoint, how: number): number {
  if (ep.style === 'one-to-many') return -EOPNOTSUPP;
  if (how !== SHUT_RD && how !== SHUT_WR && how !== SHUT_RDWR) return -EINVAL;
  const a = ep.only;
  if (a === undefined && !ep.ended) return -ENOTCONN;
  if (how !== SHUT_WR) {
    ep.cantReceive = true;
    ep.clearReceive(s.chunks);
  }
  if (how !== SHUT_RD && !ep.cantSend) {
    ep.cantSend = true;
    if (a !== undefined) startShutdown(s, a);
  }
  return 0;
}

/** Unread data, or SO_LINGER with time 0, makes it an ABORT; else all that is queued still goes (facts part 2.1). */
function close(s: Sctp, ep: Endpoint): number {
  const unread = ep.rcvBytes > 0;
  const abort = unread || (ep.linger.onoff && ep.linger.linger === 0);
  for (const child of ep.acceptQueue.splice(0)) {
    child.gone = true;
    child.listener = undefined;
    for (const a of [...child.asocs.values()])
      abortAssociation(
        s,
        a,
        [cause(CAUSE_OUT_OF_RESOURCE)],
        reason('the listener was closed before accepting', '§9.1'),
      );
    releaseEndpoint(s, child);
  }
  ep.listening = false;
  ep.gone = true;
  ep.so = undefined;
  for (const a of [...ep.asocs.values()]) {
    if (a.state === 'COOKIE_WAIT' && a.queuedBytes === 0)
      endAssociation(s, a, 'cant-start', 0, reason('the socket was closed while connecting', '§9.1'));
    else if (abort) {
      if (unread)
        abortAssociation(s, a, [cause(CAUSE_USER_ABORT)], reason('the socket was closed with unread data', '§9.1'));
      else userAbort(s, a, EMPTY);
    } else startShutdown(s, a);
  }
  ep.clearReceive(s.chunks);
  releaseEndpoint(s, ep);
  return 0;
}

function sockaddr(ep: Endpoint): SockAddr | number {
  const a = ep.style === 'one-to-one' ? ep.only : undefined;
  const addr = a?.primary.source ?? ep.addresses[0] ?? (ep.family === 4 ? InAddr.of('0.0.0.0') : InAddr.of('::'));
  return { addr: addr.clone(), port: ep.port };
}
