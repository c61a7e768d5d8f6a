/**
 * SctpEndpoint: a one-to-many socket (RFC 6458 §3) as an event emitter: one port, many associations, each known by its
 * id. Sending to a new address sets an association up; peelOff() gives one a socket of its own (sctp_peeloff, RFC 6458 §9.2).
 */

import { EventEmitter } from 'node:events';
import { EAGAIN, EMSGSIZE } from '../stack/kern/errno.js';
import type { SendInfo, SockAddr, Socket } from '../stack/kern/socket.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import {
  type AssocStatus,
  type PathInfo,
  SCTP_ABORT_ASSOC,
  SCTP_EOF,
  SCTP_FUTURE_ASSOC,
  SCTP_GET_ASSOC_ID_LIST,
  SCTP_PEELOFF,
} from '../stack/sctp/api.js';
import { must, SctpError, socketError } from './errors.js';
import { type AssocEvents, emitNotification } from './events.js';
import { knownOptions } from './known.js';
import {
  type AddressLike,
  fillSendInfo,
  type Host,
  type Message,
  MessageReader,
  newSendInfo,
  type SendOptions,
  sockaddrs,
} from './message.js';
import {
  type AssocOptions,
  applyOptions,
  assocPaths,
  assocStatus,
  domainOf,
  localAddresses,
  openSocket,
  peerAddresses,
  SUBSCRIBED,
  subscribe,
} from './options.js';
import { emptyMessage } from './promises.js';
import { SctpSocket, type StreamOptions } from './stream.js';

export interface EndpointOptions extends AssocOptions {
  /** Local addresses (default: all of the host, IPv4) and port (default: any). */
  address?: AddressLike | readonly AddressLike[];
  port?: number;
  /** Associations that peers may set up: a backlog greater than 0 accepts them (RFC 6458 §3.1.3). Default 128. */
  backlog?: number;
  /** All unfinished messages together, in bytes; default 16 MiB. A message that does not fit is an 'error' event. */
  maxMessageSize?: number;
  /** Closes the endpoint when aborted. */
  signal?: AbortSignal | undefined;
}

export interface EndpointEvents extends AssocEvents {
  /** `assocId` and `from` say whose it is. */
  message: [message: Message];
  /** send() has returned false and there is room again. */
  drain: [];
  error: [error: Error];
  close: [];
}

const nothing = new Uint8Array(0);

export class SctpEndpoint extends EventEmitter<EndpointEvents> implements AsyncDisposable {
  readonly #so: Socket;
  readonly #reader: MessageReader;
  readonly #sendInfo: SendInfo = newSendInfo();
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => this.close();
  #scheduled = false;
  #paused = false;
  #blocked = false;
  #dry = false;

  /** Takes over a bound socket. Programs use createEndpoint(). */
  constructor(so: Socket, options: EndpointOptions = {}) {
    super();
    if (so.upcall !== undefined) throw new TypeError('the socket has an owner already (its upcall is set)');
    this.#so = so;
    this.#reader = new MessageReader(so, options.maxMessageSize ?? 16 << 20, true);
    so.upcall = () => this.#schedule();
    // Asked for by listening: a notification of its own for every association that runs empty is not free.
    this.on('newListener', ((event: string) => {
      if (event !== 'senderDry' || this.#dry || so.closed) return;
      this.#dry = true;
      // One by one: who is dry already is told so, which cannot be asked for all at once (EOPNOTSUPP).
      subscribe(so, 'sender-dry', true, SCTP_FUTURE_ASSOC);
      for (const id of this.associations()) subscribe(so, 'sender-dry', true, id);
    }) as never);
    this.#signal = options.signal;
    if (options.signal?.aborted) queueMicrotask(this.#onAbort);
    else options.signal?.addEventListener('abort', this.#onAbort, { once: true });
    this.#schedule();
  }

  get closed(): boolean {
    return this.#so.closed;
  }
  get paused(): boolean {
    return this.#paused;
  }
  /** Local addresses and port. */
  address(): { readonly addresses: readonly SockAddr[]; readonly port: number } {
    const addresses = localAddresses(this.#so);
    return { addresses, port: addresses[0]?.port ?? 0 };
  }
  /** Ids of the associations that exist now. */
  associations(): readonly number[] {
    const ids = this.#so.getsockopt(IPPROTO_SCTP, SCTP_GET_ASSOC_ID_LIST, 0);
    return Array.isArray(ids) ? (ids as number[]) : [];
  }
  /** undefined when there is no such association. */
  status(assocId: number): AssocStatus | undefined {
    return assocStatus(this.#so, assocId);
  }
  paths(assocId: number): readonly PathInfo[] {
    return assocPaths(this.#so, assocId);
  }
  remoteAddresses(assocId: number): readonly SockAddr[] {
    return peerAddresses(this.#so, assocId);
  }

  /**
   * Sends one message to an association (its id) or to an address, which sets an association up if there is none. true:
   * the socket has it. false: no room, nothing was taken, 'drain' will come. Throws SctpError.
   */
  send(to: SockAddr | number, data: Uint8Array | string, info?: SendOptions): boolean {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    if (bytes.length === 0) throw emptyMessage();
    return this.#send(to, bytes, info);
  }

  #send(to: SockAddr | number, bytes: Uint8Array, options: SendOptions | undefined): boolean {
    const info = fillSendInfo(this.#sendInfo, options);
    if (typeof to === 'number') info.assocId = to;
    const n = this.#so.send(bytes, 0, bytes.length, info, typeof to === 'number' ? undefined : to);
    if (n >= 0) return true;
    if (n !== -EAGAIN) throw socketError(this.#so, n, 'send');
    this.#blocked = true;
    return false;
  }

  /**
   * Gives an association a socket of its own (sctp_peeloff, RFC 6458 §9.2), with what waits to be read of it; the endpoint
   * knows it no more. Throws SctpError: ENOENT without such an association, EAGAIN while a message of it has come in part.
   */
  peelOff(assocId: number, options: StreamOptions & { objectMode: true }): SctpSocket<Message>;
  peelOff(assocId: number, options?: StreamOptions): SctpSocket;
  peelOff(assocId: number, options: StreamOptions = {}): SctpSocket {
    knownOptions('peelOff', options);
    if (this.#reader.unfinished(assocId))
      throw new SctpError(-EAGAIN, 'sctp_peeloff', 'a message of the association has come in part');
    const so = this.#so.getsockopt(IPPROTO_SCTP, SCTP_PEELOFF, assocId) as Socket | number;
    if (typeof so === 'number') throw socketError(this.#so, so, 'sctp_peeloff');
    return new SctpSocket(so, options);
  }

  /** Ends an association gracefully (SCTP_EOF, RFC 6458 §5.3.4). Throws SctpError. */
  shutdown(assocId: number): void {
    this.#send(assocId, nothing, { flags: SCTP_EOF });
  }
  /** Ends an association with ABORT and a reason that the peer gets to read. Throws SctpError. */
  abort(assocId: number, reason = ''): void {
    const n = this.#so.setsockopt(IPPROTO_SCTP, SCTP_ABORT_ASSOC, { assocId, reason });
    must(this.#so, n, 'setsockopt(SCTP_ABORT_ASSOC)');
  }
  /** Stops 'message' and notification events: the receive buffer fills and closes the peers' windows. */
  pause(): this {
    this.#paused = true;
    return this;
  }
  resume(): this {
    this.#paused = false;
    this.#schedule();
    return this;
  }

  /** Closes: every association is shut down gracefully. 'close' follows. */
  close(): void {
    if (this.#so.closed) return;
    this.#so.close();
    this.#signal?.removeEventListener('abort', this.#onAbort);
    process.nextTick(() => this.emit('close'));
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      if (!this.#so.closed && !this.#paused) this.#receive();
      if (this.#blocked && !this.#so.closed && this.#so.writable) {
        this.#blocked = false;
        this.emit('drain');
      }
    });
  }

  #receive(): void {
    const reader = this.#reader;
    while (!this.#paused && !this.#so.closed) {
      const pending = this.#so.error;
      const n = reader.read();
      if (n === -EAGAIN || n === 0) return;
      if (n < 0) {
        // so_error is of one association, and a message too large is gone: the others go on. Anything else would repeat.
        if (n === -pending || n === -EMSGSIZE) this.#schedule();
        if (n === -EMSGSIZE) this.emit('error', new SctpError(n, 'recv', 'a message is larger than maxMessageSize'));
        else this.emit('error', socketError(this.#so, n, 'recv'));
        return;
      }
      const message = reader.message!;
      reader.message = undefined;
      if (message.notification !== undefined) emitNotification(this, message.notification);
      else this.emit('message', message);
    }
  }
}

/** A bound one-to-many socket. Throws TypeError for a wrong address or option, SctpError for all that the stack refuses. */
export function createEndpoint(host: Host, options: EndpointOptions = {}): SctpEndpoint {
  knownOptions('createEndpoint', options);
  const local = sockaddrs(options.address ?? '0.0.0.0', options.port ?? 0);
  const so = openSocket(host, domainOf(local), true);
  try {
    for (const type of SUBSCRIBED) subscribe(so, type, true);
    applyOptions(so, options);
    must(so, so.bind(...local), 'bind');
    const backlog = options.backlog ?? 128;
    if (backlog > 0) must(so, so.listen(backlog), 'listen');
  } catch (error) {
    so.close();
    throw error;
  }
  return new SctpEndpoint(so, options);
}
