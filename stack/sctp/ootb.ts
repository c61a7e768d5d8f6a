/** Packets out of the blue: sound ones that belong to no association (RFC 9260 §8.4). */

import {
  ABORT,
  CAUSE_STALE_COOKIE,
  COMMON_HEADER,
  COOKIE_ACK,
  ERROR,
  INIT,
  INIT_ACK,
  INIT_HEADER,
  pad4,
  SHUTDOWN_ACK,
  SHUTDOWN_COMPLETE,
  T_BIT,
} from './constants.js';
import type { PacketContext } from './input.js';
import { sendPacket } from './packet.js';
import { abortText } from './reasons.js';
import type { Sctp } from './sctp.js';
import { errorChunk } from './wire.js';

export type OotbAnswer =
  | { readonly kind: 'silent' | 'abort-reflected' | 'shutdown-complete' }
  | { readonly kind: 'abort-init'; readonly tag: number };

/**
 * The rules of §8.4 as a pure function over the chunks of [off, end): 1 and 2 the packet has ABORT: silent; 3 INIT: ABORT
 * with its initiate tag; 5 SHUTDOWN ACK: SHUTDOWN COMPLETE; 6 SHUTDOWN COMPLETE, 7 COOKIE ACK or stale cookie: silent;
 * 8 anything else: ABORT with the tag reflected. Only the first chunk counts for 3 to 7, any for ABORT.
 */
export function judge(dv: DataView, off: number, end: number): OotbAnswer {
  let answer: OotbAnswer = { kind: 'abort-reflected' };
  let first = true;
  for (let o = off; o + 4 <= end; ) {
    const type = dv.getUint8(o);
    const len = dv.getUint16(o + 2);
    if (len < 4 || o + len > end) break;
    switch (type) {
      case ABORT:
      case SHUTDOWN_COMPLETE:
        return { kind: 'silent' };
      case COOKIE_ACK:
        if (first) return { kind: 'silent' };
        break;
      case ERROR:
        if (len >= 8 && dv.getUint16(o + 4) === CAUSE_STALE_COOKIE) return { kind: 'silent' };
        break;
      case SHUTDOWN_ACK:
        if (first) answer = { kind: 'shutdown-complete' };
        break;
      case INIT:
      case INIT_ACK:
        if (len >= INIT_HEADER) answer = { kind: 'abort-init', tag: dv.getUint32(o + 4) };
        break;
    }
    first = false;
    o += pad4(len);
  }
  return answer;
}

/** Answers a packet that nobody expects, or does not, as §8.4 and net.inet.sctp.blackhole say. */
export function outOfTheBlue(s: Sctp, p: PacketContext): void {
  s.stats.sctps_ootb++;
  const answer = judge(s.stack.pool.dv, p.off + COMMON_HEADER, p.off + p.len);
  const black = s.tunables.blackhole;
  if (answer.kind === 'silent' || black >= 2 || (black === 1 && answer.kind === 'abort-init')) {
    s.stats.sctps_ootb_silent++;
    return;
  }
  if (s.stack.interfaces.ownerOf(p.info.dst) === undefined) {
    s.stats.sctps_ootb_silent++;
    return;
  }
  const send = (tag: number, chunk: Uint8Array) =>
    sendPacket(s, p.info.dst, p.info.src, p.dstPort, p.srcPort, tag, p.info.udpSrc, 0, [chunk]);
  if (answer.kind === 'shutdown-complete') send(p.tag, errorChunk(SHUTDOWN_COMPLETE, T_BIT, []));
  else {
    s.stats.sctps_ootb_aborts++;
    if (answer.kind === 'abort-init') send(answer.tag, errorChunk(ABORT, 0, []));
    else send(p.tag, errorChunk(ABORT, T_BIT, []));
  }
  s.report(undefined, 'out-of-the-blue', abortText, {
    from: p.info.src.toString(),
    port: p.dstPort,
    answer: answer.kind,
  });
}
