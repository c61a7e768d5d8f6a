/**
 * A learning Ethernet switch (IEEE 802.1D §7.7, §7.8) without spanning tree, ageing or VLANs: a device of a simulation. It
 * takes no time; rate, delay and queue are those of the cables that leave it.
 */

import { Batch, Memory, type Port } from '../nic/ports/port.js';
import type { Nanos } from '../stack/kern/clock.js';
import type { Device } from './simulation.js';

const ROOMS = 32;
const L2 = 18;
/** Stations remembered; frames to others go everywhere. */
const STATIONS = 4096;

export class Switch implements Device {
  readonly ports: readonly Port[];
  readonly counters = { frames: 0, flooded: 0, dropped: 0, stations_full: 0 };
  readonly #memory: Memory;
  readonly #in = new Batch(ROOMS);
  readonly #out = new Batch(1);
  readonly #room: number;
  /** Port by hardware address, as a 48-bit number. */
  readonly #stations = new Map<number, number>();
  #released = 0;

  /** Opens the ports, which must carry Ethernet frames. */
  constructor(ports: readonly Port[]) {
    this.ports = ports;
    this.#room = Math.max(...ports.map(p => p.capabilities.mtu)) + L2;
    this.#memory = new Memory(new ArrayBuffer(ROOMS * this.#room));
    for (const p of ports) p.open(this.#memory);
  }

  turn(now: Nanos): boolean {
    let worked = false;
    for (let i = 0; i < this.ports.length; i++) {
      const rooms = this.#in;
      for (let k = 0; k < ROOMS; k++) {
        rooms.off[k] = k * this.#room;
        rooms.cap[k] = this.#room;
      }
      const n = this.ports[i]!.receive(rooms, ROOMS, now);
      for (let k = 0; k < n; k++) this.#forward(i, rooms.off[k]!, rooms.len[k]!, now);
      if (n > 0) worked = true;
    }
    // Frames that the ports had held back: those who get them need a turn at this time.
    let released = 0;
    for (let i = 0; i < this.ports.length; i++) released += this.ports[i]!.counters.fault_out ?? 0;
    if (released !== this.#released) worked = true;
    this.#released = released;
    return worked;
  }

  /** One frame that came in at port `from`: its sender is learnt, it leaves where its receiver is known to be, or everywhere. */
  #forward(from: number, off: number, len: number, now: Nanos): void {
    if (len < 14) {
      this.counters.dropped++;
      return;
    }
    this.counters.frames++;
    const dv = this.#memory.dv;
    const sender = dv.getUint16(off + 6) * 0x1_0000_0000 + dv.getUint32(off + 8);
    if (this.#stations.has(sender) || this.#stations.size < STATIONS) this.#stations.set(sender, from);
    else this.counters.stations_full++;
    const group = (this.#memory.u8[off]! & 1) !== 0;
    const to = group ? undefined : this.#stations.get(dv.getUint16(off) * 0x1_0000_0000 + dv.getUint32(off + 2));
    if (to !== undefined) {
      if (to !== from) this.#send(to, off, len, now);
      return;
    }
    this.counters.flooded++;
    for (let i = 0; i < this.ports.length; i++) if (i !== from) this.#send(i, off, len, now);
  }

  #send(to: number, off: number, len: number, now: Nanos): void {
    const out = this.#out;
    out.count = 1;
    out.off[0] = off;
    out.len[0] = len;
    out.segsz[0] = 0;
    out.hdrlen[0] = 0;
    if (this.ports[to]!.transmit(out, now) === 0) this.counters.dropped++;
  }

  deadline(): Nanos {
    let at = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.ports.length; i++) at = Math.min(at, this.ports[i]!.deadline());
    return at;
  }

  close(): void {
    for (const p of this.ports) p.close();
  }
}
