/**
 * Paths of an association: making them, choosing source addresses, choosing where data goes, failure and recovery
 * (RFC 9260 §6.4, §8.2, §8.3, §8.4 of RFC 6458's addresses). Every change has a reason.
 */

import { SEC } from '../kern/clock.js';
import type { Ifnet } from '../net/ifnet.js';
import { IFF_UP } from '../net/ifnet.js';
import type { InAddr } from '../netinet/in.js';
import type { Reason } from './api.js';
import type { Association } from './association.js';
import type { Endpoint } from './endpoint.js';
import { mayProbe, scheduleHeartbeat, sendHeartbeat } from './heartbeat.js';
import { Path, SOURCE_GIVEN, SOURCE_NONE, SOURCE_ROUTE, sourceScored } from './path.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';

const DEFAULT_MTU = 1500;

/** Adds a path to a peer's address, unconfirmed (§5.4). `source`: our address if known already. */
export function addPath(s: Sctp, a: Association, addr: InAddr, encapsPort: number, source?: InAddr): Path {
  const p = new Path(a, a.paths.length, addr);
  p.encapsPort = encapsPort;
  p.tos = a.tos;
  p.hbEnabled = a.endpoint.options.hbEnabled;
  a.paths = [...a.paths, p];
  if (source !== undefined) {
    p.source = ownObject(s, source);
    p.hasSource = true;
    p.sourceChoice = SOURCE_GIVEN;
  } else selectSource(s, p);
  learnMtu(s, p);
  a.cc.init(p, a.peerRwnd > 0 ? a.peerRwnd : 65535, s.tunables);
  s.addPeer(p);
  return p;
}

/** The interface's own object of one of our addresses; a copy of what is not, or no longer, ours. */
function ownObject(s: Sctp, addr: InAddr): InAddr {
  for (const x of s.stack.interfaces.ownerOf(addr)?.addresses ?? []) if (x.addr.equals(addr)) return x.addr;
  return addr.clone();
}

/** The heartbeat timer: what an idle association does not need goes before the heartbeat of an idle path is sent. */
export function heartbeatDue(s: Sctp, p: Path): void {
  if (p.flight === 0 && s.now - p.lastUsed >= p.hbInterval) {
    p.releaseIdle();
    p.asoc.releaseIdle();
  }
  scheduleHeartbeat(s, p, true);
}

export function findPath(a: Association, addr: InAddr): Path | undefined {
  for (let i = 0; i < a.paths.length; i++) if (a.paths[i]!.addr.equals(addr)) return a.paths[i];
  return undefined;
}

function usableInterface(ifp: Ifnet): boolean {
  return (ifp.flags & IFF_UP) !== 0;
}

/** Our addresses that an endpoint may use: its bound ones, or those of all interfaces that are up. */
export function ownAddresses(s: Sctp, ep: Endpoint): { addr: InAddr; prefix: number; link: boolean }[] {
  const out: { addr: InAddr; prefix: number; link: boolean }[] = [];
  for (const ifp of s.stack.interfaces.list()) {
    if (!usableInterface(ifp)) continue;
    for (const x of ifp.addresses) {
      if (!mayUse(ep, x.addr)) continue;
      out.push({ addr: x.addr, prefix: x.prefix, link: ifp.link });
    }
  }
  return out;
}

/** True when one of the addresses that an endpoint may use (ownAddresses) passes a test. */
export function someOwnAddress(s: Sctp, ep: Endpoint, test: (addr: InAddr) => boolean): boolean {
  for (const ifp of s.stack.interfaces.list()) {
    if (!usableInterface(ifp)) continue;
    for (const { addr } of ifp.addresses) if (mayUse(ep, addr) && test(addr)) return true;
  }
  return false;
}

/** True when an endpoint may use one of our addresses. */
function mayUse(ep: Endpoint, addr: InAddr): boolean {
  const bound = ep.addresses;
  if (bound.length === 0) return true;
  for (let i = 0; i < bound.length; i++) if (bound[i]!.equals(addr)) return true;
  return false;
}

/** Paths of the association, other than p, that send from an address. */
function usersOf(p: Path, addr: InAddr): number {
  let users = 0;
  for (const q of p.asoc.paths) if (q !== p && q.hasSource && q.source.equals(addr)) users++;
  return users;
}

/**
 * Chooses our address for a path and notes why: same family and a scope that can reach the peer; then a link that is up;
 * then one that fewer of the association's paths use; then one in the peer's own subnet; then the order of interfaces.
 */
export function selectSource(s: Sctp, p: Path): boolean {
  let best: InAddr | undefined;
  let most = 0;
  for (const ifp of s.stack.interfaces.list()) {
    if (!usableInterface(ifp)) continue;
    for (const { addr, prefix } of ifp.addresses) {
      if (addr.family !== p.addr.family || !scopeReaches(addr, p.addr) || !mayUse(p.asoc.endpoint, addr)) continue;
      const users = usersOf(p, addr);
      const onLink = addr.inPrefix(p.addr, prefix);
      const score = (ifp.link ? 1_000_000 : 0) - users * 1000 + (onLink ? 100 : 0);
      if (best !== undefined && score <= most) continue;
      best = addr;
      most = score;
      p.sourceChoice = sourceScored(ifp.link, onLink, prefix, users);
    }
  }
  if (best === undefined) {
    const source = p.source.clone();
    p.hasSource = s.stack.routes.source(p.addr, source);
    p.source = source;
    p.sourceChoice = p.hasSource ? SOURCE_ROUTE : SOURCE_NONE;
    return p.hasSource;
  }
  p.source = best;
  p.hasSource = true;
  return true;
}

/** Loopback speaks to loopback and link-local to link-local; private and global mix (draft-stewart-tsvwg-sctp-ipv4). */
function scopeReaches(own: InAddr, peer: InAddr): boolean {
  return own.isLoopback === peer.isLoopback && own.isLinkLocal === peer.isLinkLocal;
}

/**
 * The addresses to list in INIT and INIT ACK for a peer seen at `peer` (facts part 7.31): by scope. Equal lists are mostly one
 * array, not to be written: all associations of a host tell the same.
 */
export function listAddresses(s: Sctp, ep: Endpoint, peer: InAddr): readonly InAddr[] {
  const last = s.listed;
  let n = 0; // so far it is the beginning of the last list
  let fresh: InAddr[] | undefined;
  for (const ifp of s.stack.interfaces.list()) {
    if (!usableInterface(ifp)) continue;
    for (const { addr } of ifp.addresses) {
      if (!listed(ep, addr, peer) || !mayUse(ep, addr)) continue;
      if (fresh === undefined && n < last.length && last[n] === addr) n++;
      else {
        fresh ??= last.slice(0, n);
        fresh.push(addr);
      }
    }
  }
  if (fresh === undefined && n === last.length) return last;
  s.listed = fresh ?? last.slice(0, n);
  return s.listed;
}

function listed(ep: Endpoint, x: InAddr, peer: InAddr): boolean {
  const family = ep.family === 6 ? !(ep.v6only && x.family === 4) : x.family === 4;
  return family && x.isLoopback === peer.isLoopback && (!x.isLinkLocal || peer.isLinkLocal);
}

/** The path's MTU from its route, and what ICMP has told the host. */
function learnMtu(s: Sctp, p: Path): void {
  const route = s.stack.routes.lookupFrom(p.source, p.addr);
  p.mtu =
    route === undefined ? DEFAULT_MTU : Math.max(512, Math.min(route.mtu, s.stack.routes.pmtu(p.addr) || route.mtu));
}

/** Lowers or raises a path's MTU (§7.3). */
export function setMtu(s: Sctp, p: Path, mtu: number, why: string): void {
  const old = p.mtu;
  if (mtu === old || p.mtuFixed) return;
  p.mtu = mtu;
  p.asoc.cc.afterMtuChange(p, old);
  if (mtu < old) {
    s.stats.sctps_pmtulowered++;
    s.stack.callouts.reset(p.pmtuRaise, s.tunables.pmtu_raise_time * SEC);
  } else s.stats.sctps_pmturaised++;
  s.report(p.asoc, 'path-mtu', reason(why, '§7.3'), { address: p.addr.toString(), from: old, to: mtu });
}

/** The timer of a lowered MTU: as much as the route has now. */
export function raiseMtu(s: Sctp, p: Path): void {
  const route = s.stack.routes.lookupFrom(p.source, p.addr);
  if (route !== undefined && route.mtu > p.mtu) setMtu(s, p, route.mtu, 'the time to try a larger MTU again has come');
}

/** A path has proven to be the peer's (§5.4): it may carry data. */
export function confirmPath(s: Sctp, p: Path, tell: boolean): void {
  if (p.state === 'active') return;
  const was = p.state;
  p.state = 'active';
  p.errors = 0;
  const why =
    was === 'unconfirmed' ? reason('the address has been confirmed', '§5.4') : reason('the path answers again', '§8.2');
  if (was === 'inactive') s.stats.sctps_pathup++;
  if (!tell) return;
  s.notify(p.asoc.endpoint, {
    type: 'peer-addr-change',
    state: was === 'unconfirmed' ? 'confirmed' : 'available',
    assocId: p.asoc.id,
    address: { addr: p.addr, port: p.asoc.peerPort },
    reason: why,
  });
  s.report(p.asoc, was === 'unconfirmed' ? 'path-confirmed' : 'path-up', why, { address: p.addr.toString() });
  s.markDirty(p.asoc);
}

/** Data or a heartbeat sent on the path was acknowledged: its error count begins anew (§8.2). */
export function pathAlive(s: Sctp, p: Path): void {
  p.errors = 0;
  leavePf(s, p);
  if (p.state !== 'active') confirmPath(s, p, true);
}

/**
 * The path may have failed (RFC 7829 §3.2): no data goes there while another path is usable, heartbeats every RTO tell what
 * is true. The user is not told.
 */
export function enterPf(s: Sctp, p: Path): void {
  if (p.pf || p.state !== 'active') return;
  p.pf = true;
  s.report(p.asoc, 'path-potentially-failed', reason(`${p.errors} errors in a row`, 'RFC 7829 §3.2'), {
    address: p.addr.toString(),
  });
  choosePath(s, p.asoc);
  if (!p.asoc.established) return;
  sendHeartbeat(s, p);
  scheduleHeartbeat(s, p, false);
}
/** The path answers: it begins again with a window of one packet (RFC 7829 §3.2 rule 5). */
export function leavePf(s: Sctp, p: Path): void {
  if (!p.pf) return;
  p.pf = false;
  p.cwnd = p.mtu;
  choosePath(s, p.asoc);
}

/** The path has failed (§8.2): inactive until a heartbeat is answered. */
export function pathFailed(s: Sctp, p: Path, why: Reason): void {
  if (p.state !== 'active') return;
  p.state = 'inactive';
  p.pf = false;
  s.stats.sctps_pathdown++;
  if (p.asoc.established)
    s.notify(p.asoc.endpoint, {
      type: 'peer-addr-change',
      state: 'unreachable',
      assocId: p.asoc.id,
      address: { addr: p.addr, port: p.asoc.peerPort },
      reason: why,
    });
  s.report(p.asoc, 'path-down', why, { address: p.addr.toString() });
  choosePath(s, p.asoc);
}

/**
 * Where new data goes (§6.4): the primary while it is usable; else the usable path with the fewest errors; else, when all
 * are down (dormant), the one with the fewest errors that still has a link, so that each is tried in turn.
 */
export function choosePath(s: Sctp, a: Association): void {
  const was = a.current;
  let best: Path | undefined = a.primary.usable ? a.primary : undefined;
  if (best === undefined) {
    for (const p of a.paths) if (p.usable && (best === undefined || p.errors < best.errors)) best = p;
  }
  if (best === undefined) {
    // (potentially failed ones have fewer errors than those that have failed)
    for (const p of a.paths)
      if (!p.linkDown && p.state !== 'unconfirmed' && (best === undefined || p.errors < best.errors)) best = p;
  }
  best ??= a.primary;
  if (best === was) return;
  a.current = best;
  if (!a.established) return;
  s.stats.sctps_failover++;
  const why =
    best === a.primary
      ? reason('the primary path is usable again', '§6.4')
      : reason(
          was.linkDown ? `the link under ${was.source} is down` : `the path to ${was.addr} does not answer`,
          '§6.4.1',
        );
  s.report(a, 'failover', why, { from: was.addr.toString(), to: best.addr.toString() });
}

/** Starts the heartbeat of every path: unconfirmed ones are probed at once (§5.4, HB.Max.Burst at a time). */
export function startHeartbeats(s: Sctp, a: Association): void {
  for (const p of a.paths) {
    if (p.state === 'unconfirmed' && mayProbe(s, a, p)) sendHeartbeat(s, p);
    scheduleHeartbeat(s, p, false);
  }
}
