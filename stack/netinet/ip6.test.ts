import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SEC } from '../kern/clock.js';
import { EHOSTUNREACH, EMSGSIZE } from '../kern/errno.js';
import { AF_INET6, SOCK_RAW } from '../kern/protosw.js';
import { IFF_NOARP } from '../net/ifnet.js';
import { TestInterface, VirtualNet } from '../testing.js';
import { InAddr } from './in.js';
import { be32, concat, ether, ipv6, pattern, udp } from './packets.fixture.js';

const ip = InAddr.of;
const US = '2001:db8::1';
const PEER = '2001:db8::2';
const PROTO = 200;

function setUp(addresses = [`${US}/64`]) {
  const net = new VirtualNet();
  const s = net.addHost('a');
  const t = new TestInterface(s, 'nke0', { flags: IFF_NOARP, addresses });
  const got: { data: Uint8Array; src: string; dst: string; tos: number; ttl: number; segsz: number; hdrlen: number }[] =
    [];
  s.protocols.add({
    domain: AF_INET6,
    type: SOCK_RAW,
    protocol: PROTO,
    name: 'test',
    input: (m, i) => {
      assert.equal(i.family, 6);
      got.push({
        data: s.pool.toBytes(m),
        src: `${i.src}`,
        dst: `${i.dst}`,
        tos: i.tos,
        ttl: i.ttl,
        segsz: s.pool.segsz[m]!,
        hdrlen: s.pool.hdrlen[m]!,
      });
      s.pool.freem(m);
    },
  });
  const packets = () => t.take().map(f => f.slice(14));
  const inject = (p: Uint8Array, more = {}) => t.inject(ether(0x86dd, p), more);
  const output = (data: Uint8Array, df = true, dst = PEER) =>
    s.ip6.output(s.pool.fromBytes(data), ip(US), ip(dst), PROTO, 0x2, df);
  return { net, s, t, got, c: s.ip6.counters, packets, inject, output };
}
/** An extension header that holds options, padded to 8 bytes. */
function options(next: number, ...opts: number[]): Uint8Array {
  const n = Math.ceil((2 + opts.length) / 8) * 8;
  return concat([next, n / 8 - 1], opts, new Uint8Array(n - 2 - opts.length));
}
const fragment = (next: number, from: number, more: boolean, id: number) =>
  concat([next, 0, from >>> 8, (from & 0xf8) | (more ? 1 : 0)], be32(id));

describe('Ip6.input', () => {
  it('hands up what is for us, padding cut off', () => {
    const x = setUp();
    x.inject(concat(ipv6(PEER, US, PROTO, pattern(100), 9, 0xb9), [0, 0, 0]));
    assert.deepEqual(x.got, [{ data: pattern(100), src: PEER, dst: US, tos: 0xb9, ttl: 9, segsz: 0, hdrlen: 0 }]);
    assert.equal(x.net.leaked(), 0);
  });
  it('drops malformed headers and addresses that may not be there', () => {
    const x = setUp();
    const good = ipv6(PEER, US, PROTO, pattern(10));
    x.inject(good.subarray(0, 39));
    assert.equal(x.c.too_short, 1);
    const v4 = good.slice();
    v4[0] = 0x40;
    x.inject(v4);
    assert.equal(x.c.bad_version, 1);
    x.inject(good.subarray(0, 45));
    assert.equal(x.c.bad_length, 1);
    for (const src of ['ff02::1', '::1', '::ffff:1.2.3.4']) x.inject(ipv6(src, US, PROTO, pattern(1)));
    assert.equal(x.c.bad_source, 3);
    for (const dst of ['::', '::1', '::ffff:1.2.3.4']) x.inject(ipv6(PEER, dst, PROTO, pattern(1)));
    assert.equal(x.c.bad_destination, 3);
    for (const dst of ['2001:db8::3', 'ff02::2', 'ff02::1:ff00:2', 'ff00::1', 'ff05::1'])
      x.inject(ipv6(PEER, dst, PROTO, pattern(1)));
    assert.equal(x.c.not_mine, 5);
    for (const dst of ['ff02::1', 'ff01::1', 'ff02::1:ff00:1']) x.inject(ipv6(PEER, dst, PROTO, pattern(1)));
    assert.equal(x.got.length, 3);
    assert.equal(x.net.leaked(), 0);
  });
  it('walks extension headers, also spread over mbufs', () => {
    const x = setUp();
    const p = ipv6(
      PEER,
      US,
      0,
      concat(
        options(60, 1, 1, 0),
        options(43, 0x1e, 2, 9, 9),
        concat([PROTO, 0, 0, 0], new Uint8Array(4)),
        pattern(33),
      ),
    );
    x.inject(p);
    x.inject(p, { pieces: [14, 41, 3, 9, 1] });
    assert.deepEqual(
      x.got.map(g => g.data),
      [pattern(33), pattern(33)],
    );
    assert.equal(x.net.leaked(), 0);
  });
  it('answers unknown next headers, routing headers and options as RFC 8200 has it', () => {
    const x = setUp();
    const answer = (p: Uint8Array) => {
      x.inject(p);
      const [a] = x.packets();
      return a === undefined ? undefined : [a[40]!, a[41]!, (a[46]! << 8) | a[47]!, a.length - 48];
    };
    const unknown = ipv6(PEER, US, 201, pattern(20));
    assert.deepEqual(answer(unknown), [4, 1, 6, unknown.length]);
    assert.equal(answer(ipv6(PEER, US, 59, pattern(4))), undefined);
    assert.deepEqual(answer(ipv6(PEER, US, 43, concat([PROTO, 0, 0, 1], new Uint8Array(4)))), [4, 0, 42, 48]);
    assert.deepEqual(answer(ipv6(PEER, US, 60, concat(options(0), options(PROTO)))), [4, 1, 48, 56]); // hop-by-hop not first
    assert.equal(answer(ipv6(PEER, US, 60, options(PROTO, 0x45, 0))), undefined); // 01: drop
    assert.deepEqual(answer(ipv6(PEER, US, 60, options(PROTO, 0x85, 0))), [4, 2, 42, 48]); // 10: tell
    assert.deepEqual(answer(ipv6(PEER, US, 60, options(PROTO, 1, 0, 0xc5, 0))), [4, 2, 44, 48]); // 11: tell, if not sent to a group
    assert.equal(answer(ipv6(PEER, 'ff02::1', 60, options(PROTO, 0xc5, 0))), undefined);
    assert.equal(answer(ipv6(PEER, US, 60, options(PROTO, 1, 200))), undefined); // runs over the end
    assert.equal(x.c.bad_option, 5);
    assert.equal(answer(ipv6(PEER, US, 60, Uint8Array.of(PROTO, 5, 0, 0, 0, 0, 0, 0))), undefined);
    assert.equal(answer(ipv6(PEER, US, 60, Uint8Array.of(PROTO, 0, 0))), undefined);
    assert.equal(x.got.length, 0);
    assert.equal(x.net.leaked(), 0);
  });
  it('bounds the headers of a packet', () => {
    const x = setUp();
    const chain = (n: number) =>
      ipv6(PEER, US, 60, concat(...Array.from({ length: n }, (_, i) => options(i === n - 1 ? PROTO : 60)), pattern(3)));
    x.inject(chain(8));
    x.inject(chain(9));
    assert.equal(x.got.length, 1);
    assert.equal(x.c.too_many_headers, 1);
    assert.equal(x.net.leaked(), 0);
  });
  it('reassembles, with the headers of the first fragment', () => {
    const x = setUp();
    const data = pattern(3000);
    const send = (from: number, to: number, more: boolean) =>
      x.inject(ipv6(PEER, US, 60, concat(options(44), fragment(PROTO, from, more, 7), data.slice(from, to))));
    send(2400, 3000, false);
    send(0, 1200, true);
    send(1200, 2400, true);
    assert.deepEqual(x.got[0]!.data, data);
    x.inject(ipv6(PEER, US, 44, concat(fragment(PROTO, 0, false, 8), pattern(9)))); // RFC 6946
    assert.equal(x.c.atomic_fragments, 1);
    assert.equal(x.got.length, 2);
    assert.equal(x.net.leaked(), 0);
  });
  it('walks headers behind the fragment header of a reassembled packet', () => {
    const x = setUp();
    const inner = concat(options(PROTO), pattern(56));
    x.inject(ipv6(PEER, US, 44, concat(fragment(60, 0, true, 7), inner.slice(0, 32))));
    x.inject(ipv6(PEER, US, 44, concat(fragment(60, 32, false, 7), inner.slice(32))));
    assert.deepEqual(x.got[0]!.data, pattern(56));
    assert.equal(x.net.leaked(), 0);
  });
  it('refuses fragments of a wrong size, and reports those that stay incomplete', () => {
    const x = setUp();
    x.inject(ipv6(PEER, US, 44, concat(fragment(PROTO, 0, true, 7), pattern(9))));
    x.inject(ipv6(PEER, US, 44, concat(fragment(PROTO, 65528, false, 7), pattern(9))));
    x.inject(ipv6(PEER, US, 44, fragment(PROTO, 8, true, 7)));
    assert.equal(x.c.fragments_dropped, 3);
    assert.deepEqual(
      x.packets().map(p => [...p.slice(40, 42), p[47]]),
      [
        [4, 0, 4],
        [4, 0, 42],
      ],
    );
    x.inject(ipv6(PEER, US, 44, concat(fragment(PROTO, 0, true, 9), pattern(16))));
    x.net.run(61 * SEC);
    assert.deepEqual(
      x.packets().map(p => [...p.slice(40, 42)]),
      [[3, 1]],
    );
    assert.equal(x.net.leaked(), 0);
  });
});

describe('Ip6.output', () => {
  it('writes the header', () => {
    const x = setUp();
    assert.equal(x.output(pattern(50)), 0);
    assert.deepEqual(x.packets(), [ipv6(US, PEER, PROTO, pattern(50), 64, 2)]);
    assert.equal(x.output(pattern(5), true, '2001:dead::1'), -EHOSTUNREACH);
    assert.equal(x.output(pattern(1461)), -EMSGSIZE);
    assert.equal(x.net.leaked(), 0);
  });
  it('fragments at the source without df', () => {
    const x = setUp();
    x.s.routes.learnPmtu(ip(PEER), 1280);
    const data = pattern(3000);
    assert.equal(x.output(data, false), 0);
    const f = x.packets();
    assert.deepEqual(
      f.map(p => p.length),
      [1280, 1280, 40 + 8 + 3000 - 2 * 1232],
    );
    assert.deepEqual(concat(...f.map(p => p.slice(48))), data);
    assert.deepEqual(
      f.map(p => [p[6], p[40], (p[42]! << 8) | p[43]!]),
      [
        [44, PROTO, 1],
        [44, PROTO, 1233],
        [44, PROTO, 2464],
      ],
    );
    assert.equal(x.net.leaked(), 0);
  });
  it('is undone by its own input', () => {
    const x = setUp();
    x.output(pattern(20000), false, US); // by lo0, whose MTU is 16384
    x.s.run(x.net.clock.now);
    assert.deepEqual(x.got[0]!.data, pattern(20000));
    assert.equal(x.net.leaked(), 0);
  });
  it('sends trains whole or cut up', () => {
    const x = setUp();
    const send = () => {
      const m = x.s.pool.fromBytes(pattern(2500));
      x.s.pool.segsz[m] = 1000;
      return x.s.udp.output(m, ip(US), ip(PEER), 9899, 9900, 0, true);
    };
    assert.equal(send(), 0);
    assert.deepEqual(
      x.packets(),
      [0, 1000, 2000].map(at => ipv6(US, PEER, 17, udp(US, PEER, 9899, 9900, pattern(2500).slice(at, at + 1000)))),
    );
    x.t.ifp.trainBytes = 65535;
    x.t.ifp.trainSegments = 64;
    x.t.ifp.hwassist = 0x20;
    assert.equal(send(), 0);
    const [f] = x.t.sent;
    assert.deepEqual([f!.bytes.length, f!.segsz, f!.hdrlen, f!.csum], [14 + 40 + 8 + 2500, 1000, 62, 0x20]);
    assert.equal(x.net.leaked(), 0);
  });
});
