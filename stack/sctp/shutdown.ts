/** The graceful end: SHUTDOWN, SHUTDOWN ACK, SHUTDOWN COMPLETE (RFC 9260 §9.2). */

import { MSEC, SEC } from '../kern/clock.js';
import { abortAssociation, endAssociation } from './abort.js';
import { acknowledgeUpTo } from './acknowledge.js';
import type { Association } from './association.js';
import { CAUSE_PROTOCOL_VIOLATION, CAUSE_USER_ABORT, SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE } from './constants.js';
import type { PacketContext } from './input.js';
import { markImmediate, queueControl } from './output.js';
import { sendOnPath } from './packet.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { armT2 } from './timers.js';
import { tsnGe, tsnGt } from './types.js';
import { ByteWriter, cause, errorChunk, textBytes } from './wire.js';

/** The user wants the end: data queued still goes, then SHUTDOWN. */
export function startShutdown(s: Sctp, a: Association): void {
  if (a.dead) return;
  a.closing = true;
  if (a.state !== 'ESTABLISHED') return; // COOKIE-WAIT and COOKIE-ECHOED: once established
  a.state = 'SHUTDOWN_PENDING';
  if (a.outstanding === 0 && a.out.pending === 0 && leftOpen(s, a)) return;
  armGuard(s, a);
  if (s.tunables.enable_sack_immediately === 1) markImmediate(s, a);
  s.markDirty(a);
}

/** T5 (§9.2): the whole of the shutdown may take so long, then ABORT. */
function armGuard(s: Sctp, a: Association): void {
  const guard = s.tunables.shutdown_guard_time;
  s.stack.callouts.reset(a.guard, guard > 0 ? guard * SEC : 5 * a.rtoMax * MSEC);
}

/** Everything sent has been acknowledged and nothing waits: tells a dry sender. */
export function allAcknowledged(s: Sctp, a: Association): void {
  if (!a.dryReported) {
    a.dryReported = true;
    s.notify(a.endpoint, { type: 'sender-dry', assocId: a.id });
  }
}

/** Explicit EOR: the end of a message will never come, so the peer must not take its beginning for all (facts part 2.1). */
function leftOpen(s: Sctp, a: Association): boolean {
  if (a.out.open === 0) return false;
  abortAssociation(s, a, [cause(CAUSE_USER_ABORT)], reason('the user has left a message without its end', '§9.1'));
  return true;
}

/** Called after each output of an association: is it time for SHUTDOWN or SHUTDOWN ACK? */
export function afterOutput(s: Sctp, a: Association): void {
  const { locked } = a.out;
  // A message whose end has not come holds its stream: what is queued on others could never go.
  const held = locked?.openMessage === true && locked.queue.head === 0;
  const idle = a.outstanding === 0 && a.out.pending === 0;
  if (
    (idle || (held && a.outstanding === 0)) &&
    (a.state === 'SHUTDOWN_PENDING' || a.state === 'SHUTDOWN_RECEIVED') &&
    leftOpen(s, a)
  )
    return;
  if (a.state === 'SHUTDOWN_PENDING' && idle) {
    a.state = 'SHUTDOWN_SENT';
    a.shutdownAgain = false;
    sendShutdown(s, a);
  } else if (a.state === 'SHUTDOWN_RECEIVED' && idle) {
    a.state = 'SHUTDOWN_ACK_SENT';
    sendShutdownAck(s, a);
  }
}

/** DATA has come after our SHUTDOWN: it goes again, bundled with the SACK if there is to be one, and T2 starts anew (§9.2). */
export function repeatShutdown(s: Sctp, a: Association): void {
  const p = (a.shutdownPath = a.current);
  a.shutdownAgain = false;
  queueControl(s, a, shutdownChunk(a), p);
  armT2(s, a, p);
}

const shutdownChunk = (a: Association): Uint8Array => new ByteWriter().chunk(SHUTDOWN, 0, w => w.u32(a.cumTsn)).take();

/** SHUTDOWN with what we have received, and T2. */
export function sendShutdown(s: Sctp, a: Association): void {
  const p = (a.shutdownPath = a.current);
  s.builder.flush(); // order on the wire
  sendOnPath(s, p, a.peerTag, [shutdownChunk(a)]);
  a.sackDue = false;
  if (a.sackPending) s.stack.callouts.stop(a.sackTimer);
  armT2(s, a, p);
}

export function sendShutdownAck(s: Sctp, a: Association): void {
  const p = (a.shutdownPath = a.current);
  s.builder.flush();
  sendOnPath(s, p, a.peerTag, [errorChunk(SHUTDOWN_ACK, 0, [])]);
  armT2(s, a, p);
}

/** SHUTDOWN from the peer: it acknowledges, and no new data is taken from the user (§9.2). */
export function handleShutdown(s: Sctp, a: Association, o: number, len: number): void {
  if (len !== 8) {
    s.drop('sctps_badchunklen', a);
    return;
  }
  if (a.state === 'COOKIE_WAIT' || a.state === 'COOKIE_ECHOED') {
    s.drop('sctps_unexpected', a); // §9.2: discarded
    return;
  }
  const cum = s.stack.pool.dv.getInt32(o + 4);
  if (tsnGe(cum, a.nextTsn)) {
    abortAssociation(
      s,
      a,
      [cause(CAUSE_PROTOCOL_VIOLATION, textBytes('SHUTDOWN acknowledges a TSN that was never sent'))],
      reason('the SHUTDOWN acknowledges a TSN that was never sent', '§9.2'),
    );
    return;
  }
  if (a.state === 'SHUTDOWN_ACK_SENT') {
    sendShutdownAck(s, a); // ours was lost, or is still under way
    return;
  }
  if (tsnGt(cum, a.cumAcked)) {
    acknowledgeUpTo(s, a, cum);
    a.errors = 0; // §8.1
  }
  const ep = a.endpoint;
  switch (a.state) {
    case 'ESTABLISHED':
    case 'SHUTDOWN_PENDING':
      // A peer that shuts down has had everything acknowledged: nothing of it can be missing or wait for more here. Whole
      // messages may wait for the end of another association's (fragment interleave 0).
      if (a.hasGap || (a.heldChunks > a.waiting.count && !ep.cantReceive)) {
        abortAssociation(
          s,
          a,
          [cause(CAUSE_PROTOCOL_VIOLATION, textBytes('SHUTDOWN while data is missing'))],
          reason('the peer has sent SHUTDOWN although data of its own is missing here', '§9.2'),
        );
        return;
      }
      a.state = 'SHUTDOWN_RECEIVED';
      a.closing = true;
      armGuard(s, a);
      s.notify(ep, { type: 'shutdown', assocId: a.id });
      s.report(a, 'shutdown-received', reason('the peer wants to end the association', '§9.2'));
      if (ep.style === 'one-to-one') ep.peerDone = true;
      s.wake(ep);
      break;
    case 'SHUTDOWN_SENT':
      // Both at once: SHUTDOWN ACK, and our own SHUTDOWN needs no answer any more.
      s.stack.callouts.stop(a.t2);
      a.state = 'SHUTDOWN_ACK_SENT';
      if (ep.style === 'one-to-one') ep.peerDone = true;
      s.notify(ep, { type: 'shutdown', assocId: a.id });
      s.report(a, 'shutdown-received', reason('both sides want to end the association', '§9.2'));
      sendShutdownAck(s, a);
      break;
  }
  s.markDirty(a);
}

/** SHUTDOWN ACK: we are done; SHUTDOWN COMPLETE goes out. */
export function handleShutdownAck(s: Sctp, a: Association, ctx: PacketContext): void {
  if (a.state !== 'SHUTDOWN_SENT' && a.state !== 'SHUTDOWN_ACK_SENT') {
    s.drop('sctps_unexpected', a);
    return;
  }
  const p = ctx.from ?? a.shutdownPath ?? a.current; // §6.4: answers go back to where they were caused
  sendOnPath(s, p, a.peerTag, [errorChunk(SHUTDOWN_COMPLETE, 0, [])]);
  endAssociation(s, a, 'shutdown-comp', 0, reason('both sides have shut down', '§9.2'));
}

/** SHUTDOWN COMPLETE: only expected in SHUTDOWN-ACK-SENT. */
export function handleShutdownComplete(s: Sctp, a: Association): void {
  if (a.state !== 'SHUTDOWN_ACK_SENT') {
    s.drop('sctps_unexpected', a);
    return;
  }
  endAssociation(s, a, 'shutdown-comp', 0, reason('both sides have shut down', '§9.2'));
}
