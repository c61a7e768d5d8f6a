/**
 * The appliance as a benchmark peer, a process of its own, one card, one association:
 *
 *   sink      listen, read, count            source    connect, send as fast as it goes for some seconds
 *   echo      listen, send back what comes   pingpong  connect, send one message, wait for its echo, again
 *
 *   node dist/bench/nke-peer.js sink   --port udp:127.0.0.1:9899
 *   node dist/bench/nke-peer.js source --port udp:127.0.0.1:9900 --remote-udp 9899 --message 1400 --seconds 3
 *
 * A server prints "listening" first. Each prints one line of JSON, NkePeerResult, measured after the warm-up.
 */

import { writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { PerformanceObserver } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { Appliance } from '../appliance.js';
import { EAGAIN, errnoName } from '../stack/kern/errno.js';
import { AF_INET, SOCK_STREAM } from '../stack/kern/protosw.js';
import { MSG_EOR, RecvInfo, type SendInfo, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET, Socket } from '../stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP } from '../stack/netinet/in.js';
import { SCTP_NODELAY, SCTP_REMOTE_UDP_ENCAPS_PORT } from '../stack/sctp/api.js';
import { QUANTILES, quantile } from './statistics.js';

export interface NkePeerResult {
  readonly bytes: number;
  readonly messages: number;
  readonly seconds: number;
  /** V8's garbage collections since the warm-up: how many, the longest and all together, milliseconds. */
  readonly gc: { readonly collections: number; readonly longestMs: number; readonly totalMs: number };
  /** pingpong: microseconds at the shares of QUANTILES. */
  readonly rttUs?: readonly number[];
}

const SCTP_PORT = 5001;
const PROFILE_MICROSECONDS = 200;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    port: { type: 'string', default: 'udp:127.0.0.1:9899' },
    /** Of the card, ADDRESS/PREFIX; a udp card has its own. */
    address: { type: 'string' },
    remote: { type: 'string', default: '127.0.0.1' },
    'remote-udp': { type: 'string', default: '0' },
    message: { type: 'string', default: '1400' },
    seconds: { type: 'string', default: '3' },
    warmup: { type: 'string', default: '0.5' },
    'busy-poll': { type: 'boolean', default: false },
    /** Socket buffers in bytes; 0 leaves them as they are. */
    sndbuf: { type: 'string', default: '0' },
    rcvbuf: { type: 'string', default: '0' },
    /** Short for --port udp:127.0.0.1:N. */
    udp: { type: 'string' },
    /** Writes a CPU profile of the measurement to this file (.cpuprofile, Chrome's format). */
    profile: { type: 'string' },
    /** Prints every counter to standard error at the end. */
    stats: { type: 'boolean', default: false },
  },
});
const size = Number(values.message);
const warmup = Number(values.warmup) * 1000;
const span = Number(values.seconds) * 1000;

const port = values.udp === undefined ? values.port : `udp:127.0.0.1:${values.udp}`;

const appliance = Appliance.create({
  name: `bench-${positionals[0]}`,
  cards: [{ port, ...(values.address === undefined ? {} : { addresses: [values.address] }) }],
  kexts: ['SCTP'],
  busyPoll: values['busy-poll'],
});

const gc = { collections: 0, longestMs: 0, totalMs: 0 };
const collector = new PerformanceObserver(list => {
  for (const { duration } of list.getEntries()) {
    gc.collections++;
    gc.totalMs += duration;
    if (duration > gc.longestMs) gc.longestMs = duration;
  }
});

const profiler = values.profile === undefined ? undefined : new Session();
if (profiler !== undefined) {
  profiler.connect();
  profiler.post('Profiler.enable');
  profiler.post('Profiler.setSamplingInterval', { interval: PROFILE_MICROSECONDS });
}

/** The warm-up is over: collections count, and the profile runs, from here. */
function measure(): void {
  collector.observe({ entryTypes: ['gc'] });
  profiler?.post('Profiler.start');
}

function socket(): Socket {
  const so = appliance.socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP);
  if (!(so instanceof Socket)) throw new Error(`no SCTP socket: ${so}`);
  if (values.sndbuf !== '0') so.setsockopt(SOL_SOCKET, SO_SNDBUF, Number(values.sndbuf));
  if (values.rcvbuf !== '0') so.setsockopt(SOL_SOCKET, SO_RCVBUF, Number(values.rcvbuf));
  return so;
}

function report(bytes: number, messages: number, ms: number, rttUs?: readonly number[]): void {
  profiler?.post('Profiler.stop', (error, stopped) => {
    if (error !== null) throw error;
    writeFileSync(values.profile!, JSON.stringify(stopped.profile));
  });
  const result: NkePeerResult = { bytes, messages, seconds: ms / 1000, gc, ...(rttUs === undefined ? {} : { rttUs }) };
  process.stdout.write(`${JSON.stringify(result)}\n`);
  if (values.stats) {
    const counters = JSON.stringify(appliance.counters(), (_k, v) => (v === 0 ? undefined : v), 1);
    process.stderr.write(`${counters}\n`);
  }
}

/** Listens and gives the first association. */
async function accept(): Promise<Socket> {
  const listener = socket();
  listener.bind({ addr: InAddr.of('0.0.0.0'), port: SCTP_PORT });
  listener.listen(1);
  process.stdout.write('listening\n');
  return new Promise(resolve => {
    listener.upcall = () => {
      const so = listener.accept();
      if (so instanceof Socket) resolve(so);
    };
  });
}

async function connect(): Promise<Socket> {
  const so = socket();
  const encaps = Number(values['remote-udp']);
  if (encaps !== 0) so.setsockopt(IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, { assocId: 0, port: encaps });
  so.setsockopt(IPPROTO_SCTP, SCTP_NODELAY, 1);
  const connected = new Promise<void>((resolve, reject) => {
    so.upcall = () => {
      if (so.error !== 0) reject(new Error(so.errorReason));
      else if (so.writable) resolve();
    };
  });
  so.connect({ addr: InAddr.of(values.remote), port: SCTP_PORT });
  await connected;
  return so;
}

const info: SendInfo = { sid: 0, flags: 0, ppid: 0, context: 0, assocId: 0, prPolicy: 0, prValue: 0 };
const got = new RecvInfo();
const payload = () => new Uint8Array(size).map((_, i) => i & 255);

/** Sets the upcall of a socket to `work` and calls it once; resolves when `work` returns true. */
function serve(so: Socket, work: () => boolean): Promise<void> {
  return new Promise(resolve => {
    const upcall = () => {
      if (!work()) return;
      so.upcall = undefined;
      resolve();
    };
    so.upcall = upcall;
    upcall();
  });
}

async function sink(): Promise<void> {
  const so = await accept();
  const buf = new Uint8Array(1 << 20);
  let begun = 0;
  let first = 0;
  let last = 0;
  let bytes = 0;
  let messages = 0;
  await serve(so, () => {
    const now = performance.now();
    if (begun === 0) begun = now;
    const counts = now - begun >= warmup;
    for (;;) {
      const n = so.recv(buf, 0, buf.length, got);
      if (n <= 0) return n !== -EAGAIN;
      if (!counts) continue;
      if (first === 0) {
        first = now;
        measure();
      }
      bytes += n;
      if ((got.msgFlags & MSG_EOR) !== 0) messages++;
      last = now;
    }
  });
  report(bytes, messages, last - first);
  so.close();
}

async function source(): Promise<void> {
  const so = await connect();
  const message = payload();
  const start = performance.now();
  let first = 0;
  let bytes = 0;
  let messages = 0;
  await serve(so, () => {
    const now = performance.now();
    if (first === 0 && now - start >= warmup) {
      first = now;
      bytes = 0;
      messages = 0;
      measure();
    }
    if (now - start >= warmup + span || so.error !== 0) return true;
    for (;;) {
      const n = so.send(message, 0, size, info);
      if (n === -EAGAIN) return false;
      if (n < 0) throw new Error(`send: ${errnoName(n)}`);
      bytes += size;
      messages++;
    }
  });
  report(bytes, messages, performance.now() - first);
  await shutdown(so);
}

async function echo(): Promise<void> {
  const so = await accept();
  const buf = new Uint8Array(1 << 20);
  let bytes = 0;
  let messages = 0;
  const start = performance.now();
  so.setsockopt(IPPROTO_SCTP, SCTP_NODELAY, 1);
  await serve(so, () => {
    for (;;) {
      const n = so.recv(buf, 0, buf.length, got);
      if (n <= 0) return n !== -EAGAIN;
      so.send(buf, 0, n, info);
      bytes += n;
      messages++;
    }
  });
  report(bytes, messages, performance.now() - start);
  so.close();
}

/** Most round trips whose times are kept; further ones take the place of the first. */
const ROUND_TRIPS = 1 << 20;

async function pingpong(): Promise<void> {
  const so = await connect();
  const message = payload();
  const buf = new Uint8Array(size);
  const rtt = new Float64Array(ROUND_TRIPS);
  const start = performance.now();
  let measuring = false;
  let count = 0;
  let sent = performance.now();
  so.send(message, 0, size, info);
  await serve(so, () => {
    for (;;) {
      const n = so.recv(buf, 0, size, got);
      if (n <= 0) return n !== -EAGAIN;
      const now = performance.now();
      if (measuring) rtt[count++ % ROUND_TRIPS] = (now - sent) * 1000;
      else if (now - start >= warmup) {
        measuring = true;
        measure();
      }
      if (now - start >= warmup + span) return true;
      sent = now;
      so.send(message, 0, size, info);
    }
  });
  const sorted = rtt.subarray(0, Math.min(count, ROUND_TRIPS)).sort();
  report(
    count * size,
    count,
    performance.now() - start - warmup,
    QUANTILES.map(q => quantile(sorted, q)),
  );
  await shutdown(so);
}

/** Ends the association in good order, as far as the peer helps within three seconds. */
async function shutdown(so: Socket): Promise<void> {
  const closed = new Promise<void>(resolve => {
    so.upcall = () => {
      if (so.readable) resolve();
    };
  });
  so.shutdown(1);
  await Promise.race([closed, new Promise(r => setTimeout(r, 3000).unref())]);
  so.close();
}

const modes: Readonly<Record<string, () => Promise<void>>> = { sink, source, echo, pingpong };
await modes[positionals[0]!]!();
await appliance.close();
