/** Addresses at the socket: v4-mapped ones, how the user wants to see them, and whom they name (RFC 6458 §3.3, §8.1.15). */

import type { SockAddr } from '../kern/socket.js';
import { InAddr } from '../netinet/in.js';
import type { Association } from './association.js';
import type { Endpoint } from './endpoint.js';
import { findPath } from './paths.js';

/** An IPv4 address written as IPv6 is the IPv4 address. */
export const unmapped = (a: InAddr): InAddr => (a.isV4Mapped ? new InAddr(4, 0, 0, 0xffff, a.w3) : a);
/** An address as the user wants to see it: on an IPv6 socket IPv4 is v4-mapped, if asked for (SCTP_I_WANT_MAPPED_V4_ADDR). */
export function told(ep: Endpoint, addr: InAddr, port: number): SockAddr {
  if (ep.family !== 6 || !ep.options.mappedV4 || addr.family !== 4) return { addr: addr.clone(), port };
  return { addr: new InAddr(6, 0, 0, 0xffff, addr.w3), port };
}

/** The association of an endpoint with a peer's address. */
export function byPeer(ep: Endpoint, to: SockAddr): Association | undefined {
  const addr = unmapped(to.addr);
  for (const a of ep.asocs.values()) if (a.peerPort === to.port && findPath(a, addr) !== undefined) return a;
  return undefined;
}
