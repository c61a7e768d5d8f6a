/**
 * Control queue of the driver: commands go out from a slot of their own and are answered later; nobody waits for them.
 * VIRTIO 1.2 §5.1.6.5.
 */

import { CTRL_QUEUE, DESC_F_WRITE, NET_ERR, NET_OK } from '../nic/virtqueue.js';
import type { DriverCounters } from './counters.js';
import { COMMAND_SLOT, COMMAND_SLOTS } from './rings.js';
import type { VirtqDriver } from './virtq-driver.js';

export const EBUSY = 16;
export const EINVAL = 22;

export class ControlRing {
  readonly vq: VirtqDriver;
  readonly #u8: Uint8Array;
  readonly #base: number;
  readonly #doorbell: (queue: number) => void;
  readonly #counters: DriverCounters;
  readonly #slotOf: Int16Array; // slot by head descriptor
  readonly #free: number[] = [];

  constructor(
    vq: VirtqDriver,
    u8: Uint8Array,
    base: number,
    counters: DriverCounters,
    doorbell: (queue: number) => void,
  ) {
    this.vq = vq;
    this.#u8 = u8;
    this.#base = base;
    this.#counters = counters;
    this.#doorbell = doorbell;
    this.#slotOf = new Int16Array(vq.size).fill(-1);
    for (let i = 0; i < COMMAND_SLOTS; i++) this.#free.push(i);
  }

  /** Commands that were not answered yet. */
  get outstanding(): number {
    return COMMAND_SLOTS - this.#free.length;
  }

  /** Sends a command. Returns 0 when it is on its way, -EBUSY when too many are, -EINVAL when it is too long. */
  send(cls: number, command: number, data: ArrayLike<number>): number {
    if (data.length + 3 > COMMAND_SLOT) return -EINVAL;
    this.poll();
    const slot = this.vq.free >= 2 ? this.#free.pop() : undefined;
    if (slot === undefined) {
      this.#counters.ctrl_busy++;
      return -EBUSY;
    }
    const at = this.#base + slot * COMMAND_SLOT;
    const ack = at + COMMAND_SLOT - 1;
    this.#u8[at] = cls;
    this.#u8[at + 1] = command;
    for (let i = 0; i < data.length; i++) this.#u8[at + 2 + i] = data[i]!;
    this.#u8[ack] = NET_ERR;
    const head = this.vq.take1(at, data.length + 2, 0);
    const tail = this.vq.take1(ack, 1, DESC_F_WRITE);
    this.vq.link(head, tail);
    this.vq.offer(head);
    this.#slotOf[head] = slot;
    if (this.vq.publish()) this.#doorbell(CTRL_QUEUE);
    return 0;
  }

  /** Takes the answers that have come. */
  poll(): void {
    for (let n = this.vq.pending(); n > 0; n--) {
      const id = this.vq.take();
      if (id < 0) continue;
      const slot = this.#slotOf[id]!;
      this.#slotOf[id] = -1;
      if (this.#u8[this.#base + (slot + 1) * COMMAND_SLOT - 1] === NET_OK) this.#counters.ctrl_commands++;
      else this.#counters.ctrl_errors++;
      this.#free.push(slot);
    }
  }
}
