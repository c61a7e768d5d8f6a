/**
 * The socket's side of SCTP: attach, bind, listen, connect, accept, shutdown, close, peeling off (RFC 6458 §3, §4, §9.2;
 * errors as FreeBSD gives them, facts part 2.1). sosend.ts and soreceive.ts move the data. One-to-one is
 * SOCK_STREAM, one-to-many SOCK_SEQPACKET.
 */

import {
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  EAGAIN,
  EALREADY,
  EHOSTUNREACH,
  EINPROGRESS,
  EINVAL,
  EISCONN,
  ENOENT,
  ENOTCONN,
  EOPNOTSUPP,
} from '../kern/errno.js';
import { AF_INET6, type Protosw, SOCK_STREAM } from '../kern/protosw.js';
import { SHUT_RD, SHUT_RDWR, SHUT_WR, type SockAddr, Socket, type Usrreqs } from '../kern/socket.js';
import { InAddr } from '../netinet/in.js';
import { abortAssociation, endAssociation, releaseEndpoint, userAbort } from './abort.js';
import { told, unmapped } from './addresses.js';
import type { InitMsg } from './api.js';
import type { Association } from './association.js';
import { CAUSE_OUT_OF_RESOURCE, CAUSE_USER_ABORT } from './constants.js';
import { Endpoint } from './endpoint.js';
import { getOption, setOption } from './options.js';
import { someOwnAddress } from './paths.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { startAssociation } from './setup.js';
import { startShutdown } from './shutdown.js';
import { recv } from './soreceive.js';
import { room, send } from './sosend.js';
import { cause, EMPTY } from './wire.js';

/** Ports given out when none was asked for (RFC 6335 §6). */
const EPHEMERAL_FIRST = 49152;
const EPHEMERAL_COUNT = 16384;
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
      for (const a of ep.asocs.values()) return Math.max(0, room(ep, a));
      return ep.sndLimit;
    },
  };
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
    const { steering } = s.stack;
    const start = s.stack.random.u32() % EPHEMERAL_COUNT;
    for (let i = 0; i < EPHEMERAL_COUNT && chosen === 0; i++) {
      const candidate = EPHEMERAL_FIRST + ((start + i) % EPHEMERAL_COUNT);
      // Two queues of one host must not reach a peer from the same port: each has ports of its own.
      if (steering !== undefined && candidate % steering.queues !== steering.queue) continue;
      if (!s.portInUse(candidate)) chosen = candidate;
    }
    if (chosen === 0) return -EADDRNOTAVAIL;
  } else if (conflicts(s, ep, port, addrs)) return -EADDRINUSE;
  ep.port = chosen;
  ep.addresses.push(...addrs);
  s.addPort(ep);
  return 0;
}

/** A backlog of 0 turns listening off: RFC 6458 §3.1.3 for one-to-many, and FreeBSD and Linux alike for one-to-one. */
function listen(s: Sctp, ep: Endpoint, backlog: number): number {
  if (ep.style === 'one-to-one' && (ep.accepted || ep.only?.established)) return -EADDRINUSE;
  if (ep.style === 'one-to-one' && ep.connected) return -EINVAL;
  if (ep.port === 0) {
    const e = take(s, ep, 0, []);
    if (e < 0) return e;
  }
  if (ep.options.reusePort && backlog > 0 && otherListener(s, ep)) return -EADDRINUSE;
  ep.listening = backlog > 0;
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
export function connectx(s: Sctp, ep: Endpoint, addrs: readonly SockAddr[], delayed: boolean): Association | number {
  if (addrs.length === 0) return -EINVAL;
  if (ep.listening && ep.style === 'one-to-one') return -EOPNOTSUPP;
  if (ep.style === 'one-to-one' && ep.connected)
    return ep.only?.established ? -EISCONN : ep.ended ? -EISCONN : -EALREADY;
  return begin(s, ep, addrs, undefined, delayed);
}

/** Starts an association to a peer's addresses, or -errno. */
export function begin(
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
  const reachable = (d: InAddr): boolean =>
    someOwnAddress(s, ep, x => x.family === d.family && x.isLoopback === d.isLoopback) &&
    s.stack.routes.lookup(d) !== undefined;
  if (!list.some(reachable)) return -EHOSTUNREACH;
  if (ep.port === 0) {
    const e = take(s, ep, 0, []);
    if (e < 0) return e;
  }
  if (list.some(d => s.pathTo(ep, d, port) !== undefined)) return -EALREADY;
  // Another socket on the port (SCTP_REUSE_PORT, or accepted) may have it: packets could not tell them apart.
  for (const d of list)
    if (someOwnAddress(s, ep, x => x.family === d.family && s.byAddress(d, x, ep.port, port) !== undefined))
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
  ep.removeAssociation(a);
  child.addAssociation(a);
  a.endpoint = child;
  if (ep.partial === a) {
    ep.partial = undefined;
    child.partial = a;
    for (const b of ep.asocs.values()) s.receiver.release(b);
  } else s.receiver.ownEndpoint(a);
  if (child.rcv.count > 0) s.wake(child);
  return made;
}
