import assert from 'node:assert/strict';
import { test } from 'node:test';
import { featureWords, hasFeature, REG, REGISTER_BYTES, REGISTERS, RegisterFile } from './registers.js';

test('registers lie inside the file, aligned, named once, and do not overlap', () => {
  const owner = new Map<number, string>();
  const names = new Set<string>();
  for (const r of REGISTERS) {
    assert.ok(!names.has(r.name), r.name);
    names.add(r.name);
    assert.equal(r.offset % r.width, 0, r.name);
    assert.ok(r.meaning.length > 0);
    for (let at = r.offset; at < r.offset + r.width * (r.count ?? 1); at++) {
      assert.ok(at < REGISTER_BYTES);
      assert.equal(owner.get(at), undefined, `${r.name} overlaps ${owner.get(at)}`);
      owner.set(at, r.name);
    }
  }
});

test('virtio offsets are those of VIRTIO 1.2 §4.2.2 and §5.1.4', () => {
  assert.deepEqual(
    [
      REG.magic,
      REG.queue_select,
      REG.queue_notify,
      REG.interrupt_status,
      REG.status,
      REG.queue_device_high,
      REG.config_generation,
    ],
    [0, 0x30, 0x50, 0x60, 0x70, 0xa4, 0xfc],
  );
  assert.deepEqual([REG.mac, REG.net_status, REG.max_virtqueue_pairs, REG.mtu], [0x100, 0x106, 0x108, 0x10a]);
});

test('reset values are read back; every bad access is refused and counted under its reason', () => {
  const f = new RegisterFile();
  for (const r of REGISTERS) if (r.access !== 'w') assert.equal(f.read(r.offset, r.width), r.reset, r.name);
  assert.deepEqual(f.bad, { unmapped: 0, width: 0, read_only: 0, write_only: 0 });
  assert.equal(f.read(0x300, 4), 0);
  assert.equal(f.read(-4, 4), 0);
  assert.equal(f.read(0x0f0, 4), 0);
  assert.equal(f.read(REG.magic, 2), 0);
  assert.equal(f.read(REG.magic + 2, 4), 0);
  assert.equal(f.read(REG.queue_notify, 4), 0);
  assert.equal(f.write(REG.magic, 4, 1), false);
  assert.deepEqual(f.bad, { unmapped: 3, width: 2, read_only: 1, write_only: 1 });
});

test('writes are stored, told by name and element, and write-1-clears clear', () => {
  const f = new RegisterFile();
  const seen: unknown[] = [];
  f.onWrite = (...a) => void seen.push(a);
  f.write(REG.sctp_udp_port + 4, 2, 1234);
  assert.equal(f.read(REG.sctp_udp_port + 4, 2), 1234);
  f.set('pm_status', 1);
  f.write(REG.pm_status, 4, 1);
  assert.equal(f.get('pm_status'), 0);
  assert.deepEqual(seen, [
    ['sctp_udp_port', 1234, 2],
    ['pm_status', 1, 0],
  ]);
});

test('without power the bus reads all ones and takes nothing', () => {
  const f = new RegisterFile();
  f.powered = false;
  assert.equal(f.read(REG.status, 4), 0xffffffff);
  assert.equal(f.read(REG.mtu, 2), 0xffff);
  f.write(REG.status, 4, 1);
  f.powered = true;
  assert.equal(f.read(REG.status, 4), 0);
});

test('feature words hold 128 bits', () => {
  const w = featureWords(0, 31, 32, 123);
  for (const b of [0, 31, 32, 123]) assert.ok(hasFeature(w, b));
  for (const b of [1, 30, 33, 122]) assert.ok(!hasFeature(w, b));
});
