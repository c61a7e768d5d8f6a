import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Batch } from './port.js';
import { PacketRing } from './ring.js';

/** A region of bytes that tell where they are, a batch of packets in it, and a batch of rooms in another. */
function bench(capacity = 16) {
  const from = new Uint8Array(4096).map((_, i) => (i * 7) & 255);
  const to = new Uint8Array(4096);
  const tx = new Batch(capacity);
  const rx = new Batch(capacity);
  for (let i = 0; i < capacity; i++) {
    rx.off[i] = i * 200;
    rx.cap[i] = 200;
    rx.flags[i] = 99;
  }
  const send = (ring: PacketRing, ...packets: readonly (readonly [off: number, len: number])[]): number => {
    for (const [i, [off, len]] of packets.entries()) {
      tx.off[i] = off;
      tx.len[i] = len;
    }
    ring.begin(tx);
    const n = ring.placeRun(tx, 0, packets.length, 150, from.length);
    if (n > 0) ring.copyIn(from, new Uint16Array(from.buffer), tx, n);
    return n;
  };
  /** Takes up to `most` and checks that they are the packets at these places. */
  const expect = (
    ring: PacketRing,
    most: number,
    ...packets: readonly (readonly [off: number, len: number])[]
  ): void => {
    ring.begin(rx);
    const n = ring.takeRun(rx, 0, most);
    ring.copyOut(to, new Uint16Array(to.buffer), rx, n);
    assert.equal(n, packets.length);
    for (const [i, [off, len]] of packets.entries()) {
      assert.equal(rx.len[i], len);
      assert.equal(rx.segsz[i], 0);
      assert.equal(rx.flags[i], 0);
      assert.deepEqual(to.subarray(rx.off[i]!, rx.off[i]! + len), from.subarray(off, off + len));
    }
    assert.equal(
      ring.runBytes,
      packets.reduce((sum, p) => sum + p[1], 0),
    );
  };
  return { from, to, tx, rx, send, expect };
}

test('packets pass in runs, one by itself at even and odd places too, and slots bound them', () => {
  const { send, expect } = bench();
  const ring = new PacketRing(4, 1000);
  assert.equal(send(ring, [0, 60], [61, 1], [100, 150]), 3);
  assert.equal(send(ring, [300, 20], [400, 20]), 1, 'four slots');
  assert.equal(ring.count, 4);
  expect(ring, 2, [0, 60], [61, 1]);
  expect(ring, 9, [100, 150], [300, 20]);
  for (const packet of [
    [2, 60],
    [3, 60],
    [4, 61],
    [1000, 150],
    [1001, 149],
  ] as const) {
    assert.equal(send(ring, packet), 1);
    expect(ring, 1, packet);
  }
  expect(ring, 9);
});

test('bytes bound it, and a run goes on at the start of the bytes when that is free', () => {
  const { send, expect } = bench();
  const ring = new PacketRing(100, 400);
  assert.equal(send(ring, [0, 150], [200, 150], [400, 101]), 2, '100 bytes are left at the end');
  expect(ring, 1, [0, 150]);
  assert.equal(send(ring, [500, 90], [600, 100], [700, 60]), 2, 'one at the end, one at the start, 50 left there');
  assert.equal(send(ring, [800, 50], [900, 1]), 1, 'full to the byte');
  expect(ring, 9, [200, 150], [500, 90], [600, 100], [800, 50]);
  assert.equal(send(ring, [5, 150], [6, 150], [7, 100]), 3, 'empty: from the start again');
  expect(ring, 9, [5, 150], [6, 150], [7, 100]);
});

test('a run ends at what is no packet of the region, and at a room that is too small', () => {
  const { tx, rx, send, expect } = bench();
  const ring = new PacketRing(16, 2000);
  for (const bad of [
    [0, 0],
    [0, 151],
    [-1, 20],
    [4090, 7],
    [0x7fffffff, 20],
  ] as const)
    assert.equal(send(ring, [10, 20], bad, [10, 20]), 1, `${bad}`);
  tx.segsz[1] = 10;
  assert.equal(send(ring, [10, 20], [10, 30], [10, 20]), 1, 'a train is placed by itself');
  expect(ring, 4, [10, 20], [10, 20], [10, 20], [10, 20]);
  assert.equal(ring.count, 2);
  rx.cap[1] = 19;
  expect(ring, 4, [10, 20]);
  assert.equal(ring.count, 1);
  rx.cap[1] = 200;
  expect(ring, 4, [10, 20]);
});

test('a batch larger than the first ones leaves what is in the ring as it was', () => {
  const small = bench(2);
  const ring = new PacketRing(200, 20_000);
  small.send(ring, [0, 60], [100, 60]);
  const large = bench(150);
  assert.equal(large.send(ring, ...Array.from({ length: 150 }, (_, i) => [i, 20 + (i % 50)] as const)), 150);
  small.expect(ring, 2, [0, 60], [100, 60]);
  assert.equal(ring.count, 150);
});
