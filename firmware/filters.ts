/**
 * Receive filter: own address, unicast and multicast tables, VLAN ids, promiscuous modes. VIRTIO 1.2 §5.1.6.5.1–3.
 */

import type { Memory } from '../nic/ports/port.js';

export const PASS = 0;
export const PASS_MULTICAST = 1;
export const PASS_BROADCAST = 2;
export const DROP_ADDRESS = -1;
export const DROP_VLAN = -2;

/** Entries of each table; a longer list makes the filter imperfect (§5.1.6.5.2): everything of its kind then passes. */
export const MAC_TABLE_MAX = 64;

/** A list of addresses as two words each: first two bytes, last four. */
class MacTable {
  readonly #hi = new Int32Array(MAC_TABLE_MAX);
  readonly #lo = new Int32Array(MAC_TABLE_MAX);
  count = 0;
  overflow = false;
  clear(): void {
    this.count = 0;
    this.overflow = false;
  }
  add(hi: number, lo: number): void {
    if (this.count === MAC_TABLE_MAX) {
      this.overflow = true;
      return;
    }
    this.#hi[this.count] = hi;
    this.#lo[this.count++] = lo;
  }
  has(hi: number, lo: number): boolean {
    for (let i = 0; i < this.count; i++) if (this.#lo[i] === lo && this.#hi[i] === hi) return true;
    return this.overflow;
  }
}

export class ReceiveFilter {
  promisc = false;
  allMulticast = false;
  allUnicast = false;
  noMulticast = false;
  noUnicast = false;
  noBroadcast = false;
  /** VLAN filtering is in force (VIRTIO_NET_F_CTRL_VLAN negotiated): tagged frames pass only with an id that was added. */
  vlanFiltering = false;
  readonly unicast = new MacTable();
  readonly multicast = new MacTable();
  readonly #vlans = new Int32Array(128); // 4096 bits
  #hi = 0;
  #lo = 0;

  /** Back to: own address and broadcast only. */
  reset(mac: ArrayLike<number>): void {
    this.promisc = this.allMulticast = this.allUnicast = this.noMulticast = this.noUnicast = this.noBroadcast = false;
    this.vlanFiltering = false;
    this.unicast.clear();
    this.multicast.clear();
    this.#vlans.fill(0);
    this.setMac(mac);
  }
  setMac(mac: ArrayLike<number>): void {
    this.#hi = (mac[0]! << 8) | mac[1]!;
    this.#lo = (mac[2]! << 24) | (mac[3]! << 16) | (mac[4]! << 8) | mac[5]!;
  }
  setVlan(id: number, on: boolean): void {
    const bit = 1 << (id & 31);
    const w = (id & 0xfff) >>> 5;
    this.#vlans[w] = on ? this.#vlans[w]! | bit : this.#vlans[w]! & ~bit;
  }
  hasVlan(id: number): boolean {
    return (this.#vlans[(id & 0xfff) >>> 5]! & (1 << (id & 31))) !== 0;
  }

  /**
   * First two bytes of the own address, when a frame to it passes whatever else it is; else -1. With `ownLo`, the last four,
   * what a caller needs to pass the usual frame by itself.
   */
  get ownHi(): number {
    const group = (this.#hi & 0x100) !== 0; // no station has such an address, but a driver may set one
    return group || this.noUnicast || (this.vlanFiltering && !this.promisc) ? -1 : this.#hi;
  }
  get ownLo(): number {
    return this.#lo;
  }

  /** Judges the Ethernet frame at `off` (at least 14 bytes; `len` in all): PASS_* (0 and up) or DROP_* (below 0). */
  judge(memory: Memory, off: number, len: number): number {
    const hi = memory.dv.getUint16(off);
    const lo = memory.dv.getInt32(off + 2);
    if (this.vlanFiltering && !this.promisc && memory.dv.getUint16(off + 12) === 0x8100) {
      if (len < 18 || !this.hasVlan(memory.dv.getUint16(off + 14) & 0xfff)) return DROP_VLAN;
    }
    if ((hi & 0x100) === 0) {
      if (hi === this.#hi && lo === this.#lo && !this.noUnicast) return PASS;
      if (this.promisc || this.allUnicast) return PASS;
      return !this.noUnicast && (this.unicast.count > 0 || this.unicast.overflow) && this.unicast.has(hi, lo)
        ? PASS
        : DROP_ADDRESS;
    }
    if (hi === 0xffff && lo === -1) return !this.noBroadcast || this.promisc ? PASS_BROADCAST : DROP_ADDRESS;
    if (this.promisc || this.allMulticast) return PASS_MULTICAST;
    return !this.noMulticast && this.multicast.has(hi, lo) ? PASS_MULTICAST : DROP_ADDRESS;
  }
}
