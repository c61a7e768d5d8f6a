/**
 * One side of `framesOverPort`, a process of its own: `send` fills a port until it is killed, `receive` counts, `both` does the
 * two ends of a cable in one loop.
 *
 *   node dist/bench/frames-port-run.js send|receive|both PORT BYTES SECONDS
 *
 * BYTES count the FCS. The frames are IPv4 with UDP to the discard port between fixed addresses. Prints {"frames","seconds"} once
 * SECONDS have been measured, after a warm-up that begins with the first frame.
 */

import { fileURLToPath } from 'node:url';
import { native } from '../nic/native.js';
import { createPort, Wires } from '../nic/ports/open.js';
import { Batch, Memory, type Port } from '../nic/ports/port.js';

export interface FramesPortRun {
  readonly frames: number;
  readonly seconds: number;
}

const FCS = 4;
const ETHER = 14;
const BATCH = 64;
const WARMUP_MS = 300;
const MAC_A = [2, 0, 0, 0, 0, 1];
const MAC_B = [2, 0, 0, 0, 0, 2];
/** Turns of a busy loop between two turns of Node's. */
const STRETCH = 64;

class Side {
  readonly port: Port;
  readonly memory: Memory;
  readonly batch = new Batch(BATCH);
  readonly stride: number;
  constructor(port: Port) {
    const caps = port.capabilities;
    this.port = port;
    this.stride = Math.max(2048, caps.train, caps.mtu + 18);
    this.memory = new Memory(native?.allocate(BATCH * this.stride) ?? new ArrayBuffer(BATCH * this.stride));
    port.open(this.memory);
  }

  /** Fills the batch with frames of `bytes` bytes, without their Ethernet header where the port carries none. */
  fill(bytes: number): void {
    const ether = this.port.capabilities.carries === 'ethernet' ? ETHER : 0;
    const ip = Math.max(60, bytes - FCS) - ETHER;
    for (let i = 0; i < BATCH; i++) {
      const at = i * this.stride;
      const { u8, dv } = this.memory;
      if (ether > 0) u8.set([...MAC_B, ...MAC_A, 8, 0], at);
      const l3 = at + ether;
      u8.set([0x45, 0, ip >>> 8, ip & 255, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 7, 0, 1, 10, 7, 0, 2], l3);
      let sum = 0;
      for (let k = 0; k < 20; k += 2) sum += dv.getUint16(l3 + k);
      dv.setUint16(l3 + 10, ~((sum & 0xffff) + (sum >>> 16)) & 0xffff);
      dv.setUint16(l3 + 20, 9899);
      dv.setUint16(l3 + 22, 9899);
      dv.setUint16(l3 + 24, ip - 20);
      this.batch.off[i] = at;
      this.batch.len[i] = ip + ether;
      this.batch.segsz[i] = 0;
      this.batch.hdrlen[i] = 0;
    }
    this.batch.count = BATCH;
  }

  /** Packets that a receive call brings, those of trains counted singly. */
  take(now: number): number {
    const { batch } = this;
    for (let i = 0; i < BATCH; i++) {
      batch.off[i] = i * this.stride;
      batch.cap[i] = this.stride;
    }
    const n = this.port.receive(batch, BATCH, now);
    let packets = 0;
    for (let i = 0; i < n; i++) {
      const size = batch.segsz[i]!;
      packets += size > 0 ? Math.ceil((batch.len[i]! - batch.hdrlen[i]!) / size) : 1;
    }
    return packets;
  }
}

const turn = () => new Promise<void>(resolve => setImmediate(resolve));
const woken = (port: Port) => new Promise<void>(resolve => port.arm(resolve));

async function send(side: Side, bytes: number): Promise<never> {
  side.fill(bytes);
  for (;;) {
    for (let i = 0; i < STRETCH; i++) {
      // What was refused is given again; as all frames are alike, the whole batch may be.
      if (side.port.transmit(side.batch, 0) < BATCH) {
        await woken(side.port);
        break;
      }
    }
    await turn();
  }
}

/** Counts until the time is over; `more` brings frames on their way, or waits for them. */
async function count(side: Side, seconds: number, more: () => Promise<void> | undefined): Promise<FramesPortRun> {
  let first = 0;
  let begin = 0;
  let frames = 0;
  for (let idle = 0; ; idle++) {
    const n = side.take(0);
    if (n === 0 || idle % STRETCH === 0) await more();
    const now = performance.now();
    if (n > 0 && first === 0) first = now;
    if (first === 0) continue;
    if (begin === 0) {
      if (now - first > WARMUP_MS) begin = now;
      continue;
    }
    frames += n;
    if (now - begin >= seconds * 1000) return { frames, seconds: (now - begin) / 1000 };
  }
}

async function main(role: string, spec: string, bytes: number, seconds: number): Promise<void> {
  const wires = new Wires();
  // A packet or xdp port receives for one station.
  const station = { mac: Uint8Array.from(role === 'send' ? MAC_A : MAC_B) };
  const make = () => new Side(createPort(spec, { wires, packet: station, xdp: station }));
  if (role === 'send') return send(make(), bytes);
  if (role !== 'both') {
    const sink = make();
    process.stdout.write('ready\n');
    print(await count(sink, seconds, () => woken(sink.port)));
    sink.port.close();
    return;
  }
  const ports = [createPort(spec, { wires }), createPort(spec, { wires })] as const;
  const [a, b] = [new Side(ports[0]), new Side(ports[1])];
  a.fill(bytes);
  print(
    await count(b, seconds, () => {
      a.port.transmit(a.batch, 0);
      return undefined;
    }),
  );
  a.port.close();
  b.port.close();
}

function print(r: FramesPortRun): void {
  process.stdout.write(`${JSON.stringify(r)}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [role = '', spec = '', bytes = '64', seconds = '1'] = process.argv.slice(2);
  await main(role, spec, Number(bytes), Number(seconds));
}
