/**
 * The functions of RFC 6458 §9 under their C names, over a Socket: what FreeBSD's libsctp makes of options and control
 * messages (facts part 2.4). They return what C's return, with -errno in place of -1 and errno. Nothing blocks. Lists need
 * no freeing: sctp_freepaddrs and sctp_freeladdrs have nothing to do here.
 */

import { EAFNOSUPPORT, EALREADY, EFAULT, EINVAL } from '../kern/errno.js';
import { MSG_NOTIFICATION, type RecvInfo, type SendInfo, type SockAddr, type Socket } from '../kern/socket.js';
import { AF_INET, AF_INET6, InAddr, IPPROTO_SCTP } from '../netinet/in.js';
import * as api from './api.js';
import { wantedOf } from './binary.js';
import { optionRow } from './optionrows.js';

export const SCTP_SENDV_NOINFO = 0;
export const SCTP_SENDV_SNDINFO = 1;
export const SCTP_SENDV_PRINFO = 2;
export const SCTP_SENDV_AUTHINFO = 3;
export const SCTP_SENDV_SPA = 4;
export const SCTP_SEND_SNDINFO_VALID = 1;
export const SCTP_SEND_PRINFO_VALID = 2;
export const SCTP_SEND_AUTHINFO_VALID = 4;
export const SCTP_RECVV_NOINFO = 0;
export const SCTP_RECVV_RCVINFO = 1;
export const SCTP_RECVV_NXTINFO = 2;
export const SCTP_RECVV_RN = 3;

export type SndInfo = Pick<SendInfo, 'sid' | 'flags' | 'ppid' | 'context' | 'assocId'>;
export type PrInfo = Pick<SendInfo, 'prPolicy' | 'prValue'>;
/** What sctp_sendv takes beside the data. AUTHINFO belongs to the extension 'auth': the null key is used. */
export type SendvInfo =
  | { readonly type: typeof SCTP_SENDV_NOINFO }
  | { readonly type: typeof SCTP_SENDV_SNDINFO; readonly info: SndInfo }
  | { readonly type: typeof SCTP_SENDV_PRINFO; readonly info: PrInfo }
  | { readonly type: typeof SCTP_SENDV_AUTHINFO; readonly info: { readonly keyNumber: number } }
  | {
      readonly type: typeof SCTP_SENDV_SPA;
      /** SCTP_SEND_*_VALID. */
      readonly flags: number;
      readonly sndinfo?: SndInfo;
      readonly prinfo?: PrInfo;
    };

const isFamily = (a: SockAddr): boolean => a.addr.family === 4 || a.addr.family === 6;
/** An IPv4 address written as IPv6 goes as IPv4. */
const plain = (a: SockAddr): SockAddr =>
  a.addr.isV4Mapped ? { addr: new InAddr(4, 0, 0, 0xffff, a.addr.w3), port: a.port } : a;

/**
 * sctp_bindx: one address after the other, so that an error leaves those before it (§9.1). All have one port, or 0.
 * `flags`: SCTP_BINDX_ADD_ADDR or SCTP_BINDX_REM_ADDR, else -EFAULT as in libsctp.
 */
export function sctp_bindx(so: Socket, addrs: readonly SockAddr[], flags: number): number {
  if (flags !== api.SCTP_BINDX_ADD_ADDR && flags !== api.SCTP_BINDX_REM_ADDR) return -EFAULT;
  if (addrs.length === 0) return -EINVAL;
  let port = 0;
  for (const a of addrs) {
    if (!isFamily(a)) return -EAFNOSUPPORT;
    if (a.port === 0) continue;
    if (port !== 0 && a.port !== port) return -EINVAL;
    port = a.port;
  }
  for (const [i, a] of addrs.entries()) {
    // Bound to any port with the first, the others follow there.
    const name = i > 0 && port === 0 ? so.sockaddr() : undefined;
    const at = typeof name === 'object' ? name.port : port;
    const e = so.setsockopt(IPPROTO_SCTP, flags, [{ addr: a.addr, port: at }]);
    if (e < 0) return e;
  }
  return 0;
}

/** sctp_connectx: begins an association with a peer of several addresses; its id (§9.9). */
export function sctp_connectx(so: Socket, addrs: readonly SockAddr[]): number {
  if (addrs.length === 0) return -EINVAL;
  return so.setsockopt(IPPROTO_SCTP, api.SCTP_CONNECT_X, addrs.map(plain));
}

/** sctp_peeloff: a one-to-one socket for an association of a one-to-many socket (§9.2). */
export function sctp_peeloff(so: Socket, assocId: number): Socket | number {
  return so.getsockopt(IPPROTO_SCTP, api.SCTP_PEELOFF, assocId) as Socket | number;
}

const listOf = (v: unknown): SockAddr[] | number => v as SockAddr[] | number;
/** The peer's addresses of an association (§9.3). */
export function sctp_getpaddrs(so: Socket, assocId: number): SockAddr[] | number {
  return listOf(so.getsockopt(IPPROTO_SCTP, api.SCTP_GET_PEER_ADDRESSES, assocId));
}
/** Our addresses of an association, or with id 0 those that the socket is bound to (§9.5). Empty when there are none. */
export function sctp_getladdrs(so: Socket, assocId: number): SockAddr[] | number {
  return listOf(so.getsockopt(IPPROTO_SCTP, api.SCTP_GET_LOCAL_ADDRESSES, assocId));
}
/** sizeof the sockaddr of AF_INET or AF_INET6. */
export function sctp_getaddrlen(so: Socket, family: typeof AF_INET | typeof AF_INET6): number {
  const v = so.getsockopt(IPPROTO_SCTP, api.SCTP_GET_ADDR_LEN, { assocId: 0, value: family });
  return typeof v === 'number' ? v : (v as api.AssocValue).value;
}
/** The id of the association with a peer's address, 0 without one. */
export function sctp_getassocid(so: Socket, peer: SockAddr): number {
  const v = so.getsockopt(IPPROTO_SCTP, api.SCTP_PEER_ADDR_PARAMS, { assocId: 0, address: peer });
  return typeof v === 'number' ? 0 : (v as api.PeerAddrParams).assocId;
}
/**
 * sctp_opt_info: getsockopt for one association (§9.14); `arg` is further input, as an address. -EFAULT without room for a
 * value in C; SCTP_CURRENT_ASSOC and SCTP_ALL_ASSOC are -EINVAL.
 */
export function sctp_opt_info(so: Socket, assocId: number, option: number, arg?: object): unknown {
  if (assocId === api.SCTP_CURRENT_ASSOC || assocId === api.SCTP_ALL_ASSOC) return -EINVAL;
  if (optionRow('sctp', option) === undefined) return -EINVAL;
  return so.getsockopt(IPPROTO_SCTP, option, { ...arg, assocId });
}

const request = (): SendInfo => ({
  sid: 0,
  flags: 0,
  ppid: 0,
  context: 0,
  assocId: 0,
  prPolicy: 0,
  prValue: 0,
});

/**
 * sctp_sendv (§9.12): one message from several buffers to an association, or to a peer by its addresses, all of one port,
 * which sets an association up if there is none. Returns the bytes taken; the id of the association is written into the
 * information given (SNDINFO, SPA).
 */
export function sctp_sendv(
  so: Socket,
  iov: readonly Uint8Array[],
  to: readonly SockAddr[],
  v: SendvInfo = { type: SCTP_SENDV_NOINFO },
  flags = 0,
): number {
  if (to.some(a => a.port !== to[0]!.port)) return -EINVAL;
  let info: SendInfo | undefined;
  let snd: SndInfo | undefined;
  let pr: PrInfo | undefined;
  if (v.type === SCTP_SENDV_SNDINFO) snd = v.info;
  else if (v.type === SCTP_SENDV_PRINFO) pr = v.info;
  else if (v.type === SCTP_SENDV_SPA) {
    if ((v.flags & SCTP_SEND_SNDINFO_VALID) !== 0) snd = v.sndinfo;
    if ((v.flags & SCTP_SEND_PRINFO_VALID) !== 0) pr = v.prinfo;
  }
  if (snd !== undefined || pr !== undefined) info = { ...request(), ...snd, ...pr };
  if (to.length > 1) {
    info ??= defaults(so);
    info.addresses = to.slice(1).map(plain);
  }
  const data = iov.length === 1 ? iov[0]! : gather(iov);
  const n = so.send(data, 0, data.length, info, to[0] === undefined ? undefined : plain(to[0]), flags);
  if (n >= 0 && snd !== undefined && to[0] !== undefined) snd.assocId = sctp_getassocid(so, to[0]) || snd.assocId;
  return n;
}
function gather(iov: readonly Uint8Array[]): Uint8Array {
  const data = new Uint8Array(iov.reduce((n, x) => n + x.length, 0));
  let at = 0;
  for (const x of iov) {
    data.set(x, at);
    at += x.length;
  }
  return data;
}
/** What a message without information of its own goes with. */
function defaults(so: Socket): SendInfo {
  const v = so.getsockopt(IPPROTO_SCTP, api.SCTP_DEFAULT_SEND_PARAM, 0);
  return typeof v === 'object' && v !== null ? { ...(v as SendInfo) } : request();
}

/** sctp_recvv (§9.13): as recv, and what kind of information has come: SCTP_RECVV_*. The rest is in `info`. */
export function sctp_recvv(
  so: Socket,
  buffer: Uint8Array,
  info: RecvInfo,
  flags = 0,
): { readonly n: number; readonly infotype: number } {
  const n = so.recv(buffer, 0, buffer.length, info, flags);
  if (n <= 0 || (info.msgFlags & MSG_NOTIFICATION) !== 0) return { n, infotype: SCTP_RECVV_NOINFO };
  const w = wantedOf(so);
  const rcv = w.rcvInfo ? SCTP_RECVV_RCVINFO : 0;
  const nxt = w.nxtInfo && info.next !== undefined ? SCTP_RECVV_NXTINFO : 0;
  return { n, infotype: rcv | nxt };
}

/** sctp_send (§9.10, deprecated). */
export function sctp_send(so: Socket, data: Uint8Array, info: SendInfo, flags = 0): number {
  return so.send(data, 0, data.length, info, undefined, flags);
}
/** sctp_sendmsg (§9.7, deprecated): `flags` are snd_flags, with the policy of `timetolive` in the low bits. */
export function sctp_sendmsg(
  so: Socket,
  data: Uint8Array,
  to: SockAddr | undefined,
  ppid: number,
  flags: number,
  sid: number,
  timetolive: number,
  context: number,
): number {
  return so.send(data, 0, data.length, sndrcv(ppid, flags, sid, timetolive, context), to);
}
function sndrcv(ppid: number, flags: number, sid: number, ttl: number, context: number): SendInfo {
  const policy = flags & 0xf;
  return {
    ...request(),
    sid,
    ppid,
    context,
    flags: flags & ~0xf,
    prPolicy: policy === 0 && ttl > 0 ? api.SCTP_PR_SCTP_TTL : policy,
    prValue: ttl,
  };
}
/** sctp_sendx (§9.11, deprecated): to a peer by its addresses; the INIT of a new association waits for the message. */
export function sctp_sendx(
  so: Socket,
  data: Uint8Array,
  addrs: readonly SockAddr[],
  info: SendInfo,
  flags = 0,
): number {
  if (addrs.length === 0) return -EINVAL;
  if (addrs.some(a => a.port !== addrs[0]!.port)) return -EINVAL;
  const list = addrs.map(plain);
  if (list.length === 1) return so.send(data, 0, data.length, info, list[0], flags);
  const id = so.setsockopt(IPPROTO_SCTP, api.SCTP_CONNECT_X_DELAYED, list);
  if (id < 0 && id !== -EALREADY) return id;
  const n = so.send(data, 0, data.length, id > 0 ? { ...info, assocId: id } : info, list[0], flags);
  const e = so.setsockopt(IPPROTO_SCTP, api.SCTP_CONNECT_X_COMPLETE, list[0]);
  return n < 0 || e === 0 || e === -EALREADY ? n : e;
}
/** sctp_sendmsgx (deprecated): sctp_sendmsg to a peer by its addresses. */
export function sctp_sendmsgx(
  so: Socket,
  data: Uint8Array,
  addrs: readonly SockAddr[],
  ppid: number,
  flags: number,
  sid: number,
  timetolive: number,
  context: number,
): number {
  return sctp_sendx(so, data, addrs, sndrcv(ppid, flags, sid, timetolive, context));
}
/** sctp_recvmsg (§9.8, deprecated): `info` is the sctp_sndrcvinfo. */
export function sctp_recvmsg(so: Socket, buffer: Uint8Array, info: RecvInfo, flags = 0): number {
  return so.recv(buffer, 0, buffer.length, info, flags);
}
export { AF_INET, AF_INET6 };
