/**
 * Coalescing of received Ethernet frames into the rooms of a batch: consecutive SCTP packets of one flow, each whole and alone
 * in its frame, come out as one train (port.ts), everything else as it is. The counterpart of cutting trains on transmit, as
 * Linux's generic receive offload is of GSO; the rules are those that keep a train's one header true for all its packets.
 *
 * Frames lie in a ring that the kernel fills, Ethernet headers two bytes behind a four-byte boundary so that IP headers lie at
 * one. What is to be copied is collected, and copied by one call into the C module at the end of a batch.
 */
import type { Native } from '../native.js';
import { repairHeaders } from './headers.js';
import { BATCH_L3_TRUSTED, type Batch, type Memory } from './port.js';

const ETHER = 14;
const IP4 = 20;
const IP6 = 40;
const SCTP = 132;
const COMMON = 12; // SCTP common header
const CHUNK = 4; // SCTP chunk header
const ROWS = 1024;

/** Longest train, headers included (an IPv4 header counts no more), and most packets in it. */
export const RX_TRAIN = 65535;
export const RX_TRAIN_SEGMENTS = 64;

export class Coalescer {
  readonly #native: Native;
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #i32: Int32Array;
  // Copies that are still to be done.
  readonly #from = new Int32Array(ROWS);
  readonly #to = new Int32Array(ROWS);
  readonly #len = new Int32Array(ROWS);
  #rows = 0;
  // The call of receive that goes on.
  #memory: Memory | undefined;
  #batch: Batch | undefined;
  #room = 0;
  #entries = 0;
  #train = 0; // header bytes of the newest entry when it may grow, else 0
  #first = 0; // where its first frame is
  #size = 0; // payload bytes of its packets
  #count = 0; // how many it has
  #mend: Uint8Array = new Uint8Array(64); // entries of the batch whose IP header is to be made true

  /** `ring`: what the frames lie in, from its first byte on; `bytes` of it. */
  constructor(ring: ArrayBufferLike, bytes: number, native: Native) {
    this.#native = native;
    this.#u8 = new Uint8Array(ring, 0, bytes);
    this.#u16 = new Uint16Array(ring, 0, bytes >> 1);
    this.#i32 = new Int32Array(ring, 0, bytes >> 2);
  }

  /** Begins to fill entries [0, room) of a batch. */
  begin(memory: Memory, batch: Batch, room: number): void {
    this.#memory = memory;
    this.#batch = batch;
    this.#room = room;
    this.#entries = 0;
    this.#train = 0;
    if (this.#mend.length < room) this.#mend = new Uint8Array(batch.capacity);
  }

  /** Entries so far. */
  get entries(): number {
    return this.#entries;
  }
  /** There is no room for another entry; the newest may still grow. */
  get full(): boolean {
    return this.#entries === this.#room;
  }

  /** Header bytes of a frame of `n` bytes that is a whole SCTP packet and nothing else, fit for a train; else 0. */
  flow(mac: number, n: number): number {
    const u8 = this.#u8;
    const ip = mac + ETHER;
    if ((ip & 3) !== 0 || n < ETHER + IP4 + COMMON + CHUNK) return 0;
    const type = (u8[mac + 12]! << 8) | u8[mac + 13]!;
    if (type === 0x0800) {
      // No options, no fragment.
      if (u8[ip] !== 0x45 || u8[ip + 9] !== SCTP || (u8[ip + 6]! & 0x3f) !== 0 || u8[ip + 7] !== 0) return 0;
      if (((u8[ip + 2]! << 8) | u8[ip + 3]!) !== n - ETHER) return 0;
      // RFC 1071 §1.B: the sum does not mind the byte order.
      let sum = 0;
      for (let w = ip >> 1, end = w + IP4 / 2; w < end; w++) sum += this.#u16[w]!;
      sum = (sum & 0xffff) + (sum >>> 16);
      return (sum & 0xffff) + (sum >>> 16) === 0xffff ? ETHER + IP4 : 0;
    }
    if (type !== 0x86dd || n < ETHER + IP6 + COMMON + CHUNK || u8[ip]! >>> 4 !== 6 || u8[ip + 6] !== SCTP) return 0;
    return ((u8[ip + 4]! << 8) | u8[ip + 5]!) === n - ETHER - IP6 ? ETHER + IP6 : 0;
  }

  /**
   * Adds a frame to the train that the newest entry is, or begins to be; `hdr` is what `flow` says of it. False when it does
   * not go on with it: a train ends with its first shorter packet.
   */
  extend(mac: number, n: number, hdr: number): boolean {
    if (hdr === 0 || hdr !== this.#train) return false;
    const { off, len, cap, segsz, hdrlen, flags } = this.#batch!;
    const last = this.#entries - 1;
    const more = n - hdr;
    const whole = len[last]! + more;
    if (more > this.#size || this.#count === RX_TRAIN_SEGMENTS || whole > cap[last]! || whole > RX_TRAIN) return false;
    if (!this.#same(this.#first, mac, hdr)) return false;
    this.row(mac + hdr, off[last]! + len[last]!, more);
    len[last] = whole;
    if (this.#count++ === 1) {
      segsz[last] = this.#size;
      hdrlen[last] = hdr;
      flags[last] = BATCH_L3_TRUSTED;
      this.#mend[last] = 1;
    }
    if (more < this.#size) this.#train = 0;
    return true;
  }

  /**
   * Takes the next entry for a packet of `n` bytes, which must fit its room; returns where it is to go, for `row`. `hdr`: the
   * frame at `mac` may be the first of a train. `mend`: its IP header is to be made true when it has been copied.
   */
  entry(mac: number, n: number, hdr: number, flags: number, mend = false): number {
    const batch = this.#batch!;
    const k = this.#entries++;
    batch.len[k] = n;
    batch.segsz[k] = 0;
    batch.hdrlen[k] = 0;
    batch.flags[k] = flags;
    this.#mend[k] = mend ? 1 : 0;
    this.#train = hdr;
    this.#first = mac;
    this.#size = n - hdr;
    this.#count = 1;
    return batch.off[k]!;
  }

  /** Has `n` bytes of the ring copied to the batch's region. */
  row(from: number, to: number, n: number): void {
    if (this.#rows === ROWS) this.#copy();
    const i = this.#rows++;
    this.#from[i] = from;
    this.#to[i] = to;
    this.#len[i] = n;
  }

  /** Does what is left to do; the ring may be given back then. Sets the batch's count and returns it. */
  end(): number {
    this.#copy();
    const batch = this.#batch!;
    const { u8 } = this.#memory!;
    const n = this.#entries;
    for (let i = 0; i < n; i++) {
      if (this.#mend[i] === 0) continue;
      const at = batch.off[i]!;
      repairHeaders(u8, at + ETHER, at + batch.len[i]!, false, false);
    }
    this.#memory = undefined;
    this.#batch = undefined;
    batch.count = n;
    return n;
  }

  #copy(): void {
    if (this.#rows > 0) this.#native.copyBatch(this.#u8, this.#from, this.#memory!.u8, this.#to, this.#len, this.#rows);
    this.#rows = 0;
  }

  /** True when the headers of two packets differ in nothing that a train does not make anew, and both are of one association. */
  #same(a: number, b: number, hdr: number): boolean {
    const u16 = this.#u16;
    const i32 = this.#i32;
    for (let i = 0; i < 6; i++) if (u16[(a >> 1) + i] !== u16[(b >> 1) + i]) return false;
    const p = (a + ETHER) >> 2;
    const q = (b + ETHER) >> 2;
    if (hdr === ETHER + IP4) {
      return (
        u16[p << 1] === u16[q << 1] && // type of service: ECN must stay what it was
        u16[(p << 1) + 3] === u16[(q << 1) + 3] &&
        u16[(p << 1) + 4] === u16[(q << 1) + 4] &&
        i32[p + 3] === i32[q + 3] &&
        i32[p + 4] === i32[q + 4] &&
        i32[p + 5] === i32[q + 5] &&
        i32[p + 6] === i32[q + 6]
      );
    }
    if (i32[p] !== i32[q] || u16[(p << 1) + 3] !== u16[(q << 1) + 3]) return false;
    for (let i = 2; i < 12; i++) if (i32[p + i] !== i32[q + i]) return false;
    return true;
  }
}
