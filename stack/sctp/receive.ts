/**
 * DATA received: the TSN map, duplicates, ordered delivery, the receive window, and when a SACK is due (RFC 9260 §3.3.1,
 * §6.2, §6.5, §6.6). Fragments are put together in reassembly.ts, SACKs written in sack.ts.
 */

import { CLUSTER_BYTES, SMALL_BYTES } from '../kern/mbuf.js';
import { abortAssociation } from './abort.js';
import type { Association, InStream } from './association.js';
import {
  CAUSE_INVALID_STREAM,
  CAUSE_NO_USER_DATA,
  CAUSE_OUT_OF_RESOURCE,
  CAUSE_PROTOCOL_VIOLATION,
  CHUNK_OVERHEAD,
  DATA_B,
  DATA_E,
  DATA_HEADER,
  DATA_I,
  DATA_U,
  ERROR,
  MAX_DUPS,
  MIN_RWND,
  RECEIVER_SWS,
  TSN_MAP_BITS,
} from './constants.js';
import { queueControl, sendSack } from './output.js';
import type { Path } from './path.js';
import { reason } from './reasons.js';
import { lastOf, Reassembly } from './reassembly.js';
import type { Sctp } from './sctp.js';
import { armSack } from './timers.js';
import { ssnGt, type Tsn, tsnGt, tsnLe, tsnLt } from './types.js';
import { ByteWriter, cause, errorChunk, textBytes } from './wire.js';

/** Free mbufs of each kind that received data must leave for the rest of the stack. */
const RESERVE = 128;

export class TsnReceiver {
  readonly #s: Sctp;
  readonly #reassembly: Reassembly;

  constructor(s: Sctp) {
    this.#s = s;
    this.#reassembly = new Reassembly(s, this);
  }

  /**
   * One DATA chunk of `len` bytes (header included, checked to lie in the packet) at `off`. Returns false when the
   * association is gone afterwards.
   */
  data(a: Association, off: number, len: number, from: Path | undefined): boolean {
    const s = this.#s;
    const dv = s.chunks.pool.dv;
    s.stats.sctps_recvdata++;
    if (len < DATA_HEADER) {
      abortAssociation(
        s,
        a,
        [cause(CAUSE_PROTOCOL_VIOLATION, textBytes('DATA chunk too short'))],
        reason('a DATA chunk is shorter than its header', '§3.3.1'),
      );
      return false;
    }
    const t = dv.getInt32(off + 4);
    if (len === DATA_HEADER) {
      abortAssociation(
        s,
        a,
        [cause(CAUSE_NO_USER_DATA, new ByteWriter().u32(t).take())],
        reason('a DATA chunk carries no user data', '§6.2'),
      );
      return false;
    }
    if (!a.packetHasTsn || tsnLt(t, a.packetTsn)) a.packetTsn = t;
    a.packetHasTsn = true;
    const flags = s.chunks.pool.u8[off + 1]!;
    if ((flags & DATA_I) !== 0) a.sackDue = true;
    if (from !== undefined) a.lastFrom = from;
    if (tsnLe(t, a.cumTsn) || (tsnLe(t, a.highestTsn) && a.tsnMap[t & a.tsnMask] === 1)) {
      s.stats.sctps_recvdupdata++;
      if (a.dups.length < MAX_DUPS) a.dups.push(t);
      a.sackDue = true;
      return true;
    }
    if (((t - a.cumTsn) | 0) >= TSN_MAP_BITS) {
      s.drop('sctps_datadropmap', a);
      return true;
    }
    const n = len - DATA_HEADER;
    if (tsnGt(t, a.highestTsn) && this.#free(a) <= 0) {
      s.drop('sctps_datadropwindow', a); // §6.2: drop, and tell the window
      a.sackDue = true;
      return true;
    }
    return this.#take(a, off, t, flags, n);
  }

  #take(a: Association, off: number, t: number, flags: number, n: number): boolean {
    const s = this.#s;
    const chunks = s.chunks;
    const dv = chunks.pool.dv;
    const ep = a.endpoint;
    const sid = dv.getUint16(off + 8);
    if (sid >= a.inStreamCount) {
      // §6.5: reported, acknowledged, not delivered.
      s.drop('sctps_badsid', a);
      this.#mark(a, t);
      queueControl(s, a, errorChunk(ERROR, 0, [cause(CAUSE_INVALID_STREAM, new ByteWriter().u16(sid).u16(0).take())]));
      s.stats.sctps_errorsent++;
      return true;
    }
    if (ep.gone || ep.cantReceive) {
      s.drop('sctps_datadropclosed', a);
      if (ep.gone) {
        abortAssociation(
          s,
          a,
          [cause(CAUSE_OUT_OF_RESOURCE)],
          reason('data arrived for a socket that was closed', '§9.1'),
        );
        return false;
      }
      this.#mark(a, t);
      return true;
    }
    const whole = (flags & (DATA_B | DATA_E)) === (DATA_B | DATA_E);
    const unordered = (flags & DATA_U) !== 0;
    const ssn = dv.getUint16(off + 10);
    if (!unordered && this.#behind(a, sid, ssn)) {
      abortAssociation(
        s,
        a,
        [cause(CAUSE_PROTOCOL_VIOLATION, textBytes(`SSN ${ssn} of stream ${sid} was delivered before`))],
        reason('a stream sequence number came twice', '§6.5'),
      );
      return false;
    }
    if (!whole && !this.#reassembly.room(a, t)) {
      s.drop('sctps_datadropmap', a); // a fragment 4,096 TSNs ago still waits for the rest of its message
      a.sackDue = true;
      return true;
    }
    const m = this.#enough(n) ? chunks.fromRegion(off + DATA_HEADER, n) : 0;
    if (m === 0) {
      s.drop('sctps_datadropnobuf', a);
      a.sackDue = true; // tells that the window is closed: it is not the network that loses this
      return true;
    }
    chunks.received(m, sid, ssn, dv.getInt32(off + 12), flags, a.context, t, a.id);
    s.bytesIn += n;
    this.#mark(a, t);
    if (whole) {
      chunks.msglen[m] = n;
      chunks.tail[m] = lastOf(chunks.pool.next, m);
      chunks.eor[m] = 1;
      return this.complete(a, m);
    }
    return this.#reassembly.fragment(a, m, t);
  }

  /** True when there are mbufs for n bytes, and enough left for the rest of the stack. */
  #enough(n: number): boolean {
    const pool = this.#s.chunks.pool;
    if (n > CLUSTER_BYTES) return pool.freeClusters > RESERVE + n / CLUSTER_BYTES;
    return pool.freeClusters > RESERVE || (n <= SMALL_BYTES && pool.freeSmall > RESERVE);
  }

  #behind(a: Association, sid: number, ssn: number): boolean {
    const st = sid < a.inStreams.length ? a.inStreams[sid] : undefined;
    return st !== undefined && ssnGt(st.nextSsn, ssn);
  }

  /** Notes a TSN and moves the cumulative TSN. */
  #mark(a: Association, t: number): void {
    if (t === ((a.cumTsn + 1) | 0)) {
      let c = t;
      if (tsnGt(a.highestTsn, t)) {
        while (a.tsnMap[(c + 1) & a.tsnMask] === 1 && tsnLt(c, a.highestTsn)) {
          c = (c + 1) | 0;
          a.tsnMap[c & a.tsnMask] = 0;
        }
        a.cumTsn = c as Tsn;
      } else {
        a.cumTsn = t as Tsn;
        a.highestTsn = t as Tsn;
      }
      return;
    }
    if (((t - a.cumTsn) | 0) >= a.tsnMap.length) a.growMap(t);
    a.tsnMap[t & a.tsnMask] = 1;
    if (tsnGt(t, a.highestTsn)) a.highestTsn = t as Tsn;
  }

  /** A whole message: delivered, or held until its stream's turn. */
  complete(a: Association, m: number): boolean {
    const chunks = this.#s.chunks;
    if ((chunks.flags[m]! & DATA_U) !== 0) {
      this.#deliver(a, m);
      return true;
    }
    const sid = chunks.sid[m]!;
    const st = a.inStream(sid);
    if (chunks.ssn[m] !== st.nextSsn) return this.#hold(a, st, m);
    st.nextSsn = (st.nextSsn + 1) & 0xffff;
    this.#deliver(a, m);
    const pool = chunks.pool;
    while (st.held !== 0 && chunks.ssn[st.held] === st.nextSsn) {
      const h = st.held;
      st.held = pool.nextpkt[h]!;
      st.heldCount--;
      st.nextSsn = (st.nextSsn + 1) & 0xffff;
      this.#unhold(a, h);
      this.#deliver(a, h);
    }
    return true;
  }

  /** Keeps a message that is early on its stream, in SSN order. */
  #hold(a: Association, st: InStream, m: number): boolean {
    const s = this.#s;
    const chunks = s.chunks;
    const pool = chunks.pool;
    const ssn = chunks.ssn[m]!;
    let before = 0;
    for (let h = st.held; h !== 0 && ssnGt(ssn, chunks.ssn[h]!); h = pool.nextpkt[h]!) before = h;
    const after = before === 0 ? st.held : pool.nextpkt[before]!;
    if (after !== 0 && chunks.ssn[after] === ssn) {
      pool.freem(m);
      abortAssociation(
        s,
        a,
        [cause(CAUSE_PROTOCOL_VIOLATION, textBytes(`SSN ${ssn} came with two TSNs`))],
        reason('two messages of a stream carry the same sequence number', '§6.5'),
      );
      return false;
    }
    pool.nextpkt[m] = after;
    if (before === 0) st.held = m;
    else pool.nextpkt[before] = m;
    st.heldCount++;
    a.heldBytes += chunks.msglen[m]!;
    a.heldChunks++;
    return true;
  }
  #unhold(a: Association, m: number): void {
    a.heldBytes -= this.#s.chunks.msglen[m]!;
    a.heldChunks--;
  }

  /** A delivery in parts has ended: what had to wait for it goes to the reader. */
  release(a: Association): void {
    this.#flushWaiting(a);
    const ep = a.endpoint;
    if (ep.partial !== a) return;
    ep.partial = undefined;
    for (const b of ep.asocs.values()) if (b !== a && !b.pdActive) this.#flushWaiting(b);
    // Whose fragments fill its window gets no further one that could begin its delivery: it has waited for this.
    for (const b of ep.asocs.values()) if (b !== a && ep.partial === undefined) this.#reassembly.maybePartial(b);
  }
  /** An association has an endpoint of its own now: nothing of it waits for others any more (sctp_peeloff). */
  ownEndpoint(a: Association): void {
    if (a.pdActive) return;
    this.release(a);
    this.#reassembly.maybePartial(a);
  }
  #flushWaiting(a: Association): void {
    const pool = this.#s.chunks.pool;
    for (let m = a.waiting.shift(pool); m !== 0; m = a.waiting.shift(pool)) {
      this.#unhold(a, m);
      this.append(a, m);
    }
  }
  /** What a stream holds and is now due. */
  drain(a: Association, sid: number): void {
    const chunks = this.#s.chunks;
    const st = a.inStreams[sid]!;
    while (st.held !== 0 && chunks.ssn[st.held] === st.nextSsn) {
      const h = st.held;
      st.held = chunks.pool.nextpkt[h]!;
      st.heldCount--;
      st.nextSsn = (st.nextSsn + 1) & 0xffff;
      this.#unhold(a, h);
      this.#deliver(a, h);
    }
  }

  /** True when a message must wait for the end of another's delivery in parts (RFC 6458 §8.1.20). */
  #mustWait(a: Association, m: number): boolean {
    const ep = a.endpoint;
    if (!a.pdActive) return ep.partial !== undefined && ep.partial !== a;
    return ep.options.fragmentInterleave < 2 || this.#s.chunks.sid[m] === a.pdSid;
  }
  /** To the reader, or into the queue of those that wait. */
  #deliver(a: Association, m: number): void {
    if (this.#mustWait(a, m)) {
      a.heldBytes += this.#s.chunks.msglen[m]!;
      a.heldChunks++;
      a.waiting.push(this.#s.chunks.pool, m);
      return;
    }
    this.append(a, m);
  }
  /** Behind what waits in the socket's receive queue. */
  append(a: Association, m: number): void {
    const s = this.#s;
    const ep = a.endpoint;
    const n = s.chunks.msglen[m]!;
    s.chunks.cumtsn[m] = a.cumTsn;
    ep.rcv.push(s.chunks.pool, m);
    ep.rcvBytes += n;
    a.deliveredBytes += n;
    s.wake(ep);
  }

  /** Room in the receive buffer now; may be negative. */
  #free(a: Association): number {
    const ep = a.endpoint;
    // An empty buffer is never told to be smaller than the least window of an INIT (facts part 4).
    if (ep.rcv.count === 0 && a.heldChunks === 0) return Math.max(ep.rcvLimit, MIN_RWND);
    return ep.rcvLimit - ep.rcvBytes - a.heldBytes - (ep.rcv.count + a.heldChunks) * CHUNK_OVERHEAD;
  }
  /** The window to tell: 0 when it is silly (§6.2, RFC 1122 §4.2.3.3). */
  window(a: Association): number {
    const free = this.#free(a);
    if (!this.#enough(SMALL_BYTES)) return 0;
    return free < RECEIVER_SWS && free < a.endpoint.rcvLimit >> 1 ? 0 : free;
  }
  /** The reader has made room: tell when it is worth a SACK (an eighth of the buffer). */
  readerAdvanced(a: Association): void {
    if (a.sackDue || a.dead || !a.established) return;
    const s = this.#s;
    const { rcvLimit } = a.endpoint;
    // What was told is near the most that there can be: the usual case, and nothing to reckon.
    if (Math.max(rcvLimit, MIN_RWND) - a.toldRwnd < rcvLimit >> 3) return;
    const w = this.window(a);
    if (w - a.toldRwnd < rcvLimit >> 3) return;
    s.stats.sctps_windowupdate++;
    a.sackDue = true;
    s.markDirty(a);
    s.stack.kick(); // a reader outside the loop: nothing else may be under way that would send this soon
  }

  /** After the last chunk of a packet that carried DATA: is a SACK due now, or later (§6.2)? */
  afterPacket(a: Association): void {
    a.packetsSinceSack++;
    a.packetHasTsn = false;
    // A long train is acknowledged four times, not for every second packet of it: all of it has come already, and a sender
    // that is held to Max.Burst for each SACK still sends as much as it did.
    const every = Math.max(a.sackFreq, this.#s.trainPackets >> 2);
    if (a.sackDue || a.firstData || a.hasGap || a.hadGap || a.sackDelay === 0 || a.packetsSinceSack >= every) {
      a.firstData = false;
      a.hadGap = a.hasGap;
      a.sackDue = true;
    } else if (!a.sackPending) armSack(this.#s, a);
    this.#s.markDirty(a);
  }
  /** Before the next packet of a batch is looked at: a SACK that the last one made due goes out as it stands now. */
  beforePacket(a: Association): void {
    if (!a.sackDue) return;
    // Each in a packet of its own: the peer counts packets (Max.Burst), and equal ones travel as a train.
    this.#s.builder.close();
    sendSack(this.#s, a, true);
    this.#s.builder.close();
  }

  /** Frees everything held for an association. */
  clear(a: Association): void {
    const pool = this.#s.chunks.pool;
    for (const st of a.inStreams) {
      if (st === undefined) continue;
      while (st.held !== 0) {
        const m = st.held;
        st.held = pool.nextpkt[m]!;
        pool.freem(m);
      }
    }
    for (let i = 0; i < a.fragments.length; i++) {
      if (a.fragments[i] !== 0) pool.freem(a.fragments[i]!);
      a.fragments[i] = 0;
    }
    a.waiting.clear(pool);
    a.heldBytes = 0;
    a.heldChunks = 0;
    a.inStreams = [];
  }
}
