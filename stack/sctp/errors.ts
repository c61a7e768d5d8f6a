/** ERROR chunks received (RFC 9260 §3.3.10): the stale cookie is acted upon, the rest is told to the user. */

import { MSEC } from '../kern/clock.js';
import { ETIMEDOUT } from '../kern/errno.js';
import type { Association } from './association.js';
import { CAUSE_NAMES, CAUSE_STALE_COOKIE } from './constants.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { sendInit, setupFailed } from './setup.js';
import { markOutstanding } from './timers.js';
import { walkTlvs } from './wire.js';

/** Most of an ERROR chunk that the user is given. */
const MAX_TOLD = 512;

/** ERROR chunk of `len` bytes at `o`. */
export function handleError(s: Sctp, a: Association, o: number, len: number): void {
  s.stats.sctps_errorrecv++;
  const dv = s.stack.pool.dv;
  let first = 0;
  const sound = walkTlvs(dv, o + 4, o + len, t => {
    if (t.type === CAUSE_STALE_COOKIE) staleCookie(s, a, t.len >= 8 ? dv.getUint32(t.off + 4) : 0);
    else {
      first ||= t.type;
      s.report(a, 'remote-error', reason(`the peer reports: ${CAUSE_NAMES[t.type] ?? `cause ${t.type}`}`, '§3.3.10'), {
        cause: t.type,
      });
    }
    return !a.dead;
  });
  if (!sound) s.drop('sctps_badparam', a);
  else if (first !== 0 && !a.dead) {
    // One for the chunk, with the first cause's code, as FreeBSD tells it (RFC 6458 §6.1.3).
    const data = s.stack.pool.u8.slice(o, o + Math.min(len, MAX_TOLD));
    s.notify(a.endpoint, { type: 'remote-error', assocId: a.id, cause: first, data });
  }
}

/** §5.2.6: begin again with an INIT that asks for a longer cookie life, a bounded number of times. */
function staleCookie(s: Sctp, a: Association, stalenessUs: number): void {
  const setup = a.setup;
  if (a.state !== 'COOKIE_ECHOED' || setup?.kind !== 'cookie-echoed') {
    s.drop('sctps_unexpected', a);
    return;
  }
  const tries = setup.staleTries + 1;
  s.stack.callouts.stop(a.t1);
  if (tries > a.maxInitTries) {
    setupFailed(s, a, ETIMEDOUT, 'the peer finds every cookie stale');
    return;
  }
  s.report(a, 'stale-cookie', reason(`the peer finds our cookie stale by ${stalenessUs} µs`, '§5.2.6'));
  // Data that went with the COOKIE ECHO goes again with the next one.
  markOutstanding(s, a);
  for (const p of a.paths) s.stack.callouts.stop(p.t3);
  a.state = 'COOKIE_WAIT';
  a.peerTag = 0 as typeof a.peerTag;
  a.setup = {
    kind: 'cookie-wait',
    tries,
    preservative: Math.min(0xffffffff, Math.ceil((2 * stalenessUs) / 1000) || 1),
    timeoutNs: a.rtoInitial * MSEC,
    path: setup.path,
  };
  sendInit(s, a);
}
