/**
 * Heartbeats (RFC 9260 §8.3, §5.4): HEARTBEAT to idle and unconfirmed paths, HEARTBEAT ACK in answer.
 *
 * Heartbeat information, opaque to the peer, as long as FreeBSD's:
 * type 1 | length 40 || time sent (float64 ns) || nonce 8 || address: family 1, length 1, 0 2, bytes 16.
 */

import { MSEC } from '../kern/clock.js';
import { AF_INET, AF_INET6 } from '../netinet/in.js';
import type { Association } from './association.js';
import { HEARTBEAT, HEARTBEAT_ACK, PARAM_HEARTBEAT_INFO } from './constants.js';
import type { PacketContext } from './input.js';
import { queueControl } from './output.js';
import { sendOnPath } from './packet.js';
import type { Path } from './path.js';
import { choosePath, confirmPath, leavePf } from './paths.js';
import type { Sctp } from './sctp.js';
import { backOff, countError, countPathError, measureRtt } from './timers.js';
import { ByteWriter } from './wire.js';

/** Length of the heartbeat information parameter. */
const HB_INFO = 40;
/** Largest HEARTBEAT that is echoed. */
const MAX_ECHO = 4096;

/** A heartbeat under way is waited for no longer; should its answer come all the same, it is known for what it is. */
function giveUp(p: Path): void {
  if (p.hbNonce1 === 0) return;
  p.hbLate0 = p.hbNonce0;
  p.hbLate1 = p.hbNonce1;
  p.hbNonce1 = 0;
}

/** Sends a HEARTBEAT on a path; the answer must bring its nonce back. */
export function sendHeartbeat(s: Sctp, p: Path): void {
  giveUp(p);
  p.hbNonce0 = s.stack.random.u32() >>> 0;
  p.hbNonce1 = s.stack.random.u32() >>> 0 || 1;
  p.hbSentAt = s.now;
  const a = p.addr;
  const chunk = new ByteWriter()
    .chunk(HEARTBEAT, 0, c =>
      c.tlv(PARAM_HEARTBEAT_INFO, w =>
        w
          .f64(s.now)
          .u32(p.hbNonce0)
          .u32(p.hbNonce1)
          .u8(a.family === 4 ? AF_INET : AF_INET6)
          .u8(a.family === 4 ? 4 : 16)
          .u16(0)
          .u32(a.w0)
          .u32(a.w1)
          .u32(a.w2)
          .u32(a.w3),
      ),
    )
    .take();
  s.stats.sctps_hbsent++;
  const idle = p.lastUsed;
  sendOnPath(s, p, p.asoc.peerTag, [chunk]);
  p.lastUsed = idle;
}

/**
 * (Re)arms a path's heartbeat timer; when it has `fired`, first judges the last heartbeat and sends the next if the path
 * was idle. Period: interval + RTO/2 + random RTO (§8.3, facts part 4); an unconfirmed path is probed every RTO.
 */
export function scheduleHeartbeat(s: Sctp, p: Path, fired: boolean): void {
  const a = p.asoc;
  // §8.3: not any more after SHUTDOWN or SHUTDOWN ACK was sent, T2 watches over the paths then.
  if (a.dead || !a.established || a.state === 'SHUTDOWN_SENT' || a.state === 'SHUTDOWN_ACK_SENT') return;
  if (fired) {
    if (p.hbSentAt >= 0 && p.hbNonce1 !== 0) {
      // The last one was not answered.
      s.stats.sctps_timeoutheartbeat++;
      a.timeouts.heartbeat++;
      giveUp(p);
      p.hbSentAt = -1;
      backOff(p);
      // §8.1: only a heartbeat on the path that carries the data counts against the association.
      if (p !== a.current) countPathError(s, p, 'a heartbeat was not answered');
      else if (countError(s, a, p, 'a heartbeat was not answered')) return;
    }
    const idle = s.now - p.lastUsed >= p.hbInterval;
    const due = p.state === 'unconfirmed' || p.state === 'inactive' || p.pf || (p.hbEnabled && idle);
    // (one may just have gone out: the path has become potentially failed)
    if (due && p.hbNonce1 === 0 && (p.state !== 'unconfirmed' || mayProbe(s, a, p))) sendHeartbeat(s, p);
    if (p.state === 'active') p.partialBytesAcked = 0; // facts part 4: no credit is kept over idle times
  }
  if (!p.hbEnabled && p.state === 'active' && !p.pf) return;
  const jitter = p.rto > 0 ? s.stack.random.u32() % Math.max(1, Math.floor(p.rto / MSEC)) : 0;
  // §5.4: an unconfirmed path that does not answer is probed no more often than others in the end.
  const soon = (p.state === 'unconfirmed' && p.errors <= p.maxErrors) || p.pf;
  const wait = soon ? p.rto : p.hbInterval + p.rto / 2 + jitter * MSEC;
  s.stack.callouts.reset(p.hb, wait);
}

/** §5.4: at most HB.Max.Burst probes of unconfirmed paths per RTO; who has no turn waits for the next. */
export function mayProbe(s: Sctp, a: Association, p: Path): boolean {
  if (s.now - a.probesSince >= p.rto) {
    a.probesSince = s.now;
    a.probes = 0;
  }
  return a.probes++ < s.tunables.hb_max_burst;
}

/** HEARTBEAT: echoed as it came, to where it came from (§8.3). */
export function handleHeartbeat(s: Sctp, a: Association, p: PacketContext, o: number, len: number): void {
  if (!a.established || len > MAX_ECHO) {
    s.drop('sctps_unexpected', a);
    return;
  }
  const bytes = new Uint8Array((len + 3) & ~3);
  bytes.set(s.stack.pool.u8.subarray(o, o + len));
  bytes[0] = HEARTBEAT_ACK;
  bytes[1] = 0;
  queueControl(s, a, bytes, p.from);
}

/** HEARTBEAT ACK: its information must be exactly what was sent (§8.3, facts part 7.15). */
export function handleHeartbeatAck(s: Sctp, a: Association, o: number, len: number): void {
  const dv = s.stack.pool.dv;
  if (len !== 4 + HB_INFO || dv.getUint16(o + 4) !== PARAM_HEARTBEAT_INFO || dv.getUint16(o + 6) !== HB_INFO) {
    s.drop('sctps_hbackbad', a);
    return;
  }
  const n0 = dv.getUint32(o + 16);
  const n1 = dv.getUint32(o + 20);
  const p = a.paths.find(
    q =>
      q.hbNonce1 === n1 &&
      q.hbNonce0 === n0 &&
      q.addr.w0 === dv.getInt32(o + 28) &&
      q.addr.w1 === dv.getInt32(o + 32) &&
      q.addr.w2 === dv.getInt32(o + 36) &&
      q.addr.w3 === dv.getInt32(o + 40),
  );
  if (p === undefined || n1 === 0 || !a.established) {
    const late = n1 !== 0 && a.paths.some(q => q.hbLate1 === n1 && q.hbLate0 === n0);
    s.drop(late ? 'sctps_hbacklate' : 'sctps_hbackbad', a);
    return;
  }
  s.stats.sctps_hbackrecv++;
  const sent = dv.getFloat64(o + 8);
  p.hbNonce1 = 0;
  p.hbSentAt = -1;
  p.lastHeartbeatAck = s.now;
  p.errors = 0;
  leavePf(s, p);
  a.errors = 0;
  measureRtt(p, s.now - sent);
  const was = p.state;
  confirmPath(s, p, true);
  if (was !== 'active') scheduleHeartbeat(s, p, false);
  choosePath(s, a);
  if (a.wakening) s.wakening.answered(a);
}
