/** Timers and round trips: T1, T2, T3, T5, delayed SACK, autoclose (RFC 9260 §6.3, §16; §5.1.6, §9.2). */

import { MSEC, SEC } from '../kern/clock.js';
import { ETIMEDOUT } from '../kern/errno.js';
import { abortAssociation, endAssociation } from './abort.js';
import type { Association, AssocTimers } from './association.js';
import { CHUNK_ACKED, CHUNK_RESEND, CHUNK_SENT } from './chunks.js';
import { CAUSE_PROTOCOL_VIOLATION, DATA_HEADER, pad4 } from './constants.js';
import type { Path } from './path.js';
import { choosePath, enterPf, heartbeatDue, pathFailed, raiseMtu } from './paths.js';
import { reason, reasonText } from './reasons.js';
import type { Sctp } from './sctp.js';
import { nextSetupPath, sendDelayedInit, sendInit, setupFailed } from './setup.js';
import { sendShutdown, sendShutdownAck, startShutdown } from './shutdown.js';
import { tsn, tsnGt } from './types.js';
import { cause, textBytes } from './wire.js';

/** Clock granularity G of §6.3.1. */
const GRANULARITY = MSEC;
/** A sample above this is not believed. */
const MAX_SAMPLE = 60 * SEC;

/** Takes a round-trip sample (ns): rules C1 to C7 of §6.3.1. */
export function measureRtt(p: Path, sample: number): void {
  if (!(sample >= 0 && sample <= MAX_SAMPLE)) return; // NaN too: a heartbeat's time comes back from the peer
  const r = Math.max(sample, 1);
  if (p.srtt === 0) {
    p.srtt = r;
    p.rttvar = r / 2;
  } else {
    p.rttvar += (Math.abs(p.srtt - r) - p.rttvar) / 4;
    p.srtt += (r - p.srtt) / 8;
  }
  setRto(p);
}

/** RTO from what was measured, within its bounds (C6, C7). */
function setRto(p: Path): void {
  const rto = p.srtt + Math.max(4 * p.rttvar, GRANULARITY);
  const a = p.asoc;
  p.rto = Math.min(Math.max(rto, a.rtoMin * MSEC), a.rtoMax * MSEC);
  p.backedOff = false;
}

/** The path answers: what back-off made of the RTO is undone, before there is a new sample (§6.3.1 C7's note, facts part 4). */
export function undoBackOff(p: Path): void {
  if (!p.backedOff) return;
  if (p.srtt > 0) setRto(p);
  else p.rto = p.asoc.rtoInitial * MSEC;
  p.backedOff = false;
}

export function backOff(p: Path): void {
  p.rto = Math.min(p.rto * 2, p.asoc.rtoMax * MSEC); // §6.3.3 E2
  p.backedOff = true;
}

export function armT3(s: Sctp, p: Path): void {
  s.stack.callouts.reset(p.t3, p.rto);
}
export function armT1(s: Sctp, a: Association, ns: number): void {
  s.stack.callouts.reset(a.t1, ns);
}
export function armT2(s: Sctp, a: Association, p: Path): void {
  s.stack.callouts.reset(a.t2, p.rto);
}
export function armSack(s: Sctp, a: Association): void {
  s.stack.callouts.reset(a.sackTimer, a.sackDelay * MSEC);
}
export function armAutoclose(s: Sctp, a: Association): void {
  if (a.autoclose > 0) s.stack.callouts.reset(a.autocloseTimer, a.autoclose * SEC);
}

/** T1: INIT or COOKIE ECHO again, with back-off, to the next address (§5.1.6). */
function t1Expired(s: Sctp, a: Association): void {
  const setup = a.setup;
  if (setup === undefined) return;
  const what = setup.kind === 'cookie-wait' ? 'INIT' : 'COOKIE ECHO';
  if (sendDelayedInit(s, a)) return;
  if (setup.kind === 'cookie-wait') {
    s.stats.sctps_timeoutinit++;
    a.timeouts.init++;
  } else {
    s.stats.sctps_timeoutcookie++;
    a.timeouts.cookie++;
  }
  setup.tries++;
  if (setup.tries > a.maxInitTries) {
    setupFailed(s, a, ETIMEDOUT, `no answer to ${what} after ${setup.tries} tries`);
    return;
  }
  const max = (a.maxInitTimeo > 0 ? Math.min(a.maxInitTimeo, a.rtoMax) : a.rtoMax) * MSEC;
  setup.timeoutNs = Math.min(setup.timeoutNs * 2, max);
  setup.path = nextSetupPath(a, setup.path);
  if (setup.kind === 'cookie-wait') sendInit(s, a);
  else {
    // Data bundled with the COOKIE ECHO goes again with it.
    for (const p of a.paths) markLost(s, a, p);
    setup.sendCookie = true;
    armT1(s, a, setup.timeoutNs);
    s.markDirty(a);
  }
}

/** T2: SHUTDOWN or SHUTDOWN ACK again (§9.2). */
function t2Expired(s: Sctp, a: Association): void {
  s.stats.sctps_timeoutshutdown++;
  if (a.state === 'SHUTDOWN_ACK_SENT') a.timeouts.shutdownAck++;
  else a.timeouts.shutdown++;
  const p = a.shutdownPath ?? a.current;
  backOff(p);
  if (countError(s, a, p, 'SHUTDOWN was not answered')) return;
  choosePath(s, a);
  if (a.state === 'SHUTDOWN_SENT') sendShutdown(s, a);
  else if (a.state === 'SHUTDOWN_ACK_SENT') sendShutdownAck(s, a);
}

function guardExpired(s: Sctp, a: Association): void {
  s.stats.sctps_timeoutguard++;
  abortAssociation(
    s,
    a,
    [cause(CAUSE_PROTOCOL_VIOLATION, textBytes('shutdown guard timer'))],
    reason('the shutdown has taken too long (T5)', '§9.2'),
    ETIMEDOUT,
  );
}

function sackExpired(s: Sctp, a: Association): void {
  s.stats.sctps_timeoutsack++;
  a.timeouts.sack++;
  a.sackDue = true;
  s.markDirty(a);
}

function autocloseExpired(s: Sctp, a: Association): void {
  const left = a.lastActive + a.autoclose * SEC - s.now;
  if (left > 0 || a.outstanding > 0 || a.out.pending > 0) {
    s.stack.callouts.reset(a.autocloseTimer, Math.max(left, SEC));
    return;
  }
  s.stats.sctps_timeoutautoclose++;
  startShutdown(s, a);
}

/** T3 (§6.3.3): everything outstanding on the path is lost; back off, count, retransmit on an alternate. */
export function t3Expired(s: Sctp, p: Path): void {
  const a = p.asoc;
  if (a.state === 'COOKIE_ECHOED') {
    // T1 governs: data bundled with the COOKIE ECHO goes again with it, and its loss is counted there.
    armT3(s, p);
    return;
  }
  s.stats.sctps_timeoutdata++;
  a.timeouts.data++;
  const probing = a.probing;
  if (!probing) {
    a.cc.afterTimeout(p);
    p.inFastRecovery = false;
  }
  backOff(p);
  markLost(s, a, p);
  if (probing) {
    // §6.1 A: a window probe that is not taken says nothing against the path; only silence ends the association.
    if (countSilence(s, a, 'zero-window probes were not answered')) return;
  } else if (countError(s, a, p, 'data was not acknowledged in time')) return;
  choosePath(s, a);
  redirect(s, a, p);
  a.timedOut = true;
  s.markDirty(a);
}

/**
 * Everything in flight on a path is marked for retransmission (E3), or only the chunks longer than `above` bytes, header
 * included. T3 stops when nothing is left in flight there.
 */
export function markLost(s: Sctp, a: Association, p: Path, above = 0): void {
  const chunks = s.chunks;
  for (let t = (a.cumAcked + 1) | 0; tsnGt(a.nextTsn, t); t = (t + 1) | 0) {
    const m = a.ring[t & a.ringMask]!;
    if (m === 0 || chunks.path[m] !== p.id || chunks.state[m] !== CHUNK_SENT) continue;
    if (pad4(chunks.len[m]!) + DATA_HEADER <= above) continue;
    chunks.state[m] = CHUNK_RESEND;
    chunks.fast[m] = 0;
    if (chunks.timed[m] === 1) {
      chunks.timed[m] = 0;
      p.rttWanted = true;
    }
    p.flight -= chunks.len[m]!;
    a.flight -= chunks.len[m]!;
    a.flightChunks--;
    a.resend++;
  }
  if (p.flight === 0) s.stack.callouts.stop(p.t3);
  // What is lost no longer takes the peer's room.
  const w = a.peerArwnd - a.flight - a.flightChunks * s.tunables.peer_chkoh;
  a.peerRwnd = Math.max(0, w);
  if (a.resend > 0) a.resendFrom = tsn(a.cumAcked + 1);
}

/** Everything in flight goes again: the peer cannot have kept it. */
export function markOutstanding(s: Sctp, a: Association): void {
  const chunks = s.chunks;
  for (let t = (a.cumAcked + 1) | 0; tsnGt(a.nextTsn, t); t = (t + 1) | 0) {
    const m = a.ring[t & a.ringMask]!;
    if (m === 0 || chunks.state[m] === CHUNK_RESEND) continue;
    if (chunks.state[m] === CHUNK_SENT) {
      const path = a.paths[chunks.path[m]!]!;
      path.flight -= chunks.len[m]!;
      a.flight -= chunks.len[m]!;
      a.flightChunks--;
    } else if (chunks.state[m] !== CHUNK_ACKED) continue;
    chunks.state[m] = CHUNK_RESEND;
    a.resend++;
  }
  a.resendFrom = tsn(a.cumAcked + 1);
}

/** §6.4.1: retransmissions go to another active address than the one that timed out, if there is one. */
function redirect(s: Sctp, a: Association, from: Path): void {
  let to: Path | undefined;
  for (let i = 1; i <= a.paths.length; i++) {
    const q = a.paths[(from.id + i) % a.paths.length]!;
    if (q !== from && q.usable) {
      to = q;
      break;
    }
  }
  // All are down: the one that choosePath tries next, so that each has its turn.
  if (to === undefined && a.current !== from) to = a.current;
  if (to === undefined) return;
  for (let t = (a.cumAcked + 1) | 0; tsnGt(a.nextTsn, t); t = (t + 1) | 0) {
    const m = a.ring[t & a.ringMask]!;
    if (m !== 0 && s.chunks.path[m] === from.id && s.chunks.state[m] === CHUNK_RESEND) s.chunks.path[m] = to.id;
  }
}

/** One more error of a path and of the association (§8.1, §8.2). True when the association has ended by it. */
export function countError(s: Sctp, a: Association, p: Path, what: string): boolean {
  countPathError(s, p, what);
  if (p.state === 'unconfirmed') return false; // errors of an unconfirmed path do not count against the association
  return countSilence(s, a, what);
}

/** One more error of a path alone (§8.2). */
export function countPathError(s: Sctp, p: Path, what: string): void {
  p.errors++;
  if (p.errors > p.maxErrors && p.state === 'active')
    pathFailed(s, p, reason(`${what} ${p.errors} times in a row`, '§8.2'));
  else if (p.errors > p.pfThreshold) enterPf(s, p);
}

/** One more error of the association alone (§8.1). True when it has ended by it. */
function countSilence(s: Sctp, a: Association, what: string): boolean {
  a.errors++;
  if (a.errors <= a.maxRxt) return false;
  const why = reason(`${what}; ${a.errors} errors in a row on the association`, '§8.1');
  if (a.peerTag !== 0)
    abortAssociation(s, a, [cause(CAUSE_PROTOCOL_VIOLATION, textBytes('too many retransmissions'))], why, ETIMEDOUT);
  else endAssociation(s, a, 'comm-lost', ETIMEDOUT, why, reasonText(why));
  return true;
}

/** The timer procedures for one stack's associations. */
export function timersOf(s: Sctp): AssocTimers {
  return {
    t1: a => t1Expired(s, a),
    t2: a => t2Expired(s, a),
    guard: a => guardExpired(s, a),
    sack: a => sackExpired(s, a),
    autoclose: a => autocloseExpired(s, a),
    t3: p => t3Expired(s, p),
    hb: p => heartbeatDue(s, p),
    pmtuRaise: p => raiseMtu(s, p),
  };
}
