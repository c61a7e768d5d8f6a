/**
 * One run of `frames`, a process of its own: driver -> card -> cable -> card -> driver, frames of one size, one core. Each
 * frame gets an mbuf and its Ethernet header from the sender and is freed by the receiver, both of which work in bursts.
 *
 *   node dist/bench/frames-run.js BYTES SECONDS
 *
 * BYTES count the FCS, as an Ethernet does: 64 is its shortest frame. Prints {"frames","seconds"}.
 */

import { fileURLToPath } from 'node:url';
import { Driver } from '../driver/driver.js';
import { ringBytes } from '../driver/rings.js';
import { scratchBytes } from '../firmware/card.js';
import { Firmware } from '../firmware/firmware.js';
import { native } from '../nic/native.js';
import { Memory, type Port } from '../nic/ports/port.js';
import { createWire } from '../nic/ports/wire.js';
import { MbufPool } from '../stack/kern/mbuf.js';

export interface FramesRun {
  readonly frames: number;
  readonly seconds: number;
}

const POOL = { small: 4096, cluster: 4096, jumbo: 1 };
const BATCH = 256;
const FCS = 4;
const WARMUP_FRAMES = 2_000_000;
/** An EtherType for experiments (IEEE 802). */
const ETHERTYPE = 0x88b5;

const align = (n: number) => (n + 63) & ~63;

interface Station {
  readonly pool: MbufPool;
  readonly firmware: Firmware;
  readonly driver: Driver;
}

function station(name: string, port: Port, last: number): Station {
  const scratchOffset = align(ringBytes());
  const poolOffset = align(scratchOffset + scratchBytes(port));
  const bytes = poolOffset + MbufPool.bytes(POOL);
  const memory = new Memory(native?.allocate(bytes, false, true) ?? new ArrayBuffer(bytes));
  const pool = new MbufPool(POOL, memory.buffer, poolOffset);
  const firmware = new Firmware({ memory, scratchOffset, port, mac: Uint8Array.of(2, 0, 0, 0, 0, last) });
  firmware.powerOn();
  return { pool, firmware, driver: new Driver({ name, bar: firmware.bar, pool, ringOffset: 0 }) };
}

export function framesRun(bytes: number, seconds: number): FramesRun {
  const [left, right] = createWire();
  const a = station('a', left, 1);
  const b = station('b', right, 2);
  let received = 0;
  const done = new Int32Array(2 * BATCH);
  let count = 0;
  const free = () => {
    b.pool.freeRun(done, count);
    count = 0;
  };
  b.driver.ifp.input = m => {
    received++;
    if (count === done.length) free();
    done[count++] = m;
  };
  a.driver.ifp.input = m => a.pool.freem(m);
  a.driver.setUp(true);
  b.driver.setUp(true);
  const now = 0;
  const turn = () => {
    a.driver.flush();
    a.firmware.step(now);
    b.firmware.step(now);
    b.driver.poll(2 * BATCH);
    free();
    if (a.driver.pending()) a.driver.poll(BATCH);
    b.firmware.step(now); // what the refilled ring now has room for
  };
  for (let i = 0; i < 10 && !(a.driver.ifp.link && b.driver.ifp.link); i++) turn();
  if (!a.driver.ifp.link) throw new Error('the cable has no carrier');

  const { pool, driver } = a;
  const { dv, off, len, pktlen } = pool;
  const length = bytes - FCS;
  const list = new Int32Array(BATCH);
  const batch = () => {
    const n = pool.getRun(list, BATCH, length);
    for (let i = 0; i < n; i++) {
      const m = list[i]!;
      const at = off[m]!;
      // To 02:00:00:00:00:02, from 02:00:00:00:00:01.
      dv.setUint32(at, 0x02000000);
      dv.setUint32(at + 4, 0x00020200);
      dv.setUint32(at + 8, 0x00000001);
      dv.setUint16(at + 12, ETHERTYPE);
      len[m] = length;
      pktlen[m] = length;
    }
    driver.outputRun(list, n);
    turn();
  };
  while (received < WARMUP_FRAMES) {
    const before = received;
    batch();
    if (received === before) throw new Error('no frame arrived');
  }
  const before = received;
  const start = performance.now();
  const end = start + seconds * 1000;
  let t = start;
  while (t < end) {
    for (let i = 0; i < 64; i++) batch();
    t = performance.now();
  }
  const result = { frames: received - before, seconds: (t - start) / 1000 };
  const { oerrors, odrops } = driver.ifp.counters;
  if (oerrors + odrops > 0) throw new Error(`${oerrors + odrops} frames were dropped by the sender's driver`);
  a.firmware.close();
  b.firmware.close();
  return result;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  process.stdout.write(`${JSON.stringify(framesRun(Number(process.argv[2] ?? 64), Number(process.argv[3] ?? 1)))}\n`);
