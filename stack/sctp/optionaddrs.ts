/**
 * The options behind sctp_bindx, sctp_connectx, sctp_getpaddrs, sctp_getladdrs and sctp_peeloff (RFC 6458 §9), as FreeBSD's
 * and macOS's libraries use them.
 */

import { EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EALREADY, EINVAL, ENOENT, EOPNOTSUPP } from '../kern/errno.js';
import type { SockAddr } from '../kern/socket.js';
import { AF_INET, AF_INET6, type InAddr } from '../netinet/in.js';
import { byPeer, told, unmapped } from './addresses.js';
import * as api from './api.js';
import type { Endpoint } from './endpoint.js';
import { SOCKADDR_IN, SOCKADDR_IN6, sockaddrSize } from './layout.js';
import { assocOf, fields, type Get, idOf, isSockAddr, type Put, target } from './optargs.js';
import { listAddresses, ownAddresses } from './paths.js';
import type { Sctp } from './sctp.js';
import { sendDelayedInit } from './setup.js';
import { bind, connectx, peeloff } from './usrreq.js';

const size = (list: readonly SockAddr[]): number => list.reduce((n, a) => n + sockaddrSize(a), 0);
const isList = (v: unknown): v is readonly SockAddr[] => Array.isArray(v) && v.length > 0 && v.every(isSockAddr);

/** Those of an association, or those that the socket is bound to; bound to the wildcard, all of ours (RFC 6458 §9.5). */
function localAddresses(s: Sctp, ep: Endpoint, arg: unknown): SockAddr[] | number {
  const a = target(ep, arg);
  if (typeof a === 'number') return a;
  const list =
    a === undefined
      ? ep.addresses.length > 0 || ep.port === 0
        ? ep.addresses
        : everyAddress(s, ep)
      : a.localAddresses.length > 0
        ? a.localAddresses
        : listAddresses(s, ep, a.primary.addr);
  return list.map(addr => told(ep, addr, ep.port));
}
function everyAddress(s: Sctp, ep: Endpoint): InAddr[] {
  return ownAddresses(s, ep)
    .map(x => x.addr)
    .filter(x => (x.family === 6 ? ep.family === 6 : ep.family === 4 || !ep.v6only));
}
function peerAddresses(ep: Endpoint, arg: unknown): SockAddr[] | number {
  const a = assocOf(ep, arg, -ENOENT);
  return typeof a === 'number' ? a : a.paths.map(p => told(ep, p.addr, a.peerPort));
}

export const ADDRESS_GETTERS: Record<number, Get> = {
  [api.SCTP_GET_PEER_ADDRESSES]: (_s, ep, arg) => peerAddresses(ep, arg),
  [api.SCTP_GET_LOCAL_ADDRESSES]: localAddresses,
  [api.SCTP_GET_LOCAL_ADDR_SIZE]: (s, ep, arg) => {
    const list = localAddresses(s, ep, arg);
    return typeof list === 'number' ? list : size(list);
  },
  [api.SCTP_GET_REMOTE_ADDR_SIZE]: (_s, ep, arg) => {
    const list = peerAddresses(ep, arg);
    return typeof list === 'number' ? list : size(list);
  },
  [api.SCTP_GET_ADDR_LEN]: (_s, _ep, arg) => {
    const family = fields(arg, 'value')?.value;
    if (family === AF_INET) return { assocId: 0, value: SOCKADDR_IN };
    return family === AF_INET6 ? { assocId: 0, value: SOCKADDR_IN6 } : -EINVAL;
  },
  [api.SCTP_PEELOFF]: (s, ep, arg) => {
    const id = idOf(arg);
    return id === undefined ? -EINVAL : peeloff(s, ep, id);
  },
};

export const ADDRESS_SETTERS: Record<number, Put> = {
  [api.SCTP_BINDX_ADD_ADDR]: (s, ep, v) => {
    if (!isList(v)) return -EINVAL;
    if (ep.port === 0) return bind(s, ep, v);
    // Adding to a live association is RFC 5061; adding to "all addresses" means nothing.
    if (ep.asocs.size > 0) return -EOPNOTSUPP;
    if (ep.addresses.length === 0 || v.some(x => x.port !== 0 && x.port !== ep.port)) return -EINVAL;
    const wanted = v.map(x => unmapped(x.addr));
    for (const [i, x] of wanted.entries()) {
      if (ep.family === 4 && v[i]!.addr.family === 6) return -EAFNOSUPPORT;
      if (s.stack.interfaces.ownerOf(x) === undefined) return -EADDRNOTAVAIL;
      if (s.onPort(ep.port).some(o => o !== ep && !o.gone && o.listening && o.accepts(x))) return -EADDRINUSE;
    }
    for (const x of wanted) if (!ep.addresses.some(b => b.equals(x))) ep.addresses.push(x.clone());
    return 0;
  },
  [api.SCTP_BINDX_REM_ADDR]: (_s, ep, v) => {
    if (!isList(v)) return -EINVAL;
    if (ep.asocs.size > 0) return -EOPNOTSUPP;
    const gone = v.map(x => unmapped(x.addr));
    const left = ep.addresses.filter(b => !gone.some(x => x.equals(b)));
    // All of them must be there, and one must stay: all or nothing.
    if (left.length === 0 || gone.some(x => !ep.addresses.some(b => b.equals(x)))) return -EINVAL;
    ep.addresses.splice(0, ep.addresses.length, ...left);
    return 0;
  },
  [api.SCTP_CONNECT_X]: (s, ep, v) => begin(s, ep, v, false),
  [api.SCTP_CONNECT_X_DELAYED]: (s, ep, v) => begin(s, ep, v, true),
  /** Sends the INIT that SCTP_CONNECT_X_DELAYED has held back; -EALREADY when it has gone out, -ENOENT without one. */
  [api.SCTP_CONNECT_X_COMPLETE]: (s, ep, v) => {
    if (!isSockAddr(v)) return -EINVAL;
    const a = byPeer(ep, v);
    if (a === undefined) return -ENOENT;
    return sendDelayedInit(s, a) ? 0 : -EALREADY;
  },
};

function begin(s: Sctp, ep: Endpoint, v: unknown, delayed: boolean): number {
  if (!isList(v)) return -EINVAL;
  const a = connectx(s, ep, v, delayed);
  return typeof a === 'number' ? a : a.id;
}
