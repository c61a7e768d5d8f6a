/**
 * What the card's events mean for paths: a path whose interface loses its link is set aside at once instead of after
 * retransmission time-outs, and probed as soon as the link is back.
 */

import type { StampedEvent } from '../kern/event.js';
import type { Association } from './association.js';
import { sendHeartbeat } from './heartbeat.js';
import type { Path } from './path.js';
import { choosePath, selectSource, setMtu } from './paths.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { markLost, undoBackOff } from './timers.js';

/** Path MTUs go no lower (facts part 4). */
const MIN_MTU = 512;

export function handleLinkEvent(s: Sctp, e: StampedEvent): void {
  switch (e.kind) {
    case 'link-off':
    case 'if-down':
    case 'if-detached':
      for (const a of [...s.associations()])
        for (const p of a.paths) if (usesInterface(s, p, e.ifname)) linkLost(s, a, p);
      break;
    case 'link-on':
    case 'if-up':
      for (const a of [...s.associations()])
        for (const p of a.paths) if (p.linkDown && usesInterface(s, p, e.ifname)) linkBack(s, a, p);
      break;
    case 'address-removed':
      for (const a of [...s.associations()])
        for (const p of a.paths) if (p.source.toString() === e.address) sourceGone(s, a, p);
      break;
    case 'mtu':
      for (const a of [...s.associations()])
        for (const p of a.paths)
          if (e.mtu < p.mtu && usesInterface(s, p, e.ifname))
            setMtu(s, p, Math.max(MIN_MTU, e.mtu), `the MTU of ${e.ifname} is ${e.mtu} now`);
      break;
    default:
      break;
  }
}

function usesInterface(s: Sctp, p: Path, ifname: string): boolean {
  return s.stack.interfaces.ownerOf(p.source)?.name === ifname;
}

function linkLost(s: Sctp, a: Association, p: Path): void {
  if (p.linkDown) return;
  // Another interface may reach the same peer: then only the source changes.
  const other = a.paths.length === 1 && selectSource(s, p) && s.stack.interfaces.ownerOf(p.source)?.link === true;
  if (other) return;
  p.linkDown = true;
  s.stats.sctps_linkdown++;
  s.report(a, 'path-link-down', reason(`the link under ${p.source} is down`, '§6.4'), { address: p.addr.toString() });
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

/** The address that the path sends from is no longer ours: another one takes its place, if there is one. */
function sourceGone(s: Sctp, a: Association, p: Path): void {
  const was = p.source.toString();
  const found = selectSource(s, p);
  const text = found ? `${was} was taken away, ${p.source} is used now` : `${was} was taken away and there is no other`;
  s.report(a, 'path-source', reason(text, '§6.4'), { address: p.addr.toString() });
}

function linkBack(s: Sctp, a: Association, p: Path): void {
  p.linkDown = false;
  // What was sent into the dead link goes again now, not when a timer that had backed off for it fires.
  undoBackOff(p);
  if (p.flight > 0) markLost(s, a, p);
  s.report(a, 'path-link-up', reason(`the link under ${p.source} is up again`, '§6.4'), { address: p.addr.toString() });
  if (a.established) sendHeartbeat(s, p);
  choosePath(s, a);
  s.markDirty(a);
}
