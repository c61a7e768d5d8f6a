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
import { Path } from './path.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { t3Expired } from './timers.js';

const DEFAULT_MTU = 1500;

/** Adds a path to a peer's address, unconfirmed (§5.4). `source`: our address if known already. */
export function addPath(s: Sctp, a: Association, addr: InAddr, encapsPort: number, source?: InAddr): Path {
  const p = new Path(a, a.paths.length, addr, {
    t3: q => t3Expired(s, q),
    hb: q => heartbeatDue(s, q),
    pmtuRaise: q => raiseMtu(s, q),
  });
  p.encapsPort = encapsPort;
  p.tos = a.tos;
  p.hbEnabled = a.endpoint.options.hbEnabled;
  a.paths.push(p);
  if (source !== undefined) {
    p.source.copy(source);
    p.hasSource = true;
    p.sourceWhy = 'the address the peer wrote to';
  } else selectSource(s, p);
  learnMtu(s, p);
  a.cc.init(p, a.peerRwnd > 0 ? a.peerRwnd : 65535, s.tunables);
  s.addPeer(p);
  return p;
}

const heartbeatDue = (s: Sctp, p: Path): void => scheduleHeartbeat(s, p, true);

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
      if (ep.addresses.length > 0 && !ep.addresses.some(b => b.equals(x.addr))) continue;
      out.push({ addr: x.addr, prefix: x.prefix, link: ifp.link });
    }
  }
  return out;
}

/**
 * Chooses our address for a path and writes down why: same family and a scope that can reach the peer; then a link that is
 * up; then one that fewer of the association's paths use; then one in the peer's own subnet; then the order of interfaces.
 */
export function selectSource(s: Sctp, p: Path): boolean {
  const a = p.asoc;
  let best: { addr: InAddr; score: number; why: string } | undefined;
  for (const c of ownAddresses(s, a.endpoint)) {
    if (c.addr.family !== p.addr.family || !scopeReaches(c.addr, p.addr)) continue;
    const users = a.paths.filter(q => q !== p && q.hasSource && q.source.equals(c.addr)).length;
    const onLink = c.addr.inPrefix(p.addr, c.prefix);
    const score = (c.link ? 1_000_000 : 0) - users * 1000 + (onLink ? 100 : 0);
    if (best === undefined || score > best.score) {
      const parts = [
        c.link ? 'link up' : 'link down, but the only one',
        onLink ? `in the peer's subnet /${c.prefix}` : 'routed',
        users === 0 ? 'used by no other path' : `used by ${users} other path${users > 1 ? 's' : ''}`,
      ];
      best = { addr: c.addr, score, why: parts.join(', ') };
    }
  }
  if (best === undefined) {
    p.hasSource = s.stack.routes.source(p.addr, p.source);
    p.sourceWhy = p.hasSource ? 'chosen by the route' : 'no address of ours can reach the peer';
    return p.hasSource;
  }
  p.source.copy(best.addr);
  p.hasSource = true;
  p.sourceWhy = best.why;
  return true;
}

/** Loopback speaks to loopback and link-local to link-local; private and global mix (draft-stewart-tsvwg-sctp-ipv4). */
function scopeReaches(own: InAddr, peer: InAddr): boolean {
  return own.isLoopback === peer.isLoopback && own.isLinkLocal === peer.isLinkLocal;
}

/** The addresses to list in INIT and INIT ACK for a peer seen at `peer` (facts part 7.31): by scope. */
export function listAddresses(s: Sctp, ep: Endpoint, peer: InAddr): InAddr[] {
  return ownAddresses(s, ep)
    .map(x => x.addr)
    .filter(x => (ep.family === 6 ? !(ep.v6only && x.family === 4) : x.family === 4))
    .filter(x => x.isLoopback === peer.isLoopback && (x.isLinkLocal ? peer.isLinkLocal : true));
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

function raiseMtu(s: Sctp, p: Path): void {
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
