/** The user receives (RFC 6458 §3.1.4, §5.3, §6): messages, parts of them, and notifications, off the endpoint's queue. */

import { SEC } from '../kern/clock.js';
import { EAGAIN, EINVAL, ENOTCONN } from '../kern/errno.js';
import { MSG_EOR, MSG_NOTIFICATION, MSG_PEEK, type NextInfo, type RecvInfo } from '../kern/socket.js';
import { told } from './addresses.js';
import { SCTP_COMPLETE, SCTP_NOTIFICATION, SCTP_UNORDERED } from './api.js';
import type { Association } from './association.js';
import { DATA_U } from './constants.js';
import type { Endpoint } from './endpoint.js';
import type { Sctp } from './sctp.js';
import { inside } from './sosend.js';

/** (A part of) a message or notification into [off, off + len) of the buffer; 0 = the end, or -errno. */
export function recv(
  s: Sctp,
  ep: Endpoint,
  buf: Uint8Array,
  off: number,
  len: number,
  info: RecvInfo,
  flags: number,
): number {
  const pool = s.chunks.pool;
  const c = s.chunks;
  info.msgFlags = 0;
  info.notification = undefined;
  info.next = undefined;
  if (!inside(buf, off, len)) return -EINVAL;
  const m = ep.rcv.head;
  if (m === 0) {
    const so = ep.so;
    if (so !== undefined && so.error !== 0) return -so.takeError();
    if (ep.ended || ep.peerDone || ep.cantReceive) return 0;
    if (ep.style === 'one-to-one' && !ep.connected) return -ENOTCONN;
    return -EAGAIN;
  }
  const peek = (flags & MSG_PEEK) !== 0;
  if (ep.isNote(m)) return recvNote(s, ep, m, buf, off, len, info, peek);
  const id = c.assoc[m]!;
  const a = ep.only?.id === id ? ep.only : ep.asocs.get(id as never);
  info.sid = c.sid[m]!;
  info.ssn = c.ssn[m]!;
  info.ppid = c.ppid[m]! >>> 0;
  info.tsn = c.tsn[m]! >>> 0;
  info.cumtsn = (a?.cumTsn ?? c.cumtsn[m]!) >>> 0;
  info.flags = (c.flags[m]! & DATA_U) !== 0 ? SCTP_UNORDERED : 0;
  info.context = c.context[m]! >>> 0;
  info.assocId = id;
  if (a !== undefined) tellSender(ep, a, info);
  else info.from = undefined; // the association has ended: not the sender of the message before
  if (ep.options.recvNxtInfo || ep.options.extRcvInfo) info.next = nextMessage(s, ep, m);
  const total = c.msglen[m]!;
  const n = Math.min(len, total);
  copyOut(s, m, n, buf, off);
  if (peek) {
    if (n === total && c.eor[m] === 1) info.msgFlags |= MSG_EOR;
    return n;
  }
  ep.rcvBytes -= n;
  if (n === total) {
    ep.rcv.shift(pool);
    if (c.eor[m] === 1) info.msgFlags |= MSG_EOR;
    else if (a !== undefined && a.pdHead === m) a.pdHead = 0;
    pool.freem(m);
  } else consume(s, m, n);
  if (a !== undefined) {
    a.deliveredBytes -= n;
    tuneReceive(s, ep, a, n);
    s.receiver.readerAdvanced(a);
  }
  return n;
}

/** (A part of) a notification, as the bytes of its struct and as an object; MSG_EOR with the last part (RFC 6458 §6). */
function recvNote(
  s: Sctp,
  ep: Endpoint,
  m: number,
  buf: Uint8Array,
  off: number,
  len: number,
  info: RecvInfo,
  peek: boolean,
): number {
  const all = ep.noteLength(m);
  const n = ep.readNote(m, buf, off, len, info, peek);
  info.msgFlags = MSG_NOTIFICATION | (n === all ? MSG_EOR : 0);
  info.flags = SCTP_NOTIFICATION;
  info.assocId = s.chunks.assoc[m]!;
  const a = ep.asocs.get(info.assocId as never);
  if (a !== undefined) tellSender(ep, a, info);
  if (!peek && n === all) {
    ep.dropNote(m);
    ep.rcv.shift(s.chunks.pool);
    s.chunks.pool.freem(m);
  }
  return n;
}

/** Where what is being read came from; the object is made anew only when it differs from the last one. */
function tellSender(ep: Endpoint, a: Association, info: RecvInfo): void {
  const p = a.lastFrom ?? a.primary;
  const from = info.from;
  const mapped = ep.options.mappedV4 && ep.family === 6;
  if (mapped || from === undefined || from.port !== a.peerPort || !from.addr.equals(p.addr))
    info.from = told(ep, p.addr, a.peerPort);
}

/** What stands behind m in the receive queue (RFC 6458 §5.3.6). */
function nextMessage(s: Sctp, ep: Endpoint, m: number): NextInfo | undefined {
  const c = s.chunks;
  const x = c.pool.nextpkt[m]!;
  if (x === 0) return undefined;
  const assocId = c.assoc[x]!;
  if (ep.isNote(x))
    return { sid: 0, flags: SCTP_NOTIFICATION | SCTP_COMPLETE, ppid: 0, length: ep.noteLength(x), assocId };
  const flags = ((c.flags[x]! & DATA_U) !== 0 ? SCTP_UNORDERED : 0) | (c.eor[x] === 1 ? SCTP_COMPLETE : 0);
  return { sid: c.sid[x]!, flags, ppid: c.ppid[x]! >>> 0, length: c.msglen[x]!, assocId };
}

function copyOut(s: Sctp, m: number, n: number, buf: Uint8Array, off: number): void {
  s.chunks.pool.copyout(m, 0, n, buf, off);
}

/** Cuts n bytes off the front of a message that stays at the head of the queue. */
function consume(s: Sctp, m: number, n: number): void {
  const pool = s.chunks.pool;
  s.chunks.msglen[m]! -= n;
  let x = m;
  while (n > 0) {
    const part = Math.min(n, pool.len[x]!);
    pool.off[x]! += part;
    pool.len[x]! -= part;
    n -= part;
    if (pool.len[x] === 0 && x !== m) {
      // Middle mbufs are freed as they empty; the first one stays, it carries the message's columns.
      const rest = pool.free(x);
      pool.next[m] = rest;
      x = rest;
    } else if (n > 0) x = pool.next[x]!;
  }
  // The tail may have been freed only if the message is empty, which is not the case here.
}

/** Receive buffers grow to twice what the reader takes in a round trip (after dynamic right-sizing). */
function tuneReceive(s: Sctp, ep: Endpoint, a: Association, n: number): void {
  if (!ep.rcvAuto) return;
  a.tuneBytes += n;
  const rtt = a.primary.srtt > 0 ? a.primary.srtt : SEC / 10;
  const elapsed = s.now - a.tuneStart;
  if (elapsed < rtt) return;
  const want = Math.min(2 * a.tuneBytes, s.tunables.recvbuf_max);
  if (want > ep.rcvLimit) ep.rcvLimit = Math.min(want, ep.rcvLimit * 2);
  a.tuneBytes = 0;
  a.tuneStart = s.now;
}
