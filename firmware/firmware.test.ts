import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Memory, type Port } from '../nic/ports/port.js';
import { createWire } from '../nic/ports/wire.js';
import { RawRing } from '../nic/rawring.fixture.js';
import * as R from '../nic/registers.js';
import * as Q from '../nic/virtqueue.js';
import { SELF_TEST } from './boot.js';
import { scratchBytes } from './card.js';
import { Firmware, type FirmwareOptions } from './firmware.js';
import { CARD_COUNTERS } from './statistics.js';

const RINGS = 1 << 17;
const DATA = 1 << 18;
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const REG = R.REG;

interface Bench {
  memory: Memory;
  fw: Firmware;
  bar: R.Bar;
  rx: RawRing;
  tx: RawRing;
  ctrl: RawRing;
  irqs: number;
}

/** A card driven by hand: registers and rings only. */
function bench(
  port: Port,
  features: number[] = [R.F_VERSION_1, R.F_NET_CTRL_VQ, R.F_NET_CTRL_RX, R.F_NET_CTRL_MAC_ADDR, R.F_NET_NOTF_COAL],
  o: Partial<FirmwareOptions> = {},
): Bench {
  const scratchOffset = RINGS + DATA;
  const memory = new Memory(new ArrayBuffer(scratchOffset + scratchBytes(port)));
  const fw = new Firmware({ memory, scratchOffset, port, mac: MAC, ...o });
  fw.powerOn();
  const { bar } = fw;
  const b: Bench = {
    memory,
    fw,
    bar,
    rx: new RawRing(memory, 0, 64),
    tx: new RawRing(memory, 16384, 64),
    ctrl: new RawRing(memory, 32768, 16),
    irqs: 0,
  };
  bar.interrupt.handler = () => void b.irqs++;
  negotiate(bar, features);
  assert.ok(b.rx.enable(bar, 0) && b.tx.enable(bar, 1) && b.ctrl.enable(bar, 2));
  bar.write(REG.status, 4, 15);
  return b;
}
function negotiate(bar: R.Bar, features: number[]): number {
  bar.write(REG.status, 4, 0);
  bar.write(REG.status, 4, 3);
  const words = R.featureWords(...features);
  for (let i = 0; i < 4; i++) {
    bar.write(REG.driver_feature_select, 4, i);
    bar.write(REG.driver_feature, 4, words[i]!);
  }
  bar.write(REG.status, 4, 11);
  return bar.read(REG.status, 4);
}
function ack(b: Bench): number {
  const isr = b.bar.read(REG.interrupt_status, 4);
  b.bar.write(REG.interrupt_ack, 4, isr);
  return isr;
}
/** Sends a control command through the ring and returns the card's answer. */
function command(b: Bench, ...bytes: number[]): number {
  const at = RINGS;
  b.memory.u8.set(bytes, at);
  b.memory.u8[at + 8000] = 99;
  b.ctrl.set(0, at, bytes.length, Q.DESC_F_NEXT, 1);
  b.ctrl.set(1, at + 8000, 1, Q.DESC_F_WRITE);
  b.ctrl.offer(0);
  b.bar.doorbell(2);
  b.fw.step(0);
  return b.memory.u8[at + 8000]!;
}
function eth(b: Bench, at: number, dst: Uint8Array, type: number, body: Uint8Array): number {
  b.memory.u8.set(dst, at);
  b.memory.u8.set(MAC, at + 6);
  b.memory.dv.setUint16(at + 12, type);
  b.memory.u8.set(body, at + 14);
  return 14 + body.length;
}

test('status: negotiation goes by §3.1.1; what was not offered or lacks its ground is not confirmed', () => {
  const [port] = createWire();
  const { bar, fw } = bench(port);
  assert.equal(negotiate(bar, [R.F_VERSION_1]) & R.STATUS_FEATURES_OK, R.STATUS_FEATURES_OK);
  assert.equal(negotiate(bar, []) & R.STATUS_FEATURES_OK, 0, 'VERSION_1 is compulsory');
  assert.equal(negotiate(bar, [R.F_VERSION_1, 2]) & R.STATUS_FEATURES_OK, 0, 'not offered');
  assert.equal(negotiate(bar, [R.F_VERSION_1, R.F_NET_CTRL_RX]) & R.STATUS_FEATURES_OK, 0, 'needs the control queue');
  assert.equal(
    negotiate(bar, [R.F_VERSION_1, R.F_NKE_GUEST_SCTP_TRAIN]) & R.STATUS_FEATURES_OK,
    0,
    'the port takes no trains',
  );
  bar.write(REG.status, 4, 4);
  assert.equal(bar.read(REG.status, 4) & R.STATUS_DRIVER_OK, 0, 'no DRIVER_OK without FEATURES_OK');
  negotiate(bar, [R.F_VERSION_1]);
  bar.write(REG.driver_feature, 4, 0);
  bar.write(REG.status, 4, R.STATUS_ACKNOWLEDGE);
  assert.equal(bar.read(REG.status, 4), 11, 'bits are never taken away but by reset');
  bar.write(REG.status, 4, 0);
  assert.equal(bar.read(REG.status, 4), 0);
  fw.close();
});

test('queues: refused addresses are counted, sizes shown, one queue reset by itself', () => {
  const [port] = createWire();
  const b = bench(port, [R.F_VERSION_1, R.F_RING_RESET]);
  const { bar } = b;
  bar.write(REG.queue_select, 4, 7);
  assert.equal(bar.read(REG.queue_size_max, 4), 0);
  bar.write(REG.queue_select, 4, 1);
  assert.equal(bar.read(REG.queue_size_max, 4), 1024);
  assert.equal(bar.read(REG.queue_ready, 4), 1);
  bar.write(REG.queue_reset, 4, 1);
  assert.equal(bar.read(REG.queue_reset, 4), 0);
  assert.equal(bar.read(REG.queue_ready, 4), 0);
  bar.write(REG.queue_size, 4, 64);
  bar.write(REG.queue_desc_low, 4, 0xfffffff0);
  bar.write(REG.queue_ready, 4, 1);
  assert.equal(bar.read(REG.queue_ready, 4), 0);
  assert.equal(b.fw.counters.queue_refused, 1);
  assert.equal(b.fw.counters.queue_resets, 1);
  assert.ok(b.tx.enable(bar, 1));
});

test('standard virtio: NEEDS_CSUM is filled into a copy, an indirect chain is gathered, scattered receive buffers are filled', () => {
  const [pa, pb] = createWire();
  const a = bench(pa, [R.F_VERSION_1, R.F_NET_CSUM, R.F_RING_INDIRECT_DESC]);
  const c = bench(pb, [R.F_VERSION_1]);
  // Two receive buffers: one whole, one in three pieces.
  c.rx.set(0, RINGS, 2000, Q.DESC_F_WRITE);
  c.rx.set(1, RINGS + 4096, 12, Q.DESC_F_WRITE | Q.DESC_F_NEXT, 2);
  c.rx.set(2, RINGS + 8192, 20, Q.DESC_F_WRITE | Q.DESC_F_NEXT, 3);
  c.rx.set(3, RINGS + 12288, 1600, Q.DESC_F_WRITE);
  c.rx.set(4, RINGS + 16384, 100, Q.DESC_F_WRITE); // too small
  c.rx.offer(4, 0, 1);
  const body = Uint8Array.from({ length: 101 }, (_, i) => i);
  // First: checksum asked for, whole.
  const at = RINGS + 1024;
  const len = eth(a, at + 12, MAC, 0x1234, body);
  a.memory.u8.fill(0, at, at + 12);
  a.memory.u8[at] = Q.NET_HDR_F_NEEDS_CSUM;
  a.memory.dv.setUint16(at + 6, 20, true);
  a.memory.dv.setUint16(at + 8, 4, true);
  const before = a.memory.u8.slice(at, at + 12 + len);
  a.tx.set(0, at, 12 + len);
  // Second: the same frame, nothing asked for, in an indirect table of three.
  const hdr = RINGS + 60_000;
  RawRing.write(a.memory.dv, RINGS, hdr, 12, Q.DESC_F_NEXT, 1);
  RawRing.write(a.memory.dv, RINGS + 16, at + 12, 30, Q.DESC_F_NEXT, 2);
  RawRing.write(a.memory.dv, RINGS + 32, at + 42, len - 30);
  a.tx.set(1, RINGS, 48, Q.DESC_F_INDIRECT);
  a.tx.offer(0, 1);
  a.fw.step(0);
  c.fw.step(0);
  assert.equal(a.tx.usedIdx, 2);
  assert.deepEqual(a.memory.u8.slice(at, at + 12 + len), before, 'a transmit buffer is not written to');
  assert.equal(c.rx.usedIdx, 3);
  assert.deepEqual(c.rx.usedAt(0), { id: 4, len: 0 });
  assert.deepEqual(c.rx.usedAt(1), { id: 0, len: 12 + len });
  assert.deepEqual(c.rx.usedAt(2), { id: 1, len: 12 + len });
  const first = c.memory.u8.slice(RINGS + 12, RINGS + 12 + len);
  let sum = 0;
  for (let i = 20; i < len; i += 2) sum += (first[i]! << 8) | (first[i + 1] ?? 0);
  // The field held body[10..11] before, which counts as the pseudo-header sum that the driver put there.
  sum += (body[10]! << 8) | body[11]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  assert.equal(sum, 0xffff);
  first.set([body[10]!, body[11]!], 24);
  assert.deepEqual(first.subarray(14), body);
  const second = Uint8Array.of(
    ...c.memory.u8.subarray(RINGS + 8192, RINGS + 8212),
    ...c.memory.u8.subarray(RINGS + 12288, RINGS + 12288 + len - 20),
  );
  assert.deepEqual(second.subarray(14), body);
  assert.equal(c.memory.dv.getUint16(RINGS + 4096 + 10, true), 1, 'num_buffers');
  assert.equal(c.fw.counters.rx_short_buffer, 1);
  assert.equal(a.fw.counters.tx_gathered, 2);
});

test('control commands: known ones are carried out, everything else is answered with ERR', () => {
  const [port] = createWire();
  const b = bench(port);
  const { card } = b.fw;
  assert.equal(command(b, Q.CTRL_RX, Q.CTRL_RX_PROMISC, 1), Q.NET_OK);
  assert.equal(card.filter.promisc, true);
  assert.equal(command(b, Q.CTRL_MAC, Q.CTRL_MAC_ADDR_SET, 2, 1, 2, 3, 4, 5), Q.NET_OK);
  assert.equal(b.bar.read(REG.mac + 5, 1), 5);
  assert.equal(command(b, Q.CTRL_MAC, Q.CTRL_MAC_ADDR_SET, 1, 1, 2, 3, 4, 5), Q.NET_ERR, 'a group address');
  assert.equal(command(b, Q.CTRL_VLAN, Q.CTRL_VLAN_ADD, 5, 0), Q.NET_OK);
  assert.ok(card.filter.hasVlan(5));
  assert.equal(command(b, Q.CTRL_VLAN, Q.CTRL_VLAN_DEL, 5, 0), Q.NET_OK);
  assert.ok(!card.filter.hasVlan(5));
  assert.equal(command(b, Q.CTRL_NOTF_COAL, Q.CTRL_NOTF_COAL_RX_SET, 8, 0, 0, 0, 50, 0, 0, 0), Q.NET_OK);
  assert.deepEqual([b.bar.read(REG.coalesce_rx_usecs, 4), b.bar.read(REG.coalesce_rx_frames, 4)], [50, 8]);
  assert.equal(command(b, Q.CTRL_NOTF_COAL, Q.CTRL_NOTF_COAL_RX_SET, 8, 0, 0, 0, 255, 255, 255, 255), Q.NET_ERR);
  assert.equal(command(b, Q.CTRL_MQ, Q.CTRL_MQ_VQ_PAIRS_SET, 1, 0), Q.NET_OK);
  assert.equal(command(b, Q.CTRL_MQ, Q.CTRL_MQ_VQ_PAIRS_SET, 2, 0), Q.NET_ERR);
  for (const bad of [
    [],
    [0],
    [0, 0],
    [0, 9, 1],
    [99, 0, 0],
    [1, 0, 255, 255, 255, 255],
    [1, 0, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6],
    [1, 1, 2],
    [2, 0, 0, 16],
    [2, 7, 1, 0],
    [6, 0, 1],
    [4, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  ])
    assert.equal(command(b, ...bad), Q.NET_ERR, JSON.stringify(bad));
  assert.equal(b.fw.counters.ctrl_errors, 15);
});

test('VLAN filter, when negotiated, passes untagged frames and the ids that were added', () => {
  const [pa, pb] = createWire();
  const a = bench(pa);
  const c = bench(pb, [R.F_VERSION_1, R.F_NET_CTRL_VQ, R.F_NET_CTRL_VLAN]);
  for (let i = 0; i < 8; i++) c.rx.set(i, RINGS + i * 2048 + 16384, 2000, Q.DESC_F_WRITE);
  c.rx.offer(0, 1, 2, 3, 4, 5, 6, 7);
  command(c, Q.CTRL_VLAN, Q.CTRL_VLAN_ADD, 7, 0);
  const send = (type: number, ...body: number[]) => {
    a.tx.set(0, RINGS, 12 + eth(a, RINGS + 12, MAC, type, Uint8Array.from([...body, ...new Array(40).fill(0)])));
    a.tx.offer(0);
    a.fw.step(0);
    const was = c.rx.usedIdx;
    c.fw.step(0);
    return c.rx.usedIdx - was;
  };
  assert.equal(send(0x1234), 1);
  assert.equal(send(0x8100, 0, 6, 8, 0), 0);
  assert.equal(send(0x8100, 0xe0, 7, 8, 0), 1, 'priority bits do not count');
  assert.equal(c.fw.counters.rx_vlan_filtered, 1);
});

test('sizes: runts and giants are dropped by name, in both directions; a dropped frame keeps its buffer', () => {
  const [pa, pb] = createWire({ mtu: 9000 });
  const a = bench(pa);
  const c = bench(pb);
  assert.equal(a.bar.read(REG.mtu, 2), 9000);
  const send = (len: number) => {
    a.tx.set(0, RINGS, 12 + len);
    a.tx.offer(0);
    a.fw.step(0);
  };
  eth(a, RINGS + 12, MAC, 0x1234, new Uint8Array(64));
  send(13);
  send(9015);
  assert.deepEqual([a.fw.counters.tx_runt, a.fw.counters.tx_oversize], [1, 1]);
  a.memory.dv.setUint16(RINGS + 24, 0x8100);
  send(9018);
  assert.equal(a.fw.counters.tx_frames, 1);
  a.tx.set(0, RINGS, 5);
  a.tx.offer(0);
  a.fw.step(0);
  assert.equal(a.fw.counters.tx_runt, 2);
  assert.equal(a.tx.usedIdx, 4, 'every chain comes back');
  c.rx.set(0, RINGS, 9100, Q.DESC_F_WRITE);
  c.rx.set(1, RINGS + 10_000, 9100, Q.DESC_F_WRITE);
  c.rx.offer(0, 1);
  a.memory.dv.setUint16(RINGS + 24, 0x1234);
  a.memory.u8.set([2, 9, 9, 9, 9, 9], RINGS + 12); // not ours
  for (let i = 0; i < 5; i++) send(60);
  a.memory.u8.set(MAC, RINGS + 12);
  send(60);
  c.fw.step(0);
  c.fw.step(0);
  assert.equal(c.fw.counters.rx_filtered, 5);
  assert.deepEqual([c.rx.usedAt(0).len, c.rx.usedAt(1).len, c.rx.usedIdx], [12 + 9018, 72, 2]);
});

test('interrupts are level-triggered, suppressed by the flag, and link changes raise a configuration interrupt', () => {
  const [pa, pb] = createWire();
  const a = bench(pa);
  const c = bench(pb);
  a.fw.step(0);
  assert.equal(ack(a) & R.ISR_CONFIG, R.ISR_CONFIG);
  assert.equal(a.bar.read(REG.net_status, 2), R.NET_S_LINK_UP);
  const generation = a.bar.read(REG.config_generation, 4);
  a.irqs = 0;
  a.tx.set(0, RINGS, 12 + eth(a, RINGS + 12, MAC, 0x1234, new Uint8Array(60)));
  a.tx.offer(0);
  a.fw.step(0);
  a.tx.offer(0);
  a.fw.step(0);
  assert.equal(a.irqs, 1, 'the line was high already');
  assert.equal(ack(a), R.ISR_QUEUE);
  a.memory.dv.setUint16(a.tx.avail, Q.AVAIL_F_NO_INTERRUPT, true);
  a.tx.offer(0);
  a.fw.step(0);
  assert.equal(a.irqs, 1);
  pa.pull();
  a.fw.step(0);
  assert.equal(ack(a), R.ISR_CONFIG);
  assert.equal(a.bar.read(REG.net_status, 2), 0);
  assert.equal(a.bar.read(REG.link_reason, 4), R.LINK_NO_CARRIER);
  assert.ok(a.bar.read(REG.config_generation, 4) > generation);
  c.fw.close();
});

test('self test: every result has a text; a failed one shows in the registers and the card refuses to be driven', () => {
  const [port] = createWire();
  const memory = new Memory(new ArrayBuffer(scratchBytes(port)));
  const fw = new Firmware({ memory, scratchOffset: 0, port, mac: MAC, selfTestUnits: { crc32c: () => 0 } });
  assert.equal(fw.bar.read(REG.magic, 4), 0xffffffff, 'no power, no answer');
  fw.powerOn();
  assert.equal(fw.bar.read(REG.self_test, 4), 3);
  assert.equal(fw.selfTest, SELF_TEST[3]);
  assert.equal(fw.bar.read(REG.status, 4), R.STATUS_FAILED);
  fw.bar.write(REG.status, 4, 1);
  assert.equal(fw.bar.read(REG.status, 4), R.STATUS_FAILED);
  assert.equal(fw.linkUp, false);
  fw.close();
  assert.throws(() => new Firmware({ memory, scratchOffset: 64, port, mac: MAC }), /scratch memory needs \d+ bytes/);
  assert.throws(() => new Firmware({ memory, scratchOffset: 0, port }), /needs a mac/);
});

test('counters exist from the start, each with a meaning', () => {
  const [port] = createWire();
  const { fw } = bench(port);
  for (const [name, meaning] of CARD_COUNTERS) {
    assert.equal(typeof fw.counters[name], 'number');
    assert.ok(meaning.length > 5);
  }
  assert.equal(Object.keys(fw.counters).length, CARD_COUNTERS.length);
});

test('fuzz: a card whose three rings are written by a madman neither throws nor hangs, and a reset mends it', () => {
  let seed = 4711;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 4294967296) * n);
  };
  const all = [
    R.F_VERSION_1,
    R.F_NET_CTRL_VQ,
    R.F_NET_CTRL_RX,
    R.F_NET_CTRL_MAC_ADDR,
    R.F_NET_NOTF_COAL,
    R.F_NET_CSUM,
    R.F_NET_GUEST_CSUM,
  ];
  const vendor = [
    R.F_NKE_SCTP_CSUM,
    R.F_NKE_GUEST_SCTP_CSUM,
    R.F_NKE_SCTP_TRAIN,
    R.F_NET_HASH_REPORT,
    R.F_RING_INDIRECT_DESC,
  ];
  for (let round = 0; round < 30; round++) {
    const [pa, pb] = createWire({ slots: 16, carries: round % 3 === 0 ? 'ip' : 'ethernet' });
    const features = [...all, ...(round % 2 ? vendor : []), ...(round % 5 === 0 ? [R.F_RING_EVENT_IDX] : [])];
    const a = bench(pa, features);
    const c = bench(pb, features);
    // Data that now and then look like packets.
    for (let at = RINGS; at < RINGS + DATA; at += 4) a.memory.dv.setUint32(at, random(3) ? 0 : random(2 ** 32));
    for (const s of [a, c])
      for (let i = 0; i < 64; i++)
        s.rx.set(
          i,
          RINGS + random(DATA - 4096),
          random(4) ? 2048 : random(4096),
          Q.DESC_F_WRITE | (random(8) ? 0 : Q.DESC_F_NEXT),
          random(66),
        );
    for (let turn = 0; turn < 30; turn++) {
      for (let i = 0; i < 64; i++) {
        const at = RINGS + random(DATA - 70_000);
        if (random(2)) {
          a.memory.u8[at] = random(256);
          a.memory.u8[at + 1] = random(3) ? 0 : random(4) ? Q.NET_HDR_GSO_SCTP : random(256);
          a.memory.dv.setUint16(at + 2, random(2) ? 34 : random(65536), true);
          a.memory.dv.setUint16(at + 4, random(2) ? 1300 : random(65536), true);
          a.memory.dv.setUint16(at + 12 + 12, random(2) ? 0x0800 : 0x86dd);
          a.memory.u8[at + 26] = random(2) ? 0x45 : 0x60;
          a.memory.u8[at + 35] = random(2) ? 132 : 17;
        }
        a.tx.set(
          i,
          random(20) ? at : random(2 ** 32),
          random(3) ? random(1600) : random(70_000),
          random(3) ? 0 : random(8),
          random(65),
        );
      }
      for (let i = 0; i < 16; i++) a.ctrl.set(i, RINGS + random(DATA), random(64), random(8), random(17));
      a.tx.offer(...Array.from({ length: random(40) }, () => random(random(50) ? 64 : 70)));
      a.ctrl.offer(...Array.from({ length: random(4) }, () => random(16)));
      a.rx.offer(...Array.from({ length: random(10) }, () => random(64)));
      c.rx.offer(...Array.from({ length: random(10) }, () => random(64)));
      a.fw.step(turn * 1000, 256);
      c.fw.step(turn * 1000, 256);
      if (random(10) === 0) a.bar.write(random(R.REGISTER_BYTES), 4, random(2 ** 32));
      if ((a.bar.read(REG.status, 4) & R.STATUS_NEEDS_RESET) !== 0 || a.fw.power !== 'D0') {
        a.bar.write(REG.pm_state, 4, 0);
        negotiate(a.bar, features);
        a.rx = new RawRing(a.memory, 0, 64);
        a.tx = new RawRing(a.memory, 16384, 64);
        a.ctrl = new RawRing(a.memory, 32768, 16);
        assert.ok(a.rx.enable(a.bar, 0) && a.tx.enable(a.bar, 1) && a.ctrl.enable(a.bar, 2));
        a.bar.write(REG.status, 4, 15);
      }
    }
  }
});
