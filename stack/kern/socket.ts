/**
 * Sockets, kernel side: after BSD's socket(9), non-blocking throughout. Every call returns a value >= 0 or -errno; what
 * would block returns -EAGAIN (or -EINPROGRESS for connect) and `upcall` says when to look again. Promises and streams
 * are made of this in sockets/.
 */

import type { InAddr } from '../netinet/in.js';
import { EAGAIN, EINVAL, EOPNOTSUPP, EPROTONOSUPPORT } from './errno.js';
import type { ProtocolSwitch, Protosw } from './protosw.js';

export const MSG_PEEK = 0x2;
export const MSG_EOR = 0x8;
export const MSG_TRUNC = 0x10;
export const MSG_CTRUNC = 0x20;
export const MSG_DONTWAIT = 0x80;
export const MSG_EOF = 0x100;
export const MSG_NOTIFICATION = 0x2000;

export const SHUT_RD = 0;
export const SHUT_WR = 1;
export const SHUT_RDWR = 2;

/** Socket-level options, FreeBSD's sys/socket.h. */
export const SOL_SOCKET = 0xffff;
export const SO_REUSEADDR = 0x0004;
export const SO_BROADCAST = 0x0020;
export const SO_LINGER = 0x0080;
export const SO_SNDBUF = 0x1001;
export const SO_RCVBUF = 0x1002;
export const SO_ERROR = 0x1007;

export interface SockAddr {
  readonly addr: InAddr;
  readonly port: number;
}

/** What a sender says about a message (sctp_sndinfo and sctp_prinfo of RFC 6458 §5.3); other protocols ignore it. */
export interface SendInfo {
  sid: number;
  /** SCTP_UNORDERED, SCTP_EOF, SCTP_ABORT, SCTP_ADDR_OVER, SCTP_SACK_IMMEDIATELY, ... */
  flags: number;
  /** Payload protocol identifier, host order. */
  ppid: number;
  context: number;
  assocId: number;
  /** Partial reliability: policy and value (RFC 3758, RFC 7496); 0, 0 = reliable. */
  prPolicy: number;
  prValue: number;
  /** For the association that this message sets up, if it does (SCTP_INIT of RFC 6458 §5.3.1); 0 keeps the default. */
  init?: { numOstreams: number; maxInstreams: number; maxAttempts: number; maxInitTimeo: number };
  /** Further addresses of the peer, with the port of the first (SCTP_DSTADDRV4, SCTP_DSTADDRV6, §5.3.9). */
  addresses?: readonly SockAddr[];
}

/** What is known of the message behind the one just read (sctp_nxtinfo of RFC 6458 §5.3.6). */
export interface NextInfo {
  readonly sid: number;
  /** SCTP_UNORDERED, SCTP_COMPLETE, SCTP_NOTIFICATION. */
  readonly flags: number;
  readonly ppid: number;
  /** Bytes there now: of the whole message with SCTP_COMPLETE. */
  readonly length: number;
  readonly assocId: number;
}

/** What recv says about a message. One instance is filled over and over: a reader that keeps it copies it. */
export class RecvInfo {
  /** MSG_EOR, MSG_NOTIFICATION, MSG_TRUNC. */
  msgFlags = 0;
  sid = 0;
  ssn = 0;
  flags = 0; // SCTP_UNORDERED
  ppid = 0;
  tsn = 0;
  cumtsn = 0;
  context = 0;
  assocId = 0;
  /** Sender's address and port, if the protocol gives it. */
  from: SockAddr | undefined;
  /** Set with MSG_NOTIFICATION: the notification as an object (its bytes are what recv copies). */
  notification: Readonly<{ type: string }> | undefined;
  /** The next message, if there is one and the user has asked (SCTP_RECVNXTINFO). */
  next: NextInfo | undefined;
}

/** A protocol's side of a socket (pr_usrreqs). Every function returns >= 0 or -errno. */
export interface Usrreqs {
  /** Makes the protocol's control block: sets so.pcb. */
  attach(so: Socket): number;
  /** The socket is being closed: so.pcb must be let go (it may live on until the protocol has finished). */
  close(so: Socket): number;
  bind(so: Socket, addrs: readonly SockAddr[]): number;
  listen(so: Socket, backlog: number): number;
  /** -EINPROGRESS until the peer has answered. Several addresses: sctp_connectx. */
  connect(so: Socket, addrs: readonly SockAddr[]): number;
  /** A new connected socket (one-to-one) or -EAGAIN. */
  accept(so: Socket): Socket | number;
  send(
    so: Socket,
    data: Uint8Array,
    off: number,
    len: number,
    to: SockAddr | undefined,
    info: SendInfo | undefined,
    flags: number,
  ): number;
  recv(so: Socket, buf: Uint8Array, off: number, len: number, info: RecvInfo, flags: number): number;
  shutdown(so: Socket, how: number): number;
  sockaddr(so: Socket): SockAddr | number;
  peeraddr(so: Socket): SockAddr | number;
  getopt(so: Socket, level: number, name: number, arg?: unknown): unknown;
  setopt(so: Socket, level: number, name: number, value: unknown): number;
  /** True when recv would return something other than -EAGAIN, and send likewise. */
  readable(so: Socket): boolean;
  writable(so: Socket): boolean;
  /** Bytes that a send could take now: the room in the send buffer. */
  space(so: Socket): number;
}

export class Socket {
  readonly proto: Protosw;
  readonly #req: Usrreqs;
  /** The protocol's control block. */
  pcb: unknown;
  /** so_error: returned and cleared by the next call. errno, positive. */
  error = 0;
  /** Why, in a sentence with the RFC section, when `error` was set. */
  errorReason = '';
  closed = false;
  /**
   * Called by the protocol, at most once per batch, when readable(), writable(), connection state or error may have
   * changed. Runs inside the stack's loop: it must not block, and it may call the socket.
   */
  upcall: ((so: Socket) => void) | undefined;
  /** Called when a call has made work for the loop (data to send): set by who runs the loop. */
  kick: () => void;

  constructor(proto: Protosw, kick: () => void) {
    if (proto.usrreqs === undefined) throw new TypeError(`${proto.name} has no sockets`);
    this.proto = proto;
    this.#req = proto.usrreqs;
    this.kick = kick;
  }

  #run(n: number): number {
    this.kick();
    return n;
  }
  bind(...addrs: readonly SockAddr[]): number {
    return this.closed ? -EINVAL : this.#req.bind(this, addrs);
  }
  listen(backlog: number): number {
    return this.closed ? -EINVAL : this.#req.listen(this, backlog);
  }
  connect(...addrs: readonly SockAddr[]): number {
    return this.closed ? -EINVAL : this.#run(this.#req.connect(this, addrs));
  }
  accept(): Socket | number {
    return this.closed ? -EINVAL : this.#req.accept(this);
  }
  /** Sends one message (or, with explicit EOR, a part of one). Returns len, or -EAGAIN when the buffer has no room. */
  send(data: Uint8Array, off = 0, len = data.length - off, info?: SendInfo, to?: SockAddr, flags = 0): number {
    if (this.closed) return -EINVAL;
    const n = this.#req.send(this, data, off, len, to, info, flags);
    if (n >= 0) this.kick();
    return n;
  }
  /** Receives (a part of) one message or notification. 0 = the peer has shut down; -EAGAIN = nothing there. */
  recv(buf: Uint8Array, off: number, len: number, info: RecvInfo, flags = 0): number {
    if (this.closed) return -EINVAL;
    return this.#req.recv(this, buf, off, len, info, flags);
  }
  shutdown(how: number): number {
    return this.closed ? -EINVAL : this.#run(this.#req.shutdown(this, how));
  }
  /** Closes: graceful by default, see SO_LINGER. The object is dead afterwards. */
  close(): number {
    if (this.closed) return -EINVAL;
    this.closed = true;
    this.upcall = undefined;
    return this.#run(this.#req.close(this));
  }
  sockaddr(): SockAddr | number {
    return this.#req.sockaddr(this);
  }
  peeraddr(): SockAddr | number {
    return this.#req.peeraddr(this);
  }
  /** An option's value, or -errno. `arg` is the input part of options that have one (an association id, an address). */
  getsockopt(level: number, name: number, arg?: unknown): unknown {
    return this.closed ? -EINVAL : this.#req.getopt(this, level, name, arg);
  }
  setsockopt(level: number, name: number, value: unknown): number {
    return this.closed ? -EINVAL : this.#run(this.#req.setopt(this, level, name, value));
  }
  get readable(): boolean {
    return !this.closed && this.#req.readable(this);
  }
  get writable(): boolean {
    return !this.closed && this.#req.writable(this);
  }
  get space(): number {
    return this.closed ? 0 : this.#req.space(this);
  }
  /** Takes so_error: 0 or a positive errno. */
  takeError(): number {
    const e = this.error;
    this.error = 0;
    return e;
  }
}

/** socket(2): a socket of a registered protocol, or -errno (-EPROTONOSUPPORT: its extension is not loaded). */
export function socreate(
  protocols: ProtocolSwitch,
  domain: number,
  type: number,
  protocol: number,
  kick: () => void,
): Socket | number {
  const p = protocols.find(domain, type, protocol);
  if (p === undefined) return -EPROTONOSUPPORT;
  if (p.usrreqs === undefined) return -EOPNOTSUPP;
  const so = new Socket(p, kick);
  const e = p.usrreqs.attach(so);
  return e < 0 ? e : so;
}

/** True when a call's result means "not now, wait for the upcall". */
export function wouldBlock(n: unknown): boolean {
  return n === -EAGAIN;
}
