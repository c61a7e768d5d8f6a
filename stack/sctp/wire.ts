/** Reading and writing chunks and parameters outside the data path: a growing byte writer and a bounded TLV walk. */

import type { InAddr } from '../netinet/in.js';
import { PARAM_IPV4, PARAM_IPV6, pad4 } from './constants.js';

/** Buffers of writers that are done: most chunks are written and taken one after the other. */
interface Scratch {
  readonly u8: Uint8Array;
  readonly dv: DataView;
}
const spare: Scratch[] = [];
const MAX_SPARE = 8;
const SCRATCH = 2048;
function scratch(n: number): Scratch {
  const u8 = new Uint8Array(n);
  return { u8, dv: new DataView(u8.buffer) };
}

/** Big-endian writer with type-length-value framing (RFC 9260 §3.2, §3.2.1: length without padding, padded to 4). */
export class ByteWriter {
  #scratch: Scratch;
  #buf: Uint8Array;
  #dv: DataView;
  length = 0;
  /** Padding that was written last, and where it ended: a length does not count it when nothing follows (§3.2). */
  #pad = 0;
  #padEnd = -1;
  constructor() {
    const s = spare.pop() ?? scratch(SCRATCH);
    this.#scratch = s;
    this.#buf = s.u8;
    this.#dv = s.dv;
  }
  #room(n: number): number {
    const at = this.length;
    if (at + n > this.#buf.length) {
      const bigger = scratch(Math.max(this.#buf.length * 2, at + n));
      bigger.u8.set(this.#buf.subarray(0, at));
      this.#scratch = bigger;
      this.#buf = bigger.u8;
      this.#dv = bigger.dv;
    }
    this.length = at + n;
    return at;
  }
  u8(v: number): this {
    const at = this.#room(1); // first: it may replace the buffer
    this.#buf[at] = v;
    return this;
  }
  u16(v: number): this {
    const at = this.#room(2);
    this.#dv.setUint16(at, v);
    return this;
  }
  u32(v: number): this {
    const at = this.#room(4);
    this.#dv.setUint32(at, v);
    return this;
  }
  f64(v: number): this {
    const at = this.#room(8);
    this.#dv.setFloat64(at, v);
    return this;
  }
  bytes(b: Uint8Array): this {
    const at = this.#room(b.length);
    this.#buf.set(b, at);
    return this;
  }
  address(a: InAddr): this {
    const n = a.family === 4 ? 4 : 16;
    const at = this.#room(n);
    a.write(this.#dv, at);
    return this;
  }
  /** A chunk: type, flags, length of header + what `body` writes, padded. */
  chunk(type: number, flags: number, body: (w: this) => void): this {
    this.u8(type).u8(flags);
    return this.#framed(body, 2);
  }
  /** A parameter or error cause: type, length of header + what `body` writes, padded. */
  tlv(type: number, body: (w: this) => void): this {
    this.u16(type);
    return this.#framed(body, 2);
  }
  /** An IPv4 or IPv6 address parameter, §3.3.2.1.1. */
  addressParam(a: InAddr): this {
    return this.tlv(a.family === 4 ? PARAM_IPV4 : PARAM_IPV6, w => w.address(a));
  }
  #framed(body: (w: this) => void, before: number): this {
    const start = this.length - before;
    const at = this.#room(2);
    body(this);
    const inner = this.#padEnd === this.length ? this.#pad : 0;
    const len = this.length - start - inner;
    this.#dv.setUint16(at, len);
    while ((this.length - start) % 4 !== 0) this.u8(0);
    this.#pad = this.length - start - len;
    this.#padEnd = this.length;
    return this;
  }
  /** A parameter or error cause that stands as bytes, padded. */
  padded(b: Uint8Array): this {
    this.bytes(b);
    this.#pad = b.length - ((b[2]! << 8) | b[3]!);
    this.#padEnd = this.length;
    return this;
  }
  /** A copy of what was written. The writer is done: its buffer is the next one's. */
  take(): Uint8Array {
    const bytes = this.#buf.slice(0, this.length);
    if (this.#buf.length === SCRATCH && spare.length < MAX_SPARE) spare.push(this.#scratch);
    this.#scratch = DONE;
    this.#buf = DONE.u8;
    this.#dv = DONE.dv;
    this.length = 0;
    this.#padEnd = -1;
    return bytes;
  }
}

const DONE = scratch(0);

/** One parameter or cause of a TLV list. */
export interface Tlv {
  readonly type: number;
  /** Offset of its header, and its length without padding. */
  readonly off: number;
  readonly len: number;
}

/**
 * Calls `each` for every parameter in [off, end); stops early when it returns false. Returns false when a length is
 * below 4 or runs past the end; padding may be missing behind the last one (§3.2.1).
 */
export function walkTlvs(dv: DataView, off: number, end: number, each: (t: Tlv) => boolean): boolean {
  while (end - off >= 4) {
    const len = dv.getUint16(off + 2);
    if (len < 4 || off + len > end) return false;
    if (!each({ type: dv.getUint16(off), off, len })) return true;
    off += pad4(len);
  }
  return end - off <= 0 || end - off < 4;
}

/** An error cause as bytes (§3.3.10). */
export function cause(code: number, info: Uint8Array = EMPTY): Uint8Array {
  return new ByteWriter().tlv(code, w => w.bytes(info)).take();
}
/** An ABORT or ERROR chunk around causes. */
export function errorChunk(type: number, flags: number, causes: readonly Uint8Array[]): Uint8Array {
  return new ByteWriter()
    .chunk(type, flags, w => {
      for (const c of causes) w.padded(c);
    })
    .take();
}

export const EMPTY = new Uint8Array(0);
const encoder = new TextEncoder();
/** Text for an ABORT's diagnostic, cut to what is worth sending. */
export const textBytes = (s: string): Uint8Array => encoder.encode(s).subarray(0, 128);
