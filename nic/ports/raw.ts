/**
 * Raw port: SCTP directly over IPv4 (protocol 132, RFC 9260 §1) through the optional package raw-socket and raw(7).
 *
 * We send with IP_HDRINCL, so the header is the caller's own (the kernel fills in its checksum, and the identification when
 * zero); the source address must be ours. The kernel hands every raw socket all SCTP packets of the machine, headers
 * included; those for another address than ours are passed over, which stands for the bind that raw-socket has not.
 */
import { createRequire } from 'node:module';
import { formatAddress, parseAddress } from './address.js';
import { copyBytes, IP4_HEADER } from './headers.js';
import { type Batch, type Memory, type Port, type PortCapabilities, PortError } from './port.js';
import { SoftReadiness } from './readiness.js';

export interface RawPortOptions {
  /** The local IPv4 address. */
  readonly address: string;
  /** Largest IP packet, default 1500. */
  readonly mtu?: number;
  /** Socket receive buffer in bytes, default 1 MiB; the system may grant less. */
  readonly receiveBytes?: number;
}

/** What we use of raw-socket's inner object, whose calls are synchronous. */
interface RawWrap {
  on(event: 'recvReady' | 'sendReady' | 'error', listener: (error?: unknown) => void): void;
  removeAllListeners(event: string): void;
  pause(receive: boolean, send: boolean): void;
  recv(into: Uint8Array, done: (into: Uint8Array, bytes: number, source: string) => void): void;
  send(from: Uint8Array, offset: number, length: number, address: string, done: (bytes: number) => void): void;
  setOption(level: number, option: number, value: number): void;
  close(): void;
}
interface RawSocket {
  wrap: RawWrap;
  on(event: 'error' | 'close', listener: (error?: unknown) => void): void;
}
interface RawModule {
  createSocket(options: { protocol: number; addressFamily: number; bufferSize: number }): RawSocket;
  AddressFamily: { IPv4: number };
  SocketLevel: { SOL_SOCKET: number; IPPROTO_IP: number };
  SocketOption: { SO_RCVBUF: number; IP_HDRINCL: number };
}

const SCTP = 132;
const NAMES = 256;
const FOREIGN = 256; // packets for others that one receive call passes over at most

function load(name: string): RawModule {
  try {
    return createRequire(import.meta.url)('raw-socket') as RawModule;
  } catch (e) {
    const why = (e as Error).message.split('\n')[0];
    throw new PortError(
      'ENOPACKAGE',
      `cannot open ${name}: the optional package raw-socket is not installed or not built (${why}); run "npm install raw-socket"`,
    );
  }
}

export class RawPort implements Port {
  readonly name: string;
  readonly capabilities: PortCapabilities;
  readonly counters = {
    tx_packets: 0,
    tx_bytes: 0,
    tx_oversize: 0,
    tx_unsupported: 0,
    tx_errors: 0,
    tx_full: 0,
    rx_packets: 0,
    rx_bytes: 0,
    rx_truncated: 0,
    rx_foreign: 0,
    rx_errors: 0,
  };
  onCarrier: ((up: boolean) => void) | undefined;

  readonly #options: RawPortOptions;
  readonly #local: number;
  readonly #buffer = Buffer.allocUnsafeSlow(65536);
  readonly #names = new Map<number, string>();
  readonly #ready = new SoftReadiness();
  #memory: Memory | undefined;
  #region: Buffer | undefined;
  #wrap: RawWrap | undefined;
  #got = 0; // bytes that the last recv brought
  #refused = false;
  readonly #take = (_into: Uint8Array, bytes: number) => {
    this.#got = bytes;
  };
  readonly #sent = () => {};

  constructor(options: RawPortOptions) {
    this.name = `raw:${options.address}`;
    const local = parseAddress(options.address);
    if (local === undefined || local.family !== 4 || local.w[3] === 0) {
      throw new PortError('EINVAL', `"${options.address}": raw SCTP needs one IPv4 address of this machine`);
    }
    this.#options = options;
    this.#local = local.w[3]!;
    this.capabilities = {
      carries: 'ip',
      mtu: options.mtu ?? 1500,
      train: 0,
      trainSegments: 0,
      sctpCrc: false,
      carrier: false,
    };
  }

  get carrier(): boolean {
    return this.#memory !== undefined;
  }

  open(memory: Memory): void {
    if (this.#memory !== undefined) throw new Error(`${this.name} is open already`);
    const raw = load(this.name);
    let socket: RawSocket;
    try {
      socket = raw.createSocket({ protocol: SCTP, addressFamily: raw.AddressFamily.IPv4, bufferSize: 64 });
    } catch (e) {
      const text = (e as Error).message;
      const privilege = /not permitted|denied/i.test(text);
      throw new PortError(
        privilege ? 'EPERM' : 'EIO',
        `cannot open ${this.name}: ${privilege ? 'raw sockets need root or CAP_NET_RAW; use udp: without them' : text}`,
      );
    }
    const wrap = socket.wrap;
    // raw-socket's own handlers allocate a Buffer per packet and send from a queue without bound: we drive the inner
    // object, of which we want readiness only.
    for (const event of ['recvReady', 'sendReady', 'error']) wrap.removeAllListeners(event);
    socket.on('error', () => {});
    wrap.on('recvReady', () => this.#event());
    wrap.on('sendReady', () => this.#event());
    wrap.on('error', () => {
      this.counters.rx_errors++;
      this.#event();
    });
    try {
      wrap.setOption(raw.SocketLevel.IPPROTO_IP, raw.SocketOption.IP_HDRINCL, 1);
      wrap.setOption(raw.SocketLevel.SOL_SOCKET, raw.SocketOption.SO_RCVBUF, this.#options.receiveBytes ?? 1 << 20);
      wrap.pause(true, true);
    } catch (e) {
      wrap.close();
      throw new PortError('EIO', `cannot open ${this.name}: ${(e as Error).message}`);
    }
    this.#wrap = wrap;
    this.#memory = memory;
    this.#region = Buffer.from(memory.buffer as ArrayBuffer);
    this.#refused = false;
  }

  #event(): void {
    this.#wrap?.pause(true, true);
    this.#ready.signal();
  }

  transmit(batch: Batch, _now: number): number {
    const memory = this.#memory;
    if (memory === undefined) return 0;
    const c = this.counters;
    this.#refused = false;
    for (let i = 0; i < batch.count; i++) {
      const off = batch.off[i]!;
      const len = batch.len[i]!;
      const u8 = memory.u8;
      if (off < 0 || len < IP4_HEADER || off + len > u8.length) {
        c.tx_errors++;
      } else if (u8[off]! >>> 4 !== 4 || u8[off + 9] !== SCTP || memory.dv.getInt32(off + 12) !== this.#local) {
        c.tx_unsupported++;
      } else if (len > this.capabilities.mtu || batch.segsz[i]! > 0) {
        c.tx_oversize++;
      } else if (!this.#send(off, len, memory.dv.getInt32(off + 16))) {
        return i;
      }
    }
    return batch.count;
  }

  /** False when the socket is full. */
  #send(off: number, len: number, to: number): boolean {
    let text = this.#names.get(to);
    if (text === undefined) {
      if (this.#names.size >= NAMES) this.#names.clear();
      text = formatAddress(4, 0, 0, 0, to);
      this.#names.set(to, text);
    }
    try {
      this.#wrap!.send(this.#region!, off, len, text, this.#sent);
      this.counters.tx_packets++;
      this.counters.tx_bytes += len;
    } catch (e) {
      // raw-socket gives the error's text only, never its number.
      if (/temporarily unavailable/i.test((e as Error).message)) {
        this.#refused = true;
        this.counters.tx_full++;
        return false;
      }
      if (/too long/i.test((e as Error).message)) this.counters.tx_oversize++;
      else this.counters.tx_errors++;
    }
    return true;
  }

  receive(batch: Batch, posted: number, _now: number): number {
    batch.count = 0;
    const memory = this.#memory;
    if (memory === undefined) return 0;
    const c = this.counters;
    const room = Math.min(posted, batch.capacity);
    let n = 0;
    for (let foreign = 0; n < room && foreign < FOREIGN; ) {
      const got = this.#recv();
      if (got === 0) break;
      const b = this.#buffer;
      if (got < IP4_HEADER || b.readInt32BE(16) !== this.#local) {
        c.rx_foreign++;
        foreign++;
      } else if (got > batch.cap[n]!) {
        c.rx_truncated++;
      } else {
        copyBytes(b, 0, memory.u8, batch.off[n]!, got);
        batch.len[n] = got;
        batch.segsz[n] = 0;
        batch.hdrlen[n] = 0;
        batch.flags[n] = 0;
        c.rx_packets++;
        c.rx_bytes += got;
        n++;
      }
    }
    batch.count = n;
    return n;
  }

  /** One packet into #buffer; 0 when there is none. */
  #recv(): number {
    this.#got = 0;
    try {
      this.#wrap!.recv(this.#buffer, this.#take);
    } catch (e) {
      if (!/temporarily unavailable/i.test((e as Error).message)) this.counters.rx_errors++;
      return 0;
    }
    return this.#got;
  }

  deadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  arm(wake: () => void): void {
    if (this.#memory === undefined) return;
    this.#ready.arm(wake, false);
    this.#wrap!.pause(false, !this.#refused);
    this.#refused = false;
  }

  disarm(): void {
    this.#ready.disarm();
    this.#wrap?.pause(true, true);
  }

  close(): void {
    if (this.#memory === undefined) return;
    this.#memory = undefined;
    this.#region = undefined;
    this.#ready.close();
    const wrap = this.#wrap;
    this.#wrap = undefined;
    wrap?.close();
  }
}
