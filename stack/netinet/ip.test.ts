import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SEC } from '../kern/clock.js';
import { EADDRNOTAVAIL, EHOSTUNREACH, EMSGSIZE, ENETDOWN, ENOBUFS } from '../kern/errno.js';
import { CSUM_IP, CSUM_L3_OK, CSUM_SCTP, CSUM_UDP } from '../kern/mbuf.js';
import { AF_INET, type IpInfo, SOCK_RAW } from '../kern/protosw.js';
import { IFF_NOARP } from '../net/ifnet.js';
import { TestInterface, VirtualNet } from '../testing.js';
import { InAddr } from './in.js';
import { be16, checksum, checksumOver, concat, ether, ipv4, pattern, udp } from './packets.fixture.js';

const ip = InAddr.of;
const US = '10.0.0.1';
const PEER = '10.0.0.2';
const PROTO = 200;

/** A host on a medium that carries IP, with a protocol 200 that keeps what it is given. */
function setUp(options: { mtu?: number; addresses?: string[] } = {}) {
  const net = new VirtualNet();
  const s = net.addHost('a');
  const t = new TestInterface(s, 'nke0', {
    flags: IFF_NOARP,
    addresses: options.addresses ?? [`${US}/24`],
    mtu: options.mtu ?? 1500,
  });
  const got: {
    data: Uint8Array;
    src: string;
    dst: string;
    tos: number;
    ttl: number;
    ifname: string | undefined;
    segsz: number;
    hdrlen: number;
  }[] = [];
  s.protocols.add({
    domain: AF_INET,
    type: SOCK_RAW,
    protocol: PROTO,
    name: 'test',
    input: (m, i: IpInfo) => {
      got.push({
        data: s.pool.toBytes(m),
        src: `${i.src}`,
        dst: `${i.dst}`,
        tos: i.tos,
        ttl: i.ttl,
        ifname: i.ifp?.name,
        segsz: s.pool.segsz[m]!,
        hdrlen: s.pool.hdrlen[m]!,
      });
      s.pool.freem(m);
    },
  });
  const c = s.ip.counters;
  const packets = () => t.take().map(f => f.slice(14));
  const inject = (p: Uint8Array, more = {}) => t.inject(ether(0x0800, p), more);
  const output = (data: Uint8Array, df = true, dst = PEER, src = US, proto = PROTO) =>
    s.ip.output(s.pool.fromBytes(data), ip(src), ip(dst), proto, 0x02, df);
  return { net, s, t, got, c, packets, inject, output };
}

describe('Ip.input', () => {
  it('hands up what is for us', () => {
    const x = setUp();
    x.inject(ipv4(PEER, US, PROTO, pattern(100), { tos: 0xb9, ttl: 7 }));
    assert.deepEqual(x.got, [
      { data: pattern(100), src: PEER, dst: US, tos: 0xb9, ttl: 7, ifname: 'nke0', segsz: 0, hdrlen: 0 },
    ]);
    assert.equal(x.net.leaked(), 0);
  });
  it('cuts off padding and skips options', () => {
    const x = setUp();
    x.inject(concat(ipv4(PEER, US, PROTO, pattern(5)), new Uint8Array(30)));
    x.inject(ipv4(PEER, US, PROTO, pattern(9), { options: Uint8Array.of(1, 1, 7, 5, 4, 0, 0, 0) }));
    x.inject(ipv4(PEER, US, PROTO, pattern(9), { options: new Uint8Array(40) }), { pieces: [14, 7, 20] });
    assert.deepEqual(
      x.got.map(g => g.data.length),
      [5, 9, 9],
    );
    assert.equal(x.c.options, 2);
    assert.equal(x.net.leaked(), 0);
  });
  it('drops malformed headers', () => {
    const x = setUp();
    const good = ipv4(PEER, US, PROTO, pattern(10));
    const with_ = (at: number, v: number) => {
      const p = good.slice();
      p[at] = v;
      p.set([0, 0], 10);
      p.set(be16(checksum(p.subarray(0, 20))), 10);
      return p;
    };
    x.inject(good.subarray(0, 19));
    assert.equal(x.c.too_short, 1);
    x.inject(with_(0, 0x65));
    assert.equal(x.c.bad_version, 1);
    x.inject(with_(0, 0x44));
    x.inject(with_(0, 0x4f)); // header longer than the packet
    assert.equal(x.c.bad_header_length, 2);
    x.inject(with_(3, 31));
    x.inject(with_(3, 19));
    assert.equal(x.c.bad_length, 2);
    const bad = good.slice();
    bad[8]! ^= 1;
    x.inject(bad);
    assert.equal(x.c.bad_checksum, 1);
    x.inject(bad, { csum: CSUM_L3_OK }); // the card has looked
    assert.equal(x.got.length, 1);
    assert.equal(x.net.leaked(), 0);
  });
  it('drops addresses that may not be there (RFC 1122 section 3.2.1.3)', () => {
    const x = setUp();
    for (const src of ['224.0.0.1', '255.255.255.255', '127.0.0.1', '0.1.2.3'])
      x.inject(ipv4(src, US, PROTO, pattern(1)));
    assert.equal(x.c.bad_source, 4);
    x.inject(ipv4(PEER, '127.0.0.1', PROTO, pattern(1)));
    assert.equal(x.c.bad_destination, 1);
    for (const dst of ['10.0.0.3', '224.0.0.9', '9.9.9.9']) x.inject(ipv4(PEER, dst, PROTO, pattern(1)));
    assert.equal(x.c.not_mine, 3);
    for (const dst of ['10.0.0.255', '255.255.255.255', '224.0.0.1']) x.inject(ipv4(PEER, dst, PROTO, pattern(1)));
    assert.equal(x.got.length, 3);
    assert.equal(x.net.leaked(), 0);
  });
  it('takes 127/8 on a card that was given such an address', () => {
    const x = setUp({ addresses: ['127.0.0.1/8'] });
    x.inject(ipv4('127.0.0.2', '127.0.0.1', PROTO, pattern(1)));
    assert.equal(x.got.length, 1);
  });
  it('takes packets for another card of ours, unless they were sent to all', () => {
    const x = setUp();
    new TestInterface(x.s, 'nke1', { addresses: ['10.9.0.1/24'] });
    x.inject(ipv4(PEER, '10.9.0.1', PROTO, pattern(1)));
    assert.equal(x.got.length, 1);
  });
  it('answers an unknown protocol with the packet as it was', () => {
    const x = setUp();
    const p = ipv4(PEER, US, 201, pattern(30), { options: Uint8Array.of(1, 1, 1, 0) });
    x.inject(p);
    const [answer] = x.packets();
    assert.deepEqual(answer!.slice(20, 22), Uint8Array.of(3, 2));
    assert.deepEqual(answer!.slice(28), p);
    assert.equal(x.net.leaked(), 0);
  });
  it('reassembles, and passes the whole on with its first header in front', () => {
    const x = setUp();
    const data = pattern(3000);
    const frag = (from: number, to: number, more: boolean, tos = 2) =>
      x.inject(ipv4(PEER, US, PROTO, data.slice(from, to), { id: 77, frag: (from >> 3) | (more ? 0x2000 : 0), tos }));
    frag(2960, 3000, false);
    frag(0, 1480, true, 3);
    assert.equal(x.got.length, 0);
    frag(1480, 2960, true);
    assert.deepEqual(x.got[0]!.data, data);
    assert.equal(x.got[0]!.tos, 3);
    assert.equal(x.c.reassembled, 1);
    assert.equal(x.net.leaked(), 0);
  });
  it('drops fragments of a wrong size, and too much', () => {
    const x = setUp();
    x.inject(ipv4(PEER, US, PROTO, pattern(7), { frag: 0x2000 }));
    x.inject(ipv4(PEER, US, PROTO, new Uint8Array(), { frag: 0x2000 }));
    x.inject(ipv4(PEER, US, PROTO, pattern(100), { frag: 0x1fff }));
    assert.equal(x.c.fragments_dropped, 3);
    assert.equal(x.net.leaked(), 0);
  });
  it('tells the sender when a datagram stays incomplete', () => {
    const x = setUp();
    x.inject(ipv4(PEER, US, PROTO, pattern(80), { id: 5, frag: 0x2000 }));
    x.inject(ipv4(PEER, US, PROTO, pattern(80), { id: 6, frag: 0x2010 }));
    x.net.run(31 * SEC);
    const out = x.packets();
    assert.equal(out.length, 1);
    assert.deepEqual(out[0]!.slice(20, 22), Uint8Array.of(11, 1));
    assert.equal(x.net.leaked(), 0);
  });
  it('passes a train whole', () => {
    const x = setUp();
    const p = ipv4(PEER, US, PROTO, pattern(1000));
    x.inject(p, { segsz: 400, hdrlen: 34, csum: CSUM_L3_OK });
    assert.deepEqual([x.got[0]!.data.length, x.got[0]!.segsz, x.got[0]!.hdrlen], [1000, 400, 0]);
    x.inject(p, { segsz: 400, hdrlen: 30, csum: CSUM_L3_OK }); // headers end inside IP's
    assert.equal(x.c.bad_length, 1);
    assert.equal(x.net.leaked(), 0);
  });
});

describe('Ip.output', () => {
  it('writes the header', () => {
    const x = setUp();
    assert.equal(x.output(pattern(50)), 0);
    assert.deepEqual(x.packets(), [ipv4(US, PEER, PROTO, pattern(50), { id: 0, frag: 0x4000, tos: 2 })]);
    x.t.ifp.hwassist = CSUM_IP;
    x.output(pattern(50));
    const [f] = x.t.sent;
    assert.equal(f!.csum, CSUM_IP);
    assert.deepEqual(f!.bytes.slice(24, 26), Uint8Array.of(0, 0));
    assert.equal(x.net.leaked(), 0);
  });
  it('chooses a source when it is given none', () => {
    const x = setUp();
    assert.equal(x.s.output(x.s.pool.fromBytes(pattern(5)), new InAddr(), ip(PEER), PROTO, 0, true), 0);
    assert.deepEqual(x.packets()[0]!.slice(12, 16), Uint8Array.of(10, 0, 0, 1));
  });
  it('reports what is wrong', () => {
    const x = setUp();
    assert.equal(x.output(pattern(5), true, '9.9.9.9'), -EHOSTUNREACH);
    assert.equal(x.output(pattern(1481)), -EMSGSIZE);
    assert.equal(x.output(pattern(1480)), 0);
    x.t.accept = false;
    assert.equal(x.output(pattern(5)), -ENOBUFS);
    x.s.interfaces.setUp(x.t.ifp, false);
    assert.equal(x.output(pattern(5)), -ENETDOWN);
    for (const a of [...x.t.ifp.addresses]) x.s.interfaces.removeAddress(x.t.ifp, a.addr);
    x.s.routes.add(ip('9.0.0.0'), 8, undefined, x.t.ifp);
    assert.equal(
      x.s.output(x.s.pool.fromBytes(pattern(5)), new InAddr(), ip('9.9.9.9'), PROTO, 0, true),
      -EADDRNOTAVAIL,
    );
    assert.equal(x.net.leaked(), 0);
  });
  it('fragments without DF, to the path MTU too; DF looks at the first hop only', () => {
    const x = setUp();
    const data = pattern(3000);
    x.output(data, false);
    const f = x.packets();
    assert.deepEqual(
      f.map(p => p.length),
      [1500, 1500, 60],
    );
    assert.deepEqual(concat(...f.map(p => p.slice(20))), data);
    for (const p of f) assert.equal(checksum(p.slice(0, 20)), 0);
    assert.equal(x.c.fragments_sent, 3);
    x.s.routes.learnPmtu(ip(PEER), 1000);
    x.output(pattern(1200), false);
    assert.deepEqual(
      x.packets().map(p => p.length),
      [996, 244],
    );
    x.output(pattern(1200), true);
    assert.deepEqual(
      x.packets().map(p => p.length),
      [1220],
    );
    assert.equal(x.net.leaked(), 0);
  });
  it('gives identifications that differ to what may be fragmented', () => {
    const x = setUp();
    for (let i = 0; i < 50; i++) x.output(pattern(5), false);
    assert.equal(new Set(x.packets().map(p => p[4]! * 256 + p[5]!)).size, 50);
  });
  it('loops back what is for ourselves, in a later step', () => {
    const x = setUp();
    x.output(pattern(5), true, US);
    assert.equal(x.got.length, 0);
    x.s.run(x.net.clock.now);
    assert.deepEqual(
      x.got.map(g => [g.src, g.dst, g.ifname]),
      [[US, US, 'lo0']],
    );
    assert.deepEqual(x.packets(), []);
  });
});

describe('trains', () => {
  const train = (x: ReturnType<typeof setUp>, n: number, seg: number, csum = 0) => {
    const m = x.s.pool.fromBytes(pattern(n));
    x.s.pool.segsz[m] = seg;
    x.s.pool.csum[m] = csum;
    return m;
  };
  const send = (x: ReturnType<typeof setUp>, m: number, df = true) => x.s.ip.output(m, ip(US), ip(PEER), PROTO, 0, df);
  it('go out whole where the card takes them', () => {
    const x = setUp();
    x.t.ifp.trainBytes = 4000;
    x.t.ifp.trainSegments = 3;
    assert.equal(send(x, train(x, 3000, 1000)), 0);
    const [f] = x.t.sent.splice(0);
    assert.deepEqual([f!.bytes.length, f!.segsz, f!.hdrlen], [3034, 1000, 34]);
    assert.equal(x.c.trains_sent, 1);
    assert.equal(x.net.leaked(), 0);
  });
  for (const [name, bytes, segments, n, seg, csum] of [
    ['the card takes none', 0, 0, 3000, 1000, 0],
    ['it is too long', 3033, 64, 3000, 1000, 0],
    ['it has too many packets', 65535, 2, 3000, 1000, 0],
    ['the card cannot do the checksum', 65535, 64, 3000, 1000, CSUM_UDP],
  ] as const) {
    it(`are cut up when ${name}`, () => {
      const x = setUp();
      x.t.ifp.trainBytes = bytes;
      x.t.ifp.trainSegments = segments;
      assert.equal(send(x, train(x, n, seg, csum)), 0);
      const p = x.packets();
      assert.deepEqual(
        p.map(f => f.length),
        [1020, 1020, 1020],
      );
      assert.equal(x.c.trains_split, 1);
      if (csum === 0) assert.deepEqual(concat(...p.map(f => f.slice(20))), pattern(3000));
      assert.equal(x.net.leaked(), 0);
    });
  }
  it('of packets larger than the MTU are refused with DF, fragmented without', () => {
    const x = setUp();
    assert.equal(send(x, train(x, 3200, 1600)), -EMSGSIZE);
    assert.equal(x.packets().length, 0);
    assert.equal(send(x, train(x, 3200, 1600), false), 0);
    assert.equal(x.packets().length, 4);
    assert.equal(x.net.leaked(), 0);
  });
  it('of UDP get a good header each when cut up', () => {
    const x = setUp();
    const m = x.s.pool.fromBytes(pattern(2500));
    x.s.pool.segsz[m] = 1000;
    assert.equal(x.s.udp.output(m, ip(US), ip(PEER), 9899, 9900, 0, true), 0);
    const want = [0, 1000, 2000].map(at =>
      ipv4(US, PEER, 17, udp(US, PEER, 9899, 9900, pattern(2500).slice(at, at + 1000)), { id: 0, frag: 0x4000 }),
    );
    assert.deepEqual(x.packets(), want);
    assert.equal(x.net.leaked(), 0);
  });
});

describe('delayed checksums', () => {
  it('are the card’s when it can, else done here', () => {
    const x = setUp();
    const send = () => {
      const m = x.s.pool.fromBytes(concat(be16(1), be16(2), be16(13), [0, 0], pattern(5)));
      x.s.pool.csum[m] = CSUM_UDP;
      x.s.ip.output(m, ip(US), ip(PEER), 17, 0, true);
    };
    x.t.ifp.hwassist = CSUM_UDP;
    send();
    const [card] = x.t.sent.splice(0);
    assert.equal(card!.csum, CSUM_UDP);
    assert.deepEqual(card!.bytes.slice(40, 42), Uint8Array.of(0, 0));
    x.t.ifp.hwassist = 0;
    send();
    const [done] = x.t.sent.splice(0);
    assert.equal(done!.csum, 0);
    assert.equal(checksumOver(US, PEER, 17, done!.bytes.slice(34)), 0);
  });
  it('of SCTP are asked of the extension, and nothing goes out without it', () => {
    const x = setUp();
    const asked: number[] = [];
    const send = (n: number, df: boolean, proto = 132) => {
      const m = x.s.pool.fromBytes(pattern(n));
      x.s.pool.csum[m] = CSUM_SCTP;
      return x.s.ip.output(m, ip(US), ip(PEER), proto, 0, df);
    };
    assert.equal(send(100, true), -ENOBUFS);
    assert.equal(x.c.no_delayed_checksum, 1);
    x.s.sctpDelayedChecksum = (_, skip) => asked.push(skip);
    assert.equal(send(100, true), 0);
    assert.equal(send(100, true, 17), 0);
    x.t.ifp.hwassist = CSUM_SCTP;
    assert.equal(send(100, true), 0);
    assert.equal(x.t.sent.at(-1)!.csum & CSUM_SCTP, CSUM_SCTP);
    assert.equal(send(2000, false), 0); // the card cannot sum over fragments
    assert.deepEqual(asked, [0, 8, 0]);
    assert.equal(x.t.sent.at(-1)!.csum, 0);
    assert.equal(x.net.leaked(), 0);
  });
});
