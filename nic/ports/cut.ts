/**
 * Cutting of trains (port.ts) into the packets that they stand for, each in a frame of a ring or packet memory and with headers
 * that are true for it: the counterpart of coalesce.ts. What is to be copied goes through the C module in one call for a train.
 */
import type { Native } from '../native.js';
import { findIp, repairHeaders } from './headers.js';
import type { Batch } from './port.js';

const SCTP = 132;
// Where IPv4 and IPv6 say what follows.
const PROTOCOL = 9;
const NEXT_HEADER = 6;

export class TrainCutter {
  /** Where the frame of each packet begins: the caller says so before `cut`. */
  readonly at: Int32Array;
  readonly #native: Native;
  readonly #frames: Uint8Array;
  readonly #from: Int32Array;
  readonly #to: Int32Array;
  readonly #len: Int32Array;
  #rows = 0;

  /** `frames`: the memory in which all frames lie; `most`: packets of a train. */
  constructor(frames: Uint8Array, most: number, native: Native) {
    this.#native = native;
    this.#frames = frames;
    this.at = new Int32Array(most);
    this.#from = new Int32Array(2 * most);
    this.#to = new Int32Array(2 * most);
    this.#len = new Int32Array(2 * most);
  }

  /** Writes packets [first, first + n) of train i, which is well-formed, to `at`[0, n). The last one must be among them. */
  cut(src: Uint8Array, batch: Batch, i: number, first: number, n: number): void {
    const { at } = this;
    const off = batch.off[i]!;
    const hdr = batch.hdrlen[i]!;
    const size = batch.segsz[i]!;
    const end = off + batch.len[i]!;
    const last = n - 1;
    const ip = findIp(src, off, end, 'ethernet') - off;
    const v6 = ip > 0 && src[off + ip]! >>> 4 === 6;
    // SCTP's packets of one length have one and the same IP header; UDP's checksum is each packet's own.
    const alike = ip > 0 && src[off + ip + (v6 ? NEXT_HEADER : PROTOCOL)] === SCTP;
    let from = off + hdr + first * size;
    for (let k = 0; k < n; k++, from += size) {
      if (!alike || k === 0 || k === last) this.#row(off, at[k]!, hdr);
      this.#row(from, at[k]! + hdr, Math.min(size, end - from));
    }
    this.#copy(src);
    if (ip <= 0) return;
    const rest = hdr + end - (from - size); // bytes of the last packet
    for (let k = 0; k < n; k++) {
      const to = at[k]!;
      if (alike && k > 0 && k < last) this.#row(at[0]!, to, hdr);
      else repairHeaders(this.#frames, to + ip, to + (k === last ? rest : hdr + size), false, false);
    }
    this.#copy(this.#frames);
  }

  #row(from: number, to: number, n: number): void {
    const i = this.#rows++;
    this.#from[i] = from;
    this.#to[i] = to;
    this.#len[i] = n;
  }
  #copy(src: Uint8Array): void {
    if (this.#rows > 0) this.#native.copyBatch(src, this.#from, this.#frames, this.#to, this.#len, this.#rows);
    this.#rows = 0;
  }
}
