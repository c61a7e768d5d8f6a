/**
 * Control queue: receive modes, address tables, VLANs, hash configuration, interrupt moderation. VIRTIO 1.2 §5.1.6.5.
 * What the card does not do is answered with VIRTIO_NET_ERR.
 */

import { EITHER, type VirtqDevice } from '../nic/virtq-device.js';
import {
  CTRL_MAC,
  CTRL_MAC_ADDR_SET,
  CTRL_MAC_TABLE_SET,
  CTRL_MQ,
  CTRL_MQ_HASH_CONFIG,
  CTRL_MQ_VQ_PAIRS_SET,
  CTRL_NOTF_COAL,
  CTRL_NOTF_COAL_RX_SET,
  CTRL_NOTF_COAL_TX_SET,
  CTRL_RX,
  CTRL_RX_ALLMULTI,
  CTRL_RX_ALLUNI,
  CTRL_RX_NOBCAST,
  CTRL_RX_NOMULTI,
  CTRL_RX_NOUNI,
  CTRL_RX_PROMISC,
  CTRL_VLAN,
  CTRL_VLAN_ADD,
  CTRL_VLAN_DEL,
  NET_ERR,
  NET_OK,
} from '../nic/virtqueue.js';
import type { Card } from './card.js';

const COMMAND_MAX = 8192;
/** Moderation above this many microseconds is refused: nobody wants it, and a timer would be asked for it. */
export const COALESCE_USECS_MAX = 100_000;

export interface ControlEffects {
  /** Moderation was set: values in microseconds and frames. */
  coalesce(queue: 'rx' | 'tx', usecs: number, frames: number): void;
}

export class ControlQueue {
  readonly #card: Card;
  readonly #vq: VirtqDevice;
  readonly #effects: ControlEffects;
  readonly #buf = new Uint8Array(COMMAND_MAX);
  readonly #dv = new DataView(this.#buf.buffer);
  pushed = 0;

  constructor(card: Card, vq: VirtqDevice, effects: ControlEffects) {
    this.#card = card;
    this.#vq = vq;
    this.#effects = effects;
  }

  /** Carries out what is waiting; returns how many commands. */
  step(): number {
    const vq = this.#vq;
    const n = vq.pop(16, EITHER);
    for (let i = 0; i < n; i++) {
      let length = 0;
      let ackAt = -1;
      let readable = true;
      for (let s = vq.first[i]!; s < vq.first[i]! + vq.nseg[i]!; s++) {
        const len = vq.segLen[s]!;
        if (vq.segWrite[s] !== 0) {
          if (ackAt < 0 && len > 0) ackAt = vq.segAddr[s]!;
        } else if (length + len <= COMMAND_MAX) {
          this.#buf.set(this.#card.memory.u8.subarray(vq.segAddr[s]!, vq.segAddr[s]! + len), length);
          length += len;
        } else readable = false;
      }
      if (ackAt < 0) this.#card.counters.desc_bad++;
      else {
        const ok = readable && length >= 2 && this.#carryOut(this.#buf[0]!, this.#buf[1]!, length);
        if (ok) this.#card.counters.ctrl_commands++;
        else this.#card.counters.ctrl_errors++;
        this.#card.memory.u8[ackAt] = ok ? NET_OK : NET_ERR;
      }
      vq.push(vq.head[i]!, ackAt < 0 ? 0 : 1);
      this.pushed++;
    }
    vq.publish();
    return n;
  }

  /** One command of `length` bytes in the buffer; false = refused. */
  #carryOut(cls: number, command: number, length: number): boolean {
    if (cls === CTRL_RX) return length >= 3 && this.#rxMode(command, this.#buf[2] !== 0);
    if (cls === CTRL_MAC) return this.#mac(command, length);
    if (cls === CTRL_VLAN && length >= 4) {
      const id = this.#dv.getUint16(2, true);
      if (id > 4095 || (command !== CTRL_VLAN_ADD && command !== CTRL_VLAN_DEL)) return false;
      this.#card.filter.setVlan(id, command === CTRL_VLAN_ADD);
      return true;
    }
    // One pair of queues is all there is; asking for exactly that is granted.
    if (cls === CTRL_MQ && command === CTRL_MQ_VQ_PAIRS_SET) return length >= 4 && this.#dv.getUint16(2, true) === 1;
    if (cls === CTRL_MQ && command === CTRL_MQ_HASH_CONFIG) return this.#hashConfig(length);
    if (cls === CTRL_NOTF_COAL && length >= 10) {
      const frames = this.#dv.getUint32(2, true);
      const usecs = this.#dv.getUint32(6, true);
      if (usecs > COALESCE_USECS_MAX) return false;
      if (command === CTRL_NOTF_COAL_RX_SET) this.#effects.coalesce('rx', usecs, frames);
      else if (command === CTRL_NOTF_COAL_TX_SET) this.#effects.coalesce('tx', usecs, frames);
      else return false;
      return true;
    }
    return false;
  }

  #rxMode(command: number, on: boolean): boolean {
    const f = this.#card.filter;
    if (command === CTRL_RX_PROMISC) f.promisc = on;
    else if (command === CTRL_RX_ALLMULTI) f.allMulticast = on;
    else if (command === CTRL_RX_ALLUNI) f.allUnicast = on;
    else if (command === CTRL_RX_NOMULTI) f.noMulticast = on;
    else if (command === CTRL_RX_NOUNI) f.noUnicast = on;
    else if (command === CTRL_RX_NOBCAST) f.noBroadcast = on;
    else return false;
    return true;
  }

  #mac(command: number, length: number): boolean {
    const card = this.#card;
    if (command === CTRL_MAC_ADDR_SET) {
      // A group address is nobody's own.
      if (length < 8 || (this.#buf[2]! & 1) !== 0) return false;
      card.mac.set(this.#buf.subarray(2, 8));
      card.filter.setMac(card.mac);
      for (let i = 0; i < 6; i++) card.registers.set('mac', card.mac[i]!, i);
      return true;
    }
    if (command !== CTRL_MAC_TABLE_SET || length < 6) return false;
    // Both lists are checked before either is taken.
    const unicast = this.#dv.getUint32(2, true);
    const second = 6 + unicast * 6;
    if (second + 4 > length) return false;
    const multicast = this.#dv.getUint32(second, true);
    if (second + 4 + multicast * 6 > length) return false;
    card.filter.unicast.clear();
    card.filter.multicast.clear();
    for (let i = 0; i < unicast; i++) this.#add(card.filter.unicast, 6 + i * 6);
    for (let i = 0; i < multicast; i++) this.#add(card.filter.multicast, second + 4 + i * 6);
    return true;
  }
  #add(table: { add(hi: number, lo: number): void }, at: number): void {
    table.add(this.#dv.getUint16(at), this.#dv.getInt32(at + 2));
  }

  #hashConfig(length: number): boolean {
    if (!this.#card.hashReport || length < 15) return false;
    const types = this.#dv.getUint32(2, true);
    const keyLen = this.#buf[14]!;
    if ((types & ~this.#card.registers.get('supported_hash_types')) !== 0 || keyLen > 40 || 15 + keyLen > length)
      return false;
    this.#card.hashTypes = types;
    if (keyLen > 0) this.#card.engine.setRssKey(this.#buf.subarray(15, 15 + keyLen));
    return true;
  }
}
