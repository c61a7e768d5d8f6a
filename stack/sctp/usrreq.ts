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
  MSG_EOF,
  MSG_EOR,
  MSG_NOTIFICATION,
  MSG_PEEK,
  type NextInfo,
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
import {
  type InitMsg,
  SCTP_ABORT,
  SCTP_ADDR_OVER,
  SCTP_COMPLETE,
  SCTP_EOF,
  SCTP_EOR,
  SCTP_NOTIFICATION,
  SCTP_PR_SCTP_RTX,
  SCTP_SACK_IMMEDIATELY,
  SCTP_SENDALL,
  SCTP_UNORDERED,
} from './api.js';
import type { Association } from './association.js';
import { CAUSE_OUT_OF_RESOURCE, CAUSE_USER_ABORT, DATA_B, DATA_E, DATA_HEADER, DATA_I, DATA_U } from './constants.js';
import { Endpoint } from './endpoint.js';
import { getOption, setOption } from './options.js';
import type { Path } from './path.js';
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
/** Longest reason that goes with an ABORT. */
const MAX_REASON = 1448;

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
      return a === undefined ? -ENOTCONN : told(endpointOf(so), a.primary.addr, a.peerPort);
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

/** True when two endpoints on one port would claim the same packets. Two that both allow it may (SCTP_REUSE_PORT). */
function conflicts(s: Sctp, ep: Endpoint, port: number, addrs: readonly InAddr[]): boolean {
  for (const other of s.onPort(port)) {
    if (other === ep || other.gone || (other.connected && other.listener !== undefined) || other.accepted) continue;
    if (ep.options.reusePort && other.options.reusePort) continue;
    if (addrs.length === 0 || other.addresses.length === 0) return true;
    if (addrs.some(x => other.addresses.some(y => y.equals(x)))) return true;
  }
  return false;
}

const isPort = (n: number): boolean => Number.isInteger(n) && n >= 0 && n <= 65535;
/** An IPv4 address written as IPv6 is the IPv4 address. */
export const unmapped = (a: InAddr): InAddr => (a.isV4Mapped ? new InAddr(4, 0, 0, 0xffff, a.w3) : a);
/** An address as the user wants to see it: on an IPv6 socket IPv4 is v4-mapped, if asked for (SCTP_I_WANT_MAPPED_V4_ADDR). */
export function told(ep: Endpoint, addr: InAddr, port: number): SockAddr {
  if (ep.family !== 6 || !ep.options.mappedV4 || addr.family !== 4) return { addr: addr.clone(), port };
  return { addr: new InAddr(6, 0, 0, 0xffff, addr.w3), port };
}

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
  if (ep.options.reusePort && backlog > 0 && otherListener(s, ep)) return -EADDRINUSE;
  ep.listening = backlog > 0 || ep.style === 'one-to-one';
  ep.backlog = Math.max(backlog, 1);
  return 0;
}

/** One port that several sockets share has one listener for an address: INITs must know where to go. */
function otherListener(s: Sctp, ep: Endpoint): boolean {
  for (const o of s.onPort(ep.port)) {
    if (o === ep || o.gone || !o.listening) continue;
    if (ep.addresses.length === 0 || o.addresses.length === 0) return true;
    if (ep.addresses.some(x => o.addresses.some(y => y.equals(x)))) return true;
  }
  return false;
}

function connect(s: Sctp, ep: Endpoint, addrs: readonly SockAddr[]): number {
  const a = connectx(s, ep, addrs, false);
  return typeof a === 'number' ? a : -EINPROGRESS;
}

/** sctp_connectx: the association that now begins, or -errno. `delayed`: its INIT waits for SCTP_CONNECT_X_COMPLETE. */
export function connectx(
  s: Sctp,
  ep: Endpoint,
  addrs: readonly SockAddr[],
  delayed: boolean,
): Association | number {
  if (addrs.length === 0) return -EINVAL;
  if (ep.listening && ep.style === 'one-to-one') return -EOPNOTSUPP;
  if (ep.style === 'one-to-one' && ep.connected)
    return ep.only?.established ? -EISCONN : ep.ended ? -EISCONN : -EALREADY;
  return begin(s, ep, addrs, undefined, delayed);
}

/** Starts an association to a peer's addresses, or -errno. */
function begin(
  s: Sctp,
  ep: Endpoint,
  addrs: readonly SockAddr[],
  init?: InitMsg,
  delayed = false,
): Association | number {
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
  // Another socket on the port (SCTP_REUSE_PORT, or accepted) may have it: packets could not tell them apart.
  for (const d of list)
    if (own.some(o => o.addr.family === d.family && s.byAddress(d, o.addr, ep.port, port) !== undefined))
      return -EADDRINUSE;
  ep.connected = true;
  return startAssociation(s, ep, list, port, init, delayed);
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
  const a = byPeer(ep, to);
  if (a !== undefined || info.addresses === undefined) return a;
  for (const x of info.addresses) {
    const b = byPeer(ep, x);
    if (b !== undefined) return b;
  }
  return undefined;
}
/** The association of an endpoint with a peer's address. */
export function byPeer(ep: Endpoint, to: SockAddr): Association | undefined {
  const addr = unmapped(to.addr);
  for (const a of ep.asocs.values()) if (a.peerPort === to.port && findPath(a, addr) !== undefined) return a;
  return undefined;
}
/** The path that a message must take: its address's with SCTP_ADDR_OVER, else undefined = any; -EINVAL without one. */
function destination(a: Association, to: SockAddr | undefined, flags: number): Path | undefined | number {
  if ((flags & SCTP_ADDR_OVER) === 0) return undefined;
  if (to === undefined || (to.port !== 0 && to.port !== a.peerPort)) return -EINVAL;
  return findPath(a, unmapped(to.addr)) ?? -EINVAL;
}

function send(
  s: Sctp,
  ep: Endpoint,
  data: Uint8Array,
  off: number,
  len: number,
  to: SockAddr | undefined,
  given: SendInfo | undefined,
  msgFlags: number,
): number {
  const so = ep.so;
  if (!inside(data, off, len)) return -EINVAL;
  if (so !== undefined && so.error !== 0) return -so.takeError();
  if (ep.listening && ep.style === 'one-to-one') return -EINVAL;
  let info = given ?? ep.defaultSend;
  if (ep.style === 'one-to-many' && (info.flags & SCTP_SENDALL) !== 0)
    return sendAll(s, ep, data, off, len, info, msgFlags);
  let a = lookup(ep, to, info);
  if (a !== undefined && given === undefined) info = a.defaultSend;
  const flags =
    info.flags | ((msgFlags & MSG_EOR) !== 0 ? SCTP_EOR : 0) | ((msgFlags & MSG_EOF) !== 0 ? SCTP_EOF : 0);
  const control = flags & (SCTP_EOF | SCTP_ABORT);
  if (len === 0 && control === 0) return -EINVAL;
  if (info.prPolicy >>> 0 > SCTP_PR_SCTP_RTX) return -EINVAL;
  if (ep.cantSend) return -EPIPE;
  if (a === undefined) {
    if (ep.ended) return -ECONNRESET;
    if (ep.style === 'one-to-one') return -ENOTCONN;
    if (info.assocId > 2 || control !== 0) return -ENOENT;
    if (to === undefined) return -ENOTCONN;
    const begun = implicit(s, ep, to, info);
    if (typeof begun === 'number') return begun;
    a = begun;
  }
  return sendTo(s, ep, a, data, off, len, to, info, flags);
}

/** Sets an association up for a message to a new peer (RFC 6458 §3.2); a request that cannot be is refused first. */
function implicit(s: Sctp, ep: Endpoint, to: SockAddr, info: SendInfo): Association | number {
  const streams = info.init?.numOstreams || ep.options.outStreams;
  if (info.sid >>> 0 !== info.sid || info.sid >= streams) return -EINVAL;
  return begin(s, ep, info.addresses === undefined ? [to] : [to, ...info.addresses], info.init);
}

/** A message, or the end, for one association. */
function sendTo(
  s: Sctp,
  ep: Endpoint,
  a: Association,
  data: Uint8Array,
  off: number,
  len: number,
  to: SockAddr | undefined,
  info: SendInfo,
  flags: number,
): number {
  if ((flags & SCTP_ABORT) !== 0) {
    if (!a.established) return -EINVAL; // it has to be up first; close does it before
    if (len > MAX_REASON) return -EMSGSIZE;
    userAbort(s, a, data.subarray(off, off + len));
    return len;
  }
  if (a.closing) return ep.style === 'one-to-one' ? -EPIPE : -ECONNRESET;
  let n = len;
  if (len > 0) {
    const over = destination(a, to, flags);
    if (typeof over === 'number') return over;
    n = queueMessage(s, ep, a, data, off, len, info, flags, over);
    if (n < len) return n; // an error, or a part of it (explicit EOR)
  }
  if ((flags & SCTP_EOF) !== 0) startShutdown(s, a);
  return n;
}

/** SCTP_SENDALL: one message, or the end, for every association of a one-to-many socket, each as far as it can. */
function sendAll(
  s: Sctp,
  ep: Endpoint,
  data: Uint8Array,
  off: number,
  len: number,
  info: SendInfo,
  msgFlags: number,
): number {
  const flags = info.flags | ((msgFlags & MSG_EOF) !== 0 ? SCTP_EOF : 0) | SCTP_EOR;
  if (len === 0 && (flags & (SCTP_EOF | SCTP_ABORT)) === 0) return -EINVAL;
  if (len > s.tunables.sendall_limit) return -EMSGSIZE;
  for (const a of [...ep.asocs.values()]) sendTo(s, ep, a, data, off, len, undefined, info, flags & ~SCTP_ADDR_OVER);
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

/**
 * Cuts a message into chunks on its stream's queue: all or nothing. With explicit EOR (RFC 6458 §8.1.26) what is given is a
 * part of a message that SCTP_EOR (or SCTP_EOF) ends, and as much of it is taken as there is room. Returns the bytes taken.
 */
function queueMessage(
  s: Sctp,
  ep: Endpoint,
  a: Association,
  data: Uint8Array,
  off: number,
  len: number,
  info: SendInfo,
  flags: number,
  over: Path | undefined,
): number {
  if (info.sid >>> 0 !== info.sid || info.sid >= a.outStreamCount) return -EINVAL;
  const parts = ep.options.explicitEor;
  if (len > ep.sndLimit && !parts) return -EMSGSIZE;
  const point = fragmentationPoint(a);
  if (ep.options.disableFragments && len > point) return -EMSGSIZE;
  const space = room(ep, a);
  if (space < len) {
    ep.sendBlocked = true;
    if (!parts || space <= 0) return -EAGAIN;
    len = space;
    flags &= ~(SCTP_EOR | SCTP_EOF); // its end has not been taken
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
  const ends = !parts || (flags & (SCTP_EOR | SCTP_EOF)) !== 0;
  // What goes on with a message goes on as it began.
  const begins = !stream.openMessage;
  const unordered = begins ? ((flags & SCTP_UNORDERED) !== 0 ? DATA_U : 0) : stream.openFlags;
  const ppid = begins ? info.ppid : stream.openPpid;
  const now = (flags & SCTP_SACK_IMMEDIATELY) !== 0 ? DATA_I : 0;
  const ssn = unordered !== 0 ? 0 : stream.nextSsn;
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
    c.ppid[m] = ppid;
    c.context[m] = info.context;
    c.flags[m] = (i === 0 && begins ? DATA_B : 0) | (last && ends ? DATA_E : 0) | unordered | (last ? now : 0);
    c.state[m] = 0;
    c.dest[m] = over === undefined ? 0 : over.id + 1;
    stream.queue.push(pool, m);
    at += n;
  }
  if (pieces > 1 || !ends) s.stats.sctps_fragmsgs++;
  a.out.setOpen(stream, !ends);
  if (!ends) {
    stream.openFlags = unordered;
    stream.openPpid = ppid;
  } else if (unordered === 0) stream.nextSsn = (stream.nextSsn + 1) & 0xffff;
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
  info.next = undefined;
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
  if (ep.isNote(m)) return recvNote(s, ep, m, buf, off, len, info, peek);
  const a = ep.asocs.get(c.assoc[m]! as never);
  info.sid = c.sid[m]!;
  info.ssn = c.ssn[m]!;
  info.ppid = c.ppid[m]! >>> 0;
  info.tsn = c.tsn[m]! >>> 0;
  info.cumtsn = (a?.cumTsn ?? c.cumtsn[m]!) >>> 0;
  info.flags = (c.flags[m]! & DATA_U) !== 0 ? SCTP_UNORDERED : 0;
  info.context = c.context[m]! >>> 0;
  info.assocId = c.assoc[m]!;
  if (a !== undefined) tellSender(ep, a, info);
  if (ep.options.recvNxtInfo || ep.options.extRcvInfo) info.next = nextMessage(s, ep, m);
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

/** (A part of) a notification, as the bytes of its struct and as an object; MSG_EOR with the last part (RFC 6458 §6). */
function recvNote(
  s: Sctp,
  ep: Endpoint,
  m: number,
  buf: Uint8Array,
  off: number,
  len: number,
  info: RecvInfo,
  peek: boolean,
): number {
  const all = ep.noteLength(m);
  const n = ep.readNote(m, buf, off, len, info, peek);
  info.msgFlags = MSG_NOTIFICATION | (n === all ? MSG_EOR : 0);
  info.flags = SCTP_NOTIFICATION;
  info.assocId = s.chunks.assoc[m]!;
  const a = ep.asocs.get(info.assocId as never);
  if (a !== undefined) tellSender(ep, a, info);
  if (!peek && n === all) {
    ep.dropNote(m);
    ep.rcv.shift(s.chunks.pool);
    s.chunks.pool.freem(m);
  }
  return n;
}

/** Where what is being read came from; the object is made anew only when it differs from the last one. */
function tellSender(ep: Endpoint, a: Association, info: RecvInfo): void {
  const p = a.lastFrom ?? a.primary;
  const from = info.from;
  const mapped = ep.options.mappedV4 && ep.family === 6;
  if (mapped || from === undefined || from.port !== a.peerPort || !from.addr.equals(p.addr))
    info.from = told(ep, p.addr, a.peerPort);
}

/** What stands behind m in the receive queue (RFC 6458 §5.3.6). */
function nextMessage(s: Sctp, ep: Endpoint, m: number): NextInfo | undefined {
  const c = s.chunks;
  const x = c.pool.nextpkt[m]!;
  if (x === 0) return undefined;
  const assocId = c.assoc[x]!;
  if (ep.isNote(x))
    return { sid: 0, flags: SCTP_NOTIFICATION | SCTP_COMPLETE, ppid: 0, length: ep.noteLength(x), assocId };
  const flags = ((c.flags[x]! & DATA_U) !== 0 ? SCTP_UNORDERED : 0) | (c.eor[x] === 1 ? SCTP_COMPLETE : 0);
  return { sid: c.sid[x]!, flags, ppid: c.ppid[x]! >>> 0, length: c.msglen[x]!, assocId };
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
  return told(ep, addr, ep.port);
}

/**
 * sctp_peeloff (RFC 6458 §9.2): a one-to-one socket for one association of a one-to-many socket, with what waits to be read
 * of it and the options that the socket has now. -EOPNOTSUPP on other sockets, -ENOENT for an unknown id.
 */
export function peeloff(s: Sctp, ep: Endpoint, id: number): Socket | number {
  const so = ep.so;
  if (ep.style !== 'one-to-many' || so === undefined) return -EOPNOTSUPP;
  const a = ep.find(id);
  if (a === undefined) return -ENOENT;
  const made = new Socket(so.proto, so.kick);
  const child = ep.heir(made, s.tunables);
  made.pcb = child;
  child.accepted = true;
  child.peerDone = a.state === 'SHUTDOWN_RECEIVED' || a.state === 'SHUTDOWN_ACK_SENT';
  s.endpoints.add(child);
  s.addPort(child);
  child.adoptId(a.id);
  ep.moveReceived(a.id, child, s.chunks);
  ep.asocs.delete(a.id);
  child.asocs.set(a.id, a);
  a.endpoint = child;
  if (ep.partial === a) {
    ep.partial = undefined;
    child.partial = a;
    for (const b of ep.asocs.values()) s.receiver.release(b);
  }
  if (child.rcv.count > 0) s.wake(child);
  return made;
}
