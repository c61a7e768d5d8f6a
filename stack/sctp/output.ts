/**
 * Output of an association at the end of a batch: which chunks go out now, in which packets (RFC 9260 §6.1, §6.10, §7.2).
 * Order in a packet: COOKIE ECHO, ECNE, SACK, other control chunks, then DATA, retransmissions first.
 */

import { MSEC } from '../kern/clock.js';
import type { Association } from './association.js';
import { CONTROL_LIMIT } from './association.js';
import { CHUNK_RESEND, CHUNK_SENT } from './chunks.js';
import { COOKIE_ACK, COOKIE_ECHO, CWR, DATA_HEADER, DATA_I, ECNE, pad4 } from './constants.js';
import type { Path } from './path.js';
import { choosePath } from './paths.js';
import type { Sctp } from './sctp.js';
import { afterOutput } from './shutdown.js';
import { armT3 } from './timers.js';
import { type Tsn, tsnGe } from './types.js';
import { ByteWriter } from './wire.js';

const COOKIE_ACK_CHUNK = new ByteWriter().chunk(COOKIE_ACK, 0, () => {}).take();

/** Sends what is due on an association. */
export function flushAssociation(s: Sctp, a: Association): void {
  const b = s.builder;
  const credits = a.burst;
  a.burst = 0;
  const budget = a.maxBurst === 0 ? Number.MAX_SAFE_INTEGER : a.maxBurst * (credits > 1 ? credits : 1);
  choosePath(s, a);
  const cookie = sendCookie(s, a);
  if (a.state === 'COOKIE_WAIT' || (a.state === 'COOKIE_ECHOED' && !cookie)) return;
  if (a.cookieAckPath !== undefined && b.open(a.cookieAckPath, false)) {
    b.write(COOKIE_ACK_CHUNK);
    a.cookieAckPath = undefined;
  }
  // A delayed SACK goes along with data (§6.2).
  if (!a.sackDue && a.sackTimer.pending && hasWork(a)) a.sackDue = true;
  if (a.sackDue) sendSack(s, a);
  sendControl(s, a);
  if (a.canSendData) {
    const before = b.packets;
    if (a.resend > 0) resendData(s, a, cookie ? 1 : budget);
    if (a.out.pending > 0) sendData(s, a, cookie ? 1 : budget - (b.packets - before), cookie);
  }
  b.close();
  afterOutput(s, a);
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
  if (!s.builder.open(setup.path, false)) return false;
  if (chunk.length > s.builder.room && !s.builder.allowFragmentation(chunk.length)) return false;
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
  const rx = s.receiver;
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
  let size = rx.sackSize(a, b.room);
  if (size === 0) {
    b.close();
    if (!b.open(p, false)) return;
    size = rx.sackSize(a, b.room);
  }
  rx.writeSack(a, b.reserve(size), size);
  s.stats.sctps_sendsacks++;
  s.stats.sctps_outcontrolchunks++;
  a.sackDue = false;
  a.packetsSinceSack = 0;
  s.stack.callouts.stop(a.sackTimer);
}

function sendControl(s: Sctp, a: Association): void {
  const b = s.builder;
  if (a.cwrDue) {
    a.cwrDue = false;
    queueControl(s, a, new ByteWriter().chunk(CWR, 0, w => w.u32(a.cwrTsn)).take());
  }
  if (a.control.length === 0) return;
  for (const c of a.control) {
    const p = c.path ?? a.current;
    if (!b.open(p, false)) break;
    if (c.bytes.length > b.room) {
      b.close();
      if (!b.open(p, false)) break;
      if (c.bytes.length > b.room && !b.allowFragmentation(c.bytes.length)) continue;
    }
    b.write(c.bytes);
    p.lastUsed = s.now;
  }
  a.control.length = 0;
}

/** Retransmissions: chunks marked by T3 or fast retransmit, lowest TSN first (§6.3.3 E3, §7.2.4). */
function resendData(s: Sctp, a: Association, budget: number): void {
  const b = s.builder;
  const chunks = s.chunks;
  const fast = a.fastRetransmitDue;
  a.fastRetransmitDue = false;
  const frBurst = s.tunables.fr_maxburst === 0 ? Number.MAX_SAFE_INTEGER : s.tunables.fr_maxburst;
  const first = b.packets;
  let limit = fast ? Math.min(frBurst, budget) : budget;
  if (limit < 1) limit = 1;
  for (let t = a.resendFrom as number; a.resend > 0 && tsnGe(a.nextTsn - 1, t); t = (t + 1) | 0) {
    const m = a.ring[t & a.ringMask]!;
    if (m === 0 || chunks.state[m] !== CHUNK_RESEND) continue;
    const p = resendPath(a, a.paths[chunks.path[m]!]!);
    const len = chunks.len[m]!;
    const size = DATA_HEADER + pad4(len);
    const isOpen = b.openPath === p && !b.empty;
    // The first packet of a fast retransmission ignores cwnd (§7.2.4 rule 3); what fits into an open packet goes along.
    if (
      p.flight >= p.cwnd &&
      !(fast && (b.packets === first || isOpen)) &&
      !(isOpen && size <= b.room && p.flight < p.cwnd + p.mtu)
    )
      return;
    if (len > a.peerRwnd && a.flight > 0) return;
    if (b.packets - first >= limit && !(isOpen && size <= b.room)) return;
    if (!openFor(s, p, size, a.resend > 1)) return;
    a.resend--;
    if (tsnGe(t, a.resendFrom)) a.resendFrom = ((t + 1) | 0) as Tsn;
    s.stats.sctps_sendretransdata++;
    if (fast) s.stats.sctps_sendfastretrans++;
    chunks.timed[m] = 0; // Karn
    putData(s, a, p, m, size);
    a.peerRwnd = Math.max(0, a.peerRwnd - len - s.tunables.peer_chkoh);
  }
}

/** Where a retransmission goes: its path while that is usable, else the one new data takes. */
function resendPath(a: Association, p: Path): Path {
  return p.usable || !a.current.usable ? p : a.current;
}

/** New data, while the congestion window, the peer's window and the burst limit allow (§6.1). */
function sendData(s: Sctp, a: Association, budget: number, cookie: boolean): void {
  const b = s.builder;
  const chunks = s.chunks;
  const p = a.current;
  const first = b.packets;
  for (;;) {
    const m = a.scheduler.peek(a);
    if (m === 0) return;
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
      if (b.packets - first + (b.openPath !== undefined && !b.empty ? 1 : 0) >= budget) return;
      if (holdBack(a, p)) return;
    } else if (b.empty && holdBack(a, p)) return;
    if (!openFor(s, p, size, a.out.pending > 1)) return;
    const t = a.nextTsn;
    if (a.outstanding >= a.ring.length) a.growRing();
    a.scheduler.take(a, chunks);
    a.ring[t & a.ringMask] = m;
    a.nextTsn = ((t + 1) | 0) as Tsn;
    chunks.tsn[m] = t;
    chunks.sends[m] = 0;
    chunks.fast[m] = 0;
    const timed = p.rttWanted ? 1 : 0;
    chunks.timed[m] = timed;
    if (timed === 1) p.rttWanted = false;
    if (probe) {
      a.probing = true;
      s.stats.sctps_windowprobe++;
    }
    s.stats.sctps_outbytes += len;
    putData(s, a, p, m, size);
    a.peerRwnd = Math.max(0, a.peerRwnd - len - s.tunables.peer_chkoh);
    if (probe) return;
  }
}

/** Nagle's rule (§6.1 E): a packet that is not full waits while data is in flight. */
function holdBack(a: Association, p: Path): boolean {
  if (a.nodelay || a.flight === 0 || a.state !== 'ESTABLISHED') return false;
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
  if (b.allowFragmentation(size)) return true;
  b.flush(); // the packet stood behind others in a train: begin a fresh mbuf
  return b.open(p, false) && (size <= b.room || b.allowFragmentation(size));
}

/**
 * Writes a DATA chunk (§3.3.1) into the open packet and takes it into flight.
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
    const from = pool.off[m]!;
    pool.u8.copyWithin(o + DATA_HEADER, from, from + len);
  } else pool.copydata(m, 0, len, o + DATA_HEADER);
  b.carriesData();
  chunks.state[m] = CHUNK_SENT;
  chunks.sends[m]!++;
  chunks.missing[m] = 0;
  chunks.path[m] = p.id;
  chunks.mark[m] = a.nextTsn;
  chunks.sentAt[m] = s.now;
  p.flight += len;
  a.flight += len;
  a.flightChunks++;
  p.lastUsed = s.now;
  s.stats.sctps_senddata++;
  if (!p.t3.pending) armT3(s, p);
}

/** Sets the I bit on what is queued last: the peer is to acknowledge at once (RFC 7053). */
export function markImmediate(s: Sctp, a: Association): void {
  for (const st of a.out.each()) if (st.queue.tail !== 0) s.chunks.flags[st.queue.tail]! |= DATA_I;
}

/** Milliseconds to nanoseconds, for rows of tunables. */
export const ms = (n: number): number => n * MSEC;
