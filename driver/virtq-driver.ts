/**
 * Driver side of a split virtqueue: descriptors out of a free list, buffers made available, used ones taken back.
 * VIRTIO 1.2 §2.7. Shares nothing but the layout (nic/virtqueue.ts) with the device side. What a broken card writes into
 * the used ring is checked and counted, not believed.
 */

import {
  AVAIL_F_NO_INTERRUPT,
  availEventAt,
  availOffset,
  DESC_F_NEXT,
  needEvent,
  queueBytes,
  USED_F_NO_NOTIFY,
  usedEventAt,
  usedOffset,
} from '../nic/virtqueue.js';

/** Owner of a chain whose head was not given to anybody by `own`. */
const SOMEBODY = -1;

export class VirtqDriver {
  readonly size: number;
  /** Byte offsets of the three areas in the region: what the queue registers are told. */
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly eventIdx: boolean;
  /** Descriptors free now. */
  free: number;
  /** Used elements that named no chain in flight. */
  badUsed = 0;
  /** Bytes that the device wrote into the chain that `take` returned last. */
  usedLen = 0;

  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #i32: Int32Array;
  readonly #mask: number;
  // What is kept of the descriptors, for the ring is writable by the other side. One array, three columns of `size`: at 0 the
  // stack of free descriptors; at size the owner of the chain that a head is in flight for (0: none); at 2 size the next of
  // its chain plus 1, 0 at the end.
  readonly #own: Int32Array;
  readonly #d: number; // u32 index of the descriptor table
  readonly #a: number; // u16 index of the available ring
  readonly #usedHdr: number; // u16 index
  readonly #usedRing: number; // u32 index
  #availNext = 0;
  #published = 0;
  #lastUsed = 0;

  /** A queue of `size` entries at byte `offset` (16-byte aligned) of the region; clears its areas. */
  constructor(buffer: ArrayBufferLike, offset: number, size: number, eventIdx: boolean) {
    if (offset % 16 !== 0) throw new RangeError('a virtqueue starts at a 16-byte boundary');
    this.size = size;
    this.eventIdx = eventIdx;
    this.desc = offset;
    this.avail = offset + availOffset(size);
    this.used = offset + usedOffset(size);
    this.#u16 = new Uint16Array(buffer, 0, buffer.byteLength >>> 1);
    this.#u32 = new Uint32Array(buffer, 0, buffer.byteLength >>> 2);
    this.#i32 = new Int32Array(buffer, 0, buffer.byteLength >>> 2);
    this.#mask = size - 1;
    // (shifts and no divisions: a quotient would be kept as a floating-point number, and every index with it)
    this.#d = this.desc >>> 2;
    this.#a = this.avail >>> 1;
    this.#usedHdr = this.used >>> 1;
    this.#usedRing = (this.used >>> 2) + 1;
    this.#own = new Int32Array(3 * size);
    for (let i = 0; i < size; i++) this.#own[i] = size - 1 - i;
    this.free = size;
    new Uint8Array(buffer, offset, queueBytes(size)).fill(0);
  }

  /** Makes one buffer available as a chain of one. Returns its head. The caller has seen that `free > 0`. */
  add(addr: number, len: number, flags: number): number {
    const id = this.#own[--this.free]!;
    const d = this.#d + (id << 2);
    this.#u32[d] = addr;
    this.#u32[d + 2] = len;
    this.#u32[d + 3] = flags;
    this.#own[this.size + id] = SOMEBODY;
    this.#u16[this.#a + 2 + (this.#availNext & this.#mask)] = id;
    this.#availNext = (this.#availNext + 1) & 0xffff;
    return id;
  }

  /**
   * Makes n buffers available, each as a chain of one. Buffer k belongs to owner m = list[from + k]: it begins `lead` bytes from
   * words[off + m] and is `more` bytes longer than words[len + m]. The caller has seen that n are free.
   */
  addRun(
    list: Int32Array,
    from: number,
    n: number,
    words: Int32Array,
    off: number,
    lead: number,
    len: number,
    more: number,
    flags: number,
  ): void {
    const i32 = this.#i32;
    const u16 = this.#u16;
    const own = this.#own;
    const table = this.#d;
    const ring = this.#a + 2;
    const mask = this.#mask;
    const { size } = this;
    let free = this.free;
    let next = this.#availNext;
    for (let k = 0; k < n; k++) {
      const m = list[from + k]!;
      const id = own[--free]!;
      const d = table + (id << 2);
      i32[d] = words[off + m]! + lead;
      i32[d + 2] = words[len + m]! + more;
      i32[d + 3] = flags;
      own[size + id] = m;
      u16[ring + (next++ & mask)] = id;
    }
    this.free = free;
    this.#availNext = next & 0xffff;
  }
  /** Gives the chain in flight with head `id` to an owner, not 0, which `takeRun` hands back. */
  own(id: number, owner: number): void {
    this.#own[this.size + id] = owner;
  }
  /** Owner of the chain in flight with head `id`, 0 when there is none. */
  owner(id: number): number {
    return this.#own[this.size + id]!;
  }
  /** Forgets the chain in flight with head `id` (the card was reset): its owner, or 0. */
  disown(id: number): number {
    const owner = this.owner(id);
    this.#own[this.size + id] = 0;
    return owner;
  }

  /** Takes a descriptor for a longer chain and fills it; link them with `link`, then make the head available with `offer`. */
  take1(addr: number, len: number, flags: number): number {
    const id = this.#own[--this.free]!;
    const d = this.#d + (id << 2);
    this.#u32[d] = addr;
    this.#u32[d + 2] = len;
    this.#u32[d + 3] = flags;
    return id;
  }
  /** Sets address and length of a descriptor taken before. */
  fill(id: number, addr: number, len: number): void {
    const d = this.#d + (id << 2);
    this.#u32[d] = addr;
    this.#u32[d + 2] = len;
  }
  /** Appends descriptor `to` behind `from`. */
  link(from: number, to: number): void {
    const d = this.#d + (from << 2) + 3;
    this.#u32[d] = (this.#u32[d]! & 0xffff) | DESC_F_NEXT | (to << 16);
    this.#own[2 * this.size + from] = to + 1;
  }
  /** Makes the chain that starts at `id` available. */
  offer(id: number): void {
    this.#own[this.size + id] = SOMEBODY;
    this.#u16[this.#a + 2 + (this.#availNext & this.#mask)] = id;
    this.#availNext = (this.#availNext + 1) & 0xffff;
  }

  /** Shows the device what was added since the last call. Returns true when it wants its doorbell rung (§2.7.13.4). */
  publish(): boolean {
    const before = this.#published;
    const now = this.#availNext;
    if (now === before) return false;
    Atomics.store(this.#u16, this.#a + 1, now);
    this.#published = now;
    if (this.eventIdx)
      return needEvent(Atomics.load(this.#u16, this.#usedHdr + availEventAt(this.size) / 2), now, before);
    return (Atomics.load(this.#u16, this.#usedHdr) & USED_F_NO_NOTIFY) === 0;
  }

  /** True when used elements wait to be taken: a look, by a plain load. Who takes them asks `pending`. */
  get news(): boolean {
    return this.#u16[this.#usedHdr + 1] !== this.#lastUsed;
  }

  /** Used elements that wait to be taken. */
  pending(): number {
    const n = (Atomics.load(this.#u16, this.#usedHdr + 1) - this.#lastUsed) & 0xffff;
    return Math.min(n, this.size);
  }

  /**
   * Takes the next used element: returns the head of its chain and frees the descriptors, or -1 when the element was
   * nonsense. `usedLen` holds the bytes written. Call at most `pending()` times.
   */
  take(): number {
    const at = this.#usedRing + ((this.#lastUsed & this.#mask) << 1);
    const id = this.#u32[at]!;
    this.usedLen = this.#u32[at + 1]!;
    this.#lastUsed = (this.#lastUsed + 1) & 0xffff;
    if (id >= this.size || this.owner(id) === 0) {
      this.badUsed++;
      return -1;
    }
    this.#release(id);
    return id;
  }
  /** The chain with head `id` is no longer in flight, its descriptors are free. */
  #release(id: number): void {
    const own = this.#own;
    const { size } = this;
    own[size + id] = 0;
    for (let at = id + 1; at !== 0; ) {
      const link = 2 * size + at - 1;
      own[this.free++] = at - 1;
      at = own[link]!;
      own[link] = 0;
    }
  }

  /**
   * Takes the next n used elements (at most `pending()`, and half of what `out` holds): the owners of their chains go to its
   * first half, the bytes written to its second. Elements that name no chain in flight are counted and left out: returns how
   * many were not.
   */
  takeRun(n: number, out: Int32Array): number {
    const lens = out.length >>> 1;
    let good = 0;
    for (let k = 0; k < n; k++) {
      const run = this.#takeSingles(n - k, out, good, lens + good);
      good += run;
      k += run;
      if (k >= n) break;
      const at = this.#usedRing + ((this.#lastUsed & this.#mask) << 1);
      const id = this.#u32[at]!;
      const m = id < this.size ? this.owner(id) : 0;
      if (this.take() < 0) continue;
      out[good] = m;
      out[lens + good++] = this.usedLen | 0;
    }
    return good;
  }
  /** The same for as long as each element names a chain of one descriptor. Returns how many those were. */
  #takeSingles(n: number, out: Int32Array, owners: number, lens: number): number {
    const i32 = this.#i32;
    const own = this.#own;
    const ring = this.#usedRing;
    const mask = this.#mask;
    const { size, free } = this;
    const last = this.#lastUsed;
    let k = 0;
    for (; k < n; k++) {
      const at = ring + (((last + k) & mask) << 1);
      const id = i32[at]!;
      if (id < 0 || id >= size) break;
      const slot = size + id;
      const m = own[slot]!;
      if (m === 0 || own[slot + size] !== 0) break;
      own[slot] = 0;
      own[free + k] = id;
      out[owners + k] = m;
      out[lens + k] = i32[at + 1]!;
    }
    this.free = free + k;
    this.#lastUsed = (last + k) & 0xffff;
    return k;
  }

  /** Asks for an interrupt when `after` more elements will have been used. Returns true when that is so already. */
  enableInterrupts(after = 1): boolean {
    if (this.eventIdx)
      Atomics.store(this.#u16, this.#a + usedEventAt(this.size) / 2, (this.#lastUsed + after - 1) & 0xffff);
    else Atomics.store(this.#u16, this.#a, 0);
    return this.pending() >= after;
  }
  /** Wants no interrupts. With EVENT_IDX the event is put where it will not be passed for half the number circle. */
  disableInterrupts(): void {
    if (this.eventIdx)
      Atomics.store(this.#u16, this.#a + usedEventAt(this.size) / 2, (this.#lastUsed + 0x8000) & 0xffff);
    else Atomics.store(this.#u16, this.#a, AVAIL_F_NO_INTERRUPT);
  }

  /** Bytes of region that the queue takes. */
  static bytes(size: number): number {
    return (queueBytes(size) + 15) & ~15;
  }
}
