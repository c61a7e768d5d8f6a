/** Packets out of the blue: sound ones that belong to no association (RFC 9260 §8.4). */

import { diagnosis } from './abort.js';
import {
  ABORT,
  CAUSE_STALE_COOKIE,
  COMMON_HEADER,
  COOKIE_ACK,
  ERROR,
  INIT,
  INIT_HEADER,
  pad4,
  SHUTDOWN_ACK,
  SHUTDOWN_COMPLETE,
  T_BIT,
} from './constants.js';
import type { PacketContext } from './input.js';
import { sendPacket } from './packet.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { errorChunk, walkTlvs } from './wire.js';

export type OotbAnswer =
  | { readonly kind: 'silent' | 'abort-reflected' | 'shutdown-complete' }
  | { readonly kind: 'abort-init'; readonly tag: number };

const SILENT: OotbAnswer = { kind: 'silent' };
const COMPLETE: OotbAnswer = { kind: 'shutdown-complete' };
const REFLECT: OotbAnswer = { kind: 'abort-reflected' };

/**
 * The rules of §8.4 as a pure function over the chunks of [off, end) of a packet with verification tag `tag`: 2 it has
 * ABORT: silent; 3 INIT: ABORT with its initiate tag; 5 SHUTDOWN ACK: SHUTDOWN COMPLETE; 6 SHUTDOWN COMPLETE: silent;
 * 7 COOKIE ACK or ERROR "stale cookie": silent; 8 anything else: ABORT with the tag reflected. The first rule that some
 * chunk fits decides. Tag 0 belongs to INIT alone (§8.5.1 A), so without one there is no answer at all.
 */
export function judge(dv: DataView, off: number, end: number, tag: number): OotbAnswer {
  let init: OotbAnswer | undefined;
  let rule = 8;
  for (let o = off; o + 4 <= end; ) {
    const type = dv.getUint8(o);
    const len = dv.getUint16(o + 2);
    if (len < 4 || o + len > end) break;
    switch (type) {
      case ABORT:
        return SILENT;
      case INIT:
        if (len >= INIT_HEADER && tag === 0) init = { kind: 'abort-init', tag: dv.getUint32(o + 4) };
        break;
      case SHUTDOWN_ACK:
        rule = Math.min(rule, 5);
        break;
      case SHUTDOWN_COMPLETE:
        rule = Math.min(rule, 6);
        break;
      case COOKIE_ACK:
        rule = Math.min(rule, 7);
        break;
      case ERROR:
        if (hasStaleCookie(dv, o, len)) rule = Math.min(rule, 7);
        break;
    }
    o += pad4(len);
  }
  if (init !== undefined) return init;
  if (tag === 0 || rule === 6 || rule === 7) return SILENT;
  return rule === 5 ? COMPLETE : REFLECT;
}

function hasStaleCookie(dv: DataView, o: number, len: number): boolean {
  let found = false;
  walkTlvs(dv, o + 4, o + len, t => {
    found ||= t.type === CAUSE_STALE_COOKIE;
    return !found;
  });
  return found;
}

const NOBODY = reason('a packet came for which there is neither an association nor a listener', '§8.4');

/**
 * Answers a packet that nobody expects, or does not, as §8.4 and net.inet.sctp.blackhole say: 1 keeps back ABORTs for
 * INITs, 2 all ABORTs.
 */
export function outOfTheBlue(s: Sctp, p: PacketContext): void {
  s.stats.sctps_ootb++;
  const answer = judge(s.stack.pool.dv, p.off + COMMON_HEADER, p.off + p.len, p.tag);
  const black = s.tunables.blackhole;
  const hushed = answer.kind === 'abort-init' ? black >= 1 : answer.kind === 'abort-reflected' && black >= 2;
  // §8.4 rule 1: only what was sent to an address of ours is answered.
  if (answer.kind === 'silent' || hushed || s.stack.interfaces.ownerOf(p.info.dst) === undefined) {
    s.drop('sctps_ootb_silent');
    return;
  }
  const tag = answer.kind === 'abort-init' ? answer.tag : p.tag;
  const flags = answer.kind === 'abort-init' ? 0 : T_BIT;
  const type = answer.kind === 'shutdown-complete' ? SHUTDOWN_COMPLETE : ABORT;
  if (type === ABORT) s.stats.sctps_ootb_aborts++;
  const causes = type === ABORT ? diagnosis(s, 'Out of the blue') : [];
  sendPacket(s, p.info.dst, p.info.src, p.dstPort, p.srcPort, tag, p.info.udpSrc, 0, [errorChunk(type, flags, causes)]);
  s.report(undefined, 'out-of-the-blue', NOBODY, {
    from: p.info.src.toString(),
    port: p.dstPort,
    answer: answer.kind,
  });
}
