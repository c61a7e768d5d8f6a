/**
 * What `nke traffic` and `nke demo` send and how it is checked: messages whose every byte follows from their number, the
 * character generator of RFC 864, and digests over what was sent and received. No I/O here.
 */

import { createHash, type Hash } from 'node:crypto';
import { SeededRandom } from '../stack/kern/clock.js';

export const MAX_MESSAGE_BYTES = 1 << 20;
/** Messages of at least this size carry their number and size in front, both as u32, network order. */
export const NUMBERED_BYTES = 8;
const STARTS = 1 << 16;

/** Random bytes, the same in every process: message n is a window of them. */
const noise = (() => {
  const bytes = Buffer.alloc(STARTS + MAX_MESSAGE_BYTES);
  // A quarter of a million words come from the generator, the rest is their rotation: good enough to notice a shift.
  const random = new SeededRandom(0x6e6b6531);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  const fresh = 1 << 15;
  for (let i = 0; i < fresh; i++) words[i] = random.u32();
  for (let i = fresh; i < words.length; i++) words[i] = Math.imul(words[i - fresh]!, 0x9e3779b1) ^ i;
  return bytes;
})();

const start = (seq: number) => Math.imul(seq, 0x9e3779b1) >>> 16;

/** Writes message `seq` of `size` bytes to out[off, off+size). */
export function fillMessage(out: Buffer, off: number, size: number, seq: number): void {
  const from = start(seq);
  noise.copy(out, off, from, from + size);
  if (size < NUMBERED_BYTES) return;
  out.writeUInt32BE(seq >>> 0, off);
  out.writeUInt32BE(size, off + 4);
}

/** The number that a message of at least NUMBERED_BYTES carries. */
export function messageNumber(buf: Buffer, off: number): number {
  return buf.readUInt32BE(off);
}

/** True when buf[off, off+size) is message `seq` of that size, byte for byte. */
export function isMessage(buf: Buffer, off: number, size: number, seq: number): boolean {
  if (size > MAX_MESSAGE_BYTES) return false;
  let head = 0;
  if (size >= NUMBERED_BYTES) {
    if (buf.readUInt32BE(off) !== seq >>> 0 || buf.readUInt32BE(off + 4) !== size) return false;
    head = NUMBERED_BYTES;
  }
  const from = start(seq) + head;
  return buf.compare(noise, from, from + size - head, off + head, off + size) === 0;
}

/**
 * Checks what an echo server sends back. Messages are numbered over the whole association and go round the streams, so
 * stream s carries s, s + streams, s + 2 * streams, ...: in order when the stream is ordered, in any order when not.
 */
export class EchoChecker {
  readonly #streams: number;
  readonly #next: Float64Array;
  readonly #outstanding: Set<number> | undefined;
  messages = 0;
  bytes = 0;
  /** The first thing that was wrong, in a sentence. */
  error: string | undefined;
  errors = 0;

  constructor(streams: number, unordered: boolean) {
    this.#streams = streams;
    this.#next = Float64Array.from({ length: streams }, (_, i) => i);
    this.#outstanding = unordered ? new Set() : undefined;
  }

  /** Stream of message `seq`. */
  streamOf(seq: number): number {
    return seq % this.#streams;
  }

  /** Message `seq` has been handed to the stack. */
  sent(seq: number): void {
    this.#outstanding?.add(seq);
  }

  /** A whole message came back on stream `sid`. */
  received(sid: number, buf: Buffer, off: number, size: number): void {
    this.messages++;
    this.bytes += size;
    const wrong = this.#judge(sid, buf, off, size);
    if (wrong === undefined) return;
    this.errors++;
    this.error ??= wrong;
  }

  /** What is wrong with a message, or undefined. */
  #judge(sid: number, buf: Buffer, off: number, size: number): string | undefined {
    if (sid >= this.#streams) return `a message came back on stream ${sid}, which was never used`;
    let seq = this.#next[sid]!;
    if (this.#outstanding !== undefined) {
      seq = size < NUMBERED_BYTES ? -1 : messageNumber(buf, off);
      if (!this.#outstanding.delete(seq)) return `message ${seq} came back twice or was never sent`;
      if (seq % this.#streams !== sid)
        return `message ${seq} was sent on stream ${seq % this.#streams} and came back on ${sid}`;
    } else this.#next[sid] = seq + this.#streams;
    if (isMessage(buf, off, size, seq)) return undefined;
    const found = size >= NUMBERED_BYTES ? `, found number ${messageNumber(buf, off)}` : '';
    return `message ${seq} of stream ${sid} (${size} bytes) came back changed or out of order${found}`;
  }
}

/** RFC 864: lines of 72 printing characters, each line one further round the ring of 95. */
const LINE = 74;
const RING = 95;
export const CHARGEN_PERIOD = LINE * RING;
const chargen = (() => {
  const bytes = Buffer.alloc(CHARGEN_PERIOD + MAX_MESSAGE_BYTES);
  for (let i = 0; i < CHARGEN_PERIOD; i++) {
    const line = Math.trunc(i / LINE);
    const column = i % LINE;
    bytes[i] = column === 72 ? 13 : column === 73 ? 10 : 0x20 + ((line + column) % RING);
  }
  for (let i = CHARGEN_PERIOD; i < bytes.length; i += CHARGEN_PERIOD)
    bytes.copy(bytes, i, 0, Math.min(CHARGEN_PERIOD, bytes.length - i));
  return bytes;
})();

/** Writes `size` bytes of the character stream from byte `at` on. */
export function fillChargen(out: Buffer, off: number, size: number, at: number): void {
  const from = at % CHARGEN_PERIOD;
  chargen.copy(out, off, from, from + size);
}

/** True when buf[off, off+size) continues the character stream at byte `at`. */
export function isChargen(buf: Buffer, off: number, size: number, at: number): boolean {
  const from = at % CHARGEN_PERIOD;
  return size <= MAX_MESSAGE_BYTES && buf.compare(chargen, from, from + size, off, off + size) === 0;
}

/** SHA-256 over a byte stream that arrives in small pieces: they are gathered, because a call costs more than a copy. */
export class Digest {
  readonly #hash: Hash = createHash('sha256');
  readonly #gather = Buffer.allocUnsafe(1 << 18);
  #held = 0;
  bytes = 0;

  update(buf: Buffer, off: number, size: number): void {
    this.bytes += size;
    while (size > 0) {
      const part = Math.min(size, this.#gather.length - this.#held);
      buf.copy(this.#gather, this.#held, off, off + part);
      this.#held += part;
      off += part;
      size -= part;
      if (this.#held === this.#gather.length) this.#flush();
    }
  }
  #flush(): void {
    this.#hash.update(this.#gather.subarray(0, this.#held));
    this.#held = 0;
  }
  /** The digest so far, in hexadecimal; nothing may follow. */
  hex(): string {
    this.#flush();
    return this.#hash.digest('hex');
  }
}
