/**
 * Messages at the socket's edge: user messages and notifications as objects (RFC 6458 §5.3 and §6), assembled from the
 * parts that recv hands out, and what a program says about a message that it sends.
 */

import { EAGAIN, EMSGSIZE } from '../stack/kern/errno.js';
import {
  MSG_EOR,
  MSG_NOTIFICATION,
  RecvInfo,
  type SendInfo,
  type SockAddr,
  type Socket,
} from '../stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP } from '../stack/netinet/in.js';
import { type AssocStatus, type Notification, SCTP_STATUS, SCTP_UNORDERED } from '../stack/sctp/api.js';

/** What a stack is for this folder: it makes sockets. Returns -errno when it cannot (-EPROTONOSUPPORT: not loaded). */
export interface Host {
  socket(domain: number, type: number, protocol: number): Socket | number;
}

/** A user message, or with `notification` set a notification (its `data` is then empty: the object says it all). */
export interface Message {
  readonly data: Buffer;
  readonly stream: number;
  /** Payload protocol identifier, host order. */
  readonly ppid: number;
  readonly ordered: boolean;
  /** Stream sequence number; meaningless when not ordered. */
  readonly ssn: number;
  readonly tsn: number;
  readonly context: number;
  readonly assocId: number;
  /** The sender's address; one-to-many sockets only (a one-to-one socket knows its peer). */
  readonly from: SockAddr | undefined;
  readonly notification: Notification | undefined;
}

/** What a sender may say about a message; everything has a default. */
export interface SendOptions {
  stream?: number;
  /** Payload protocol identifier, host order. */
  ppid?: number;
  /** false sends unordered (RFC 9260 §6.6). Default true. */
  ordered?: boolean;
  /** Comes back in a send-failed notification. */
  context?: number;
  assocId?: number;
  /** Partial reliability (RFC 3758, RFC 7496): policy number and value; 0 = reliable. */
  prPolicy?: number;
  prValue?: number;
  /** Further snd_flags: SCTP_SACK_IMMEDIATELY, SCTP_EOF, SCTP_ADDR_OVER, ... */
  flags?: number;
}

/** Sets every field of a scratch SendInfo, which send reads before it returns. */
export function fillSendInfo(out: SendInfo, o: SendOptions | undefined): SendInfo {
  out.sid = o?.stream ?? 0;
  out.ppid = o?.ppid ?? 0;
  out.flags = (o?.flags ?? 0) | (o?.ordered === false ? SCTP_UNORDERED : 0);
  out.context = o?.context ?? 0;
  out.assocId = o?.assocId ?? 0;
  out.prPolicy = o?.prPolicy ?? 0;
  out.prValue = o?.prValue ?? 0;
  return out;
}

export function newSendInfo(): SendInfo {
  return { sid: 0, flags: 0, ppid: 0, context: 0, assocId: 0, prPolicy: 0, prValue: 0 };
}

/** An address in text or as the stack has it. Names are not looked up: that is the program's business. */
export type AddressLike = string | InAddr;

/** Addresses with one port. Throws TypeError for a text that is no Internet address or a port out of range. */
export function sockaddrs(addresses: AddressLike | readonly AddressLike[], port: number): SockAddr[] {
  if (!Number.isInteger(port) || port < 0 || port > 0xffff) throw new TypeError(`not a port: ${port}`);
  const list: readonly AddressLike[] =
    typeof addresses === 'string' || addresses instanceof InAddr ? [addresses] : addresses;
  return list.map(a => ({ addr: typeof a === 'string' ? InAddr.of(a) : a.clone(), port }));
}

/** One address with a port, see sockaddrs. */
export function sockaddr(address: AddressLike, port: number): SockAddr {
  return sockaddrs(address, port)[0]!;
}

const empty = Buffer.alloc(0);
// recv copies out of the stack's mbufs into here, then the message gets a buffer of its own size. Shared by all readers:
// nothing of a program runs between the two copies.
const scratch = new Uint8Array(65536);

function makeMessage(data: Buffer, info: RecvInfo, withFrom: boolean): Message {
  const from = withFrom ? info.from : undefined;
  return {
    data,
    stream: info.sid,
    ppid: info.ppid,
    ordered: (info.flags & SCTP_UNORDERED) === 0,
    ssn: info.ssn,
    tsn: info.tsn,
    context: info.context,
    assocId: info.assocId,
    from: from === undefined ? undefined : { addr: from.addr.clone(), port: from.port },
    notification: undefined,
  };
}

interface Unfinished {
  parts: Buffer[];
  bytes: number;
  /** Too large: the rest is read and thrown away. */
  skip: boolean;
}

/**
 * Reads whole messages from a socket. A message comes in parts when it is larger than the scratch buffer or when the
 * stack delivers it partially (RFC 6458 §6.1.7, MSG_EOR missing); parts of several associations or streams may come
 * interleaved, so they are kept by association, stream and order.
 */
export class MessageReader {
  readonly so: Socket;
  readonly info = new RecvInfo();
  /** What the last read() that returned 1 has read. */
  message: Message | undefined;
  /** Messages thrown away because of maxMessageSize. */
  oversize = 0;
  readonly #partials = new Map<number, Unfinished>();
  readonly #maxMessageSize: number;
  readonly #withFrom: boolean;
  #held = 0;

  /** maxMessageSize bounds all bytes held in unfinished messages together. */
  constructor(so: Socket, maxMessageSize: number, withFrom: boolean) {
    this.so = so;
    this.#maxMessageSize = maxMessageSize;
    this.#withFrom = withFrom;
  }

  /** 1: `message` is set; 0: the peer has shut down and all is read; -EAGAIN; -EMSGSIZE: one was too large; -errno. */
  read(): number {
    const info = this.info;
    for (;;) {
      info.msgFlags = 0;
      info.notification = undefined;
      const n = this.so.recv(scratch, 0, scratch.length, info);
      if (n < 0) return n;
      const eor = (info.msgFlags & MSG_EOR) !== 0;
      if ((info.msgFlags & MSG_NOTIFICATION) !== 0) {
        if (!eor) continue; // the object comes complete with every part of its bytes
        const notification = info.notification as Notification | undefined;
        if (notification === undefined) continue;
        if (notification.type === 'partial-delivery') this.#forget(notification.assocId, notification.sid);
        if (notification.type === 'assoc-change' && notification.state !== 'comm-up')
          this.#forget(notification.assocId);
        this.message = { ...makeMessage(empty, info, this.#withFrom), notification };
        return 1;
      }
      if (n === 0) return 0;
      if (eor && this.#partials.size === 0) {
        const data = Buffer.allocUnsafe(n);
        data.set(n === scratch.length ? scratch : scratch.subarray(0, n));
        this.message = makeMessage(data, info, this.#withFrom);
        return 1;
      }
      const done = this.#part(n, eor);
      if (done !== 0) return done;
    }
  }

  /** Adds a part; 1 when the message is whole, -EMSGSIZE when its last part has been thrown away, else 0. */
  #part(n: number, eor: boolean): number {
    const info = this.info;
    const key = partKey(info.assocId, info.sid, (info.flags & SCTP_UNORDERED) !== 0);
    let p = this.#partials.get(key);
    if (p === undefined) this.#partials.set(key, (p = { parts: [], bytes: 0, skip: false }));
    if (!p.skip && this.#held + n > this.#maxMessageSize) {
      this.#held -= p.bytes;
      p.parts = [];
      p.bytes = 0;
      p.skip = true;
      this.oversize++;
    }
    if (!p.skip) {
      p.parts.push(Buffer.from(scratch.subarray(0, n)));
      p.bytes += n;
      this.#held += n;
    }
    if (!eor) return 0;
    this.#partials.delete(key);
    this.#held -= p.bytes;
    if (p.skip) return -EMSGSIZE;
    this.message = makeMessage(Buffer.concat(p.parts, p.bytes), info, this.#withFrom);
    return 1;
  }

  /** True while a message of an association has come in part. */
  unfinished(assocId: number): boolean {
    for (const key of this.#partials.keys()) if (Math.floor(key / 0x20000) === assocId) return true;
    return false;
  }
  /** Drops unfinished messages of an association, or of one of its streams. */
  #forget(assocId: number, sid?: number): void {
    for (const [key, p] of this.#partials) {
      if (Math.floor(key / 0x20000) !== assocId) continue;
      if (sid !== undefined && (key % 0x20000) >>> 1 !== sid) continue;
      this.#partials.delete(key);
      this.#held -= p.bytes;
    }
  }
}

function partKey(assocId: number, sid: number, unordered: boolean): number {
  return assocId * 0x20000 + sid * 2 + (unordered ? 1 : 0); // below 2^49
}

/**
 * How a connect that returned -EINPROGRESS stands: 1 = the association is up (or has been up and is over already),
 * -EAGAIN = still setting up, -errno = failed. SCTP answers by its state; for another protocol the peer's name decides.
 */
export function connectResult(so: Socket): number {
  const error = so.takeError();
  if (error !== 0) return -error;
  const status = so.getsockopt(IPPROTO_SCTP, SCTP_STATUS, 0);
  if (typeof status === 'object' && status !== null) {
    const state = (status as AssocStatus).state;
    if (state === 'COOKIE_WAIT' || state === 'COOKIE_ECHOED') return -EAGAIN;
    if (state !== 'CLOSED') return 1;
  } else if (typeof so.peeraddr() !== 'number') return 1;
  return so.readable ? 1 : -EAGAIN; // came and went within one batch: recv tells the rest
}
