/**
 * UDP port: SCTP in UDP (RFC 6951) over a socket bound to one address and port, by the C module: one system call moves a
 * batch, trains ride on UDP_SEGMENT and UDP_GRO, and the CRC32c of every SCTP packet is filled in and checked on the way.
 * Without the module `createUdpPort` gives the plain port of udp-dgram.ts.
 *
 * The IP source address and UDP source port of what is sent must be the socket's own. DF is set on every packet.
 * Rooms given to `receive` must hold `capabilities.train` bytes when that is not 0 (and `mtu` bytes else): the kernel
 * coalesces what arrives, and what does not fit its room is dropped and counted as rx_truncated.
 */
import { getSystemErrorName } from 'node:util';
import {
  NATIVE_BATCH,
  type Native,
  native as nativeModule,
  POLL_READABLE,
  POLL_WRITABLE,
  UDP_CAP,
  UDP_IO_CRC,
  UDP_IO_SPLIT,
  UDP_IO_V6,
  UDP_LEN,
  UDP_OFF,
  UDP_OPEN_GRO,
  UDP_OPEN_GROUP,
  UDP_OPEN_REUSE,
  UDP_PAYLOAD,
  UDP_PENDING,
  UDP_PORT,
  UDP_RESULT,
  UDP_ROW,
  UDP_SEGMENTS,
  UDP_SEGSZ,
  UDP_TOS,
  UDP_W0,
  UDP_W1,
  UDP_W2,
  UDP_W3,
} from '../native.js';
import { type PortAddress, parseAddress } from './address.js';
import { copyBytes, FRAME_BROKEN, FRAME_OK, segments, UdpFraming } from './headers.js';
import {
  BATCH_L3_TRUSTED,
  BATCH_SCTP_CSUM_OK,
  type Batch,
  type Memory,
  type Port,
  type PortCapabilities,
  PortError,
} from './port.js';
import { FdReadiness } from './readiness.js';
import { DgramPort, udpOpenError } from './udp-dgram.js';

export interface UdpPortOptions {
  /** The local address, one of this machine's (not a wildcard: it becomes the packets' destination). */
  readonly address: string;
  /** The local UDP port; 0 lets the system choose (then see `port`). 9899 is SCTP's (RFC 6951 §5.1). */
  readonly port: number;
  /** Largest IP packet, default 1500. */
  readonly mtu?: number;
  /** Send and receive trains; default true when the C module is there. */
  readonly train?: boolean;
  /** Fill in and check the SCTP CRC32c here; default true when the C module is there. */
  readonly sctpCrc?: boolean;
  /** False: cut trains before the kernel, for a path that takes no UDP_SEGMENT. Default true. */
  readonly gso?: boolean;
  /** Socket buffers in bytes, default 4 MiB; the system may grant less. */
  readonly receiveBytes?: number;
  readonly sendBytes?: number;
  /** SO_REUSEADDR. */
  readonly reuse?: boolean;
  /**
   * A bound socket to use instead of opening one (openUdpGroup): `address` and `port` must be its own, and it is left open, for
   * it belongs to whoever opened it. Needs the C module.
   */
  readonly fd?: number;
  /** Path of a network namespace to open the socket in, "/run/netns/NAME". Needs the C module and CAP_SYS_ADMIN. */
  readonly netns?: string;
}

const BUFFER_BYTES = 4 << 20;

/** Checks the options that both kinds share. Throws PortError. */
function localAddress(options: UdpPortOptions): PortAddress {
  const local = parseAddress(options.address);
  if (local === undefined) {
    throw new PortError('EINVAL', `"${options.address}" is not an IPv4 or IPv6 address; give one of this machine's`);
  }
  if (local.w.every((w, i) => w === (local.family === 4 && i === 2 ? 0xffff : 0))) {
    throw new PortError('EINVAL', `${options.address} is a wildcard; give the one address that peers send to`);
  }
  if (!Number.isInteger(options.port) || options.port < 0 || options.port > 65535) {
    throw new PortError('EINVAL', `${options.port} is not a UDP port; give 0 to 65535 (SCTP in UDP uses 9899)`);
  }
  return local;
}

/** Counters of packets that can never be sent. */
type Drop = 'tx_errors' | 'tx_unsupported' | 'tx_oversize';

export class UdpPort implements Port {
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
    rx_trains: 0,
    rx_bytes: 0,
    rx_truncated: 0,
    rx_bad_crc: 0,
    rx_errors: 0,
    icmp_unreachable: 0,
    icmp_too_big: 0,
    icmp_other: 0,
  };
  onCarrier: ((up: boolean) => void) | undefined;

  readonly #native: Native;
  readonly #options: UdpPortOptions;
  readonly #framing: UdpFraming;
  readonly #io: number; // UDP_IO_* flags of every call
  readonly #split: number;
  readonly #rows = new Int32Array(NATIVE_BATCH * UDP_ROW);
  readonly #errors = new Int32Array(4);
  #memory: Memory | undefined;
  #fd = -1;
  #ready: FdReadiness | undefined;
  #refused = false;

  constructor(options: UdpPortOptions, native: Native) {
    const local = localAddress(options);
    this.name = udpName(options);
    this.#native = native;
    this.#options = options;
    this.#framing = new UdpFraming(local, options.port);
    const crc = options.sctpCrc ?? true;
    const train = options.train ?? true;
    this.#io = (crc ? UDP_IO_CRC : 0) | (local.family === 6 ? UDP_IO_V6 : 0);
    this.#split = options.gso === false ? UDP_IO_SPLIT : 0;
    this.capabilities = {
      carries: 'udp',
      mtu: options.mtu ?? 1500,
      train: train ? this.#framing.header + UDP_PAYLOAD : 0,
      trainSegments: train ? UDP_SEGMENTS : 0,
      sctpCrc: crc,
      carrier: false,
    };
  }

  /** The local UDP port, once open. */
  get port(): number {
    return this.#framing.port;
  }

  get carrier(): boolean {
    return this.#memory !== undefined;
  }

  open(memory: Memory): void {
    if (this.#memory !== undefined) throw new Error(`${this.name} is open already`);
    const o = this.#options;
    const flags = (this.capabilities.train > 0 ? UDP_OPEN_GRO : 0) | (o.reuse ? UDP_OPEN_REUSE : 0);
    const rcv = o.receiveBytes ?? BUFFER_BYTES;
    const fd = o.fd ?? this.#native.udpOpen(o.address, o.port, flags, rcv, o.sendBytes ?? BUFFER_BYTES, o.netns);
    if (fd < 0) throw udpOpenError(this.name, getSystemErrorName(fd));
    try {
      this.#ready = new FdReadiness(this.#native, [fd]);
    } catch (e) {
      if (o.fd === undefined) this.#native.close(fd);
      throw e;
    }
    this.#fd = fd;
    this.#framing.port = this.#native.udpPort(fd);
    this.#memory = memory;
    this.#refused = false;
  }

  transmit(batch: Batch, _now: number): number {
    const memory = this.#memory;
    if (memory === undefined) return 0;
    this.#refused = false;
    let from = 0;
    while (from < batch.count) {
      const rows = this.#rows;
      let n = 0;
      let drop: Drop | undefined;
      let i = from;
      // A packet that can never be sent ends the chunk, so that it is counted once, when all before it have left.
      for (; i < batch.count && n < NATIVE_BATCH; i++, n++) {
        drop = this.#row(memory.u8, batch, i, n);
        if (drop !== undefined) break;
      }
      const taken = n === 0 ? 0 : this.#native.udpSend(this.#fd, memory.u8, rows, n, this.#io | this.#split);
      if (taken < 0) {
        // The socket itself is unusable (its fd was closed behind our back): everything is lost, and said.
        this.counters.tx_errors += n;
      } else {
        this.#account(batch, from, taken);
        if (n > 0 && rows[UDP_PENDING] !== 0) this.#drainErrors();
        if (taken < n) {
          this.#refused = true;
          this.counters.tx_full++;
          return from + taken;
        }
      }
      if (drop !== undefined) {
        this.counters[drop]++;
        i++;
      }
      from = i;
    }
    return batch.count;
  }

  /** Describes entry i in row n. Returns the counter of the drop when it can never be sent. */
  #row(u8: Uint8Array, batch: Batch, i: number, n: number): Drop | undefined {
    const caps = this.capabilities;
    const segsz = batch.segsz[i]!;
    const f = this.#framing;
    const verdict = f.parse(u8, batch, i);
    if (verdict !== FRAME_OK) return verdict === FRAME_BROKEN ? 'tx_errors' : 'tx_unsupported';
    const packet = f.payload - batch.off[i]! + (segsz > 0 ? segsz : f.length);
    const count = segsz > 0 ? Math.ceil(f.length / segsz) : 1;
    if (packet > caps.mtu || (segsz > 0 && (f.length > UDP_PAYLOAD || count > caps.trainSegments)))
      return 'tx_oversize';
    const rows = this.#rows;
    const r = n * UDP_ROW;
    rows[r + UDP_OFF] = f.payload;
    rows[r + UDP_LEN] = f.length;
    rows[r + UDP_SEGSZ] = segsz;
    rows[r + UDP_PORT] = f.remotePort;
    rows[r + UDP_TOS] = f.tos;
    rows[r + UDP_W0] = f.w0;
    rows[r + UDP_W1] = f.w1;
    rows[r + UDP_W2] = f.w2;
    rows[r + UDP_W3] = f.w3;
    return undefined;
  }

  #account(batch: Batch, from: number, taken: number): void {
    const rows = this.#rows;
    const c = this.counters;
    for (let n = 0; n < taken; n++) {
      const i = from + n;
      if (rows[n * UDP_ROW + UDP_RESULT] !== 0) {
        c.tx_errors += segments(batch, i);
      } else {
        c.tx_packets += segments(batch, i);
        c.tx_bytes += batch.len[i]!;
      }
    }
  }

  #drainErrors(): void {
    const e = this.#errors.fill(0);
    this.#native.udpErrors(this.#fd, e);
    this.counters.icmp_unreachable += e[0]!;
    this.counters.icmp_too_big += e[1]!;
    this.counters.icmp_other += e[2]!;
  }

  receive(batch: Batch, posted: number, _now: number): number {
    batch.count = 0;
    const memory = this.#memory;
    if (memory === undefined) return 0;
    if (this.#ready!.error) {
      this.#ready!.error = false;
      this.#drainErrors();
    }
    const room = Math.min(posted, batch.capacity);
    const header = this.#framing.header;
    const rows = this.#rows;
    let k = 0; // entries delivered
    // Dropped packets leave their room free, so a call may ask again; `tries` bounds it.
    for (let tries = 0; k < room && tries < 4; tries++) {
      const want = Math.min(room - k, NATIVE_BATCH);
      for (let n = 0, r = 0; n < want; n++, r += UDP_ROW) {
        rows[r + UDP_OFF] = batch.off[k + n]! + header;
        rows[r + UDP_CAP] = Math.max(0, batch.cap[k + n]! - header);
      }
      const got = this.#native.udpReceive(this.#fd, memory.u8, rows, want, this.#io);
      if (got < 0) {
        this.counters.rx_errors++;
        break;
      }
      if (rows[UDP_PENDING] !== 0) this.#drainErrors();
      k = this.#deliver(memory.u8, batch, k, got);
      if (got < want) break;
    }
    batch.count = k;
    return k;
  }

  /** Rows [0, got) become entries from k on: headers in front, closing the gap that a dropped one leaves. */
  #deliver(u8: Uint8Array, batch: Batch, first: number, got: number): number {
    const rows = this.#rows;
    const c = this.counters;
    const f = this.#framing;
    const header = f.header;
    let k = first;
    for (let n = 0, r = 0; n < got; n++, r += UDP_ROW) {
      const length = rows[r + UDP_LEN]!;
      if (rows[r + UDP_RESULT] !== 0 || length + header > batch.cap[k]!) {
        c.rx_truncated++;
        continue;
      }
      const off = batch.off[k]!;
      if (k !== first + n) copyBytes(u8, rows[r + UDP_OFF]!, u8, off + header, length);
      const segsz = rows[r + UDP_SEGSZ]!;
      const tos = rows[r + UDP_TOS]!;
      const port = rows[r + UDP_PORT]!;
      f.write(u8, off, length, tos, port, rows[r + UDP_W0]!, rows[r + UDP_W1]!, rows[r + UDP_W2]!, rows[r + UDP_W3]!);
      batch.len[k] = length + header;
      batch.segsz[k] = segsz;
      batch.hdrlen[k] = segsz > 0 ? header : 0;
      const bad = rows[r + UDP_CAP]!;
      const good = bad === 0 && (this.#io & UDP_IO_CRC) !== 0;
      batch.flags[k] = good ? BATCH_L3_TRUSTED | BATCH_SCTP_CSUM_OK : BATCH_L3_TRUSTED;
      c.rx_bad_crc += bad;
      c.rx_packets += segments(batch, k);
      c.rx_bytes += length + header;
      if (segsz > 0) c.rx_trains++;
      k++;
    }
    return k;
  }

  deadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  arm(wake: () => void): void {
    this.#ready?.arm(wake, this.#refused ? POLL_READABLE | POLL_WRITABLE : POLL_READABLE, false);
    this.#refused = false;
  }

  disarm(): void {
    this.#ready?.disarm();
  }

  close(): void {
    if (this.#memory === undefined) return;
    this.#memory = undefined;
    this.#ready?.close();
    this.#ready = undefined;
    if (this.#options.fd === undefined) this.#native.close(this.#fd);
    this.#fd = -1;
  }
}

function udpName(o: UdpPortOptions): string {
  return o.address.includes(':') ? `udp:[${o.address}]:${o.port}` : `udp:${o.address}:${o.port}`;
}

/**
 * Sockets of one address and port that share what arrives, for as many ports (`fd` of UdpPortOptions) in as many threads.
 * `program` picks a socket for each datagram by its place in the array. Whoever opened them closes them; one that is closed
 * before the others would let the last one take its place. Throws PortError; nothing is left open then.
 */
export function openUdpGroup(
  options: Omit<UdpPortOptions, 'fd'>,
  count: number,
  program: Uint8Array,
  native: Native | null = nativeModule ?? null,
): { readonly fds: readonly number[]; readonly port: number } {
  if (native === null)
    throw new PortError('ENATIVE', 'sockets that share a port need the C module: run "npm run build"');
  localAddress(options);
  const flags = UDP_OPEN_GROUP | (options.train === false ? 0 : UDP_OPEN_GRO);
  const rcv = options.receiveBytes ?? BUFFER_BYTES;
  const snd = options.sendBytes ?? BUFFER_BYTES;
  // A group lets in any later socket of the same user: that the port is nobody else's is asked without it.
  const probe = native.udpOpen(options.address, options.port, 0, 0, 0, options.netns);
  if (probe < 0) throw udpOpenError(udpName(options), getSystemErrorName(probe));
  const port = native.udpPort(probe);
  native.close(probe);
  const fds: number[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const fd = native.udpOpen(options.address, port, flags, rcv, snd, options.netns);
      if (fd < 0) throw udpOpenError(udpName(options), getSystemErrorName(fd));
      fds.push(fd);
      // With the first one, so that no datagram is ever steered by anything else.
      const e = i === 0 ? native.udpSteer(fd, program) : 0;
      if (e < 0) throw udpOpenError(udpName(options), getSystemErrorName(e));
    }
  } catch (e) {
    for (const fd of fds) native.close(fd);
    throw e;
  }
  return { fds, port };
}

/** The best UDP port that this machine has: the C module's, or Node's own (`native` null). Throws PortError for wrong options. */
export function createUdpPort(
  options: UdpPortOptions,
  native: Native | null = nativeModule ?? null,
): UdpPort | DgramPort {
  if (native !== null) return new UdpPort(options, native);
  const local = localAddress(options);
  if (options.netns !== undefined) {
    throw new PortError('ENATIVE', 'a socket in another network namespace needs the C module: run "npm run build"');
  }
  const bytes = options.receiveBytes ?? BUFFER_BYTES;
  return new DgramPort(udpName(options), options.address, local, options.port, options.mtu ?? 1500, bytes);
}
