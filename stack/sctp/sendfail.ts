/** Messages that will not be delivered: told to the user (RFC 6458 §6.1.4), then freed. */

import type { Association } from './association.js';
import { CHUNK_ACKED, CHUNK_SENT } from './chunks.js';
import type { Sctp } from './sctp.js';
import { tsnGt } from './types.js';

/** Fails everything queued or outstanding on streams that `which` picks. */
export function failQueued(s: Sctp, a: Association, which: (sid: number) => boolean): void {
  const chunks = s.chunks;
  const pool = chunks.pool;
  for (let t = (a.cumAcked + 1) | 0; tsnGt(a.nextTsn, t); t = (t + 1) | 0) {
    const at = t & a.ringMask;
    const m = a.ring[at]!;
    if (m === 0 || !which(chunks.sid[m]!)) continue;
    if (chunks.state[m] === CHUNK_SENT) {
      const p = a.paths[chunks.path[m]!]!;
      p.flight -= chunks.len[m]!;
      a.flight -= chunks.len[m]!;
      a.flightChunks--;
    }
    if (chunks.state[m] !== CHUNK_ACKED) fail(s, a, m, true);
    a.ring[at] = 0;
    a.queuedBytes -= chunks.len[m]!;
    a.queuedChunks--;
    pool.freem(m);
  }
  for (const st of a.out.each()) {
    if (!which(st.sid)) continue;
    for (let m = st.queue.shift(pool); m !== 0; m = st.queue.shift(pool)) {
      a.out.pending--;
      a.out.pendingBytes -= chunks.len[m]!;
      a.queuedBytes -= chunks.len[m]!;
      a.queuedChunks--;
      fail(s, a, m, false);
      pool.freem(m);
    }
  }
  a.out.dropEmpty();
}

function fail(s: Sctp, a: Association, m: number, sent: boolean): void {
  if (!a.endpoint.subscribed.has('send-failed')) return;
  const chunks = s.chunks;
  const data = new Uint8Array(chunks.len[m]!);
  chunks.pool.copyout(m, 0, data.length, data, 0);
  s.notify(a.endpoint, {
    type: 'send-failed',
    assocId: a.id,
    sent,
    sid: chunks.sid[m]!,
    ppid: chunks.ppid[m]!,
    context: chunks.context[m]!,
    flags: chunks.flags[m]!,
    data,
    error: 0,
  });
}
