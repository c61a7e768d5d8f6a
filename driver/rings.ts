/** Where the driver's rings lie in the region: receive, transmit and control queue, header slots, control commands. */

import { NET_HDR_HASH_BYTES } from '../nic/virtqueue.js';
import { VirtqDriver } from './virtq-driver.js';

export interface RingSizes {
  readonly rx: number;
  readonly tx: number;
  readonly ctrl: number;
}
export const DEFAULT_RINGS: RingSizes = { rx: 512, tx: 1024, ctrl: 16 };

/** A header slot per transmit descriptor, for packets without headroom. */
export const HDR_SLOT = (NET_HDR_HASH_BYTES + 7) & ~7;
/** A command slot: class, command, data, and the card's answer in the last byte. */
export const COMMAND_SLOT = 1024;
export const COMMAND_SLOTS = 8;

export interface RingLayout {
  readonly rx: number;
  readonly tx: number;
  readonly ctrl: number;
  readonly headers: number;
  readonly commands: number;
  readonly end: number;
}

/** Lays the rings out from byte `offset` (16-byte aligned) on. */
export function ringLayout(sizes: RingSizes, offset: number): RingLayout {
  const rx = offset;
  const tx = rx + VirtqDriver.bytes(sizes.rx);
  const ctrl = tx + VirtqDriver.bytes(sizes.tx);
  const headers = ctrl + VirtqDriver.bytes(sizes.ctrl);
  const commands = headers + sizes.tx * HDR_SLOT;
  return { rx, tx, ctrl, headers, commands, end: commands + COMMAND_SLOTS * COMMAND_SLOT };
}

/** Bytes of region that rings of these sizes need. */
export const ringBytes = (sizes: RingSizes = DEFAULT_RINGS): number => ringLayout(sizes, 0).end;
