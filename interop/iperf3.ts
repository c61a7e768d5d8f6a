// The peer of iperf3 --sctp: its protocol (iperf3's iperf_api.h, iperf_server_api.c and iperf_client_api.c, 3.12) with the
// data on SCTP sockets of ours. The control connection is TCP also with --sctp, to the same address and port as the data;
// our stack has no TCP, so control is node:net in the namespace of the test (see linux-tools.system.test.ts for how one
// address leads to both).
//
//   control: cookie, 37 bytes | then states, one byte each | JSON, a 4-byte length before it
//   data:    the cookie as first message | messages of "len" bytes
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp, createServer, type Socket as TcpSocket } from 'node:net';
import type { Appliance } from '../appliance.js';
import type { AsyncSocket } from '../sockets/index.js';
import { accept, connect, deadline, listen } from './ends.js';

const COOKIE_SIZE = 37; // 36 characters and NUL
const TEST_START = 1;
const TEST_RUNNING = 2;
const TEST_END = 4;
const PARAM_EXCHANGE = 9;
const CREATE_STREAMS = 10;
const EXCHANGE_RESULTS = 13;
const DISPLAY_RESULTS = 14;
const IPERF_DONE = 16;
const MAX_JSON = 1 << 20;

/** What the two agree on before the test (send_parameters); more members come and are ignored. */
interface Parameters {
  sctp?: boolean;
  time: number;
  parallel: number;
  len: number;
  /** The server sends. */
  reverse?: boolean;
}

/** What one end says of itself at the end (send_results). */
interface Results {
  streams: { id: number; bytes: number }[];
}

export interface Iperf3Outcome {
  /** Bytes that our end sent or received, the whole of the association. */
  ours: number;
  /** What iperf3 says that it received or sent. */
  peers: number;
  /** True when we sent. */
  sent: boolean;
  seconds: number;
}

/** A TCP connection read by the byte. */
class Control {
  readonly #socket: TcpSocket;
  readonly #signal: AbortSignal;

  constructor(socket: TcpSocket, signal: AbortSignal) {
    this.#socket = socket;
    this.#signal = signal;
    socket.on('error', () => {}); // told by the read that misses its bytes
    socket.setNoDelay(true);
  }
  async read(n: number): Promise<Buffer> {
    for (;;) {
      const bytes = this.#socket.read(n) as Buffer | null;
      if (bytes !== null && bytes.length === n) return bytes;
      if (this.#socket.readableEnded || this.#socket.destroyed)
        throw new Error(`iperf3 closed its control connection before ${n} bytes came`);
      await Promise.race([
        once(this.#socket, 'readable', { signal: this.#signal }),
        once(this.#socket, 'end', { signal: this.#signal }),
      ]);
    }
  }
  write(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }
  state(state: number): void {
    this.write(Uint8Array.of(state));
  }
  async expect(state: number): Promise<void> {
    const [got] = await this.read(1);
    // Negative states are refusals: -1 access denied, -2 server error (followed by two error numbers).
    if (got !== state) throw new Error(`iperf3 is in state ${(got! << 24) >> 24}, not ${state}`);
  }
  json(value: unknown): void {
    const text = Buffer.from(JSON.stringify(value));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(text.length);
    this.write(Buffer.concat([length, text]));
  }
  async readJson<T>(): Promise<T> {
    const length = (await this.read(4)).readUInt32BE();
    if (length > MAX_JSON) throw new Error(`iperf3 announces ${length} bytes of JSON`);
    return JSON.parse((await this.read(length)).toString()) as T;
  }
}

const results = (bytes: number, seconds: number) => ({
  cpu_util_total: 0,
  cpu_util_user: 0,
  cpu_util_system: 0,
  sender_has_retransmits: -1,
  streams: [{ id: 1, bytes, retransmits: -1, jitter: 0, errors: 0, packets: 0, start_time: 0, end_time: seconds }],
});

const turn = () => new Promise<void>(resolve => setImmediate(resolve));

/** Sends messages until `stop` or, when the peer has closed with the test, until an error tells so. */
async function pump(socket: AsyncSocket, length: number, stop: AbortSignal, signal: AbortSignal): Promise<number> {
  const message = new Uint8Array(length);
  let bytes = 0;
  try {
    for (let i = 1; !stop.aborted; i++) {
      while (!socket.trySend(message)) await socket.drained({ signal: AbortSignal.any([stop, signal]) });
      bytes += length;
      if (i % 16 === 0) await turn();
    }
  } catch (error) {
    if (!stop.aborted) throw error;
  }
  return bytes;
}

/** Counts what comes until the peer shuts down; once `over`, its ABORT is an end like any other. */
async function drain(socket: AsyncSocket, over: AbortSignal, signal: AbortSignal): Promise<number> {
  const buf = new Uint8Array(1 << 17);
  let bytes = 0;
  try {
    for (let i = 1; ; i++) {
      const n = socket.tryRecvInto(buf);
      if (n === 0) return bytes;
      if (n > 0) bytes += n;
      else await socket.readable({ signal });
      if (i % 64 === 0) await turn();
    }
  } catch (error) {
    if (!over.aborted || signal.aborted) throw error;
    return bytes;
  }
}

/** Serves one test of an iperf3 client (as `iperf3 -s -1` does) on `address`; calls `ready` when it listens. */
export async function serveIperf3(
  host: Appliance,
  address: string,
  port: number,
  ready: () => void,
  timeoutMs = 30_000,
): Promise<Iperf3Outcome> {
  const signal = deadline(timeoutMs, 'the test of iperf3 was over');
  const listener = listen(host, { addresses: [address], port });
  const tcp = createServer({ pauseOnConnect: true }).listen(port, address);
  let socket: TcpSocket | undefined;
  let data: AsyncSocket | undefined;
  try {
    await once(tcp, 'listening', { signal });
    ready();
    [socket] = (await once(tcp, 'connection', { signal })) as [TcpSocket];
    const control = new Control(socket, signal);
    const cookie = await control.read(COOKIE_SIZE);
    control.state(PARAM_EXCHANGE);
    const parameters = await control.readJson<Parameters>();
    if (parameters.sctp !== true || parameters.parallel !== 1)
      throw new Error(`only one stream of SCTP is served: ${JSON.stringify(parameters)}`);
    control.state(CREATE_STREAMS);
    data = await accept(listener, timeoutMs);
    const first = await data.recv({ signal });
    if (first === undefined || !first.data.equals(cookie)) throw new Error('the first message is not the cookie');
    control.state(TEST_START);
    control.state(TEST_RUNNING);

    const begun = performance.now();
    const over = new AbortController();
    const sent = parameters.reverse === true;
    const moving = sent ? pump(data, parameters.len, over.signal, signal) : drain(data, over.signal, signal);
    moving.catch(() => {}); // awaited below
    await control.expect(TEST_END);
    over.abort();
    const seconds = (performance.now() - begun) / 1000;
    control.state(EXCHANGE_RESULTS);
    const theirs = await control.readJson<Results>();
    // A receiver must have all before it can say how much: the client has sent it, and closes when it has our results.
    control.json(results(sent ? await moving : 0, seconds));
    control.state(DISPLAY_RESULTS);
    await control.expect(IPERF_DONE);
    const ours = await moving;
    return { ours, peers: theirs.streams[0]!.bytes, sent, seconds };
  } finally {
    socket?.destroy();
    tcp.close();
    data?.close();
    listener.close();
  }
}

/** Runs one test against `iperf3 -s` at `address`; with `reverse` the server sends. */
export async function runIperf3(
  host: Appliance,
  address: string,
  port: number,
  test: { seconds: number; length: number; reverse: boolean },
  timeoutMs = 30_000,
): Promise<Iperf3Outcome> {
  const signal = deadline(timeoutMs, 'the test of iperf3 was over');
  const tcp = connectTcp({ host: address, port });
  let data: AsyncSocket | undefined;
  try {
    await once(tcp, 'connect', { signal });
    const control = new Control(tcp, signal);
    const letters = 'abcdefghijklmnopqrstuvwxyz234567';
    const cookie = Buffer.alloc(COOKIE_SIZE);
    for (let i = 0; i < COOKIE_SIZE - 1; i++) cookie[i] = letters.charCodeAt(randomInt(letters.length));
    control.write(cookie);
    await control.expect(PARAM_EXCHANGE);
    control.json({
      sctp: true,
      omit: 0,
      time: test.seconds,
      num: 0,
      blockcount: 0,
      parallel: 1,
      len: test.length,
      pacing_timer: 1000,
      client_version: '3.12',
      ...(test.reverse ? { reverse: true } : {}),
    });
    await control.expect(CREATE_STREAMS);
    data = await connect(host, [address], port);
    await data.send(cookie);
    await control.expect(TEST_START);
    await control.expect(TEST_RUNNING);

    const begun = performance.now();
    const over = new AbortController();
    const moving = test.reverse ? drain(data, over.signal, signal) : pump(data, test.length, over.signal, signal);
    moving.catch(() => {}); // awaited below
    await new Promise(resolve => setTimeout(resolve, test.seconds * 1000));
    over.abort();
    const seconds = (performance.now() - begun) / 1000;
    control.state(TEST_END);
    await control.expect(EXCHANGE_RESULTS);
    const ours = await moving;
    control.json(results(ours, seconds));
    const theirs = await control.readJson<Results>();
    await control.expect(DISPLAY_RESULTS);
    control.state(IPERF_DONE);
    return { ours, peers: theirs.streams[0]!.bytes, sent: !test.reverse, seconds };
  } finally {
    tcp.destroy();
    data?.close();
  }
}
