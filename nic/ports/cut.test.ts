import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Native } from '../native.js';
import { TrainCutter } from './cut.js';
import { repairHeaders } from './headers.js';
import { writeIp } from './packets.fixture.js';
import { Batch } from './port.js';

const FRAME = 2048;
const MACS = [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa];

let calls = 0;
const native = {
  copyBatch(src: Uint8Array, from: Int32Array, dst: Uint8Array, at: Int32Array, len: Int32Array, n: number) {
    calls++;
    for (let i = 0; i < n; i++) dst.set(src.slice(from[i]!, from[i]! + len[i]!), at[i]!);
  },
} as unknown as Native;

interface Shape {
  readonly six?: boolean;
  readonly udp?: boolean;
  readonly tag?: boolean;
  /** Payload bytes of all packets. */
  readonly bytes?: number;
}
const SIZE = 200;

/** A train at 100 of a region, its headers those of a packet of another length, and what packet k must be. */
function train({ six = false, udp = false, tag = false, bytes = 4 * SIZE + 60 }: Shape) {
  const src = new Uint8Array(8192);
  const batch = new Batch(1);
  const off = 100;
  const link = tag ? 18 : 14;
  const hdr = link + (six ? 40 : 20) + (udp ? 8 : 0);
  src.set(MACS, off);
  if (tag) src.set([0x81, 0, 0, 7], off + 12);
  src.set(six ? [0x86, 0xdd] : [8, 0], off + link - 2);
  const [from, to] = six ? ['fd00::1', 'fd00::2'] : ['10.7.0.1', '10.7.0.2'];
  const l4 = writeIp(src, off + link, off + hdr + bytes, from, to, udp ? 17 : 132);
  if (udp) src.set([0x26, 0xab, 0x26, 0xac, 0, 0, 0xde, 0xad], l4);
  for (let i = 0; i < bytes; i++) src[off + hdr + i] = i * 7 + (i >>> 6);
  batch.off[0] = off;
  batch.len[0] = hdr + bytes;
  batch.segsz[0] = SIZE;
  batch.hdrlen[0] = hdr;
  const packet = (k: number) => {
    const begin = off + hdr + k * SIZE;
    const payload = src.slice(begin, Math.min(begin + SIZE, off + hdr + bytes));
    const out = Uint8Array.of(...src.slice(off, off + hdr), ...payload);
    repairHeaders(out, link, out.length, false, false);
    return out;
  };
  return { src, batch, packet, count: Math.ceil(bytes / SIZE) };
}

function check(shape: Shape, first = 0): number {
  const { src, batch, packet, count } = train(shape);
  const before = src.slice();
  const frames = new Uint8Array(64 * FRAME).fill(0xee);
  const cutter = new TrainCutter(frames, 64, native);
  const n = count - first;
  // Not in order of address: frames come from wherever they are free.
  for (let k = 0; k < n; k++) cutter.at[k] = ((k * 13) % 64) * FRAME;
  calls = 0;
  cutter.cut(src, batch, 0, first, n);
  for (let k = 0; k < n; k++) {
    const expected = packet(first + k);
    const at = cutter.at[k]!;
    assert.deepEqual(frames.slice(at, at + expected.length), expected, `packet ${first + k}`);
    assert.equal(frames[at + expected.length], 0xee, 'and nothing behind it');
  }
  assert.deepEqual(src, before, 'the train is left as it was');
  return calls;
}

test('cut: every packet has headers that are true for it', () => {
  for (const six of [false, true])
    for (const udp of [false, true]) for (const tag of [false, true]) check({ six, udp, tag });
});

test('cut: one packet, two, whole ones only, a last one of one byte, as many as a train may have', () => {
  for (const bytes of [1, 60, SIZE, SIZE + 1, 2 * SIZE, 5 * SIZE, 30 * SIZE + 1])
    for (const udp of [false, true]) check({ bytes, udp });
});

test('cut: goes on in the middle of a train', () => {
  for (let first = 1; first < 5; first++) for (const udp of [false, true]) check({ udp }, first);
});

test('cut: two calls for the packets of a flow, however many', () => {
  assert.equal(check({ bytes: 30 * SIZE }), 2);
});
