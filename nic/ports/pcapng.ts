/**
 * pcapng writer (draft-ietf-opsawg-pcapng): one section, one interface, enhanced packet blocks with nanoseconds.
 * Blocks are gathered in a buffer that was allocated once and given to a sink when it is full or flushed.
 */

export const LINKTYPE_ETHERNET = 1;
export const LINKTYPE_RAW = 101; // IPv4 or IPv6, told apart by the version nibble

/** Receives bytes that are valid during the call only. */
export type PcapngSink = (bytes: Uint8Array) => void;

const SHB = 0x0a0d0d0a;
const IDB = 1;
const EPB = 6;
const BYTE_ORDER = 0x1a2b3c4d;
const EPB_OVERHEAD = 44; // fixed fields 28, flags option 8, end of options 4, closing length 4
const OPT_IF_TSRESOL = 9;
const OPT_EPB_FLAGS = 2;
export const PCAPNG_INBOUND = 1;
export const PCAPNG_OUTBOUND = 2;

export class PcapngWriter {
  readonly #sink: PcapngSink;
  readonly #u8: Uint8Array;
  readonly #dv: DataView;
  #at = 0;
  #packet = 0; // start of the block that begin() opened

  /** `snaplen` bytes of a packet at most; a longer one is refused by begin. */
  constructor(sink: PcapngSink, linktype: number, snaplen = 65535, bufferBytes = 1 << 18) {
    this.#sink = sink;
    const buffer = new ArrayBuffer(Math.max(bufferBytes, snaplen + EPB_OVERHEAD + 4 + 256));
    this.#u8 = new Uint8Array(buffer);
    this.#dv = new DataView(buffer);
    this.#header(linktype, snaplen);
  }

  #header(linktype: number, snaplen: number): void {
    const dv = this.#dv;
    // Section header block: byte order, version 1.0, length unknown (-1).
    dv.setUint32(0, SHB, true);
    dv.setUint32(4, 28, true);
    dv.setUint32(8, BYTE_ORDER, true);
    dv.setUint16(12, 1, true);
    dv.setUint16(14, 0, true);
    dv.setInt32(16, -1, true);
    dv.setInt32(20, -1, true);
    dv.setUint32(24, 28, true);
    // Interface description block with if_tsresol = 10^-9.
    dv.setUint32(28, IDB, true);
    dv.setUint32(32, 32, true);
    dv.setUint16(36, linktype, true);
    dv.setUint16(38, 0, true);
    dv.setUint32(40, snaplen, true);
    dv.setUint16(44, OPT_IF_TSRESOL, true);
    dv.setUint16(46, 1, true);
    dv.setUint8(48, 9);
    dv.setUint32(52, 0, true);
    dv.setUint32(56, 32, true);
    this.#at = 60;
  }

  /** The buffer that `begin` points into. */
  get u8(): Uint8Array {
    return this.#u8;
  }

  /** Opens a packet block with room for `bytes`; returns where in `u8` the packet's bytes go. Follow with `end`. */
  begin(bytes: number): number {
    if (this.#at + bytes + EPB_OVERHEAD + 4 > this.#u8.length) this.flush();
    this.#packet = this.#at;
    return this.#at + 28;
  }

  /** Closes the block: `length` bytes were written; time is `seconds` and `nanos` since 1970; direction PCAPNG_*. */
  end(length: number, seconds: number, nanos: number, direction: number): void {
    const dv = this.#dv;
    const p = this.#packet;
    const padded = (length + 3) & ~3;
    const total = padded + EPB_OVERHEAD;
    // seconds * 10^9 + nanos has more than 53 bits: worked in two halves.
    const high = Math.floor(seconds / 65536) * 1e9;
    const low = (seconds % 65536) * 1e9 + (high % 65536) * 65536 + nanos;
    dv.setUint32(p, EPB, true);
    dv.setUint32(p + 4, total, true);
    dv.setUint32(p + 8, 0, true);
    dv.setUint32(p + 12, Math.floor(high / 65536) + Math.floor(low / 0x1_0000_0000), true);
    dv.setUint32(p + 16, low % 0x1_0000_0000, true);
    dv.setUint32(p + 20, length, true);
    dv.setUint32(p + 24, length, true);
    this.#u8.fill(0, p + 28 + length, p + 28 + padded);
    let at = p + 28 + padded;
    dv.setUint16(at, OPT_EPB_FLAGS, true);
    dv.setUint16(at + 2, 4, true);
    dv.setUint32(at + 4, direction, true);
    dv.setUint32(at + 8, 0, true);
    at += 12;
    dv.setUint32(at, total, true);
    this.#at = at + 4;
  }

  /** Gives all whole blocks to the sink. */
  flush(): void {
    if (this.#at > 0) this.#sink(this.#u8.subarray(0, this.#at));
    this.#at = 0;
  }
}
