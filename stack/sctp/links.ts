/**
 * What the card's and the host's events mean for associations: a path whose interface loses its link is set aside at once
 * instead of after retransmission time-outs, and probed as soon as the link is back; own addresses come and go; after a
 * system sleep, during which time stands still for every timer, each path is probed before data goes on.
 */

import { Callout } from '../kern/callout.js';
import { MSEC, SEC } from '../kern/clock.js';
import type { StampedEvent } from '../kern/event.js';
import { InAddr } from '../netinet/in.js';
import type { Association } from './association.js';
import { sendHeartbeat } from './heartbeat.js';
import type { Path } from './path.js';
import { choosePath, selectSource, setMtu } from './paths.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { armT3, markLost, undoBackOff } from './timers.js';

/** Path MTUs go no lower (facts part 4). */
const MIN_MTU = 512;
/** Associations that are probed in one millisecond after a sleep. */
const PROBES = 32;
/** Data waits no longer for the answer to a probe. */
const HOLD = SEC;

export function handleLinkEvent(s: Sctp, e: StampedEvent): void {
  switch (e.kind) {
    case 'link-off':
    case 'if-down':
    case 'if-detached':
      if (s.wakening.asleep) return; // the cards sleep too; `wake` looks what is left
      for (const a of [...s.associations()])
        for (const p of a.paths) if (usesInterface(s, p, e.ifname)) linkLost(s, a, p);
      break;
    case 'link-on':
    case 'if-up':
      if (s.wakening.asleep) return;
      for (const a of [...s.associations()])
        for (const p of a.paths) if (p.linkDown && usesInterface(s, p, e.ifname)) linkBack(s, a, p);
      break;
    case 'address-added':
      addressAdded(s, InAddr.of(e.address));
      break;
    case 'address-removed':
      addressRemoved(s, InAddr.of(e.address));
      break;
    case 'mtu':
      for (const a of [...s.associations()])
        for (const p of a.paths) if (usesInterface(s, p, e.ifname)) mtuChanged(s, p, e.ifname, e.mtu);
      break;
    case 'sleep':
      s.wakening.sleep();
      break;
    case 'wake':
      s.wakening.wake();
      break;
    default:
      break;
  }
}

function usesInterface(s: Sctp, p: Path, ifname: string): boolean {
  return s.stack.interfaces.ownerOf(p.source)?.name === ifname;
}
function hasLink(s: Sctp, p: Path): boolean {
  return s.stack.interfaces.ownerOf(p.source)?.link === true;
}

function linkLost(s: Sctp, a: Association, p: Path): void {
  if (p.linkDown) return;
  // Another interface may reach the same peer: then only the source changes.
  const other = a.paths.length === 1 && selectSource(s, p) && hasLink(s, p);
  if (other) return;
  p.linkDown = true;
  s.stats.sctps_linkdown++;
  s.report(a, 'path-link-down', reason(`the link under ${p.source} is down`, '§6.4'), { address: p.addr.toString() });
  moveAway(s, a, p);
}

/** What is in flight on a path that cannot send goes again at once by another one, if there is one. */
function moveAway(s: Sctp, a: Association, p: Path): void {
  choosePath(s, a);
  if (a.current === p) return; // nowhere else to go: T3 keeps trying
  markLost(s, a, p);
  const chunks = s.chunks;
  for (let t = (a.cumAcked + 1) | 0; ((a.nextTsn - t) | 0) > 0; t = (t + 1) | 0) {
    const m = a.ring[t & a.ringMask]!;
    if (m !== 0 && chunks.path[m] === p.id) chunks.path[m] = a.current.id;
  }
  s.stack.callouts.stop(p.t3);
  s.markDirty(a);
}

function linkBack(s: Sctp, a: Association, p: Path): void {
  p.linkDown = false;
  // What was sent into the dead link goes again now, not when a timer that had backed off for it fires.
  undoBackOff(p);
  if (p.flight > 0) markLost(s, a, p);
  s.report(a, 'path-link-up', reason(`the link under ${p.source} is up again`, '§6.4'), { address: p.addr.toString() });
  if (a.wakening) {
    // After a sleep the link comes up when it has negotiated: the probe goes first here too.
    choosePath(s, a);
    s.wakening.probe(a);
    return;
  }
  if (a.established) sendHeartbeat(s, p);
  choosePath(s, a);
  s.markDirty(a);
}

function mtuChanged(s: Sctp, p: Path, ifname: string, mtu: number): void {
  // A larger one helps where the interface was the narrowest place, as far as anybody has told.
  const route = s.stack.routes.lookupFrom(p.source, p.addr)?.mtu ?? mtu;
  const to = Math.max(MIN_MTU, Math.min(mtu, route, s.stack.routes.pmtu(p.addr) || mtu));
  if (to !== p.mtu) setMtu(s, p, to, `the MTU of ${ifname} is ${mtu} now`);
}

// Own addresses. An endpoint that is bound to all addresses has those that the interfaces have at any moment (ownAddresses in
// paths.ts); one that is bound to some has those of them that are there. RFC 6458 §6.1.2 has no notification for them (its
// address events are the peer's), so that they are reported as kernel events.

/** True when the endpoint of `a` may use the address. */
function belongs(a: Association, addr: InAddr): boolean {
  const bound = a.endpoint.addresses;
  if (a.endpoint.family === 4 && addr.family !== 4) return false;
  return bound.length === 0 || bound.some(b => b.equals(addr));
}

function addressAdded(s: Sctp, addr: InAddr): void {
  for (const a of [...s.associations()]) {
    if (!belongs(a, addr)) continue;
    s.report(a, 'local-address-added', reason(`${addr} is ours now`, '§6.4'), { address: addr.toString() });
    for (const p of a.paths) {
      // Paths that had no address to send from, or one whose link is down.
      if (p.hasSource && !p.linkDown && s.stack.interfaces.ownerOf(p.source) !== undefined) continue;
      if (selectSource(s, p) && p.linkDown && hasLink(s, p)) linkBack(s, a, p);
    }
    s.onLocalAddress?.(a, addr, true);
  }
}

/** The address that paths send from is no longer ours: another one takes its place, if there is one. */
function addressRemoved(s: Sctp, addr: InAddr): void {
  const was = addr.toString();
  for (const a of [...s.associations()]) {
    if (!belongs(a, addr)) continue;
    s.report(a, 'local-address-removed', reason(`${was} is ours no more`, '§6.4'), { address: was });
    for (const p of a.paths) {
      if (!p.source.equals(addr)) continue;
      const found = selectSource(s, p);
      const text = found
        ? `${was} was taken away, ${p.source} is used now`
        : `${was} was taken away and there is no other`;
      s.report(a, 'path-source', reason(text, '§6.4'), { address: p.addr.toString() });
      if (!found && !p.linkDown) {
        p.linkDown = true;
        moveAway(s, a, p);
      }
    }
    s.onLocalAddress?.(a, addr, false);
  }
}

/**
 * Sleep and wake of the host. The stack's clock stands during a sleep, so no timer has run out and nothing has aged; what has
 * to be found out is whether the peers are still there, and what they have: packets and SACKs that were under way came to
 * cards that slept, so all that was in flight counts as lost (§6.3.3 E3, without E1: nothing tells of congestion). On waking
 * every path gets a HEARTBEAT, a few associations in each millisecond, and one packet of data goes along, the earliest
 * outstanding or what is new; its SACK tells what the peer has. The rest waits for an answer or for an RTO, and then starts
 * from the window of an idle path (§7.2.1).
 */
export class Wakening {
  asleep = false;
  readonly #s: Sctp;
  /** Associations yet to be probed. */
  #queue: Association[] = [];
  /** Associations that were, with the time until which their data waits, in order of time. */
  #held: { readonly a: Association; readonly until: number }[] = [];
  readonly #timer = new Callout(() => this.#run());

  constructor(s: Sctp) {
    this.#s = s;
  }

  /** What acknowledges is sent while the cards are still awake; peers need not repeat what has arrived. */
  sleep(): void {
    if (this.asleep) return;
    this.asleep = true;
    for (const a of this.#s.associations()) {
      if (!a.sackTimer.pending) continue;
      a.sackDue = true;
      this.#s.markDirty(a);
    }
  }

  wake(): void {
    if (!this.asleep) return;
    this.asleep = false;
    const s = this.#s;
    for (const a of [...s.associations()]) {
      for (const p of a.paths) {
        p.linkDown = !hasLink(s, p);
        a.cc.afterIdle(p, 32);
        if (!p.t3.pending) continue;
        if (a.established) markLost(s, a, p);
        else armT3(s, p); // T1 watches over what went with the COOKIE ECHO
      }
      choosePath(s, a);
      if (!a.established) continue;
      a.wakening = true;
      this.probe(a);
    }
  }

  /** Has an association probed, in its turn. */
  probe(a: Association): void {
    this.#queue.push(a);
    if (!this.#timer.pending || this.#queue.length === 1) this.#s.stack.callouts.reset(this.#timer, 0);
  }
  /** The peer answers: data goes on. */
  answered(a: Association): void {
    a.wakening = false;
    this.#s.markDirty(a);
  }

  #run(): void {
    const s = this.#s;
    const batch = this.#queue.splice(0, PROBES);
    for (const a of batch) if (!a.dead) this.#probeNow(a);
    while (this.#held.length > 0 && this.#held[0]!.until <= s.now) {
      const { a } = this.#held.shift()!;
      if (a.wakening && !a.dead && a.paths.some(p => !p.linkDown)) this.answered(a);
    }
    if (this.#queue.length > 0) s.stack.callouts.reset(this.#timer, MSEC);
    else if (this.#held.length > 0) s.stack.callouts.reset(this.#timer, this.#held[0]!.until - s.now);
  }
  #probeNow(a: Association): void {
    const s = this.#s;
    // §8.3: not after SHUTDOWN was sent; T2 watches over the paths then.
    if (!a.established || a.state === 'SHUTDOWN_SENT' || a.state === 'SHUTDOWN_ACK_SENT') {
      this.answered(a);
      return;
    }
    let longest = 0;
    for (const p of a.paths) {
      if (p.linkDown) continue;
      sendHeartbeat(s, p);
      s.stack.callouts.reset(p.hb, p.rto); // an answer is missed after an RTO, not when the old timer fires
      longest = Math.max(longest, p.rto);
    }
    // What was acknowledged last may have found the peer's card asleep, and then its SACK here tells it where to go on.
    if (a.lastFrom !== undefined && s.now - a.lastActive < a.lastFrom.rto) a.sackDue = true;
    s.markDirty(a); // that, and the one packet of data
    const until = s.now + Math.min(longest, HOLD);
    let i = this.#held.length;
    while (i > 0 && this.#held[i - 1]!.until > until) i--;
    this.#held.splice(i, 0, { a, until });
  }

  finish(): void {
    this.#s.stack.callouts.stop(this.#timer);
  }
}
