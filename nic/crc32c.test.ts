import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32c, sctpCheck, sctpCheckBatch, sctpCheckBatchSoft, sctpFill, sctpFillBatch } from './crc32c.js';
import { native } from './native.js';

const text = (s: string) => new TextEncoder().encode(s);

/** Bit by bit, straight from the definition: the reference that the tables are held against. */
function slow(u8: Uint8Array, off: number, len: number): number {
  let c = 0xffffffff;
  for (let i = off; i < off + len; i++) {
    c ^= u8[i]!;
    for (let k = 0; k < 8; k++) c = (c & 1 ? 0x82f63b78 ^ (c >>> 1) : c >>> 1) >>> 0;
  }
  return ~c >>> 0;
}

function noise(n: number, seed = 1): Uint8Array {
  const out = new Uint8Array(n);
  let x = seed;
  for (let i = 0; i < n; i++) out[i] = (x = (Math.imul(x, 1664525) + 1013904223) >>> 0) >>> 24;
  return out;
}

test('known vectors: the check value, and iSCSI (RFC 3720 §B.4)', () => {
  const vectors: [Uint8Array, number][] = [
    [text('123456789'), 0xe3069283],
    [new Uint8Array(32), 0x8a9136aa],
    [new Uint8Array(32).fill(255), 0x62a8ab43],
    [Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
    [new Uint8Array(0), 0],
  ];
  for (const [bytes, want] of vectors) {
    assert.equal(crc32c(bytes, 0, bytes.length), want);
    if (native) assert.equal(native.crc32c(bytes, 0, bytes.length) >>> 0, want);
  }
});

test('tables, instruction, folding and definition agree at every length and alignment', () => {
  const u8 = noise(3000);
  for (let len = 0; len < 70; len++) {
    for (let off = 0; off < 9; off++) assert.equal(crc32c(u8, off, len), slow(u8, off, len));
  }
  if (!native) return;
  const had = native.crc32cLevel();
  for (let level = 0; level <= had; level++) {
    assert.equal(native.crc32cLevel(level), level);
    for (let len = 0; len < 390; len += 7) assert.equal(native.crc32c(u8, 3, len) >>> 0, slow(u8, 3, len));
    for (const len of [255, 256, 257, 319, 320, 511, 512, 576, 1023, 1024, 1416, 1440, 2047, 2048, 2990])
      for (const off of [0, 1, 7]) assert.equal(native.crc32c(u8, off, len) >>> 0, slow(u8, off, len), `${off}+${len}`);
  }
});

test('an SCTP packet: the checksum lies lowest byte first (RFC 9260 Appendix A)', () => {
  // A COOKIE ACK: common header and one chunk of four bytes.
  const p = Uint8Array.from([0x13, 0x88, 0x13, 0x89, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, 0x0b, 0, 0, 4]);
  const want = slow(p, 0, p.length);
  assert.equal(sctpFill(p, 0, p.length), true);
  assert.deepEqual([...p.subarray(8, 12)], [want & 255, (want >>> 8) & 255, (want >>> 16) & 255, want >>> 24]);
  assert.equal(sctpCheck(p, 0, p.length), true);
  p[13] = 1;
  assert.equal(sctpCheck(p, 0, p.length), false);
  assert.equal(sctpCheck(p, 0, 11), false, 'shorter than a common header');
  assert.equal(sctpFill(p, 0, 11), false);
});

/** Entries of all shapes: single packets, trains with a short last piece, headers in front. */
function batch() {
  const u8 = noise(40_000, 7);
  const off = Int32Array.from([5, 2000, 12_000, 30_000, 31_000, 31_100, 32_000]);
  const len = Int32Array.from([1480, 28 + 6 * 1452 + 333, 20 + 44, 100, 12, 28, 48 + 3 * 700]);
  const segsz = Int32Array.from([0, 1452, 0, 0, 0, 12, 700]);
  const hdrlen = Int32Array.from([28, 28, 20, 0, 0, 0, 48]);
  return { u8, off, len, segsz, hdrlen, count: off.length };
}

test('a batch of trains and packets: filled, checked, and one flipped bit found in its entry', () => {
  const b = batch();
  const bad = new Int32Array(b.count);
  for (const fill of [true, false]) {
    if (fill) sctpFillBatch(b.u8, b.off, b.len, b.segsz, b.hdrlen, b.count);
    else b.u8[2000 + 28 + 2 * 1452 + 700]! ^= 4;
    // Entry 5 ends in a piece of four bytes, which is no SCTP packet and never good.
    const want = [0, fill ? 0 : 1, 0, 0, 0, 1, 0];
    sctpCheckBatch(b.u8, b.off, b.len, b.segsz, b.hdrlen, b.count, bad);
    assert.deepEqual([...bad], want);
    sctpCheckBatchSoft(b.u8, b.off, b.len, b.segsz, b.hdrlen, b.count, bad);
    assert.deepEqual([...bad], want);
  }
});

test('the C module refuses entries outside the region', { skip: native ? false : 'the C module is not built' }, () => {
  const one = (n: number) => Int32Array.from([n]);
  const u8 = new Uint8Array(100);
  const zero = one(0);
  assert.throws(() => native!.crc32cFill(u8, one(90), one(20), zero, zero, 1), TypeError);
  assert.throws(() => native!.crc32cFill(u8, one(-1), one(20), zero, zero, 1), TypeError);
  assert.throws(() => native!.crc32cFill(u8, zero, one(20), zero, one(21), 1), TypeError);
  assert.throws(() => native!.crc32cFill(u8, zero, one(20), zero, zero, 2), TypeError);
  assert.throws(() => native!.crc32c(u8, 0, 101), TypeError);
});
