/**
 * Sockets, kernel side: after BSD's socket(9), non-blocking throughout. Every call returns a value >= 0 or -errno; what
 * would block returns -EAGAIN (or -EINPROGRESS for connect) and `upcall` says when to look again. Promises and streams
 * are made of this in sockets/.
 */

import type { InAddr } from '../netinet/in.js';
import { EAGAIN, EBUSY, EINPROGRESS, EINVAL, EOPNOTSUPP, EPROTONOSUPPORT } from './errno.js';
import type { ProtocolSwitch, Protosw } from './protosw.js';
import { EJUSTRETURN, SocketChain, type SocketFilters } from './sflt.js';

export const MSG_PEEK = 0x2;
export const MSG_EOR = 0x8;
export const MSG_TRUNC = 0x10;
export const MSG_CTRUNC = 0x20;
export const MSG_DONTWAIT = 0x80;
export const MSG_EOF = 0x100;
export const MSG_NOTIFICATION = 0x2000;

/** Accepted connections that filters hold back, of one listener. */
const MAX_HELD = 64;

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

/** Open sockets of each row; rows belong to one stack. */
const openOf = new WeakMap<Protosw, Set<Socket>>();
/** The filters of the stack that a row belongs to. */
const filtersOf = new WeakMap<Protosw, SocketFilters>();

/** Sockets of a protocol's row that are not closed. */
export function openSockets(row: Protosw): number {
  return openOf.get(row)?.size ?? 0;
}

/** All open sockets of a stack's protocols. */
export function* socketsOf(protocols: ProtocolSwitch): Iterable<Socket> {
  for (const row of protocols.rows) yield* openOf.get(row) ?? [];
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
  /** Socket filters (sflt.ts) and what they hold; null while there are none, which is all that calls look at then. */
  filters: SocketChain | null = null;

  constructor(proto: Protosw, kick: () => void) {
    if (proto.usrreqs === undefined) throw new TypeError(`${proto.name} has no sockets`);
    this.proto = proto;
    this.#req = proto.usrreqs;
    this.kick = kick;
    const open = openOf.get(proto);
    if (open === undefined) openOf.set(proto, new Set([this]));
    else open.add(this);
    // Accepted and peeled-off sockets too: the filters come on at their first use.
    const registry = filtersOf.get(proto);
    if (registry?.any) this.filters = new SocketChain(registry);
  }

  #run(n: number): number {
    this.kick();
    return n;
  }
  bind(...addrs: readonly SockAddr[]): number {
    if (this.closed) return -EINVAL;
    if (this.filters !== null) {
      const e = this.filters.registry.ask(this, false, (f, c) => f.bind?.(this, c, addrs));
      if (e < 0) return e === -EJUSTRETURN ? 0 : e;
    }
    return this.#req.bind(this, addrs);
  }
  listen(backlog: number): number {
    if (this.closed) return -EINVAL;
    if (this.filters !== null) {
      const e = this.filters.registry.ask(this, false, (f, c) => f.listen?.(this, c, backlog));
      if (e < 0) return e === -EJUSTRETURN ? 0 : e;
    }
    return this.#req.listen(this, backlog);
  }
  connect(...addrs: readonly SockAddr[]): number {
    if (this.closed) return -EINVAL;
    if (this.filters === null) return this.#run(this.#req.connect(this, addrs));
    const { registry } = this.filters;
    const e = registry.ask(this, false, (f, c) => f.connect_out?.(this, c, addrs));
    if (e < 0) return e === -EJUSTRETURN ? 0 : e;
    const n = this.#run(this.#req.connect(this, addrs));
    if (n >= 0 || n === -EINPROGRESS) registry.notify(this, n >= 0 ? 'connected' : 'connecting');
    return n;
  }
  accept(): Socket | number {
    if (this.closed) return -EINVAL;
    return this.filters === null ? this.#req.accept(this) : this.#acceptFiltered();
  }
  /** Connections that the filters deny are aborted and the next one is looked at; what they hold is shown again. */
  #acceptFiltered(): Socket | number {
    const chain = this.filters!;
    const { registry } = chain;
    const again = chain.held.splice(0);
    for (;;) {
      const made = again.shift() ?? (chain.held.length < MAX_HELD ? this.#req.accept(this) : -EAGAIN);
      if (typeof made === 'number') return made;
      if (made.closed) continue;
      const peer = made.peeraddr();
      const from = typeof peer === 'number' ? undefined : peer;
      const e = registry.ask(this, true, (f, c) => f.connect_in?.(this, c, made, from));
      if (e === -EAGAIN) {
        chain.held.push(made);
        continue;
      }
      if (e < 0) {
        made.#req.setopt(made, SOL_SOCKET, SO_LINGER, { onoff: true, linger: 0 });
        made.close();
        continue;
      }
      chain.held.push(...again);
      if (registry.any && made.filters === null) made.filters = new SocketChain(registry);
      if (made.filters !== null) registry.notify(made, 'connected');
      return made;
    }
  }
  /** Sends one message (or, with explicit EOR, a part of one). Returns len, or -EAGAIN when the buffer has no room. */
  send(data: Uint8Array, off = 0, len = data.length - off, info?: SendInfo, to?: SockAddr, flags = 0): number {
    if (this.closed) return -EINVAL;
    if (this.filters !== null) return this.#sendFiltered(data, off, len, info, to, flags);
    const n = this.#req.send(this, data, off, len, to, info, flags);
    if (n >= 0) this.kick();
    return n;
  }
  /** The same past the filters: for what they inject. */
  sendUnfiltered(
    data: Uint8Array,
    off: number,
    len: number,
    info: SendInfo | undefined,
    to: SockAddr | undefined,
    flags: number,
  ): number {
    if (this.closed) return -EINVAL;
    const n = this.#req.send(this, data, off, len, to, info, flags);
    if (n >= 0) this.kick();
    return n;
  }
  #sendFiltered(
    data: Uint8Array,
    off: number,
    len: number,
    info: SendInfo | undefined,
    to: SockAddr | undefined,
    flags: number,
  ): number {
    const { registry } = this.filters!;
    // A full buffer says so before the filters see what is going to be sent again.
    if (!this.#req.writable(this)) return this.sendUnfiltered(data, off, len, info, to, flags);
    const d = registry.borrow();
    d.data = data;
    d.off = off;
    d.len = len;
    d.peer = to;
    d.send = info;
    d.flags = flags;
    const e = registry.dataOut(this, d);
    let n = len;
    if (e === 0) {
      n = this.closed ? -EINVAL : this.sendUnfiltered(d.data, d.off, d.len, d.send, d.peer, flags);
      if (n < 0) registry.notify(this, 'send-refused', -n);
      // To the program its own message has gone, whatever the filters made of it.
      else if (n === d.len) n = len;
      else n = Math.min(n, len);
    } else if (e !== -EJUSTRETURN) n = e;
    registry.give(d);
    return n;
  }
  /** Receives (a part of) one message or notification. 0 = the peer has shut down; -EAGAIN = nothing there. */
  recv(buf: Uint8Array, off: number, len: number, info: RecvInfo, flags = 0): number {
    if (this.closed) return -EINVAL;
    if (this.filters !== null) return this.#recvFiltered(buf, off, len, info, flags);
    return this.#req.recv(this, buf, off, len, info, flags);
  }
  #recvFiltered(buf: Uint8Array, off: number, len: number, info: RecvInfo, flags: number): number {
    const chain = this.filters!;
    const { registry } = chain;
    registry.begin(this);
    if (chain.injected.length > 0) return this.#recvInjected(buf, off, len, info, flags);
    // Bounded: what filters swallow is at most what the receive buffer holds.
    for (;;) {
      const n = this.#req.recv(this, buf, off, len, info, flags);
      // The end, or an error; but an empty datagram is data.
      if (n < 0 || (n === 0 && (info.msgFlags & MSG_EOR) === 0) || chain.list.length === 0) return n;
      const d = registry.borrow();
      d.data = buf;
      d.off = off;
      d.len = n;
      d.peer = info.from;
      d.recv = info;
      d.flags = flags;
      const e = registry.dataIn(this, d);
      const left = d.len;
      if (e === 0 && left > 0 && (d.data !== buf || d.off !== off)) buf.set(d.data.subarray(d.off, d.off + left), off);
      registry.give(d);
      if (e === 0) return left;
      // Not for the program: what was only peeked at is taken away.
      if ((flags & MSG_PEEK) !== 0) this.#req.recv(this, buf, off, len, info, flags & ~MSG_PEEK);
      if (e !== -EJUSTRETURN) return e;
      if (this.closed) return -EINVAL;
      if (chain.injected.length > 0) return this.#recvInjected(buf, off, len, info, flags);
    }
  }
  #recvInjected(buf: Uint8Array, off: number, len: number, info: RecvInfo, flags: number): number {
    const chain = this.filters!;
    const first = chain.injected[0]!;
    const n = Math.min(len, first.data.length);
    buf.set(first.data.subarray(0, n), off);
    info.msgFlags = MSG_EOR | (n < first.data.length ? MSG_TRUNC : 0);
    info.from = first.from;
    info.notification = undefined;
    info.next = undefined;
    info.sid = first.sid;
    info.ppid = first.ppid;
    info.assocId = first.assocId;
    info.flags = first.flags;
    if ((flags & MSG_PEEK) === 0) {
      chain.injected.shift();
      chain.injectedBytes -= first.data.length;
      if (chain.injected.length === 0 && chain.list.length === 0 && chain.held.length === 0) this.filters = null;
    }
    return n;
  }
  shutdown(how: number): number {
    if (this.closed) return -EINVAL;
    const n = this.#run(this.#req.shutdown(this, how));
    if (this.filters !== null && n >= 0) this.filters.registry.notify(this, 'shutdown');
    return n;
  }
  /** Closes: graceful by default, see SO_LINGER. The object is dead afterwards. */
  close(): number {
    if (this.closed) return -EINVAL;
    if (this.filters !== null) this.filters.registry.notify(this, 'closing');
    this.forget();
    return this.#run(this.#req.close(this));
  }
  /** Marks it closed without telling the protocol: one whose attach failed, or whose protocol is gone. */
  forget(): void {
    if (this.closed) return;
    this.closed = true;
    this.upcall = undefined;
    if (this.filters !== null) this.filters.registry.closed(this);
    openOf.get(this.proto)?.delete(this);
  }
  sockaddr(): SockAddr | number {
    return this.#req.sockaddr(this);
  }
  peeraddr(): SockAddr | number {
    return this.#req.peeraddr(this);
  }
  /** An option's value, or -errno. `arg` is the input part of options that have one (an association id, an address). */
  getsockopt(level: number, name: number, arg?: unknown): unknown {
    if (this.closed) return -EINVAL;
    if (this.filters !== null) {
      const e = this.filters.registry.ask(this, false, (f, c) => f.getoption?.(this, c, level, name));
      if (e < 0) return e === -EJUSTRETURN ? 0 : e;
    }
    return this.#req.getopt(this, level, name, arg);
  }
  setsockopt(level: number, name: number, value: unknown): number {
    if (this.closed) return -EINVAL;
    if (this.filters !== null) {
      const e = this.filters.registry.ask(this, false, (f, c) => f.setoption?.(this, c, level, name, value));
      if (e < 0) return e === -EJUSTRETURN ? 0 : e;
    }
    return this.#run(this.#req.setopt(this, level, name, value));
  }
  get readable(): boolean {
    if (this.closed) return false;
    return (this.filters !== null && this.filters.injected.length > 0) || this.#req.readable(this);
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

/** socket(2): a socket of a registered protocol, or -errno (-EPROTONOSUPPORT: its extension is not loaded; -EBUSY: it is leaving). */
export function socreate(
  protocols: ProtocolSwitch,
  domain: number,
  type: number,
  protocol: number,
  kick: () => void,
  filters?: SocketFilters,
): Socket | number {
  const p = protocols.find(domain, type, protocol);
  if (p === undefined) return -EPROTONOSUPPORT;
  if (p.usrreqs === undefined) return -EOPNOTSUPP;
  if (!protocols.givesSockets(p)) return -EBUSY;
  if (filters !== undefined) filtersOf.set(p, filters);
  const so = new Socket(p, kick);
  const e = p.usrreqs.attach(so);
  if (e >= 0) {
    if (so.filters !== null) filters!.begin(so);
    return so;
  }
  so.forget();
  return e;
}

/** True when a call's result means "not now, wait for the upcall". */
export function wouldBlock(n: unknown): boolean {
  return n === -EAGAIN;
}
