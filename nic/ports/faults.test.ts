import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FaultOptions, FaultPort } from './faults.js';
import { etherEnd, readPayload, writePayload } from './packets.fixture.js';
import { portContract } from './port.contract.js';
import { Batch, Memory } from './port.js';
import { createWire } from './wire.js';

const MS = 1_000_000;
const MAC_A = Uint8Array.of(2, 0, 0, 0, 0, 1);
const MAC_B = Uint8Array.of(2, 0, 0, 0, 0, 2);

/** xorshift32: enough chance for a test. */
function random(seed: number) {
  let x = seed;
  return {
    u32() {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      return x >>> 0;
    },
  };
}

portContract(
  'wire behind faults that are all off',
  () => {
    const [a, b] = createWire();
    return {
      a: etherEnd(new FaultPort(a, random(1)), MAC_B, MAC_A),
      b: etherEnd(new FaultPort(b, random(2)), MAC_A, MAC_B),
    };
  },
  { smallest: 22, longest: p => p.capabilities.mtu + 18, refusesWithin: 0, oversize: 'fault_oversize' },
);

/** A wire whose first end is troubled, and a count of what comes out at the other: seeds in order, -1 for a bent packet. */
class Bench {
  readonly port: FaultPort;
  readonly memory = new Memory(new ArrayBuffer(1 << 17));
  readonly far = new Memory(new ArrayBuffer(1 << 17));
  readonly out: number[] = [];
  readonly times: number[] = [];
  readonly #b;
  readonly #tx = new Batch(1);
  readonly #rx = new Batch(32);
  constructor(options: FaultOptions, seed = 42, slots = 4096) {
    const [a, b] = createWire({ slots });
    this.port = new FaultPort(a, random(seed), options);
    this.#b = b;
    this.port.open(this.memory);
    b.open(this.far);
    for (let i = 0; i < 32; i++) {
      this.#rx.off[i] = i * 2048;
      this.#rx.cap[i] = 2048;
    }
  }
  send(seed: number, len: number, now: number): void {
    writePayload(this.memory.u8, 14, len, seed);
    this.#tx.count = 1;
    this.#tx.len[0] = len;
    assert.equal(this.port.transmit(this.#tx, now), 1);
  }
  /** Runs the port and reads the far end. */
  poll(now: number): void {
    this.port.receive(new Batch(1), 0, now);
    while (this.#b.receive(this.#rx, 32, now) > 0) {
      for (let i = 0; i < this.#rx.count; i++) {
        this.out.push(readPayload(this.far.u8, this.#rx.off[i]! + 14, this.#rx.off[i]! + this.#rx.len[i]!));
        this.times.push(now);
      }
    }
  }
  /** Runs in virtual time until nothing is held. */
  drain(): number {
    let now = 0;
    for (let i = 0; i < 1e6; i++) {
      const due = this.port.deadline();
      if (due === Number.POSITIVE_INFINITY) break;
      this.poll((now = due));
    }
    this.balance();
    return now;
  }
  /** Every packet is accounted for. */
  balance(): void {
    const c = this.port.counters;
    assert.equal(
      c.fault_in + c.fault_duplicated,
      c.fault_out +
        this.port.held +
        c.fault_lost +
        c.fault_lost_burst +
        c.fault_queue_full +
        c.fault_held_full +
        c.fault_oversize +
        c.fault_mtu,
    );
  }
}

const N = 4000;
const within = (value: number, want: number, margin: number) =>
  assert.ok(Math.abs(value - want) <= margin, `${value} is not within ${margin} of ${want}`);

test('faults: loss, near its probability, order kept', () => {
  const w = new Bench({ loss: 0.1 });
  for (let i = 0; i < N; i++) w.send(i, 100, i);
  w.poll(N);
  w.balance();
  within(w.port.counters.fault_lost, 400, 120);
  assert.equal(w.out.length, N - w.port.counters.fault_lost);
  assert.ok(w.out.every((s, i) => i === 0 || s > w.out[i - 1]!));
});

test('faults: certain loss loses all, certain duplication doubles all', () => {
  const lost = new Bench({ loss: 1 });
  const twice = new Bench({ duplicate: 1 });
  for (let i = 0; i < 100; i++) {
    lost.send(i, 60, i);
    twice.send(i, 60, i);
  }
  lost.poll(100);
  twice.poll(100);
  assert.equal(lost.out.length, 0);
  assert.deepEqual(
    twice.out,
    Array.from({ length: 200 }, (_, i) => i >> 1),
  );
  twice.balance();
});

test('faults: Gilbert-Elliott loses in bursts of the length that it is told', () => {
  const w = new Bench({ burst: { toBad: 0.02, toGood: 0.25 } });
  for (let i = 0; i < N; i++) w.send(i, 60, i);
  w.poll(N);
  w.balance();
  const lost = w.port.counters.fault_lost_burst;
  within(lost / N, 0.02 / 0.27, 0.04);
  let bursts = 0;
  for (let i = 1; i < w.out.length; i++) if (w.out[i]! > w.out[i - 1]! + 1) bursts++;
  within(lost / bursts, 4, 1.5);
});

test('faults: corruption flips the bits it says, in what it counts, and nowhere else', () => {
  const w = new Bench({ corrupt: 0.2, corruptBits: 2 });
  for (let i = 0; i < 1000; i++) w.send(i, 200, i);
  w.poll(1000);
  w.balance();
  within(w.port.counters.fault_corrupted, 200, 60);
  const bent = w.out.filter(s => s === -1).length;
  // Two flips of one bit undo each other, rarely.
  within(bent, w.port.counters.fault_corrupted, 3);
  assert.equal(w.out.length, 1000);
});

test('faults: corruption above a port that fills in the CRC32c is refused', () => {
  const [a] = createWire();
  const filling = Object.create(a, { capabilities: { value: { ...a.capabilities, sctpCrc: true } } });
  assert.throws(() => new FaultPort(filling, random(1), { corrupt: 0.1 }), /sctpCrc: false/);
  assert.throws(() => new FaultPort(a, random(1), { loss: 1.5 }), RangeError);
  assert.throws(() => new FaultPort(a, random(1), { delay: -1 }), RangeError);
});

test('faults: delay holds for exactly so long, jitter within its bound, and the deadline says when', () => {
  const w = new Bench({ delay: 5 * MS });
  w.send(1, 60, 1000);
  w.poll(5 * MS + 999);
  assert.equal(w.out.length, 0);
  assert.equal(w.port.deadline(), 5 * MS + 1000);
  w.poll(5 * MS + 1000);
  assert.deepEqual(w.out, [1]);
  assert.equal(w.port.deadline(), Number.POSITIVE_INFINITY);

  const j = new Bench({ delay: MS, jitter: 2 * MS });
  for (let i = 0; i < 500; i++) j.send(i, 60, 0);
  j.drain();
  assert.equal(j.out.length, 500);
  assert.ok(j.times.every(t => t >= MS && t < 3 * MS));
  assert.ok(Math.max(...j.times) - Math.min(...j.times) > 1.5 * MS);
  assert.deepEqual(
    [...j.out].sort((x, y) => x - y),
    Array.from({ length: 500 }, (_, i) => i),
  );
});

test('faults: reordering lets later packets overtake, and loses none', () => {
  const w = new Bench({ reorder: 0.1, reorderDelay: 10 });
  for (let i = 0; i < 1000; i++) {
    w.send(i, 60, i);
    w.poll(i);
  }
  w.drain();
  assert.equal(w.out.length, 1000);
  let late = 0;
  for (let i = 1; i < w.out.length; i++) if (w.out[i]! < w.out[i - 1]!) late++;
  within(w.port.counters.fault_reordered, 100, 40);
  assert.ok(late > 40);
});

test('faults: a rate spaces packets, and its queue drops from the tail', () => {
  // 8 Mb/s: a packet of 1,000 bytes takes 1 ms; ten of them may wait.
  const w = new Bench({ rate: 8_000_000, queueBytes: 10_000 });
  for (let i = 0; i < 15; i++) w.send(i, 1000, 0);
  assert.equal(w.port.counters.fault_queue_full, 5);
  const end = w.drain();
  assert.deepEqual(w.out, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(
    w.times,
    Array.from({ length: 10 }, (_, i) => (i + 1) * MS),
  );
  // An idle line earns no credit.
  w.send(20, 1000, end + 100 * MS);
  assert.equal(w.port.deadline(), end + 101 * MS);
});

test('faults: a queue bounded in packets has room again when the line has sent one; overhead costs line time', () => {
  // 8 Mb/s: 976 bytes and 24 of overhead take 1 ms.
  const w = new Bench({ rate: 8_000_000, queuePackets: 3, overhead: 24 });
  for (let i = 0; i < 5; i++) w.send(i, 976, 0);
  assert.equal(w.port.counters.fault_queue_full, 2);
  w.poll(MS);
  w.send(5, 976, MS);
  w.send(6, 976, MS);
  assert.equal(w.port.counters.fault_queue_full, 3);
  w.drain();
  assert.deepEqual(w.out, [0, 1, 2, 5]);
  assert.deepEqual(
    w.times,
    [1, 2, 3, 4].map(t => t * MS),
  );
  // As many as there are places in the store, over and over: the ring of line times goes round.
  const v = new Bench({ rate: 8_000_000, queuePackets: 4, held: 5 });
  for (let i = 0; i < 40; i++) {
    v.send(i, 1000, i * MS);
    v.poll((i + 1) * MS);
  }
  assert.equal(v.out.length, 40);
});

test('faults: packets longer than the path are lost and counted, the link-layer header aside', () => {
  const w = new Bench({ mtu: 1000 });
  w.send(0, 1014, 0);
  w.send(1, 1015, 0);
  w.poll(0);
  assert.deepEqual(w.out, [0]);
  assert.equal(w.port.counters.fault_mtu, 1);
  w.balance();
  assert.throws(() => new Bench({ mtu: -1 }), RangeError);
  assert.throws(() => new Bench({ queuePackets: Number.POSITIVE_INFINITY }), RangeError);
});

test('faults: the tap sees each packet as it leaves, and when', () => {
  const w = new Bench({ delay: 10, duplicate: 1 });
  const seen: number[][] = [];
  w.port.tap = (u8, off, len, now) => seen.push([readPayload(u8, off + 14, off + len), len, now]);
  w.send(3, 100, 5);
  w.drain();
  assert.deepEqual(seen, [
    [3, 100, 15],
    [3, 100, 15],
  ]);
});

test('faults: the store is bounded, what it holds at close is counted', () => {
  const w = new Bench({ delay: MS, held: 8 });
  for (let i = 0; i < 20; i++) w.send(i, 60, 0);
  assert.equal(w.port.held, 8);
  assert.equal(w.port.counters.fault_held_full, 12);
  w.balance();
  w.port.close();
  assert.equal(w.port.counters.fault_closed, 8);
});

test('faults: a full port below keeps due packets in the store, in order', () => {
  const w = new Bench({ held: 200 }, 1, 50);
  for (let i = 0; i < 120; i++) w.send(i, 60, i);
  assert.equal(w.port.held, 70);
  assert.equal(w.port.deadline(), Number.POSITIVE_INFINITY, 'its wake comes next, not a time');
  for (let i = 0; i < 4; i++) w.poll(200);
  assert.deepEqual(
    w.out,
    Array.from({ length: 120 }, (_, i) => i),
  );
  w.balance();
});

test('faults: the same seed gives the same run, another seed another', () => {
  const run = (seed: number) => {
    const w = new Bench({ loss: 0.05, duplicate: 0.05, reorder: 0.1, jitter: MS, corrupt: 0.02 }, seed);
    for (let i = 0; i < 500; i++) w.send(i, 80, i * 1000);
    w.drain();
    return w.out.join();
  };
  assert.equal(run(7), run(7));
  assert.notEqual(run(7), run(8));
});

test('faults: a train received below comes out as single packets with true lengths', () => {
  const [a, b] = createWire({ carries: 'ip', train: 65535 });
  const port = new FaultPort(b, random(3));
  const ma = new Memory(new ArrayBuffer(8192));
  const mb = new Memory(new ArrayBuffer(8192));
  a.open(ma);
  port.open(mb);
  assert.equal(port.capabilities.train, 0);
  ma.u8.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 253]);
  for (let i = 20; i < 20 + 2500; i++) ma.u8[i] = i * 3;
  const tx = new Batch(1);
  tx.count = 1;
  tx.len[0] = 2520;
  tx.segsz[0] = 1000;
  tx.hdrlen[0] = 20;
  a.transmit(tx, 0);
  const rx = new Batch(2);
  rx.off.set([0, 2000]);
  rx.cap.fill(2000);
  const got: number[] = [];
  const bytes: number[] = [];
  for (let round = 0; round < 2; round++) {
    port.receive(rx, 2, 0);
    for (let i = 0; i < rx.count; i++) {
      got.push(rx.len[i]!);
      assert.equal(mb.dv.getUint16(rx.off[i]! + 2), rx.len[i]);
      bytes.push(...mb.u8.subarray(rx.off[i]! + 20, rx.off[i]! + rx.len[i]!));
    }
  }
  assert.deepEqual(got, [1020, 1020, 520]);
  assert.deepEqual(bytes, [...ma.u8.subarray(20, 2520)]);
  a.close();
  port.close();
});
