/**
 * SCTP for programs in the manner of node:net: createServer and connect for the one-to-one style (RFC 6458 §4),
 * createEndpoint for the one-to-many style (RFC 6458 §3; sockets/endpoint.ts). Every function takes the stack first,
 * because a process may hold many.
 *
 * Addresses are Internet addresses in text or InAddr; names are not looked up. Several addresses mean multi-homing: one
 * association with a path to each (RFC 9260 §6.4).
 */

import { EventEmitter } from 'node:events';
import { EAGAIN, ECONNABORTED, EINVAL } from '../stack/kern/errno.js';
import type { SockAddr, Socket } from '../stack/kern/socket.js';
import { AF_INET6 } from '../stack/netinet/in.js';
import { must, socketError } from './errors.js';
import { knownOptions } from './known.js';
import { type AddressLike, type Host, type Message, sockaddrs } from './message.js';
import {
  type AssocOptions,
  applyOptions,
  domainOf,
  localAddresses,
  openSocket,
  SUBSCRIBED,
  subscribe,
} from './options.js';
import { abortSocket } from './promises.js';
import { SctpSocket, type StreamOptions } from './stream.js';

export { createEndpoint, type EndpointOptions, SctpEndpoint } from './endpoint.js';
export * from './stream.js';

export interface ConnectOptions extends StreamOptions, AssocOptions {
  /** The peer: one address or several of the same host. */
  address: AddressLike | readonly AddressLike[];
  port: number;
  /** Local addresses to use (default: all that reach the peer) and local port (default: any). */
  localAddress?: AddressLike | readonly AddressLike[];
  localPort?: number;
}

/**
 * Sets up an association. The socket comes back at once; 'connect' or 'error' (ECONNREFUSED, ETIMEDOUT, ... with the
 * reason) follows, and writes made before that wait. Throws TypeError for a wrong address and SctpError when the stack
 * has no SCTP or refuses an option, TypeError also for an option that there is not.
 */
export function connect(
  host: Host,
  options: ConnectOptions & { objectMode: true },
  listener?: () => void,
): SctpSocket<Message>;
export function connect(host: Host, options: ConnectOptions, listener?: () => void): SctpSocket;
export function connect(host: Host, options: ConnectOptions, listener?: () => void): SctpSocket {
  knownOptions('connect', options);
  const peers = sockaddrs(options.address, options.port);
  if (peers.length === 0) throw new TypeError('connect needs an address of the peer');
  const local = sockaddrs(options.localAddress ?? [], options.localPort ?? 0);
  const so = openSocket(host, domainOf(peers, local), false);
  try {
    for (const type of SUBSCRIBED) subscribe(so, type, true);
    applyOptions(so, options, peers);
    if (local.length === 0 && options.localPort !== undefined) {
      local.push(...sockaddrs(so.proto.domain === AF_INET6 ? '::' : '0.0.0.0', options.localPort));
    }
  } catch (error) {
    so.close();
    throw error;
  }
  const socket = new SctpSocket(so, options, true);
  if (listener !== undefined) socket.once('connect', listener);
  const bound = local.length === 0 || socket.destroyed ? 0 : so.bind(...local);
  if (bound < 0) return socket.destroy(socketError(so, bound, 'bind'));
  return socket.start(peers);
}

export interface ServerOptions extends StreamOptions, AssocOptions {
  /** More associations than this at a time are aborted at once ('drop'). Default: no limit. */
  maxConnections?: number;
}

export interface ListenOptions {
  /** Addresses to listen on (default: all of the host, IPv4; give '::' for IPv6). */
  address?: AddressLike | readonly AddressLike[];
  /** 0 or nothing: any free port, see address(). */
  port?: number;
  /** Associations that may wait to be accepted. Default 128. */
  backlog?: number;
  /** Closes the server when aborted. */
  signal?: AbortSignal | undefined;
}

export interface ServerEvents<Chunk> {
  listening: [];
  connection: [socket: SctpSocket<Chunk>];
  /** An association was aborted because of maxConnections. */
  drop: [];
  error: [error: Error];
  close: [];
}

/** A server of the one-to-one style: a listening socket, and a SctpSocket for every association. */
export class SctpServer<Chunk = Buffer> extends EventEmitter<ServerEvents<Chunk>> implements AsyncDisposable {
  readonly #host: Host;
  readonly #options: ServerOptions;
  readonly #connections = new Set<SctpSocket<Chunk>>();
  #so: Socket | undefined;
  #scheduled = false;
  #closing = false;
  #signal: AbortSignal | undefined;
  readonly #onAbort = () => void this.close();
  /** Associations aborted because of maxConnections. */
  dropped = 0;

  constructor(host: Host, options: ServerOptions = {}) {
    super();
    this.#host = host;
    this.#options = options;
  }

  get listening(): boolean {
    return this.#so !== undefined;
  }
  /** Associations that are open. */
  get connections(): number {
    return this.#connections.size;
  }

  /**
   * Starts listening: 'listening' or 'error' follows. Throws TypeError for a wrong address, an option that there is not, or
   * when listening already.
   */
  listen(options: ListenOptions = {}, listener?: () => void): this {
    knownOptions('listen', options);
    if (this.#so !== undefined || this.#closing) throw new TypeError('the server is listening or closing');
    const local = sockaddrs(options.address ?? '0.0.0.0', options.port ?? 0);
    if (listener !== undefined) this.once('listening', listener);
    let so: Socket | undefined;
    try {
      so = openSocket(this.#host, domainOf(local), false);
      // An accepted socket inherits options and subscriptions, as accept(2) has it.
      for (const type of SUBSCRIBED) subscribe(so, type, true);
      applyOptions(so, this.#options);
      must(so, so.bind(...local), 'bind');
      must(so, so.listen(options.backlog ?? 128), 'listen');
    } catch (error) {
      so?.close();
      process.nextTick(() => this.emit('error', error as Error));
      return this;
    }
    this.#so = so;
    so.upcall = () => this.#schedule();
    this.#schedule();
    process.nextTick(() => {
      if (this.#so === so) this.emit('listening');
    });
    this.#signal = options.signal;
    if (options.signal?.aborted) this.close();
    else options.signal?.addEventListener('abort', this.#onAbort, { once: true });
    return this;
  }

  /** The addresses and the port that it listens on; undefined when it does not. */
  address(): { readonly addresses: readonly SockAddr[]; readonly port: number } | undefined {
    if (this.#so === undefined) return undefined;
    const addresses = localAddresses(this.#so);
    return { addresses, port: addresses[0]?.port ?? 0 };
  }

  /** Stops listening. 'close' (and done) come when the last association has ended. */
  close(done?: (error?: Error) => void): this {
    if (this.#so === undefined) {
      if (this.#closing) {
        if (done !== undefined) this.once('close', done);
      } else if (done !== undefined) {
        process.nextTick(
          done,
          Object.assign(new Error('the server is not listening'), { code: 'ERR_SERVER_NOT_RUNNING' }),
        );
      }
      return this;
    }
    if (done !== undefined) this.once('close', done);
    this.#closing = true;
    this.#so.close();
    this.#so = undefined;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#signal = undefined;
    this.#maybeClosed();
    return this;
  }

  /** Aborts every association that is open. */
  closeAllConnections(): void {
    for (const socket of this.#connections) socket.destroy();
  }

  /** Stops listening and waits for the last association to end. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#so === undefined && !this.#closing) return;
    await new Promise<void>(resolve => this.close(() => resolve()));
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      try {
        this.#accept();
      } catch (error) {
        this.#schedule(); // a listener has thrown: the others that wait are still to be accepted
        throw error;
      }
    });
  }

  #accept(): void {
    // The listening socket may be closed by a listener in between. The queue of new associations is bounded by backlog.
    while (this.#so !== undefined) {
      const so = this.#so.accept();
      if (so === -EAGAIN) return;
      if (so === -ECONNABORTED) continue; // came and went
      if (typeof so === 'number') {
        if (so !== -EINVAL) this.emit('error', socketError(this.#so, so, 'accept'));
        return;
      }
      this.#accepted(so);
    }
  }

  #accepted(so: Socket): void {
    if (this.#connections.size >= (this.#options.maxConnections ?? Number.POSITIVE_INFINITY)) {
      abortSocket(so, 'the server has no room for another association');
      this.dropped++;
      this.emit('drop');
      return;
    }
    const socket = new SctpSocket<Chunk>(so, this.#options);
    this.#connections.add(socket);
    socket.once('close', () => {
      this.#connections.delete(socket);
      this.#maybeClosed();
    });
    this.emit('connection', socket);
    socket.read(0);
  }

  #maybeClosed(): void {
    if (!this.#closing || this.#connections.size > 0) return;
    process.nextTick(() => {
      if (!this.#closing) return;
      this.#closing = false;
      this.emit('close');
    });
  }
}

/** A server; call listen() next. Throws TypeError for an option that there is not. */
export function createServer(
  host: Host,
  options: ServerOptions & { objectMode: true },
  listener?: (socket: SctpSocket<Message>) => void,
): SctpServer<Message>;
export function createServer(host: Host, options?: ServerOptions, listener?: (socket: SctpSocket) => void): SctpServer;
export function createServer(
  host: Host,
  options: ServerOptions = {},
  listener?: (socket: never) => void,
): SctpServer<never> {
  knownOptions('createServer', options);
  const server = new SctpServer<never>(host, options);
  if (listener !== undefined) server.on('connection', listener as (socket: SctpSocket<never>) => void);
  return server;
}
