/**
 * A valid COOKIE ECHO when an association exists (RFC 9260 §5.2.4, table 12): which case it is, as a pure function, and the
 * cases of a restart (A) and of a collision (B).
 *
 * | local tag | peer's tag | tie-tags | action                                                    |
 * | differs   | differs    | match    | A: the peer restarted                                      |
 * | matches   | differs, 0 | any      | B: both sides began at once, our INIT ACK won              |
 * | differs   | matches    | 0        | C: an old cookie arrives late: discard                     |
 * | matches   | matches    | any      | D: the association is up (or now is), COOKIE ACK again     |
 * | otherwise                         | discard                                                    |
 */

import { endPartialDelivery } from './abort.js';
import type { Association } from './association.js';
import type { CookieFields } from './cookie.js';
import { cookieAck } from './cookieecho.js';
import type { InitInfo } from './init.js';
import type { PacketContext } from './input.js';
import { confirmPath, findPath } from './paths.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { failQueued } from './sendfail.js';
import { applyPeer, assocChange, establish } from './setup.js';
import { startShutdown } from './shutdown.js';
import { markOutstanding } from './timers.js';
import { tsn, type Vtag } from './types.js';

export type CookieAction = 'restart' | 'collision' | 'discard' | 'duplicate';

export interface CookieView {
  readonly myTag: number;
  readonly peerTag: number;
  readonly tieLocal: number;
  readonly tiePeer: number;
  readonly myTsn: number;
}
export interface AssocView {
  readonly myTag: number;
  readonly peerTag: number;
  readonly initialTsn: number;
  /** Tie-tags given out in INIT ACKs for this association; 0, 0 = none. */
  readonly tieLocal: number;
  readonly tiePeer: number;
}

/** Cases B and D also want our initial TSN in the cookie to be the association's: both together act as a 64-bit tag. */
export function resolveCookie(c: CookieView, a: AssocView): CookieAction {
  const mine = c.myTag === a.myTag;
  const peers = c.peerTag === a.peerTag;
  if (mine) {
    if ((c.myTsn | 0) !== (a.initialTsn | 0)) return 'discard';
    return peers ? 'duplicate' : 'collision';
  }
  if (peers) return 'discard';
  const tied = c.tieLocal !== 0 && c.tiePeer !== 0 && c.tieLocal === a.tieLocal && c.tiePeer === a.tiePeer;
  return tied ? 'restart' : 'discard';
}

/** Case A: the peer has restarted: the socket survives, everything else begins anew (§5.2.4.1). */
export function restart(
  s: Sctp,
  a: Association,
  p: PacketContext,
  c: CookieFields,
  info: InitInfo,
): Association | undefined {
  s.stats.sctps_restartestab++;
  failQueued(s, a);
  endPartialDelivery(s, a);
  s.receiver.clear(a);
  a.out.reset();
  resetSender(a, c.myTsn);
  for (const t of [a.t1, a.t2, a.guard, a.sackTimer]) s.stack.callouts.stop(t);
  for (const path of a.paths) {
    s.stack.callouts.stop(path.t3);
    path.flight = 0;
    path.inFastRecovery = false;
    path.errors = 0;
  }
  s.retag(a, c.myTag as Vtag);
  a.tieLocal = a.tiePeer = 0;
  a.control.length = 0;
  a.dups.length = 0;
  a.ecneDue = a.cwrDue = false;
  a.shutdownAgain = false;
  a.dryReported = true;
  a.packetsSinceSack = 0;
  a.hadGap = false;
  a.sackDue = false;
  a.firstData = true;
  a.errors = 0;
  a.outStreamCount = c.outStreams;
  const wasUp = a.established;
  applyPeer(s, a, info, c.src, c.encapsPort);
  a.ecn = c.ecn;
  const path = findPath(a, c.src);
  if (path !== undefined) confirmPath(s, path, true); // the cookie has come back from there
  p.from = findPath(a, p.info.src) ?? path;
  const why = reason('the peer has restarted the association', '§5.2.4.1');
  if (wasUp) {
    const ep = a.endpoint;
    a.state = 'ESTABLISHED';
    a.closing = false;
    ep.peerDone = false;
    s.notify(ep, assocChange(a, 'restart', why));
    s.report(a, 'restart', why, { peer: a.primary.addr.toString() });
    s.wake(ep);
    if (ep.gone || ep.cantSend) startShutdown(s, a); // our user wanted the end, and still does
  } else establish(s, a, 'passive');
  cookieAck(s, a, p);
  return a;
}

function resetSender(a: Association, initial: number): void {
  a.initialTsn = tsn(initial);
  a.nextTsn = a.initialTsn;
  a.cumAcked = tsn(initial - 1);
  a.highestAcked = a.cumAcked;
  a.resendFrom = a.initialTsn;
  a.ring.fill(0);
  a.flight = 0;
  a.flightChunks = 0;
  a.resend = 0;
  a.probing = false;
  a.fastRetransmitDue = false;
}

/** Case B: both INITs crossed (§5.2.4.2): the peer's tag and parameters are those of the cookie. */
export function collide(s: Sctp, a: Association, p: PacketContext, c: CookieFields, info: InitInfo): Association {
  s.stack.callouts.stop(a.t1);
  const wasUp = a.established;
  if (!wasUp) s.stats.sctps_collisionestab++;
  a.outStreamCount = Math.min(a.outStreamCount, c.outStreams);
  if (wasUp) {
    a.peerTag = info.tag as Vtag;
    if (tsn(info.tsn) !== a.peerInitialTsn) {
      // The peer has begun to count anew: what it sent before is not what will follow.
      endPartialDelivery(s, a);
      s.receiver.clear(a);
      a.startReceiving(tsn(info.tsn), a.inStreamCount);
    }
    s.report(a, 'collision', reason('the peer uses the tag of its other INIT', '§5.2.4.2'));
  } else {
    applyPeer(s, a, info, c.src, c.encapsPort);
    a.ecn = c.ecn;
    const path = findPath(a, c.src);
    if (path !== undefined) {
      if (!path.usable || path.state !== 'active') confirmPath(s, path, false);
      a.primary = a.current = path;
    }
  }
  markOutstanding(s, a);
  p.from = findPath(a, p.info.src);
  if (!wasUp) establish(s, a, 'passive');
  cookieAck(s, a, p);
  return a;
}
