/**
 * A packet received: checks of the common header, the association or endpoint it belongs to, and its chunks in order
 * (RFC 9260 §6.8, §6.10, §8.5; unknown chunks §3.2). Packets that belong to nobody go to ootb.ts.
 */

import { CSUM_SCTP_BAD, CSUM_SCTP_OK, M_LOOP } from '../kern/mbuf.js';
import type { IpInfo } from '../kern/protosw.js';
import { abortAssociation, abortReceived } from './abort.js';
import { handleSack } from './acknowledge.js';
import type { Association } from './association.js';
import {
  ABORT,
  CAUSE_PROTOCOL_VIOLATION,
  CAUSE_UNRECOGNIZED_CHUNK,
  COMMON_HEADER,
  COOKIE_ACK,
  COOKIE_ECHO,
  CWR,
  DATA,
  ECNE,
  ERROR,
  HEARTBEAT,
  HEARTBEAT_ACK,
  INIT,
  INIT_ACK,
  INIT_HEADER,
  pad4,
  SACK,
  SHUTDOWN,
  SHUTDOWN_ACK,
  SHUTDOWN_COMPLETE,
  T_BIT,
} from './constants.js';
import { handleCookieEcho } from './cookieecho.js';
import { handleCwr, handleEcne, markedPacket } from './ecn.js';
import { handleError } from './errors.js';
import { handleHeartbeat, handleHeartbeatAck } from './heartbeat.js';
import { outOfTheBlue } from './ootb.js';
import { queueControl } from './output.js';
import type { Path } from './path.js';
import { reason } from './reasons.js';
import type { Sctp } from './sctp.js';
import { associationOfInit, handleCookieAck, handleInit, handleInitAck } from './setup.js';
import { handleShutdown, handleShutdownAck, handleShutdownComplete } from './shutdown.js';
import { steerElsewhere } from './steer.js';
import { cause, errorChunk, textBytes } from './wire.js';

/** The packet being processed: one instance, so that handlers need few arguments. */
export class PacketContext {
  /** Region offset and length of the packet, common header included. */
  off = 0;
  len = 0;
  srcPort = 0;
  dstPort = 0;
  tag = 0;
  info!: IpInfo;
  /** The mbuf's checksum flags. */
  csum = 0;
  /** The packets come from or go to an address that none of SCTP's can (§8.4). */
  badAddress = false;
  /** Whose the packet before in the same mbuf was, if it began with DATA or SACK: the next one is most likely the same's. */
  asoc: Association | undefined;
  /** The path whose address the packet came from. */
  from: Path | undefined;
}
const ctx = new PacketContext();

/** Before the packets of an mbuf, one or a train: what holds for all of them is looked at once. */
export function beginInput(info: IpInfo, csum: number): void {
  const { src, dst } = info;
  ctx.info = info;
  ctx.csum = csum;
  ctx.asoc = undefined;
  ctx.badAddress = src.isMulticast || src.isBroadcast || src.isUnspecified || dst.isMulticast || dst.isBroadcast;
}

/**
 * Verifies and processes one packet of `len` bytes at region offset `off`, after `beginInput`; the mbuf stays the caller's.
 */
export function inputPacket(s: Sctp, off: number, len: number): void {
  const st = s.stats;
  st.sctps_inpackets++;
  if (len < COMMON_HEADER + 4) {
    s.drop('sctps_hdrops');
    return;
  }
  const { pool } = s.stack;
  const p = ctx;
  if ((p.csum & CSUM_SCTP_OK) === 0 && !checksumGood(s, p.csum, off, len)) {
    s.drop('sctps_checksumerrors');
    return;
  }
  const { dv } = pool;
  const ports = dv.getUint32(off);
  const tag = dv.getUint32(off + 4);
  const type = pool.u8[off + COMMON_HEADER]!;
  const usual = type === DATA || type === SACK;
  p.off = off;
  p.len = len;
  const before = p.asoc;
  if (
    usual &&
    before !== undefined &&
    p.tag === tag &&
    before.myTag === tag &&
    ports === ((p.srcPort << 16) | p.dstPort) >>> 0 &&
    !before.dead
  ) {
    accept(s, before, p);
    return;
  }
  p.srcPort = ports >>> 16;
  p.dstPort = ports & 0xffff;
  p.tag = tag;
  p.from = undefined;
  p.asoc = undefined;
  if (p.srcPort === 0 || p.dstPort === 0) {
    s.drop('sctps_badport');
    return;
  }
  if (p.badAddress) {
    s.drop('sctps_badsrc');
    return;
  }
  const a = find(s, p);
  if (a === undefined) {
    if (!steerElsewhere(s, p)) withoutAssociation(s, p);
    return;
  }
  if (usual && a.myTag === tag) p.asoc = a;
  accept(s, a, p);
}

/** A packet that is an association's by its addresses and ports. */
function accept(s: Sctp, a: Association, p: PacketContext): void {
  s.stats.sctps_indatagrams++;
  a.burst++;
  if (!tagGood(s, a, p)) return;
  if (a.sackDue && a.dirty) s.receiver.beforePacket(a);
  learnEncapsulation(a, p);
  chunks(s, a, p);
}

/** The CRC32c of a packet that the card has not found good (§6.8). */
function checksumGood(s: Sctp, csum: number, off: number, len: number): boolean {
  if ((csum & CSUM_SCTP_BAD) !== 0) return false;
  if ((csum & M_LOOP) !== 0 && s.tunables.loopback_nocsum === 1) return true;
  const dv = s.stack.pool.dv;
  const told = dv.getUint32(off + 8, true);
  dv.setUint32(off + 8, 0);
  const real = s.crc32c(s.stack.pool.u8, off, len);
  dv.setUint32(off + 8, told, true);
  return told === real;
}

/** By our tag first (one look-up, then ports and address are checked), else by the sender's address. */
function find(s: Sctp, p: PacketContext): Association | undefined {
  const a = s.byTag(p.tag);
  const src = p.info.src;
  if (a !== undefined && a.localPort === p.dstPort && a.peerPort === p.srcPort) {
    const paths = a.paths;
    for (let i = 0; i < paths.length; i++) {
      if (paths[i]!.addr.equals(src)) {
        p.from = paths[i];
        return a;
      }
    }
  }
  const path = s.byAddress(src, p.info.dst, p.dstPort, p.srcPort);
  p.from = path;
  // COOKIE-WAIT: the INIT ACK may come from an address we do not know yet (§5.1.2); the tag says whose it is.
  if (
    path === undefined &&
    a !== undefined &&
    a.state === 'COOKIE_WAIT' &&
    a.localPort === p.dstPort &&
    a.peerPort === p.srcPort
  )
    return a;
  return path?.asoc;
}

/** The tag rules of §8.5 and §8.5.1 by the first chunk's type; false = drop the packet. */
function tagGood(s: Sctp, a: Association, p: PacketContext): boolean {
  const u8 = s.stack.pool.u8;
  const first = u8[p.off + COMMON_HEADER]!;
  const reflected = (u8[p.off + COMMON_HEADER + 1]! & T_BIT) !== 0;
  switch (first) {
    case INIT:
      return true; // initAlone checks
    case COOKIE_ECHO:
      return true; // the cookie itself is checked (§5.2.4)
    case ABORT:
    case SHUTDOWN_COMPLETE:
      return endsTagged(s, a, p, reflected);
    case SHUTDOWN_ACK:
      if (a.state === 'COOKIE_WAIT' || a.state === 'COOKIE_ECHOED') {
        outOfTheBlue(s, p); // §8.5.1 E
        return false;
      }
      if (p.tag === a.myTag) return true;
      break;
    default:
      if (p.tag === a.myTag) return true;
  }
  s.drop('sctps_badvtag', a);
  return false;
}

/** §8.5.1 B and C: ABORT and SHUTDOWN COMPLETE carry our tag, or with the T bit the peer's own, reflected. */
function endsTagged(s: Sctp, a: Association, p: PacketContext, reflected: boolean): boolean {
  if (reflected ? p.tag === a.peerTag && a.peerTag !== 0 : p.tag === a.myTag) return true;
  s.drop('sctps_badvtag', a);
  return false;
}

/** RFC 6951 §5.4: the peer's UDP port is learnt from its packets (INITs excepted: they prove nothing). */
function learnEncapsulation(a: Association, p: PacketContext): void {
  const from = p.from;
  if (from === undefined || from.encapsPort === p.info.udpSrc || p.tag === 0 || p.tag !== a.myTag) return;
  from.encapsPort = p.info.udpSrc;
}

/** No association: an INIT or COOKIE ECHO for a listener, or out of the blue. */
function withoutAssociation(s: Sctp, p: PacketContext): void {
  const dv = s.stack.pool.dv;
  const o = p.off + COMMON_HEADER;
  const type = s.stack.pool.u8[o]!;
  const len = dv.getUint16(o + 2);
  if (type === INIT) {
    if (!initAlone(s, p, o, len)) return;
    // §5.1.2: an address that the INIT lists may name the association that its source does not.
    const known = associationOfInit(s, dv, o, len, p.info.dst, p.dstPort, p.srcPort);
    const ep = known?.endpoint ?? s.listenerFor(p.info.dst, p.dstPort);
    if (ep === undefined) outOfTheBlue(s, p);
    else handleInit(s, known, ep, p, o, len);
    return;
  }
  if (type === COOKIE_ECHO && len >= 4 && o + len <= p.off + p.len) {
    const a = handleCookieEcho(s, undefined, s.listenerFor(p.info.dst, p.dstPort), p, o, len);
    // What was bundled behind the cookie belongs to the new association (§5.1 D).
    if (a !== undefined) chunks(s, a, p, o + pad4(len));
    return;
  }
  outOfTheBlue(s, p);
}

/** §8.5.1 A and §6.10: an INIT has tag 0 and is alone in its packet. */
function initAlone(s: Sctp, p: PacketContext, o: number, len: number): boolean {
  if (
    p.tag !== 0 ||
    len < INIT_HEADER ||
    o + len > p.off + p.len ||
    o + pad4(len) < p.off + p.len ||
    s.stack.pool.dv.getUint32(o + 4) === 0
  ) {
    s.drop('sctps_badinit');
    return false;
  }
  return true;
}

/** All chunks of a packet from `start` on: control first, DATA behind (§6.10). */
function chunks(s: Sctp, a: Association, p: PacketContext, start = p.off + COMMON_HEADER): void {
  const dv = s.stack.pool.dv;
  const u8 = s.stack.pool.u8;
  const end = p.off + p.len;
  let sawData = false;
  for (let o = start; o < end; ) {
    const type = u8[o]!;
    const len = o + 4 <= end ? dv.getUint16(o + 2) : 0;
    if (len < 4 || o + len > end) {
      s.drop('sctps_badchunklen', a);
      break;
    }
    if (type === DATA) {
      if (!acceptsData(s, a)) s.drop('sctps_datadropstate', a);
      else {
        sawData = true;
        if (!s.receiver.data(a, o, len, p.from)) return;
      }
    } else {
      if (sawData && type <= SHUTDOWN_COMPLETE) {
        abortAssociation(
          s,
          a,
          [cause(CAUSE_PROTOCOL_VIOLATION, textBytes('control chunk behind DATA'))],
          reason('a control chunk stood behind DATA in a packet', '§6.10'),
        );
        return;
      }
      s.stats.sctps_incontrolchunks++;
      if (!control(s, a, p, type, o, len) || a.dead) break;
    }
    o += pad4(len);
  }
  if (a.dead) return;
  if (sawData) {
    if ((p.info.tos & 3) === 3 && a.ecn) markedPacket(s, a);
    a.lastActive = s.now;
    dataReceived(s, a);
  }
  s.markDirty(a);
}

/** DATA is taken in these states (§6); in COOKIE-ECHOED it also proves that the peer has the cookie (§5.1). */
function acceptsData(s: Sctp, a: Association): boolean {
  if (a.state === 'COOKIE_ECHOED') handleCookieAck(s, a);
  return a.state === 'ESTABLISHED' || a.state === 'SHUTDOWN_PENDING' || a.state === 'SHUTDOWN_SENT';
}

/** After a packet with DATA: SACK by the rules, or SHUTDOWN again when ours is out (§9.2). */
function dataReceived(s: Sctp, a: Association): void {
  s.receiver.afterPacket(a);
  if (a.state === 'SHUTDOWN_SENT') {
    a.sackDue = a.hasGap || a.dups.length > 0;
    if (!a.sackDue) {
      a.packetsSinceSack = 0;
      s.stack.callouts.stop(a.sackTimer);
    }
    a.shutdownAgain = true;
  }
}

/** One control chunk. Returns false when the rest of the packet is not to be looked at. */
function control(s: Sctp, a: Association, p: PacketContext, type: number, o: number, len: number): boolean {
  switch (type) {
    case INIT:
      if (initAlone(s, p, o, len)) handleInit(s, a, a.endpoint, p, o, len);
      return false;
    case INIT_ACK:
      handleInitAck(s, a, p, o, len);
      return false;
    case SACK:
      impliedCookieAck(s, a);
      if (!a.established || a.state === 'SHUTDOWN_ACK_SENT') s.drop('sctps_unexpected', a);
      else handleSack(s, a, o, len);
      return !a.dead;
    case HEARTBEAT:
      impliedCookieAck(s, a);
      handleHeartbeat(s, a, p, o, len);
      return true;
    case HEARTBEAT_ACK:
      handleHeartbeatAck(s, a, o, len);
      return true;
    case ABORT:
      if (endsTagged(s, a, p, (s.stack.pool.u8[o + 1]! & T_BIT) !== 0)) abortReceived(s, a, o, len);
      return false;
    case SHUTDOWN:
      handleShutdown(s, a, o, len);
      return !a.dead;
    case SHUTDOWN_ACK:
      handleShutdownAck(s, a, p);
      return false;
    case ERROR:
      handleError(s, a, o, len);
      return !a.dead;
    case COOKIE_ECHO:
      return handleCookieEcho(s, a, a.endpoint, p, o, len) === a && !a.dead;
    case COOKIE_ACK:
      handleCookieAck(s, a);
      return true;
    case ECNE:
      handleEcne(s, a, o, len);
      return true;
    case CWR:
      handleCwr(s, a, o, len);
      return true;
    case SHUTDOWN_COMPLETE:
      // §6.10: it is alone in its packet; one that is not does not count (as FreeBSD).
      if (o !== p.off + COMMON_HEADER || o + pad4(len) < p.off + p.len) s.drop('sctps_unexpected', a);
      else if (endsTagged(s, a, p, (s.stack.pool.u8[o + 1]! & T_BIT) !== 0)) handleShutdownComplete(s, a);
      return false;
    default:
      // (extension chunks attach here)
      return unknownChunk(s, a, p, type, o, len);
  }
}

function impliedCookieAck(s: Sctp, a: Association): void {
  if (a.state === 'COOKIE_ECHOED') handleCookieAck(s, a);
}

/** §3.2: the highest bits of an unknown type say whether to go on (10, 11) and whether to report (01, 11). */
function unknownChunk(s: Sctp, a: Association, p: PacketContext, type: number, o: number, len: number): boolean {
  s.drop('sctps_unknownchunk', a);
  if ((type & 0x40) !== 0 && a.state !== 'COOKIE_WAIT') {
    // §3.3.10.6: the chunk goes back whole, with its padding as FreeBSD sends it and as its length is then read; if it fills
    // the packet it came in, what an ERROR around it has no room for stays away.
    const most = a.current.chunkRoom - 8;
    const bytes = s.stack.pool.u8.slice(o, Math.min(o + pad4(len), p.off + p.len, o + most));
    queueControl(s, a, errorChunk(ERROR, 0, [cause(CAUSE_UNRECOGNIZED_CHUNK, bytes)]));
    s.stats.sctps_errorsent++;
  }
  return (type & 0x80) !== 0;
}
