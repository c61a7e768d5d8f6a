import assert from 'node:assert/strict';
import { test } from 'node:test';
import { etherEnd, ipEnd } from './packets.fixture.js';
import { portContract } from './port.contract.js';
import { Batch, Memory } from './port.js';
import { createWire } from './wire.js';

const MAC_A = Uint8Array.of(2, 0, 0, 0, 0, 1);
const MAC_B = Uint8Array.of(2, 0, 0, 0, 0, 2);

portContract(
  'wire, Ethernet',
  () => {
    const [a, b] = createWire({ slots: 300 });
    return { a: etherEnd(a, MAC_B, MAC_A), b: etherEnd(b, MAC_A, MAC_B) };
  },
  { smallest: 22, longest: p => p.capabilities.mtu + 18, refusesWithin: 400 },
);

portContract(
  'wire, IP, bounded by bytes, with trains',
  () => {
    const [a, b] = createWire({ carries: 'ip', mtu: 9000, train: 65535, bytes: 150_000, slots: 5000 });
    return { a: ipEnd(a, '10.0.0.1', '10.0.0.2', 253), b: ipEnd(b, '10.0.0.2', '10.0.0.1', 253) };
  },
  { smallest: 28, longest: p => p.capabilities.mtu, refusesWithin: 2000 },
);

function opened(options = {}) {
  const [a, b] = createWire(options);
  const ma = new Memory(new ArrayBuffer(1 << 18));
  const mb = new Memory(new ArrayBuffer(1 << 18));
  a.open(ma);
  b.open(mb);
  return { a, b, ma, mb };
}

test('wire: carrier follows the cable and both ends, and what was in flight is lost', () => {
  const [a, b] = createWire();
  const seen: string[] = [];
  a.onCarrier = up => seen.push(`a${up ? '+' : '-'}`);
  b.onCarrier = up => seen.push(`b${up ? '+' : '-'}`);
  const memory = new Memory(new ArrayBuffer(4096));
  a.open(memory);
  assert.equal(a.carrier, false, 'the other end is not there yet');
  b.open(memory);
  assert.deepEqual(seen.splice(0).sort(), ['a+', 'b+']);
  const tx = new Batch(1);
  tx.count = 1;
  tx.len[0] = 60;
  assert.equal(a.transmit(tx, 0), 1);
  a.pull();
  assert.deepEqual(seen.splice(0).sort(), ['a-', 'b-']);
  assert.equal(b.counters.rx_unplugged, 1);
  assert.equal(a.transmit(tx, 0), 1, 'taken and dropped without carrier');
  assert.equal(a.counters.tx_no_carrier, 1);
  b.plug();
  assert.deepEqual(seen.splice(0).sort(), ['a+', 'b+']);
  const rx = new Batch(1);
  rx.cap[0] = 2000;
  assert.equal(b.receive(rx, 1, 0), 0);
  b.close();
  assert.equal(a.carrier, false);
  assert.deepEqual(seen.splice(0), ['a-']);
  a.close();
});

test('wire: a change of carrier wakes', async () => {
  const { a, b } = opened();
  const rx = new Batch(1);
  a.receive(rx, 1, 0);
  const woken = new Promise<void>(resolve => a.arm(resolve));
  b.pull();
  await woken;
  a.close();
  b.close();
});

test('wire: a train passes whole between regions with its description', () => {
  const { a, b, ma, mb } = opened({ carries: 'ip', train: 65535 });
  for (let i = 0; i < 5000; i++) ma.u8[100 + i] = i * 13;
  const tx = new Batch(2);
  tx.count = 2;
  tx.off.fill(100);
  tx.len.set([32 + 3 * 1400 + 7, 32 + 1400]);
  tx.segsz.set([1400, 1480]); // the second one's segments are longer than the MTU
  tx.hdrlen.fill(32);
  assert.equal(a.transmit(tx, 0), 2);
  assert.equal(a.counters.tx_packets, 4);
  assert.equal(a.counters.tx_oversize, 1);
  const rx = new Batch(4);
  rx.off.set([5000]);
  rx.cap.fill(65535);
  assert.equal(b.receive(rx, 4, 0), 1);
  assert.deepEqual([rx.len[0], rx.segsz[0], rx.hdrlen[0]], [4239, 1400, 32]);
  assert.deepEqual(mb.u8.subarray(5000, 9239), ma.u8.subarray(100, 4339));
  a.close();
  b.close();
});
