/** Test code: a driver's half of a virtqueue written by hand, byte by byte, so that tests can write nonsense too. */

import type { Memory } from './ports/port.js';
import { type Bar, REG } from './registers.js';
import { availOffset, queueBytes, usedOffset } from './virtqueue.js';

export class RawRing {
  readonly size: number;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly #dv: DataView;
  #next = 0;
  constructor(memory: Memory, offset: number, size: number) {
    this.size = size;
    this.desc = offset;
    this.avail = offset + availOffset(size);
    this.used = offset + usedOffset(size);
    this.#dv = memory.dv;
    memory.u8.fill(0, offset, offset + queueBytes(size));
  }
  /** Writes descriptor i. */
  set(i: number, addr: number, len: number, flags = 0, next = 0, high = 0): void {
    RawRing.write(this.#dv, this.desc + 16 * i, addr, len, flags, next, high);
  }
  static write(dv: DataView, at: number, addr: number, len: number, flags = 0, next = 0, high = 0): void {
    dv.setUint32(at, addr, true);
    dv.setUint32(at + 4, high, true);
    dv.setUint32(at + 8, len, true);
    dv.setUint16(at + 12, flags, true);
    dv.setUint16(at + 14, next, true);
  }
  /** Makes chains available. */
  offer(...heads: number[]): void {
    for (const h of heads) {
      this.#dv.setUint16(this.avail + 4 + 2 * (this.#next % this.size), h, true);
      this.#next = (this.#next + 1) & 0xffff;
    }
    this.#dv.setUint16(this.avail + 2, this.#next, true);
  }
  setAvailIdx(idx: number): void {
    this.#dv.setUint16(this.avail + 2, idx, true);
    this.#next = idx & 0xffff;
  }
  get usedIdx(): number {
    return this.#dv.getUint16(this.used + 2, true);
  }
  usedAt(i: number): { id: number; len: number } {
    const at = this.used + 4 + 8 * (i % this.size);
    return { id: this.#dv.getUint32(at, true), len: this.#dv.getUint32(at + 4, true) };
  }
  /** Enables it as queue q through the registers. */
  enable(bar: Bar, q: number): boolean {
    bar.write(REG.queue_select, 4, q);
    bar.write(REG.queue_size, 4, this.size);
    bar.write(REG.queue_desc_low, 4, this.desc);
    bar.write(REG.queue_driver_low, 4, this.avail);
    bar.write(REG.queue_device_low, 4, this.used);
    bar.write(REG.queue_ready, 4, 1);
    return bar.read(REG.queue_ready, 4) === 1;
  }
}
