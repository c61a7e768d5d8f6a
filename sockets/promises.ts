/**
 * Sockets with promises: one thin layer over the non-blocking Socket (RFC 6458 §3 and §4 in the shape of today's
 * JavaScript). What can be answered at once is answered by a plain call (trySend, tryRecvInto); a promise is made only
 * to wait. The socket's upcall belongs to this object and is fanned out to whoever waits.
 *
 * The upcall runs inside the stack's loop, so it does nothing but ask for a microtask: code of a program never runs, and
 * never throws, in the middle of a batch.
 */

import { EAGAIN, EALREADY, ECONNABORTED, EINPROGRESS, EINVAL, ENOBUFS } from '../stack/kern/errno.js';
import { SOCK_SEQPACKET, SOCK_STREAM } from '../stack/kern/protosw.js';
import { RecvInfo, type SendInfo, SHUT_WR, type SockAddr, type Socket } from '../stack/kern/socket.js';
import { AF_INET, IPPROTO_SCTP } from '../stack/netinet/in.js';
import {
  type NotificationType,
  SCTP_ABORT,
  SCTP_ABORT_ASSOC,
  SCTP_EOF,
  SO_LINGER,
  SOL_SOCKET,
} from '../stack/sctp/api.js';
import { must, SctpError, socketError } from './errors.js';
import { knownOptions } from './known.js';
import {
  connectResult,
  fillSendInfo,
  type Host,
  type Message,
  MessageReader,
  newSendInfo,
  type SendOptions,
} from './message.js';
import { subscribe } from './options.js';

export interface WaitOptions {
  /** Ends the waiting: the promise rejects with signal.reason. */
  signal?: AbortSignal | undefined;
}

export interface AsyncSocketOptions {
  /** Largest message that recv() puts together, in bytes; a larger one is thrown away and rejects with EMSGSIZE. */
  maxMessageSize?: number;
  /** Most calls that may wait in one direction at the same time; one more rejects with ENOBUFS. */
  maxWaiting?: number;
}

export interface CreateOptions extends AsyncSocketOptions {
  /** AF_INET (default) or AF_INET6. */
  domain?: number;
  /** SOCK_STREAM (one-to-one, default) or SOCK_SEQPACKET (one-to-many). */
  type?: number;
  protocol?: number;
}

/** "Not now": what an attempt gives that would block. */
const AGAIN = Symbol('EAGAIN');

/** A call that waits. `poll` tries again and says whether that settled the promise. */
interface Waiter {
  poll(): boolean;
  fail(error: unknown): void;
}

export class AsyncSocket implements AsyncIterable<Message>, AsyncDisposable {
  readonly so: Socket;
  /** About the last recvInto or tryRecvInto; overwritten by the next one. */
  readonly info = new RecvInfo();
  readonly #reader: MessageReader;
  readonly #options: AsyncSocketOptions;
  readonly #maxWaiting: number;
  readonly #sendInfo: SendInfo = newSendInfo();
  // FIFO: what waits first is served first, and trySend does not overtake a send that waits.
  readonly #in: Waiter[] = [];
  readonly #out: Waiter[] = [];
  #scheduled = false;
  /** A send has returned -EAGAIN and no upcall has come since: only then drained() has something to wait for. */
  #blocked = false;

  /** A new socket of a host. Throws TypeError for an option that there is not, SctpError (EPROTONOSUPPORT: the extension is not loaded). */
  static create(host: Host, options: CreateOptions = {}): AsyncSocket {
    knownOptions('AsyncSocket.create', options);
    const { domain = AF_INET, type = SOCK_STREAM, protocol = IPPROTO_SCTP } = options;
    const so = host.socket(domain, type, protocol);
    if (typeof so === 'number') throw new SctpError(so, 'socket');
    return new AsyncSocket(so, options);
  }

  /** Takes a socket over. Throws TypeError when it has an owner already: an upcall has one receiver. */
  constructor(so: Socket, options: AsyncSocketOptions = {}) {
    if (so.upcall !== undefined) throw new TypeError('the socket has an owner already (its upcall is set)');
    this.so = so;
    this.#options = options;
    this.#maxWaiting = options.maxWaiting ?? 1024;
    const many = so.proto.type === SOCK_SEQPACKET;
    this.#reader = new MessageReader(so, options.maxMessageSize ?? 16 << 20, many);
    so.upcall = () => this.#upcall();
  }

  get closed(): boolean {
    return this.so.closed;
  }
  /** Calls that wait now, both directions. */
  get waiting(): number {
    return this.#in.length + this.#out.length;
  }

  /** Binds to one or several local addresses (sctp_bindx, RFC 6458 §9.1). Throws SctpError. */
  bind(...addrs: readonly SockAddr[]): void {
    must(this.so, this.so.bind(...addrs), 'bind');
  }
  /** Throws SctpError. */
  listen(backlog = 128): void {
    must(this.so, this.so.listen(backlog), 'listen');
  }
  /** The local address. Throws SctpError when not bound. */
  address(): SockAddr {
    return this.#name(this.so.sockaddr(), 'getsockname');
  }
  /** The peer's address. Throws SctpError when not connected. */
  peer(): SockAddr {
    return this.#name(this.so.peeraddr(), 'getpeername');
  }
  /** An option's value. Throws SctpError. */
  getsockopt(level: number, name: number, arg?: unknown): unknown {
    const value = this.so.getsockopt(level, name, arg);
    if (typeof value === 'number' && value < 0) throw socketError(this.so, value, 'getsockopt');
    return value;
  }
  /** Throws SctpError. */
  setsockopt(level: number, name: number, value: unknown): void {
    must(this.so, this.so.setsockopt(level, name, value), 'setsockopt');
  }
  /** Turns a notification on or off; what is on comes through recv() as a message with `notification` set. */
  subscribe(type: NotificationType, on = true, assocId = 0): void {
    subscribe(this.so, type, on, assocId);
  }

  /** The next association of a listening socket. */
  accept(options: WaitOptions = {}): Promise<AsyncSocket> {
    return this.#wait(this.#in, 'accept', options.signal, () => {
      const so = this.so.accept();
      return typeof so === 'number' ? this.#again(so, 'accept') : new AsyncSocket(so, this.#options);
    });
  }

  /** Every association of a listening socket until the signal ends it (by rejecting) or the socket is closed. */
  async *incoming(options: WaitOptions = {}): AsyncGenerator<AsyncSocket, void, undefined> {
    while (!this.so.closed) yield await this.accept(options);
  }

  /**
   * Sets up an association; several addresses are all of one peer (sctp_connectx, RFC 6458 §9.9). Rejects with
   * ECONNREFUSED, ETIMEDOUT, ...; a signal that ends the waiting also aborts the association and closes the socket,
   * because half a connect is of no use.
   */
  connect(to: SockAddr | readonly SockAddr[], options: WaitOptions = {}): Promise<void> {
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    const addrs = Array.isArray(to) ? (to as readonly SockAddr[]) : [to as SockAddr];
    const n = this.so.connect(...addrs);
    if (n >= 0) return Promise.resolve();
    if (n !== -EINPROGRESS) return Promise.reject(socketError(this.so, n, 'connect'));
    const attempt = () => {
      const result = connectResult(this.so);
      return result > 0 ? undefined : this.#again(result, 'connect');
    };
    return this.#wait(this.#out, 'connect', signal, attempt, () => this.abort('connect was cancelled'));
  }

  /** Sends one message, waiting for room if there is none. Resolves when the send buffer has it. */
  send(data: Uint8Array, info?: SendOptions, options: WaitOptions = {}): Promise<void> {
    return this.#wait(this.#out, 'send', options.signal, () => this.#sendOnce(data, info));
  }

  /** Sends one message now. false = no room (or others wait): await drained(). Throws SctpError. */
  trySend(data: Uint8Array, info?: SendOptions): boolean {
    if (this.#out.length > 0) return false;
    return this.#sendOnce(data, info) !== AGAIN;
  }

  /** Resolves when a trySend that returned false is worth another try; at once when none has. */
  drained(options: WaitOptions = {}): Promise<void> {
    const waitsFor = () => (this.#blocked ? AGAIN : undefined);
    return this.#wait(this.#out, 'send', options.signal, waitsFor);
  }

  /** Sends many messages with one promise per full send buffer, not per message. Resolves to how many were sent. */
  async sendMany(messages: Iterable<Uint8Array>, info?: SendOptions, options: WaitOptions = {}): Promise<number> {
    let n = 0;
    for (const m of messages) {
      options.signal?.throwIfAborted();
      while (!this.trySend(m, info)) await this.drained(options);
      n++;
    }
    return n;
  }

  /** The next message, whole; undefined when the peer has shut down and everything has been read. */
  recv(options: WaitOptions = {}): Promise<Message | undefined> {
    return this.#wait(this.#in, 'recv', options.signal, () => {
      const n = this.#reader.read();
      return n < 0 ? this.#again(n, 'recv') : n === 0 ? undefined : this.#reader.message;
    });
  }

  /** Receives into the caller's buffer: how many bytes, 0 = the peer has shut down. `info` says whether MSG_EOR is set. */
  recvInto(buffer: Uint8Array, options: WaitOptions = {}): Promise<number> {
    return this.#wait(this.#in, 'recv', options.signal, () => {
      const n = this.tryRecvInto(buffer);
      return n < 0 ? AGAIN : n;
    });
  }

  /**
   * Receives into the caller's buffer now: bytes, 0 = the peer has shut down, -1 = nothing there (await readable()).
   * Notifications, if any are on, are told by info.msgFlags. Throws SctpError.
   */
  tryRecvInto(buffer: Uint8Array, off = 0, len = buffer.length - off): number {
    this.info.msgFlags = 0;
    this.info.notification = undefined;
    const n = this.so.recv(buffer, off, len, this.info);
    if (n >= 0) return n;
    if (n === -EAGAIN) return -1;
    throw socketError(this.so, n, 'recv');
  }

  /** Resolves when tryRecvInto would return something other than -1. */
  readable(options: WaitOptions = {}): Promise<void> {
    return this.#wait(this.#in, 'recv', options.signal, () => (this.so.readable ? undefined : AGAIN));
  }

  /** Messages (and subscribed notifications) until the peer shuts down. Leaving the loop does not close the socket. */
  async *messages(options: WaitOptions = {}): AsyncGenerator<Message, void, undefined> {
    for (;;) {
      const m = await this.recv(options);
      if (m === undefined) return;
      yield m;
    }
  }
  [Symbol.asyncIterator](): AsyncGenerator<Message, void, undefined> {
    return this.messages();
  }

  /** SHUT_WR: SHUTDOWN when all is acknowledged (RFC 9260 §9.2). recv then gives what is left, and undefined. */
  shutdown(how: number = SHUT_WR): void {
    must(this.so, this.so.shutdown(how), 'shutdown');
  }

  /** Closes gracefully: what the send buffer holds still goes out. Calls that wait reject with ECONNABORTED. */
  close(): void {
    if (this.so.closed) return;
    this.so.close();
    this.#failAll(new SctpError(ECONNABORTED, 'close', 'the socket was closed by this program'));
  }

  /** ABORT with a reason that the peer gets to read (RFC 9260 §3.3.10.12), then closes. */
  abort(reason = ''): void {
    if (this.so.closed) return;
    abortSocket(this.so, reason);
    this.#failAll(new SctpError(ECONNABORTED, 'abort', reason || 'the association was aborted by this program'));
  }

  /** Closes gracefully. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  // --- waiting ---------------------------------------------------------------------------------------------------

  #name(value: SockAddr | number, syscall: string): SockAddr {
    if (typeof value === 'number') throw socketError(this.so, value, syscall);
    return value;
  }

  /** AGAIN for -EAGAIN, throws for every other error. */
  #again(n: number, syscall: string): typeof AGAIN {
    if (n === -EAGAIN || n === -EINPROGRESS || n === -EALREADY) return AGAIN;
    throw socketError(this.so, n, syscall);
  }

  #sendOnce(data: Uint8Array, info: SendOptions | undefined): undefined | typeof AGAIN {
    if (data.length === 0 && ((info?.flags ?? 0) & (SCTP_EOF | SCTP_ABORT)) === 0) throw emptyMessage();
    const n = this.so.send(data, 0, data.length, fillSendInfo(this.#sendInfo, info));
    if (n >= 0) return undefined;
    if (n === -EAGAIN) this.#blocked = true;
    return this.#again(n, 'send');
  }

  #wait<T>(
    queue: Waiter[],
    syscall: string,
    signal: AbortSignal | undefined,
    attempt: () => T | typeof AGAIN,
    cancelled?: () => void,
  ): Promise<T> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.so.closed) return Promise.reject(new SctpError(EINVAL, syscall, 'the socket is closed'));
    if (queue.length === 0) {
      try {
        const value = this.#try(attempt);
        if (value !== AGAIN) return Promise.resolve(value as T);
      } catch (error) {
        return Promise.reject(error);
      }
    }
    if (queue.length >= this.#maxWaiting) {
      return Promise.reject(new SctpError(ENOBUFS, syscall, `${queue.length} calls wait already (maxWaiting)`));
    }
    return new Promise<T>((resolve, reject) => {
      const onAbort = () => {
        const i = queue.indexOf(waiter);
        if (i >= 0) queue.splice(i, 1);
        waiter.fail(signal!.reason);
        cancelled?.();
        this.#schedule(); // the next in the queue may be able to go on
      };
      const waiter: Waiter = {
        poll: () => {
          let value: T | typeof AGAIN;
          try {
            value = this.#try(attempt);
          } catch (error) {
            waiter.fail(error);
            return true;
          }
          if (value === AGAIN) return false;
          signal?.removeEventListener('abort', onAbort);
          resolve(value as T);
          return true;
        },
        fail: error => {
          signal?.removeEventListener('abort', onAbort);
          reject(error);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      queue.push(waiter);
    });
  }

  /** An attempt; if it meets so_error, which only one call is told of, everyone who waits is told. */
  #try<T>(attempt: () => T): T {
    const pending = this.so.error;
    try {
      return attempt();
    } catch (error) {
      if (pending !== 0 && error instanceof SctpError && error.errno === pending) this.#failAll(error);
      throw error;
    }
  }

  #failAll(error: unknown): void {
    for (const w of this.#in.splice(0)) w.fail(error);
    for (const w of this.#out.splice(0)) w.fail(error);
  }

  #upcall(): void {
    this.#blocked = false;
    if (this.#in.length + this.#out.length > 0) this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      if (this.so.closed) return;
      this.#run(this.#in);
      this.#run(this.#out);
    });
  }

  // A waiter is taken out before it is polled: polling may fail everyone, or close the socket.
  #run(queue: Waiter[]): void {
    for (let w = queue.shift(); w !== undefined; w = queue.shift()) {
      if (!w.poll()) {
        queue.unshift(w);
        return;
      }
    }
  }
}

/** SCTP has no empty message: a DATA chunk without user data is answered with ABORT (RFC 9260 §6.2, §3.3.10.9). */
export function emptyMessage(): SctpError {
  return new SctpError(EINVAL, 'send', 'an SCTP message has at least one byte (RFC 9260 §3.3.10.9)');
}

/** Ends an association with ABORT and closes: SO_LINGER of zero (RFC 6458 §8.1.4), and the reason if there is one. */
export function abortSocket(so: Socket, reason: string): void {
  if (so.closed) return;
  if (reason !== '') so.setsockopt(IPPROTO_SCTP, SCTP_ABORT_ASSOC, { assocId: 0, reason });
  so.setsockopt(SOL_SOCKET, SO_LINGER, { onoff: true, linger: 0 });
  so.close();
}
