import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CapturePort } from './capture.js';
import { fold16, sum16 } from './headers.js';
import { etherEnd, writeIp } from './packets.fixture.js';
import { portContract } from './port.contract.js';
import { Batch, Memory, PortError } from './port.js';
import { createWire } from './wire.js';

const MAC_A = Uint8Array.of(2, 0, 0, 0, 0, 1);
const MAC_B = Uint8Array.of(2, 0, 0, 0, 0, 2);

portContract(
  'wire under capture',
  () => {
    const [a, b] = createWire({ slots: 300 });
    const to = () => {};
    return {
      a: etherEnd(new CapturePort(a, { to }), MAC_B, MAC_A),
      b: etherEnd(new CapturePort(b, { to }), MAC_A, MAC_B),
    };
  },
  { smallest: 22, longest: p => p.capabilities.mtu + 18, refusesWithin: 400 },
);

interface Block {
  type: number;
  body: DataView;
}

/** Cuts a file into blocks, checking both lengths of each. */
function blocks(file: Uint8Array): Block[] {
  const dv = new DataView(file.buffer, file.byteOffset, file.length);
  const out: Block[] = [];
  for (let at = 0; at < file.length; ) {
    const n = dv.getUint32(at + 4, true);
    assert.equal(n % 4, 0);
    assert.equal(dv.getUint32(at + n - 4, true), n, 'both lengths agree');
    out.push({ type: dv.getUint32(at, true), body: new DataView(file.buffer, file.byteOffset + at + 8, n - 12) });
    at += n;
  }
  return out;
}

test('capture: section, interface, packets with nanoseconds and direction, only what was taken', () => {
  const parts: Uint8Array[] = [];
  const [a, b] = createWire({ slots: 2 });
  const port = new CapturePort(a, {
    to: bytes => parts.push(bytes.slice()),
    epochSeconds: 1_763_000_000,
    epochNanos: 999_999_999,
  });
  const memory = new Memory(new ArrayBuffer(8192));
  port.open(memory);
  b.open(memory);
  for (let i = 0; i < 100; i++) memory.u8[i] = i;
  const tx = new Batch(3);
  tx.count = 3;
  tx.off.set([0, 1, 2]);
  tx.len.set([60, 61, 62]);
  assert.equal(port.transmit(tx, 7), 2, 'the third does not fit');
  const rx = new Batch(4);
  rx.off.set([1000, 3000]);
  rx.cap.fill(1600);
  b.receive(rx, 2, 0);
  tx.count = 1;
  b.transmit(tx, 0);
  assert.equal(port.receive(rx, 2, 1_000_000_005), 1);
  port.close();
  const file = blocks(Buffer.concat(parts));
  assert.deepEqual(
    file.map(x => x.type),
    [0x0a0d0d0a, 1, 6, 6, 6],
  );
  assert.equal(file[0]!.body.getUint32(0, true), 0x1a2b3c4d);
  assert.equal(file[1]!.body.getUint16(0, true), 1, 'Ethernet');
  assert.deepEqual([file[1]!.body.getUint16(8, true), file[1]!.body.getUint8(12)], [9, 9], 'nanoseconds');
  const time = (x: Block) => (BigInt(x.body.getUint32(4, true)) << 32n) + BigInt(x.body.getUint32(8, true));
  assert.equal(time(file[2]!), 1_763_000_001_000_000_006n);
  assert.equal(time(file[4]!), 1_763_000_002_000_000_004n);
  assert.deepEqual(
    [2, 3, 4].map(i => file[i]!.body.getUint32(12, true)),
    [60, 61, 60],
  );
  for (let i = 0; i < 61; i++) assert.equal(file[3]!.body.getUint8(20 + i), i + 1);
  assert.deepEqual([file[3]!.body.getUint32(20 + 64 + 4, true), file[4]!.body.getUint32(20 + 60 + 4, true)], [2, 1]);
  assert.equal(port.counters.capture_packets, 3);
});

test('capture: a train is written as its packets, lengths and checksums their own', () => {
  const parts: Uint8Array[] = [];
  const [a, b] = createWire({ carries: 'ip', train: 65535 });
  const port = new CapturePort(a, { to: bytes => parts.push(bytes.slice()) });
  const memory = new Memory(new ArrayBuffer(8192));
  port.open(memory);
  b.open(memory);
  writeIp(memory.u8, 0, 2528, '10.0.0.1', '10.0.0.2', 17);
  for (let i = 28; i < 2528; i++) memory.u8[i] = i * 3;
  const tx = new Batch(1);
  tx.count = 1;
  tx.len[0] = 2528;
  tx.segsz[0] = 1000;
  tx.hdrlen[0] = 28;
  port.transmit(tx, 0);
  port.close();
  const packets = blocks(Buffer.concat(parts)).slice(2);
  assert.equal(packets.length, 3);
  for (const [i, n] of [1028, 1028, 528].entries()) {
    const p = new Uint8Array(packets[i]!.body.buffer, packets[i]!.body.byteOffset + 20, n);
    assert.equal(packets[i]!.body.getUint32(12, true), n);
    assert.equal((p[2]! << 8) | p[3]!, n);
    assert.equal((p[24]! << 8) | p[25]!, n - 20);
    assert.equal(fold16(sum16(p, 0, 20, 0)), 0, 'IPv4 header checksum');
    assert.equal(fold16(sum16(p, 20, n, sum16(p, 12, 20, 17 + n - 20))), 0, 'UDP checksum');
    assert.deepEqual(p.subarray(28), memory.u8.subarray(28 + i * 1000, 28 + i * 1000 + n - 28));
  }
  assert.equal(memory.u8[2], 2528 >> 8, 'the packet itself was not touched');
});

test('capture: to a file, many more packets than its buffer holds; and no file says so', () => {
  const folder = mkdtempSync(join(tmpdir(), 'nke-'));
  try {
    const file = join(folder, 'x.pcapng');
    const [a, b] = createWire({ slots: 4096 });
    const port = new CapturePort(a, { to: file });
    const memory = new Memory(new ArrayBuffer(8192));
    port.open(memory);
    b.open(memory);
    const tx = new Batch(64);
    tx.count = 64;
    tx.len.fill(1514);
    for (let i = 0; i < 10; i++) port.transmit(tx, i);
    port.close();
    assert.equal(blocks(readFileSync(file)).length, 2 + 640);
    const bad = new CapturePort(createWire()[0], { to: join(folder, 'none', 'x') });
    assert.throws(
      () => bad.open(memory),
      (e: unknown) => e instanceof PortError && e.code === 'ENOENT' && /may be written/.test(e.message),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
