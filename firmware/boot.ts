/** Power-on self test: known answers from every unit of the card before it says it is well. The result is a register. */

import { crc32c, sctpCheckBatch, sctpFillBatch } from '../nic/crc32c.js';
import { VIRTIO_MAGIC } from '../nic/registers.js';
import { VirtqDevice, WRITABLE } from '../nic/virtq-device.js';
import { availOffset, DESC_F_WRITE, queueBytes, usedOffset } from '../nic/virtqueue.js';
import type { Card } from './card.js';

export { SELF_TEST_RESULTS as SELF_TEST } from '../nic/registers.js';

export const TEST_REGISTERS = 1;
export const TEST_MEMORY = 2;
export const TEST_CRC32C = 3;
export const TEST_CHECKSUM = 4;
export const TEST_HASH = 5;
export const TEST_VIRTQUEUE = 6;

/** Units that a test of the test may replace by broken ones. */
export interface SelfTestUnits {
  readonly crc32c: typeof crc32c;
}

/** Runs all tests on the card's scratch memory (which must be idle); returns 0 or the code of the first that failed. */
export function selfTest(card: Card, units: SelfTestUnits = { crc32c }): number {
  if (card.registers.get('magic') !== VIRTIO_MAGIC || card.registers.get('version') !== 2) return TEST_REGISTERS;
  if (!memoryHolds(card)) return TEST_MEMORY;
  if (!crcKnows(card, units)) return TEST_CRC32C;
  if (!checksumKnows(card)) return TEST_CHECKSUM;
  if (!hashKnows(card)) return TEST_HASH;
  return queueTurns(card) ? 0 : TEST_VIRTQUEUE;
}

/** Walking patterns in one word of every 4 KiB, ends included. */
function memoryHolds(card: Card): boolean {
  const { dv } = card.memory;
  const { gather, end } = card.scratch;
  for (const pattern of [0x55555555, 0xaaaaaaaa, 0]) {
    for (let at = gather; at + 4 <= end; at += 4096) dv.setUint32(at, (pattern ^ at) >>> 0);
    dv.setUint32(end - 4, pattern);
    for (let at = gather; at + 4 <= end - 4; at += 4096) if (dv.getUint32(at) !== (pattern ^ at) >>> 0) return false;
    if (dv.getUint32(end - 4) !== pattern) return false;
  }
  card.memory.u8.fill(0, gather, end);
  return true;
}

/** RFC 3720 §B.4 and the customary "123456789"; then a packet filled, checked, spoilt and checked. */
function crcKnows(card: Card, units: SelfTestUnits): boolean {
  const { u8 } = card.memory;
  const at = card.scratch.gather;
  for (let i = 0; i < 9; i++) u8[at + i] = 0x31 + i;
  if (units.crc32c(u8, at, 9) !== 0xe3069283) return false;
  u8.fill(0, at, at + 32);
  if (units.crc32c(u8, at, 32) !== 0x8a9136aa) return false;
  const one = (n: number) => new Int32Array([n]);
  const bad: Int32Array = one(0);
  for (let i = 0; i < 64; i++) u8[at + i] = i;
  sctpFillBatch(u8, one(at), one(64), one(0), one(0), 1);
  sctpCheckBatch(u8, one(at), one(64), one(0), one(0), 1, bad);
  if (bad.some(n => n !== 0)) return false;
  u8[at + 40]! ^= 1;
  sctpCheckBatch(u8, one(at), one(64), one(0), one(0), 1, bad);
  return bad[0] === 1;
}

/** The example of RFC 1071 §3: 00 01 f2 03 f4 f5 f6 f7 sums to ddf2. */
function checksumKnows(card: Card): boolean {
  const at = card.scratch.gather;
  card.memory.u8.set([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], at);
  const little = card.engine.sum(at, 8);
  return (((little & 0xff) << 8) | (little >>> 8)) === 0xddf2;
}

/** The vector of the RSS verification suite: 66.9.149.187:2794 to 161.142.100.80:1766. */
function hashKnows(card: Card): boolean {
  const at = card.scratch.gather;
  const { u8, dv } = card.memory;
  u8.fill(0, at, at + 64);
  dv.setUint16(at + 12, 0x0800);
  u8[at + 14] = 0x45;
  dv.setUint16(at + 16, 28);
  u8[at + 23] = 17;
  u8.set([66, 9, 149, 187, 161, 142, 100, 80], at + 26);
  dv.setUint16(at + 34, 2794);
  dv.setUint16(at + 36, 1766);
  if (!card.engine.parse(at, 42)) return false;
  return card.engine.rssHash(true) >>> 0 === 0x51ccc178 && card.engine.rssHash(false) >>> 0 === 0x323e8fc2;
}

/** A queue of four in scratch memory: one writable buffer goes in and comes back. */
function queueTurns(card: Card): boolean {
  const q = new VirtqDevice(card.memory, 4, 4);
  const at = (card.scratch.gather + 15) & ~15;
  const { dv, u8 } = card.memory;
  u8.fill(0, at, at + queueBytes(4));
  if (q.configure(4, at, at + availOffset(4), at + usedOffset(4)) !== '') return false;
  dv.setUint32(at, at + 1024, true);
  dv.setUint32(at + 8, 256, true);
  dv.setUint16(at + 12, DESC_F_WRITE, true);
  dv.setUint16(at + availOffset(4) + 2, 1, true);
  const got = q.pop(4, WRITABLE) === 1 && q.nseg[0] === 1 && q.segAddr[q.first[0]!] === at + 1024;
  q.push(q.head[0]!, 7);
  q.publish();
  return got && dv.getUint16(at + usedOffset(4) + 2, true) === 1 && dv.getUint32(at + usedOffset(4) + 8, true) === 7;
}
