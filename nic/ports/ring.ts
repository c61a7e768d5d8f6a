/**
 * PacketRing: a bounded queue of packets by value, for ports whose medium is memory or somebody's callback. Bytes lie in one
 * ring, descriptions in another; both are allocated once and both bound it.
 *
 * One packet goes in and out with `push` and `pop`; a batch is placed entry by entry (`place`, `take`) and its bytes are
 * moved by one call (`copyIn`, `copyOut`).
 */
import { native } from '../native.js';
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
  // Of a batch that is being moved, by entry: where its bytes lie in the ring, or -1.
  #where = new Int32Array(64);

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
    const count = this.#count;
    if (count === this.#slots) return -1;
    const size = this.#u8.length;
    if (count === 0) {
      this.#start = 0;
      this.#end = 0;
      return n <= size ? 0 : -1;
    }
    const start = this.#start;
    const end = this.#end;
    if (end > start) {
      if (end + n <= size) return end;
      return n <= start ? 0 : -1;
    }
    return end + n <= start ? end : -1;
  }

  /** True when a packet of `n` bytes would be taken. */
  fits(n: number): boolean {
    return this.#place(n) >= 0;
  }

  #append(at: number, len: number, segsz: number, hdrlen: number): void {
    let slot = this.#head + this.#count++;
    if (slot >= this.#slots) slot -= this.#slots;
    this.#off[slot] = at;
    this.#len[slot] = len;
    this.#segsz[slot] = segsz;
    this.#hdrlen[slot] = hdrlen;
    this.#end = at + len;
  }

  /** Copies a packet in. False when full. */
  push(src: Uint8Array, off: number, len: number, segsz: number, hdrlen: number): boolean {
    const at = this.#place(len);
    if (at < 0) return false;
    copyBytes(src, off, this.#u8, at, len);
    this.#append(at, len, segsz, hdrlen);
    return true;
  }

  /** Length of the oldest packet; 0 when there is none. */
  peek(): number {
    return this.#count === 0 ? 0 : this.#len[this.#head]!;
  }

  /** Copies the oldest packet to dst at `at` and describes it in entry i of the batch (len, segsz, hdrlen). */
  pop(dst: Uint8Array, at: number, batch: Batch, i: number): void {
    const from = this.#off[this.#head]!;
    copyBytes(this.#u8, from, dst, at, this.#describe(batch, i));
    this.drop();
  }

  #describe(batch: Batch, i: number): number {
    const slot = this.#head;
    const n = this.#len[slot]!;
    batch.len[i] = n;
    batch.segsz[i] = this.#segsz[slot]!;
    batch.hdrlen[i] = this.#hdrlen[slot]!;
    return n;
  }

  /** Before a batch is moved: makes room to note where each of its entries lies. */
  begin(batch: Batch): void {
    if (this.#where.length < batch.capacity) this.#where = new Int32Array(batch.capacity);
  }
  /** Makes room for entry i of the batch; its bytes come with `copyIn`. False when full. */
  place(batch: Batch, i: number): boolean {
    const len = batch.len[i]!;
    const at = this.#place(len);
    if (at < 0) return false;
    const segsz = batch.segsz[i]!;
    this.#append(at, len, segsz, segsz > 0 ? batch.hdrlen[i]! : 0);
    this.#where[i] = at;
    return true;
  }
  /** Entry i of the batch is not for the ring. */
  skip(i: number): void {
    this.#where[i] = -1;
  }
  /** Copies the bytes of entries [0, count) of the batch to where they were placed. */
  copyIn(src: Uint8Array, batch: Batch, count: number): void {
    if (native !== undefined) native.copyBatch(src, batch.off, this.#u8, this.#where, batch.len, count);
    else
      for (let i = 0; i < count; i++)
        if (this.#where[i]! >= 0) copyBytes(src, batch.off[i]!, this.#u8, this.#where[i]!, batch.len[i]!);
  }
  /** Takes the oldest packet out as entry i of the batch (len, segsz, hdrlen); its bytes come with `copyOut`. */
  take(batch: Batch, i: number): void {
    this.#where[i] = this.#off[this.#head]!;
    this.#describe(batch, i);
    this.drop();
  }
  /** Copies the bytes of entries [0, count) out to their rooms; to be called before anything is placed again. */
  copyOut(dst: Uint8Array, batch: Batch, count: number): void {
    if (native !== undefined) native.copyBatch(this.#u8, this.#where, dst, batch.off, batch.len, count);
    else for (let i = 0; i < count; i++) copyBytes(this.#u8, this.#where[i]!, dst, batch.off[i]!, batch.len[i]!);
  }

  /** Forgets the oldest packet. */
  drop(): void {
    if (++this.#head === this.#slots) this.#head = 0;
    this.#count--;
    this.#start = this.#count > 0 ? this.#off[this.#head]! : 0;
  }

  clear(): void {
    this.#count = 0;
  }
}
