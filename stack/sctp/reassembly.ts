/**
 * Reassembly (RFC 9260 §6.9): fragments by TSN until their message is whole, and the delivery of large messages in parts
 * (RFC 6458 §8.1.21).
 */

import { abortAssociation } from './abort.js';
import type { Association } from './association.js';
import { CAUSE_PROTOCOL_VIOLATION, CHUNK_OVERHEAD, DATA_B, DATA_E, DATA_U, TSN_MAP_BITS } from './constants.js';
import { reason } from './reasons.js';
import type { TsnReceiver } from './receive.js';
import type { Sctp } from './sctp.js';
import { type Tsn, tsnGe, tsnGt } from './types.js';
import { cause, textBytes } from './wire.js';

export class Reassembly {
  readonly #s: Sctp;
  readonly #receiver: TsnReceiver;

  constructor(s: Sctp, receiver: TsnReceiver) {
    this.#s = s;
    this.#receiver = receiver;
  }

  /** True when there is a place for the fragment with TSN t: another may hold it that came TSN_MAP_BITS TSNs ago. */
  room(a: Association, t: number): boolean {
    if (a.fragments.length === 0 || a.fragments[t & a.fragmentMask] !== 0) a.growFragments(t, this.#s.chunks.tsn);
    return a.fragments[t & a.fragmentMask] === 0;
  }

  /** A fragment (there is room): kept by TSN until its message is whole (§6.9), or appended to a delivery in progress. */
  fragment(a: Association, m: number, t: number): boolean {
    const s = this.#s;
    const chunks = s.chunks;
    const ring = a.fragments;
    const mask = a.fragmentMask;
    ring[t & mask] = m;
    a.heldBytes += chunks.len[m]!;
    a.heldChunks++;
    if (a.pdActive) {
      this.#continuePartial(a);
      if (a.dead) return false;
      // A fragment that is not of the message in progress goes on below.
      if (ring[t & mask] !== m) return true;
    }
    // Forward to the end: the common case (more to come) stops at the first step.
    let last = t;
    while ((chunks.flags[ring[last & mask]!]! & DATA_E) === 0) {
      const next = (last + 1) | 0;
      const x = ring[next & mask]!;
      if (x === 0 || chunks.tsn[x] !== next || (chunks.flags[x]! & DATA_B) !== 0) {
        return this.maybePartial(a);
      }
      last = next;
    }
    let first = t;
    while ((chunks.flags[ring[first & mask]!]! & DATA_B) === 0) {
      const prev = (first - 1) | 0;
      const x = ring[prev & mask]!;
      if (x === 0 || chunks.tsn[x] !== prev || (chunks.flags[x]! & DATA_E) !== 0) return true;
      first = prev;
    }
    return this.#assemble(a, first, last);
  }

  /** All fragments from first to last are here: chains them into one message. */
  #assemble(a: Association, first: number, last: number): boolean {
    const s = this.#s;
    const chunks = s.chunks;
    const head = a.fragments[first & a.fragmentMask]!;
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
    return this.#receiver.complete(a, head);
  }

  #sameMessage(a: Association, first: number, last: number): boolean {
    const chunks = this.#s.chunks;
    const head = a.fragments[first & a.fragmentMask]!;
    for (let t = (first + 1) | 0; tsnGe(last, t); t = (t + 1) | 0) {
      const x = a.fragments[t & a.fragmentMask]!;
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
      const x = a.fragments[t & a.fragmentMask]!;
      a.fragments[t & a.fragmentMask] = 0;
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
  maybePartial(a: Association): boolean {
    const s = this.#s;
    const ep = a.endpoint;
    // With the overhead that the window counts too: small fragments fill it before their bytes fill half the buffer.
    const held = a.heldBytes + a.heldChunks * CHUNK_OVERHEAD;
    const full = held >= ep.rcvLimit >> 1 || a.heldChunks >= TSN_MAP_BITS >> 1;
    const point = ep.options.partialDeliveryPoint ?? Number.MAX_SAFE_INTEGER;
    if (a.pdActive || a.fragments.length === 0 || (!full && a.heldBytes < point)) return true;
    if (ep.partial !== undefined) return true; // level 0: another association's turn
    const chunks = s.chunks;
    // The run that ends at the cumulative TSN is complete from its B on.
    let first = a.cumTsn as number;
    let part = 0;
    for (;;) {
      const x = a.fragments[first & a.fragmentMask]!;
      if (x === 0 || chunks.tsn[x] !== first) return true;
      if ((chunks.flags[x]! & DATA_E) !== 0) return true;
      part += chunks.len[x]!;
      if ((chunks.flags[x]! & DATA_B) !== 0) break;
      first = (first - 1) | 0;
    }
    if (!full && part < point) return true;
    const head = a.fragments[first & a.fragmentMask]!;
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
    this.#receiver.append(a, head);
    return true;
  }

  /** Moves fragments that follow the message in progress to the reader. */
  #continuePartial(a: Association): void {
    const s = this.#s;
    const chunks = s.chunks;
    const ep = a.endpoint;
    while (a.pdActive) {
      const t = a.pdNext as number;
      const x = a.fragments[t & a.fragmentMask]!;
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
      a.fragments[t & a.fragmentMask] = 0;
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
        this.#receiver.append(a, x);
      }
      if (end) this.#endPartial(a);
    }
  }

  #endPartial(a: Association): void {
    a.pdActive = false;
    a.pdHead = 0;
    const sid = a.pdSid;
    if (a.pdOrdered) {
      const st = a.inStream(sid);
      st.nextSsn = (st.nextSsn + 1) & 0xffff;
    }
    this.#receiver.release(a);
    if (a.pdOrdered) this.#receiver.drain(a, sid);
    this.maybePartial(a); // what has come of the next message meanwhile may fill the window
  }
}

/** The last mbuf of a chain. */
export function lastOf(next: Int32Array, m: number): number {
  while (next[m] !== 0) m = next[m]!;
  return m;
}
