/**
 * A faulty path between two SCTP-in-UDP peers that run in real time: two udp ports of ours on loopback, with the same
 * decorators that the simulated network has. What the near peer sends to the near port leaves the far port for the far
 * peer, and the other way round, with rate, queue, delay and loss each way.
 *
 * As a program, a process of its own: it opens the ports and says which, relays, notes what the far peer has acknowledged
 * each second after its first SACK, and ends by itself.
 *
 *   node dist/bench/relay.js '{"far":9899,"rate":100e6,"delay":25e6,"loss":0.01,"seed":1,"seconds":25}'
 */

import { pathToFileURL } from 'node:url';
import { type FaultOptions, FaultPort } from '../nic/ports/faults.js';
import { Batch, Memory } from '../nic/ports/port.js';
import { createUdpPort } from '../nic/ports/udp.js';
import { streamSeed } from '../simulation/network.js';
import { SeededRandom } from '../stack/kern/clock.js';
import { systemNow } from '../system.js';

const ROOMS = 64;
const ROOM = 2048;
const IP = 20;
const UDP = 8;
const COMMON = 12;
const SACK = 3;
/** The relay looks at its ports so often (ms): a packet of 1,500 bytes takes 0.12 at 100 Mb/s. */
const TICK = 0.1;
/** Ticks until the event loop has a chance (signals). */
const SLICE = 200;

export interface RelayOptions extends FaultOptions {
  /** UDP port of the far peer, on 127.0.0.1. The near peer is whoever writes to the near port. */
  readonly far: number;
  readonly seed?: number;
}

/** What the program prints at its end. */
export interface RelayReport {
  /** Chunks that the far peer had acknowledged cumulatively so many seconds after its first SACK, by index. */
  readonly acked: readonly number[];
  /** Share of one processor that the relay took. */
  readonly cpu: number;
  /** Packets towards the far peer and towards the near one, and what became of them. */
  readonly towardsFar: Readonly<Record<string, number>>;
  readonly towardsNear: Readonly<Record<string, number>>;
}

/** One side: its port on loopback, and the peer behind it. */
class Side {
  readonly port: FaultPort;
  readonly udp: ReturnType<typeof createUdpPort>;
  peer = 0;
  constructor(seed: number, options: FaultOptions) {
    this.udp = createUdpPort({ address: '127.0.0.1', port: 0, train: false, sctpCrc: false });
    this.port = new FaultPort(this.udp, new SeededRandom(seed), { held: 8192, ...options });
  }
}

export class Relay {
  readonly near: Side;
  readonly far: Side;
  /** Cumulative TSN that the far peer has acknowledged, less that of its first SACK; -1 before it. */
  acked = -1;
  #first = 0;
  readonly #memory = new Memory(new ArrayBuffer(ROOMS * ROOM));
  readonly #batch = new Batch(ROOMS);

  /** Opens the ports. Throws PortError. */
  constructor(o: RelayOptions) {
    const { far, seed = 1, ...faults } = o;
    // The chances are those of the simulated network's two hosts: the first loses what goes to the far one.
    this.near = new Side(streamSeed(seed, 2), faults);
    this.far = new Side(streamSeed(seed, 1), faults);
    this.far.peer = far;
    this.near.port.open(this.#memory);
    this.far.port.open(this.#memory);
  }

  /** Relays what is there at `now`, and sends what has fallen due. */
  step(now: number): void {
    this.#pass(this.near, this.far, now);
    this.#pass(this.far, this.near, now);
  }

  #pass(from: Side, to: Side, now: number): void {
    const b = this.#batch;
    const { dv } = this.#memory;
    for (;;) {
      for (let i = 0; i < ROOMS; i++) {
        b.off[i] = i * ROOM;
        b.cap[i] = ROOM;
      }
      const n = from.port.receive(b, ROOMS, now);
      for (let i = 0; i < n; i++) {
        const udp = b.off[i]! + IP;
        if (from === this.near) from.peer = dv.getUint16(udp);
        else this.#look(udp + UDP, b.off[i]! + b.len[i]!);
        // Both ends of every datagram are 127.0.0.1; only the ports change.
        dv.setUint16(udp, to.udp.port);
        dv.setUint16(udp + 2, to.peer);
      }
      if (n > 0) to.port.transmit(b, now);
      if (n < ROOMS) return;
    }
  }

  /** Notes the cumulative TSN of a SACK in the SCTP packet [off, end). */
  #look(off: number, end: number): void {
    const { dv } = this.#memory;
    for (let o = off + COMMON; o + 8 <= end; o += (dv.getUint16(o + 2) + 3) & ~3) {
      if (dv.getUint16(o + 2) < 4) return;
      if (dv.getUint8(o) !== SACK) continue;
      const cum = dv.getInt32(o + 4);
      if (this.acked < 0) this.#first = cum;
      this.acked = Math.max(this.acked, 0, (cum - this.#first) | 0);
    }
  }

  close(): void {
    this.near.port.close();
    this.far.port.close();
  }
}

const numbers = (record: Readonly<Record<string, number>>): Record<string, number> => {
  const out: Record<string, number> = {};
  for (const name in record) if (record[name] !== 0) out[name] = record[name]!;
  return out;
};

async function main(text: string): Promise<void> {
  const { seconds, idle = 20, ...options } = JSON.parse(text) as RelayOptions & { seconds: number; idle?: number };
  const relay = new Relay(options);
  process.stdout.write(`${JSON.stringify({ near: relay.near.udp.port, far: relay.far.udp.port })}\n`);
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  const acked: number[] = [];
  const begun = systemNow();
  let first = 0;
  let used = process.cpuUsage();
  while (acked.length <= seconds) {
    for (let i = 0; i < SLICE; i++) {
      const now = systemNow();
      relay.step(now);
      if (first === 0 && relay.acked >= 0) {
        first = now;
        used = process.cpuUsage();
      }
      if (first > 0 && now >= first + acked.length * 1e9) acked.push(relay.acked);
      // A timer of the event loop has no less than a millisecond; this one is as fine as the kernel's.
      Atomics.wait(sleep, 0, 0, TICK);
    }
    if (first === 0 && systemNow() - begun > idle * 1e9) throw new Error('the relay saw no SACK');
    await new Promise<void>(resolve => setImmediate(resolve));
  }
  const { user, system } = process.cpuUsage(used);
  const report: RelayReport = {
    acked: acked.slice(0, seconds + 1),
    cpu: (user + system) / 1000 / ((systemNow() - first) / 1e6),
    towardsFar: numbers(relay.far.port.counters),
    towardsNear: numbers(relay.near.port.counters),
  };
  relay.close();
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  await main(process.argv[2] ?? '{}');
