import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32c, sctpCheck } from '../nic/crc32c.js';
import { Memory, type Port } from '../nic/ports/port.js';
import { createWire } from '../nic/ports/wire.js';
import { STATUS_NEEDS_RESET, WAKE_MAGIC } from '../nic/registers.js';
import {
  CSUM_IP,
  CSUM_L3_OK,
  CSUM_L4_OK,
  CSUM_SCTP,
  CSUM_SCTP_BAD,
  CSUM_SCTP_OK,
  CSUM_UDP,
  M_BCAST,
  M_MCAST,
} from '../stack/kern/mbuf.js';
import { IFF_NOARP, IFF_RUNNING } from '../stack/net/ifnet.js';
import { frame, pair, run, type Station, sctpPacket, station } from './driver.fixture.js';
import { ProbeError } from './probe.js';

const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const payload = (n: number) => Uint8Array.from({ length: n }, (_, i) => (i * 7 + 3) & 255);

/** Frees what came in and returns it as bytes. */
function take(s: Station): Uint8Array[] {
  return s.received.splice(0).map(m => {
    const b = s.pool.toBytes(m);
    s.pool.freem(m);
    return b;
  });
}
/** A station whose driver is down holds nothing. */
function empty(s: Station): void {
  s.driver.setUp(false);
  assert.deepEqual(s.pool.inUse, { small: 0, cluster: 0, jumbo: 0 });
}

test('frames cross driver, card, wire, card, driver unchanged, and every mbuf comes back', () => {
  for (const wants of [{}, { eventIdx: false }, { trains: false }, { offloads: false }, { hash: true }]) {
    for (const train of [0, 65535]) {
      const [a, b] = pair({ train }, { driver: { wants } });
      const sent: Uint8Array[] = [];
      for (let i = 0; i < 500; i++) {
        const m = frame(a, b.driver.ifp.mac, 0x1234, payload(i * 3 < 1500 ? i * 3 : 46));
        sent.push(a.pool.toBytes(m));
        assert.ok(a.driver.output(m));
        if (i % 37 === 0) run([a, b]);
      }
      run([a, b]);
      assert.deepEqual(take(b), sent);
      assert.equal(b.driver.ifp.counters.ipackets, 500);
      assert.equal(a.driver.ifp.counters.opackets, 500);
      assert.equal(a.firmware.counters.tx_frames, 500);
      assert.equal(b.driver.counters.rx_bad, 0);
      empty(a);
      empty(b);
    }
  }
});

test('a chain without headroom, a chain in many pieces, and a two-piece packet arrive whole', () => {
  const [a, b] = pair();
  const build = (pieces: number, headroom: number) => {
    const m = frame(a, b.driver.ifp.mac, 0x1234, payload(10));
    if (headroom < 96) {
      const off = a.pool.off[m]!;
      a.pool.u8.copyWithin(a.pool.base[m]! + headroom, off, off + a.pool.len[m]!);
      a.pool.off[m] = a.pool.base[m]! + headroom;
    }
    let last = m;
    for (let i = 0; i < pieces; i++) {
      const n = a.pool.getSmall(0);
      a.pool.len[n] = i % 3 === 2 ? 0 : 20;
      for (let k = 0; k < 20; k++) a.pool.u8[a.pool.off[n]! + k] = i;
      a.pool.pktlen[m]! += a.pool.len[n]!;
      a.pool.next[last] = n;
      last = n;
    }
    return m;
  };
  const sent: Uint8Array[] = [];
  for (const [pieces, headroom] of [
    [0, 0],
    [1, 96],
    [5, 4],
    [40, 0],
  ] as const) {
    const m = build(pieces, headroom);
    sent.push(a.pool.toBytes(m));
    assert.ok(a.driver.output(m));
  }
  run([a, b]);
  assert.deepEqual(take(b), sent);
  assert.equal(a.driver.counters.tx_pullup, 1);
  assert.ok(a.firmware.counters.tx_gathered >= 2);
  empty(a);
  empty(b);
});

test('plain frames, frames that want checksums and frames in pieces keep their order on a medium that pushes back', () => {
  const [a, b] = pair({ slots: 5 });
  const sent: number[] = [];
  for (let i = 0; i < 200; i++) {
    let m: number;
    if (i % 7 === 3) {
      const { bytes } = sctpPacket(Uint8Array.of(i, 0, 0, 4));
      m = frame(a, b.driver.ifp.mac, IPV4, bytes);
      a.pool.csum[m] = CSUM_SCTP | CSUM_IP;
    } else if (i % 5 === 1) {
      m = frame(a, b.driver.ifp.mac, 0x1234, payload(20));
      const tail = a.pool.fromBytes(Uint8Array.of(i));
      a.pool.next[m] = tail;
      a.pool.pktlen[m]! += 1;
    } else m = frame(a, b.driver.ifp.mac, 0x1234, Uint8Array.of(...payload(20), i));
    sent.push(i);
    assert.ok(a.driver.output(m));
    if (i % 31 === 0) run([a, b]);
  }
  run([a, b]);
  // The number is the last byte of a plain frame; the first byte of the chunk of a packet.
  const got = take(b).map(f => (f[12] === 0x08 ? f[14 + 20 + 12]! : f.at(-1)!));
  assert.equal(got.length, sent.length);
  assert.deepEqual(
    got.filter((_, i) => i % 7 !== 3),
    sent.filter((_, i) => i % 7 !== 3),
  );
  assert.ok(a.firmware.counters.tx_busy > 0, 'the medium pushed back');
  assert.equal(a.firmware.counters.tx_frames, 200);
  empty(a);
  empty(b);
});

test('a run of frames of every kind goes out as one by one: order, counters, drops and headers', () => {
  for (const hash of [false, true]) {
    const [a, b] = pair({}, { driver: { wants: { hash } } });
    const mac = b.driver.ifp.mac;
    const list: number[] = [];
    const sent: Uint8Array[] = [];
    for (let i = 0; i < 300; i++) {
      const to = i % 11 === 5 ? new Uint8Array(6).fill(255) : mac;
      const m = frame(a, to, 0x1234, Uint8Array.of(i, i >> 8, ...payload(i % 60)));
      const { off, base, len, next, pktlen } = a.pool;
      if (i % 7 === 3) {
        next[m] = a.pool.fromBytes(payload(9)); // a chain
        pktlen[m]! += 9;
      } else if (i % 13 === 4) {
        a.pool.u8.copyWithin(base[m]!, off[m]!, off[m]! + len[m]!); // without headroom
        off[m] = base[m]!;
      } else if (i % 17 === 6) {
        a.pool.u8.copyWithin(off[m]! - 1, off[m]!, off[m]! + len[m]!); // at an odd place
        off[m]!--;
      }
      list.push(m);
      sent.push(a.pool.toBytes(m));
    }
    const runt = a.pool.fromBytes(payload(10));
    const giant = a.pool.fromBytes(payload(1600));
    list.splice(100, 0, runt, giant);
    assert.equal(a.driver.outputRun(Int32Array.from(list), list.length), 300);
    run([a, b]);
    assert.deepEqual(take(b), sent);
    const { counters } = a.driver.ifp;
    assert.equal(counters.opackets, 300);
    assert.equal(
      counters.obytes,
      sent.reduce((sum, f) => sum + f.length, 0),
    );
    assert.equal(counters.omcasts, 27);
    assert.equal(b.driver.ifp.counters.imcasts, 27);
    assert.equal(a.driver.counters.tx_bad, 2);
    assert.equal(counters.oerrors, 2);
    empty(a);
    empty(b);
  }
});

test('a run that asks for checksums gets them; what does not fit the ring is dropped and counted, as without a link', () => {
  const [a, b] = pair();
  const { bytes } = sctpPacket(payload(100));
  const make = (n: number) => {
    const list = new Int32Array(n);
    for (let i = 0; i < n; i++) {
      list[i] = frame(a, b.driver.ifp.mac, IPV4, bytes);
      a.pool.csum[list[i]!] = CSUM_SCTP | CSUM_IP;
    }
    return list;
  };
  assert.equal(a.driver.outputRun(make(5), 5), 5);
  run([a, b]);
  for (const m of b.received) assert.equal(b.pool.csum[m]! & (CSUM_SCTP_OK | CSUM_L3_OK), CSUM_SCTP_OK | CSUM_L3_OK);
  assert.equal(take(b).length, 5);
  // The card does not step: 1,024 go in.
  for (let i = 0; i < 4; i++) assert.equal(a.driver.outputRun(make(250), 250), 250);
  assert.equal(a.driver.outputRun(make(50), 50), 24);
  assert.equal(a.driver.counters.tx_ring_full, 26);
  assert.equal(a.driver.ifp.counters.odrops, 26);
  run([a, b]);
  assert.equal(take(b).length, 1024);
  a.driver.setCable(false);
  run([a, b]);
  assert.equal(a.driver.outputRun(make(3), 3), 0);
  assert.equal(a.driver.counters.tx_down, 3);
  empty(a);
  empty(b);
});

test('an upcall takes the interface down, or polls, in the middle of a batch: nothing is lost but what was not handed up', () => {
  const send = (a: Station, b: Station) => {
    for (let i = 0; i < 20; i++) a.driver.output(frame(a, b.driver.ifp.mac, 0x1234, Uint8Array.of(i)));
    a.driver.flush();
    a.firmware.step(0);
    b.firmware.step(0);
  };
  const [a, b] = pair();
  b.driver.ifp.input = m => {
    if (b.received.push(m) === 7) b.driver.setUp(false);
  };
  send(a, b);
  b.driver.poll(64);
  assert.equal(take(b).length, 7);
  assert.deepEqual(b.pool.inUse, { small: 0, cluster: 0, jumbo: 0 });
  empty(a);

  const [c, d] = pair();
  d.driver.ifp.input = m => {
    if (d.received.push(m) !== 7) return;
    send(c, d);
    d.driver.poll(64);
  };
  send(c, d);
  d.driver.poll(64);
  run([c, d]);
  const order = take(d).map(f => f[14]);
  assert.deepEqual(
    order,
    [...order.keys()].map(i => i % 20),
  );
  assert.equal(order.length, 40);
  empty(c);
  empty(d);
});

test('the card fills in CRC32c, UDP and IPv4 checksums, and the other card finds them good', () => {
  const [a, b] = pair();
  for (const o of [{}, { v6: true }, { udpPort: 9899 }, { v6: true, udpPort: 9899 }]) {
    const p = sctpPacket(payload(333), o);
    const m = frame(a, b.driver.ifp.mac, o.v6 ? IPV6 : IPV4, p.bytes);
    a.pool.csum[m] = CSUM_SCTP | CSUM_UDP | CSUM_IP;
    a.driver.output(m);
    run([a, b]);
    const got = b.received[0]!;
    const csum = b.pool.csum[got]!;
    assert.equal(csum & (CSUM_SCTP_OK | CSUM_SCTP_BAD | CSUM_L3_OK), CSUM_SCTP_OK | CSUM_L3_OK);
    assert.equal((csum & CSUM_L4_OK) !== 0, 'udpPort' in o);
    const [bytes] = take(b);
    assert.ok(sctpCheck(bytes!, 14 + p.hdr, bytes!.length - 14 - p.hdr));
  }
  assert.equal(b.firmware.counters.rx_csum_ip_bad + b.firmware.counters.rx_csum_udp_bad, 0);
});

test('bad checksums are marked and counted, not dropped', () => {
  const [a, b] = pair();
  const p = sctpPacket(payload(100), { udpPort: 9899 });
  const m = frame(a, b.driver.ifp.mac, IPV4, p.bytes); // sums left out: IPv4 bad, CRC bad, UDP "none"
  a.driver.output(m);
  run([a, b]);
  const csum = b.pool.csum[b.received[0]!]!;
  assert.equal(csum & (CSUM_SCTP_OK | CSUM_SCTP_BAD | CSUM_L3_OK | CSUM_L4_OK), CSUM_SCTP_BAD | CSUM_L4_OK);
  assert.equal(b.firmware.counters.rx_csum_sctp_bad, 1);
  assert.equal(b.firmware.counters.rx_csum_ip_bad, 1);
  take(b);
});

for (const train of [0, 65535])
  for (const o of [{}, { v6: true }, { udpPort: 9899 }, { v6: true, udpPort: 9899 }])
    test(`a train of 40 packets ${train ? 'crosses whole' : 'is cut by the card'} ${JSON.stringify(o)}`, () => {
      const [a, b] = pair({ train });
      const p = sctpPacket(payload(1300), { ...o, packets: 40 });
      const bytes = new Uint8Array(14 + p.bytes.length);
      bytes.set(b.driver.ifp.mac);
      bytes.set(a.driver.ifp.mac, 6);
      bytes[12] = (o as { v6?: boolean }).v6 ? 0x86 : 8;
      bytes[13] = (o as { v6?: boolean }).v6 ? 0xdd : 0;
      bytes.set(p.bytes, 14);
      const m = a.pool.getJumbo();
      a.pool.u8.set(bytes, a.pool.off[m]!);
      a.pool.len[m] = a.pool.pktlen[m] = bytes.length;
      a.pool.segsz[m] = 1312;
      a.pool.hdrlen[m] = 14 + p.hdr;
      a.pool.csum[m] = CSUM_SCTP | CSUM_UDP | CSUM_IP;
      assert.ok(a.driver.output(m));
      run([a, b]);
      assert.equal(b.driver.ifp.counters.ipackets, 40);
      assert.equal(a.driver.ifp.counters.opackets, 40);
      assert.equal(b.received.length, train ? 1 : 40);
      for (const r of b.received) {
        assert.equal(b.pool.csum[r]! & (CSUM_SCTP_OK | CSUM_SCTP_BAD | CSUM_L3_OK), CSUM_SCTP_OK | CSUM_L3_OK);
        if ('udpPort' in o) assert.ok(b.pool.csum[r]! & CSUM_L4_OK);
        assert.equal(b.pool.segsz[r], train ? 1312 : 0);
        if (train) assert.equal(b.pool.hdrlen[r], 14 + p.hdr);
      }
      const got = take(b);
      if (!train) {
        for (const [i, g] of got.entries()) {
          assert.equal(g.length, 14 + p.hdr + 1312);
          assert.equal(g[14 + p.hdr + 12], i);
          if (!('v6' in o)) assert.equal(new DataView(g.buffer).getUint16(18), 0x1234 + i, 'identification counts up');
        }
      }
      empty(a);
      empty(b);
    });

test('trains that make no sense are refused by the card with a counter', () => {
  const [a, b] = pair();
  const bad = (segsz: number, hdrlen: number, n = 3000) => {
    const m = frame(a, b.driver.ifp.mac, IPV4, sctpPacket(payload(n)).bytes);
    a.pool.segsz[m] = segsz;
    a.pool.hdrlen[m] = hdrlen;
    a.driver.output(m);
    run([a, b]);
  };
  bad(1300, 40); // headers do not end where SCTP begins
  bad(1300, 60000); // headers longer than the frame
  bad(10, 34); // too many packets
  assert.equal(a.firmware.counters.tx_bad_train, 3);
  bad(2900, 34); // pieces longer than the MTU
  assert.equal(a.firmware.counters.tx_oversize, 1);
  assert.equal(b.received.length, 0);
  empty(a);
});

test('an IP medium: link headers are stripped and written, ARP is dropped and counted, the interface has NOARP', () => {
  const [a, b] = pair({ carries: 'ip' });
  assert.ok(a.driver.ifp.flags & IFF_NOARP);
  const p = sctpPacket(payload(64));
  a.driver.output(frame(a, Uint8Array.of(2, 9, 9, 9, 9, 9), IPV4, p.bytes));
  a.driver.output(frame(a, new Uint8Array(6).fill(255), 0x0806, payload(28)));
  run([a, b]);
  const [got] = take(b);
  assert.deepEqual(got!.subarray(0, 6), b.driver.ifp.mac);
  assert.deepEqual([...got!.subarray(6, 14)], [2, 0x6e, 0x6b, 0x65, 0, 0, 8, 0]);
  assert.deepEqual(got!.subarray(14), p.bytes);
  assert.equal(a.firmware.counters.tx_not_ip, 1);
  empty(a);
  empty(b);
});

test('the card filters addresses; multicast groups, promiscuous mode and a new address go through the control queue', () => {
  const [a, b] = pair();
  const group = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
  const other = Uint8Array.of(2, 7, 7, 7, 7, 7);
  const arrive = (dst: Uint8Array) => {
    a.driver.output(frame(a, dst, 0x1234, payload(50)));
    run([a, b]);
    const flags = b.received.map(m => b.pool.csum[m]! & (M_BCAST | M_MCAST));
    take(b);
    return flags;
  };
  assert.deepEqual(arrive(new Uint8Array(6).fill(255)), [M_BCAST]);
  assert.deepEqual(arrive(group), []);
  assert.deepEqual(arrive(other), []);
  assert.equal(b.firmware.counters.rx_filtered, 2);
  b.driver.setMulticast(group, true);
  b.driver.setMulticast(group, true);
  assert.deepEqual(arrive(group), [M_MCAST]);
  b.driver.setMulticast(group, false);
  assert.deepEqual(arrive(group), [M_MCAST]);
  b.driver.setMulticast(group, false);
  assert.deepEqual(arrive(group), []);
  b.driver.setPromisc(true);
  assert.deepEqual(arrive(other), [0]);
  b.driver.setPromisc(false);
  b.driver.setMac(other);
  assert.deepEqual(arrive(other), [0]);
  // What was set survives a reset of the card.
  b.driver.reset('test');
  assert.deepEqual(arrive(other), [0]);
  for (let i = 0; i < 200; i++) {
    b.driver.setMulticast(Uint8Array.of(1, 0, 0, 0, 0, i), true);
    run([b]);
  }
  assert.deepEqual(arrive(Uint8Array.of(1, 0, 0, 0, 1, 1)), [M_MCAST], 'too many groups: all pass');
  assert.equal(b.driver.counters.ctrl_errors, 0);
  assert.equal(b.driver.setMac(group), -22);
});

test('a full medium pushes back: frames stay in order in the ring, the driver refuses when it is full, nothing is lost', () => {
  const [a, b] = pair({ slots: 16 });
  const sent: number[] = [];
  let refused = 0;
  for (let i = 0; i < 1400; i++) {
    if (!a.driver.ready()) {
      refused++;
      a.driver.flush();
      a.firmware.step(0);
      continue;
    }
    assert.ok(a.driver.output(frame(a, b.driver.ifp.mac, 0x1234, Uint8Array.of(i >>> 8, i & 255, ...payload(44)))));
    sent.push(i);
  }
  a.driver.flush();
  a.firmware.step(0);
  assert.ok(refused > 0);
  assert.ok(a.firmware.counters.tx_busy > 0);
  run([a, b]);
  assert.deepEqual(
    take(b).map(f => (f[14]! << 8) | f[15]!),
    sent,
  );
  assert.equal(a.driver.ifp.counters.odrops, 0);
  empty(a);
  empty(b);
});

test('cable pulled under traffic: link events with reasons, drops counted, traffic goes on after', () => {
  const [a, b] = pair();
  const burst = (n: number) => {
    for (let i = 0; i < n; i++) a.driver.output(frame(a, b.driver.ifp.mac, 0x1234, payload(100)));
  };
  burst(100);
  a.driver.flush();
  a.driver.setCable(false);
  run([a, b]);
  assert.equal(a.driver.ifp.link, false);
  assert.equal(a.driver.ifp.flags & IFF_RUNNING, 0);
  assert.equal(a.firmware.counters.tx_link_down, 100);
  const off = a.events.at(-1)!;
  assert.ok(off.kind === 'link-off' && /cable/.test(off.reason));
  burst(5);
  assert.equal(a.driver.counters.tx_down, 5);
  a.driver.setCable(true);
  run([a, b]);
  assert.equal(a.events.at(-1)!.kind, 'link-on');
  burst(10);
  run([a, b]);
  assert.equal(take(b).length, 10);
  empty(a);
  empty(b);
});

test('the medium loses carrier: both drivers hear it', () => {
  const [pa, pb] = createWire();
  const a = station(pa);
  const b = station(pb);
  a.driver.setUp(true);
  b.driver.setUp(true);
  run([a, b]);
  pa.pull();
  run([a, b]);
  for (const s of [a, b]) {
    const e = s.events.at(-1)!;
    assert.ok(e.kind === 'link-off' && /carrier/.test(e.reason));
  }
  pa.plug();
  run([a, b]);
  assert.ok(a.driver.ifp.running && b.driver.ifp.running);
});

test('power: D1 keeps what the card knows, D3hot resets it, D3cold takes it off the bus; traffic passes again in D0', () => {
  const [a, b] = pair();
  for (const state of ['D1', 'D2', 'D3hot', 'D3cold'] as const) {
    assert.equal(b.driver.setPower(state, 'test'), 0);
    if (state === 'D3cold') b.firmware.powerOff();
    assert.equal(b.firmware.power, state);
    run([a, b]);
    assert.equal(b.driver.ifp.link, false);
    a.driver.output(frame(a, b.driver.ifp.mac, 0x1234, payload(50)));
    run([a, b]);
    assert.equal(take(b).length, 0);
    if (state === 'D3cold') {
      assert.equal(b.driver.setPower('D0', 'no supply'), -6);
      b.firmware.powerOn();
    }
    assert.equal(b.driver.setPower('D0', 'test'), 0);
    run([a, b]);
    a.driver.output(frame(a, b.driver.ifp.mac, 0x1234, payload(50)));
    run([a, b]);
    assert.equal(take(b).length, 1, state);
  }
  assert.equal(b.firmware.counters.rx_asleep, 3);
  assert.equal(b.firmware.counters.rx_disabled, 1);
  const states = b.events.flatMap(e => (e.kind === 'power' ? [e.state] : []));
  assert.deepEqual(states, ['D1', 'D0', 'D2', 'D0', 'D3hot', 'D0', 'D3cold', 'D0']);
  empty(a);
  empty(b);
});

test('a card that loses its supply unannounced is found out by its full ring, and taken into use again later', () => {
  const [a, b] = pair();
  a.firmware.powerOff();
  for (let i = 0; i < 1100 && a.driver.ifp.link; i++) {
    a.driver.output(frame(a, b.driver.ifp.mac, 0x1234, payload(50)));
    a.driver.flush();
    a.firmware.step(0);
  }
  const e = a.events.at(-1)!;
  assert.ok(e.kind === 'link-off' && /lost power/.test(e.reason));
  assert.deepEqual(a.pool.inUse, { small: 0, cluster: 0, jumbo: 0 });
  assert.equal(a.driver.setUp(false), 0);
  assert.equal(a.driver.setUp(true), 0);
  a.firmware.powerOn();
  assert.equal(a.driver.setPower('D0', 'supply is back'), 0);
  a.driver.output(frame(a, b.driver.ifp.mac, 0x1234, payload(50)));
  run([a, b]);
  assert.equal(take(b).length, 1);
});

test('a magic packet wakes the card from D3hot', () => {
  const [a, b] = pair();
  b.driver.setPower('D3hot', 'test', WAKE_MAGIC);
  run([a, b]);
  a.driver.output(frame(a, b.driver.ifp.mac, 0x0842, payload(102)));
  run([a, b]);
  assert.equal(b.driver.power, 'D3hot');
  const magic = new Uint8Array(108).fill(255, 0, 6);
  for (let i = 0; i < 16; i++) magic.set(b.driver.ifp.mac, 6 + 6 * i);
  a.driver.output(frame(a, new Uint8Array(6).fill(255), 0x0842, magic));
  run([a, b]);
  assert.equal(b.driver.power, 'D0');
  assert.ok(b.driver.ifp.running);
  assert.ok(b.events.some(e => e.kind === 'wake'));
});

test('a card that stops for a broken ring is reset by the driver and goes on', () => {
  const [a, b] = pair();
  const held = b.pool.inUse;
  // The receive queue's available index, out of bounds.
  const rings = new Uint16Array(b.memory.buffer);
  const avail = (512 * 16) / 2;
  rings[avail + 1] = (rings[avail + 1]! + 5000) & 0xffff;
  a.driver.output(frame(a, b.driver.ifp.mac, 0x1234, payload(50)));
  a.driver.flush();
  a.firmware.step(0);
  b.firmware.step(0); // takes the frame into a buffer that it holds
  b.firmware.step(0); // looks for more buffers
  run([a, b]);
  take(b);
  assert.equal(b.firmware.counters.queue_broken, 1);
  assert.equal(b.driver.counters.resets, 1);
  assert.equal(b.firmware.bar.read(0x70, 4) & STATUS_NEEDS_RESET, 0);
  assert.ok(b.driver.ifp.running);
  assert.deepEqual(b.pool.inUse, held);
});

test('reset under traffic, down and up, attach and detach a thousand times leave pool and rings as they were', () => {
  const [pa, pb] = createWire();
  const a = station(pa);
  a.driver.setUp(true);
  const b = station(pb);
  b.driver.setUp(true);
  run([a, b]);
  const before = b.pool.inUse;
  for (let i = 0; i < 1000; i++) {
    for (let k = 0; k < 3; k++) a.driver.output(frame(a, b.driver.ifp.mac, 0x1234, payload(60)));
    a.driver.flush();
    a.firmware.step(0);
    if (i % 2 === 0) b.firmware.step(0);
    if (i % 3 === 0) {
      b.driver.setUp(false);
      assert.deepEqual(b.pool.inUse, { small: 0, cluster: 0, jumbo: 0 });
      b.driver.setUp(true);
    } else assert.equal(b.driver.reset('test'), 0);
  }
  run([a, b]);
  take(b);
  assert.deepEqual(b.pool.inUse, before);
  b.driver.detach();
  b.firmware.close();
  assert.deepEqual(b.pool.inUse, { small: 0, cluster: 0, jumbo: 0 });
  assert.equal(b.driver.setUp(true), -6);
  a.driver.detach();
  assert.deepEqual(a.pool.inUse, { small: 0, cluster: 0, jumbo: 0 });
});

test('an empty pool starves receiving without loss of buffers, and recovers', () => {
  const [pa, pb] = createWire();
  const a = station(pa);
  const b = station(pb, { pool: { small: 8, cluster: 40, jumbo: 0 } });
  a.driver.setUp(true);
  b.driver.setUp(true);
  run([a, b]);
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 100; i++) a.driver.output(frame(a, b.driver.ifp.mac, 0x1234, payload(60)));
    run([a, b]);
    assert.equal(b.received.length, 40, 'as many as there are buffers');
    take(b);
    run([a, b]);
    assert.equal(b.received.length, 40, 'poll refills, and more come in');
    take(b);
    run([a, b]);
    assert.equal(b.received.length, 20);
    take(b);
    run([a, b]);
    assert.equal(b.driver.held.rx, 40);
  }
  assert.equal(b.driver.counters.rx_no_mbuf + b.driver.ifp.counters.idrops, 0);
  empty(b);
});

test('probe: a card without power, one that failed its self test, and no card at all', () => {
  const [pa, pb] = createWire();
  const broken = () => station(pa, { firmware: { selfTestUnits: { crc32c: () => 1 } } });
  assert.throws(broken, (e: unknown) => e instanceof ProbeError && e.code === 'EIO' && /self test/.test(e.message));
  const b = station(pb);
  b.firmware.powerOff();
  assert.throws(
    () =>
      new (b.driver.constructor as new (o: unknown) => unknown)({
        name: 'x',
        bar: b.firmware.bar,
        pool: b.pool,
        ringOffset: 0,
      }),
    (e: unknown) => e instanceof ProbeError && e.code === 'ENXIO',
  );
});

test('interrupt moderation holds interrupts back until time or frames have gathered', () => {
  const [a, b] = pair();
  assert.equal(b.driver.setCoalesce(50, 4), 0);
  run([a, b]);
  const raised = b.firmware.bar.interrupt.raised;
  const send = (now: number) => {
    a.driver.output(frame(a, b.driver.ifp.mac, 0x1234, payload(60)));
    a.driver.flush();
    a.firmware.step(now);
    b.firmware.step(now);
    b.driver.poll(64);
  };
  send(1000);
  assert.equal(b.firmware.bar.interrupt.raised, raised);
  assert.equal(b.firmware.deadline(), 51_000);
  send(20_000);
  assert.equal(b.received.length, 0);
  b.firmware.step(51_000);
  b.driver.poll(64);
  assert.equal(b.received.length, 2);
  assert.equal(b.firmware.deadline(), Number.POSITIVE_INFINITY);
  for (let i = 0; i < 4; i++) send(60_000);
  assert.equal(b.received.length, 6, 'the fourth frame raises it');
  assert.equal(b.firmware.bar.interrupt.raised, raised + 2);
  take(b);
});

test('flows are hashed when that was asked for', () => {
  const [a, b] = pair({}, { driver: { wants: { hash: true } } });
  a.driver.output(frame(a, b.driver.ifp.mac, IPV4, sctpPacket(payload(50), { udpPort: 9899 }).bytes));
  a.driver.output(frame(a, b.driver.ifp.mac, IPV6, sctpPacket(payload(50), { v6: true }).bytes));
  run([a, b]);
  const hashes = b.received.map(m => b.pool.flow[m]!);
  assert.ok(hashes[0] !== 0 && hashes[1] !== 0 && hashes[0] !== hashes[1]);
  assert.equal(b.driver.counters.ctrl_errors, 0);
  take(b);
});

test('self test and reset are told: passed after a boot, failed with what is wrong, and why the card was reset', () => {
  const [pa] = createWire();
  const units = { crc32c };
  const s = station(pa, { firmware: { selfTestUnits: units } });
  assert.equal(s.driver.setUp(true), 0);
  const cycle = () => {
    s.driver.setPower('D3cold', 'test');
    s.firmware.powerOff();
    s.events.length = 0;
    s.firmware.powerOn();
    return s.driver.setPower('D0', 'test');
  };
  const of = (kind: string) => s.events.filter(e => e.kind === kind);
  assert.equal(cycle(), 0);
  assert.deepEqual(of('self-test'), [{ kind: 'self-test', ifname: s.driver.ifp.name, passed: true, reason: 'passed' }]);
  units.crc32c = () => 1;
  assert.ok(cycle() < 0);
  assert.deepEqual(of('self-test'), [
    {
      kind: 'self-test',
      ifname: s.driver.ifp.name,
      passed: false,
      reason: 'the CRC32c unit gives a wrong answer',
    },
  ]);
  assert.equal(s.firmware.linkReason, 'the card failed its self test');
  units.crc32c = crc32c;
  assert.equal(cycle(), 0);
  assert.equal(s.driver.reset('because of a test'), 0);
  assert.deepEqual(of('card-reset'), [{ kind: 'card-reset', ifname: s.driver.ifp.name, reason: 'because of a test' }]);
  s.driver.detach();
  s.firmware.close();
});

test("the port's interface changes: the MTU follows both ways, at most to what the card was made for; then it is gone", () => {
  const [wire, far] = createWire({ mtu: 9000 });
  let mtu = 9000;
  let removed = false;
  const port = Object.create(wire, {
    capabilities: { get: () => ({ ...wire.capabilities, mtu }) },
    removed: { get: () => removed },
    carrier: { get: () => wire.carrier && !removed },
    onCarrier: { value: undefined, writable: true },
    onChange: { value: undefined, writable: true },
    open: { value: (m: Memory) => wire.open(m) },
    arm: { value: (w: () => void) => wire.arm(w) },
    disarm: { value: () => wire.disarm() },
    receive: { value: (...a: Parameters<Port['receive']>) => wire.receive(...a) },
    transmit: { value: (...a: Parameters<Port['transmit']>) => wire.transmit(...a) },
    close: { value: () => wire.close() },
    counters: { value: wire.counters },
  }) as Port;
  const s = station(port);
  far.open(new Memory(new ArrayBuffer(1 << 20)));
  const change = () => {
    port.onChange?.();
    for (let i = 0; i < 3; i++) {
      s.firmware.step(i);
      s.driver.poll(64);
    }
  };
  assert.equal(s.driver.setUp(true), 0);
  change();
  s.driver.ifp.event = e => {
    s.events.push(e);
    if (e.kind === 'mtu') s.driver.ifp.mtu = e.mtu; // as dlil does
  };
  s.events.length = 0;
  const told = () => s.events.splice(0).map(e => `${e.kind}${'mtu' in e ? ` ${e.mtu}` : ''}`);
  mtu = 1400;
  change();
  assert.deepEqual(told(), ['mtu 1400']);
  mtu = 9100;
  change();
  assert.deepEqual(told(), ['mtu 9000']);
  // Rings that were made for a small MTU are made anew for a larger one.
  mtu = 1400;
  change();
  s.driver.setUp(false);
  s.driver.setUp(true);
  change();
  told();
  mtu = 9000;
  change();
  assert.deepEqual(told().slice(0, 3), ['card-reset', 'link-off', 'mtu 9000']);
  assert.ok(s.driver.ifp.link);
  removed = true;
  change();
  assert.deepEqual(told().slice(-2), ['port-removed', 'link-off']);
  s.driver.detach();
  s.firmware.close();
  far.close();
});
