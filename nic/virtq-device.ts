/**
 * Device side of a split virtqueue: takes chains that the driver made available, batch by batch, and hands them back used.
 * VIRTIO 1.2 §2.7. The rings are written by somebody else and are not believed: every address is checked against the
 * region, every chain is bounded, nothing here throws for what a driver wrote.
 */

import type { Memory } from './ports/port.js';
import {
  AVAIL_F_NO_INTERRUPT,
  availBytes,
  availEventAt,
  DESC_BYTES,
  DESC_F_INDIRECT,
  DESC_F_NEXT,
  DESC_F_WRITE,
  descBytes,
  needEvent,
  USED_F_NO_NOTIFY,
  usedBytes,
  usedEventAt,
} from './virtqueue.js';

/** What a queue's chains must be made of. */
export const READABLE = 0; // device-readable descriptors only (transmit)
export const WRITABLE = 2; // device-writable descriptors only (receive)
export const EITHER = 4; // readable ones, then writable ones (control)

/** Why a queue stopped (`broken`); only a reset mends it. */
export type QueueFault = '' | 'available index ran ahead of the queue' | 'available ring names no descriptor';

/** Chains of more descriptors than this are refused, whatever the size of the queue. */
export const CHAIN_MAX = 1024;

const TOP_BIT = 0x80000000 | 0;
/** Flags that a plain descriptor shows: its direction, and neither of the other two. */
const PLAIN_FLAGS = DESC_F_NEXT | DESC_F_INDIRECT | DESC_F_WRITE;

export class VirtqDevice {
  readonly sizeMax: number;
  size = 0;
  ready = false;
  broken: QueueFault = '';
  eventIdx = false;
  indirect = false;
  /** Chains refused: an address outside the region, a loop, a wrong direction, a malformed indirect table. */
  badChains = 0;

  // The chains of the last pop: chain i is the segments [first[i], first[i] + nseg[i]); nseg 0 = refused, to be pushed back.
  readonly head: Int32Array;
  readonly first: Int32Array;
  readonly nseg: Int32Array;
  readonly segAddr: Int32Array;
  readonly segLen: Int32Array;
  readonly segWrite: Uint8Array;

  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  readonly #dv: DataView;
  readonly #limit: number;
  readonly #base: number;
  // The two words of #base, the lower one with its top bit turned over: what makes a signed compare an unsigned one.
  readonly #baseHi: number;
  readonly #baseLo: number;
  #segs = 0;
  #mask = 0;
  #desc = 0; // index into u32
  #availFlags = 0; // indices into u16
  #usedFlags = 0;
  #usedEvent = 0;
  #availEvent = 0;
  #usedRing = 0; // index into u32
  #lastAvail = 0;
  #usedNext = 0;
  #published = 0;
  #signalled = 0;
  #armed = -1; // avail_event, or with flags 0, as the driver was shown last; -1: it was told nothing, or wants no doorbell

  /** `base` is the address that the driver gives to the region's first byte (a guest's memory seldom starts at 0). */
  constructor(memory: Memory, sizeMax: number, batch = 256, base = 0) {
    const buffer = memory.buffer;
    this.sizeMax = sizeMax;
    this.#limit = buffer.byteLength;
    this.#base = base;
    this.#u16 = new Uint16Array(buffer, 0, buffer.byteLength >>> 1);
    this.#u32 = new Uint32Array(buffer, 0, buffer.byteLength >>> 2);
    this.#i32 = new Int32Array(buffer, 0, buffer.byteLength >>> 2);
    this.#baseHi = (base / 4294967296) | 0;
    this.#baseLo = base ^ TOP_BIT;
    this.#dv = memory.dv;
    this.head = new Int32Array(batch);
    this.first = new Int32Array(batch);
    this.nseg = new Int32Array(batch);
    const segs = batch + CHAIN_MAX;
    this.segAddr = new Int32Array(segs);
    this.segLen = new Int32Array(segs);
    this.segWrite = new Uint8Array(segs);
  }

  /**
   * Puts the queue at three addresses. Returns '' or a sentence that says what is wrong with them (size not a power of two
   * or too large, area misaligned or outside the region).
   */
  configure(size: number, desc: number, avail: number, used: number): string {
    this.disable();
    if (size < 1 || size > this.sizeMax || (size & (size - 1)) !== 0)
      return `queue size ${size} is not a power of two up to ${this.sizeMax}`;
    const d = desc - this.#base;
    const a = avail - this.#base;
    const u = used - this.#base;
    if (d % 16 !== 0 || a % 2 !== 0 || u % 4 !== 0) return 'a queue area is misaligned (VIRTIO 1.2 §2.7)';
    const inside = (at: number, bytes: number) => at >= 0 && at + bytes <= this.#limit;
    // Two bytes more than the areas: used_event and avail_event.
    if (!inside(d, descBytes(size)) || !inside(a, availBytes(size)) || !inside(u, usedBytes(size)))
      return 'a queue area lies outside memory';
    this.size = size;
    this.#mask = size - 1;
    // (shifts and no divisions: a quotient would be kept as a floating-point number, and every index with it)
    this.#desc = d >>> 2;
    this.#availFlags = a >>> 1;
    this.#usedEvent = (a + usedEventAt(size)) >>> 1;
    this.#usedFlags = u >>> 1;
    this.#availEvent = (u + availEventAt(size)) >>> 1;
    this.#usedRing = (u >>> 2) + 1;
    this.#lastAvail = this.#usedNext = this.#published = this.#signalled = 0;
    this.#armed = -1;
    this.ready = true;
    return '';
  }

  /** Takes the queue out of use; whatever was popped is forgotten. */
  disable(): void {
    this.ready = false;
    this.broken = '';
    this.size = 0;
  }

  /**
   * True when the driver made chains available that were not popped yet. A plain load, for a look costs every turn of the loop:
   * who pops loads the index once more, in order, and who goes to sleep has it loaded by `armDoorbell`.
   */
  get available(): boolean {
    return this.#u16[this.#availFlags + 1] !== this.#lastAvail && this.ready && this.broken === '';
  }

  /** Chains popped and not yet pushed back cannot be counted here: who pops owns them. Index of the next to pop. */
  get lastAvail(): number {
    return this.#lastAvail;
  }

  /** Takes up to `max` (at most the batch given to the constructor) chains; returns how many. Overwrites the last pop. */
  pop(max: number, direction: number): number {
    if (!this.available) return 0;
    const pending = (Atomics.load(this.#u16, this.#availFlags + 1) - this.#lastAvail) & 0xffff;
    if (pending === 0) return 0;
    if (pending > this.size) {
      this.broken = 'available index ran ahead of the queue';
      return 0;
    }
    const n = Math.min(pending, max, this.head.length);
    const u16 = this.#u16;
    const u32 = this.#u32;
    const ring = this.#availFlags + 2;
    this.#segs = 0;
    let i = 0;
    for (; i < n; i++) {
      const head = u16[ring + ((this.#lastAvail + i) & this.#mask)]!;
      if (head >= this.size) {
        this.broken = 'available ring names no descriptor';
        break;
      }
      this.head[i] = head;
      this.first[i] = this.#segs;
      const d = this.#desc + (head << 2);
      const flags = u32[d + 3]! & 0xffff;
      if ((flags & (DESC_F_NEXT | DESC_F_INDIRECT)) === 0) {
        const addr = u32[d + 1]! * 4294967296 + u32[d]! - this.#base;
        const len = u32[d + 2]!;
        if (addr < 0 || addr + len > this.#limit || (direction !== EITHER && (flags & DESC_F_WRITE) !== direction)) {
          this.nseg[i] = 0;
          this.badChains++;
          continue;
        }
        const s = this.#segs++;
        this.segAddr[s] = addr;
        this.segLen[s] = len;
        this.segWrite[s] = flags & DESC_F_WRITE;
        this.nseg[i] = 1;
        continue;
      }
      // A long chain may need more room than is left: it waits for the next pop.
      if (i > 0 && this.#segs + Math.min(this.size, CHAIN_MAX) > this.segAddr.length) break;
      const start = this.#segs;
      if (!this.#walk(head, direction)) {
        this.#segs = start;
        this.badChains++;
      }
      this.nseg[i] = this.#segs - start;
    }
    this.#lastAvail = (this.#lastAvail + i) & 0xffff;
    return i;
  }

  /**
   * Takes at most `max` chains for as long as each is one direct descriptor of the right direction inside the region, with at
   * least `least` bytes behind the first `lead`: the usual case, without the bookkeeping of `pop`. Entry k of the run goes to
   * row at + k of the caller's columns: head of the chain, address of its data `lead` bytes into it, and its length less
   * `lead` (which may be negative when `least` is). Returns how many were taken; the next chain, if there is one, is for `pop`.
   */
  popPlain(
    max: number,
    direction: number,
    lead: number,
    at: number,
    head: Int32Array,
    addr: Int32Array,
    len: Int32Array,
    least = TOP_BIT,
  ): number {
    if (!this.available) return 0;
    const u16 = this.#u16;
    const i32 = this.#i32;
    const last = this.#lastAvail;
    const { size } = this;
    const pending = (Atomics.load(u16, this.#availFlags + 1) - last) & 0xffff;
    if (pending > size) return 0; // broken: `pop` finds it and says so
    const n = Math.min(pending, max);
    const ring = this.#availFlags + 2;
    const mask = this.#mask;
    const baseHi = this.#baseHi;
    const baseLo = this.#baseLo;
    const limit = this.#limit;
    const table = this.#desc;
    let k = 0;
    for (; k < n; k++) {
      const id = u16[ring + ((last + k) & mask)]!;
      if (id >= size) break;
      const d = table + (id << 2);
      if ((i32[d + 3]! & PLAIN_FLAGS) !== direction) break;
      // The region has less than 2^31 bytes: an address inside it is one word behind the base, and a carry at most.
      const lo = i32[d]! ^ TOP_BIT;
      if (i32[d + 1] !== (lo < baseLo ? baseHi + 1 : baseHi)) break;
      const from = (lo - baseLo) | 0;
      const bytes = i32[d + 2]!;
      if (from < 0 || bytes < 0 || from > limit - bytes) break;
      const rest = (bytes - lead) | 0;
      if (rest < least) break;
      head[at + k] = id;
      addr[at + k] = from + lead;
      len[at + k] = rest;
    }
    this.#lastAvail = (last + k) & 0xffff;
    return k;
  }
  /** Puts back the last `n` chains of a popPlain: the next pop takes them again. */
  unpop(n: number): void {
    this.#lastAvail = (this.#lastAvail - n) & 0xffff;
  }

  /** Follows a chain through NEXT and one level of INDIRECT (§2.7.5.3). Appends its segments; false when it is refused. */
  #walk(head: number, direction: number): boolean {
    let table = this.#desc * 4;
    let entries = this.size;
    let inIndirect = false;
    let i = head;
    let written = 0;
    let total = 0;
    const bound = Math.min(this.size, CHAIN_MAX);
    for (let steps = 0; steps < bound; steps++) {
      const at = table + i * DESC_BYTES;
      const flags = this.#dv.getUint16(at + 12, true);
      const addr = this.#dv.getUint32(at + 4, true) * 4294967296 + this.#dv.getUint32(at, true) - this.#base;
      const len = this.#dv.getUint32(at + 8, true);
      if (addr < 0 || addr + len > this.#limit) return false;
      if ((flags & DESC_F_INDIRECT) !== 0) {
        // §2.7.5.3.1: not negotiated, nested, or together with NEXT is the driver's error.
        if (!this.indirect || inIndirect || (flags & DESC_F_NEXT) !== 0 || len === 0 || len % DESC_BYTES !== 0)
          return false;
        inIndirect = true;
        table = addr;
        entries = Math.min(len / DESC_BYTES, bound);
        i = 0;
        continue;
      }
      const write = flags & DESC_F_WRITE;
      if (direction !== EITHER && write !== direction) return false;
      if (write < written) return false; // readable after writable, §2.7.4.2
      written = write;
      total += len;
      if (total > this.#limit) return false;
      const s = this.#segs++;
      this.segAddr[s] = addr;
      this.segLen[s] = len;
      this.segWrite[s] = write;
      if ((flags & DESC_F_NEXT) === 0) return true;
      i = this.#dv.getUint16(at + 14, true);
      if (i >= entries) return false;
    }
    return false; // longer than the queue: a loop
  }

  /** Hands a chain back; `len` is the number of bytes written into it. Seen by the driver after `publish`. */
  push(head: number, len: number): void {
    const at = this.#usedRing + ((this.#usedNext & this.#mask) << 1);
    this.#u32[at] = head;
    this.#u32[at + 1] = len;
    this.#usedNext = (this.#usedNext + 1) & 0xffff;
  }

  /** Hands back chains head[0, n), nothing written into them. */
  pushRun(head: Int32Array, n: number): void {
    const i32 = this.#i32;
    const mask = this.#mask;
    const ring = this.#usedRing;
    let next = this.#usedNext;
    for (let k = 0; k < n; k++) {
      const at = ring + ((next++ & mask) << 1);
      i32[at] = head[k]!;
      i32[at + 1] = 0;
    }
    this.#usedNext = next & 0xffff;
  }
  /** Hands back chains head[0, n): `lead` and len[k] bytes were written into chain k. */
  pushFilled(head: Int32Array, len: Int32Array, lead: number, n: number): void {
    const i32 = this.#i32;
    const mask = this.#mask;
    const ring = this.#usedRing;
    let next = this.#usedNext;
    for (let k = 0; k < n; k++) {
      const at = ring + ((next++ & mask) << 1);
      i32[at] = head[k]!;
      i32[at + 1] = lead + len[k]!;
    }
    this.#usedNext = next & 0xffff;
  }

  /** Makes everything pushed visible, with one store of the used index. */
  publish(): void {
    if (this.#published === this.#usedNext) return;
    this.#published = this.#usedNext;
    Atomics.store(this.#u16, this.#usedFlags + 1, this.#usedNext);
  }

  /** True when the driver wants an interrupt for what was published since the last call (§2.7.7). */
  shouldInterrupt(): boolean {
    const before = this.#signalled;
    const now = this.#usedNext;
    if (now === before || !this.ready) return false;
    this.#signalled = now;
    if (this.eventIdx) return needEvent(Atomics.load(this.#u16, this.#usedEvent), now, before);
    return (Atomics.load(this.#u16, this.#availFlags) & AVAIL_F_NO_INTERRUPT) === 0;
  }

  /**
   * Asks for a doorbell with the next chain (§2.7.10). Returns true when one came in the meantime. Once the driver has been
   * asked, and nothing was popped since, there is nothing to store, and no order to keep: a chain that comes rings.
   */
  armDoorbell(): boolean {
    if (!this.ready) return false;
    const wanted = this.eventIdx ? this.#lastAvail : 0;
    if (this.#armed !== wanted) {
      this.#armed = wanted;
      if (this.eventIdx) Atomics.store(this.#u16, this.#availEvent, wanted);
      else Atomics.store(this.#u16, this.#usedFlags, 0);
      return this.broken === '' && Atomics.load(this.#u16, this.#availFlags + 1) !== this.#lastAvail;
    }
    return this.available;
  }

  /** Wants no doorbells for now. A hint only; with EVENT_IDX an avail_event left behind does it. */
  disarmDoorbell(): void {
    if (!this.ready || this.eventIdx) return;
    this.#armed = -1;
    Atomics.store(this.#u16, this.#usedFlags, USED_F_NO_NOTIFY);
  }
}
