import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Native } from '../native.js';
import { repairHeaders } from './headers.js';
import { PacketRx } from './packet-rx.js';
import { writeIp } from './packets.fixture.js';
import { BATCH_L3_TRUSTED, BATCH_SCTP_CSUM_OK, Batch, Memory } from './port.js';

const BLOCKS = 4;
const BYTES = 128 << 10;
const ROOM = 4096;
const USER = 1;
const LOSING = 4;
const CSUM_NOT_READY = 8;
const VLAN = 0x10 | 0x40;

/** What the kernel does to a TPACKET_V3 ring (net/packet/af_packet.c), a step at a time. */
class Kernel {
  readonly ring = new ArrayBuffer(BLOCKS * BYTES);
  readonly u8 = new Uint8Array(this.ring);
  readonly dv = new DataView(this.ring);
  block = 0;
  next = 48;
  packets = 0;
  last = 0;

  /** prb_fill_curr_block and tpacket_rcv. `whole: false` stops before the header is written. */
  frame(
    bytes: Uint8Array,
    o: { status?: number; tci?: number; tpid?: number; whole?: boolean; snap?: number } = {},
  ): void {
    const base = this.block * BYTES;
    const at = base + this.next;
    const size = (82 + bytes.length + 7) & ~7;
    this.dv.setUint32(at, size, true);
    this.dv.setUint32(at + 32, o.tci ?? 0, true);
    this.dv.setUint16(at + 36, o.tpid ?? 0, true);
    this.dv.setUint32(base + 12, ++this.packets, true);
    this.last = at;
    this.next += size;
    this.dv.setUint32(base + 20, this.next, true);
    if (o.whole !== false) this.finish(bytes, o.status ?? 0, o.snap ?? bytes.length);
  }
  /** The rest of the newest frame. */
  finish(bytes: Uint8Array, status = 0, snap = bytes.length): void {
    const at = this.last;
    this.u8.set(bytes.subarray(0, snap), at + 82);
    this.dv.setUint32(at + 20, USER | status, true);
    this.dv.setUint32(at + 16, bytes.length, true);
    this.dv.setUint32(at + 12, snap, true);
    this.dv.setUint16(at + 24, 82, true);
    this.dv.setUint32(at + 52, 7, true);
  }
  /** prb_open_block: the block gets the next number, unless it has not been given back (the queue is frozen). */
  opened(): void {
    const base = this.block * BYTES;
    if ((this.dv.getUint32(base + 8, true) & USER) === 0) this.dv.setUint32(base + 24, ++this.number, true);
  }
  number = 0;
  constructor() {
    this.opened();
  }
  /** prb_close_block: the block is handed over, and the next one opened if it is free. */
  close(status = USER): void {
    const base = this.block * BYTES;
    if (this.last > 0) this.dv.setUint32(this.last, 0, true);
    this.dv.setUint32(base + 12, this.packets, true);
    this.dv.setUint32(base + 16, 48, true);
    this.dv.setUint32(base + 8, status, true);
    this.block = (this.block + 1) % BLOCKS;
    this.opened();
    this.next = 48;
    this.packets = 0;
    this.last = 0;
  }
  mine(block: number): boolean {
    return this.dv.getUint32(block * BYTES + 8, true) === 0;
  }
}

const counters = () => ({ rx_packets: 0, rx_bytes: 0, rx_truncated: 0, rx_oversize: 0, rx_errors: 0, rx_cut: 0 });
const native = {
  copyBatch(src: Uint8Array, from: Int32Array, dst: Uint8Array, at: Int32Array, len: Int32Array, n: number) {
    for (let i = 0; i < n; i++) dst.set(src.subarray(from[i]!, from[i]! + len[i]!), at[i]!);
  },
} as unknown as Native;

function host(o: { trains?: boolean; peek?: boolean; kernel?: Kernel } = {}) {
  const kernel = o.kernel ?? new Kernel();
  const c = counters();
  const rx = new PacketRx(kernel.ring, BLOCKS, BYTES, c, o.trains ?? true, o.peek ?? true, native);
  const memory = new Memory(new ArrayBuffer(32 * 66_000));
  const batch = new Batch(32);
  const receive = (room = 32, cap = ROOM, mtu = 1500) => {
    for (let i = 0; i < 32; i++) {
      batch.off[i] = i * 66_000;
      batch.cap[i] = cap;
    }
    return rx.receive(memory, batch, room, mtu);
  };
  const got = (i: number) => memory.u8.slice(batch.off[i], batch.off[i]! + batch.len[i]!);
  return { kernel, rx, c, memory, batch, receive, got };
}

const MACS = [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa];
const plain = (seed: number, n = 60) =>
  Uint8Array.from({ length: n }, (_, i) => (i < 12 ? MACS[i]! : i < 14 ? 0x88 : seed + i));

interface Sctp {
  n?: number;
  tos?: number;
  vtag?: number;
  six?: boolean;
  from?: string;
}
/** An SCTP packet of n bytes of chunks with its frame; `seed` is in them. */
function sctp(seed: number, { n = 100, tos = 0, vtag = 1, six = false, from }: Sctp = {}): Uint8Array {
  const ip = six ? 40 : 20;
  const u8 = new Uint8Array(14 + ip + 12 + n).fill(seed);
  u8.set([...MACS, ...(six ? [0x86, 0xdd] : [8, 0])]);
  const at = writeIp(u8, 14, u8.length, from ?? (six ? 'fd00::1' : '10.7.0.1'), six ? 'fd00::2' : '10.7.0.2', 132);
  if (!six) u8[15] = tos;
  repairHeaders(u8, 14, u8.length, false, false);
  u8.set([0x13, 0x89, 0x13, 0x8a, 0, 0, 0, vtag, 0, 0, 0, seed], at);
  return u8;
}

test('packet rx: blocks come over whole, and are given back when they have been read', () => {
  const { kernel, c, rx, receive, got } = host({ peek: false });
  kernel.frame(plain(1));
  kernel.frame(plain(2));
  assert.equal(rx.ready, false);
  assert.equal(receive(), 0, 'not before the block is handed over');
  kernel.close();
  assert.equal(rx.ready, true);
  assert.equal(receive(1), 1);
  assert.deepEqual(got(0), plain(1));
  assert.equal(kernel.mine(0), false, 'not read to its end');
  assert.equal(rx.ready, true);
  assert.equal(receive(), 1);
  assert.deepEqual(got(0), plain(2));
  assert.equal(kernel.mine(0), true);
  assert.equal(rx.ready, false);
  assert.deepEqual([c.rx_packets, c.rx_bytes], [2, 120]);
});

test('packet rx: round the ring, an empty block too', () => {
  const { kernel, receive, got } = host({ peek: false });
  for (let i = 0; i < 3 * BLOCKS; i++) {
    if (i % 3 !== 2) kernel.frame(plain(i));
    kernel.close();
    assert.equal(receive(), i % 3 === 2 ? 0 : 1);
    if (i % 3 !== 2) assert.deepEqual(got(0), plain(i));
  }
  for (let i = 0; i < BLOCKS; i++) {
    kernel.frame(plain(i));
    kernel.close();
  }
  assert.equal(receive(2), 2, 'all blocks are ours');
  assert.equal(receive(), 2);
});

test('packet rx: a frame in a block that is still being filled is seen when it is whole', () => {
  const { kernel, receive, got, rx } = host();
  kernel.frame(plain(1), { whole: false });
  assert.equal(rx.ready, false);
  assert.equal(receive(), 0);
  kernel.finish(plain(1));
  assert.equal(rx.ready, true);
  assert.equal(receive(), 1);
  assert.deepEqual(got(0), plain(1));
  assert.equal(receive(), 0, 'once');
  kernel.frame(plain(2));
  kernel.frame(plain(3), { whole: false });
  assert.equal(receive(), 1);
  kernel.finish(plain(3));
  kernel.frame(plain(4));
  kernel.close();
  assert.equal(receive(), 2, 'the rest of the block');
  assert.deepEqual(got(1), plain(4));
  assert.equal(kernel.mine(0), true);
  kernel.frame(plain(5));
  kernel.close();
  kernel.frame(plain(6));
  assert.equal(receive(), 2, 'a block and some of the next');
  assert.deepEqual(got(1), plain(6));
  kernel.close();
  assert.equal(receive(), 0);
  assert.equal(kernel.mine(2), true, 'read before it was handed over');
});

test('packet rx: what was in a block before is not taken for a frame', () => {
  const { kernel, receive } = host();
  for (let i = 0; i < BLOCKS; i++) {
    for (let k = 0; k < 5; k++) kernel.frame(plain(k, 60 + 8 * i));
    kernel.close();
    assert.equal(receive(), 5);
  }
  for (let k = 0; k < 4; k++) {
    kernel.frame(plain(k, 70), { whole: false });
    assert.equal(receive(), 0);
    kernel.finish(plain(k, 70));
    assert.equal(receive(), 1);
  }
});

test('packet rx: packets of a flow become a train with true headers; a shorter one ends it', () => {
  for (const six of [false, true]) {
    const { kernel, receive, got, batch, c } = host();
    for (const [seed, n] of [
      [1, 100],
      [2, 100],
      [3, 40],
      [4, 100],
    ] as const)
      kernel.frame(sctp(seed, { n, six }));
    kernel.close();
    assert.equal(receive(), 2);
    const hdr = six ? 54 : 34;
    assert.deepEqual([batch.segsz[0], batch.hdrlen[0], batch.flags[0]], [112, hdr, BATCH_L3_TRUSTED]);
    const train = got(0);
    assert.equal(train.length, hdr + 112 + 112 + 52);
    for (const [k, seed] of [1, 2, 3].entries()) {
      const packet = sctp(seed, { n: seed === 3 ? 40 : 100, six }).subarray(hdr);
      assert.deepEqual(train.subarray(hdr + k * 112, hdr + k * 112 + packet.length), packet);
    }
    const repaired = train.slice();
    repairHeaders(repaired, 14, repaired.length, false, false);
    assert.deepEqual(train, repaired);
    assert.deepEqual([batch.segsz[1], batch.flags[1]], [0, 0]);
    assert.deepEqual(got(1), sctp(4, { six }));
    assert.equal(c.rx_packets, 4);
  }
});

test('packet rx: no train of packets that differ in more than a train may', () => {
  const second: [string, Uint8Array][] = [
    ['ECN', sctp(2, { tos: 3 })],
    ['verification tag', sctp(2, { vtag: 2 })],
    ['source', sctp(2, { from: '10.7.0.3' })],
    ['family', sctp(2, { six: true })],
    ['longer', sctp(2, { n: 104 })],
    ['not SCTP', plain(2, 146)],
  ];
  const broken = sctp(2);
  broken[24]! ^= 1;
  second.push(['header checksum', broken]);
  const fragment = sctp(2);
  fragment[20] = 0x20;
  second.push(['fragment', fragment]);
  const padded = sctp(2, { n: 60 });
  second.push(['padding', Uint8Array.from([...padded, 0, 0])]);
  for (const [why, other] of second) {
    const { kernel, receive, batch, got } = host();
    kernel.frame(sctp(1));
    kernel.frame(other);
    kernel.close();
    assert.equal(receive(), 2, why);
    assert.deepEqual([batch.segsz[0], batch.segsz[1]], [0, 0], why);
    assert.deepEqual(got(1), other, why);
  }
  const { kernel, receive } = host({ trains: false });
  kernel.frame(sctp(1));
  kernel.frame(sctp(2));
  kernel.close();
  assert.equal(receive(), 2);
});

test('packet rx: a train keeps to its room and to 64 packets', () => {
  const a = host();
  for (let i = 0; i < 5; i++) a.kernel.frame(sctp(i));
  a.kernel.close();
  assert.equal(a.receive(32, 34 + 112 * 2 + 111), 3);
  assert.deepEqual([...a.batch.len.subarray(0, 3)], [34 + 224, 34 + 224, 34 + 112]);
  const b = host();
  for (let i = 0; i < 100; i++) b.kernel.frame(sctp(i));
  b.kernel.close();
  assert.equal(b.receive(32, 66_000), 2);
  assert.deepEqual([...b.batch.len.subarray(0, 2)], [34 + 112 * 64, 34 + 112 * 36]);
});

test('packet rx: a VLAN tag goes back into its frame', () => {
  const { kernel, receive, got, batch } = host();
  kernel.frame(plain(1), { status: VLAN, tci: 0x6123, tpid: 0x88a8 });
  kernel.frame(plain(2), { status: 0x10, tci: 5 });
  kernel.frame(plain(3, 1514), { status: VLAN, tci: 5, tpid: 0x8100 });
  kernel.close();
  assert.equal(receive(), 3);
  const tagged = (frame: Uint8Array, ...tag: number[]) =>
    Uint8Array.from([...frame.subarray(0, 12), ...tag, ...frame.subarray(12)]);
  assert.deepEqual(got(0), tagged(plain(1), 0x88, 0xa8, 0x61, 0x23));
  assert.deepEqual(got(1), tagged(plain(2), 0x81, 0, 0, 5));
  assert.equal(batch.len[2], 1518);
});

test('packet rx: checksums that the host left out are vouched for', () => {
  const { kernel, receive, batch } = host();
  const udp = sctp(1);
  udp[23] = 17;
  kernel.frame(sctp(1), { status: CSUM_NOT_READY });
  kernel.frame(udp, { status: CSUM_NOT_READY });
  kernel.frame(sctp(1, { six: true }), { status: CSUM_NOT_READY });
  kernel.frame(sctp(1));
  kernel.close();
  assert.equal(receive(), 4);
  assert.deepEqual([...batch.flags.subarray(0, 4)], [BATCH_SCTP_CSUM_OK, BATCH_L3_TRUSTED, BATCH_SCTP_CSUM_OK, 0]);
});

/** What the host's SCTP makes with segmentation offload: one header, chunks of several packets behind it. */
function giant(chunks: readonly number[]): Uint8Array {
  const n = chunks.reduce((sum, x) => sum + ((x + 3) & ~3), 0);
  const u8 = sctp(0, { n });
  let at = 46;
  for (const [i, len] of chunks.entries()) {
    u8.fill(i + 1, at, at + ((len + 3) & ~3));
    u8.set([0, 3, len >>> 8, len & 255], at);
    at += (len + 3) & ~3;
  }
  return u8;
}

test('packet rx: a frame left to a segmenting card is cut between chunks', () => {
  const chunks = [1000, 201, 202, 400, 1400, 16, 16, 1001];
  const { kernel, receive, got, batch, c } = host();
  kernel.frame(giant(chunks), { status: CSUM_NOT_READY });
  kernel.frame(plain(9));
  kernel.close();
  // In calls for two packets each, so that it goes on in the middle.
  const packets: Uint8Array[] = [];
  const flags: number[] = [];
  for (let calls = 0; calls < 6; calls++) {
    const n = receive(2);
    assert.ok(n <= 2);
    for (let i = 0; i < n; i++) {
      packets.push(got(i));
      flags.push(batch.flags[i]!);
    }
  }
  assert.ok(packets.length > 4);
  assert.deepEqual(flags, [...new Array(packets.length - 1).fill(BATCH_SCTP_CSUM_OK), 0]);
  const seen: number[] = [];
  for (const p of packets.slice(0, -1)) {
    assert.ok(p.length <= 1514);
    const copy = p.slice();
    repairHeaders(copy, 14, copy.length, false, false);
    assert.deepEqual(p, copy, 'headers are true');
    assert.deepEqual(p.subarray(34, 46), giant(chunks).subarray(34, 46));
    for (let at = 46; at < p.length; ) {
      const len = (p[at + 2]! << 8) | p[at + 3]!;
      seen.push(len);
      at += (len + 3) & ~3;
    }
  }
  assert.deepEqual(seen, chunks);
  assert.equal(c.rx_cut, packets.length - 1);
  assert.deepEqual(packets.at(-1), plain(9));
});

test('packet rx: what is too long and cannot be cut is dropped and counted', () => {
  const { kernel, receive, c } = host();
  kernel.frame(plain(1, 1600));
  kernel.frame(giant([1000, 1000]));
  kernel.frame(giant([2000, 100]), { status: CSUM_NOT_READY });
  const lies = giant([1000, 1000]);
  lies.set([0, 3], 46 + 1002);
  kernel.frame(lies, { status: CSUM_NOT_READY });
  kernel.frame(plain(2, 200), { snap: 100 });
  kernel.frame(plain(3, 10));
  kernel.frame(plain(4));
  kernel.close();
  const n = receive();
  assert.equal(n, 2, 'one packet of the giant that lies, and the last frame');
  assert.deepEqual([c.rx_oversize, c.rx_truncated, c.rx_errors], [4, 1, 1]);
});

test('packet rx: the kernel’s losses are seen', () => {
  const { kernel, rx, receive } = host();
  kernel.frame(plain(1));
  kernel.close(USER | LOSING);
  receive();
  assert.equal(rx.losing, true);
});

test('packet rx: a successor goes on in the ring where the kernel is', () => {
  for (const peek of [false, true])
    for (let used = 0; used < 2 * BLOCKS + 1; used++)
      for (let left = 0; left <= BLOCKS; left++) {
        const first = host({ peek });
        for (let i = 0; i < used; i++) {
          first.kernel.frame(plain(i));
          first.kernel.close();
          assert.equal(first.receive(), 1);
        }
        // Blocks that the first reader has not given back; with all of them the kernel has no block any more.
        for (let i = 0; i < left; i++) {
          first.kernel.frame(plain(100 + i));
          first.kernel.close();
        }
        const next = host({ peek, kernel: first.kernel });
        next.rx.resume();
        assert.equal(next.receive(), left, `${used} used, ${left} left`);
        for (let i = 0; i < left; i++) assert.deepEqual(next.got(i), plain(100 + i));
        if (left === BLOCKS) next.kernel.opened();
        next.kernel.frame(plain(50));
        if (peek) assert.equal(next.receive(), 1, 'seen before the block is handed over');
        next.kernel.close();
        assert.equal(next.receive(), peek ? 0 : 1);
      }
});
