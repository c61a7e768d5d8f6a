/**
 * Capture: a decorator that writes what passes a port to pcapng, both ways, without changing it.
 *
 * What is written is what the packets mean, not how they travelled: trains as the single packets that they stand for, with
 * their own lengths and checksums; headers that a UDP port synthesises, with their checksums worked out; and the SCTP
 * CRC32c, where the port fills it in below, worked out for the copy.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { linkCounters } from './counters.js';
import { copySegment, findIp, repairHeaders, segments } from './headers.js';
import {
  LINKTYPE_ETHERNET,
  LINKTYPE_RAW,
  PCAPNG_INBOUND,
  PCAPNG_OUTBOUND,
  type PcapngSink,
  PcapngWriter,
} from './pcapng.js';
import { type Batch, type Memory, type Port, type PortCapabilities, type PortCounters, PortError } from './port.js';

export interface CaptureOptions {
  /** A file's path, made when the port opens (and replaced), or a function that gets the bytes. */
  readonly to: string | PcapngSink;
  /** Seconds and nanoseconds since 1970 at which the caller's clock stood at zero; default 0, 0. */
  readonly epochSeconds?: number;
  readonly epochNanos?: number;
}

const LONGEST = 65535 + 18;

export class CapturePort implements Port {
  readonly name: string;
  readonly counters: { capture_packets: number; capture_truncated: number; capture_errors: number } & PortCounters;
  readonly #inner: Port;
  readonly #options: CaptureOptions;
  #writer: PcapngWriter | undefined;
  #fd = -1;
  #memory: Memory | undefined;

  constructor(inner: Port, options: CaptureOptions) {
    this.#inner = inner;
    this.#options = options;
    this.name = inner.name;
    this.counters = linkCounters({ capture_packets: 0, capture_truncated: 0, capture_errors: 0 }, inner.counters);
  }

  get capabilities(): PortCapabilities {
    return this.#inner.capabilities;
  }
  get carrier(): boolean {
    return this.#inner.carrier;
  }
  get onCarrier(): ((up: boolean) => void) | undefined {
    return this.#inner.onCarrier;
  }
  set onCarrier(f: ((up: boolean) => void) | undefined) {
    this.#inner.onCarrier = f;
  }
  get removed(): boolean {
    return this.#inner.removed === true;
  }
  get hostAddresses(): readonly string[] {
    return this.#inner.hostAddresses ?? [];
  }
  get onChange(): (() => void) | undefined {
    return this.#inner.onChange;
  }
  set onChange(f: (() => void) | undefined) {
    this.#inner.onChange = f;
  }

  get regionBytes(): number {
    return this.#inner.regionBytes ?? 0;
  }
  describe(): string {
    return this.#inner.describe?.() ?? '';
  }

  /** Opens the file, then the port. Throws PortError when either cannot be. */
  open(memory: Memory, own?: number): void {
    if (this.#memory !== undefined) throw new Error(`${this.name} is open already`);
    const to = this.#options.to;
    let sink: PcapngSink;
    if (typeof to === 'string') {
      try {
        this.#fd = openSync(to, 'w');
      } catch (e) {
        const code = (e as NodeJS.ErrnoException).code ?? 'EIO';
        throw new PortError(
          code,
          `cannot write the capture ${to}: ${code}; give a path in a folder that may be written`,
        );
      }
      sink = bytes => this.#write(bytes);
    } else {
      sink = to;
    }
    try {
      this.#inner.open(memory, own);
    } catch (e) {
      this.#closeFile();
      throw e;
    }
    const link = this.#inner.capabilities.carries === 'ethernet' ? LINKTYPE_ETHERNET : LINKTYPE_RAW;
    this.#writer = new PcapngWriter(sink, link, LONGEST);
    this.#memory = memory;
  }

  /** A full disk must not stop the network: the file ends there, and the loss is counted. */
  #write(bytes: Uint8Array): void {
    try {
      for (let at = 0; at < bytes.length && this.#fd >= 0; ) at += writeSync(this.#fd, bytes, at);
    } catch {
      this.counters.capture_errors++;
      this.#closeFile();
    }
  }

  #closeFile(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  transmit(batch: Batch, now: number): number {
    const taken = this.#inner.transmit(batch, now);
    this.#record(batch, taken, now, PCAPNG_OUTBOUND);
    return taken;
  }

  receive(batch: Batch, posted: number, now: number): number {
    const got = this.#inner.receive(batch, posted, now);
    this.#record(batch, got, now, PCAPNG_INBOUND);
    return got;
  }

  #record(batch: Batch, count: number, now: number, direction: number): void {
    const writer = this.#writer;
    const memory = this.#memory;
    if (writer === undefined || memory === undefined) return;
    const caps = this.#inner.capabilities;
    const udp = caps.carries === 'udp';
    const crc = caps.sctpCrc && direction === PCAPNG_OUTBOUND;
    const time = now + (this.#options.epochNanos ?? 0);
    const seconds = Math.floor(time / 1e9);
    const nanos = Math.floor(time - seconds * 1e9);
    for (let i = 0; i < count; i++) {
      const n = segments(batch, i);
      for (let k = 0; k < n; k++) {
        const room = Math.min(LONGEST, batch.segsz[i]! > 0 ? batch.hdrlen[i]! + batch.segsz[i]! : batch.len[i]!);
        const at = writer.begin(room);
        const len = copySegment(memory.u8, batch, i, k, writer.u8, at, room);
        if (len === 0) {
          this.counters.capture_truncated++;
          continue;
        }
        if (udp || crc || batch.segsz[i]! > 0) {
          const l3 = findIp(writer.u8, at, at + len, caps.carries);
          if (l3 >= 0) repairHeaders(writer.u8, l3, at + len, crc, udp);
        }
        writer.end(len, (this.#options.epochSeconds ?? 0) + seconds, nanos, direction);
        this.counters.capture_packets++;
      }
    }
  }

  /** Writes out what is buffered, so that the file can be read now. */
  flush(): void {
    this.#writer?.flush();
  }

  deadline(): number {
    return this.#inner.deadline();
  }
  arm(wake: () => void): void {
    this.#inner.arm(wake);
  }
  disarm(): void {
    this.#inner.disarm();
  }

  close(): void {
    if (this.#memory === undefined) return;
    this.#memory = undefined;
    this.#inner.close();
    this.#writer?.flush();
    this.#writer = undefined;
    this.#closeFile();
  }
}
