/**
 * The user sends (RFC 6458 §3.1.4, §4.1.7, §5.3; errors as FreeBSD gives them, facts part 2.4): whom a message is for,
 * implicit set-up, the end of an association, and cutting messages into chunks (RFC 9260 §6.9).
 */

import { EAGAIN, ECONNRESET, EINVAL, EMSGSIZE, ENOBUFS, ENOENT, ENOTCONN, EPIPE } from '../kern/errno.js';
import { CLUSTER_BYTES } from '../kern/mbuf.js';
import { MSG_EOF, MSG_EOR, type SendInfo, type SockAddr } from '../kern/socket.js';
import { userAbort } from './abort.js';
import { unmapped } from './addresses.js';
import {
  SCTP_ABORT,
  SCTP_ADDR_OVER,
  SCTP_EOF,
  SCTP_EOR,
  SCTP_PR_SCTP_RTX,
  SCTP_SACK_IMMEDIATELY,
  SCTP_SENDALL,
  SCTP_UNORDERED,
} from './api.js';
import type { Association } from './association.js';
import { DATA_B, DATA_E, DATA_HEADER, DATA_I, DATA_U } from './constants.js';
import type { Endpoint } from './endpoint.js';
import type { Path } from './path.js';
import { findPath } from './paths.js';
import type { Sctp } from './sctp.js';
import { startShutdown } from './shutdown.js';
import { begin } from './usrreq.js';

/** Mbufs of each kind that senders must leave for the rest of the stack. */
const RESERVE = 192;
/** Longest reason that goes with an ABORT. */
const MAX_REASON = 1448;

/** Bytes that the send buffer has left for an association. */
export function room(ep: Endpoint, a: Association): number {
  return ep.sndLimit - a.queuedBytes;
}

function lookup(s: Sctp, ep: Endpoint, to: SockAddr | undefined, info: SendInfo): Association | undefined {
  if (ep.style === 'one-to-one') return ep.only;
  if (info.assocId > 2) return ep.find(info.assocId);
  if (to === undefined) return undefined;
  const a = s.pathTo(ep, unmapped(to.addr), to.port)?.asoc;
  if (a !== undefined || info.addresses === undefined) return a;
  for (const x of info.addresses) {
    const b = s.pathTo(ep, unmapped(x.addr), x.port)?.asoc;
    if (b !== undefined) return b;
  }
  return undefined;
}
/** The path that a message must take: its address's with SCTP_ADDR_OVER, else undefined = any; -EINVAL without one. */
function destination(a: Association, to: SockAddr | undefined, flags: number): Path | undefined | number {
  if ((flags & SCTP_ADDR_OVER) === 0) return undefined;
  if (to === undefined || (to.port !== 0 && to.port !== a.peerPort)) return -EINVAL;
  return findPath(a, unmapped(to.addr)) ?? -EINVAL;
}

/** One message, or with explicit EOR a part of one, or the end. Returns the bytes taken or -errno. */
export function send(
  s: Sctp,
  ep: Endpoint,
  data: Uint8Array,
  off: number,
  len: number,
  to: SockAddr | undefined,
  given: SendInfo | undefined,
  msgFlags: number,
): number {
  const so = ep.so;
  if (!inside(data, off, len)) return -EINVAL;
  if (so !== undefined && so.error !== 0) return -so.takeError();
  if (ep.listening && ep.style === 'one-to-one') return -EINVAL;
  let info = given ?? ep.defaultSend;
  if (ep.style === 'one-to-many' && (info.flags & SCTP_SENDALL) !== 0)
    return sendAll(s, ep, data, off, len, info, msgFlags);
  let a = lookup(s, ep, to, info);
  if (a !== undefined && given === undefined) info = a.defaultSend;
  const flags = info.flags | ((msgFlags & MSG_EOR) !== 0 ? SCTP_EOR : 0) | ((msgFlags & MSG_EOF) !== 0 ? SCTP_EOF : 0);
  const control = flags & (SCTP_EOF | SCTP_ABORT);
  if (len === 0 && control === 0) return -EINVAL;
  if (info.prPolicy >>> 0 > SCTP_PR_SCTP_RTX) return -EINVAL;
  if (ep.cantSend) return -EPIPE;
  if (a === undefined) {
    if (ep.ended) return -ECONNRESET;
    if (ep.style === 'one-to-one') return -ENOTCONN;
    if (info.assocId > 2 || control !== 0) return -ENOENT;
    if (to === undefined) return -ENOTCONN;
    const begun = implicit(s, ep, to, info);
    if (typeof begun === 'number') return begun;
    a = begun;
  }
  return sendTo(s, ep, a, data, off, len, to, info, flags);
}

/** Sets an association up for a message to a new peer (RFC 6458 §3.2); a request that cannot be is refused first. */
function implicit(s: Sctp, ep: Endpoint, to: SockAddr, info: SendInfo): Association | number {
  const streams = info.init?.numOstreams || ep.options.outStreams;
  if (info.sid >>> 0 !== info.sid || info.sid >= streams) return -EINVAL;
  return begin(s, ep, info.addresses === undefined ? [to] : [to, ...info.addresses], info.init);
}

/** A message, or the end, for one association. */
function sendTo(
  s: Sctp,
  ep: Endpoint,
  a: Association,
  data: Uint8Array,
  off: number,
  len: number,
  to: SockAddr | undefined,
  info: SendInfo,
  flags: number,
): number {
  if ((flags & SCTP_ABORT) !== 0) {
    if (!a.established) return -EINVAL; // it has to be up first; close does it before
    if (len > MAX_REASON) return -EMSGSIZE;
    userAbort(s, a, data.subarray(off, off + len));
    return len;
  }
  if (a.closing) return ep.style === 'one-to-one' ? -EPIPE : -ECONNRESET;
  let n = len;
  if (len > 0) {
    const over = destination(a, to, flags);
    if (typeof over === 'number') return over;
    n = queueMessage(s, ep, a, data, off, len, info, flags, over);
    if (n < len) return n; // an error, or a part of it (explicit EOR)
  }
  if ((flags & SCTP_EOF) !== 0) startShutdown(s, a);
  return n;
}

/** SCTP_SENDALL: one message, or the end, for every association of a one-to-many socket, each as far as it can. */
function sendAll(
  s: Sctp,
  ep: Endpoint,
  data: Uint8Array,
  off: number,
  len: number,
  info: SendInfo,
  msgFlags: number,
): number {
  const flags = info.flags | ((msgFlags & MSG_EOF) !== 0 ? SCTP_EOF : 0) | SCTP_EOR;
  if (len === 0 && (flags & (SCTP_EOF | SCTP_ABORT)) === 0) return -EINVAL;
  if (len > s.tunables.sendall_limit) return -EMSGSIZE;
  for (const a of [...ep.asocs.values()]) sendTo(s, ep, a, data, off, len, undefined, info, flags & ~SCTP_ADDR_OVER);
  return len;
}

/** True when [off, off + len) lies in the bytes. */
export const inside = (bytes: Uint8Array, off: number, len: number): boolean =>
  Number.isInteger(off) && Number.isInteger(len) && off >= 0 && len >= 0 && off + len <= bytes.length;

/** Largest payload of one DATA chunk: the smallest path MTU, or what the user set (SCTP_MAXSEG). */
export function fragmentationPoint(a: Association): number {
  let n = 65532;
  for (let i = 0; i < a.paths.length; i++) {
    const r = a.paths[i]!.chunkRoom - DATA_HEADER;
    if (r < n) n = r;
  }
  if (a.maxseg > 0 && a.maxseg < n) n = a.maxseg & ~3;
  return n;
}

/**
 * Cuts a message into chunks on its stream's queue: all or nothing. With explicit EOR (RFC 6458 §8.1.26) what is given is a
 * part of a message that SCTP_EOR (or SCTP_EOF) ends, and as much of it is taken as there is room. Returns the bytes taken.
 */
function queueMessage(
  s: Sctp,
  ep: Endpoint,
  a: Association,
  data: Uint8Array,
  off: number,
  len: number,
  info: SendInfo,
  flags: number,
  over: Path | undefined,
): number {
  if (info.sid >>> 0 !== info.sid || info.sid >= a.outStreamCount) return -EINVAL;
  // What SCTP_SENDALL sends goes whole or not at all: nobody would know which association lacks how much of it.
  const all = ep.style === 'one-to-many' && (flags & SCTP_SENDALL) !== 0;
  if (all && a.out.get(info.sid).openMessage) return -EAGAIN;
  const parts = ep.options.explicitEor && !all;
  if (len > ep.sndLimit && !parts) return -EMSGSIZE;
  const point = fragmentationPoint(a);
  if (ep.options.disableFragments && len > point) return -EMSGSIZE;
  const space = room(ep, a);
  if (space < len) {
    ep.sendBlocked = true;
    if (!parts || space <= 0) return -EAGAIN;
    len = space;
    flags &= ~(SCTP_EOR | SCTP_EOF); // its end has not been taken
  }
  const pool = s.chunks.pool;
  let pieces = len <= point ? 1 : Math.ceil(len / point);
  const even = pieces > 1 && a.current.trains ? evenPieces(len, pieces) : 0;
  if (even !== 0) pieces = even;
  // A piece beyond a cluster is a chain of them.
  const mbufs = len < 256 ? 1 : pieces * Math.ceil(Math.min(len, point) / CLUSTER_BYTES);
  if ((len < 256 ? pool.freeSmall : pool.freeClusters) < RESERVE + mbufs) {
    ep.sendBlocked = true;
    return a.queuedChunks > 0 ? -EAGAIN : -ENOBUFS;
  }
  const stream = a.out.get(info.sid);
  const ends = !parts || (flags & (SCTP_EOR | SCTP_EOF)) !== 0;
  // What goes on with a message goes on as it began.
  const begins = !stream.openMessage;
  const unordered = begins ? ((flags & SCTP_UNORDERED) !== 0 ? DATA_U : 0) : stream.openFlags;
  const ppid = begins ? info.ppid : stream.openPpid;
  const now = (flags & SCTP_SACK_IMMEDIATELY) !== 0 ? DATA_I : 0;
  const ssn = unordered !== 0 ? 0 : stream.nextSsn;
  const c = s.chunks;
  const size = Math.floor(len / pieces);
  const longer = len - size * pieces;
  for (let i = 0, at = 0; i < pieces; i++) {
    const n = even === 0 ? Math.min(point, len - at) : i < longer ? size + 1 : size;
    const m = c.fromUser(data, off + at, n);
    if (m === 0) {
      s.stats.sctps_nomem++;
      return takeBack(s, a, info.sid, i);
    }
    const last = i === pieces - 1;
    const chunkFlags = (i === 0 && begins ? DATA_B : 0) | (last && ends ? DATA_E : 0) | unordered | (last ? now : 0);
    c.queued(m, info.sid, ssn, ppid, chunkFlags, info.context, over === undefined ? 0 : over.id + 1);
    stream.queue.push(pool, m);
    at += n;
  }
  if (pieces > 1 || !ends) s.stats.sctps_fragmsgs++;
  a.out.setOpen(stream, !ends);
  if (!ends) {
    stream.openFlags = unordered;
    stream.openPpid = ppid;
  } else if (unordered === 0) stream.nextSsn = (stream.nextSsn + 1) & 0xffff;
  a.out.pending += pieces;
  a.out.pendingBytes += len;
  a.queuedBytes += len;
  a.queuedChunks += pieces;
  a.dryReported = false;
  a.scheduler.added(a, stream);
  s.markDirty(a);
  return len;
}

/**
 * Where trains go out, pieces of one size are worth more than full ones with a short one behind: that one ends its train. Into
 * how many pieces a message that needs so many is to be cut, so that all are equally long in their packets when some are one
 * byte longer than others: at most one in sixteen more than it needs, else 0.
 */
function evenPieces(len: number, pieces: number): number {
  for (let n = pieces; n <= pieces + (pieces >> 4); n++) {
    const size = Math.floor(len / n);
    if ((size & 3) !== 0 || size * n === len) return n;
  }
  return 0;
}

/** No mbuf in the middle of a message: the pieces queued so far (the last ones of the stream) are freed again. */
function takeBack(s: Sctp, a: Association, sid: number, pieces: number): number {
  const pool = s.chunks.pool;
  const q = a.out.get(sid).queue;
  const keep = q.count - pieces;
  let m = q.head;
  let before = 0;
  for (let i = 0; i < keep; i++) {
    before = m;
    m = pool.nextpkt[m]!;
  }
  while (m !== 0) {
    const next = pool.nextpkt[m]!;
    pool.freem(m);
    m = next;
  }
  q.count = keep;
  q.tail = before;
  if (before === 0) q.head = 0;
  else pool.nextpkt[before] = 0;
  return -ENOBUFS;
}
