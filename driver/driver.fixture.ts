/**
 * A small bench for tests: cards on a wire, each with memory, firmware and driver of its own, run in virtual time. Test
 * code only (the rooms do not meet outside appliance.ts).
 */

import { scratchBytes } from '../firmware/card.js';
import { Firmware, type FirmwareOptions } from '../firmware/firmware.js';
import { Memory, type Port } from '../nic/ports/port.js';
import { createWire, type WireOptions } from '../nic/ports/wire.js';
import type { KernelEvent } from '../stack/kern/event.js';
import { MbufPool, type MbufPoolSizes } from '../stack/kern/mbuf.js';
import { Driver, type DriverOptions } from './driver.js';
import { ringBytes } from './rings.js';

export interface Station {
  readonly memory: Memory;
  readonly pool: MbufPool;
  readonly firmware: Firmware;
  readonly driver: Driver;
  readonly events: KernelEvent[];
  /** Frames that came in; the test owns them. */
  readonly received: number[];
  /** Set by the card when it wants a step (a doorbell, a register write). */
  woken: boolean;
}

export interface StationOptions {
  readonly pool?: MbufPoolSizes;
  readonly driver?: Partial<DriverOptions>;
  readonly firmware?: Partial<FirmwareOptions>;
}

const align = (n: number) => (n + 63) & ~63;
let serial = 0;

/** One region: rings, the card's scratch memory, mbuf pool. */
export function station(port: Port, o: StationOptions = {}): Station {
  const sizes = o.pool ?? { small: 512, cluster: 1536, jumbo: 128 };
  const scratchOffset = align(ringBytes());
  const poolOffset = align(scratchOffset + scratchBytes(port));
  const memory = new Memory(new ArrayBuffer(poolOffset + MbufPool.bytes(sizes)));
  const pool = new MbufPool(sizes, memory.buffer, poolOffset);
  const mac = Uint8Array.of(2, 0, 0, 0, 0, ++serial & 255);
  const wake = () => {
    s.woken = true;
  };
  const s = { memory, pool, woken: false } as { -readonly [K in keyof Station]: Station[K] };
  const firmware = new Firmware({ memory, scratchOffset, port, mac, wake, ...o.firmware });
  firmware.powerOn();
  const driver = new Driver({ name: `nke${serial}`, bar: firmware.bar, pool, ringOffset: 0, ...o.driver });
  const events: KernelEvent[] = [];
  const received: number[] = [];
  driver.ifp.event = e => void events.push(e);
  driver.ifp.input = m => void received.push(m);
  return Object.assign(s, { firmware, driver, events, received });
}

/** Two stations on a wire, up. */
export function pair(wire: WireOptions = {}, o: StationOptions = {}): [Station, Station] {
  const [pa, pb] = createWire(wire);
  const a = station(pa, o);
  const b = station(pb, o);
  a.driver.setUp(true);
  b.driver.setUp(true);
  run([a, b]);
  return [a, b];
}

/** Steps cards and drivers until nothing moves; `now` stands still. */
export function run(stations: readonly Station[], now = 0): void {
  for (let turn = 0; turn < 10_000; turn++) {
    let work = 0;
    for (const s of stations) {
      s.driver.flush();
      if (s.woken) work++;
      s.woken = false;
      work += s.firmware.step(now);
      work += s.driver.poll(256);
      if (s.driver.pending()) work++;
    }
    if (work === 0 && !stations.some(s => s.woken)) return;
  }
  throw new Error('the stations did not come to rest');
}

/** An Ethernet frame in a fresh mbuf: destination, source, EtherType, payload. */
export function frame(s: Station, dst: Uint8Array, type: number, payload: Uint8Array): number {
  const bytes = new Uint8Array(14 + payload.length);
  bytes.set(dst, 0);
  bytes.set(s.driver.ifp.mac, 6);
  bytes[12] = type >>> 8;
  bytes[13] = type & 255;
  bytes.set(payload, 14);
  return s.pool.fromBytes(bytes);
}

/** An IP packet (checksums left zero) with SCTP, in UDP when udpPort > 0. SCTP: 12 bytes of header, then `body`. */
export function sctpPacket(
  body: Uint8Array,
  o: { v6?: boolean; udpPort?: number; packets?: number } = {},
): { bytes: Uint8Array; hdr: number } {
  const ip = o.v6 ? 40 : 20;
  const udp = o.udpPort ? 8 : 0;
  const one = 12 + body.length;
  const n = o.packets ?? 1;
  const bytes = new Uint8Array(ip + udp + one * n);
  const dv = new DataView(bytes.buffer);
  const l4len = udp + one;
  if (o.v6) {
    dv.setUint32(0, 0x60000000);
    dv.setUint16(4, l4len);
    bytes[6] = udp ? 17 : 132;
    bytes[7] = 64;
    bytes.set([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 8);
    bytes.set([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], 24);
  } else {
    bytes.set([0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, udp ? 17 : 132, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    dv.setUint16(2, ip + l4len);
  }
  if (udp) {
    dv.setUint16(ip, 40000);
    dv.setUint16(ip + 2, o.udpPort!);
    dv.setUint16(ip + 4, l4len);
  }
  for (let i = 0; i < n; i++) {
    const at = ip + udp + i * one;
    dv.setUint16(at, 5000);
    dv.setUint16(at + 2, 5001);
    dv.setUint32(at + 4, 0xdeadbeef);
    bytes.set(body, at + 12);
    bytes[at + 12] = i;
  }
  return { bytes, hdr: ip + udp };
}
