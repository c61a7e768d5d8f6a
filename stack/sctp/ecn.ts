/** Explicit congestion notification (RFC 4960 appendix A, RFC 3168; RFC 9260 keeps the numbers): ECNE and CWR chunks. */

import type { Association } from './association.js';
import type { Sctp } from './sctp.js';
import { tsnGe, tsnGt, tsnLe, tsnLt } from './types.js';

/** A packet with DATA came marked CE: ECNE goes with every SACK until the peer answers CWR. */
export function markedPacket(s: Sctp, a: Association): void {
  s.stats.sctps_ecnce++;
  // "The lowest TSN number in the packet": a later mark is news even before the CWR for an earlier one has come.
  const lowest = a.packetHasTsn ? a.packetTsn : a.highestTsn;
  if (!a.ecneDue || tsnGt(lowest, a.ecneTsn)) a.ecneTsn = lowest;
  a.ecneDue = true;
  a.sackDue = true;
}

/** ECNE: reduce once per window of data, answer CWR always. Length 8 (RFC) or 12 (with a packet count). */
export function handleEcne(s: Sctp, a: Association, o: number, len: number): void {
  if (len !== 8 && len !== 12) {
    s.drop('sctps_badchunklen', a);
    return;
  }
  if (!a.ecn || !a.established) {
    s.drop('sctps_unexpected', a);
    return;
  }
  const tsn = s.stack.pool.dv.getInt32(o + 4);
  const highestSent = (a.nextTsn - 1) | 0;
  if (tsnGt(tsn, highestSent)) {
    s.drop('sctps_unexpected', a);
    return;
  }
  // The path the marked chunk took; when it is acknowledged already, the one data takes now.
  let p = a.current;
  if (tsnGt(tsn, a.cumAcked)) {
    const m = a.ring[tsn & a.ringMask]!;
    if (m !== 0) p = a.paths[s.chunks.path[m]!]!;
  }
  // One response to a window's losses and marks together (RFC 3168 §6.1.2).
  const answered = p.inFastRecovery && tsnLe(tsn, p.recoveryExit);
  if (!answered && (!p.ecnCutValid || tsnGt(tsn, p.ecnCut))) {
    p.ecnCutValid = true;
    p.ecnCut = highestSent;
    a.cc.afterEcnEcho(p);
    s.stats.sctps_ecnereduce++;
  }
  if (!a.cwrDue || tsnLt(a.cwrTsn, tsn)) a.cwrTsn = tsn;
  a.cwrDue = true;
  s.markDirty(a);
}

/** CWR: the peer has reduced for everything up to this TSN. */
export function handleCwr(s: Sctp, a: Association, o: number, len: number): void {
  if (len !== 8) {
    s.drop('sctps_badchunklen', a);
    return;
  }
  const tsn = s.stack.pool.dv.getInt32(o + 4);
  if (a.ecneDue && tsnGe(tsn, a.ecneTsn) && tsnLe(tsn, a.highestTsn)) a.ecneDue = false;
}
