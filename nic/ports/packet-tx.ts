/**
 * The transmit ring of a packet socket (the kernel's Documentation/networking/packet_mmap.rst): frames of a fixed size, filled
 * here and handed over all at once by one system call. The kernel sends them from where they lie and gives each back when the
 * interface is done with it.
 */
import { constants } from 'node:os';
import type { Native } from '../native.js';
import { RX_TRAIN_SEGMENTS } from './coalesce.js';
import { TrainCutter } from './cut.js';
import { segments } from './headers.js';
import type { Batch, Memory } from './port.js';

// struct tpacket3_hdr, byte offsets.
const NEXT = 0;
const LENGTH = 16;
const STATUS = 20;
/** Where the frame begins: TPACKET_ALIGN(sizeof(struct tpacket3_hdr)). */
export const TX_HEADER = 48;

const AVAILABLE = 0;
const SEND_REQUEST = 1;
const ROWS = 2048;
/** Frames handed over at once, a train more or less: what the kernel copies then still lies in the processor's cache. */
const AT_ONCE = 64;
const { ENETDOWN } = constants.errno;

export class PacketTx {
  readonly #native: Native;
  readonly #fd: number;
  readonly #u8: Uint8Array;
  readonly #i32: Int32Array;
  readonly #frames: number;
  readonly #cutter: TrainCutter;
  readonly #base: Int32Array; // byte offset of each frame
  readonly #from = new Int32Array(ROWS);
  readonly #to = new Int32Array(ROWS);
  readonly #len = new Int32Array(ROWS);
  #rows = 0;
  #head = 0; // the frame to fill next
  #free = 0; // frames from there on that are known to be ours
  #filled = 0; // frames before it that are filled and not handed over
  #filledBytes = 0; // of these frames
  /** Bytes of the longest frame. */
  readonly longest: number;
  /** Why the last kick left frames, as -errno; 0 when the kernel gave no reason. */
  error = 0;
  /** Bytes of the frames that the kernel took in the last kick. */
  bytes = 0;

  /** The ring lies at `at` in the mapping: blocks of `blockBytes`, each with as many frames of `frameBytes` as fit. */
  constructor(
    ring: ArrayBuffer,
    at: number,
    blocks: number,
    blockBytes: number,
    frameBytes: number,
    fd: number,
    native: Native,
  ) {
    const each = Math.floor(blockBytes / frameBytes);
    this.#native = native;
    this.#fd = fd;
    this.#u8 = new Uint8Array(ring);
    this.#i32 = new Int32Array(ring, 0, ring.byteLength >> 2);
    this.#cutter = new TrainCutter(this.#u8, RX_TRAIN_SEGMENTS, native);
    this.#frames = blocks * each;
    this.#base = Int32Array.from(
      { length: this.#frames },
      (_, i) => at + Math.floor(i / each) * blockBytes + (i % each) * frameBytes,
    );
    this.longest = frameBytes - TX_HEADER;
  }

  get frames(): number {
    return this.#frames;
  }

  /** True when `n` more frames can be filled now; when not, there may be room after a `kick`. */
  room(n: number): boolean {
    if (this.#filled > 0 && this.#filled + n > AT_ONCE) return false;
    while (this.#free < n && this.#free < this.#frames - this.#filled) {
      const frame = (this.#head + this.#free) % this.#frames;
      if (Atomics.load(this.#i32, (this.#base[frame]! + STATUS) >> 2) !== AVAILABLE) break;
      this.#free++;
    }
    return this.#free >= n;
  }

  /**
   * Fills frames with entry i of the batch, which is well-formed and for which there is room, from the packet `first` of a train
   * on. Returns how many.
   */
  put(memory: Memory, batch: Batch, i: number, first: number): number {
    const off = batch.off[i]!;
    const size = batch.segsz[i]!;
    if (size === 0) {
      this.#row(memory, off, this.#next(batch.len[i]!), batch.len[i]!);
      return 1;
    }
    const hdr = batch.hdrlen[i]!;
    const n = segments(batch, i) - first;
    let left = batch.len[i]! - hdr - first * size;
    for (let k = 0; k < n; k++, left -= size) this.#cutter.at[k] = this.#next(hdr + Math.min(size, left));
    this.#cutter.cut(memory.u8, batch, i, first, n);
    return n;
  }

  /**
   * Hands over what was filled. Returns how many frames the kernel did not take; they are no longer in the ring. `error` then
   * says why, as -errno.
   */
  kick(memory: Memory): number {
    this.bytes = 0;
    if (this.#filled === 0) return 0;
    this.#copy(memory);
    const i32 = this.#i32;
    const begin = (this.#head - this.#filled + this.#frames) % this.#frames;
    // The last store first: the kernel looks only at the first, so that it finds all or none.
    let frame = this.#head;
    for (let k = this.#filled; k > 1; k--) {
      frame = frame === 0 ? this.#frames - 1 : frame - 1;
      i32[(this.#base[frame]! + STATUS) >> 2] = SEND_REQUEST;
    }
    Atomics.store(i32, (this.#base[begin]! + STATUS) >> 2, SEND_REQUEST);
    let r = this.#native.packetKick(this.#fd);
    // An interface that was down left an error at the socket, which is told once, in place of sending.
    if (r === -ENETDOWN) r = this.#native.packetKick(this.#fd);
    this.error = Math.min(r, 0);
    const rest = r === this.#filledBytes ? 0 : this.#untaken(begin);
    if (rest === 0) this.bytes = this.#filledBytes;
    this.#filled = 0;
    this.#filledBytes = 0;
    return rest;
  }

  /** The kernel sent fewer bytes than there are: takes back the frames, from `begin` on, that it stopped at. How many. */
  #untaken(begin: number): number {
    const i32 = this.#i32;
    let taken = 0;
    // The kernel goes from frame to frame and stops at one that it cannot send now, which stays as it is.
    for (; taken < this.#filled; taken++) {
      const base = this.#base[(begin + taken) % this.#frames]!;
      if (Atomics.load(i32, (base + STATUS) >> 2) === SEND_REQUEST) break;
      this.bytes += i32[(base + LENGTH) >> 2]!;
    }
    for (let k = taken; k < this.#filled; k++) {
      Atomics.store(i32, (this.#base[(begin + k) % this.#frames]! + STATUS) >> 2, AVAILABLE);
    }
    this.#head = (begin + taken) % this.#frames;
    this.#free += this.#filled - taken;
    return this.#filled - taken;
  }

  /** Takes the next frame for `n` bytes; where they go. */
  #next(n: number): number {
    const base = this.#base[this.#head]!;
    this.#i32[(base + NEXT) >> 2] = 0;
    this.#i32[(base + LENGTH) >> 2] = n;
    this.#head = this.#head + 1 === this.#frames ? 0 : this.#head + 1;
    this.#free--;
    this.#filled++;
    this.#filledBytes += n;
    return base + TX_HEADER;
  }

  #row(memory: Memory, from: number, to: number, n: number): void {
    if (this.#rows === ROWS) this.#copy(memory);
    const i = this.#rows++;
    this.#from[i] = from;
    this.#to[i] = to;
    this.#len[i] = n;
  }

  #copy(memory: Memory): void {
    if (this.#rows > 0) this.#native.copyBatch(memory.u8, this.#from, this.#u8, this.#to, this.#len, this.#rows);
    this.#rows = 0;
  }
}
