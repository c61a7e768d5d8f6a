/**
 * SACKs received: what they acknowledge, what they report missing, and what follows for flight, round trip, congestion
 * window and retransmission (RFC 9260 §6.2.1, §6.3, §7.2).
 *
 * SACK: type 3 | flags | length || cumulative TSN || a_rwnd || gap blocks 2 | duplicates 2 || (start 2 | end 2)... || TSNs
 */

import { abortAssociation } from './abort.js';
import type { Association } from './association.js';
import { CHUNK_ACKED, CHUNK_RESEND, CHUNK_SENT } from './chunks.js';
import { CAUSE_PROTOCOL_VIOLATION, SACK_HEADER, SENDER_SWS } from './constants.js';
import type { Path } from './path.js';
import { pathAlive } from './paths.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { allAcknowledged } from './shutdown.js';
import { armT3, measureRtt, undoBackOff } from './timers.js';
import { type Tsn, tsnGe, tsnGt, tsnLt } from './types.js';
import { cause, textBytes } from './wire.js';

/** Processes a SACK chunk of `len` bytes at `off`. The length has been checked to be at least 4. */
export function handleSack(s: Sctp, a: Association, off: number, len: number): void {
  s.stats.sctps_recvsacks++;
  const dv = s.stack.pool.dv;
  if (len < SACK_HEADER) {
    s.drop('sctps_badsack', a);
    return;
  }
  const gaps = dv.getUint16(off + 12);
  const dups = dv.getUint16(off + 14);
  if (len !== SACK_HEADER + 4 * gaps + 4 * dups) {
    s.drop('sctps_badsack', a);
    return;
  }
  const cum = dv.getInt32(off + 4);
  if (tsnGe(cum, a.nextTsn)) {
    violation(s, a, `the SACK acknowledges TSN ${cum >>> 0}, which was never sent`);
    return;
  }
  if (tsnLt(cum, a.cumAcked)) {
    s.drop('sctps_oldsack', a); // §6.2.1 D i: out of order
    return;
  }
  // Gap blocks must lie below what was sent, before anything is believed.
  const highestSent = (a.nextTsn - 1) | 0;
  for (let i = 0, g = off + SACK_HEADER; i < gaps; i++, g += 4) {
    const from = dv.getUint16(g);
    const to = dv.getUint16(g + 2);
    if (from === 0 || to < from) {
      s.drop('sctps_badsack', a);
      return;
    }
    if (tsnGt((cum + to) | 0, highestSent)) {
      violation(s, a, 'a gap block of the SACK reports a TSN that was never sent');
      return;
    }
  }
  process(s, a, off, cum, gaps, dv.getUint32(off + 8));
}

function violation(s: Sctp, a: Association, text: string): void {
  abortAssociation(s, a, [cause(CAUSE_PROTOCOL_VIOLATION, textBytes(text))], reason(text, '§6.2.1'));
}

function process(s: Sctp, a: Association, off: number, cum: number, gaps: number, arwnd: number): void {
  beginAck(a);
  const advanced = cum !== a.cumAcked;
  if (advanced) takeCumulative(s, a, cum);
  let recovery = false;
  if (gaps > 0) recovery = takeGaps(s, a, off, cum, gaps, advanced);
  else clearRevoked(s, a, cum);
  creditPaths(s, a, cum, advanced);
  if (recovery) enterFastRecovery(s, a);
  restartT3(s, a);
  const before = a.peerArwnd;
  updateWindow(s, a, arwnd);
  if (a.probing) probeAnswered(s, a, cum, before);
  finishAck(s, a, advanced);
}

/**
 * A cumulative acknowledgement without a SACK: SHUTDOWN carries one (§3.3.8, §9.2). It says nothing of gaps and nothing of
 * the window: what is acknowledged makes room for as much.
 */
export function acknowledgeUpTo(s: Sctp, a: Association, cum: number): void {
  const arwnd = a.peerRwnd + a.flight + a.flightChunks * s.tunables.peer_chkoh;
  beginAck(a);
  const advanced = cum !== a.cumAcked;
  if (advanced) takeCumulative(s, a, cum);
  creditPaths(s, a, cum, advanced);
  restartT3(s, a);
  updateWindow(s, a, arwnd);
  finishAck(s, a, advanced);
}

function beginAck(a: Association): void {
  const paths = a.paths;
  for (let i = 0; i < paths.length; i++) {
    const p = paths[i]!;
    p.netAck = 0;
    p.netAckOnce = 0;
    p.earliestAcked = false;
    p.flightBefore = p.flight;
    if (!a.sacked) p.windowFull = p.flight >= p.cwnd;
  }
  a.sacked = true;
}

/** What the acknowledgement means for each path: it lives, its RTO and its window follow. */
function creditPaths(s: Sctp, a: Association, cum: number, advanced: boolean): void {
  const paths = a.paths;
  const idle = a.outstanding === 0;
  for (let i = 0; i < paths.length; i++) {
    const p = paths[i]!;
    if (p.inFastRecovery && tsnGe(cum, p.recoveryExit)) p.inFastRecovery = false;
    if (p.netAck > 0) {
      if (p.netAckOnce > 0) undoBackOff(p);
      pathAlive(s, p);
      // Where trains are sent and acknowledged as one, the burst limit is what SACKs of every second packet would have given.
      if (p.trains) a.burst += Math.floor(p.netAck / (2 * p.mtu));
      a.cc.afterSack(a, p, advanced, s.tunables);
    }
    if (idle) p.partialBytesAcked = 0; // §7.2.2
  }
}

/** T3 stops when nothing is in flight on a path, and starts anew when its earliest outstanding TSN was acked (§6.3.2). */
function restartT3(s: Sctp, a: Association): void {
  const paths = a.paths;
  for (let i = 0; i < paths.length; i++) {
    const p = paths[i]!;
    if (p.flight === 0) {
      if (p.t3.pending) s.stack.callouts.stop(p.t3);
    } else if (p.earliestAcked) armT3(s, p);
  }
}

function finishAck(s: Sctp, a: Association, advanced: boolean): void {
  const ep = a.endpoint;
  if (advanced) growSendBuffer(s, a);
  a.lastActive = s.now;
  if (a.outstanding === 0 && a.out.pending === 0) allAcknowledged(s, a);
  if (ep.sendBlocked && ep.sndLimit > a.queuedBytes) {
    ep.sendBlocked = false; // until send finds no room again
    s.wake(ep);
  }
  s.markDirty(a);
}

/** Frees everything up to the cumulative TSN. */
function takeCumulative(s: Sctp, a: Association, cum: number): void {
  const chunks = s.chunks;
  const pool = chunks.pool;
  for (let t = (a.cumAcked + 1) | 0; tsnGe(cum, t); t = (t + 1) | 0) {
    const at = t & a.ringMask;
    const m = a.ring[at]!;
    if (chunks.state[m] !== CHUNK_ACKED) {
      ackChunk(s, a, m);
      a.paths[chunks.path[m]!]!.earliestAcked = true;
    }
    a.ring[at] = 0;
    a.queuedBytes -= chunks.len[m]!;
    a.queuedChunks--;
    pool.freem(m);
  }
  a.cumAcked = cum as Tsn;
  if (tsnGt(cum, a.highestAcked)) a.highestAcked = cum as Tsn;
  if (tsnGe(cum, a.resendFrom)) a.resendFrom = ((cum + 1) | 0) as Tsn;
  a.probing = false;
}

/** Takes a chunk out of flight (or out of the retransmission count) as acknowledged. */
function ackChunk(s: Sctp, a: Association, m: number): void {
  const chunks = s.chunks;
  const len = chunks.len[m]!;
  const p = a.paths[chunks.path[m]!]!;
  a.errors = 0; // §8.1
  if (chunks.state[m] === CHUNK_SENT) {
    p.flight -= len;
    a.flight -= len;
    a.flightChunks--;
    p.netAck += len;
    if (chunks.sends[m] === 1) p.netAckOnce += len;
  } else if (chunks.state[m] === CHUNK_RESEND) a.resend--; // taken for lost, and perhaps meant for another path since
  if (chunks.timed[m] === 1) {
    chunks.timed[m] = 0;
    if (chunks.sends[m] === 1) measureRtt(p, s.now - chunks.sentAt[m]!);
    p.rttWanted = true;
  }
}

/**
 * Gap blocks: newly acknowledged chunks leave the flight; chunks that a previous SACK had acknowledged and this one does
 * not are revoked (§6.2.1 D iii); chunks below the highest TSN newly acknowledged get a missing report (§7.2.4, HTNA).
 * Returns true when some chunk has had its third report.
 */
function takeGaps(s: Sctp, a: Association, off: number, cum: number, gaps: number, advanced: boolean): boolean {
  const dv = s.stack.pool.dv;
  const chunks = s.chunks;
  let newest = cum;
  let any = false;
  let next = (cum + 1) | 0;
  // Blocks may overlap and come in any order, but nobody makes us walk the window more than a few times.
  let work = 4 * a.outstanding + 64;
  for (let i = 0, g = off + SACK_HEADER; i < gaps && work > 0; i++, g += 4) {
    const from = (cum + dv.getUint16(g)) | 0;
    const to = (cum + dv.getUint16(g + 2)) | 0;
    for (let t = next; tsnLt(t, from); t = (t + 1) | 0) revoke(s, a, a.ring[t & a.ringMask]!);
    work -= ((to - from) | 0) + 1;
    for (let t = from; tsnGe(to, t); t = (t + 1) | 0) {
      const m = a.ring[t & a.ringMask]!;
      if (m === 0 || chunks.state[m] === CHUNK_ACKED) continue;
      ackChunk(s, a, m);
      chunks.state[m] = CHUNK_ACKED;
      any = true;
      if (tsnGt(t, newest)) newest = t;
    }
    if (tsnGt((to + 1) | 0, next)) next = (to + 1) | 0;
  }
  for (let t = next; tsnGe(a.highestAcked, t); t = (t + 1) | 0) revoke(s, a, a.ring[t & a.ringMask]!);
  const highest = (next - 1) | 0;
  a.highestAcked = highest as Tsn;
  return any || advanced ? countMissing(s, a, cum, newest, advanced ? highest : newest) : false;
}

/** No gap block any more: everything beyond the cumulative TSN that was gap-acked is revoked. */
function clearRevoked(s: Sctp, a: Association, cum: number): void {
  if (!tsnGt(a.highestAcked, cum)) return;
  for (let t = (cum + 1) | 0; tsnGe(a.highestAcked, t); t = (t + 1) | 0) revoke(s, a, a.ring[t & a.ringMask]!);
  a.highestAcked = cum as Tsn;
}

function revoke(s: Sctp, a: Association, m: number): void {
  const chunks = s.chunks;
  if (m === 0 || chunks.state[m] !== CHUNK_ACKED) return;
  const p = a.paths[chunks.path[m]!]!;
  chunks.state[m] = CHUNK_SENT;
  p.flight += chunks.len[m]!;
  a.flight += chunks.len[m]!;
  a.flightChunks++;
  if (!p.t3.pending) armT3(s, p);
}

/**
 * One more missing report for what lies below `newest`, the highest TSN newly acknowledged (HTNA); on a path in fast
 * recovery, when the cumulative TSN has moved, for everything reported missing, which is below `recovering`.
 */
function countMissing(s: Sctp, a: Association, cum: number, newest: number, recovering: number): boolean {
  const chunks = s.chunks;
  const again = s.tunables.fast_retransmit_again;
  const end = tsnGt(recovering, newest) ? recovering : newest;
  let hit = false;
  for (let t = (cum + 1) | 0; tsnLt(t, end); t = (t + 1) | 0) {
    const m = a.ring[t & a.ringMask]!;
    if (m === 0 || chunks.state[m] !== CHUNK_SENT) continue;
    const p = a.paths[chunks.path[m]!]!;
    const limit = p.inFastRecovery ? end : newest;
    if (!tsnLt(t, limit)) continue;
    if (chunks.fast[m] === 1 && again === 0) continue; // §7.2.4 rule 5
    // Sent again since: only chunks sent after the retransmission tell anything about it.
    if (chunks.sends[m]! > 1 && tsnLt(limit, chunks.mark[m]!)) continue;
    if (++chunks.missing[m]! < 3) continue;
    chunks.state[m] = CHUNK_RESEND;
    chunks.fast[m] = 1;
    p.flight -= chunks.len[m]!;
    a.flight -= chunks.len[m]!;
    a.flightChunks--;
    if (tsnLt(t, a.resendFrom)) a.resendFrom = t as Tsn;
    a.resend++;
    a.fastRetransmitDue = true;
    if (chunks.timed[m] === 1) {
      chunks.timed[m] = 0;
      p.rttWanted = true;
    }
    hit = true;
  }
  return hit;
}

/** §7.2.4: one reduction per window on each path that lost something. */
function enterFastRecovery(s: Sctp, a: Association): void {
  const chunks = s.chunks;
  for (let t = a.resendFrom as number; tsnGt(a.nextTsn, t); t = (t + 1) | 0) {
    const m = a.ring[t & a.ringMask]!;
    if (m === 0 || chunks.state[m] !== CHUNK_RESEND || chunks.fast[m] !== 1) continue;
    const p: Path = a.paths[chunks.path[m]!]!;
    if (p.inFastRecovery) continue;
    p.inFastRecovery = true;
    p.recoveryExit = (a.nextTsn - 1) | 0;
    a.cc.afterFastRetransmit(p);
  }
}

/** The peer's window is what it tells less what is in flight, with an overhead for each chunk (§6.2.1 D ii). */
function updateWindow(s: Sctp, a: Association, arwnd: number): void {
  a.peerArwnd = arwnd;
  const w = arwnd - a.flight - a.flightChunks * s.tunables.peer_chkoh;
  a.peerRwnd = w < SENDER_SWS ? 0 : w;
}

/**
 * A SACK came while a zero-window probe is out: the peer lives, so its silence about the probe is no error (§6.1 A). If the
 * window has just opened (it was `before`) and the probe was thrown away, it goes again at once.
 */
function probeAnswered(s: Sctp, a: Association, cum: number, before: number): void {
  a.errors = 0;
  const chunks = s.chunks;
  const t = (cum + 1) | 0;
  const m = a.outstanding > 0 ? a.ring[t & a.ringMask]! : 0;
  if (m === 0 || chunks.state[m] !== CHUNK_SENT) return;
  const len = chunks.len[m]!;
  if (before >= len || a.peerArwnd < len) return;
  const p = a.paths[chunks.path[m]!]!;
  p.flight -= len;
  a.flight -= len;
  a.flightChunks--;
  chunks.state[m] = CHUNK_RESEND;
  if (chunks.timed[m] === 1) {
    chunks.timed[m] = 0;
    p.rttWanted = true;
  }
  if (p.flight === 0) s.stack.callouts.stop(p.t3);
  a.resend++;
  a.resendFrom = t as Tsn;
  a.probing = false;
  updateWindow(s, a, a.peerArwnd);
}

/** Send buffers follow the congestion window: twice of it must fit (the socket was found full). */
function growSendBuffer(s: Sctp, a: Association): void {
  const ep = a.endpoint;
  if (!ep.sndAuto || !ep.sendBlocked) return;
  let cwnd = 0;
  for (let i = 0; i < a.paths.length; i++) cwnd += a.paths[i]!.cwnd;
  const want = Math.min(2 * cwnd, s.tunables.sendbuf_max);
  if (want > ep.sndLimit) ep.sndLimit = want;
}
