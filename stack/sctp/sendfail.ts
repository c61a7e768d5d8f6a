/** Messages that will not be delivered: told to the user (RFC 6458 §6.1.4), then freed. */

import type { Association } from './association.js';
import { CHUNK_ACKED, CHUNK_RESEND, CHUNK_SENT } from './chunks.js';
import type { Sctp } from './sctp.js';
import { tsnGt } from './types.js';

/** Fails everything outstanding and queued: the association ends, or begins anew (§5.2.4.1). */
export function failQueued(s: Sctp, a: Association, causeCode = 0): void {
  const chunks = s.chunks;
  for (let t = (a.cumAcked + 1) | 0; tsnGt(a.nextTsn, t); t = (t + 1) | 0) {
    const at = t & a.ringMask;
    const m = a.ring[at]!;
    if (m === 0) continue;
    const p = a.paths[chunks.path[m]!]!;
    const state = chunks.state[m];
    if (state === CHUNK_SENT) {
      p.flight -= chunks.len[m]!;
      a.flight -= chunks.len[m]!;
      a.flightChunks--;
    } else if (state === CHUNK_RESEND) a.resend--;
    if (chunks.timed[m] === 1) p.rttWanted = true;
    a.ring[at] = 0;
    drop(s, a, m, state !== CHUNK_ACKED, true, causeCode);
  }
  failUnsent(s, a, () => true, causeCode);
}

/**
 * Fails what is queued on the streams that `which` picks and has no TSN yet. What has one stays: the peer must get every
 * TSN.
 */
export function failUnsent(s: Sctp, a: Association, which: (sid: number) => boolean, causeCode = 0): void {
  const chunks = s.chunks;
  for (const st of a.out.each()) {
    if (!which(st.sid)) continue;
    for (let m = st.queue.shift(chunks.pool); m !== 0; m = st.queue.shift(chunks.pool)) {
      a.out.pending--;
      a.out.pendingBytes -= chunks.len[m]!;
      drop(s, a, m, true, false, causeCode);
    }
    a.out.setOpen(st, false);
  }
  a.out.dropEmpty();
}

function drop(s: Sctp, a: Association, m: number, tell: boolean, sent: boolean, causeCode: number): void {
  if (tell) notify(s, a, m, sent, causeCode);
  a.queuedBytes -= s.chunks.len[m]!;
  a.queuedChunks--;
  s.chunks.pool.freem(m);
}

/** One notification per chunk, in the newer of the two forms that the user has asked for (RFC 6458 §6.1.11, §6.1.4). */
function notify(s: Sctp, a: Association, m: number, sent: boolean, causeCode: number): void {
  const newer = a.subscribed.has('send-failed');
  if (!newer && !a.subscribed.has('send-failed-deprecated')) return;
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
    error: causeCode,
    ...(newer ? {} : { deprecated: true }),
  });
}
