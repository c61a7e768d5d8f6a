/** The abortive end and the disposal of associations (RFC 9260 §9.1). Every end has a reason that reaches the user. */

import { ECONNABORTED, ECONNREFUSED, ECONNRESET, errnoName } from '../kern/errno.js';
import type { Reason } from './api.js';
import type { Association } from './association.js';
import { ABORT, CAUSE_NAMES, CAUSE_USER_ABORT, T_BIT } from './constants.js';
import type { Endpoint } from './endpoint.js';
import { sendOnPath } from './packet.js';
import { reason, reasonText } from './reasons.js';
import type { Sctp } from './sctp.js';
import { failQueued } from './sendfail.js';
import { assocChange } from './setup.js';
import { cause, errorChunk, textBytes } from './wire.js';

/** Sends ABORT with causes and ends the association. `errno`: what the user's next call gives. */
export function abortAssociation(
  s: Sctp,
  a: Association,
  causes: readonly Uint8Array[],
  why: Reason,
  errno: number = ECONNABORTED,
): void {
  if (a.dead) return;
  s.stats.sctps_abortsent++;
  // Before the peer's tag is known ours goes out, reflected (§8.5.1 B, facts part 7.29).
  const known = a.peerTag !== 0;
  const sent = causes.length > 0 && causes[0]!.length > 0 ? causes : diagnosis(s, why.text);
  sendOnPath(s, a.current, known ? a.peerTag : a.myTag, [errorChunk(ABORT, known ? 0 : T_BIT, sent)]);
  const first = causes[0];
  const code = first === undefined || first.length < 4 ? 0 : (first[0]! << 8) | first[1]!;
  endAssociation(s, a, a.established ? 'comm-lost' : 'cant-start', errno, why, reasonText(why), code);
}

/** Words for an ABORT that has no cause of its own, as net.inet.sctp.diag_info_code says: a list of none or one cause. */
export function diagnosis(s: Sctp, text: string): readonly Uint8Array[] {
  const code = s.tunables.diag_info_code;
  return code === 0 ? [] : [cause(code, textBytes(text))];
}

/** The user's ABORT, with an upper-layer reason text (§3.3.10.12). */
export function userAbort(s: Sctp, a: Association, info: Uint8Array): void {
  abortAssociation(s, a, [cause(CAUSE_USER_ABORT, info)], reason('the user has aborted the association', '§9.1'));
}

const decoder = new TextDecoder();
/** Most of the peer's ABORT that the user is given (facts part 2.3). */
const MAX_ABORT = 512;

/** An ABORT has come (§9.1): the tag has been checked. */
export function abortReceived(s: Sctp, a: Association, o: number, len: number): void {
  s.stats.sctps_abortrecv++;
  const pool = s.stack.pool;
  let causeName = '';
  let code = 0;
  let text = 'the peer has sent ABORT without a cause';
  if (len >= 8) {
    code = pool.dv.getUint16(o + 4);
    const n = pool.dv.getUint16(o + 6);
    causeName = CAUSE_NAMES[code] ?? `cause ${code}`;
    const detail =
      n > 4 && n <= len - 4
        ? decoder.decode(pool.u8.slice(o + 8, o + 4 + Math.min(n, 132))).replace(/[^\x20-\x7e]/g, '.')
        : '';
    text = `the peer has sent ABORT: ${causeName}${detail === '' || /^\.*$/.test(detail) ? '' : `: ${detail}`}`;
  }
  const refused = a.state === 'COOKIE_WAIT';
  const why = reason(text, refused ? '§5.1' : '§9.1');
  const chunk = pool.u8.slice(o, o + Math.min(len, MAX_ABORT));
  endAssociation(
    s,
    a,
    a.established ? 'comm-lost' : 'cant-start',
    refused ? ECONNREFUSED : ECONNRESET,
    why,
    causeName,
    code,
    chunk,
  );
}

/** Ends an association at once: user told, everything it holds freed. */
export function endAssociation(
  s: Sctp,
  a: Association,
  state: 'comm-lost' | 'cant-start' | 'shutdown-comp',
  errno: number,
  why: Reason,
  causeName = '',
  causeCode = 0,
  abort?: Uint8Array,
): void {
  if (a.dead) return;
  const ep = a.endpoint;
  a.reason = why;
  if (state === 'shutdown-comp') s.stats.sctps_shutdown++;
  else s.stats.sctps_aborted++;
  if (a.established && s.stats.sctps_currestab > 0) s.stats.sctps_currestab--;
  failQueued(s, a, causeCode);
  // All that has come of it goes before the news of its end, also what waited for the end of another's message.
  endPartialDelivery(s, a);
  s.receiver.release(a);
  s.notify(ep, assocChange(a, state, why, errno, causeName, causeCode, abort));
  const event = state === 'shutdown-comp' ? 'closed' : state === 'comm-lost' ? 'lost' : 'connect-failed';
  s.report(a, event, why, { peer: a.primary.addr.toString(), errno: errno === 0 ? '' : errnoName(errno) });
  if (ep.style === 'one-to-one') {
    ep.ended = true;
    if (ep.so !== undefined && errno !== 0) {
      ep.so.error = errno;
      ep.so.errorReason = reasonText(why);
    }
  }
  dispose(s, a);
  s.wake(ep);
  if (ep.gone) releaseEndpoint(s, ep);
  else if (ep.so === undefined && ep.listener !== undefined) dropUnaccepted(s, ep);
}

/** An association that ended before accept: its endpoint leaves the queue unless there is something to read. */
function dropUnaccepted(s: Sctp, ep: Endpoint): void {
  if (ep.rcv.count > 0) return;
  const q = ep.listener!.acceptQueue;
  const i = q.indexOf(ep);
  if (i >= 0) q.splice(i, 1);
  ep.gone = true;
  releaseEndpoint(s, ep);
}

/** A message delivered in part will not go on: what stands in the receive queue is its end, and the user is told. */
export function endPartialDelivery(s: Sctp, a: Association): void {
  if (!a.pdActive) return;
  if (a.pdHead !== 0) s.chunks.eor[a.pdHead] = 1;
  a.pdActive = false;
  a.pdHead = 0;
  const ssn = a.pdOrdered ? (a.inStreams[a.pdSid]?.nextSsn ?? 0) : 0;
  s.notify(a.endpoint, { type: 'partial-delivery', assocId: a.id, sid: a.pdSid, ssn, indication: 1 });
  s.receiver.release(a);
}

/** Frees what an association holds and takes it out of all tables. */
function dispose(s: Sctp, a: Association): void {
  const w = s.stack.callouts;
  a.stopTimers(w);
  for (const p of a.paths) p.stopTimers(w);
  s.receiver.clear(a);
  s.removeAssociation(a);
  a.state = 'CLOSED';
  a.dead = true;
}

/** A closed socket's endpoint goes when its last association has. */
export function releaseEndpoint(s: Sctp, ep: Endpoint): void {
  if (!ep.gone || ep.asocs.size > 0 || !s.endpoints.has(ep)) return;
  ep.clearReceive(s.chunks);
  if (ep.port !== 0) s.removePort(ep);
  s.endpoints.delete(ep);
}
