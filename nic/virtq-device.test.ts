import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Memory } from './ports/port.js';
import { RawRing } from './rawring.fixture.js';
import { EITHER, READABLE, VirtqDevice, WRITABLE } from './virtq-device.js';
import { DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, needEvent } from './virtqueue.js';

const BYTES = 1 << 16;
function queue(size = 8, batch = 256) {
  const memory = new Memory(new ArrayBuffer(BYTES));
  const raw = new RawRing(memory, 0, size);
  const dev = new VirtqDevice(memory, 1024, batch);
  dev.indirect = true;
  assert.equal(dev.configure(size, raw.desc, raw.avail, raw.used), '');
  return { memory, raw, dev };
}
const segments = (d: VirtqDevice, i: number) =>
  Array.from({ length: d.nseg[i]! }, (_, k) => [d.segAddr[d.first[i]! + k]!, d.segLen[d.first[i]! + k]!]);

test('addresses of a queue are checked', () => {
  const memory = new Memory(new ArrayBuffer(4096));
  const d = new VirtqDevice(memory, 64);
  assert.match(d.configure(3, 0, 256, 512), /power of two/);
  assert.match(d.configure(128, 0, 256, 512), /power of two/);
  assert.match(d.configure(8, 8, 256, 512), /misaligned/);
  assert.match(d.configure(8, 0, 4090, 512), /outside/);
  assert.match(d.configure(8, 2 ** 40, 256, 512), /outside/);
  assert.match(d.configure(8, -16, 256, 512), /outside/);
  assert.equal(d.configure(8, 0, 256, 512), '');
});

test('single descriptors, chains and indirect tables are popped; used elements come back', () => {
  const { memory, raw, dev } = queue();
  raw.set(0, 4096, 100);
  raw.set(1, 5000, 10, DESC_F_NEXT, 2);
  raw.set(2, 6000, 20, DESC_F_NEXT, 3);
  raw.set(3, 7000, 0);
  RawRing.write(memory.dv, 8192, 9000, 1, DESC_F_NEXT, 1);
  RawRing.write(memory.dv, 8208, 9100, 2);
  raw.set(4, 8192, 32, DESC_F_INDIRECT);
  raw.offer(0, 1, 4);
  assert.equal(dev.pop(16, READABLE), 3);
  assert.deepEqual(segments(dev, 0), [[4096, 100]]);
  assert.deepEqual(segments(dev, 1), [
    [5000, 10],
    [6000, 20],
    [7000, 0],
  ]);
  assert.deepEqual(segments(dev, 2), [
    [9000, 1],
    [9100, 2],
  ]);
  dev.push(dev.head[2]!, 5);
  assert.equal(raw.usedIdx, 0, 'not yet visible');
  dev.publish();
  assert.equal(raw.usedIdx, 1);
  assert.deepEqual(raw.usedAt(0), { id: 4, len: 5 });
  assert.equal(dev.badChains, 0);
});

test('hostile chains are refused one by one and the queue goes on', () => {
  const { memory, raw, dev } = queue(16);
  const bad: (() => void)[] = [
    () => raw.set(0, BYTES - 4, 5), // beyond memory
    () => raw.set(0, 0, 0xffffffff),
    () => raw.set(0, 0, 4, 0, 0, 1), // beyond 4 GiB
    () => raw.set(0, 4096, 4, DESC_F_WRITE), // wrong direction
    () => raw.set(0, 4096, 4, DESC_F_NEXT, 0), // loop
    () => raw.set(0, 4096, 4, DESC_F_NEXT, 16), // next beyond the table
    () => raw.set(0, 8192, 24, DESC_F_INDIRECT), // length no multiple of 16
    () => raw.set(0, 8192, 0, DESC_F_INDIRECT),
    () => raw.set(0, 8192, 16, DESC_F_INDIRECT | DESC_F_NEXT, 1),
    () => {
      RawRing.write(memory.dv, 8192, 8192, 16, DESC_F_INDIRECT); // nested
      raw.set(0, 8192, 16, DESC_F_INDIRECT);
    },
    () => {
      RawRing.write(memory.dv, 8192, 4096, 16, DESC_F_NEXT, 0); // loop inside the table
      raw.set(0, 8192, 16, DESC_F_INDIRECT);
    },
  ];
  for (const [i, make] of bad.entries()) {
    make();
    raw.set(1, 4096, 8);
    raw.offer(0, 1);
    assert.equal(dev.pop(16, READABLE), 2, `case ${i}`);
    assert.equal(dev.nseg[0], 0, `case ${i}`);
    assert.equal(dev.nseg[1], 1);
    assert.equal(dev.badChains, i + 1);
  }
  raw.set(0, 4096, 4, DESC_F_WRITE | DESC_F_NEXT, 1);
  raw.set(1, 5000, 4);
  raw.offer(0);
  dev.pop(1, EITHER);
  assert.equal(dev.nseg[0], 0, 'readable after writable');
});

test('a ring that makes no sense stops the queue, without a throw', () => {
  const one = queue();
  one.raw.setAvailIdx(9);
  assert.equal(one.dev.pop(16, READABLE), 0);
  assert.match(one.dev.broken, /ahead/);
  const two = queue();
  two.raw.set(0, 4096, 4);
  two.raw.offer(0, 8);
  assert.equal(two.dev.pop(16, READABLE), 1);
  assert.match(two.dev.broken, /no descriptor/);
  assert.equal(two.dev.pop(16, READABLE), 0);
  assert.equal(two.dev.available, false);
});

test('indices run on over 65536 and notifications are asked for and suppressed by event index', () => {
  const { memory, raw, dev } = queue(8);
  dev.eventIdx = true;
  raw.set(0, 4096, 4);
  for (let i = 0; i < 70_000; i++) {
    raw.offer(0);
    assert.equal(dev.pop(8, READABLE), 1);
    dev.push(0, i & 0xff);
    dev.publish();
    // used_event: an interrupt with every tenth element.
    memory.dv.setUint16(raw.avail + 4 + 16, (Math.ceil((i + 1) / 10) * 10 - 1) & 0xffff, true);
    assert.equal(dev.shouldInterrupt(), i % 10 === 9, `element ${i}`);
  }
  assert.equal(dev.armDoorbell(), false);
  assert.equal(memory.dv.getUint16(raw.used + 4 + 64, true), 70_000 & 0xffff);
  raw.offer(0);
  assert.equal(dev.armDoorbell(), true);
  assert.ok(needEvent(65535, 0, 65535) && !needEvent(5, 5, 4) && needEvent(4, 5, 4));
});

test('fuzz: random rings neither throw nor reach beyond memory nor loop', () => {
  let seed = 12345;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 4294967296) * n);
  };
  for (let round = 0; round < 500; round++) {
    const { memory, raw, dev } = queue(1 << random(6), 1 + random(64));
    dev.indirect = random(4) > 0;
    dev.eventIdx = random(2) > 0;
    for (let at = 0; at < 4096; at += 4) memory.dv.setUint32(at, random(4) > 0 ? random(BYTES) : random(2 ** 32), true);
    // Most descriptors plausible, so that walks go deep.
    for (let i = 0; i < raw.size; i++)
      if (random(3) > 0)
        raw.set(i, random(BYTES - 64), random(64) * (random(4) ? 1 : 16), random(8), random(raw.size + 1));
    for (let turn = 0; turn < 4; turn++) {
      raw.setAvailIdx(random(8) === 0 ? random(65536) : (dev.lastAvail + random(raw.size + 1)) & 0xffff);
      const direction = [READABLE, WRITABLE, EITHER][random(3)]!;
      const n = dev.pop(1 + random(300), direction);
      for (let i = 0; i < n; i++) {
        assert.ok(dev.head[i]! < raw.size);
        assert.ok(dev.nseg[i]! <= raw.size);
        for (const [addr, len] of segments(dev, i)) assert.ok(addr! >= 0 && len! >= 0 && addr! + len! <= BYTES);
        dev.push(dev.head[i]!, random(100));
      }
      dev.publish();
      dev.shouldInterrupt();
      dev.armDoorbell();
    }
  }
});

test('popPlain takes direct single descriptors into columns and stops at anything else; unpop gives them back', () => {
  const { raw, dev } = queue(16);
  const head = new Int32Array(8);
  const addr = new Int32Array(8);
  const len = new Int32Array(8);
  const plain = (max = 8, at = 0) => dev.popPlain(max, READABLE, 12, at, head, addr, len);
  for (let i = 0; i < 4; i++) raw.set(i, 4096 + 100 * i, 20 + i);
  raw.offer(0, 1, 2, 3);
  assert.equal(plain(2), 2);
  assert.equal(plain(6, 2), 2);
  assert.deepEqual([...head.subarray(0, 4)], [0, 1, 2, 3]);
  assert.deepEqual([...addr.subarray(0, 4)], [4108, 4208, 4308, 4408]);
  assert.deepEqual([...len.subarray(0, 4)], [8, 9, 10, 11]);
  assert.equal(plain(), 0);
  dev.unpop(1);
  assert.equal(plain(), 1);
  assert.equal(head[0], 3);
  dev.pushRun(head, 1);
  dev.publish();
  assert.equal(raw.usedIdx, 1);
  assert.deepEqual(raw.usedAt(0), { id: 3, len: 0 });
  // What ends a run: a chain, an indirect table, a writable descriptor, an address outside, an index that names nothing.
  raw.set(4, 5000, 10, DESC_F_NEXT, 0);
  raw.set(5, 5000, 16, DESC_F_INDIRECT);
  raw.set(6, 5000, 10, DESC_F_WRITE);
  raw.set(7, BYTES - 5, 10);
  raw.set(8, 0, 10, 0, 0, 1);
  for (const bad of [4, 5, 6, 7, 8]) {
    raw.offer(0, bad, 1);
    assert.equal(plain(), 1, `descriptor ${bad}`);
    assert.equal(dev.pop(1, READABLE), 1);
    assert.equal(dev.head[0], bad);
    assert.equal(plain(), 1);
    assert.equal(head[0], 1);
  }
  raw.offer(0, 999);
  assert.equal(plain(), 1);
  assert.equal(plain(), 0);
  assert.equal(dev.pop(1, READABLE), 0);
  assert.match(dev.broken, /names no descriptor/);
});

test('an available index that ran ahead gives popPlain nothing, and pop says why', () => {
  const { raw, dev } = queue(8);
  const column = () => new Int32Array(64);
  raw.setAvailIdx(20);
  assert.equal(dev.popPlain(64, READABLE, 0, 0, column(), column(), column()), 0);
  assert.equal(dev.pop(1, READABLE), 0);
  assert.match(dev.broken, /ran ahead/);
});

test('addresses of plain descriptors count from the base, also across 4 GiB, and both words of them are looked at', () => {
  for (const base of [0, 0x40000000, 0xc0000000, 0xffff8000, 0x100000000, 0x2ffffff00]) {
    const memory = new Memory(new ArrayBuffer(BYTES));
    const raw = new RawRing(memory, 0, 8);
    const dev = new VirtqDevice(memory, 64, 8, base);
    assert.equal(dev.configure(8, base + raw.desc, base + raw.avail, base + raw.used), '');
    const columns = [new Int32Array(8), new Int32Array(8), new Int32Array(8)] as const;
    const plain = (address: number, len: number) => {
      raw.set(0, address % 4294967296, len, 0, 0, Math.floor(address / 4294967296));
      raw.offer(0);
      const n = dev.popPlain(1, READABLE, 12, 0, ...columns);
      if (n === 0) {
        assert.equal(dev.pop(1, READABLE), 1);
        assert.equal(dev.nseg[0], 0, 'pop refuses it as well');
      }
      return n === 1 ? [columns[1][0], columns[2][0]] : [];
    };
    assert.deepEqual(plain(base, 20), [12, 8], `base ${base}`);
    assert.deepEqual(plain(base + 0x7ff0, 20), [0x7ffc, 8]);
    assert.deepEqual(plain(base + 0x8000, 20), [0x800c, 8]);
    assert.deepEqual(plain(base + BYTES - 20, 20), [BYTES - 8, 8]);
    assert.deepEqual(plain(base + BYTES - 19, 20), [], 'one byte too far');
    assert.deepEqual(plain(base + BYTES, 20), []);
    assert.deepEqual(plain(base + 4096, 0xffffffff), []);
    assert.deepEqual(plain(base + 4096 + 4294967296, 20), [], 'the upper word');
    if (base > 0) assert.deepEqual(plain(base - 1, 20), []);
    if (base >= 4294967296) assert.deepEqual(plain(base + 4096 - 4294967296, 20), []);
  }
});

test('popPlain leaves buffers that are too short to pop; pushFilled tells the bytes written', () => {
  const { raw, dev } = queue(8);
  const head = new Int32Array(8);
  const addr = new Int32Array(8);
  const len = new Int32Array(8);
  for (const [i, n] of [112, 111, 112].entries()) raw.set(i, 4096 + 200 * i, n, DESC_F_WRITE);
  raw.offer(0, 1, 2);
  assert.equal(dev.popPlain(8, WRITABLE, 12, 0, head, addr, len, 100), 1);
  assert.equal(dev.pop(1, WRITABLE), 1);
  assert.equal(dev.head[0], 1);
  assert.equal(dev.popPlain(8, WRITABLE, 12, 1, head, addr, len, 100), 1);
  len.set([60, 70]);
  dev.pushFilled(head, len, 12, 2);
  dev.publish();
  assert.deepEqual(
    [raw.usedAt(0), raw.usedAt(1)],
    [
      { id: 0, len: 72 },
      { id: 2, len: 82 },
    ],
  );
});

test('the doorbell is asked for once, and again when chains were popped, put back, or it was not wanted', () => {
  for (const eventIdx of [false, true]) {
    const { memory, raw, dev } = queue(8);
    dev.eventIdx = eventIdx;
    const event = () => memory.dv.getUint16(raw.used + 4 + 64, true);
    const scribble = (): void => {
      memory.dv.setUint16(raw.used, 1, true);
      memory.dv.setUint16(raw.used + 4 + 64, 999, true);
    };
    const asked = () => (eventIdx ? event() === dev.lastAvail : memory.dv.getUint16(raw.used, true) === 0);
    raw.set(0, 4096, 20);
    scribble();
    assert.equal(dev.armDoorbell(), false);
    assert.ok(asked());
    raw.offer(0, 0);
    assert.equal(dev.armDoorbell(), true);
    assert.equal(dev.armDoorbell(), true);
    dev.disarmDoorbell();
    assert.equal(dev.pop(2, READABLE), 2);
    assert.equal(dev.armDoorbell(), false);
    assert.ok(asked());
    dev.unpop(1);
    assert.equal(dev.armDoorbell(), true);
    assert.ok(asked());
    // A queue set up anew has asked for nothing yet.
    scribble();
    raw.setAvailIdx(0);
    assert.equal(dev.configure(8, raw.desc, raw.avail, raw.used), '');
    dev.armDoorbell();
    assert.ok(asked());
  }
});
