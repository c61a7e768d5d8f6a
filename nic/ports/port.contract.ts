/**
 * The contract suite that every port must pass: two ends over one medium, given by a factory, and what the caller of
 * `Port` may rely on. Media differ in what they promise; `traits` says which tests hold.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Batch, Memory, type Port } from './port.js';

/** One end of a pair: the port, and how packets that the medium carries to the other end look. */
export interface End {
  readonly port: Port;
  /** Writes a packet of `len` bytes for the other end at `off`; its payload follows `seed`. */
  write(u8: Uint8Array, off: number, len: number, seed: number): void;
  /** The seed of a received packet that the other end wrote and that is whole; -1 for anything else (noise of a kernel). */
  read(u8: Uint8Array, off: number, len: number): number;
}

export interface Pair {
  readonly a: End;
  readonly b: End;
  /** Takes away what the pair needed besides its ports. */
  dispose?(): void;
}

export interface Traits {
  /** Smallest packet that the medium carries, headers included. */
  readonly smallest: number;
  /** Longest that `transmit` may take (an Ethernet port: MTU + 14). */
  readonly longest: (port: Port) => number;
  /** Takes no more when nobody receives, within this many packets; 0: the medium never refuses (it drops). */
  readonly refusesWithin: number;
  /** Name of the counter that a packet longer than `longest` adds to. */
  readonly oversize?: string;
  /** Skip reason, when the pair cannot be made here. */
  readonly skip?: string | false;
}

const REGION = 4 << 20;
const ROOMS = 64;
const MS = 1_000_000;

/** A port with its region and batches, as a caller has them. */
class Host {
  readonly end: End;
  readonly port: Port;
  readonly memory = new Memory(new ArrayBuffer(REGION));
  readonly tx = new Batch(256);
  readonly rx = new Batch(ROOMS);
  readonly room: number;
  constructor(end: End) {
    this.end = end;
    this.port = end.port;
    this.port.open(this.memory);
    const caps = this.port.capabilities;
    this.room = Math.max(caps.train, caps.mtu + 18);
    this.post();
  }
  /** Rooms lie in the second half of the region, or as many as fit. */
  post(): number {
    const n = Math.min(ROOMS, Math.floor(REGION / 2 / this.room));
    for (let i = 0; i < n; i++) {
      this.rx.off[i] = REGION / 2 + i * this.room;
      this.rx.cap[i] = this.room;
    }
    return n;
  }
  /** Fills the transmit batch with packets of the given lengths, seeds from `seed` on. */
  fill(lengths: number[], seed: number): void {
    let at = 64;
    for (const [i, len] of lengths.entries()) {
      this.end.write(this.memory.u8, at, len, seed + i);
      this.tx.off[i] = at;
      this.tx.len[i] = len;
      this.tx.segsz[i] = 0;
      this.tx.hdrlen[i] = 0;
      this.tx.flags[i] = 0;
      at += len + 8;
    }
    this.tx.count = lengths.length;
    assert.ok(at < REGION / 2, 'the test fits its region');
  }
  /** One receive call; the seeds that arrived, trains counted as what their packets say. */
  take(seeds: number[]): number {
    const posted = this.post();
    const n = this.port.receive(this.rx, posted, 0);
    assert.equal(n, this.rx.count);
    assert.ok(n <= posted);
    for (let i = 0; i < n; i++) {
      assert.ok(this.rx.len[i]! <= this.room);
      const seed = this.end.read(this.memory.u8, this.rx.off[i]!, this.rx.len[i]!);
      if (seed >= 0) seeds.push(seed);
    }
    return n;
  }
}

const turn = () => new Promise<void>(resolve => setImmediate(resolve));

/** Waits for a wake, at most `ms`; false when none came. The timer is no measurement: it bounds a failure. */
function woken(port: Port, ms = 2000): Promise<boolean> {
  return new Promise(resolve => {
    const timer = setTimeout(() => {
      port.disarm();
      resolve(false);
    }, ms);
    port.arm(() => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}

/** Receives at `to` until `want` packets came, sleeping by `arm` as the appliance does. */
async function collect(to: Host, want: number): Promise<number[]> {
  const seeds: number[] = [];
  for (let idle = 0; seeds.length < want && idle < 3; ) {
    if (to.take(seeds) > 0) continue;
    if (!(await woken(to.port, 500))) idle++;
  }
  return seeds;
}

/** Reads away what a kernel says on its own. */
async function quiet(to: Host): Promise<void> {
  for (let idle = 0; idle < 5; idle++) {
    if (to.take([]) > 0) idle = 0;
    await turn();
  }
}

/** Sends all of the batch, waiting for room where the port refuses. */
async function sendAll(from: Host): Promise<void> {
  const { tx, port } = from;
  for (let rounds = 0; tx.count > 0; rounds++) {
    assert.ok(rounds < 1000, 'the port takes packets in the end');
    const taken = port.transmit(tx, 0);
    if (taken === tx.count) return;
    for (const column of [tx.off, tx.len]) column.copyWithin(0, taken, tx.count);
    tx.count -= taken;
    if (!(await woken(port))) assert.fail('no wake though the port refused');
  }
}

/** Runs the suite; `make` gives a fresh pair whose ports are not yet open. */
export function portContract(name: string, make: () => Pair | Promise<Pair>, traits: Traits): void {
  const it = (what: string, body: (a: Host, b: Host) => Promise<void> | void) =>
    test(`${name}: ${what}`, { skip: traits.skip ?? false }, async () => {
      const pair = await make();
      let a: Host | undefined;
      let b: Host | undefined;
      try {
        a = new Host(pair.a);
        b = new Host(pair.b);
        await body(a, b);
      } finally {
        pair.a.port.close();
        pair.b.port.close();
        pair.dispose?.();
      }
    });

  it('capabilities, counters from zero, carrier while open', (a, b) => {
    for (const { port } of [a, b]) {
      const caps = port.capabilities;
      assert.ok(['ethernet', 'ip', 'udp'].includes(caps.carries));
      assert.ok(caps.mtu >= 576 && caps.mtu <= 65535);
      assert.ok(caps.train === 0 || (caps.train >= caps.mtu && caps.trainSegments > 1));
      assert.equal(port.carrier, true);
      for (const [key, value] of Object.entries(port.counters)) {
        assert.match(key, /^[a-z0-9_]+$/);
        assert.equal(typeof value, 'number');
      }
      assert.equal(port.counters.tx_packets, 0);
      assert.throws(() => port.open(a.memory), /open already/);
    }
  });

  it('packets of every size arrive whole, in order, both ways', async (a, b) => {
    const longest = traits.longest(a.port);
    const sizes = new Set([traits.smallest, traits.smallest + 1, 127, 128, 129, 576, 1280, longest - 1, longest]);
    const lengths = [...sizes].filter(n => n >= traits.smallest && n <= longest);
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      from.fill(lengths, 100);
      await sendAll(from);
      assert.deepEqual(
        await collect(to, lengths.length),
        lengths.map((_, i) => 100 + i),
      );
      assert.equal(from.port.counters.tx_packets, lengths.length);
      assert.ok(to.port.counters.rx_packets! >= lengths.length);
    }
  });

  it('many batches keep their order, and no call gives more than was posted', async (a, b) => {
    const seen: number[] = [];
    for (let round = 0; round < 5; round++) {
      a.fill(new Array(100).fill(traits.smallest + 40), round * 100);
      await sendAll(a);
      seen.push(...(await collect(b, 100)));
    }
    assert.deepEqual(
      seen,
      Array.from({ length: 500 }, (_, i) => i),
    );
  });

  it('receives no more than posted, and the rest later', async (a, b) => {
    a.fill(new Array(10).fill(traits.smallest + 10), 0);
    await sendAll(a);
    const seeds: number[] = [];
    for (let idle = 0; seeds.length < 10 && idle < 3; ) {
      b.post();
      const n = b.port.receive(b.rx, 3, 0);
      assert.ok(n <= 3);
      for (let i = 0; i < n; i++) {
        const seed = b.end.read(b.memory.u8, b.rx.off[i]!, b.rx.len[i]!);
        if (seed >= 0) seeds.push(seed);
      }
      if (n === 0 && !(await woken(b.port, 500))) idle++;
    }
    assert.deepEqual(seeds, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    b.rx.count = 7;
    assert.equal(b.port.receive(b.rx, 0, 0), 0);
    assert.equal(b.rx.count, 0, 'an empty receive says so in the batch');
  });

  it('what it has taken is no longer read: the caller may write over it', async (a, b) => {
    a.fill(new Array(20).fill(traits.smallest + 60), 500);
    await sendAll(a);
    a.memory.u8.fill(0xee, 0, REGION / 2);
    assert.deepEqual(
      await collect(b, 20),
      Array.from({ length: 20 }, (_, i) => 500 + i),
    );
  });

  it('wakes once per arm, never from inside a call, and not after disarm', async (a, b) => {
    let wakes = 0;
    let inside = false;
    const wake = () => {
      assert.equal(inside, false, 'a wake from inside a method');
      wakes++;
    };
    await quiet(b);
    b.port.arm(wake);
    inside = true;
    a.fill([traits.smallest + 1, traits.smallest + 2, traits.smallest + 3], 0);
    a.port.transmit(a.tx, 0);
    inside = false;
    for (let i = 0; wakes === 0 && i < 2000; i++) await turn();
    for (let i = 0; i < 5; i++) await turn();
    assert.equal(wakes, 1);
    // Nothing was read: armed again, it must wake again.
    b.port.arm(wake);
    for (let i = 0; wakes === 1 && i < 2000; i++) await turn();
    assert.equal(wakes, 2);
    b.port.arm(wake);
    b.port.disarm();
    for (let i = 0; i < 10; i++) await turn();
    assert.equal(wakes, 2);
  });

  it('too long is taken, dropped and counted; those beside it arrive', async (a, b) => {
    const longest = traits.longest(a.port);
    const before = a.port.counters[traits.oversize ?? 'tx_oversize']!;
    a.fill([traits.smallest + 5, longest + 20, traits.smallest + 6], 0);
    await sendAll(a);
    assert.deepEqual(await collect(b, 2), [0, 2]);
    assert.equal(a.port.counters[traits.oversize ?? 'tx_oversize'], before + 1);
  });

  it('an entry outside the region is dropped and counted, never read', async (a, b) => {
    a.fill([traits.smallest + 5, traits.smallest + 5, traits.smallest + 5], 0);
    a.tx.off[1] = REGION - 10;
    const sum = (p: Port) =>
      Object.entries(p.counters).reduce((s, [k, v]) => (/oversize|errors|unsupported/.test(k) ? s + v : s), 0);
    const before = sum(a.port);
    assert.equal(a.port.transmit(a.tx, 0), 3);
    assert.deepEqual(await collect(b, 2), [0, 2]);
    assert.equal(sum(a.port), before + 1);
  });

  it('a room that is too small loses its packet, counted, and the next one arrives', async (a, b) => {
    a.fill([traits.smallest + 300, traits.smallest], 7);
    await sendAll(a);
    const seeds: number[] = [];
    for (let idle = 0; seeds.length < 1 && idle < 3; ) {
      b.post();
      for (let i = 0; i < ROOMS; i++) b.rx.cap[i] = traits.smallest + 100;
      const n = b.port.receive(b.rx, 4, 0);
      for (let i = 0; i < n; i++) {
        const seed = b.end.read(b.memory.u8, b.rx.off[i]!, b.rx.len[i]!);
        if (seed >= 0) seeds.push(seed);
      }
      if (n === 0 && !(await woken(b.port, 300))) idle++;
    }
    assert.deepEqual(seeds, [8]);
    assert.ok(b.port.counters.rx_truncated! + (b.port.counters.fault_rx_truncated ?? 0) >= 1);
  });

  if (traits.refusesWithin > 0) {
    it('refuses when full, and wakes when there is room again', async (a, b) => {
      let taken = 0;
      for (;;) {
        a.fill(new Array(64).fill(traits.smallest + 100), taken);
        const n = a.port.transmit(a.tx, 0);
        taken += n;
        if (n < 64) break;
        assert.ok(taken <= traits.refusesWithin, `took ${taken} packets that nobody received`);
      }
      const [up, seeds] = await Promise.all([woken(a.port), collect(b, taken)]);
      assert.equal(up, true, 'a wake when there was room');
      assert.deepEqual(
        seeds,
        Array.from({ length: taken }, (_, i) => i),
        'what was taken arrived',
      );
      a.fill([traits.smallest], 9);
      assert.equal(a.port.transmit(a.tx, 0), 1);
      assert.deepEqual(await collect(b, 1), [9]);
    });
  }

  it('has no work of its own in a quiet moment', async a => {
    assert.equal(a.port.deadline(), Number.POSITIVE_INFINITY);
    a.port.transmit(Object.assign(a.tx, { count: 0 }), MS);
    assert.equal(a.port.deadline(), Number.POSITIVE_INFINITY);
  });

  it('closes twice, then takes and gives nothing', (a, b) => {
    a.port.arm(() => assert.fail('a wake after close'));
    a.port.close();
    a.port.close();
    assert.equal(a.port.carrier, false);
    a.fill([traits.smallest], 0);
    assert.equal(a.port.transmit(a.tx, 0), 0);
    assert.equal(a.port.receive(a.rx, 4, 0), 0);
    assert.equal(a.rx.count, 0);
    a.port.arm(() => assert.fail('a wake after close'));
    a.port.disarm();
    b.port.close();
  });

  it('opens again after close', async (a, b) => {
    a.port.close();
    a.port.open(a.memory);
    a.fill([traits.smallest + 9], 3);
    await sendAll(a);
    assert.deepEqual(await collect(b, 1), [3]);
  });
}
