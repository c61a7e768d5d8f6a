// Our end of a transfer in the interoperation tests: what the peers of vm/sctp-peer.h do (source, sink, echo, pingpong), as
// programs on our own sockets, so that both ends count and hash the same bytes.
import { createHash } from 'node:crypto';
import type { Appliance } from '../appliance.js';
import { AsyncSocket, sockaddrs } from '../sockets/index.js';
import { MSG_EOR } from '../stack/kern/socket.js';
import { AF_INET, AF_INET6, IPPROTO_SCTP } from '../stack/netinet/in.js';
import { SCTP_INITMSG, SCTP_NODELAY, SCTP_REMOTE_UDP_ENCAPS_PORT } from '../stack/sctp/api.js';
import { fillPattern } from '../vm/payload.js';

/** What went through a socket in one direction. */
export interface Moved {
  bytes: number;
  messages: number;
  /** SHA-256 of all user data in the order sent or received. */
  sha256: string;
  /** From the first byte to the last. */
  seconds: number;
}

/** Where and how a socket of ours binds and connects. */
export interface EndOptions {
  /** Local addresses; all of the appliance's when empty. */
  addresses?: readonly string[];
  /** SCTP port of this end; 0 = any. */
  port?: number;
  /** Decides the domain when there are no addresses. */
  family?: 4 | 6;
  /** The peer's UDP port (RFC 6951); a server learns it from the packets. */
  encaps?: number;
  /** Streams asked for in both directions. */
  streams?: number;
}

/** A one-to-one socket bound as asked for. Throws SctpError. */
export function open(host: Appliance, options: EndOptions = {}): AsyncSocket {
  const { addresses = [], port = 0, encaps = 0, streams = 0 } = options;
  const six = addresses.some(a => a.includes(':')) || options.family === 6;
  const socket = AsyncSocket.create(host, { domain: six ? AF_INET6 : AF_INET });
  if (encaps !== 0) socket.setsockopt(IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, { assocId: 0, port: encaps });
  if (streams !== 0)
    socket.setsockopt(IPPROTO_SCTP, SCTP_INITMSG, {
      numOstreams: streams,
      maxInstreams: streams,
      maxAttempts: 0,
      maxInitTimeo: 0,
    });
  socket.setsockopt(IPPROTO_SCTP, SCTP_NODELAY, 1);
  const any = six ? '::' : '0.0.0.0';
  if (addresses.length > 0 || port !== 0) socket.bind(...sockaddrs(addresses.length > 0 ? addresses : any, port));
  return socket;
}

/** A listening socket. */
export function listen(host: Appliance, options: EndOptions & { port: number }): AsyncSocket {
  const socket = open(host, options);
  socket.listen();
  return socket;
}

/** A socket with an association to all of `peers`, within `timeoutMs`. Rejects with SctpError, or when the time is over. */
export async function connect(
  host: Appliance,
  peers: readonly string[],
  port: number,
  options: EndOptions = {},
  timeoutMs = 10_000,
): Promise<AsyncSocket> {
  const socket = open(host, { ...options, family: options.family ?? (peers[0]!.includes(':') ? 6 : 4) });
  try {
    await socket.connect(sockaddrs(peers, port), { signal: deadline(timeoutMs, 'the association was up') });
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** A signal that comes after `timeoutMs` with an error that says so. */
export function deadline(timeoutMs: number, what = 'it was done'): AbortSignal {
  const controller = new AbortController();
  const late = new Error(`${timeoutMs} ms passed before ${what}`);
  setTimeout(() => controller.abort(late), timeoutMs).unref();
  return controller.signal;
}

/** The next association of a listener, within `timeoutMs`. */
export function accept(listener: AsyncSocket, timeoutMs = 20_000): Promise<AsyncSocket> {
  return listener.accept({ signal: deadline(timeoutMs, 'an association came') });
}

/** A turn of the event loop, so that timers, signals and child processes are heard during a long transfer. */
const turn = () => new Promise<void>(resolve => setImmediate(resolve));

/**
 * Sends `bytes` of the peers' payload (vm/payload.ts) as messages of `message` bytes, the last one shorter. `each` is told
 * after each how many bytes it has been in all.
 */
export async function send(
  socket: AsyncSocket,
  amount: { bytes: number; message: number },
  timeoutMs = 120_000,
  each: (bytes: number) => void = () => {},
): Promise<Moved> {
  const hash = createHash('sha256');
  const buf = new Uint8Array(amount.message);
  const signal = deadline(timeoutMs, 'all was sent');
  const begun = performance.now();
  let messages = 0;
  for (let at = 0; at < amount.bytes; messages++) {
    const n = Math.min(amount.message, amount.bytes - at);
    fillPattern(buf, 0, n, at);
    const part = n === buf.length ? buf : buf.subarray(0, n);
    while (!socket.trySend(part)) await socket.drained({ signal });
    hash.update(part);
    at += n;
    each(at);
    if (messages % 64 === 63) await turn();
  }
  return { bytes: amount.bytes, messages, sha256: hash.digest('hex'), seconds: (performance.now() - begun) / 1000 };
}

/** Receives until the peer has shut down. `each` is told after every part how many bytes it has been in all. */
export async function receive(
  socket: AsyncSocket,
  timeoutMs = 120_000,
  each: (bytes: number) => void = () => {},
): Promise<Moved> {
  const hash = createHash('sha256');
  const buf = new Uint8Array(1 << 17);
  const signal = deadline(timeoutMs, 'the peer had sent all and shut down');
  const moved = { bytes: 0, messages: 0, sha256: '', seconds: 0 };
  let begun = 0;
  for (let calls = 1; ; calls++) {
    const n = socket.tryRecvInto(buf);
    if (n < 0) await socket.readable({ signal });
    if (n === 0) break;
    if (n > 0) {
      begun ||= performance.now();
      hash.update(buf.subarray(0, n));
      moved.bytes += n;
      if ((socket.info.msgFlags & MSG_EOR) !== 0) moved.messages++;
      each(moved.bytes);
    }
    if (calls % 64 === 0) await turn();
  }
  moved.sha256 = hash.digest('hex');
  moved.seconds = begun === 0 ? 0 : (performance.now() - begun) / 1000;
  return moved;
}

/** SHUTDOWN, then waits for the peer's end of it; what still comes is thrown away. */
export async function finish(socket: AsyncSocket, timeoutMs = 20_000): Promise<void> {
  socket.shutdown();
  const signal = deadline(timeoutMs, 'the association had ended');
  while ((await socket.recv({ signal })) !== undefined);
  socket.close();
}

/** Sends every message back as it came (stream, PPID, order) until the peer has shut down. */
export async function echo(socket: AsyncSocket, timeoutMs = 60_000): Promise<{ bytes: number; messages: number }> {
  const signal = deadline(timeoutMs, 'the client had shut down');
  const done = { bytes: 0, messages: 0 };
  for await (const m of socket.messages({ signal })) {
    await socket.send(m.data, { stream: m.stream, ppid: m.ppid, ordered: m.ordered }, { signal });
    done.bytes += m.data.length;
    done.messages++;
  }
  return done;
}

/** Fails with `what` when `promise` is not settled after `timeoutMs`. */
export async function within<T>(promise: Promise<T>, what: string, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${timeoutMs} ms passed before ${what}`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Polls until `probe` gives something other than undefined or false. */
export async function eventually<T>(what: string, probe: () => T | undefined | false, timeoutMs = 10_000): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const value = probe();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > end) throw new Error(`${timeoutMs} ms passed before ${what}`);
    await new Promise(resolve => setTimeout(resolve, 5));
  }
}

/** Counters of SCTP that a sound peer on a sound medium never moves: what they count would be a fault of either end. */
const NEVER = [
  'sctps_checksumerrors',
  'sctps_hdrops',
  'sctps_badport',
  'sctps_badsrc',
  'sctps_badinit',
  'sctps_badchunklen',
  'sctps_badparam',
  'sctps_badsack',
  'sctps_badcookie',
  'sctps_badsid',
  'sctps_hbackbad',
  'sctps_nomem',
] as const;

/** Closes an appliance; throws unless every mbuf is back in the pool and none of the counters of NEVER has moved. */
export async function closeClean(host: Appliance): Promise<void> {
  const { sctp = {} } = host.counters();
  await host.close();
  const moved = NEVER.filter(name => (sctp[name] ?? 0) !== 0).map(name => `${name}=${sctp[name]}`);
  const { small, cluster, jumbo } = host.stack.pool.inUse;
  if (small + cluster + jumbo > 0) moved.push(`mbufs left: ${small} small, ${cluster} clusters, ${jumbo} jumbos`);
  if (moved.length > 0) throw new Error(`${host.name} did not end clean: ${moved.join(', ')}`);
}

/** Runs `body` and closes the appliance, clean if the body has not failed (else its error is the one to be told). */
export async function withClean(host: Appliance, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    await host.close();
    throw error;
  }
  await closeClean(host);
}
