/**
 * Setting up an association: INIT, INIT ACK, COOKIE ECHO, COOKIE ACK, with collisions and restarts (RFC 9260 §5.1, §5.2).
 */

import { MSEC } from '../kern/clock.js';
import { ECONNREFUSED } from '../kern/errno.js';
import { InAddr } from '../netinet/in.js';
import { abortAssociation, endAssociation, endPartialDelivery } from './abort.js';
import { type InitMsg, type Notification, SCTP_ASSOC_SUPPORTS_MULTIBUF } from './api.js';
import { Association } from './association.js';
import { CHUNK_ACKED, CHUNK_RESEND, CHUNK_SENT } from './chunks.js';
import { CC_MODULES, rfc9260 } from './congestion.js';
import {
  ABORT,
  CAUSE_COOKIE_IN_SHUTDOWN,
  CAUSE_INVALID_PARAM,
  CAUSE_MISSING_PARAM,
  CAUSE_OUT_OF_RESOURCE,
  CAUSE_RESTART_NEW_ADDR,
  CAUSE_STALE_COOKIE,
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
import type { CookieFields } from './cookie.js';
import type { Endpoint } from './endpoint.js';
import { buildInit, type InitInfo, MAX_INIT, parseInit } from './init.js';
import type { PacketContext } from './input.js';
import { outOfTheBlue } from './ootb.js';
import { queueControl } from './output.js';
import { sendOnPath, sendPacket } from './packet.js';
import type { Path } from './path.js';
import { addPath, confirmPath, findPath, listAddresses, startHeartbeats } from './paths.js';
import { reason, reasonText } from './reasons.js';
import { resolveCookie } from './restart.js';
import type { Sctp } from './sctp.js';
import { failQueued, failUnsent } from './sendfail.js';
import { startShutdown } from './shutdown.js';
import { roundRobin } from './streams.js';
import { ASSOC_TIMERS, armAutoclose, armT1, measureRtt } from './timers.js';
import { type Tsn, tsn, tsnGt, type Vtag } from './types.js';
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
  return new Association(ep, ep.newId(), localPort, peerPort, tag, initialTsn, cc, roundRobin, ASSOC_TIMERS(s));
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
function refuse(
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
    answerInit(s, ep, p, info, o, len, s.newTag(), initialTsn(s, ep), 0, 0);
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
  answerInit(s, a.endpoint, p, info, o, len, s.newTag(), initialTsn(s, a.endpoint), a.tieLocal, a.tiePeer);
}

/** Sends INIT ACK with a cookie; keeps nothing. */
function answerInit(
  s: Sctp,
  ep: Endpoint,
  p: PacketContext,
  info: InitInfo,
  o: number,
  len: number,
  myTag: number,
  myTsn: number,
  tieLocal: number,
  tiePeer: number,
): void {
  const out = Math.min(ep.options.outStreams, info.inStreams);
  const ecn = info.ecn && ep.options.ecn;
  const init = s.stack.pool.u8.slice(o, o + len);
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
    ecn,
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
  if (setup.tries === 0 && setup.path.hbSentAt >= 0) measureRtt(setup.path, s.now - setup.path.hbSentAt);
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
    timeoutNs: a.rtoInitial * MSEC,
    path,
    cookie: info.cookie,
    sentAt: s.now,
    sendCookie: true,
  };
  // §3.2.2: parameters that we did not know are reported with the COOKIE ECHO.
  if (info.unrecognized.length > 0) {
    s.stats.sctps_errorsent++;
    queueControl(s, a, errorChunk(ERROR, 0, [cause(CAUSE_UNRECOGNIZED_PARAMS, concat(info.unrecognized))]), path);
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

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const w = new ByteWriter();
  // The padding of the last one does not count into the cause's length (§3.2).
  for (const x of parts) {
    while (w.length % 4 !== 0) w.u8(0);
    w.bytes(x);
  }
  return w.take();
}

/** Takes over what the peer's INIT or INIT ACK says. */
function applyPeer(s: Sctp, a: Association, info: InitInfo, src: InAddr, encapsPort: number): void {
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

/** Accept queue of a listener: is there room for one more? */
function listenerFull(ep: Endpoint): boolean {
  return ep.style === 'one-to-one' && ep.acceptQueue.length >= Math.max(ep.backlog, 1);
}

/**
 * COOKIE ECHO (§5.1 D, §5.2.4). Returns the association to which the rest of the packet belongs, or undefined when the
 * packet ends here.
 */
export function handleCookieEcho(
  s: Sctp,
  a: Association | undefined,
  ep: Endpoint | undefined,
  p: PacketContext,
  o: number,
  len: number,
): Association | undefined {
  const c = s.cookies.open(s.stack.pool.u8.slice(o + 4, o + len));
  const stale = c === undefined ? undefined : s.cookies.staleness(c);
  const fits = c !== undefined && c.localPort === p.dstPort && c.peerPort === p.srcPort && c.myTag === p.tag;
  if (!fits || stale === undefined) {
    if (a === undefined && ep === undefined) outOfTheBlue(s, p);
    else s.drop('sctps_badcookie', a); // §5.1.5 rules 2 and 3
    return undefined;
  }
  const dv = new DataView(c.init.buffer, c.init.byteOffset, c.init.length);
  const info = parseInit(dv, 0, c.init.length, s.tunables.max_held_addresses);
  if ('error' in info) {
    s.drop('sctps_badcookie', a);
    return undefined;
  }
  // The cookie may come from an address that the association does not know: its INIT names the others (§5.1.2).
  a ??=
    s.byAddress(c.src, p.info.dst, c.localPort, c.peerPort)?.asoc ??
    associationOfInit(s, dv, 0, c.init.length, p.info.dst, c.localPort, c.peerPort);
  const action = a === undefined ? undefined : resolveCookie(c, a);
  if (stale > 0 && action !== 'duplicate') {
    // §5.1.5 rule 4, §5.2.4 rule 3.
    s.drop('sctps_stalecookie', a);
    s.stats.sctps_errorsent++;
    sendPacket(s, p.info.dst, p.info.src, p.dstPort, p.srcPort, c.peerTag, p.info.udpSrc, 0, [
      errorChunk(ERROR, 0, [cause(CAUSE_STALE_COOKIE, new ByteWriter().u32(Math.min(stale, 0xffffffff)).take())]),
    ]);
    return undefined;
  }
  if (a === undefined) {
    if (ep !== undefined) return accept(s, ep, p, c, info);
    outOfTheBlue(s, p);
    return undefined;
  }
  if (a.state === 'SHUTDOWN_ACK_SENT' && action !== undefined && action !== 'discard') {
    cookieWhileShuttingDown(s, a, p, c);
    return undefined;
  }
  switch (action) {
    case 'restart':
      return restart(s, a, p, c, info);
    case 'collision':
      return collide(s, a, p, c, info);
    case 'duplicate':
      if (a.state === 'COOKIE_ECHOED' || a.state === 'COOKIE_WAIT') {
        s.stack.callouts.stop(a.t1);
        establish(s, a, 'passive');
      }
      cookieAck(s, a, p);
      return a;
    default:
      s.drop('sctps_discardcookie', a);
      return undefined;
  }
}

function cookieAck(s: Sctp, a: Association, p: PacketContext): void {
  a.cookieAckPath = p.from ?? a.current;
  s.markDirty(a);
}

/** A new association from a cookie, on the listener itself (one-to-many) or on an endpoint waiting for accept. */
function accept(
  s: Sctp,
  listener: Endpoint,
  p: PacketContext,
  c: CookieFields,
  info: InitInfo,
): Association | undefined {
  // A tag in time-wait is that of an association that has ended: its cookie comes late, or is replayed.
  if (s.byTag(c.myTag) !== undefined || s.inTimeWait(c.myTag)) {
    s.drop('sctps_discardcookie');
    return undefined;
  }
  if (listenerFull(listener)) {
    s.drop('sctps_listenfull');
    if (s.tunables.abort_at_limit === 1)
      refuse(s, p, c.peerTag, [cause(CAUSE_OUT_OF_RESOURCE)], 'the accept queue of the listener is full', '§5.1');
    return undefined;
  }
  let ep = listener;
  if (listener.style === 'one-to-one') {
    ep = listener.heir(undefined, s.tunables);
    ep.listener = listener;
    s.endpoints.add(ep);
    s.addPort(ep);
    listener.acceptQueue.push(ep);
    s.wake(listener);
  }
  const a = newAssociation(s, ep, c.localPort, c.peerPort, c.myTag as Vtag, tsn(c.myTsn));
  a.role = 'passive';
  s.addAssociation(a);
  // §5.1: the INIT's source is the first path; it is confirmed, the cookie has come back from there.
  const first = addPath(s, a, c.src, c.encapsPort, c.dst);
  a.primary = a.current = first;
  a.outStreamCount = c.outStreams;
  applyPeer(s, a, info, c.src, c.encapsPort);
  a.localAddresses = listAddresses(s, ep, c.src);
  a.ecn = c.ecn;
  confirmPath(s, first, false);
  // The COOKIE ECHO may have come from another of the peer's addresses.
  p.from = findPath(a, p.info.src) ?? first;
  establish(s, a, 'passive');
  cookieAck(s, a, p);
  return a;
}

/**
 * A COOKIE ECHO in SHUTDOWN-ACK-SENT (§5.2.4 A, §3.3.10.10), of the peer's new self or a copy of the old one: as FreeBSD, an
 * ERROR with the cookie's tag in a packet of its own, and SHUTDOWN ACK again with the tag that we know, which a restarted
 * peer reflects (§8.5.1 E).
 */
function cookieWhileShuttingDown(s: Sctp, a: Association, p: PacketContext, c: CookieFields): void {
  s.drop('sctps_unexpected', a);
  s.stats.sctps_errorsent++;
  queueControl(s, a, errorChunk(SHUTDOWN_ACK, 0, []), p.from);
  sendPacket(s, p.info.dst, p.info.src, p.dstPort, p.srcPort, c.peerTag, p.info.udpSrc, 0, [
    errorChunk(ERROR, 0, [cause(CAUSE_COOKIE_IN_SHUTDOWN)]),
  ]);
}

/** Case A: the peer has restarted: the socket survives, everything else begins anew (§5.2.4.1). */
function restart(s: Sctp, a: Association, p: PacketContext, c: CookieFields, info: InitInfo): Association | undefined {
  s.stats.sctps_restartestab++;
  failQueued(s, a);
  endPartialDelivery(s, a);
  s.receiver.clear(a);
  a.out.reset();
  resetSender(a, c.myTsn);
  for (const t of [a.t1, a.t2, a.guard, a.sackTimer]) s.stack.callouts.stop(t);
  for (const path of a.paths) {
    s.stack.callouts.stop(path.t3);
    path.flight = 0;
    path.inFastRecovery = false;
    path.errors = 0;
  }
  s.retag(a, c.myTag as Vtag);
  a.tieLocal = a.tiePeer = 0;
  a.control.length = 0;
  a.dups.length = 0;
  a.ecneDue = a.cwrDue = false;
  a.shutdownAgain = false;
  a.dryReported = true;
  a.packetsSinceSack = 0;
  a.hadGap = false;
  a.sackDue = false;
  a.firstData = true;
  a.errors = 0;
  a.outStreamCount = c.outStreams;
  const wasUp = a.established;
  applyPeer(s, a, info, c.src, c.encapsPort);
  a.ecn = c.ecn;
  const path = findPath(a, c.src);
  if (path !== undefined) confirmPath(s, path, true); // the cookie has come back from there
  p.from = findPath(a, p.info.src) ?? path;
  const why = reason('the peer has restarted the association', '§5.2.4.1');
  if (wasUp) {
    const ep = a.endpoint;
    a.state = 'ESTABLISHED';
    a.closing = false;
    ep.peerDone = false;
    s.notify(ep, assocChange(a, 'restart', why));
    s.report(a, 'restart', why, { peer: a.primary.addr.toString() });
    s.wake(ep);
    if (ep.gone || ep.cantSend) startShutdown(s, a); // our user wanted the end, and still does
  } else establish(s, a, 'passive');
  cookieAck(s, a, p);
  return a;
}

function resetSender(a: Association, initial: number): void {
  a.initialTsn = tsn(initial);
  a.nextTsn = a.initialTsn;
  a.cumAcked = tsn(initial - 1);
  a.highestAcked = a.cumAcked;
  a.resendFrom = a.initialTsn;
  a.ring.fill(0);
  a.flight = 0;
  a.flightChunks = 0;
  a.resend = 0;
  a.probing = false;
  a.fastRetransmitDue = false;
}

/** Case B: both INITs crossed (§5.2.4.2): the peer's tag and parameters are those of the cookie. */
function collide(s: Sctp, a: Association, p: PacketContext, c: CookieFields, info: InitInfo): Association {
  s.stack.callouts.stop(a.t1);
  const wasUp = a.established;
  if (!wasUp) s.stats.sctps_collisionestab++;
  a.outStreamCount = Math.min(a.outStreamCount, c.outStreams);
  if (wasUp) {
    a.peerTag = info.tag as Vtag;
    if (tsn(info.tsn) !== a.peerInitialTsn) {
      // The peer has begun to count anew: what it sent before is not what will follow.
      endPartialDelivery(s, a);
      s.receiver.clear(a);
      a.startReceiving(tsn(info.tsn), a.inStreamCount);
    }
    s.report(a, 'collision', reason('the peer uses the tag of its other INIT', '§5.2.4.2'));
  } else {
    applyPeer(s, a, info, c.src, c.encapsPort);
    a.ecn = c.ecn;
    const path = findPath(a, c.src);
    if (path !== undefined) {
      if (!path.usable || path.state !== 'active') confirmPath(s, path, false);
      a.primary = a.current = path;
    }
  }
  markOutstanding(s, a);
  p.from = findPath(a, p.info.src);
  if (!wasUp) establish(s, a, 'passive');
  cookieAck(s, a, p);
  return a;
}

/** Everything in flight goes again: the peer cannot have kept it. */
export function markOutstanding(s: Sctp, a: Association): void {
  const chunks = s.chunks;
  for (let t = (a.cumAcked + 1) | 0; tsnGt(a.nextTsn, t); t = (t + 1) | 0) {
    const m = a.ring[t & a.ringMask]!;
    if (m === 0 || chunks.state[m] === CHUNK_RESEND) continue;
    if (chunks.state[m] === CHUNK_SENT) {
      const path = a.paths[chunks.path[m]!]!;
      path.flight -= chunks.len[m]!;
      a.flight -= chunks.len[m]!;
      a.flightChunks--;
    } else if (chunks.state[m] !== CHUNK_ACKED) continue;
    chunks.state[m] = CHUNK_RESEND;
    a.resend++;
  }
  a.resendFrom = tsn(a.cumAcked + 1);
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
function establish(s: Sctp, a: Association, role: 'active' | 'passive'): void {
  a.state = 'ESTABLISHED';
  a.setup = undefined;
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
