/**
 * SctpSocket: one SCTP association as a Node stream, in the manner of node:net's Socket (RFC 6458 §4, one-to-one style).
 *
 * Byte mode: written bytes go out as messages cut where it suits the send buffer and come back as chunks; boundaries
 * mean nothing. Object mode: one write is one message and one read is one message.
 *
 * SCTP has no half-open state (RFC 9260 §9): when the peer ends, 'end' comes after all of its data, this side ends too,
 * and what is written after that fails with EPIPE. `end()` is the graceful shutdown (SHUTDOWN after everything is
 * acknowledged), `destroy()` is ABORT. 'close' comes when the association is over on this side.
 *
 * Reading stops when the stream's buffer is full; then the stack's receive buffer fills, then the window that the peer
 * sees closes. Notifications come in the same queue as messages and wait behind them.
 */

import { addAbortSignal, Duplex } from 'node:stream';
import { EAGAIN, ECONNABORTED, EINPROGRESS, EMSGSIZE, ENOTCONN, EPIPE } from '../stack/kern/errno.js';
import {
  MSG_EOR,
  MSG_NOTIFICATION,
  RecvInfo,
  type SendInfo,
  SHUT_WR,
  type SockAddr,
  type Socket,
} from '../stack/kern/socket.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import { type AssocStatus, type Notification, type PathInfo, SCTP_PRIMARY_ADDR } from '../stack/sctp/api.js';
import { must, SctpError, socketError } from './errors.js';
import { emitNotification, type SctpSocketEvents } from './events.js';
import {
  type AddressLike,
  connectResult,
  fillSendInfo,
  MessageReader,
  newSendInfo,
  type SendOptions,
  sockaddr,
} from './message.js';
import {
  assocPaths,
  assocStatus,
  localAddresses,
  peerAddresses,
  setHeartbeat,
  setNoDelay,
  subscribe,
} from './options.js';
import { abortSocket, emptyMessage } from './promises.js';

/** What object mode takes for a write: the bytes, or the bytes with what is to be said about them. */
export type Writeable = Uint8Array | string | ({ data: Uint8Array | string } & SendOptions);

export interface StreamOptions {
  /** One read and one write are one message. Default false: a byte stream, like TCP's. */
  objectMode?: boolean;
  /** Bytes (byte mode, default 64 KiB) or messages (object mode, default 16) that each direction buffers. */
  highWaterMark?: number;
  readableHighWaterMark?: number;
  writableHighWaterMark?: number;
  /** Payload protocol identifier of what is written without one. */
  ppid?: number;
  /** Stream number of what is written without one. */
  stream?: number;
  /** Largest message that object mode puts together, in bytes (default 16 MiB); a larger one ends the association. */
  maxMessageSize?: number;
  /** Destroys the socket (ABORT) when aborted. */
  signal?: AbortSignal | undefined;
}

export type ReadyState = 'opening' | 'open' | 'readOnly' | 'writeOnly' | 'closed';

// Byte mode: chunks are carved out of a slab that all sockets share, as Buffer's own pool does; a carved part is never
// written again. Several messages that lie ready become one chunk.
const SLAB = 65536;
const SLAB_MIN = 4096;
let slab = Buffer.allocUnsafeSlow(SLAB);
let slabOff = 0;

/** Byte mode writes go out as messages of at most this many bytes. */
const PIECE = 65536;
/** Room below which byte mode does not cut a piece to fit, so that no crumbs go out. */
const CRUMB = 1024;

/** See the head of this file. `await using` destroys it, as Node does with every stream: end() it first. */
export class SctpSocket<Chunk = Buffer> extends Duplex {
  readonly #so: Socket;
  readonly #objectMode: boolean;
  readonly #reader: MessageReader | undefined;
  readonly #info = new RecvInfo();
  readonly #defaults: SendOptions;
  readonly #sendInfo: SendInfo = newSendInfo();
  #scheduled = false;
  #connecting: boolean;
  /** The stream wants data: _read was called and push has not said stop since. */
  #wanted = false;
  /** recv has returned 0. */
  #eof = false;
  /** shutdown(SHUT_WR) is done. */
  #shut = false;
  // The write under way: what it consists of, how far it got, and whom to tell.
  #items: readonly unknown[] = [];
  #at = 0;
  #off = 0;
  #piece = PIECE;
  #writeDone: ((error?: Error | null) => void) | undefined;
  #finalDone: ((error?: Error | null) => void) | undefined;
  /** The peer takes no new data: the write under way fails at 'end'. */
  #refused = false;
  #relaying = false;
  #dry = false;
  #timer: NodeJS.Timeout | undefined;
  #timeout = 0;
  /** Bytes of user messages read from, and taken by, the socket. */
  bytesRead = 0;
  bytesWritten = 0;

  /**
   * Takes over a socket that is connected, or one whose connect is under way (`connecting`). Programs use connect() and
   * createServer() of sockets/net.ts.
   */
  constructor(so: Socket, options: StreamOptions = {}, connecting = false) {
    const objectMode = options.objectMode ?? false;
    const mark = options.highWaterMark ?? (objectMode ? 16 : 65536);
    super({
      objectMode,
      readableHighWaterMark: options.readableHighWaterMark ?? mark,
      writableHighWaterMark: options.writableHighWaterMark ?? mark,
      allowHalfOpen: false, // RFC 9260 §9: SCTP has no half-open state
      decodeStrings: true,
    });
    if (so.upcall !== undefined) throw new TypeError('the socket has an owner already (its upcall is set)');
    this.#so = so;
    this.#objectMode = objectMode;
    this.#reader = objectMode ? new MessageReader(so, options.maxMessageSize ?? 16 << 20, false) : undefined;
    this.#defaults = { ppid: options.ppid ?? 0, stream: options.stream ?? 0 };
    this.#connecting = connecting;
    so.upcall = () => this.#schedule();
    if (options.signal !== undefined) addAbortSignal(options.signal, this);
    this.#schedule();
  }

  // --- what it is and how it stands ------------------------------------------------------------------------------

  get connecting(): boolean {
    return this.#connecting;
  }
  get readyState(): ReadyState {
    if (this.#connecting && !this.destroyed) return 'opening';
    if (this.readable && this.writable) return 'open';
    if (this.readable) return 'readOnly';
    return this.writable ? 'writeOnly' : 'closed';
  }
  /** What is written and not yet taken by the socket: bytes, or messages in object mode. */
  get bufferSize(): number {
    return this.writableLength;
  }
  /** Idle time in ms after which 'timeout' is emitted; 0 = never. */
  get timeout(): number {
    return this.#timeout;
  }
  /** The peer's addresses; empty when there is no association (any more). */
  remoteAddresses(): readonly SockAddr[] {
    return peerAddresses(this.#so);
  }
  /** Our addresses of this association. */
  localAddresses(): readonly SockAddr[] {
    return localAddresses(this.#so);
  }
  /** sctp_status; undefined when there is no association. */
  status(): AssocStatus | undefined {
    return assocStatus(this.#so);
  }
  /** The paths to the peer with their state, window, RTT and why they were chosen. */
  paths(): readonly PathInfo[] {
    return assocPaths(this.#so);
  }
  /** Makes the path to this address of the peer the primary one (RFC 6458 §8.1.8). Throws SctpError. */
  setPrimary(address: AddressLike): this {
    const port = this.remoteAddresses()[0]?.port ?? 0;
    const value = { assocId: 0, address: sockaddr(address, port) };
    must(this.#so, this.#so.setsockopt(IPPROTO_SCTP, SCTP_PRIMARY_ADDR, value), 'setsockopt(SCTP_PRIMARY_ADDR)');
    return this;
  }
  /** Throws SctpError. */
  setNoDelay(on = true): this {
    setNoDelay(this.#so, on);
    return this;
  }
  /** Heartbeat interval in ms, false for none. Throws SctpError. */
  setHeartbeat(interval: number | false): this {
    setHeartbeat(this.#so, interval);
    return this;
  }
  /** Any other option: its value, or -errno. */
  getsockopt(level: number, name: number, arg?: unknown): unknown {
    return this.#so.getsockopt(level, name, arg);
  }
  /** Any other option. Throws SctpError. */
  setsockopt(level: number, name: number, value: unknown): this {
    must(this.#so, this.#so.setsockopt(level, name, value), 'setsockopt');
    return this;
  }
  /** Emits 'timeout' after `ms` without traffic. It only tells: the program decides. 0 turns it off. */
  setTimeout(ms: number, listener?: () => void): this {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timeout = ms;
    if (ms > 0 && !this.destroyed) {
      this.#timer = setTimeout(() => this.emit('timeout'), ms);
      this.#timer.unref();
      if (listener !== undefined) this.once('timeout', listener);
    }
    return this;
  }
  /** Object mode: writes one message. Returns false when the stream would like 'drain' to be awaited. */
  send(data: Uint8Array | string, info?: SendOptions, done?: (error?: Error | null) => void): boolean {
    if (!this.#objectMode) throw new TypeError('send() needs object mode: a byte stream has no messages');
    return this.write({ ...info, data }, done);
  }

  // --- typed events ----------------------------------------------------------------------------------------------

  override on<E extends keyof SctpSocketEvents<Chunk>>(e: E, f: (...args: SctpSocketEvents<Chunk>[E]) => void): this;
  override on(event: string | symbol, listener: (...args: never[]) => void): this;
  override on(event: string | symbol, listener: (...args: never[]) => void): this {
    this.#subscribeFor(event);
    return super.on(event, listener as () => void);
  }
  override addListener<E extends keyof SctpSocketEvents<Chunk>>(
    e: E,
    f: (...args: SctpSocketEvents<Chunk>[E]) => void,
  ): this;
  override addListener(event: string | symbol, listener: (...args: never[]) => void): this;
  override addListener(event: string | symbol, listener: (...args: never[]) => void): this {
    return this.on(event, listener);
  }
  // EventEmitter's once calls on.
  override once<E extends keyof SctpSocketEvents<Chunk>>(e: E, f: (...args: SctpSocketEvents<Chunk>[E]) => void): this;
  override once(event: string | symbol, listener: (...args: never[]) => void): this;
  override once(event: string | symbol, listener: (...args: never[]) => void): this {
    return super.once(event, listener as () => void);
  }

  /** A listener for messages starts the flow as one for 'data' does; one for 'senderDry' subscribes to it. */
  #subscribeFor(event: string | symbol): void {
    if (event === 'message' && !this.#relaying) {
      if (!this.#objectMode) throw new TypeError("'message' needs object mode: a byte stream has no messages");
      this.#relaying = true;
      super.on('data', message => this.emit('message', message));
    } else if (event === 'senderDry' && !this.#dry && !this.destroyed) {
      this.#dry = true;
      subscribe(this.#so, 'sender-dry', true);
    }
  }

  // --- the socket's side -----------------------------------------------------------------------------------------

  /** Runs in the stack's loop: the work is done in a microtask after the batch. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      try {
        this.#process();
      } catch (error) {
        this.#schedule(); // a listener has thrown: the rest of the work is still to be done
        throw error;
      }
    });
  }

  #process(): void {
    if (this.destroyed || (this.#connecting && !this.#connected())) return;
    // Reading comes first: if the peer has gone, what it sent last must not be lost to a failing write.
    if (this.#wanted && !this.#eof) this.#fill();
    if (this.destroyed) return;
    // Nobody reads: an error must still be found.
    if (this.#so.error !== 0) this.#fail(-this.#so.takeError(), 'recv');
    else this.#pump();
  }

  /** True when the association is up; if it has just come up, the program hears of it. */
  #connected(): boolean {
    const result = connectResult(this.#so);
    if (result === -EAGAIN) return false;
    if (result < 0) {
      this.#fail(result, 'connect');
      return false;
    }
    this.#connecting = false;
    this.#active();
    this.emit('connect');
    this.emit('ready');
    if (this.destroyed) return false;
    if (this.#finalDone !== undefined && this.#writeDone === undefined) this.#shutdown();
    this.read(0); // as node:net does: notifications and the peer's end are seen without a reader
    return true;
  }

  #fail(errno: number, syscall: string): void {
    this.destroy(socketError(this.#so, errno, syscall));
  }

  #active(): void {
    this.#timer?.refresh();
  }

  // --- reading ---------------------------------------------------------------------------------------------------

  override _read(): void {
    this.#wanted = true;
    if (!this.#connecting && !this.#eof && !this.destroyed) this.#fill();
  }

  #fill(): void {
    const n = this.#objectMode ? this.#fillMessages() : this.#fillBytes();
    if (n > 0 || n === -EAGAIN || this.destroyed) return;
    if (n < 0) {
      this.#fail(n, 'recv');
      return;
    }
    this.#eof = true;
    this.#active();
    this.push(null);
    this.read(0); // 'end' also for a program that writes only
  }

  /** Gives a chunk to the stream; false when it wants no more or is gone. */
  #push(chunk: unknown): boolean {
    this.#wanted = this.push(chunk);
    return this.#wanted && !this.destroyed;
  }

  /** Reads messages until none is left (-EAGAIN), the stream is full (1), the peer has ended (0), or an error. */
  #fillMessages(): number {
    const reader = this.#reader!;
    for (;;) {
      const n = reader.read();
      if (n <= 0) {
        if (n === -EMSGSIZE) this.#so.errorReason = 'a message is larger than maxMessageSize';
        return n;
      }
      this.#active();
      const message = reader.message!;
      reader.message = undefined;
      if (message.notification !== undefined) {
        emitNotification(this, message.notification);
        if (this.destroyed) return 1;
        continue;
      }
      this.bytesRead += message.data.length;
      if (!this.#push(message)) return 1;
    }
  }

  /** The same for bytes; what lies ready is gathered into chunks of up to highWaterMark. */
  #fillBytes(): number {
    const info = this.#info;
    const limit = Math.max(this.readableHighWaterMark, 1024);
    for (;;) {
      if (SLAB - slabOff < SLAB_MIN) {
        slab = Buffer.allocUnsafeSlow(SLAB);
        slabOff = 0;
      }
      const start = slabOff;
      const end = Math.min(start + limit, SLAB);
      let at = start;
      let n = 0;
      let notification: Notification | undefined;
      while (at < end) {
        info.msgFlags = 0;
        info.notification = undefined;
        n = this.#so.recv(slab, at, end - at, info);
        if (n < 0) break;
        if ((info.msgFlags & MSG_NOTIFICATION) !== 0) {
          if ((info.msgFlags & MSG_EOR) !== 0) notification = info.notification as Notification | undefined;
          if (notification !== undefined) break;
        } else if (n === 0) break;
        else at += n;
      }
      slabOff = at;
      let more = true;
      if (at > start) {
        this.#active();
        this.bytesRead += at - start;
        more = this.#push(slab.subarray(start, at));
      }
      if (notification !== undefined) {
        this.#active();
        if (!this.destroyed) emitNotification(this, notification);
      } else if (n <= 0 && !this.destroyed) {
        // push may have called the program, which may have read on: -EAGAIN stays true, the end is told once.
        return n === 0 && this.#eof ? -EAGAIN : n;
      }
      if (!more || this.destroyed) return 1;
    }
  }

  // --- writing ---------------------------------------------------------------------------------------------------

  override _write(chunk: unknown, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#begin([typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk], done);
  }

  override _writev(chunks: { chunk: unknown; encoding: BufferEncoding }[], done: (error?: Error | null) => void): void {
    const items = chunks.map(c => (typeof c.chunk === 'string' ? Buffer.from(c.chunk, c.encoding) : c.chunk));
    this.#begin(items, done);
  }

  #begin(items: readonly unknown[], done: (error?: Error | null) => void): void {
    this.#items = items;
    this.#at = 0;
    this.#off = 0;
    this.#writeDone = done;
    if (!this.#connecting) this.#pump();
  }

  /** Sends what is being written until it is done or the socket has no room; the next upcall goes on. */
  #pump(): void {
    if (this.#writeDone === undefined || this.#refused) return;
    while (this.#at < this.#items.length) {
      const item = this.#items[this.#at];
      let n: number;
      try {
        n = this.#objectMode ? this.#sendMessage(item as Writeable) : this.#sendBytes(item as Buffer);
      } catch (error) {
        this.#wrote(error as Error);
        return;
      }
      if (n === -EAGAIN) return;
      if (n < 0) {
        this.#writeFailed(n);
        return;
      }
      this.#at++;
      this.#off = 0;
    }
    this.#wrote();
  }

  #wrote(error?: Error): void {
    const done = this.#writeDone!;
    this.#writeDone = undefined;
    this.#items = [];
    done(error);
  }

  /**
   * The peer has shut down and takes no new data (RFC 9260 §9.2), but what it had sent before may still wait to be read:
   * the write fails after the reader has come to the end.
   */
  #writeFailed(n: number): void {
    const error = socketError(this.#so, n, 'send');
    if ((n !== -EPIPE && n !== -ENOTCONN) || this.readableEnded) {
      this.#wrote(error);
      return;
    }
    this.#refused = true;
    this.once('end', () => {
      if (this.#writeDone !== undefined) this.#wrote(error);
    });
  }

  #sendMessage(item: Writeable): number {
    const bare = typeof item === 'string' || item instanceof Uint8Array;
    const raw = bare ? item : item.data;
    const data = typeof raw === 'string' ? Buffer.from(raw) : raw;
    if (!(data instanceof Uint8Array))
      throw new TypeError('a message is a Uint8Array, a string or { data, stream?, ppid?, ... }');
    if (data.length === 0) throw emptyMessage();
    const info = fillSendInfo(this.#sendInfo, bare ? this.#defaults : item);
    if (!bare) {
      info.ppid = item.ppid ?? this.#defaults.ppid!;
      info.sid = item.stream ?? this.#defaults.stream!;
    }
    const n = this.#so.send(data, 0, data.length, info);
    if (n >= 0) this.#sent(n);
    return n;
  }

  /** Sends (the rest of) a buffer as messages of up to PIECE bytes; a smaller one fills the room that is left. */
  #sendBytes(data: Buffer): number {
    const info = fillSendInfo(this.#sendInfo, this.#defaults);
    while (this.#off < data.length) {
      const len = Math.min(data.length - this.#off, this.#piece);
      let n = this.#so.send(data, this.#off, len, info);
      if (n === -EMSGSIZE && len > CRUMB) {
        this.#piece = len >>> 1; // the send buffer is smaller than PIECE
        continue;
      }
      if (n === -EAGAIN) {
        const room = Math.min(this.#so.space, len - 1);
        if (room < CRUMB) return n;
        n = this.#so.send(data, this.#off, room, info);
      }
      if (n < 0) return n;
      this.#off += n;
      this.#sent(n);
    }
    return data.length;
  }

  #sent(n: number): void {
    this.bytesWritten += n;
    this.#active();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#finalDone = done;
    if (!this.#connecting) this.#shutdown();
  }

  /** 'finish' says that all writes are in the socket and the shutdown has begun; 'close' that it is over. */
  #shutdown(): void {
    const done = this.#finalDone!;
    this.#finalDone = undefined;
    const n = this.#so.shutdown(SHUT_WR);
    this.#shut = true;
    // The peer may have shut down first, and the association may be over: then there is nothing left to do.
    if (n >= 0 || n === -ENOTCONN || n === -EPIPE) done();
    else done(socketError(this.#so, n, 'shutdown'));
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#connecting = false;
    // After the peer's end, what the socket has taken is still on its way: a write that was refused does not undo that.
    if (this.#eof && (error === null ? this.#shut : this.#refused)) this.#so.close();
    else abortSocket(this.#so, error instanceof SctpError ? '' : (error?.message ?? ''));
    const wrote = this.#writeDone;
    if (wrote !== undefined) {
      this.#writeDone = undefined;
      this.#items = [];
      wrote(error ?? new SctpError(ECONNABORTED, 'send', 'the socket was destroyed by this program'));
    }
    done(error);
  }

  /** For connect() of net.ts: starts the connect on the socket this stream was made for; what fails at once is reported as an 'error' event. */
  start(peers: readonly SockAddr[]): this {
    if (this.destroyed) return this;
    const n = this.#so.connect(...peers);
    if (n < 0 && n !== -EINPROGRESS) this.#fail(n, 'connect');
    return this;
  }
}
