/**
 * PacketRing: a bounded queue of packets by value, for ports whose medium is memory or somebody's callback. Bytes lie in one
 * ring, descriptions in another; both are allocated once and both bound it.
 */
import { copyBytes } from './headers.js';
import type { Batch } from './port.js';

export class PacketRing {
  readonly #u8: Uint8Array;
  readonly #slots: number;
  readonly #off: Int32Array;
  readonly #len: Int32Array;
  readonly #segsz: Int32Array;
  readonly #hdrlen: Int32Array;
  #head = 0; // slot of the oldest packet
  #count = 0;
  #start = 0; // first byte in use
  #end = 0; // first byte after the newest packet

  /** Room for `slots` packets and `bytes` bytes of them; a packet takes one contiguous stretch. */
  constructor(slots: number, bytes: number) {
    if (!(slots > 0 && bytes > 0)) throw new RangeError('a packet ring needs slots and bytes');
    this.#slots = slots;
    this.#u8 = new Uint8Array(bytes);
    this.#off = new Int32Array(slots);
    this.#len = new Int32Array(slots);
    this.#segsz = new Int32Array(slots);
    this.#hdrlen = new Int32Array(slots);
  }

  get count(): number {
    return this.#count;
  }

  /** Where `n` bytes would go, or -1 when they do not fit now. */
  #place(n: number): number {
    if (this.#count === this.#slots) return -1;
    if (this.#count === 0) {
      this.#start = 0;
      this.#end = 0;
      return n <= this.#u8.length ? 0 : -1;
    }
    if (this.#end > this.#start) {
      if (this.#end + n <= this.#u8.length) return this.#end;
      return n <= this.#start ? 0 : -1;
    }
    return this.#end + n <= this.#start ? this.#end : -1;
  }

  /** True when a packet of `n` bytes would be taken. */
  fits(n: number): boolean {
    return this.#place(n) >= 0;
  }

  /** Copies a packet in. False when full. */
  push(src: Uint8Array, off: number, len: number, segsz: number, hdrlen: number): boolean {
    const at = this.#place(len);
    if (at < 0) return false;
    copyBytes(src, off, this.#u8, at, len);
    const slot = (this.#head + this.#count) % this.#slots;
    this.#off[slot] = at;
    this.#len[slot] = len;
    this.#segsz[slot] = segsz;
    this.#hdrlen[slot] = hdrlen;
    this.#count++;
    this.#end = at + len;
    return true;
  }

  /** Length of the oldest packet; 0 when there is none. */
  peek(): number {
    return this.#count === 0 ? 0 : this.#len[this.#head]!;
  }

  /** Copies the oldest packet to dst at `at` and describes it in entry i of the batch (len, segsz, hdrlen). */
  pop(dst: Uint8Array, at: number, batch: Batch, i: number): void {
    const slot = this.#head;
    const n = this.#len[slot]!;
    copyBytes(this.#u8, this.#off[slot]!, dst, at, n);
    batch.len[i] = n;
    batch.segsz[i] = this.#segsz[slot]!;
    batch.hdrlen[i] = this.#hdrlen[slot]!;
    this.drop();
  }

  /** Forgets the oldest packet. */
  drop(): void {
    this.#head = (this.#head + 1) % this.#slots;
    this.#count--;
    this.#start = this.#count > 0 ? this.#off[this.#head]! : 0;
  }

  clear(): void {
    this.#count = 0;
  }
}
