/** One association that sends as fast as it can between two hosts of a network, and what arrives in a span of virtual time. */

import { AF_INET, SOCK_STREAM } from '../stack/kern/protosw.js';
import { RecvInfo, type SendInfo, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET, Socket } from '../stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP } from '../stack/netinet/in.js';
import { SCTP_NODELAY } from '../stack/sctp/api.js';
import { Network } from './network.js';

export const INFO: SendInfo = { sid: 0, flags: 0, ppid: 0, context: 0, assocId: 0, prPolicy: 0, prValue: 0 };
const PORT = 7;

/** Two connected one-to-one sockets. */
export interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  readonly listener: Socket;
}

/**
 * Connects a socket of `from` to one of `to` at its address `address`; `buffer` is the size of their buffers, 0 = as they
 * are by default. Throws when it cannot be done within five virtual minutes.
 */
export function connect(net: Network, from: string, to: string, address: string, buffer = 0): Pair {
  const make = (host: string): Socket => {
    const so = net.host(host).socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP);
    if (!(so instanceof Socket)) throw new Error(`${host} has no SCTP socket: errno ${-so}`);
    so.setsockopt(IPPROTO_SCTP, SCTP_NODELAY, 1);
    if (buffer > 0) {
      so.setsockopt(SOL_SOCKET, SO_SNDBUF, buffer);
      so.setsockopt(SOL_SOCKET, SO_RCVBUF, buffer);
    }
    return so;
  };
  const listener = make(to);
  listener.bind({ addr: InAddr.of('0.0.0.0'), port: PORT });
  listener.listen(1);
  const client = make(from);
  client.connect({ addr: InAddr.of(address), port: PORT });
  let server: Socket | undefined;
  const up = net.run(
    () => {
      const s = listener.accept();
      if (s instanceof Socket) server = s;
      return server !== undefined && client.writable;
    },
    { virtual: 300e9 },
  );
  if (!up || server === undefined) throw new Error(`${from} has not reached ${address}: ${client.errorReason}`);
  return { client, server, listener };
}

/** Has the client send messages of `size` bytes whenever there is room, for ever. */
export function flood(client: Socket, size: number): void {
  const message = new Uint8Array(size).map((_, i) => i & 255);
  client.upcall = () => {
    while (client.send(message, 0, size, INFO) > 0);
  };
  client.upcall(client);
}

/** Reads all that comes; `take` is told of each piece's bytes. */
export function drain(server: Socket, take: (bytes: Uint8Array, n: number) => void): void {
  const buf = new Uint8Array(1 << 17);
  const got = new RecvInfo();
  server.upcall = () => {
    for (let n = server.recv(buf, 0, buf.length, got); n > 0; n = server.recv(buf, 0, buf.length, got)) take(buf, n);
  };
  server.upcall(server);
}

/** A path and what is sent over it. */
export interface BulkCell {
  /** Share of packets lost, each way. */
  readonly loss: number;
  /** Round trip of an empty line, ns; half of it each way. */
  readonly rtt: number;
  /** Bytes of the send and of the receive buffer. */
  readonly buffer: number;
  /** Bits a second of Ethernet frames, default 100 Mb/s. */
  readonly rate?: number;
  /** Bytes that may wait for the line, each way; default `queueOf`. */
  readonly queueBytes?: number;
  /** Bytes of a message, default 1400: one packet each. */
  readonly message?: number;
  readonly seed?: number;
  /** Seconds of virtual time before it is counted, and for which it is. */
  readonly skip: number;
  readonly seconds: number;
}

export interface BulkFigures {
  /** Bytes of user data that the reader got. */
  readonly bytes: number;
  readonly mbps: number;
  /** Of the whole run, at the sender. */
  readonly timeouts: number;
  readonly fastRetransmissions: number;
  /** Packets that found the queue full, of the whole run. */
  readonly queueFull: number;
}

export const RATE = 100e6;
export const MESSAGE = 1400;
/** One bandwidth-delay product, and at least 100 packets: what a router's line card is commonly given. */
export const queueOf = (rate: number, rtt: number): number => Math.max((rate * rtt) / 8e9, 150_000);

/** Measures a cell. The same cell gives the same figures, to the byte. */
export async function bulk(cell: BulkCell): Promise<BulkFigures> {
  const { rate = RATE, message = MESSAGE, loss, rtt } = cell;
  const net = new Network({
    seed: cell.seed ?? 1,
    hosts: { a: { cards: [{ addresses: ['10.0.0.1/24'] }] }, b: { cards: [{ addresses: ['10.0.0.2/24'] }] } },
    links: { line: { ends: ['a', 'b'], rate, delay: rtt / 2, queueBytes: cell.queueBytes ?? queueOf(rate, rtt) } },
  });
  const { client, server } = connect(net, 'a', 'b', '10.0.0.2', cell.buffer);
  net.link('line').set({ loss });
  const from = net.now + cell.skip * 1e9;
  const to = from + cell.seconds * 1e9;
  let bytes = 0;
  drain(server, (_, n) => {
    if (net.now >= from && net.now < to) bytes += n;
  });
  flood(client, message);
  net.run(() => net.now >= to || client.error !== 0, { virtual: (cell.skip + cell.seconds + 1) * 1e9 });
  if (client.error !== 0) throw new Error(`the association has ended: ${client.errorReason}`);
  const c = net.host('a').stack.counters.group('sctp')!;
  const figures: BulkFigures = {
    bytes,
    mbps: (bytes * 8) / cell.seconds / 1e6,
    timeouts: c.sctps_timeoutdata ?? 0,
    fastRetransmissions: c.sctps_sendfastretrans ?? 0,
    queueFull: net.link('line').counters('b').fault_queue_full!,
  };
  await net.close();
  return figures;
}
