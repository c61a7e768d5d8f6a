import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sctpCheck } from '../crc32c.js';
import { type Native, native } from '../native.js';
import { udpEnd } from './packets.fixture.js';
import { portContract } from './port.contract.js';
import { BATCH_L3_TRUSTED, BATCH_SCTP_CSUM_OK, Batch, Memory, PortError } from './port.js';
import { createUdpPort, UdpPort, type UdpPortOptions } from './udp.js';

const skip: string | false = native ? false : 'the C module is not built';
const V4 = { a: '127.0.0.1', b: '127.0.0.2' };
const V6 = { a: '::1', b: '::1' };

function pair(where: typeof V4, options: Partial<UdpPortOptions>, module: Native | null = native ?? null) {
  const a = createUdpPort({ address: where.a, port: 0, ...options }, module);
  const b = createUdpPort({ address: where.b, port: 0, ...options }, module);
  const pa = () => a.port;
  const pb = () => b.port;
  return { a: udpEnd(a, where.a, where.b, pa, pb), b: udpEnd(b, where.b, where.a, pb, pa) };
}

// A port that the system chose at first keeps its number when it opens again.
const traits = { longest: () => 1500, refusesWithin: 0, skip } as const;
portContract('udp4, C module, trains', () => pair(V4, {}), { ...traits, smallest: 48 });
portContract('udp4, C module, no trains', () => pair(V4, { train: false, sctpCrc: false }), {
  ...traits,
  smallest: 48,
});
portContract('udp6, C module, trains', () => pair(V6, {}), { ...traits, smallest: 68 });
portContract('udp4, node:dgram', () => pair(V4, {}, null), { ...traits, smallest: 48, skip: false });
portContract('udp6, node:dgram', () => pair(V6, {}, null), { ...traits, smallest: 68, skip: false });

/** Two open native ports with a region each. */
function opened(options: Partial<UdpPortOptions> = {}) {
  const ends = pair(V4, options);
  const ma = new Memory(new ArrayBuffer(1 << 20));
  const mb = new Memory(new ArrayBuffer(1 << 20));
  ends.a.port.open(ma);
  ends.b.port.open(mb);
  const close = () => {
    ends.a.port.close();
    ends.b.port.close();
  };
  return { ...ends, ma, mb, close };
}

/** A train of `n` packets of `size` bytes and one of `last`, in entry 0. */
function train(w: ReturnType<typeof opened>, n: number, size: number, last: number): Batch {
  const tx = new Batch(4);
  w.a.write(w.ma.u8, 0, 100, 1); // headers
  for (let i = 28; i < 28 + n * size + last; i++) w.ma.u8[i] = (i * 7) & 255;
  tx.count = 1;
  tx.len[0] = 28 + n * size + last;
  tx.segsz[0] = size;
  tx.hdrlen[0] = 28;
  return tx;
}

function receiveAll(w: ReturnType<typeof opened>): Batch {
  const rx = new Batch(64);
  for (let i = 0; i < 12; i++) {
    rx.off[i] = i * 70_000;
    rx.cap[i] = 70_000;
  }
  w.b.port.receive(rx, 12, 0);
  return rx;
}

for (const gso of [true, false]) {
  test(`udp: a train ${gso ? 'by UDP_SEGMENT' : 'cut in the module'} arrives with a good CRC32c in every packet`, {
    skip,
  }, () => {
    const w = opened({ gso });
    const tx = train(w, 9, 1452, 500);
    assert.equal(w.a.port.transmit(tx, 0), 1);
    assert.equal(w.a.port.counters.tx_packets, 10);
    const rx = receiveAll(w);
    let at = 28;
    let packets = 0;
    for (let i = 0; i < rx.count; i++) {
      assert.equal(rx.flags[i], BATCH_L3_TRUSTED | BATCH_SCTP_CSUM_OK);
      assert.equal(w.mb.dv.getUint16(rx.off[i]! + 2), rx.len[i], 'IP length of the whole');
      assert.equal(w.mb.dv.getUint16(rx.off[i]! + 24), rx.len[i]! - 20, 'UDP length of the whole');
      const size = rx.segsz[i] || 1452;
      for (let k = rx.off[i]! + 28; k < rx.off[i]! + rx.len[i]!; k += size, packets++) {
        const n = Math.min(size, rx.off[i]! + rx.len[i]! - k);
        assert.ok(sctpCheck(w.mb.u8, k, n));
        assert.deepEqual(w.mb.u8.subarray(k + 12, k + n), w.ma.u8.subarray(at + 12, at + n));
        at += n;
      }
    }
    assert.equal(packets, 10);
    // Where the kernel coalesced, the whole came back as one entry.
    if (gso) assert.deepEqual([rx.count, rx.segsz[0], rx.hdrlen[0]], [1, 1452, 28]);
    w.close();
  });
}

test('udp: the largest train goes, one packet more is dropped and counted', { skip }, () => {
  const w = opened();
  assert.equal(w.a.port.transmit(train(w, 45, 1454, 43), 0), 1); // 65,473 bytes
  assert.equal(receiveAll(w).count, 1);
  assert.equal(w.a.port.transmit(train(w, 45, 1454, 44), 0), 1);
  assert.equal(w.a.port.transmit(train(w, 64, 100, 1), 0), 1);
  assert.equal(w.a.port.transmit(train(w, 2, 1473, 0), 0), 1);
  assert.equal(w.a.port.counters.tx_oversize, 3);
  w.close();
});

test('udp: a packet with a wrong CRC32c is handed on unmarked, and counted', { skip }, () => {
  const ends = pair(V4, { sctpCrc: false });
  const checker = new UdpPort({ address: V4.b, port: 0 }, native!);
  const ma = new Memory(new ArrayBuffer(4096));
  const mb = new Memory(new ArrayBuffer(4096));
  ends.a.port.open(ma);
  checker.open(mb);
  const end = udpEnd(
    ends.a.port,
    V4.a,
    V4.b,
    () => (ends.a.port as UdpPort).port,
    () => checker.port,
  );
  end.write(ma.u8, 0, 200, 5);
  const tx = new Batch(1);
  tx.count = 1;
  tx.len[0] = 200;
  ends.a.port.transmit(tx, 0);
  const rx = new Batch(1);
  rx.cap[0] = 2000;
  assert.equal(checker.receive(rx, 1, 0), 1);
  assert.equal(rx.flags[0], BATCH_L3_TRUSTED);
  assert.equal(checker.counters.rx_bad_crc, 1);
  ends.a.port.close();
  checker.close();
});

test('udp: what is not UDP from this very socket is taken, dropped and counted', { skip }, () => {
  const w = opened();
  const bent: [string, (u8: Uint8Array) => void, string][] = [
    ['TCP', u8 => (u8[9] = 6), 'tx_unsupported'],
    ['IPv6', u8 => (u8[0] = 0x60), 'tx_unsupported'],
    ['a fragment', u8 => (u8[6] = 0x20), 'tx_unsupported'],
    ['another source address', u8 => (u8[15] = 9), 'tx_unsupported'],
    ['another source port', u8 => (u8[21]! ^= 1), 'tx_unsupported'],
    ['destination port 0', u8 => u8.fill(0, 22, 24), 'tx_unsupported'],
    ['header length 4', u8 => (u8[0] = 0x41), 'tx_errors'],
    ['header longer than the packet', u8 => (u8[0] = 0x4f), 'tx_errors'],
    ['total length beyond the entry', u8 => (u8[2] = 4), 'tx_errors'],
    ['UDP length beyond the packet', u8 => (u8[24] = 4), 'tx_errors'],
    ['UDP length 7', u8 => u8.set([0, 7], 24), 'tx_errors'],
  ];
  const tx = new Batch(1);
  for (const [what, bend, counter] of bent) {
    w.a.write(w.ma.u8, 0, 60, 1);
    bend(w.ma.u8);
    tx.count = 1;
    tx.len[0] = 60;
    const before = w.a.port.counters[counter]!;
    assert.equal(w.a.port.transmit(tx, 0), 1);
    assert.equal(w.a.port.counters[counter], before + 1, what);
  }
  assert.equal(w.a.port.counters.tx_packets, 0);
  w.close();
});

test('udp: traffic class (ECN) crosses, in both families', { skip }, () => {
  for (const [where, at, value, smallest] of [
    [V4, 1, 0x03, 100],
    [V6, 1, 0x30, 120],
  ] as const) {
    const ends = pair(where, {});
    const ma = new Memory(new ArrayBuffer(4096));
    const mb = new Memory(new ArrayBuffer(4096));
    ends.a.port.open(ma);
    ends.b.port.open(mb);
    ends.a.write(ma.u8, 0, smallest, 1);
    ma.u8[at] = value; // CE: the low bits of the class, which IPv6 has in the high nibble of byte 1
    const tx = new Batch(1);
    tx.count = 1;
    tx.len[0] = smallest;
    ends.a.port.transmit(tx, 0);
    const rx = new Batch(1);
    rx.cap[0] = 2000;
    assert.equal(ends.b.port.receive(rx, 1, 0), 1);
    assert.equal(mb.u8[at], value);
    ends.a.port.close();
    ends.b.port.close();
  }
});

test('udp: ICMP errors are counted, lose no other packet, and stop waking', { skip }, async () => {
  const w = opened();
  const gone = createUdpPort({ address: '127.0.0.3', port: 0 });
  gone.open(new Memory(new ArrayBuffer(64)));
  const to = udpEnd(
    w.a.port,
    V4.a,
    '127.0.0.3',
    () => (w.a.port as UdpPort).port,
    () => gone.port,
  );
  to.write(w.ma.u8, 0, 60, 1);
  gone.close();
  w.a.write(w.ma.u8, 100, 60, 2);
  const tx = new Batch(4);
  for (let round = 0; round < 3; round++) {
    tx.count = 4;
    tx.off.set([0, 100, 0, 100]);
    tx.len.fill(60);
    assert.equal(w.a.port.transmit(tx, 0), 4);
  }
  const rx = new Batch(1);
  w.a.port.receive(rx, 0, 0);
  rx.cap[0] = 2000;
  w.a.port.receive(rx, 1, 0);
  assert.ok(w.a.port.counters.icmp_unreachable! >= 1);
  assert.equal(receiveAll(w).count, 6);
  // The error queue is empty: an armed port sleeps.
  let wakes = 0;
  w.a.port.arm(() => wakes++);
  for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve));
  assert.equal(wakes, 0);
  w.close();
});

test('udp: errors say what to do', () => {
  const memory = new Memory(new ArrayBuffer(64));
  for (const module of native ? [native, null] : [null]) {
    const open = (address: string, port: number) => createUdpPort({ address, port }, module).open(memory);
    const code = (want: string, text: RegExp) => (e: unknown) =>
      e instanceof PortError && e.code === want && text.test(e.message);
    assert.throws(() => open('127.0.0.300', 1), code('EINVAL', /not an IPv4 or IPv6 address/));
    assert.throws(() => open('0.0.0.0', 1), code('EINVAL', /wildcard/));
    assert.throws(() => open('::', 1), code('EINVAL', /wildcard/));
    assert.throws(() => open('127.0.0.1', 65536), code('EINVAL', /not a UDP port/));
    assert.throws(() => open('192.0.2.77', 0), code('EADDRNOTAVAIL', /not one of this machine's/));
    const first = createUdpPort({ address: '127.0.0.1', port: 0 }, module);
    first.open(memory);
    assert.throws(() => open('127.0.0.1', first.port), code('EADDRINUSE', /another program uses this port/));
    first.close();
  }
});
