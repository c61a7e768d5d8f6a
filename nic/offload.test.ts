import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OffloadEngine, ScratchRing } from './offload.js';
import { Memory } from './ports/port.js';

const memory = new Memory(new ArrayBuffer(1 << 18));
const engine = new OffloadEngine(memory, 64);

/** The sum of RFC 1071 §4.1, as plainly as can be. */
function plainSum(bytes: Uint8Array): number {
  let s = 0;
  for (let i = 0; i < bytes.length; i += 2) s += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (s > 0xffff) s = (s & 0xffff) + Math.floor(s / 65536);
  return s;
}
const swap = (x: number) => ((x & 0xff) << 8) | (x >>> 8);

test('the Internet checksum agrees with the plain one for every alignment and many lengths', () => {
  let x = 1;
  for (let i = 0; i < 70_000; i++) memory.u8[i] = x = ((Math.imul(x, 75) + 74) % 65537) & 255;
  for (const len of [0, 1, 2, 3, 7, 8, 20, 21, 40, 63, 64, 65, 1000, 1459, 1460, 65_535])
    for (let off = 0; off < 8; off++)
      assert.equal(swap(engine.sum(off, len)), plainSum(memory.u8.subarray(off, off + len)), `${off} ${len}`);
  memory.u8.fill(255, 0, 66_000);
  assert.equal(engine.sum(2, 65_534), 0xffff);
});

/** Writes an Ethernet frame with a header by hand; returns its length. */
function write(at: number, hex: string, tail = 0): number {
  const b = Buffer.from(hex.replaceAll(' ', ''), 'hex');
  memory.u8.set(b, at);
  memory.u8.fill(0, at + b.length, at + b.length + tail);
  return b.length + tail;
}
const ETH = '020000000001 020000000002';

test('parse finds headers, padding, VLAN tags, extension headers and fragments', () => {
  let n = write(2, `${ETH} 0800 45000020 00000000 4084 0000 0a000001 0a000002`, 26);
  assert.ok(engine.parse(2, n));
  assert.deepEqual([engine.ip, engine.proto, engine.l3, engine.l4, engine.end], [4, 132, 16, 36, 48]);
  assert.equal(engine.sctpAt(false), 36);
  n = write(2, `${ETH} 8100 0005 0800 46000020 00000000 4011 0000 0a000001 0a000002 01010101`, 8);
  assert.ok(engine.parse(2, n));
  assert.deepEqual(
    [engine.l3, engine.l4, engine.isUdp, engine.sctpAt(true), engine.sctpAt(false)],
    [20, 44, true, 52, -1],
  );
  n = write(2, `${ETH} 0800 45000020 00002000 4084 0000 0a000001 0a000002`, 12);
  assert.ok(engine.parse(2, n));
  assert.ok(engine.fragment);
  assert.equal(engine.sctpAt(true), -1);
  const addresses = '00'.repeat(32);
  n = write(
    2,
    `${ETH} 86dd 60000000 0024 00 40 ${addresses} 3c00000000000000 84 01 0000 00000000 00000000 00000000`,
    12,
  );
  assert.ok(engine.parse(2, n));
  assert.deepEqual([engine.ip, engine.proto, engine.l4], [6, 132, 2 + 14 + 40 + 8 + 16]);
  n = write(2, `${ETH} 86dd 60000000 0010 2c 40 ${addresses} 8400000100000000 0000000000000000`);
  assert.ok(engine.parse(2, n));
  assert.ok(engine.fragment);
  n = write(2, `${ETH} 86dd 60000000 0010 2c 40 ${addresses} 8400000000000000 0000000000000000`);
  assert.ok(engine.parse(2, n) && !engine.fragment, 'an atomic fragment is whole');
});

test('parse refuses what is cut short or lies about its length', () => {
  const whole = write(2, `${ETH} 0800 45000020 00000000 4084 0000 0a000001 0a000002`, 12);
  for (let len = 0; len < whole; len++) assert.equal(engine.parse(2, len), false, `${len}`);
  const bad = [
    `${ETH} 0800 44000020 00000000 4084 0000 0a000001 0a000002`, // header of 16 bytes
    `${ETH} 0800 4f000020 00000000 4084 0000 0a000001 0a000002`, // header longer than the packet
    `${ETH} 0800 45000010 00000000 4084 0000 0a000001 0a000002`, // total length below the header's
    `${ETH} 0800 65000020 00000000 4084 0000 0a000001 0a000002`, // version 6 in an IPv4 frame
    `${ETH} 0806 45000020 00000000 4084 0000 0a000001 0a000002`,
  ];
  for (const hex of bad) assert.equal(engine.parse(2, write(2, hex, 12)), false, hex);
  const loop = `${ETH} 86dd 60000000 0008 00 40 ${'00'.repeat(32)} 00ff000000000000`;
  assert.equal(engine.parse(2, write(2, loop)), false);
});

test('parse holds against random bytes: whatever it finds lies inside the frame', () => {
  let seed = 99;
  const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) >>> 16;
  for (let i = 0; i < 50_000; i++) {
    const len = random() % 120;
    for (let k = 0; k < len; k++) memory.u8[2 + k] = random();
    if (len > 16) {
      memory.dv.setUint16(14, i & 1 ? 0x86dd : 0x0800);
      memory.u8[16] = i & 1 ? 0x60 : 0x45 + (random() % 3);
      memory.dv.setUint16(i & 1 ? 20 : 18, random() % 120);
      memory.u8[i & 1 ? 22 : 25] = [0, 17, 43, 44, 60, 132][random() % 6]!;
    }
    if (!engine.parse(2, len)) continue;
    assert.ok(engine.l3 >= 16 && engine.l4 >= engine.l3 + 20 && engine.l4 <= engine.end && engine.end <= 2 + len);
    const at = engine.sctpAt(true);
    assert.ok(at < 0 || (at >= engine.l4 && at <= engine.end));
    if (engine.isUdp) engine.udpGood();
  }
});

test('IPv4 and UDP checksums: filled ones are good, every flipped bit is found', () => {
  const n = write(2, `${ETH} 0800 45000024 12340000 4011 0000 0a000001 0a000002 9c40 26ab 0010 0000 0102030405060708`);
  assert.ok(engine.parse(2, n));
  assert.ok(!engine.ipv4Good(16));
  engine.ipv4Fill(16);
  engine.udpFill(4, 16, 36, engine.end);
  // By hand: sum of the header words 4500 0024 1234 4011 0a00 0001 0a00 0002.
  assert.equal(memory.dv.getUint16(26), ~(0x4500 + 0x24 + 0x1234 + 0x4011 + 0xa00 + 1 + 0xa00 + 2) & 0xffff);
  assert.ok(engine.ipv4Good(16) && engine.udpGood());
  for (let bit = 0; bit < 20 * 8; bit++) {
    if (bit < 8) continue; // version and length: another header altogether
    memory.u8[16 + (bit >>> 3)]! ^= 1 << (bit & 7);
    assert.ok(!engine.ipv4Good(16), `bit ${bit}`);
    memory.u8[16 + (bit >>> 3)]! ^= 1 << (bit & 7);
  }
  memory.u8[50]! ^= 4;
  assert.ok(!engine.udpGood());
  memory.dv.setUint16(42, 0);
  assert.ok(engine.udpGood(), 'none, in IPv4');
});

test('a scratch ring gives contiguous, aligned pieces, refuses when full and reuses what is released', () => {
  const ring = new ScratchRing(1024, 4096);
  const a = ring.alloc(1500);
  const markA = ring.mark;
  const b = ring.alloc(1500);
  assert.deepEqual([a % 4, b % 4], [2, 2]);
  assert.ok(b >= a + 1500);
  assert.equal(ring.alloc(1500), -1);
  ring.release(markA);
  assert.equal(ring.alloc(1400), 1026, 'wraps to the start');
  assert.equal(ring.alloc(1400), -1);
  ring.release(ring.mark);
  assert.equal(ring.used, 0);
  assert.ok(ring.alloc(4000) > 0, 'a piece nearly as large as the ring fits an empty ring');
  const before = ring.mark;
  ring.rewind(before - 4096);
  assert.ok(ring.used >= 0);
  assert.equal(ring.alloc(5000), -1);
});
