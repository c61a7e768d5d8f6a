/**
 * DATA received: the TSN map, duplicates, reassembly, ordered delivery, the receive window, and the SACK that tells of it
 * (RFC 9260 §3.3.1, §3.3.4, §6.2, §6.5, §6.6, §6.9).
 */

import { CLUSTER_BYTES, SMALL_BYTES } from '../kern/mbuf.js';
import { abortAssociation } from './abort.js';
import { type Association, InStream } from './association.js';
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
  RECEIVER_SWS,
  SACK,
  SACK_HEADER,
  TSN_MAP_BITS,
} from './constants.js';
import { queueControl, sendSack } from './output.js';
import type { Path } from './path.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { armSack } from './timers.js';
import { ssnGt, type Tsn, tsnGe, tsnGt, tsnLe, tsnLt } from './types.js';
import { ByteWriter, cause, errorChunk, textBytes } from './wire.js';

const MASK = TSN_MAP_BITS - 1;
/** Free mbufs of each kind that received data must leave for the rest of the stack. */
const RESERVE = 128;

export class TsnReceiver {
  readonly #s: Sctp;
  // Scratch of sackSize for the writeSack that follows.
  #gaps = 0;
  #dups = 0;
  readonly #gapStart = new Int32Array(512);
  readonly #gapEnd = new Int32Array(512);

  constructor(s: Sctp) {
    this.#s = s;
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
    if (tsnLe(t, a.cumTsn) || (tsnLe(t, a.highestTsn) && a.tsnMap[t & MASK] === 1)) {
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
    if (!whole && a.fragments.length > 0 && a.fragments[t & MASK] !== 0) {
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
    chunks.tsn[m] = t;
    chunks.sid[m] = sid;
    chunks.ssn[m] = ssn;
    chunks.ppid[m] = dv.getUint32(off + 12);
    chunks.flags[m] = flags;
    chunks.assoc[m] = a.id;
    chunks.context[m] = a.context;
    s.stats.sctps_inbytes += n;
    this.#mark(a, t);
    if (whole) {
      chunks.msglen[m] = n;
      chunks.tail[m] = lastOf(chunks.pool.next, m);
      chunks.eor[m] = 1;
      return this.#complete(a, m);
    }
    return this.#fragment(a, m, t);
  }

  /** True when there are mbufs for n bytes, and enough left for the rest of the stack. */
  #enough(n: number): boolean {
    const pool = this.#s.chunks.pool;
    if (n > CLUSTER_BYTES) return pool.freeClusters > RESERVE + n / CLUSTER_BYTES;
    return pool.freeClusters > RESERVE || (n <= SMALL_BYTES && pool.freeSmall > RESERVE);
  }

  #behind(a: Association, sid: number, ssn: number): boolean {
    const st = a.inStreams[sid];
    return st !== undefined && ssnGt(st.nextSsn, ssn);
  }

  /** Notes a TSN and moves the cumulative TSN. */
  #mark(a: Association, t: number): void {
    if (t === ((a.cumTsn + 1) | 0)) {
      let c = t;
      if (tsnGt(a.highestTsn, t)) {
        while (a.tsnMap[(c + 1) & MASK] === 1 && tsnLt(c, a.highestTsn)) {
          c = (c + 1) | 0;
          a.tsnMap[c & MASK] = 0;
        }
        a.cumTsn = c as Tsn;
      } else {
        a.cumTsn = t as Tsn;
        a.highestTsn = t as Tsn;
      }
      return;
    }
    a.tsnMap[t & MASK] = 1;
    if (tsnGt(t, a.highestTsn)) a.highestTsn = t as Tsn;
  }

  /** A whole message: delivered, or held until its stream's turn. */
  #complete(a: Association, m: number): boolean {
    const chunks = this.#s.chunks;
    if ((chunks.flags[m]! & DATA_U) !== 0) {
      this.#deliver(a, m);
      return true;
    }
    const sid = chunks.sid[m]!;
    const st = (a.inStreams[sid] ??= new InStream());
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

  /** A fragment: kept by TSN until its message is whole (§6.9), or appended to a delivery in progress. */
  #fragment(a: Association, m: number, t: number): boolean {
    const s = this.#s;
    const chunks = s.chunks;
    if (a.fragments.length === 0) a.fragments = new Int32Array(TSN_MAP_BITS);
    const ring = a.fragments;
    ring[t & MASK] = m;
    a.heldBytes += chunks.len[m]!;
    a.heldChunks++;
    if (a.pdActive) {
      this.#continuePartial(a);
      if (a.dead) return false;
      // A fragment that is not of the message in progress goes on below.
      if (ring[t & MASK] !== m) return true;
    }
    // Forward to the end: the common case (more to come) stops at the first step.
    let last = t;
    while ((chunks.flags[ring[last & MASK]!]! & DATA_E) === 0) {
      const next = (last + 1) | 0;
      const x = ring[next & MASK]!;
      if (x === 0 || chunks.tsn[x] !== next || (chunks.flags[x]! & DATA_B) !== 0) {
        return this.#maybePartial(a);
      }
      last = next;
    }
    let first = t;
    while ((chunks.flags[ring[first & MASK]!]! & DATA_B) === 0) {
      const prev = (first - 1) | 0;
      const x = ring[prev & MASK]!;
      if (x === 0 || chunks.tsn[x] !== prev || (chunks.flags[x]! & DATA_E) !== 0) return true;
      first = prev;
    }
    return this.#assemble(a, first, last);
  }

  /** All fragments from first to last are here: chains them into one message. */
  #assemble(a: Association, first: number, last: number): boolean {
    const s = this.#s;
    const chunks = s.chunks;
    const head = a.fragments[first & MASK]!;
    if (!this.#sameMessage(a, first, last)) {
      abortAssociation(
        s,
        a,
        [cause(CAUSE_PROTOCOL_VIOLATION, textBytes('fragments of one message differ'))],
        reason('fragments of one message differ in stream, sequence number or order', '§6.9'),
      );
      return false;
    }
    const total = this.#chain(a, head, first, last);
    chunks.msglen[head] = total;
    chunks.eor[head] = 1;
    s.stats.sctps_reasmmsgs++;
    return this.#complete(a, head);
  }

  #sameMessage(a: Association, first: number, last: number): boolean {
    const chunks = this.#s.chunks;
    const head = a.fragments[first & MASK]!;
    for (let t = (first + 1) | 0; tsnGe(last, t); t = (t + 1) | 0) {
      const x = a.fragments[t & MASK]!;
      if (chunks.sid[x] !== chunks.sid[head] || ((chunks.flags[x]! ^ chunks.flags[head]!) & DATA_U) !== 0) return false;
      if ((chunks.flags[x]! & DATA_U) === 0 && chunks.ssn[x] !== chunks.ssn[head]) return false;
    }
    return true;
  }

  /** Links fragments first+1..last behind head's chain and takes all out of the ring. Returns their bytes. */
  #chain(a: Association, head: number, first: number, last: number): number {
    const chunks = this.#s.chunks;
    const pool = chunks.pool;
    let total = 0;
    let tail = 0;
    for (let t = first; tsnGe(last, t); t = (t + 1) | 0) {
      const x = a.fragments[t & MASK]!;
      a.fragments[t & MASK] = 0;
      a.heldBytes -= chunks.len[x]!;
      a.heldChunks--;
      total += chunks.len[x]!;
      if (tail !== 0) pool.next[tail] = x;
      tail = lastOf(pool.next, x);
    }
    chunks.tail[head] = tail;
    return total;
  }

  /**
   * A message so large that its first part alone fills half the buffer, or reaches the user's point (RFC 6458 §8.1.21), is
   * delivered in parts: when its fragments from B on stand at the cumulative TSN and it is its stream's turn.
   */
  #maybePartial(a: Association): boolean {
    const s = this.#s;
    const ep = a.endpoint;
    // With the overhead that the window counts too: small fragments fill it before their bytes fill half the buffer.
    const held = a.heldBytes + a.heldChunks * CHUNK_OVERHEAD;
    const full = held >= ep.rcvLimit >> 1 || a.heldChunks >= TSN_MAP_BITS >> 1;
    const point = ep.options.partialDeliveryPoint ?? Number.MAX_SAFE_INTEGER;
    if (a.pdActive || (!full && a.heldBytes < point)) return true;
    if (ep.partial !== undefined) return true; // level 0: another association's turn
    const chunks = s.chunks;
    // The run that ends at the cumulative TSN is complete from its B on.
    let first = a.cumTsn as number;
    let part = 0;
    for (;;) {
      const x = a.fragments[first & MASK]!;
      if (x === 0 || chunks.tsn[x] !== first) return true;
      if ((chunks.flags[x]! & DATA_E) !== 0) return true;
      part += chunks.len[x]!;
      if ((chunks.flags[x]! & DATA_B) !== 0) break;
      first = (first - 1) | 0;
    }
    if (!full && part < point) return true;
    const head = a.fragments[first & MASK]!;
    const ordered = (chunks.flags[head]! & DATA_U) === 0;
    if (ordered && (a.inStreams[chunks.sid[head]!]?.nextSsn ?? 0) !== chunks.ssn[head]) return true;
    if (!this.#sameMessage(a, first, a.cumTsn)) return true; // the whole message will be judged when complete
    const last = a.cumTsn as number;
    const total = this.#chain(a, head, first, last);
    chunks.msglen[head] = total;
    chunks.eor[head] = 0;
    a.pdActive = true;
    if (ep.options.fragmentInterleave === 0) ep.partial = a;
    a.pdHead = head;
    a.pdNext = ((last + 1) | 0) as Tsn;
    a.pdSid = chunks.sid[head]!;
    a.pdOrdered = ordered;
    s.stats.sctps_partialdeliveries++;
    this.#append(a, head);
    return true;
  }

  /** Moves fragments that follow the message in progress to the reader. */
  #continuePartial(a: Association): void {
    const s = this.#s;
    const chunks = s.chunks;
    const ep = a.endpoint;
    while (a.pdActive) {
      const t = a.pdNext as number;
      const x = a.fragments[t & MASK]!;
      if (x === 0 || chunks.tsn[x] !== t || tsnGt(t, a.cumTsn)) return;
      if (
        chunks.sid[x] !== a.pdSid ||
        ((chunks.flags[x]! & DATA_U) === 0) !== a.pdOrdered ||
        (a.pdOrdered && chunks.ssn[x] !== (a.inStreams[a.pdSid]?.nextSsn ?? 0)) ||
        (chunks.flags[x]! & DATA_B) !== 0
      ) {
        abortAssociation(
          s,
          a,
          [cause(CAUSE_PROTOCOL_VIOLATION, textBytes('fragments of one message differ'))],
          reason('a fragment does not continue the message before it', '§6.9'),
        );
        return;
      }
      a.fragments[t & MASK] = 0;
      a.heldBytes -= chunks.len[x]!;
      a.heldChunks--;
      a.pdNext = ((t + 1) | 0) as Tsn;
      const end = (chunks.flags[x]! & DATA_E) !== 0;
      const n = chunks.len[x]!;
      if (a.pdHead !== 0) {
        // The reader has not taken all of what is there: the piece joins it.
        chunks.pool.next[chunks.tail[a.pdHead]!] = x;
        chunks.tail[a.pdHead] = lastOf(chunks.pool.next, x);
        chunks.msglen[a.pdHead]! += n;
        ep.rcvBytes += n;
        a.deliveredBytes += n;
        if (end) chunks.eor[a.pdHead] = 1;
        s.wake(ep);
      } else {
        chunks.msglen[x] = n;
        chunks.tail[x] = lastOf(chunks.pool.next, x);
        chunks.eor[x] = end ? 1 : 0;
        a.pdHead = x;
        this.#append(a, x);
      }
      if (end) this.#endPartial(a);
    }
  }

  #endPartial(a: Association): void {
    a.pdActive = false;
    a.pdHead = 0;
    const sid = a.pdSid;
    if (a.pdOrdered) {
      const st = (a.inStreams[sid] ??= new InStream());
      st.nextSsn = (st.nextSsn + 1) & 0xffff;
    }
    this.release(a);
    if (a.pdOrdered) this.#drain(a, sid);
  }

  /** A delivery in parts has ended: what had to wait for it goes to the reader. */
  release(a: Association): void {
    this.#flushWaiting(a);
    const ep = a.endpoint;
    if (ep.partial !== a) return;
    ep.partial = undefined;
    for (const b of ep.asocs.values()) if (b !== a && !b.pdActive) this.#flushWaiting(b);
  }
  #flushWaiting(a: Association): void {
    const pool = this.#s.chunks.pool;
    for (let m = a.waiting.shift(pool); m !== 0; m = a.waiting.shift(pool)) {
      this.#unhold(a, m);
      this.#append(a, m);
    }
  }
  #drain(a: Association, sid: number): void {
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
    this.#append(a, m);
  }
  #append(a: Association, m: number): void {
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
    const w = this.window(a);
    if (w - a.toldRwnd < a.endpoint.rcvLimit >> 3) return;
    s.stats.sctps_windowupdate++;
    a.sackDue = true;
    s.markDirty(a);
    s.stack.kick(); // a reader outside the loop: nothing else may be under way that would send this soon
  }

  /** After the last chunk of a packet that carried DATA: is a SACK due now, or later (§6.2)? */
  afterPacket(a: Association): void {
    a.packetsSinceSack++;
    a.packetHasTsn = false;
    if (a.sackDue || a.firstData || a.hasGap || a.hadGap || a.sackDelay === 0 || a.packetsSinceSack >= a.sackFreq) {
      a.firstData = false;
      a.hadGap = a.hasGap;
      a.sackDue = true;
    } else if (!a.sackTimer.pending) armSack(this.#s, a);
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

  /** Bytes of the SACK chunk if it is to fit into `room`; 0 = not even without gap blocks. */
  sackSize(a: Association, room: number): number {
    this.#dups = Math.min(a.dups.length, MAX_DUPS);
    this.#gaps = a.hasGap ? this.#findGaps(a) : 0;
    if (SACK_HEADER > room) return 0;
    const fit = (room - SACK_HEADER) >> 2;
    if (this.#gaps > fit) this.#gaps = fit;
    if (this.#gaps + this.#dups > fit) this.#dups = fit - this.#gaps;
    return SACK_HEADER + 4 * (this.#gaps + this.#dups);
  }
  #findGaps(a: Association): number {
    const map = a.tsnMap;
    const span = (a.highestTsn - a.cumTsn) | 0;
    let n = 0;
    for (let i = 1; i <= span && n < this.#gapStart.length; i++) {
      if (map[(a.cumTsn + i) & MASK] !== 1) continue;
      const from = i;
      while (i < span && map[(a.cumTsn + i + 1) & MASK] === 1) i++;
      this.#gapStart[n] = from;
      this.#gapEnd[n] = i;
      n++;
    }
    return n;
  }
  /** Writes the SACK that sackSize has just measured. */
  writeSack(a: Association, o: number, size: number): void {
    const dv = this.#s.chunks.pool.dv;
    const w = this.window(a);
    dv.setUint32(o, (SACK << 24) | size);
    dv.setInt32(o + 4, a.cumTsn);
    dv.setUint32(o + 8, w);
    dv.setUint32(o + 12, (this.#gaps << 16) | this.#dups);
    let at = o + SACK_HEADER;
    for (let i = 0; i < this.#gaps; i++, at += 4) dv.setUint32(at, (this.#gapStart[i]! << 16) | this.#gapEnd[i]!);
    for (let i = 0; i < this.#dups; i++, at += 4) dv.setInt32(at, a.dups[i]!);
    a.dups.length = 0;
    a.toldRwnd = w;
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

/** The last mbuf of a chain. */
function lastOf(next: Int32Array, m: number): number {
  while (next[m] !== 0) m = next[m]!;
  return m;
}
