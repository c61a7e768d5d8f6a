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

const NO_NEXT = 0xffff;

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
  readonly #mask: number;
  readonly #stack: Uint16Array; // free descriptors
  readonly #next: Uint16Array; // our own record of the links: the ring is writable by the other side
  readonly #inFlight: Uint8Array; // by head
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
    this.#mask = size - 1;
    this.#d = this.desc / 4;
    this.#a = this.avail / 2;
    this.#usedHdr = this.used / 2;
    this.#usedRing = this.used / 4 + 1;
    this.#stack = new Uint16Array(size);
    for (let i = 0; i < size; i++) this.#stack[i] = size - 1 - i;
    this.#next = new Uint16Array(size).fill(NO_NEXT);
    this.#inFlight = new Uint8Array(size);
    this.free = size;
    new Uint8Array(buffer, offset, queueBytes(size)).fill(0);
  }

  /** Makes one buffer available as a chain of one. Returns its head. The caller has seen that `free > 0`. */
  add(addr: number, len: number, flags: number): number {
    const id = this.#stack[--this.free]!;
    const d = this.#d + (id << 2);
    this.#u32[d] = addr;
    this.#u32[d + 2] = len;
    this.#u32[d + 3] = flags;
    this.#inFlight[id] = 1;
    this.#u16[this.#a + 2 + (this.#availNext & this.#mask)] = id;
    this.#availNext = (this.#availNext + 1) & 0xffff;
    return id;
  }

  /** Takes a descriptor for a longer chain and fills it; link them with `link`, then make the head available with `offer`. */
  take1(addr: number, len: number, flags: number): number {
    const id = this.#stack[--this.free]!;
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
    this.#next[from] = to;
  }
  /** Makes the chain that starts at `id` available. */
  offer(id: number): void {
    this.#inFlight[id] = 1;
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
    if (id >= this.size || this.#inFlight[id] === 0) {
      this.badUsed++;
      return -1;
    }
    this.#inFlight[id] = 0;
    this.#stack[this.free++] = id;
    let next = this.#next[id]!;
    if (next !== NO_NEXT) {
      this.#next[id] = NO_NEXT;
      while (next !== NO_NEXT) {
        const after = this.#next[next]!;
        this.#next[next] = NO_NEXT;
        this.#stack[this.free++] = next;
        next = after;
      }
    }
    return id;
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
