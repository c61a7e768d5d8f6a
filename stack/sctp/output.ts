/**
 * Output of an association at the end of a batch: which chunks go out now, in which packets (RFC 9260 §6.1, §6.10, §7.2).
 * Order in a packet: COOKIE ECHO or COOKIE ACK, other control chunks, ECNE, SACK, then DATA, retransmissions first.
 */

import { bcopy } from '../kern/bytes.js';
import { MSEC } from '../kern/clock.js';
import { ETIMEDOUT } from '../kern/errno.js';
import { abortAssociation } from './abort.js';
import type { Association } from './association.js';
import { CONTROL_LIMIT } from './association.js';
import { CHUNK_RESEND } from './chunks.js';
import {
  CAUSE_PROTOCOL_VIOLATION,
  COOKIE_ACK,
  COOKIE_ECHO,
  CWR,
  DATA_HEADER,
  DATA_I,
  ECNE,
  pad4,
  TSN_MAP_BITS,
} from './constants.js';
import type { PacketBuilder } from './packet.js';
import type { Path } from './path.js';
import { choosePath } from './paths.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { afterOutput, repeatShutdown } from './shutdown.js';
import { armT3 } from './timers.js';
import { type Tsn, tsnGe } from './types.js';
import { ByteWriter, cause, textBytes } from './wire.js';

const COOKIE_ACK_CHUNK = new ByteWriter().chunk(COOKIE_ACK, 0, () => {}).take();

/** Sends what is due on an association. */
export function flushAssociation(s: Sctp, a: Association): void {
  const b = s.builder;
  const credits = a.burst;
  a.burst = 0;
  a.sacked = false;
  let budget = a.maxBurst === 0 ? Number.MAX_SAFE_INTEGER : a.maxBurst * Math.max(credits, 1);
  choosePath(s, a);
  const cookie = sendCookie(s, a);
  if (a.state === 'COOKIE_WAIT' || (a.state === 'COOKIE_ECHOED' && !cookie)) return;
  if (a.cookieAckPath !== undefined && b.open(a.cookieAckPath, false)) {
    b.write(COOKIE_ACK_CHUNK);
    a.cookieAckPath = undefined;
  }
  if (a.shutdownAgain && a.state === 'SHUTDOWN_SENT') repeatShutdown(s, a);
  // A delayed SACK goes along with whatever goes out (§6.2), behind the control chunks as in FreeBSD.
  if (!a.sackDue && a.sackPending && (a.control.length > 0 || a.cwrDue || hasWork(a))) a.sackDue = true;
  sendControl(s, a);
  if (a.sackDue) sendSack(s, a);
  // After a sleep one packet at a time asks what the peer has (Wakening in links.ts).
  if (a.canSendData && (!a.wakening || a.flight === 0)) {
    if (a.wakening) b.close(); // the budget counts packets begun from here on
    const before = begun(b);
    if (cookie || a.timedOut || a.wakening) budget = 1;
    a.timedOut = false;
    if (a.resend > 0 && !resendData(s, a, budget, cookie)) return;
    if (a.out.pending > 0) sendData(s, a, budget - (begun(b) - before), cookie);
  }
  b.close();
  afterOutput(s, a);
}

/** Packets closed, and the open one if something is in it. */
function begun(b: PacketBuilder): number {
  return b.packets + (b.openPath !== undefined && !b.empty ? 1 : 0);
}

/** True when DATA could go out now, as far as can be told cheaply. */
function hasWork(a: Association): boolean {
  return (a.out.pending > 0 && a.current.flight < a.current.cwnd && a.peerRwnd > 0) || a.resend > 0;
}

/** COOKIE ECHO first in its packet; data may follow in the same one (§5.1 C). */
function sendCookie(s: Sctp, a: Association): boolean {
  const setup = a.setup;
  if (setup?.kind !== 'cookie-echoed' || !setup.sendCookie) return false;
  const chunk = new ByteWriter().chunk(COOKIE_ECHO, 0, w => w.bytes(setup.cookie)).take();
  if (!openFor(s, setup.path, chunk.length, false)) return false;
  s.builder.write(chunk);
  setup.sendCookie = false;
  setup.sentAt = s.now;
  return true;
}

/** Queues a control chunk for bundling; beyond the bound it is dropped (its sender's timer will bring it again). */
export function queueControl(s: Sctp, a: Association, bytes: Uint8Array, path?: Path): void {
  if (a.control.length >= CONTROL_LIMIT) {
    s.stats.sctps_outfailed++;
    return;
  }
  a.control.push({ bytes, path });
  s.markDirty(a);
}

/** A SACK, preceded by the ECNE that is due, to where the last DATA came from (§6.4). Also called between two packets of a batch. */
export function sendSack(s: Sctp, a: Association, many = a.out.pending > 1): void {
  const b = s.builder;
  const last = a.lastFrom;
  const p = last !== undefined && last.state !== 'inactive' && !last.linkDown ? last : a.current;
  const sacks = s.sacks;
  if (!b.open(p, many)) return;
  if (a.ecneDue) {
    if (b.room < 8 + 16) {
      b.close();
      if (!b.open(p, false)) return;
    }
    const o = b.reserve(8);
    const dv = s.stack.pool.dv;
    dv.setUint32(o, (ECNE << 24) | 8);
    dv.setInt32(o + 4, a.ecneTsn);
    s.stats.sctps_outcontrolchunks++;
  }
  let size = sacks.sackSize(a, b.room);
  if (size === 0) {
    b.close();
    if (!b.open(p, false)) return;
    size = sacks.sackSize(a, b.room);
  }
  sacks.writeSack(a, b.reserve(size), size);
  s.stats.sctps_sendsacks++;
  s.stats.sctps_outcontrolchunks++;
  a.sackDue = false;
  a.packetsSinceSack = 0;
  if (a.sackPending) s.stack.callouts.stop(a.sackTimer);
}

function sendControl(s: Sctp, a: Association): void {
  const b = s.builder;
  if (a.cwrDue) {
    a.cwrDue = false;
    queueControl(s, a, new ByteWriter().chunk(CWR, 0, w => w.u32(a.cwrTsn)).take());
  }
  if (a.control.length === 0) return;
  let done = 0;
  while (done < a.control.length) {
    const c = a.control[done]!;
    if (!openFor(s, c.path ?? a.current, c.bytes.length, false)) break; // no mbuf: later
    b.write(c.bytes);
    done++;
  }
  if (done === a.control.length) a.control.length = 0;
  else a.control.splice(0, done);
}

/**
 * Retransmissions: chunks marked by T3 or fast retransmit, lowest TSN first (§6.3.3 E3, §7.2.4), in at most `budget` packets.
 * False when the association has ended because one was sent too often.
 */
function resendData(s: Sctp, a: Association, budget: number, cookie: boolean): boolean {
  const b = s.builder;
  const chunks = s.chunks;
  const fast = a.fastRetransmitDue;
  const frBurst = s.tunables.fr_maxburst === 0 ? Number.MAX_SAFE_INTEGER : s.tunables.fr_maxburst;
  const first = begun(b);
  let limit = fast ? Math.min(frBurst, budget) : budget;
  if (limit < 1) limit = 1;
  for (let t = a.resendFrom as number; a.resend > 0 && tsnGe(a.nextTsn - 1, t); t = (t + 1) | 0) {
    const m = a.ring[t & a.ringMask]!;
    if (m === 0 || chunks.state[m] !== CHUNK_RESEND) continue;
    const p = cookie ? b.openPath : resendPath(a, a.paths[chunks.path[m]!]!);
    if (p === undefined) return true;
    const len = chunks.len[m]!;
    const size = DATA_HEADER + pad4(len);
    const isOpen = b.openPath === p && !b.empty;
    // The first packet of a fast retransmission ignores cwnd (§7.2.4 rule 3); what fits into an open packet goes along.
    if (
      p.flight >= p.cwnd &&
      !(fast && (begun(b) === first || isOpen)) &&
      !(isOpen && size <= b.room && p.flight < p.cwnd + p.mtu)
    )
      return true;
    const probe = len > a.peerRwnd;
    if (probe && a.flight > 0) return true;
    if (begun(b) - first >= limit && !(isOpen && size <= b.room)) return true;
    if (cookie && size > b.room) return true; // one packet only until COOKIE ACK (§5.1 C)
    const most = s.tunables.max_retran_chunk;
    if (most > 0 && chunks.sends[m]! > most && !probe) {
      b.close();
      const text = `TSN ${t >>> 0} was sent ${chunks.sends[m]} times and is not acknowledged`;
      abortAssociation(s, a, [cause(CAUSE_PROTOCOL_VIOLATION, textBytes(text))], reason(text, '§8.1'), ETIMEDOUT);
      return false;
    }
    if (!openFor(s, p, size, a.resend > 1)) return true;
    a.fastRetransmitDue = false;
    a.resend--;
    if (tsnGe(t, a.resendFrom)) a.resendFrom = ((t + 1) | 0) as Tsn;
    s.stats.sctps_sendretransdata++;
    if (fast) s.stats.sctps_sendfastretrans++;
    if (chunks.timed[m] === 1) {
      chunks.timed[m] = 0; // Karn
      a.paths[chunks.path[m]!]!.rttWanted = true;
    }
    if (probe) {
      a.probing = true; // the window has closed over what was sent: this one asks whether it still is (§6.1 A)
      s.stats.sctps_windowprobe++;
    }
    chunks.launchedAgain(m, p.id, a.nextTsn);
    putData(s, a, p, m, size);
    if (fast && t === ((a.cumAcked + 1) | 0)) armT3(s, p); // §7.2.4 rule 4
    a.peerRwnd = Math.max(0, a.peerRwnd - len - s.tunables.peer_chkoh);
    if (probe) return true;
  }
  a.fastRetransmitDue = false;
  return true;
}

/** Where a retransmission goes: its path while that is usable, else the one new data takes. */
function resendPath(a: Association, p: Path): Path {
  return p.usable || !a.current.usable ? p : a.current;
}

/** Where a new chunk goes: to the address that the user has named for it (SCTP_ADDR_OVER) while that is usable. */
function dataPath(a: Association, dest: number): Path {
  const wanted = dest === 0 ? undefined : a.paths[dest - 1];
  return wanted?.usable ? wanted : a.current;
}

/** New data, while the congestion window, the peer's window and the burst limit allow (§6.1). */
function sendData(s: Sctp, a: Association, budget: number, cookie: boolean): void {
  const b = s.builder;
  const chunks = s.chunks;
  const first = begun(b);
  for (;;) {
    const m = a.scheduler.peek(a);
    if (m === 0) return;
    const p = dataPath(a, chunks.dest[m]!);
    // A window not used for an RTO and more shrinks before it is used again (§7.2.1).
    if (p.flight === 0 && p.lastData > 0 && s.now - p.lastData >= p.rto)
      a.cc.afterIdle(p, Math.floor((s.now - p.lastData) / p.rto));
    // The peer keeps track of so many TSNs beyond the first one missing (facts part 7.19).
    if (a.outstanding >= TSN_MAP_BITS - 1) return;
    const len = chunks.len[m]!;
    const size = DATA_HEADER + pad4(len);
    const fits = b.openPath === p && size <= b.room;
    if (p.flight >= p.cwnd) return;
    let probe = false;
    if (len > a.peerRwnd) {
      if (a.flight > 0 || a.outstanding > 0) return;
      probe = true; // one chunk in flight may probe a closed window (§6.1 A)
    }
    if (!fits) {
      if (cookie && b.openPath !== undefined) return; // one packet only until COOKIE ACK (§5.1 C)
      if (begun(b) - first >= budget) return;
      if (holdBack(a, p)) return;
    } else if (b.empty && holdBack(a, p)) return;
    if (!openFor(s, p, size, a.out.pending > 1)) return;
    const t = a.nextTsn;
    if (a.outstanding >= a.ring.length) a.growRing();
    a.scheduler.take(a, chunks);
    a.ring[t & a.ringMask] = m;
    a.nextTsn = ((t + 1) | 0) as Tsn;
    chunks.launched(m, t, p.rttWanted ? 1 : 0, p.id, a.nextTsn);
    p.rttWanted = false;
    // §8.3: a retransmission cannot measure the round trip, so it does not make the path busy; this one does.
    p.lastUsed = s.now;
    if (probe) {
      a.probing = true;
      s.stats.sctps_windowprobe++;
    }
    s.bytesOut += len;
    putData(s, a, p, m, size);
    a.peerRwnd = Math.max(0, a.peerRwnd - len - s.tunables.peer_chkoh);
    if (probe) return;
  }
}

/**
 * Nagle's rule (§6.1 E): a packet that is not full waits while data is in flight. The rest of a message that is under way
 * does not: its beginning is of no use to the reader without it.
 */
function holdBack(a: Association, p: Path): boolean {
  if (a.nodelay || a.flight === 0 || a.out.locked !== undefined || a.state !== 'ESTABLISHED') return false;
  return a.out.pendingBytes + a.out.pending * DATA_HEADER < p.chunkRoom - DATA_HEADER;
}

/** A packet to p with room for `size` bytes; a chunk larger than the path MTU gets one of its own, to be fragmented by IP. */
function openFor(s: Sctp, p: Path, size: number, many: boolean): boolean {
  const b = s.builder;
  if (!b.open(p, many)) return false;
  if (size <= b.room) return true;
  if (!b.empty) {
    b.close();
    if (!b.open(p, many)) return false;
    if (size <= b.room) return true;
  }
  // IP will have to fragment it (§6.9, §7.3): a packet and an mbuf of its own.
  return b.openLarge(p, size);
}

/**
 * Writes a DATA chunk (§3.3.1), launched in the chunk table, into the open packet and takes it into flight.
 * type 0 | flags U B E I | length 16+n || TSN || stream 2 | SSN 2 || PPID || n bytes, padded
 */
function putData(s: Sctp, a: Association, p: Path, m: number, size: number): void {
  const b = s.builder;
  const chunks = s.chunks;
  const pool = chunks.pool;
  const dv = pool.dv;
  const len = chunks.len[m]!;
  const o = b.reserve(size);
  dv.setUint32(o, (chunks.flags[m]! << 16) | (DATA_HEADER + len));
  dv.setInt32(o + 4, chunks.tsn[m]!);
  dv.setUint32(o + 8, (chunks.sid[m]! << 16) | chunks.ssn[m]!);
  dv.setUint32(o + 12, chunks.ppid[m]!);
  if (size !== DATA_HEADER + len) dv.setUint32(o + size - 4, 0); // the padding is zero (§3.2)
  if (pool.next[m] === 0) {
    bcopy(pool.u8, pool.off[m]!, o + DATA_HEADER, len);
  } else pool.copydata(m, 0, len, o + DATA_HEADER);
  b.carriesData();
  p.lastData = s.now;
  chunks.sentAt[m] = s.now;
  p.flight += len;
  a.flight += len;
  a.flightChunks++;
  s.stats.sctps_senddata++;
  if (!p.t3.pending) armT3(s, p);
}

/** Sets the I bit on what is queued last: the peer is to acknowledge at once (RFC 7053). */
export function markImmediate(s: Sctp, a: Association): void {
  for (const st of a.out.each()) if (st.queue.tail !== 0) s.chunks.flags[st.queue.tail]! |= DATA_I;
}

/** Milliseconds to nanoseconds, for rows of tunables. */
export const ms = (n: number): number => n * MSEC;
