/**
 * The traffic of `nke traffic`: discard (RFC 863), echo (RFC 862) and character generator (RFC 864) over SCTP, and the client
 * that drives them and checks every byte that comes back. Works on any host that makes sockets, so a test gives it one in
 * memory and the command line an appliance.
 */

import { SctpError } from '../sockets/errors.js';
import type { Host } from '../sockets/message.js';
import { AsyncSocket } from '../sockets/promises.js';
import { MSG_EOR, MSG_NOTIFICATION, type SockAddr } from '../stack/kern/socket.js';
import { AF_INET, AF_INET6, IPPROTO_SCTP } from '../stack/netinet/in.js';
import { SCTP_INITMSG, SCTP_REMOTE_UDP_ENCAPS_PORT, SCTP_UNORDERED } from '../stack/sctp/api.js';
import { CliError, EXIT_FAILED, oneLine } from './errors.js';
import { Digest, EchoChecker, fillChargen, fillMessage, isChargen, MAX_MESSAGE_BYTES } from './pattern.js';

export const MODES = ['discard', 'echo', 'chargen'] as const;
export type Mode = (typeof MODES)[number];
/** The ports that RFC 862 to 864 give the services (and usrsctp's examples use). */
export const SERVICE_PORT: Readonly<Record<Mode, number>> = { discard: 9, echo: 7, chargen: 19 };

/** Messages handled between two looks at the event loop, so that timers and signals get their turn. */
const BURST = 256;

const turn = () => new Promise<void>(resolve => setImmediate(resolve));

export interface Tally {
  messages: number;
  bytes: number;
}

export interface ServerTally {
  associations: number;
  open: number;
  received: Tally;
  sent: Tally;
  /** Why the last association that did not end by SHUTDOWN ended. */
  lastError: string;
  failed: number;
}

export interface ServerOptions {
  readonly mode: Mode;
  readonly port: number;
  /** Local addresses to bind to; all of the host's when empty. */
  readonly addresses: readonly SockAddr[];
  readonly family: 4 | 6;
  /** chargen: bytes of one message. */
  readonly size: number;
}

const newTally = (): Tally => ({ messages: 0, bytes: 0 });

/**
 * Reads messages into one buffer and hands each whole one to `take`, until the peer has shut down. `take` may return a
 * promise to be waited for (a full send buffer): reading stops as long, and with it the window that the peer is offered.
 */
export async function eachMessage(
  socket: AsyncSocket,
  buf: Buffer,
  take: (size: number) => Promise<void> | undefined,
): Promise<void> {
  let held = 0;
  for (let burst = 0; ; burst++) {
    if (burst === BURST) {
      burst = 0;
      await turn();
    }
    const n = socket.tryRecvInto(buf, held, buf.length - held);
    if (n < 0) {
      await socket.readable();
      continue;
    }
    if ((socket.info.msgFlags & MSG_NOTIFICATION) !== 0) continue;
    if (n === 0) return;
    held += n;
    if ((socket.info.msgFlags & MSG_EOR) === 0) {
      if (held === buf.length) throw new CliError(`a message is larger than ${buf.length} bytes`, EXIT_FAILED);
      continue;
    }
    const wait = take(held);
    held = 0;
    if (wait !== undefined) await wait;
  }
}

/** A listening server until `signal` aborts. */
export class TrafficServer {
  readonly tally: ServerTally = {
    associations: 0,
    open: 0,
    received: newTally(),
    sent: newTally(),
    lastError: '',
    failed: 0,
  };
  readonly #options: ServerOptions;
  readonly #listener: AsyncSocket;
  readonly #open = new Set<AsyncSocket>();
  #done: Promise<void> = Promise.resolve();

  /** Binds and listens. Throws CliError. */
  constructor(host: Host, options: ServerOptions) {
    this.#options = options;
    this.#listener = AsyncSocket.create(host, {
      domain: options.family === 6 ? AF_INET6 : AF_INET,
      maxMessageSize: MAX_MESSAGE_BYTES,
    });
    try {
      this.#listener.bind(...options.addresses);
      this.#listener.listen();
    } catch (e) {
      this.#listener.close();
      throw new CliError(`cannot listen on SCTP port ${options.port}: ${oneLine(e)}`);
    }
  }

  /** Serves until the signal aborts; then aborts what is still open. */
  async run(signal: AbortSignal): Promise<void> {
    const serving = new Set<Promise<void>>();
    try {
      for (;;) {
        const socket = await this.#listener.accept({ signal });
        const one = this.#serve(socket).finally(() => serving.delete(one));
        serving.add(one);
      }
    } catch (e) {
      if (!signal.aborted) throw e;
    } finally {
      this.#listener.close();
      for (const socket of this.#open) socket.abort('the server is shutting down');
      this.#done = Promise.allSettled(serving).then(() => {});
    }
    await this.#done;
  }

  async #serve(socket: AsyncSocket): Promise<void> {
    this.tally.associations++;
    this.tally.open++;
    this.#open.add(socket);
    try {
      if (this.#options.mode === 'chargen') await this.#generate(socket);
      else await this.#consume(socket, this.#options.mode === 'echo');
    } catch (e) {
      // A chargen client leaves when it has had enough: its SHUTDOWN makes the next send fail with EPIPE, as it should.
      if (!(e instanceof SctpError && e.code === 'EPIPE' && this.#options.mode === 'chargen')) {
        this.tally.failed++;
        this.tally.lastError = oneLine(e);
      }
    } finally {
      this.#open.delete(socket);
      this.tally.open--;
      socket.close();
    }
  }

  async #consume(socket: AsyncSocket, echo: boolean): Promise<void> {
    const { received, sent } = this.tally;
    const buf = Buffer.allocUnsafe(MAX_MESSAGE_BYTES);
    const options = { stream: 0, ppid: 0, ordered: true };
    await eachMessage(socket, buf, size => {
      received.messages++;
      received.bytes += size;
      if (!echo) return undefined;
      options.stream = socket.info.sid;
      options.ppid = socket.info.ppid;
      options.ordered = (socket.info.flags & SCTP_UNORDERED) === 0;
      sent.messages++;
      sent.bytes += size;
      const message = buf.subarray(0, size);
      return socket.trySend(message, options) ? undefined : socket.send(message, options);
    });
  }

  async #generate(socket: AsyncSocket): Promise<void> {
    const { sent } = this.tally;
    const buf = Buffer.allocUnsafe(this.#options.size);
    // Ends with an error when the peer shuts down: SHUTDOWN RECEIVED takes no new data (RFC 9260 §9.2).
    for (let at = 0; ; at += buf.length) {
      fillChargen(buf, 0, buf.length, at);
      while (!socket.trySend(buf)) await socket.drained();
      sent.messages++;
      sent.bytes += buf.length;
      if (sent.messages % BURST === 0) await turn();
    }
  }
}

export interface ClientOptions {
  readonly mode: Mode;
  /** The peer's addresses, all of one association. */
  readonly to: readonly SockAddr[];
  /** Own addresses; all of the host's when empty. */
  readonly from: readonly SockAddr[];
  /** The peer's UDP port when packets go inside UDP (RFC 6951), else 0. */
  readonly encapsPort: number;
  /** Stop after so many messages (chargen: received), or after so many seconds; one of them. */
  readonly count: number | undefined;
  readonly seconds: number | undefined;
  /** Sizes in bytes, used in turn. */
  readonly sizes: readonly number[];
  readonly streams: number;
  readonly unordered: boolean;
  /** Give up when nothing moves for so long. */
  readonly stallSeconds: number;
}

export interface ClientResult {
  ok: boolean;
  mode: Mode;
  seconds: number;
  sent: Tally;
  received: Tally;
  /** SHA-256 of the payload in the order sent, and of what came back; equal when ordered on one stream. */
  sentHash: string;
  receivedHash: string;
  /** Messages that came back wrong. */
  errors: number;
  error: string | undefined;
}

/** Connects, moves messages, checks what comes back, shuts down. The association's failure is in the result. */
export class TrafficClient {
  readonly sent = newTally();
  readonly received = newTally();
  readonly #options: ClientOptions;
  readonly #socket: AsyncSocket;
  readonly #sentDigest = new Digest();
  readonly #receivedDigest = new Digest();
  readonly #echo: EchoChecker;
  #started = 0;
  #sending = true;
  #chargenErrors = 0;

  /** Throws SctpError when the stack cannot make such a socket. */
  constructor(host: Host, options: ClientOptions) {
    this.#options = options;
    const domain = options.to.some(a => a.addr.family === 6) ? AF_INET6 : AF_INET;
    this.#echo = new EchoChecker(options.streams, options.unordered);
    this.#socket = AsyncSocket.create(host, { domain, maxMessageSize: MAX_MESSAGE_BYTES });
  }

  /** Part of the work that is done, 0 to 1. */
  get fraction(): number {
    const { count, seconds, mode } = this.#options;
    if (this.#started === 0) return 0;
    if (seconds !== undefined) return Math.min(1, (performance.now() - this.#started) / 1000 / seconds);
    return Math.min(1, (mode === 'discard' ? this.sent : this.received).messages / count!);
  }
  /** Seconds since the association came up. */
  get elapsed(): number {
    return this.#started === 0 ? 0 : (performance.now() - this.#started) / 1000;
  }

  async run(signal?: AbortSignal): Promise<ClientResult> {
    const { mode, streams } = this.#options;
    let error: string | undefined;
    let seconds = 0;
    try {
      this.#open();
      await this.#socket.connect(this.#options.to, { signal });
      this.#started = performance.now();
      const stop = new AbortController();
      const ended = () => this.#socket.abort('interrupted');
      signal?.addEventListener('abort', ended, { once: true });
      const watch = this.#watch(stop.signal);
      try {
        await Promise.all([mode === 'chargen' ? this.#stopLater() : this.#send(), this.#receive()]);
      } finally {
        stop.abort();
        signal?.removeEventListener('abort', ended);
      }
      await watch;
      seconds = this.elapsed;
    } catch (e) {
      seconds = this.elapsed;
      error = oneLine(e);
    } finally {
      if (!this.#socket.closed) this.#socket.close();
    }
    const errors = this.#echo.errors + this.#chargenErrors;
    // What was found wrong says more than how the association then ended.
    error =
      this.#stalled ??
      this.#echo.error ??
      error ??
      (this.#chargenErrors > 0 ? 'the character stream came back wrong' : undefined);
    const { sent, received } = this;
    if (
      mode === 'echo' &&
      error === undefined &&
      (sent.messages !== received.messages || sent.bytes !== received.bytes)
    )
      error = `sent ${sent.messages} messages (${sent.bytes} bytes), received ${received.messages} (${received.bytes} bytes)`;
    const sentHash = this.#sentDigest.hex();
    const receivedHash = this.#receivedDigest.hex();
    if (
      mode === 'echo' &&
      error === undefined &&
      streams === 1 &&
      !this.#options.unordered &&
      sentHash !== receivedHash
    )
      error = 'the hashes differ';
    return { ok: error === undefined, mode, seconds, sent, received, sentHash, receivedHash, errors, error };
  }

  #stalled: string | undefined;

  #open(): void {
    const { from, encapsPort, streams } = this.#options;
    const s = this.#socket;
    if (from.length > 0) s.bind(...from);
    s.setsockopt(IPPROTO_SCTP, SCTP_INITMSG, {
      numOstreams: Math.max(streams, 1),
      maxInstreams: Math.max(streams, 1),
      maxAttempts: 4,
      maxInitTimeo: 2000,
    });
    if (encapsPort !== 0) s.setsockopt(IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, { assocId: 0, port: encapsPort });
  }

  /** Ends the association when nothing has moved for too long. */
  async #watch(signal: AbortSignal): Promise<void> {
    let before = -1;
    let since = performance.now();
    while (!signal.aborted) {
      await new Promise<void>(resolve => {
        const done = () => {
          clearTimeout(timer);
          signal.removeEventListener('abort', done);
          resolve();
        };
        const timer = setTimeout(done, 250);
        signal.addEventListener('abort', done, { once: true });
      });
      const moved = this.sent.bytes + this.received.bytes;
      if (moved !== before) {
        before = moved;
        since = performance.now();
      } else if (performance.now() - since > this.#options.stallSeconds * 1000) {
        this.#stalled = `nothing has moved for ${this.#options.stallSeconds} s (sent ${this.sent.messages}, received ${this.received.messages} messages)`;
        this.#socket.abort('stalled');
        return;
      }
    }
  }

  #over(): boolean {
    const { count, seconds } = this.#options;
    return count !== undefined ? this.sent.messages >= count : this.elapsed >= seconds!;
  }

  async #send(): Promise<void> {
    const { sizes, unordered, mode } = this.#options;
    const s = this.#socket;
    const buf = Buffer.allocUnsafe(Math.max(...sizes));
    const options = { stream: 0, ordered: !unordered, ppid: 0 };
    for (let seq = 0; !this.#over(); seq++) {
      const size = sizes[seq % sizes.length]!;
      fillMessage(buf, 0, size, seq);
      const message = size === buf.length ? buf : buf.subarray(0, size);
      options.stream = this.#echo.streamOf(seq);
      this.#echo.sent(seq);
      while (!s.trySend(message, options)) await s.drained();
      this.sent.messages++;
      this.sent.bytes += size;
      this.#sentDigest.update(buf, 0, size);
      if (seq % BURST === BURST - 1) await turn();
    }
    this.#sending = false;
    // An echo still has to come back: SCTP has no half-closed state, after SHUTDOWN the peer could not send it.
    if (mode !== 'echo' || this.received.messages >= this.sent.messages) s.shutdown();
  }

  /** chargen: shuts down when the time is over (a count is watched where messages arrive). */
  async #stopLater(): Promise<void> {
    const { seconds } = this.#options;
    if (seconds === undefined) return;
    await new Promise(resolve => setTimeout(resolve, seconds * 1000));
    if (!this.#socket.closed && this.#sending) {
      this.#sending = false;
      this.#socket.shutdown();
    }
  }

  async #receive(): Promise<void> {
    const { mode, count } = this.#options;
    const s = this.#socket;
    const { received } = this;
    const buf = Buffer.allocUnsafe(MAX_MESSAGE_BYTES);
    await eachMessage(s, buf, size => {
      if (mode === 'chargen' && !isChargen(buf, 0, size, received.bytes)) this.#chargenErrors++;
      received.messages++;
      received.bytes += size;
      this.#receivedDigest.update(buf, 0, size);
      if (mode === 'echo') {
        this.#echo.received(s.info.sid, buf, 0, size);
        if (!this.#sending && received.messages === this.sent.messages) s.shutdown();
      } else if (mode === 'chargen' && this.#sending && count !== undefined && received.messages >= count) {
        this.#sending = false;
        s.shutdown();
      }
      return undefined;
    });
    // The peer ended before we did: say so, or the sender would go on against a closed association.
    if (this.#sending && mode !== 'chargen')
      throw new CliError('the peer shut the association down before everything was sent', EXIT_FAILED);
  }
}
