/**
 * The npm packages `sctp` and `werift` as benchmark peers, a process of its own over a UDP socket on loopback:
 *
 *   node dist/bench/npm-peers/peer.js sctp|werift FOLDER sink|source|echo|pingpong LOCAL-UDP REMOTE-UDP MESSAGE SECONDS WARMUP
 *
 * FOLDER has them in its node_modules. `sctp` is given the socket as its transport (its "UDP mode"); of werift we take its
 * SCTP class alone, which in WebRTC runs over DTLS: without that it is faster than what its users see. Neither ends an
 * association under load in good time: each end stops by its own clock and leaves.
 */

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { QUANTILES, quantile } from '../statistics.js';

/** What both packages are made to look like. */
interface Peer {
  /** Resolves when the association is up. */
  readonly up: Promise<void>;
  /** Sends one message; `taken` is called when there is room for the next. */
  send(message: Buffer, taken: () => void): void;
  onMessage: (message: Buffer) => void;
}

// The parts of the packages that are used.
interface NpmSctpSocket {
  on(event: 'connect', f: () => void): void;
  on(event: 'data', f: (data: Buffer) => void): void;
  on(event: 'error', f: (error: Error | undefined) => void): void;
  write(data: Buffer, f: () => void): boolean;
}
interface NpmSctp {
  connect(options: object): NpmSctpSocket;
}
interface WeriftSctp {
  SCTP: {
    client(transport: object, port: number, options: { mtu: number }): WeriftAssociation;
    server(transport: object, port: number, options: { mtu: number }): WeriftAssociation;
  };
  createUdpTransport(socket: UdpSocket, to: { address?: string; port?: number }): object;
}
interface WeriftAssociation {
  readonly stateChanged: { readonly connected: { subscribe(f: () => void): void } };
  readonly onReceive: { subscribe(f: (stream: number, ppid: number, data: Buffer) => void): void };
  start(remotePort: number): Promise<void>;
  send(stream: number, ppid: number, data: Buffer): Promise<void>;
}

const [name, folder, mode, localUdp, remoteUdp, ...numbers] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
];
const [message, seconds, warmup] = (numbers as string[]).map(Number) as [number, number, number];
const isServer = mode === 'sink' || mode === 'echo';
const LOOPBACK = '127.0.0.1';
const SERVER_PORT = 5001;
const CLIENT_PORT = 5002;
const load = createRequire(join(folder, 'package.json'));

function npmSctp(udp: UdpSocket): Peer {
  const socket = (load('sctp') as NpmSctp).connect({
    localPort: isServer ? SERVER_PORT : CLIENT_PORT,
    port: isServer ? CLIENT_PORT : SERVER_PORT,
    passive: isServer,
    udpTransport: udp,
    udpPeer: { address: LOOPBACK, port: Number(remoteUdp) },
  });
  const up = new Promise<void>((resolve, reject) => {
    socket.on('connect', resolve);
    socket.on('error', e => reject(e ?? new Error('communication error')));
  });
  const peer: Peer = { up, send: (m, taken) => void socket.write(m, taken), onMessage() {} };
  socket.on('data', data => peer.onMessage(data));
  return peer;
}

/** The UDP payload that fits a packet of 1,500 bytes. */
const UDP_PAYLOAD = 1472;

function werift(udp: UdpSocket): Peer {
  const module = load('./node_modules/werift/lib/sctp/src/index.js') as WeriftSctp;
  const transport = module.createUdpTransport(udp, { address: LOOPBACK, port: Number(remoteUdp) });
  const make = isServer ? module.SCTP.server : module.SCTP.client;
  const association = make(transport, 5000, { mtu: UDP_PAYLOAD });
  const up = new Promise<void>(resolve => association.stateChanged.connected.subscribe(resolve));
  void association.start(5000);
  const peer: Peer = {
    up,
    // It resolves when the message has left its queue, one packet at a time: a few are kept under way.
    send: (m, taken) => void association.send(0, 51, m).then(taken),
    onMessage() {},
  };
  association.onReceive.subscribe((_stream, _ppid, data) => peer.onMessage(data));
  return peer;
}

/** Messages that a source keeps waiting to be taken. */
const AHEAD = 64;

function done(result: object): void {
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
}

const udp = createSocket('udp4');
await new Promise<void>(resolve => udp.bind(Number(localUdp), LOOPBACK, resolve));
try {
  udp.setRecvBufferSize(4 << 20);
} catch {
  // the system's limit will do
}
const peer = name === 'sctp' ? npmSctp(udp) : werift(udp);
const payload = Buffer.alloc(message).map((_, i) => i & 255) as Buffer;
// A server that nobody comes to, or whose client has left, ends too.
setTimeout(
  () => {
    process.stderr.write(`Error: ${name} ${mode}: nothing more came in time\n`);
    process.exit(3);
  },
  (seconds + warmup + 10) * 1000,
).unref();

/** Counts from the end of the warm-up after the first message, for `seconds`. */
function sink(): void {
  let begun = 0;
  let first = 0;
  let bytes = 0;
  let messages = 0;
  peer.onMessage = data => {
    const now = performance.now();
    if (begun === 0) begun = now;
    if (now - begun < warmup * 1000) return;
    if (first === 0) first = now;
    bytes += data.length;
    messages++;
    if (now - first >= seconds * 1000 * 0.9) done({ bytes, messages, seconds: (now - first) / 1000 });
  };
}

async function source(): Promise<void> {
  await peer.up;
  const end = performance.now() + (warmup + seconds) * 1000;
  const next = (): void => {
    if (performance.now() < end) peer.send(payload, next);
  };
  for (let i = 0; i < AHEAD; i++) next();
  setTimeout(() => done({ bytes: 0, messages: 0, seconds }), (warmup + seconds) * 1000 + 300);
}

function echo(): void {
  peer.onMessage = data => peer.send(data, () => {});
  setTimeout(() => done({ bytes: 0, messages: 0, seconds }), (warmup + seconds) * 1000 + 2000);
}

async function pingpong(): Promise<void> {
  await peer.up;
  const rtt: number[] = [];
  const start = performance.now();
  let sent = start;
  const ping = (): void => {
    sent = performance.now();
    peer.send(payload, () => {});
  };
  peer.onMessage = () => {
    const now = performance.now();
    if (now - start > warmup * 1000) rtt.push((now - sent) * 1000);
    if (now - start < (warmup + seconds) * 1000) return ping();
    rtt.sort((a, b) => a - b);
    done({ bytes: 0, messages: rtt.length, seconds, rttUs: QUANTILES.map(q => quantile(rtt, q)) });
  };
  ping();
}

process.stdout.write('listening\n');
await { sink, source, echo, pingpong }[mode as 'sink']!();
