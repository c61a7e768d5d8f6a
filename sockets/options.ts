/**
 * What a program may ask of a socket before it connects or listens, as an object, and the setsockopt calls (RFC 6458 §8)
 * that it stands for. What is not given keeps the stack's default.
 */

import { SOCK_SEQPACKET, SOCK_STREAM } from '../stack/kern/protosw.js';
import type { SockAddr, Socket } from '../stack/kern/socket.js';
import { AF_INET, AF_INET6, type InAddr, IPPROTO_SCTP } from '../stack/netinet/in.js';
import {
  type AssocStatus,
  type InitMsg,
  type NotificationType,
  type PathInfo,
  type PeerAddrParams,
  SCTP_EVENT,
  SCTP_GET_LOCAL_ADDRESSES,
  SCTP_GET_PATHS,
  SCTP_GET_PEER_ADDRESSES,
  SCTP_INITMSG,
  SCTP_NODELAY,
  SCTP_PEER_ADDR_PARAMS,
  SCTP_REMOTE_UDP_ENCAPS_PORT,
  SCTP_STATUS,
  SO_RCVBUF,
  SO_SNDBUF,
  SOL_SOCKET,
  SPP_HB_DISABLE,
  SPP_HB_ENABLE,
} from '../stack/sctp/api.js';
import { must, SctpError } from './errors.js';
import type { Host } from './message.js';

export interface AssocOptions {
  /** Outgoing streams to ask for, and incoming ones to allow (RFC 9260 §5.1.1). */
  outStreams?: number;
  maxInStreams?: number;
  /** INITs to send before giving up, and the longest time between two of them in ms (RFC 6458 §8.1.3). */
  initAttempts?: number;
  initTimeout?: number;
  /** true sends small messages at once instead of waiting for more (RFC 6458 §8.1.5). */
  noDelay?: boolean;
  /** Heartbeat interval in ms, false for none (RFC 9260 §8.3). */
  heartbeat?: number | false;
  /** Failures in a row that make a path inactive (RFC 9260 §8.2). */
  pathMaxRetrans?: number;
  /** The peer's UDP encapsulation port (RFC 6951): packets go inside UDP. */
  encapsPort?: number;
  /** Socket buffers in bytes. rcvbuf is the window that the peer is offered. */
  sndbuf?: number;
  rcvbuf?: number;
}

/** The notifications that SctpSocket and SctpEndpoint subscribe to from the start; sender-dry follows its listener. */
export const SUBSCRIBED: readonly NotificationType[] = [
  'assoc-change',
  'peer-addr-change',
  'remote-error',
  'send-failed',
  'shutdown',
  'partial-delivery',
];

/** AF_INET6 as soon as one address is IPv6 (such a socket takes both families, RFC 6458 §3.1.1), else AF_INET. */
export function domainOf(...lists: (readonly { readonly addr: InAddr }[])[]): number {
  return lists.some(l => l.some(a => a.addr.family === 6)) ? AF_INET6 : AF_INET;
}

/** socket(2). Throws SctpError. */
export function openSocket(host: Host, domain: number, oneToMany: boolean): Socket {
  const so = host.socket(domain, oneToMany ? SOCK_SEQPACKET : SOCK_STREAM, IPPROTO_SCTP);
  if (typeof so === 'number') throw new SctpError(so, 'socket');
  return so;
}

function set(so: Socket, level: number, name: number, value: unknown, text: string): void {
  must(so, so.setsockopt(level, name, value), `setsockopt(${text})`);
}

/** Subscribes to a notification or ends that (RFC 6458 §6.2.2). Throws SctpError. */
export function subscribe(so: Socket, type: NotificationType, on: boolean, assocId = 0): void {
  set(so, IPPROTO_SCTP, SCTP_EVENT, { assocId, type, on }, 'SCTP_EVENT');
}

/** Applies options to a socket that is neither connected nor listening. Throws SctpError and leaves the socket open. */
export function applyOptions(so: Socket, o: AssocOptions, peers: readonly SockAddr[] = []): void {
  if (o.sndbuf !== undefined) set(so, SOL_SOCKET, SO_SNDBUF, o.sndbuf, 'SO_SNDBUF');
  if (o.rcvbuf !== undefined) set(so, SOL_SOCKET, SO_RCVBUF, o.rcvbuf, 'SO_RCVBUF');
  if (
    o.outStreams !== undefined ||
    o.maxInStreams !== undefined ||
    o.initAttempts !== undefined ||
    o.initTimeout !== undefined
  ) {
    // A zero keeps the default (RFC 6458 §8.1.3).
    const init: InitMsg = {
      numOstreams: o.outStreams ?? 0,
      maxInstreams: o.maxInStreams ?? 0,
      maxAttempts: o.initAttempts ?? 0,
      maxInitTimeo: o.initTimeout ?? 0,
    };
    set(so, IPPROTO_SCTP, SCTP_INITMSG, init, 'SCTP_INITMSG');
  }
  if (o.noDelay !== undefined) setNoDelay(so, o.noDelay);
  if (o.heartbeat !== undefined || o.pathMaxRetrans !== undefined) setHeartbeat(so, o.heartbeat, o.pathMaxRetrans);
  if (o.encapsPort !== undefined) {
    const name = 'SCTP_REMOTE_UDP_ENCAPS_PORT';
    set(so, IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, { assocId: 0, port: o.encapsPort }, name);
    for (const address of peers) {
      set(so, IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, { assocId: 0, address, port: o.encapsPort }, name);
    }
  }
}

/** Throws SctpError. */
export function setNoDelay(so: Socket, on: boolean): void {
  set(so, IPPROTO_SCTP, SCTP_NODELAY, on ? 1 : 0, 'SCTP_NODELAY');
}

/** Sets the heartbeat interval (ms, false = none) and Path.Max.Retrans; undefined keeps. Throws SctpError. */
export function setHeartbeat(so: Socket, interval: number | false | undefined, pathMaxRxt = 0, assocId = 0): void {
  const flags = interval === undefined ? 0 : interval === false ? SPP_HB_DISABLE : SPP_HB_ENABLE;
  const value: PeerAddrParams = { assocId, hbInterval: interval || 0, pathMaxRxt, pathMtu: 0, flags, dscp: 0 };
  set(so, IPPROTO_SCTP, SCTP_PEER_ADDR_PARAMS, value, 'SCTP_PEER_ADDR_PARAMS');
}

/** The peer's addresses, empty when there is no association. */
export function peerAddresses(so: Socket, assocId = 0): readonly SockAddr[] {
  const list = so.getsockopt(IPPROTO_SCTP, SCTP_GET_PEER_ADDRESSES, assocId);
  return Array.isArray(list) ? (list as SockAddr[]) : [];
}

/** Our addresses, empty when the socket is not bound. */
export function localAddresses(so: Socket, assocId = 0): readonly SockAddr[] {
  const list = so.getsockopt(IPPROTO_SCTP, SCTP_GET_LOCAL_ADDRESSES, assocId);
  if (Array.isArray(list) && list.length > 0) return list as SockAddr[];
  const one = so.closed ? -1 : so.sockaddr();
  return typeof one === 'number' ? [] : [one];
}

/** undefined when there is no association. */
export function assocStatus(so: Socket, assocId = 0): AssocStatus | undefined {
  const status = so.getsockopt(IPPROTO_SCTP, SCTP_STATUS, assocId);
  return typeof status === 'object' && status !== null ? (status as AssocStatus) : undefined;
}

/** Empty when there is no association. */
export function assocPaths(so: Socket, assocId = 0): readonly PathInfo[] {
  const list = so.getsockopt(IPPROTO_SCTP, SCTP_GET_PATHS, assocId);
  return Array.isArray(list) ? (list as PathInfo[]) : [];
}
