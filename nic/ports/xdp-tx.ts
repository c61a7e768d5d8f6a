/**
 * Transmit side of an XDP port: packets of the caller's region and trains become descriptors of the transmit ring, sent from
 * where they lie when that can be, else out of frames of the port's own, which come back through the completion ring (the
 * kernel's Documentation/networking/af_xdp.rst). What may be sent is the port's to judge, see xdp.ts.
 */
import type { Native } from '../native.js';
import { RX_TRAIN_SEGMENTS } from './coalesce.js';
import { TrainCutter } from './cut.js';
import type { Batch } from './port.js';
import { XDP_PKT_CONTD, type XskQueue } from './xsk.js';

/** Where the port's frames lie in the packet memory: `bytes` from `base` on, `chunk` each. */
export interface XdpFrames {
  readonly umem: Uint8Array;
  readonly base: number;
  readonly bytes: number;
  readonly chunk: number;
  /** Bytes of a packet that a frame holds; a longer one is sent in pieces. */
  readonly holds: number;
}

export class XdpTx {
  /**
   * Packets go out from where they lie: the packet memory is the caller's region, and the kernel copies while it is called.
   * What it does not take during the call is copied then.
   */
  direct = false;
  readonly #native: Native;
  readonly #queue: XskQueue;
  readonly #frames: XdpFrames;
  readonly #counters: { tx_copied: number };
  readonly #cutter: TrainCutter;
  readonly #free: Int32Array; // our frames, the first #freeCount
  #freeCount = 0;
  // Packets that are to be copied before they are sent.
  readonly #from: Int32Array;
  readonly #at: Int32Array;
  readonly #len: Int32Array;
  #copies = 0;

  constructor(native: Native, queue: XskQueue, frames: XdpFrames, counters: { tx_copied: number }) {
    this.#native = native;
    this.#queue = queue;
    this.#frames = frames;
    this.#counters = counters;
    this.#cutter = new TrainCutter(frames.umem, RX_TRAIN_SEGMENTS, native);
    const n = Math.floor(frames.bytes / frames.chunk);
    this.#free = Int32Array.from({ length: n }, (_, i) => frames.base + i * frames.chunk);
    this.#freeCount = n;
    // Every copy has a frame of its own: there are never more.
    this.#from = new Int32Array(n);
    this.#at = new Int32Array(n);
    this.#len = new Int32Array(n);
  }

  /** Descriptors that the kernel has not looked at yet. */
  get waiting(): boolean {
    return this.#queue.txWaiting > 0;
  }
  /** Descriptors that can be written. A packet that goes out directly keeps a frame in reserve, see #secure. */
  get room(): number {
    return Math.min(this.#queue.txRoom, this.#freeCount);
  }
  /** Descriptors that a packet of `len` bytes takes. */
  pieces(len: number): number {
    return len <= this.#frames.holds ? 1 : Math.ceil(len / this.#frames.holds);
  }

  /** Takes back the frames that have been sent. */
  reclaim(): void {
    const q = this.#queue;
    const { completion } = q;
    const { w } = completion;
    const end = completion.produced;
    if (end === q.completionNext) return;
    for (let i = q.completionNext; i !== end; i = (i + 1) | 0) {
      const addr = w[completion.addr(i)]!;
      if (this.#ours(addr) && this.#freeCount < this.#free.length) this.#free[this.#freeCount++] = addr;
    }
    q.completionNext = end;
    completion.release(end);
  }
  #ours(addr: number): boolean {
    const { base, bytes } = this.#frames;
    return addr >= base && addr < base + bytes;
  }

  /** Writes descriptors for a packet of the caller's region, for which there is room; `send` copies it if need be. */
  put(off: number, len: number): void {
    const { holds, umem } = this.#frames;
    const direct = this.direct && off + len <= umem.length;
    for (let at = 0; at < len; at += holds) {
      const part = Math.min(holds, len - at);
      const more = at + part < len ? XDP_PKT_CONTD : 0;
      this.#queue.pushTx(direct ? off + at : this.#row(off + at, part), part, more);
    }
  }

  /** Writes the `n` packets of train i, for which there is room, into frames of ours, and their descriptors. */
  cut(u8: Uint8Array, batch: Batch, i: number, n: number): void {
    const cutter = this.#cutter;
    const hdr = batch.hdrlen[i]!;
    const size = batch.segsz[i]!;
    let left = batch.len[i]! - hdr;
    for (let k = 0; k < n; k++, left -= size) {
      const frame = this.#free[--this.#freeCount]!;
      cutter.at[k] = frame;
      this.#queue.pushTx(frame, hdr + Math.min(size, left), 0);
    }
    cutter.cut(u8, batch, i, 0, n);
  }

  /** Shows the kernel what was written. 0, or the -errno for which some of it waits. */
  send(u8: Uint8Array): number {
    if (this.#copies > 0) this.#copy(u8);
    this.#queue.publishTx();
    return this.waiting ? this.kick() : 0;
  }

  /** Has the kernel send what waits. 0, or the -errno that stopped it. */
  kick(): number {
    const r = this.#queue.kick();
    if (this.direct && this.waiting) this.#secure();
    return r;
  }

  /** A frame into which `n` bytes are to be copied before it is sent. */
  #row(from: number, n: number): number {
    const frame = this.#free[--this.#freeCount]!;
    const i = this.#copies++;
    this.#from[i] = from;
    this.#at[i] = frame;
    this.#len[i] = n;
    return frame;
  }
  #copy(src: Uint8Array): void {
    this.#native.copyBatch(src, this.#from, this.#frames.umem, this.#at, this.#len, this.#copies);
    this.#counters.tx_copied += this.#copies;
    this.#copies = 0;
  }

  /**
   * What the kernel did not take from the caller's memory now is copied, for it may be written over from here on. The
   * descriptors are read during our own calls only, so that they can still be changed.
   */
  #secure(): void {
    const { tx, txNext } = this.#queue;
    const { w } = tx;
    for (let i = tx.consumed; i !== txNext; i = (i + 1) | 0) {
      const at = tx.desc(i);
      if (!this.#ours(w[at]!)) w[at] = this.#row(w[at]!, w[at + 2]!);
    }
    if (this.#copies > 0) this.#copy(this.#frames.umem);
  }
}
