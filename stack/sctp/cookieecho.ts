/**
 * COOKIE ECHO (RFC 9260 §5.1 D, §5.1.5, §5.2.4): a new association from a good cookie, or what the cookie means to one that
 * exists (restart.ts).
 */

import type { Association } from './association.js';
import {
  CAUSE_COOKIE_IN_SHUTDOWN,
  CAUSE_OUT_OF_RESOURCE,
  CAUSE_STALE_COOKIE,
  ERROR,
  SHUTDOWN_ACK,
} from './constants.js';
import type { CookieFields } from './cookie.js';
import type { Endpoint } from './endpoint.js';
import { type InitInfo, parseInit } from './init.js';
import type { PacketContext } from './input.js';
import { outOfTheBlue } from './ootb.js';
import { queueControl } from './output.js';
import { sendPacket } from './packet.js';
import { addPath, confirmPath, findPath, listAddresses } from './paths.js';
import { collide, resolveCookie, restart } from './restart.js';
import type { Sctp } from './sctp.js';
import { applyPeer, associationOfInit, establish, newAssociation, refuse } from './setup.js';
import { tsn, type Vtag } from './types.js';
import { ByteWriter, cause, errorChunk } from './wire.js';

/** Accept queue of a listener: is there room for one more? */
function listenerFull(ep: Endpoint): boolean {
  return ep.style === 'one-to-one' && ep.acceptQueue.length >= Math.max(ep.backlog, 1);
}

/**
 * COOKIE ECHO (§5.1 D, §5.2.4). Returns the association to which the rest of the packet belongs, or undefined when the
 * packet ends here.
 */
export function handleCookieEcho(
  s: Sctp,
  a: Association | undefined,
  ep: Endpoint | undefined,
  p: PacketContext,
  o: number,
  len: number,
): Association | undefined {
  const c = s.cookies.open(s.stack.pool.u8.subarray(o + 4, o + len));
  const stale = c === undefined ? undefined : s.cookies.staleness(c);
  const fits = c !== undefined && c.localPort === p.dstPort && c.peerPort === p.srcPort && c.myTag === p.tag;
  if (!fits || stale === undefined) {
    if (a === undefined && ep === undefined) outOfTheBlue(s, p);
    else s.drop('sctps_badcookie', a); // §5.1.5 rules 2 and 3
    return undefined;
  }
  const dv = new DataView(c.init.buffer, c.init.byteOffset, c.init.length);
  const info = parseInit(dv, 0, c.init.length, s.tunables.max_held_addresses);
  if ('error' in info) {
    s.drop('sctps_badcookie', a);
    return undefined;
  }
  // The cookie may come from an address that the association does not know: its INIT names the others (§5.1.2).
  a ??=
    s.byAddress(c.src, p.info.dst, c.localPort, c.peerPort)?.asoc ??
    associationOfInit(s, dv, 0, c.init.length, p.info.dst, c.localPort, c.peerPort);
  const action = a === undefined ? undefined : resolveCookie(c, a);
  if (stale > 0 && action !== 'duplicate') {
    // §5.1.5 rule 4, §5.2.4 rule 3.
    s.drop('sctps_stalecookie', a);
    s.stats.sctps_errorsent++;
    sendPacket(s, p.info.dst, p.info.src, p.dstPort, p.srcPort, c.peerTag, p.info.udpSrc, 0, [
      errorChunk(ERROR, 0, [cause(CAUSE_STALE_COOKIE, new ByteWriter().u32(Math.min(stale, 0xffffffff)).take())]),
    ]);
    return undefined;
  }
  if (a === undefined) {
    if (ep !== undefined) return accept(s, ep, p, c, info);
    outOfTheBlue(s, p);
    return undefined;
  }
  if (a.state === 'SHUTDOWN_ACK_SENT' && action !== undefined && action !== 'discard') {
    cookieWhileShuttingDown(s, a, p, c);
    return undefined;
  }
  switch (action) {
    case 'restart':
      return restart(s, a, p, c, info);
    case 'collision':
      return collide(s, a, p, c, info);
    case 'duplicate':
      if (a.state === 'COOKIE_ECHOED' || a.state === 'COOKIE_WAIT') {
        s.stack.callouts.stop(a.t1);
        establish(s, a, 'passive');
      }
      cookieAck(s, a, p);
      return a;
    default:
      s.drop('sctps_discardcookie', a);
      return undefined;
  }
}

/** COOKIE ACK is due, to where the cookie came from. */
export function cookieAck(s: Sctp, a: Association, p: PacketContext): void {
  a.cookieAckPath = p.from ?? a.current;
  s.markDirty(a);
}

/** A new association from a cookie, on the listener itself (one-to-many) or on an endpoint waiting for accept. */
function accept(
  s: Sctp,
  listener: Endpoint,
  p: PacketContext,
  c: CookieFields,
  info: InitInfo,
): Association | undefined {
  // A tag in time-wait is that of an association that has ended: its cookie comes late, or is replayed.
  if (s.byTag(c.myTag) !== undefined || s.inTimeWait(c.myTag)) {
    s.drop('sctps_discardcookie');
    return undefined;
  }
  if (listenerFull(listener)) {
    s.drop('sctps_listenfull');
    if (s.tunables.abort_at_limit === 1)
      refuse(s, p, c.peerTag, [cause(CAUSE_OUT_OF_RESOURCE)], 'the accept queue of the listener is full', '§5.1');
    return undefined;
  }
  let ep = listener;
  if (listener.style === 'one-to-one') {
    ep = listener.heir(undefined, s.tunables);
    ep.listener = listener;
    s.endpoints.add(ep);
    s.addPort(ep);
    listener.acceptQueue.push(ep);
    s.wake(listener);
  }
  const a = newAssociation(s, ep, c.localPort, c.peerPort, c.myTag as Vtag, tsn(c.myTsn));
  a.role = 'passive';
  s.addAssociation(a);
  // §5.1: the INIT's source is the first path; it is confirmed, the cookie has come back from there.
  const first = addPath(s, a, c.src, c.encapsPort, c.dst);
  a.primary = a.current = first;
  a.outStreamCount = c.outStreams;
  applyPeer(s, a, info, c.src, c.encapsPort);
  a.localAddresses = listAddresses(s, ep, c.src);
  a.ecn = c.ecn;
  confirmPath(s, first, false);
  // The COOKIE ECHO may have come from another of the peer's addresses.
  p.from = findPath(a, p.info.src) ?? first;
  establish(s, a, 'passive');
  cookieAck(s, a, p);
  return a;
}

/**
 * A COOKIE ECHO in SHUTDOWN-ACK-SENT (§5.2.4 A, §3.3.10.10), of the peer's new self or a copy of the old one: as FreeBSD, an
 * ERROR with the cookie's tag in a packet of its own, and SHUTDOWN ACK again with the tag that we know, which a restarted
 * peer reflects (§8.5.1 E).
 */
function cookieWhileShuttingDown(s: Sctp, a: Association, p: PacketContext, c: CookieFields): void {
  s.drop('sctps_unexpected', a);
  s.stats.sctps_errorsent++;
  queueControl(s, a, errorChunk(SHUTDOWN_ACK, 0, []), p.from);
  sendPacket(s, p.info.dst, p.info.src, p.dstPort, p.srcPort, c.peerTag, p.info.udpSrc, 0, [
    errorChunk(ERROR, 0, [cause(CAUSE_COOKIE_IN_SHUTDOWN)]),
  ]);
}
