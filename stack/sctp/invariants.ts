/**
 * For tests: what must hold of an association between two steps, whatever the network does (RFC 9260 §6, §7: flight sizes,
 * queues, TSN map, receive window, T3). Throws an Error that names what does not.
 */

import type { Association } from './association.js';
import { CHUNK_ACKED, CHUNK_RESEND, CHUNK_SENT } from './chunks.js';
import { TSN_MAP_BITS } from './constants.js';
import type { Sctp } from './sctp.js';
import { tsnGe, tsnGt, tsnLe, tsnLt } from './types.js';

function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(`invariant broken: ${what}`);
}
function equal(real: number, told: number, what: string): void {
  must(real === told, `${what}: counted ${real}, kept ${told}`);
}

/** Checks every association of a stack's SCTP; `deep`: also what takes long to count (the rings of the receiver). */
export function checkInvariants(s: Sctp, deep = true): void {
  for (const a of s.associations()) {
    checkSender(s, a);
    if (deep) checkReceiver(s, a);
  }
  for (const ep of s.endpoints) {
    let bytes = 0;
    let n = 0;
    for (let m = ep.rcv.head; m !== 0; m = s.chunks.pool.nextpkt[m]!, n++) {
      must(s.chunks.pool.isLive(m), 'a message in the receive queue was freed');
      bytes += s.chunks.msglen[m]!;
    }
    equal(n, ep.rcv.count, 'messages in the receive queue');
    equal(bytes, ep.rcvBytes, 'bytes in the receive queue');
    const partial = ep.partial;
    must(partial === undefined || (partial.pdActive && partial.endpoint === ep), 'nobody is being delivered in parts');
  }
}

function checkSender(s: Sctp, a: Association): void {
  const c = s.chunks;
  const flight = a.paths.map(() => 0);
  let chunks = 0;
  let resend = 0;
  let bytes = 0;
  let count = 0;
  for (let t = (a.cumAcked + 1) | 0; tsnGt(a.nextTsn, t); t = (t + 1) | 0, count++) {
    const m = a.ring[t & a.ringMask]!;
    must(m !== 0 && c.pool.isLive(m), `TSN ${t >>> 0} is outstanding but its mbuf is gone`);
    equal(c.tsn[m]!, t, 'TSN in the ring');
    bytes += c.len[m]!;
    if (c.state[m] === CHUNK_SENT) {
      flight[c.path[m]!]! += c.len[m]!;
      chunks++;
    } else if (c.state[m] === CHUNK_RESEND) {
      resend++;
      must(tsnGe(t, a.resendFrom), `TSN ${t >>> 0} is to be resent but lies below resendFrom ${a.resendFrom >>> 0}`);
    } else must(c.state[m] === CHUNK_ACKED && tsnLe(t, a.highestAcked), `state ${c.state[m]} of TSN ${t >>> 0}`);
  }
  equal(count, a.outstanding, 'outstanding chunks');
  let pending = 0;
  let pendingBytes = 0;
  for (const st of a.out.each()) {
    let n = 0;
    for (let m = st.queue.head; m !== 0; m = c.pool.nextpkt[m]!, n++) {
      must(c.pool.isLive(m), `a chunk queued on stream ${st.sid} was freed`);
      pendingBytes += c.len[m]!;
    }
    equal(n, st.queue.count, `chunks queued on stream ${st.sid}`);
    must(n === 0 || st.active, `stream ${st.sid} has data but is not active`);
    pending += n;
  }
  equal([...a.out.each()].filter(st => st.openMessage).length, a.out.open, 'streams with an open message');
  equal(pending, a.out.pending, 'chunks not yet sent');
  equal(pendingBytes, a.out.pendingBytes, 'bytes not yet sent');
  equal(bytes + pendingBytes, a.queuedBytes, 'bytes queued');
  equal(count + pending, a.queuedChunks, 'chunks queued');
  equal(chunks, a.flightChunks, 'chunks in flight');
  equal(resend, a.resend, 'chunks to be resent');
  equal(
    flight.reduce((x, y) => x + y, 0),
    a.flight,
    'bytes in flight',
  );
  for (const p of a.paths) {
    equal(flight[p.id]!, p.flight, `bytes in flight on path ${p.id}`);
    must(
      p.t3.pending === p.flight > 0,
      `T3 of path ${p.id} is ${p.t3.pending ? '' : 'not '}running with ${p.flight} bytes in flight`,
    );
    must(p.cwnd >= p.mtu - 12 && p.ssthresh > 0, `cwnd ${p.cwnd}, ssthresh ${p.ssthresh} of path ${p.id}`);
    must(p.rto >= a.rtoMin * 1e6 && p.rto <= a.rtoMax * 1e6, `RTO ${p.rto} of path ${p.id}`);
  }
  must(a.peerRwnd >= 0 && a.outstanding < TSN_MAP_BITS, 'windows');
}

function checkReceiver(s: Sctp, a: Association): void {
  const c = s.chunks;
  must(a.tsnMap.length === 0 ? !a.hasGap : a.tsnMap.length === a.tsnMask + 1, 'size of the TSN map');
  must(tsnLe(a.cumTsn, a.highestTsn), 'cumulative TSN beyond the highest');
  if (!a.hasGap) must(!a.tsnMap.includes(1), 'a TSN is marked although there is no gap');
  else {
    let marked = 0;
    for (const x of a.tsnMap) marked += x;
    let seen = 0;
    for (let t = (a.cumTsn + 1) | 0; tsnLe(t, a.highestTsn); t = (t + 1) | 0) seen += a.tsnMap[t & a.tsnMask]!;
    equal(marked, seen, 'TSNs marked beyond the cumulative one');
  }
  must(
    !a.hasGap || (a.tsnMap[a.highestTsn & a.tsnMask] === 1 && a.tsnMap[(a.cumTsn + 1) & a.tsnMask] === 0),
    'ends of the TSN map',
  );
  let bytes = 0;
  let n = 0;
  const take = (m: number, len: number) => {
    must(c.pool.isLive(m), 'a chunk held back was freed');
    bytes += len;
    n++;
  };
  if (a.heldChunks > 0) for (const m of a.fragments) if (m !== 0) take(m, c.len[m]!);
  for (let m = a.waiting.head; m !== 0; m = c.pool.nextpkt[m]!) take(m, c.msglen[m]!);
  for (const st of a.inStreams) {
    if (st === undefined) continue;
    let held = 0;
    let last = -1;
    for (let m = st.held; m !== 0; m = c.pool.nextpkt[m]!, held++) {
      take(m, c.msglen[m]!);
      must(last < 0 || ((c.ssn[m]! - last) << 16) >> 16 > 0, 'messages held back are not in order');
      last = c.ssn[m]!;
    }
    equal(held, st.heldCount, 'messages held back on a stream');
  }
  equal(n, a.heldChunks, 'chunks held back');
  equal(bytes, a.heldBytes, 'bytes held back');
  must(a.dups.length <= 20, 'duplicates remembered');
  must(tsnLt((a.highestTsn - a.cumTsn) | 0, TSN_MAP_BITS), 'TSN map overrun');
}
