/**
 * What the card's events mean for paths: a path whose interface loses its link is set aside at once instead of after
 * retransmission time-outs, and probed as soon as the link is back.
 */

import type { StampedEvent } from '../kern/event.js';
import type { Association } from './association.js';
import { sendHeartbeat } from './heartbeat.js';
import type { Path } from './path.js';
import { choosePath, selectSource } from './paths.js';
import type { Sctp } from './sctp.js';
import { markLost } from './timers.js';

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
  if (a.established) sendHeartbeat(s, p);
  choosePath(s, a);
  s.markDirty(a);
}
