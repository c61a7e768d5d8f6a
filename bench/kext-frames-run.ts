/**
 * One run of `kext`'s frame rates, a process of its own: dlil -> driver -> card -> cable -> card -> driver -> dlil -> protocol
 * on one core, without a filter, with a filter that only counts loaded on the receiver, and after it has been unloaded; in
 * turns of a few milliseconds, so that what else the machine does falls on all alike.
 *
 *   node dist/bench/kext-frames-run.js BYTES SECONDS
 *
 * BYTES count the FCS. Prints {"before","none","counting","unloaded","loadUs","unloadUs"}: frames a second, microseconds.
 */

import { fileURLToPath } from 'node:url';
import { Driver } from '../driver/driver.js';
import { ringBytes } from '../driver/rings.js';
import { scratchBytes } from '../firmware/card.js';
import { Firmware } from '../firmware/firmware.js';
import { native } from '../nic/native.js';
import { Memory, type Port } from '../nic/ports/port.js';
import { createWire } from '../nic/ports/wire.js';
import { Clock, SeededRandom } from '../stack/kern/clock.js';
import type { Kext } from '../stack/kern/kext.js';
import { KPI_IDENTIFIER, KPI_VERSION } from '../stack/kern/kext.js';
import { M_NULL, MbufPool } from '../stack/kern/mbuf.js';
import type { Ifnet } from '../stack/net/ifnet.js';
import { Stack } from '../stack/stack.js';

export interface KextFramesRun {
  /** Frames a second before any extension was ever loaded. */
  readonly before: number;
  /** Frames a second in turns: without, with, and right after the filter has gone. */
  readonly none: number;
  readonly counting: number;
  readonly unloaded: number;
  /** Frames that the filter has counted, and that passed while it was loaded: the same. */
  readonly counted: number;
  readonly passed: number;
  readonly loadUs: number;
  readonly unloadUs: number;
}

const POOL = { small: 4096, cluster: 4096, jumbo: 1 };
const BATCH = 256;
const FCS = 4;
const ETHERTYPE = 0x88b5;
/** Batches of one turn: about 4 ms. */
const TURN = 192;

const align = (n: number) => (n + 63) & ~63;

export interface Station {
  readonly stack: Stack;
  readonly firmware: Firmware;
  readonly driver: Driver;
  readonly ifp: Ifnet;
}

function station(name: string, port: Port, last: number): Station {
  const scratchOffset = align(ringBytes());
  const poolOffset = align(scratchOffset + scratchBytes(port));
  const bytes = poolOffset + MbufPool.bytes(POOL);
  const memory = new Memory(native?.allocate(bytes) ?? new ArrayBuffer(bytes));
  const pool = new MbufPool(POOL, memory.buffer, poolOffset);
  const stack = new Stack({ clock: new Clock(0), random: new SeededRandom(last), pool });
  const firmware = new Firmware({ memory, scratchOffset, port, mac: Uint8Array.of(2, 0, 0, 0, 0, last) });
  firmware.powerOn();
  const driver = new Driver({ name, bar: firmware.bar, pool, ringOffset: 0 });
  stack.interfaces.attach(driver.ifp);
  stack.interfaces.setUp(driver.ifp, true);
  return { stack, firmware, driver, ifp: driver.ifp };
}

/** The filter that only counts. */
export function countingKext(): Kext & { readonly counters: { input: number; output: number } } {
  const counters = { input: 0, output: 0 };
  return {
    counters,
    manifest: {
      identifier: 'org.nke.bench.Count',
      version: '1.0.0',
      kind: 'filter',
      dependencies: { [KPI_IDENTIFIER]: KPI_VERSION },
    },
    start: kpi => {
      kpi.counters('bench.count', counters);
      return kpi.iflt_attach({
        name: 'count',
        input: (_ifp, m) => {
          counters.input++;
          return m;
        },
        output: (_ifp, m) => {
          counters.output++;
          return m;
        },
      });
    },
    stop: () => 0,
  };
}

/** Two hosts on a cable, the first sends frames of an experimental EtherType to the second, which counts them. */
export function cards(bytes = 64) {
  const [left, right] = createWire();
  const a = station('a', left, 1);
  const b = station('b', right, 2);
  let sent = 0;
  let received = 0;
  const bpool = b.stack.pool;
  b.stack.interfaces.attachProtocol(ETHERTYPE, (_ifp, m) => {
    received++;
    bpool.freem(m);
  });
  const now = 0;
  const turn = () => {
    a.stack.interfaces.flush();
    b.stack.interfaces.flush();
    a.firmware.step(now);
    b.firmware.step(now);
    b.driver.poll(2 * BATCH);
    if (a.driver.pending()) a.driver.poll(BATCH);
    b.firmware.step(now); // what the refilled ring now has room for
  };
  for (let i = 0; i < 10 && !(a.ifp.link && b.ifp.link); i++) turn();
  if (!a.ifp.link) throw new Error('the cable has no carrier');
  const { pool, interfaces } = a.stack;
  const length = bytes - FCS;
  const batch = () => {
    for (let i = 0; i < BATCH; i++) {
      const m = pool.get(length);
      if (m === M_NULL) break;
      const at = pool.off[m]!;
      // To 02:00:00:00:00:02, from 02:00:00:00:00:01.
      pool.dv.setUint32(at, 0x02000000);
      pool.dv.setUint32(at + 4, 0x00020200);
      pool.dv.setUint32(at + 8, 0x00000001);
      pool.dv.setUint16(at + 12, ETHERTYPE);
      pool.len[m] = length;
      pool.pktlen[m] = length;
      if (interfaces.transmit(a.ifp, m) >= 0) sent++;
    }
    turn();
  };
  return {
    a,
    b,
    batch,
    totals: () => ({ sent, received }),
    drain: () => {
      for (let i = 0; i < 16; i++) turn();
    },
    close: () => {
      a.firmware.close();
      b.firmware.close();
    },
  };
}

export function kextFramesRun(bytes: number, seconds: number): KextFramesRun {
  const net = cards(bytes);
  const { a, b, batch } = net;
  /** Frames a second of one turn. */
  const measure = (batches: number): { frames: number; ms: number } => {
    const before = net.totals().received;
    const start = performance.now();
    for (let i = 0; i < batches; i++) batch();
    return { frames: net.totals().received - before, ms: performance.now() - start };
  };
  while (net.totals().received < 2_000_000) {
    const before = net.totals().received;
    batch();
    if (net.totals().received === before) throw new Error('no frame arrived');
  }
  const first: number[] = [];
  const until = performance.now() + seconds * 250;
  while (performance.now() < until) first.push(rate(measure(TURN)));

  const none: number[] = [];
  const counting: number[] = [];
  const unloaded: number[] = [];
  let counted = 0;
  let passed = 0;
  let loads = 0;
  let loadMs = 0;
  let unloadMs = 0;
  const { kexts } = b.stack;
  const cycle = (count: boolean) => {
    const n = measure(TURN);
    const k = countingKext();
    const t0 = performance.now();
    if (!kexts.load(k).ok) throw new Error('the filter does not load');
    const t1 = performance.now();
    const c = measure(TURN);
    const t2 = performance.now();
    if (!kexts.unload(k.manifest.identifier).ok) throw new Error('the filter does not unload');
    const t3 = performance.now();
    const u = measure(TURN);
    if (!count) return;
    none.push(rate(n));
    counting.push(rate(c));
    unloaded.push(rate(u));
    passed += c.frames;
    counted += k.counters.input;
    loads++;
    loadMs += t1 - t0;
    unloadMs += t3 - t2;
  };
  for (let i = 0; i < 30; i++) cycle(false); // the compiler has seen it all
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) cycle(true);
  const { oerrors, odrops } = a.ifp.counters;
  if (oerrors + odrops > 0) throw new Error(`${oerrors + odrops} frames were dropped by the sender's driver`);
  net.close();
  return {
    before: median(first),
    none: median(none),
    counting: median(counting),
    unloaded: median(unloaded),
    counted,
    passed,
    loadUs: (loadMs / loads) * 1000,
    unloadUs: (unloadMs / loads) * 1000,
  };
}

const rate = (x: { frames: number; ms: number }): number => (x.frames / x.ms) * 1000;
/** Of the turns: one in which the machine did something else counts as one. */
const median = (x: readonly number[]): number => x.toSorted((p, q) => p - q)[x.length >> 1] ?? 0;

if (process.argv[1] === fileURLToPath(import.meta.url))
  process.stdout.write(
    `${JSON.stringify(kextFramesRun(Number(process.argv[2] ?? 64), Number(process.argv[3] ?? 1)))}\n`,
  );
