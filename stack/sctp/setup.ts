/**
 * Setting up an association: INIT, INIT ACK and COOKIE ACK (RFC 9260 §5.1, §5.2.1 to §5.2.3, §5.2.5). COOKIE ECHO is in
 * cookieecho.ts.
 */

import { MSEC } from '../kern/clock.js';
import { ECONNREFUSED } from '../kern/errno.js';
import { InAddr } from '../netinet/in.js';
import { abortAssociation, endAssociation } from './abort.js';
import { type InitMsg, type Notification, SCTP_ASSOC_SUPPORTS_MULTIBUF } from './api.js';
import { Association } from './association.js';
import { CC_MODULES, rfc9260 } from './congestion.js';
import {
  ABORT,
  CAUSE_INVALID_PARAM,
  CAUSE_MISSING_PARAM,
  CAUSE_OUT_OF_RESOURCE,
  CAUSE_RESTART_NEW_ADDR,
  CAUSE_UNRECOGNIZED_PARAMS,
  COMMON_HEADER,
  ERROR,
  INIT,
  INIT_ACK,
  INIT_HEADER,
  MIN_RWND,
  PARAM_IPV4,
  PARAM_IPV6,
  PARAM_STATE_COOKIE,
  pad4,
  SHUTDOWN_ACK,
} from './constants.js';
import type { Endpoint } from './endpoint.js';
import { buildInit, type InitInfo, MAX_INIT, parseInit } from './init.js';
import type { PacketContext } from './input.js';
import { queueControl } from './output.js';
import { sendOnPath, sendPacket } from './packet.js';
import type { Path } from './path.js';
import { addPath, confirmPath, findPath, listAddresses, startHeartbeats } from './paths.js';
import { reason, reasonText } from './reasons.js';
import type { Sctp } from './sctp.js';
import { failUnsent } from './sendfail.js';
import { startShutdown } from './shutdown.js';
import { roundRobin } from './streams.js';
import { armAutoclose, armT1, measureRtt } from './timers.js';
import { type Tsn, tsn, type Vtag } from './types.js';
import { ByteWriter, cause, EMPTY, errorChunk, walkTlvs } from './wire.js';

/** A new association on an endpoint, not yet in any table. */
export function newAssociation(
  s: Sctp,
  ep: Endpoint,
  localPort: number,
  peerPort: number,
  tag: Vtag,
  initialTsn: Tsn,
): Association {
  const cc = CC_MODULES[ep.options.ccModule] ?? rfc9260;
  return new Association(ep, ep.newId(), localPort, peerPort, tag, initialTsn, cc, roundRobin, s.timers);
}

/** The first TSN of an association: random, unless the user counts for a test (SCTP_SET_INITIAL_DBG_SEQ). */
function initialTsn(s: Sctp, ep: Endpoint): Tsn {
  const o = ep.options;
  if (o.debugTsn === 0) return tsn(s.stack.random.u32());
  const t = o.debugTsn;
  o.debugTsn = (t + 1) >>> 0;
  return tsn(t);
}

/**
 * Begins an association with a peer at one or more addresses (§5.1 A): sends INIT, unless it is `delayed` to sendDelayedInit
 * (or RTO.Initial). `init`: what differs from the endpoint's SCTP_INITMSG; 0 does not.
 */
export function startAssociation(
  s: Sctp,
  ep: Endpoint,
  addrs: readonly InAddr[],
  port: number,
  init?: InitMsg,
  delayed = false,
): Association {
  const a = newAssociation(s, ep, ep.port, port, s.newTag(), initialTsn(s, ep));
  if (init !== undefined) {
    if (init.numOstreams > 0) a.outStreamCount = init.numOstreams;
    if (init.maxInstreams > 0) a.maxInStreams = init.maxInstreams;
    if (init.maxAttempts > 0) a.maxInitTries = init.maxAttempts;
    if (init.maxInitTimeo > 0) a.maxInitTimeo = init.maxInitTimeo;
  }
  s.addAssociation(a);
  for (const addr of addrs) addPath(s, a, addr, ep.options.encapsPort);
  a.primary = a.current = a.paths[0]!;
  for (const p of a.paths) confirmPath(s, p, false); // §5.4 rule 1: the user has named them
  a.state = 'COOKIE_WAIT';
  a.setup = {
    kind: 'cookie-wait',
    tries: 0,
    preservative: 0,
    timeoutNs: a.rtoInitial * MSEC,
    path: a.primary,
    delayed,
  };
  if (delayed) armT1(s, a, a.setup.timeoutNs);
  else sendInit(s, a);
  return a;
}

/** The INIT that was held back goes out now. False: there is none. */
export function sendDelayedInit(s: Sctp, a: Association): boolean {
  if (a.setup?.kind !== 'cookie-wait' || a.setup.delayed !== true) return false;
  a.setup.delayed = false;
  sendInit(s, a);
  return true;
}

function ownRwnd(ep: Endpoint): number {
  return Math.max(ep.rcvLimit, MIN_RWND);
}

/** Sends (again) the INIT of an association in COOKIE-WAIT and starts T1. */
export function sendInit(s: Sctp, a: Association): void {
  const setup = a.setup;
  if (setup?.kind !== 'cookie-wait') return;
  const ep = a.endpoint;
  const p = setup.path;
  a.localAddresses = listAddresses(s, ep, p.addr);
  const chunk = buildInit({
    type: INIT,
    tag: a.myTag,
    rwnd: ownRwnd(ep),
    outStreams: a.outStreamCount,
    inStreams: a.maxInStreams,
    tsn: a.initialTsn,
    ecn: a.ecnWanted,
    preservative: setup.preservative,
    families: { v4: ep.family === 4 || !ep.v6only, v6: ep.family === 6 },
    addresses: a.localAddresses.length > 1 ? a.localAddresses : [],
  });
  sendOnPath(s, p, 0, [chunk]);
  p.hbSentAt = s.now;
  armT1(s, a, setup.timeoutNs);
}

/** An ABORT in answer to a packet, outside any association. */
export function refuse(
  s: Sctp,
  p: PacketContext,
  tag: number,
  causes: readonly Uint8Array[],
  text: string,
  section: string,
): void {
  s.stats.sctps_abortsent++;
  sendPacket(s, p.info.dst, p.info.src, p.dstPort, p.srcPort, tag, p.info.udpSrc, 0, [errorChunk(ABORT, 0, causes)]);
  s.report(undefined, 'init-refused', reason(text, section), { from: p.info.src.toString(), port: p.dstPort });
}

/**
 * The association that an INIT of `len` bytes at `o` belongs to by one of the addresses it lists (§5.1.2), if any. `dst` is
 * our address that it was sent to.
 */
export function associationOfInit(
  s: Sctp,
  dv: DataView,
  o: number,
  len: number,
  dst: InAddr,
  localPort: number,
  peerPort: number,
): Association | undefined {
  const addr = new InAddr();
  let found: Association | undefined;
  let left = s.tunables.max_held_addresses;
  walkTlvs(dv, o + INIT_HEADER, o + len, t => {
    if (t.type === PARAM_IPV4 && t.len === 8) addr.read4(dv, t.off + 4);
    else if (t.type === PARAM_IPV6 && t.len === 20) addr.read6(dv, t.off + 4);
    else return true;
    found = s.byAddress(addr, dst, localPort, peerPort)?.asoc;
    return found === undefined && --left > 0;
  });
  return found;
}

/**
 * Which of the addresses that a peer lists are taken: those of the endpoint's family, and of the scope of the address that
 * the peer was seen at (facts part 7.31): nobody outside can have a loopback address.
 */
function usableAddresses(ep: Endpoint, info: InitInfo, seen: InAddr): InAddr[] {
  return info.addresses.filter(
    x =>
      (x.family === 6 ? ep.family === 6 : ep.family === 4 || !ep.v6only) &&
      x.isLoopback === seen.isLoopback &&
      (!x.isLinkLocal || seen.isLinkLocal),
  );
}

/** INIT (§5.1 B; §5.2.1, §5.2.2 when an association exists). Tag, length and being alone have been checked. */
export function handleInit(
  s: Sctp,
  a: Association | undefined,
  ep: Endpoint,
  p: PacketContext,
  o: number,
  len: number,
): void {
  const dv = s.stack.pool.dv;
  const tag = dv.getUint32(o + 4);
  if (a?.state === 'SHUTDOWN_ACK_SENT') {
    // §9.2: the peer thinks that we are gone; it learns that its end is not complete.
    s.drop('sctps_unexpected', a);
    queueControl(s, a, errorChunk(SHUTDOWN_ACK, 0, []), p.from);
    return;
  }
  if (len > MAX_INIT) {
    refuse(s, p, tag, [cause(CAUSE_OUT_OF_RESOURCE)], `an INIT of ${len} bytes is too large`, '§3.3.10.4');
    return;
  }
  const info = parseInit(dv, o, len, s.tunables.max_held_addresses);
  if ('error' in info) {
    s.stats.sctps_badparam++;
    refuse(s, p, tag, [info.error], info.text, info.section);
    return;
  }
  if (info.unreported > 0) s.drop('sctps_unreported', a);
  if (a === undefined) {
    answerInit(s, ep, p, info, o, len, ep.options.ecn, s.newTag(), initialTsn(s, ep), 0, 0);
    return;
  }
  if (p.from !== undefined && p.from.encapsPort !== p.info.udpSrc && a.state !== 'COOKIE_WAIT') {
    refuse(s, p, tag, [], 'an INIT for a known association came with another encapsulation port', 'RFC 6951 §5.4');
    return;
  }
  if (a.state !== 'COOKIE_WAIT') {
    const fresh = [p.info.src, ...usableAddresses(a.endpoint, info, p.info.src)].filter(
      x => findPath(a, x) === undefined,
    );
    if (fresh.length > 0) {
      s.stats.sctps_restartnewaddr++;
      const w = new ByteWriter();
      for (const x of fresh) w.addressParam(x);
      refuse(
        s,
        p,
        tag,
        [cause(CAUSE_RESTART_NEW_ADDR, w.take())],
        'an INIT for a known association lists new addresses',
        '§5.2.2',
      );
      return;
    }
  }
  if (a.state === 'COOKIE_WAIT' || a.state === 'COOKIE_ECHOED') {
    // §5.2.1: both begin at once: the same tag and TSN as in our own INIT.
    answerInit(
      s,
      a.endpoint,
      p,
      info,
      o,
      len,
      a.state === 'COOKIE_WAIT' ? a.ecnWanted : a.ecn,
      a.myTag,
      a.initialTsn,
      a.state === 'COOKIE_WAIT' ? 0 : a.myTag,
      a.peerTag,
    );
    return;
  }
  // §5.2.2: perhaps a restart: a new tag, and tie-tags that tell the old association from its successor.
  if (a.tieLocal === 0) {
    a.tieLocal = s.newTag();
    a.tiePeer = s.newTag();
  }
  answerInit(s, a.endpoint, p, info, o, len, a.ecn, s.newTag(), initialTsn(s, a.endpoint), a.tieLocal, a.tiePeer);
}

/** Sends INIT ACK with a cookie; keeps nothing. `wanted`: ECN is on, so far as we are concerned. */
function answerInit(
  s: Sctp,
  ep: Endpoint,
  p: PacketContext,
  info: InitInfo,
  o: number,
  len: number,
  wanted: boolean,
  myTag: number,
  myTsn: number,
  tieLocal: number,
  tiePeer: number,
): void {
  const out = Math.min(ep.options.outStreams, info.inStreams);
  const ecn = info.ecn && wanted;
  const init = s.stack.pool.u8.subarray(o, o + len);
  const cookie = s.cookies.make({
    ecn,
    inStreams: ep.options.inStreams,
    outStreams: out,
    myTag,
    peerTag: info.tag,
    tieLocal,
    tiePeer,
    myTsn,
    lifeMs: ep.options.cookieLife,
    localPort: p.dstPort,
    peerPort: p.srcPort,
    encapsPort: p.info.udpSrc,
    created: s.now,
    src: p.info.src,
    dst: p.info.dst,
    init,
  });
  const families = info.families;
  const addresses = listAddresses(s, ep, p.info.src).filter(
    x => families === undefined || (x.family === 4 ? families.v4 : families.v6),
  );
  const chunk = buildInit({
    type: INIT_ACK,
    tag: myTag,
    rwnd: ownRwnd(ep),
    outStreams: out,
    inStreams: ep.options.inStreams,
    tsn: myTsn,
    // Said whether the peer said it or not, as FreeBSD does; what both said (the cookie) counts.
    ecn: wanted,
    preservative: 0,
    families: undefined,
    addresses: addresses.length > 1 ? addresses : [],
    cookie,
    unrecognized: info.unrecognized,
  });
  sendPacket(s, p.info.dst, p.info.src, p.dstPort, p.srcPort, info.tag, p.info.udpSrc, 0, [chunk]);
}

/** INIT ACK (§5.1 C): the peer's parameters, then COOKIE ECHO. Only in COOKIE-WAIT (§5.2.3). */
export function handleInitAck(s: Sctp, a: Association, p: PacketContext, o: number, len: number): void {
  const setup = a.setup;
  if (a.state !== 'COOKIE_WAIT' || setup?.kind !== 'cookie-wait') {
    s.drop('sctps_unexpected', a); // §5.2.3
    return;
  }
  if (len < INIT_HEADER || o !== p.off + COMMON_HEADER || o + pad4(len) < p.off + p.len) {
    s.drop('sctps_badinit', a);
    return;
  }
  const dv = s.stack.pool.dv;
  const tag = dv.getUint32(o + 4);
  const fail = (c: Uint8Array, text: string, section: string) => {
    a.peerTag = tag as Vtag;
    abortAssociation(s, a, [c], reason(text, section));
  };
  if (tag === 0) {
    fail(cause(CAUSE_INVALID_PARAM), 'the INIT ACK has initiate tag 0', '§3.3.3');
    return;
  }
  const info = parseInit(dv, o, len, s.tunables.max_held_addresses);
  if ('error' in info) {
    fail(info.error, info.text, info.section);
    return;
  }
  if (info.cookie === undefined) {
    fail(
      cause(CAUSE_MISSING_PARAM, new ByteWriter().u32(1).u16(PARAM_STATE_COOKIE).u16(0).take().subarray(0, 6)),
      'the INIT ACK has no state cookie',
      '§3.3.3',
    );
    return;
  }
  const rival = rivalOf(s, a, info, p);
  if (rival !== undefined) {
    s.drop('sctps_addrconflict', a);
    fail(EMPTY, `the peer lists ${rival}, which belongs to another association`, '§5.1.2');
    return;
  }
  if (info.unreported > 0) s.drop('sctps_unreported', a);
  const measured = setup.tries === 0 && setup.path.hbSentAt >= 0;
  if (measured) measureRtt(setup.path, s.now - setup.path.hbSentAt);
  setup.path.hbSentAt = -1;
  s.stack.callouts.stop(a.t1);
  a.errors = 0;
  applyPeer(s, a, info, p.info.src, p.info.udpSrc);
  const path = findPath(a, p.info.src) ?? setup.path;
  a.primary = a.current = path;
  confirmPath(s, path, false);
  a.ecn = info.ecn && a.ecnWanted;
  a.state = 'COOKIE_ECHOED';
  a.setup = {
    kind: 'cookie-echoed',
    tries: 0,
    staleTries: setup.tries,
    // §6.3.1: from here on what the INIT has measured; what was sent more than once has not, and stays backed off (E2).
    timeoutNs: measured ? setup.path.rto : setup.timeoutNs,
    path,
    cookie: info.cookie,
    sentAt: s.now,
    sendCookie: true,
  };
  // §3.2.2: parameters that we did not know are reported with the COOKIE ECHO.
  if (info.unrecognized.length > 0) {
    s.stats.sctps_errorsent++;
    const causes = info.unrecognized.map(x => cause(CAUSE_UNRECOGNIZED_PARAMS, x)); // one each, as FreeBSD
    queueControl(s, a, errorChunk(ERROR, 0, causes), path);
  }
  armT1(s, a, a.setup.timeoutNs);
  s.markDirty(a);
}

/** An address of the peer that is a path of another association between the same ports, if there is one. */
function rivalOf(s: Sctp, a: Association, info: InitInfo, p: PacketContext): string | undefined {
  for (const x of info.addresses) {
    const path = s.byAddress(x, p.info.dst, p.dstPort, p.srcPort);
    if (path !== undefined && path.asoc !== a) return x.toString();
  }
  return undefined;
}

/** Takes over what the peer's INIT or INIT ACK says. */
export function applyPeer(s: Sctp, a: Association, info: InitInfo, src: InAddr, encapsPort: number): void {
  a.peerTag = info.tag as Vtag;
  a.peerRwnd = info.rwnd;
  a.peerArwnd = info.rwnd;
  const asked = a.outStreamCount;
  a.outStreamCount = Math.min(asked, info.inStreams);
  if (a.outStreamCount < asked) failUnsent(s, a, sid => sid >= a.outStreamCount);
  a.startReceiving(tsn(info.tsn), Math.min(a.maxInStreams, info.outStreams));
  a.toldRwnd = ownRwnd(a.endpoint);
  const source = findPath(a, src) ?? addPath(s, a, src, encapsPort);
  source.encapsPort = encapsPort;
  const usable = usableAddresses(a.endpoint, info, src);
  for (const x of usable) if (findPath(a, x) === undefined) addPath(s, a, x, encapsPort);
  if (info.droppedAddresses > 0 || usable.length < info.addresses.length) s.drop('sctps_addrdropped', a);
  for (const path of a.paths) a.cc.init(path, info.rwnd, s.tunables);
}

/** COOKIE ACK (§5.1 E), or what proves it: the association is up. */
export function handleCookieAck(s: Sctp, a: Association): void {
  const setup = a.setup;
  if (a.state !== 'COOKIE_ECHOED' || setup?.kind !== 'cookie-echoed') {
    s.drop('sctps_unexpected', a); // §5.2.5
    return;
  }
  s.stack.callouts.stop(a.t1);
  if (setup.tries === 0) measureRtt(setup.path, s.now - setup.sentAt);
  establish(s, a, 'active');
}

export function assocChange(
  a: Association,
  state: 'comm-up' | 'comm-lost' | 'restart' | 'shutdown-comp' | 'cant-start',
  why: { text: string; section: string },
  error = 0,
  causeName = '',
  causeCode = 0,
  abort?: Uint8Array,
): Notification {
  return {
    type: 'assoc-change',
    state,
    assocId: a.id,
    outStreams: a.outStreamCount,
    inStreams: a.inStreamCount,
    error,
    causeCode,
    cause: causeName,
    reason: why,
    ...(state === 'comm-up' || state === 'restart' ? { features: FEATURES } : {}),
    ...(abort === undefined ? {} : { abort }),
  };
}
/** What every association can do (FreeBSD's order; extensions put theirs around it). */
const FEATURES: readonly number[] = [SCTP_ASSOC_SUPPORTS_MULTIBUF];

/** Enters ESTABLISHED: tells the user, starts heartbeats, lets queued data go. */
export function establish(s: Sctp, a: Association, role: 'active' | 'passive'): void {
  a.state = 'ESTABLISHED';
  a.endSetup(s.stack.callouts);
  a.role = role;
  a.errors = 0;
  a.lastActive = s.now;
  a.tuneStart = s.now;
  const ep = a.endpoint;
  s.stats.sctps_currestab++;
  if (role === 'active') s.stats.sctps_activeestab++;
  else s.stats.sctps_passiveestab++;
  for (const p of a.paths) if (p.cwnd === 0) a.cc.init(p, a.peerRwnd, s.tunables);
  startHeartbeats(s, a);
  armAutoclose(s, a);
  const why = reason(role === 'active' ? 'the peer has acknowledged our cookie' : "the peer's cookie is good", '§5.1');
  s.notify(ep, assocChange(a, 'comm-up', why));
  s.report(a, 'established', why, {
    peer: a.primary.addr.toString(),
    outStreams: a.outStreamCount,
    inStreams: a.inStreamCount,
    role,
  });
  s.wake(ep);
  if (ep.gone || a.closing) startShutdown(s, a);
  s.markDirty(a);
}

/** T1 has run out of tries: the peer cannot be reached. */
export function setupFailed(s: Sctp, a: Association, errno: number, text: string): void {
  const why = reason(text, errno === ECONNREFUSED ? '§5.1.1' : '§5.1.6');
  endAssociation(s, a, 'cant-start', errno, why, reasonText(why));
}

/** The path that T1 tries next: the peer's addresses in turn (§5.1, facts part 4). */
export function nextSetupPath(a: Association, p: Path): Path {
  return a.paths[(p.id + 1) % a.paths.length]!;
}
