/**
 * Socket filters, after Darwin's sflt (sys/kpi_socketfilter.h): code between a program's socket calls and the protocol, on
 * all sockets of a kind or on one. A filter sees calls in the order of a program that makes them: outward (bind, connect,
 * send, options) the last attached first, inward (accepted connections, received data) the first attached first.
 *
 * What a callback returns: 0 = go on; -EJUSTRETURN = the filter has dealt with it (the call succeeds, data is swallowed or
 * deferred: the filter has copied what it wants to inject later); any other -errno = denied, the program is told that.
 * -EAGAIN from data_out, connect_out or connect_in means "not now": the program waits for its upcall, which the filter
 * owes it (sock_wakeup).
 *
 * Callbacks run inside socket calls, in the stack's loop: they must not block. They may call other sockets, inject, and
 * detach; the socket they are called for they may only ask (addresses, options). One that throws is taken off all sockets,
 * counted and reported by name; the call goes on as if it had returned 0.
 *
 * A socket without filters pays one comparison with null a call. Control sockets (PF_NKE) are never filtered: rules that
 * lock everybody out can be changed.
 */

import { EAGAIN, EEXIST, EINVAL, ENOBUFS, ENOENT } from './errno.js';
import type { ProtocolSwitch } from './protosw.js';
import type { RecvInfo, SendInfo, SockAddr, Socket } from './socket.js';

/** "Dealt with": Darwin's EJUSTRETURN. Never reaches a program. */
export const EJUSTRETURN = 4094;
/** The control domain (ctl.ts), whose sockets are left alone. */
const PF_NKE = 32;
/** Filters on one socket, and messages and bytes that wait on one socket because a filter injected them. */
export const MAX_SOCKET_FILTERS = 32;
export const MAX_INJECTED = 256;
export const MAX_INJECTED_BYTES = 1 << 20;

/**
 * A message on its way through a socket. One instance is used over and over: a filter that keeps something copies it.
 * Bytes data[off, off+len) may be changed in place on the way in; on the way out they are the program's: a filter that
 * changes them sets `data`, `off` and `len` to bytes of its own.
 */
export class SockData {
  data: Uint8Array = new Uint8Array(0);
  off = 0;
  /** In: may be made shorter. */
  len = 0;
  /** Out: the destination that the program gave, undefined on a connected socket. In: who sent it, if known. */
  peer: SockAddr | undefined;
  /** Out: what the program said about the message. */
  send: SendInfo | undefined;
  /** In: what recv says of it. Notifications (MSG_NOTIFICATION) come by here too. */
  recv: RecvInfo | undefined;
  /** MSG_*. In: with MSG_PEEK the message will be shown again; the verdict counts, what is counted should not. */
  flags = 0;
}

/** What becomes of a socket, told to filters after the fact. */
export type SocketNotice =
  | 'connecting'
  | 'connected'
  | 'shutdown'
  | 'closing'
  /** The protocol refused (or had no room for) data that the filters had let pass: it will be shown again if sent again. */
  | 'send-refused';

/** A socket filter. `cookie` is what its attach returned for this socket (undefined without an attach). */
export interface SocketFilter {
  readonly name: string;
  /** Of what kind of sockets; what is left out means any. */
  readonly domain?: number;
  readonly type?: number;
  readonly protocol?: number;
  /** True: only on sockets that it is attached to by name (sflt_attach), not on all of its kind (SFLT_PROG). */
  readonly programmatic?: boolean;
  /** It is put on a socket, new or there already. Returns a cookie, or -errno: it stays off this one. */
  attach?(so: Socket): unknown;
  /** It is taken off: the socket is closed, or the filter leaves. */
  detach?(so: Socket, cookie: unknown): void;
  /** After sf_unregistered: no callback will come any more. */
  unregistered?(): void;
  bind?(so: Socket, cookie: unknown, addrs: readonly SockAddr[]): number;
  listen?(so: Socket, cookie: unknown, backlog: number): number;
  /** 0, or -errno (-EAGAIN: later). Several addresses: sctp_connectx. */
  connect_out?(so: Socket, cookie: unknown, addrs: readonly SockAddr[]): number;
  /** A connection that a listener (`so`) is about to accept. Denied: it is aborted. -EAGAIN: accept shows it again. */
  connect_in?(so: Socket, cookie: unknown, made: Socket, from: SockAddr | undefined): number;
  data_out?(so: Socket, cookie: unknown, d: SockData): number;
  /** Called when the program reads. Denied: the message is gone and the program gets -errno. */
  data_in?(so: Socket, cookie: unknown, d: SockData): number;
  setoption?(so: Socket, cookie: unknown, level: number, name: number, value: unknown): number;
  getoption?(so: Socket, cookie: unknown, level: number, name: number): number;
  notify?(so: Socket, cookie: unknown, what: SocketNotice, error: number): void;
}

/** Whose a filter is. */
export interface SocketFilterOwner {
  fault(what: string, why: unknown): void;
}

interface Registered {
  readonly filter: SocketFilter;
  readonly owner: SocketFilterOwner | undefined;
  gone: boolean;
}

interface Attached {
  readonly registered: Registered;
  readonly cookie: unknown;
}

/** What recv is to say of an injected message. */
export type InjectInfo = Partial<Omit<Injected, 'data'>>;

interface Injected {
  readonly data: Uint8Array;
  readonly from: SockAddr | undefined;
  readonly flags: number;
  readonly ppid: number;
  readonly sid: number;
  readonly assocId: number;
}

/** The filters of one socket, and what they have put in its way. Made only when there is one. */
export class SocketChain {
  readonly registry: SocketFilters;
  /** Copied on change. */
  list: readonly Attached[] = [];
  injected: Injected[] = [];
  injectedBytes = 0;
  /** Accepted, but a filter said "later". */
  held: Socket[] = [];
  /** Filters of the socket's kind have been asked to attach. */
  ready = false;
  constructor(registry: SocketFilters) {
    this.registry = registry;
  }
}

export const SFLT_COUNTERS = {
  attached: 0,
  detached: 0,
  faults: 0,
  denied: 0,
  swallowed_out: 0,
  swallowed_in: 0,
  injected_in: 0,
  injected_out: 0,
  injected_dropped: 0,
};

/** The registry of a stack. */
export class SocketFilters {
  readonly counters: Record<keyof typeof SFLT_COUNTERS, number> = { ...SFLT_COUNTERS };
  #filters: readonly Registered[] = [];
  readonly #protocols: ProtocolSwitch | undefined;
  readonly #openOf: (p: ProtocolSwitch) => Iterable<Socket>;
  readonly #data = new SockData();

  /** `openOf` gives all open sockets of a switch's rows: a new filter is put on those too. */
  constructor(protocols?: ProtocolSwitch, openOf: (p: ProtocolSwitch) => Iterable<Socket> = () => []) {
    this.#protocols = protocols;
    this.#openOf = openOf;
  }

  /** Puts a filter on all sockets of its kind, those that are open and those to come. Returns 0 or -EEXIST (same name). */
  register(filter: SocketFilter, owner?: SocketFilterOwner): number {
    if (this.#filters.some(r => r.filter.name === filter.name)) return -EEXIST;
    const r: Registered = { filter, owner, gone: false };
    this.#filters = [...this.#filters, r];
    if (filter.programmatic !== true && this.#protocols !== undefined)
      for (const so of [...this.#openOf(this.#protocols)]) {
        if (r.gone) break;
        if (so.filters === null) {
          if (!this.#kind(filter, so)) continue;
          so.filters = new SocketChain(this);
        }
        if (so.filters.ready) {
          if (this.#kind(filter, so)) this.#put(so, r);
        } else this.begin(so);
      }
    return 0;
  }
  /** Takes it off every socket. Returns 0 or -ENOENT. */
  unregister(filter: SocketFilter): number {
    const r = this.#filters.find(x => x.filter === filter);
    if (r === undefined) return -ENOENT;
    this.#leave(r);
    return 0;
  }
  #leave(r: Registered): void {
    r.gone = true;
    this.#filters = this.#filters.filter(x => x !== r);
    if (this.#protocols !== undefined)
      for (const so of [...this.#openOf(this.#protocols)]) {
        const a = so.filters?.list.find(x => x.registered === r);
        if (a !== undefined) this.#take(so, a);
      }
    try {
      r.filter.unregistered?.();
    } catch (e) {
      r.owner?.fault(`socket filter ${r.filter.name}`, e);
    }
  }
  get list(): readonly SocketFilter[] {
    return this.#filters.map(r => r.filter);
  }
  /** True when a new socket may meet a filter. */
  get any(): boolean {
    return this.#filters.length > 0;
  }

  /** Puts a registered filter on one socket. Returns 0, -ENOENT, -EEXIST, -ENOBUFS, -EINVAL (closed), or what attach says. */
  attach(so: Socket, filter: SocketFilter): number {
    const r = this.#filters.find(x => x.filter === filter);
    if (r === undefined) return -ENOENT;
    if (so.closed || so.proto.domain === PF_NKE) return -EINVAL;
    so.filters ??= new SocketChain(this);
    this.begin(so);
    return so.filters.list.some(a => a.registered === r) ? -EEXIST : this.#put(so, r);
  }
  /** Takes it off one socket. Returns 0 or -ENOENT. */
  detach(so: Socket, filter: SocketFilter): number {
    const a = so.filters?.list.find(x => x.registered.filter === filter);
    if (a === undefined) return -ENOENT;
    this.#take(so, a);
    return 0;
  }

  #kind(f: SocketFilter, so: Socket): boolean {
    const { domain, type, protocol } = so.proto;
    return (
      domain !== PF_NKE &&
      f.programmatic !== true &&
      (f.domain === undefined || f.domain === domain) &&
      (f.type === undefined || f.type === type) &&
      (f.protocol === undefined || f.protocol === protocol)
    );
  }
  /** A socket's first use: the filters of its kind come on. */
  begin(so: Socket): void {
    const chain = so.filters;
    if (chain === null || chain.ready) return;
    chain.ready = true;
    for (const r of this.#filters) if (this.#kind(r.filter, so)) this.#put(so, r);
  }
  #put(so: Socket, r: Registered): number {
    const chain = so.filters!;
    if (chain.list.length >= MAX_SOCKET_FILTERS) return -ENOBUFS;
    let cookie: unknown;
    try {
      cookie = r.filter.attach?.(so);
    } catch (e) {
      this.#broke(r, e);
      return -EINVAL;
    }
    if (typeof cookie === 'number' && cookie < 0) return cookie;
    if (r.gone || so.closed) return -EINVAL;
    chain.list = [...chain.list, { registered: r, cookie }];
    this.counters.attached++;
    return 0;
  }
  #take(so: Socket, a: Attached): void {
    const chain = so.filters!;
    chain.list = chain.list.filter(x => x !== a);
    this.counters.detached++;
    try {
      a.registered.filter.detach?.(so, a.cookie);
    } catch (e) {
      if (!a.registered.gone) this.#broke(a.registered, e);
      else a.registered.owner?.fault(`socket filter ${a.registered.filter.name}`, e);
    }
    // The fast path is back when nothing is left to do.
    if (chain.list.length === 0 && chain.injected.length === 0 && chain.held.length === 0 && so.filters === chain)
      so.filters = null;
  }
  /** The socket is closed: every filter is told, once. */
  closed(so: Socket): void {
    const chain = so.filters;
    if (chain === null) return;
    for (const a of chain.list) this.#take(so, a);
    chain.injected = [];
    chain.injectedBytes = 0;
    for (const made of chain.held.splice(0)) made.close();
    so.filters = null;
  }
  #broke(r: Registered, why: unknown): void {
    this.counters.faults++;
    r.owner?.fault(`socket filter ${r.filter.name}`, why);
    if (!r.gone) this.#leave(r);
  }

  /** Asks every filter, outward or inward, until one does not say 0. */
  ask(so: Socket, inward: boolean, call: (f: SocketFilter, cookie: unknown) => number | undefined): number {
    const chain = so.filters!;
    this.begin(so);
    const { list } = chain;
    for (let k = 0; k < list.length; k++) {
      const a = list[inward ? k : list.length - 1 - k]!;
      if (a.registered.gone) continue;
      let e: number | undefined;
      try {
        e = call(a.registered.filter, a.cookie);
      } catch (error) {
        this.#broke(a.registered, error);
        continue;
      }
      if (e === undefined || e === 0) continue;
      if (!Number.isInteger(e) || e > 0) {
        this.#broke(a.registered, `it returned ${String(e)}; it must be 0 or -errno`);
        continue;
      }
      if (e !== -EJUSTRETURN && e !== -EAGAIN) this.counters.denied++;
      return e;
    }
    return 0;
  }
  notify(so: Socket, what: SocketNotice, error = 0): void {
    if (so.filters === null) return;
    this.ask(so, true, (f, cookie) => {
      f.notify?.(so, cookie, what, error);
      return 0;
    });
  }
  /** Shows data to the filters. The instance says afterwards what is to go on. Returns 0 or -errno. */
  dataOut(so: Socket, d: SockData): number {
    const e = this.ask(so, false, (f, cookie) => f.data_out?.(so, cookie, d));
    if (e === -EJUSTRETURN) this.counters.swallowed_out++;
    return e;
  }
  dataIn(so: Socket, d: SockData): number {
    const most = d.len;
    const e = this.ask(so, true, (f, cookie) => f.data_in?.(so, cookie, d));
    if (e === -EJUSTRETURN) this.counters.swallowed_in++;
    if (!Number.isInteger(d.len) || d.len < 0 || d.len > most) d.len = most;
    return e;
  }
  /** The instance that data is shown in; taken and given back, so that a filter may send on another socket meanwhile. */
  borrow(): SockData {
    const d = this.#spare.pop() ?? new SockData();
    return d;
  }
  give(d: SockData): void {
    d.peer = undefined;
    d.send = undefined;
    d.recv = undefined;
    if (this.#spare.length < 4) this.#spare.push(d);
  }
  readonly #spare: SockData[] = [this.#data];

  /**
   * sock_inject_data_in: gives a program a message as if it had been received, past the filters. Copies. Returns 0,
   * -EINVAL (closed) or -ENOBUFS (256 messages or 1 MiB wait).
   */
  injectIn(so: Socket, data: Uint8Array, info: InjectInfo = {}): number {
    if (so.closed) return -EINVAL;
    so.filters ??= new SocketChain(this);
    const chain = so.filters;
    if (chain.injected.length >= MAX_INJECTED || chain.injectedBytes + data.length > MAX_INJECTED_BYTES) {
      this.counters.injected_dropped++;
      return -ENOBUFS;
    }
    const { from, flags = 0, ppid = 0, sid = 0, assocId = 0 } = info;
    chain.injected.push({ data: data.slice(), from, flags, ppid, sid, assocId });
    chain.injectedBytes += data.length;
    this.counters.injected_in++;
    so.upcall?.(so);
    return 0;
  }
  /** sock_inject_data_out: sends past the filters. Returns what the protocol says: the length, or -errno. */
  injectOut(so: Socket, data: Uint8Array, to?: SockAddr, info?: SendInfo): number {
    if (so.closed) return -EINVAL;
    const n = so.sendUnfiltered(data, 0, data.length, info, to, 0);
    if (n >= 0) this.counters.injected_out++;
    return n;
  }
  /** What a filter owes a program after -EAGAIN. */
  wakeup(so: Socket): number {
    if (so.closed) return -EINVAL;
    so.upcall?.(so);
    return 0;
  }
}
