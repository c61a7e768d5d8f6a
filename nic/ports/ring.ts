/**
 * PacketRing: a bounded queue of packets by value, for ports whose medium is memory or somebody's callback. Bytes lie in one
 * ring, descriptions in another; both are allocated once and both bound it.
 *
 * One packet goes in and out with `push` and `pop`. Of a batch single packets are placed and taken in runs (`placeRun`,
 * `takeRun`), what is not one by itself (`place`), and the bytes of all of them are moved by one call (`copyIn`, `copyOut`).
 */
import { native } from '../native.js';
import { copyBytes } from './headers.js';
import type { Batch } from './port.js';

// Words of a slot.
const OFF = 0;
const LEN = 1;
const SEGSZ = 2;
const HDRLEN = 3;
/** Entries of a batch for which there is room from the start. */
const PLACES = 64;

export class PacketRing {
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #slots: number;
  // Four words for each slot (off, len, segsz, hdrlen), then, of a batch that is being moved, one word for each entry: where
  // its bytes lie in the ring, or -1. One array, for a loop over several costs more than the bytes.
  #slot: Int32Array;
  readonly #where: number; // first of the latter
  #head = 0; // slot of the oldest packet
  #count = 0;
  #start = 0; // first byte in use
  #end = 0; // first byte after the newest packet
  /** Bytes of the packets that `placeRun` or `takeRun` moved last. */
  runBytes = 0;
  /** Trains among those that `takeRun` moved last. */
  runTrains = 0;
  #places: Int32Array; // the latter as a view

  /** Room for `slots` packets and `bytes` bytes of them; a packet takes one contiguous stretch. */
  constructor(slots: number, bytes: number) {
    if (!(slots > 0 && bytes > 0)) throw new RangeError('a packet ring needs slots and bytes');
    this.#slots = slots;
    const buffer = new ArrayBuffer(bytes + (bytes & 1));
    this.#u8 = new Uint8Array(buffer, 0, bytes);
    this.#u16 = new Uint16Array(buffer);
    this.#where = 4 * slots;
    this.#slot = new Int32Array(this.#where + PLACES);
    this.#places = this.#slot.subarray(this.#where);
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
    const s = slot << 2;
    this.#slot[s + OFF] = at;
    this.#slot[s + LEN] = len;
    this.#slot[s + SEGSZ] = segsz;
    this.#slot[s + HDRLEN] = hdrlen;
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
    return this.#count === 0 ? 0 : this.#slot[(this.#head << 2) + LEN]!;
  }

  /** Copies the oldest packet to dst at `at` and describes it in entry i of the batch (len, segsz, hdrlen). */
  pop(dst: Uint8Array, at: number, batch: Batch, i: number): void {
    const from = this.#slot[(this.#head << 2) + OFF]!;
    copyBytes(this.#u8, from, dst, at, this.#describe(batch, i));
    this.drop();
  }

  #describe(batch: Batch, i: number): number {
    const slot = this.#head << 2;
    const n = this.#slot[slot + LEN]!;
    batch.len[i] = n;
    batch.segsz[i] = this.#slot[slot + SEGSZ]!;
    batch.hdrlen[i] = this.#slot[slot + HDRLEN]!;
    return n;
  }

  /** Before a batch is moved: makes room to note where each of its entries lies. */
  begin(batch: Batch): void {
    if (this.#places.length >= batch.capacity) return;
    const slot = new Int32Array(this.#where + batch.capacity);
    slot.set(this.#slot);
    this.#slot = slot;
    this.#places = slot.subarray(this.#where);
  }
  /** Makes room for entry i of the batch; its bytes come with `copyIn`. False when full. */
  place(batch: Batch, i: number): boolean {
    const len = batch.len[i]!;
    const at = this.#place(len);
    if (at < 0) return false;
    const segsz = batch.segsz[i]!;
    this.#append(at, len, segsz, segsz > 0 ? batch.hdrlen[i]! : 0);
    this.#places[i] = at;
    return true;
  }
  /**
   * Makes room for entries [i, count) of the batch for as long as each is one packet of 1 to `longest` bytes inside a region of
   * `size` bytes, and fits. Returns how many that were; their bytes come with `copyIn`.
   */
  placeRun(batch: Batch, i: number, count: number, longest: number, size: number): number {
    const { off, len, segsz } = batch;
    const slot = this.#slot;
    const where = this.#where;
    const slots = this.#slots;
    const last = Math.min(count, i + slots - this.#count);
    let tail = this.#head + this.#count;
    if (tail >= slots) tail -= slots;
    if (this.#count === 0) this.#start = this.#end = 0;
    const start = this.#start;
    const bytes = this.#u8.length;
    let end = this.#end;
    // Free are [end, room), and [0, start) as well when the bytes in use do not go around.
    let room = end > start || this.#count === 0 ? bytes : start;
    let sum = 0;
    let k = i;
    for (; k < last; k++) {
      const n = len[k]!;
      const from = off[k]!;
      if (segsz[k] !== 0 || n <= 0 || n > longest || from < 0 || from > size - n) break;
      if (end + n > room) {
        if (room !== bytes || n > start) break;
        end = 0;
        room = start;
      }
      slot[where + k] = end;
      const s = tail << 2;
      slot[s + OFF] = end;
      slot[s + LEN] = n;
      slot[s + SEGSZ] = 0;
      end += n;
      sum += n;
      if (++tail === slots) tail = 0;
    }
    this.runBytes = sum;
    if (k > i) {
      this.#count += k - i;
      this.#end = end;
    }
    return k - i;
  }
  /** Entry i of the batch is not for the ring. */
  skip(i: number): void {
    this.#places[i] = -1;
  }
  /** Copies the bytes of entries [0, count) of the batch to where they were placed. `halves`: all of src's buffer by 16 bits. */
  copyIn(src: Uint8Array, halves: Uint16Array, batch: Batch, count: number): void {
    const places = this.#places;
    const { off, len } = batch;
    if (count === 1) {
      if (places[0]! >= 0) copyOne(src, halves, off[0]!, this.#u8, this.#u16, places[0]!, len[0]!);
    } else if (native !== undefined) native.copyBatch(src, off, this.#u8, places, len, count);
    else for (let i = 0; i < count; i++) if (places[i]! >= 0) copyBytes(src, off[i]!, this.#u8, places[i]!, len[i]!);
  }
  /**
   * Takes the oldest packets out as entries [i, most) of the batch (len, segsz, hdrlen; flags 0) for as long as each fits its
   * room. Returns how many that were; their bytes come with `copyOut`.
   */
  takeRun(batch: Batch, i: number, most: number): number {
    const { len, cap, segsz, hdrlen, flags } = batch;
    const slot = this.#slot;
    const slots = this.#slots;
    const where = this.#where;
    const last = Math.min(most, i + this.#count);
    let head = this.#head;
    let sum = 0;
    let trains = 0;
    let k = i;
    for (; k < last; k++) {
      const s = head << 2;
      const n = slot[s + LEN]!;
      if (n > cap[k]!) break;
      const train = slot[s + SEGSZ]!;
      slot[where + k] = slot[s + OFF]!;
      len[k] = n;
      segsz[k] = train;
      flags[k] = 0;
      if (train !== 0) {
        hdrlen[k] = slot[s + HDRLEN]!;
        trains++;
      }
      sum += n;
      if (++head === slots) head = 0;
    }
    this.runBytes = sum;
    this.runTrains = trains;
    this.#head = head;
    this.#count -= k - i;
    this.#start = this.#count > 0 ? slot[(head << 2) + OFF]! : 0;
    return k - i;
  }
  /** Copies the bytes of entries [0, count) out to their rooms; to be called before anything is placed again. */
  copyOut(dst: Uint8Array, halves: Uint16Array, batch: Batch, count: number): void {
    const places = this.#places;
    const { off, len } = batch;
    if (count === 1) copyOne(this.#u8, this.#u16, places[0]!, dst, halves, off[0]!, len[0]!);
    else if (native !== undefined) native.copyBatch(this.#u8, places, dst, off, len, count);
    else for (let i = 0; i < count; i++) copyBytes(this.#u8, places[i]!, dst, off[i]!, len[i]!);
  }

  /** Forgets the oldest packet. */
  drop(): void {
    if (++this.#head === this.#slots) this.#head = 0;
    this.#count--;
    this.#start = this.#count > 0 ? this.#slot[(this.#head << 2) + OFF]! : 0;
  }

  clear(): void {
    this.#count = 0;
  }
}

/** Longest packet that a loop copies faster than a call of the C module does. */
const SHORT = 128;

/** One packet by itself, without the price of handing columns over: by 16 bits when it is short and lies at even places. */
function copyOne(
  src: Uint8Array,
  srcHalves: Uint16Array,
  from: number,
  dst: Uint8Array,
  dstHalves: Uint16Array,
  at: number,
  n: number,
): void {
  if (n > SHORT || ((from | at | n) & 1) !== 0) {
    copyBytes(src, from, dst, at, n);
    return;
  }
  const f = from >> 1;
  const t = at >> 1;
  for (let i = 0; i < n >> 1; i++) dstHalves[t + i] = srcHalves[f + i]!;
}
