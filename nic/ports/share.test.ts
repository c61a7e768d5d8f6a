import assert from 'node:assert/strict';
import { test } from 'node:test';
import { etherEnd } from './packets.fixture.js';
import { portContract } from './port.contract.js';
import { Batch, Memory } from './port.js';
import { concernsAll, type FrameExchange, SharedPort } from './share.js';
import { createWire } from './wire.js';

const MAC_A = Uint8Array.of(2, 0, 0, 0, 0, 1);
const MAC_B = Uint8Array.of(2, 0, 0, 0, 0, 2);
const MACS = [...MAC_B, ...MAC_A];

const nobody = (): FrameExchange => ({ tell: () => {}, hear: undefined });

portContract(
  'wire that is one queue of several',
  () => {
    const [a, b] = createWire({ slots: 300 });
    return {
      a: etherEnd(new SharedPort(a, nobody()), MAC_B, MAC_A),
      b: etherEnd(new SharedPort(b, nobody()), MAC_A, MAC_B),
    };
  },
  { smallest: 22, longest: p => p.capabilities.mtu + 18, refusesWithin: 400 },
);

const arp = (operation: number, sender: number, target: number) => [
  0,
  1,
  8,
  0,
  6,
  4,
  0,
  operation,
  ...MAC_A,
  10,
  7,
  0,
  sender,
  ...MAC_B,
  10,
  7,
  0,
  target,
];
const ip4 = (proto: number, type: number, fragment = 0) => [
  0x45,
  0,
  0,
  36,
  0,
  0,
  fragment >>> 8,
  fragment & 255,
  64,
  proto,
  ...new Array(10).fill(0),
  type,
  ...new Array(15).fill(0),
];
const ip6 = (proto: number, type: number) => [
  0x60,
  0,
  0,
  0,
  0,
  16,
  proto,
  255,
  ...new Array(32).fill(0),
  type,
  ...new Array(15).fill(0),
];

test('what answers concerns all queues; what asks, and data, one', () => {
  const rows: [what: string, type: number, bytes: number[], all: boolean][] = [
    ['ARP request', 0x0806, arp(1, 1, 2), false],
    ['ARP reply', 0x0806, arp(2, 1, 2), true],
    ['ARP announcement', 0x0806, arp(1, 2, 2), true],
    ['RARP', 0x0806, arp(3, 1, 2), false],
    ['echo request', 0x0800, ip4(1, 8), false],
    ['a fragment that looks like one', 0x0800, ip4(1, 3, 0x2001), false],
    ['SCTP', 0x0800, ip4(132, 3), false],
    ['SCTP', 0x86dd, ip6(132, 1), false],
    ['an IPv4 type beyond 31', 0x0800, ip4(1, 35), false],
    ...[0, 3, 5, 11, 12].map(t => [`ICMP ${t}`, 0x0800, ip4(1, t), true] as [string, number, number[], boolean]),
    ...[1, 2, 3, 4, 129, 134, 136, 137].map(
      t => [`ICMPv6 ${t}`, 0x86dd, ip6(58, t), true] as [string, number, number[], boolean],
    ),
    ...[128, 130, 131, 133, 135, 143].map(
      t => [`ICMPv6 ${t}`, 0x86dd, ip6(58, t), false] as [string, number, number[], boolean],
    ),
    ['something else', 0x88b5, arp(2, 1, 2), false],
  ];
  for (const [what, type, bytes, all] of rows) {
    const tail = [type >>> 8, type & 255, ...bytes];
    for (const front of [[], [0x81, 0, 0, 7], [0x88, 0xa8, 0, 7]]) {
      const frame = Uint8Array.from([1, 2, 3, ...MACS, ...front, ...tail]);
      assert.equal(concernsAll(frame, 3, frame.length - 3, 'ethernet'), all, what);
      // Every byte that is looked at is inside.
      for (let n = 0; n < frame.length - 3; n++) concernsAll(frame, 3, n, 'ethernet');
    }
    if (type === 0x0800 || type === 0x86dd)
      assert.equal(concernsAll(Uint8Array.from(bytes), 0, bytes.length, 'ip'), all, what);
    const least = 14 + (type === 0x0806 ? 28 : type === 0x0800 ? 21 : 41);
    const short = Uint8Array.from([...MACS, ...tail]);
    assert.equal(concernsAll(short, 0, least - 1, 'ethernet'), false, `${what}, cut off`);
  }
  assert.equal(concernsAll(new Uint8Array(0), 0, 0, 'ip'), false);
});

/** A shared port on a cable, what it has told, and somebody at the cable's other end. */
function bench() {
  const [near, far] = createWire({ slots: 300 });
  const told: number[] = [];
  const exchange: FrameExchange = { tell: (_u8, _off, len) => told.push(len), hear: undefined };
  const port = new SharedPort(near, exchange);
  const memory = new Memory(new ArrayBuffer(1 << 19));
  const peer = new Memory(new ArrayBuffer(1 << 16));
  port.open(memory);
  far.open(peer);
  const rx = new Batch(128);
  for (let i = 0; i < 128; i++) {
    rx.off[i] = 2048 * i;
    rx.cap[i] = 2048;
  }
  const send = (...bytes: number[]) => {
    peer.u8.set(bytes);
    const tx = new Batch(1);
    tx.count = 1;
    tx.len[0] = bytes.length;
    assert.equal(far.transmit(tx, 0), 1);
  };
  const got = (i: number) => [...memory.u8.subarray(rx.off[i], rx.off[i]! + rx.len[i]!)];
  return { port, exchange, told, rx, send, got, far };
}
const reply = [...MACS, 8, 6, ...arp(2, 1, 2)];

test('frames that concern all are told, and received here too; those of the others come behind', () => {
  const { port, exchange, told, rx, send, got, far } = bench();
  send(...MACS, 8, 6, ...arp(1, 1, 2));
  send(...reply);
  const theirs = Uint8Array.from([9, 9, ...reply, 9]);
  exchange.hear!(theirs, 2, reply.length);
  theirs.fill(0);
  assert.equal(port.receive(rx, 128, 0), 3);
  assert.deepEqual(told, [reply.length], 'what was told here is not told on');
  assert.deepEqual(got(1), reply);
  assert.deepEqual(got(2), reply);
  assert.deepEqual([rx.segsz[2], rx.flags[2], rx.hdrlen[2]], [0, 0, 0]);
  assert.deepEqual([port.counters.tx_told, port.counters.rx_told], [1, 1]);
  assert.equal(port.receive(rx, 128, 0), 0);
  port.close();
  assert.equal(exchange.hear, undefined);
  far.close();
});

test('what is told waits, so many frames of such a length, for rooms that hold them', () => {
  const { port, exchange, rx, got, far } = bench();
  const frame = Uint8Array.from(reply);
  for (let i = 0; i < 70; i++) {
    frame[0] = i;
    exchange.hear!(frame, 0, frame.length);
  }
  exchange.hear!(new Uint8Array(3000), 0, 3000);
  assert.equal(port.counters.rx_told_full, 7);
  const seen: number[] = [];
  for (let n = port.receive(rx, 30, 0); n > 0; n = port.receive(rx, 30, 0))
    for (let i = 0; i < n; i++) seen.push(got(i)[0]!);
  assert.deepEqual(
    seen,
    Array.from({ length: 64 }, (_, i) => i),
  );
  exchange.hear!(frame, 0, frame.length);
  rx.cap[0] = 20;
  assert.equal(port.receive(rx, 1, 0), 0);
  assert.equal(port.counters.rx_truncated, 1);
  port.close();
  far.close();
});

test('what is told wakes an armed port, once, also when it was told before', async () => {
  const { port, exchange, rx, far } = bench();
  const frame = Uint8Array.from(reply);
  let woken = 0;
  const wake = () => woken++;
  const turn = () => new Promise<void>(resolve => setImmediate(() => setImmediate(resolve)));
  port.arm(wake);
  exchange.hear!(frame, 0, frame.length);
  exchange.hear!(frame, 0, frame.length);
  assert.equal(woken, 0, 'not from inside');
  await turn();
  assert.equal(woken, 1);
  exchange.hear!(frame, 0, frame.length);
  await turn();
  assert.equal(woken, 1, 'it is not armed');
  port.arm(wake);
  await turn();
  assert.equal(woken, 2);
  port.arm(wake);
  port.disarm();
  await turn();
  assert.equal(woken, 2);
  assert.equal(port.receive(rx, 128, 0), 3);
  port.close();
  far.close();
});
