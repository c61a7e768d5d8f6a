import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { M_NULL } from '../kern/mbuf.js';
import { AF_INET, AF_INET6, type CtlInput, SOCK_SEQPACKET } from '../kern/protosw.js';
import { IFF_NOARP } from '../net/ifnet.js';
import { TestInterface, VirtualNet } from '../testing.js';
import { kindOf } from './icmp.js';
import { kindOf6 } from './icmp6.js';
import { InAddr } from './in.js';
import {
  be16,
  checksum,
  checksumOver,
  concat,
  ether,
  icmp,
  icmp6,
  ipv4,
  ipv6,
  pattern,
  udp,
} from './packets.fixture.js';

const ip = InAddr.of;
const US = '10.0.0.1';
const PEER = '10.0.0.2';
const ROUTER = '10.0.0.254';
const US6 = '2001:db8::1';
const PEER6 = '2001:db8::2';
const ROUTER6 = '2001:db8::fe';

function setUp() {
  const net = new VirtualNet();
  const s = net.addHost('a');
  const t = new TestInterface(s, 'nke0', { flags: IFF_NOARP, addresses: [`${US}/24`, `${US6}/64`] });
  const told: (Omit<CtlInput, 'src' | 'dst'> & { src: string; dst: string })[] = [];
  const ctlinput = (c: CtlInput) => told.push({ ...c, src: `${c.src}`, dst: `${c.dst}`, payload: c.payload.slice() });
  for (const domain of [AF_INET, AF_INET6] as const)
    s.protocols.add({
      domain,
      type: SOCK_SEQPACKET,
      protocol: 132,
      name: 'sctp',
      input: m => s.pool.freem(m),
      ctlinput,
    });
  const packets = () => t.take().map(f => f.slice(14));
  const inject = (p: Uint8Array, more = {}) => t.inject(ether(p[0]! >>> 4 === 4 ? 0x0800 : 0x86dd, p), more);
  return { net, s, t, told, packets, inject };
}
const from4 = (message: Uint8Array, src = ROUTER) => ipv4(src, US, 1, message);
const from6 = (type: number, code: number, word: number, data: Uint8Array, src = ROUTER6) =>
  ipv6(src, US6, 58, icmp6(src, US6, type, code, word, data));

describe('Icmp', () => {
  it('answers echo from the address that was asked', () => {
    const x = setUp();
    x.inject(ipv4(PEER, US, 1, icmp(8, 0, 0x12340001, pattern(57))), { pieces: [14 + 20 + 3] });
    const [p] = x.packets();
    assert.deepEqual(p!.slice(20), icmp(0, 0, 0x12340001, pattern(57)));
    assert.deepEqual(p!.slice(12, 20), Uint8Array.of(10, 0, 0, 1, 10, 0, 0, 2));
    x.inject(ipv4(PEER, '10.0.0.255', 1, icmp(8, 0, 1, pattern(5))));
    assert.deepEqual(x.packets(), []);
    assert.equal(x.net.leaked(), 0);
  });
  it('pings, and hears the answer', () => {
    const x = setUp();
    const heard: string[] = [];
    x.s.icmp.onEchoReply = (from, id, seq, n) => heard.push(`${from} ${id} ${seq} ${n}`);
    assert.equal(x.s.icmp.ping(ip(PEER), 7, 3, 56), 0);
    const [p] = x.packets();
    assert.equal(checksum(p!.slice(20)), 0);
    x.inject(ipv4(PEER, US, 1, icmp(0, 0, 0x00070003, pattern(56))));
    x.s.icmp.ping(ip(US), 8, 1, 10); // to ourselves
    x.s.run(x.net.clock.now);
    assert.deepEqual(heard, ['10.0.0.2 7 3 56', '10.0.0.1 8 1 10']);
    assert.equal(x.net.leaked(), 0);
  });
  it('drops bad checksums and types that it does not know', () => {
    const x = setUp();
    const bad = icmp(8, 0, 1, pattern(5));
    bad[5]! ^= 1;
    x.inject(from4(bad));
    x.inject(from4(icmp(13, 0, 0, pattern(12))));
    x.inject(from4(pattern(7)));
    const c = x.s.icmp.counters;
    assert.deepEqual([c.bad_checksum, c.unknown_type, c.too_short], [1, 1, 1]);
    assert.equal(x.net.leaked(), 0);
  });
  it('tells the protocol of a quoted packet', () => {
    const x = setUp();
    const ours = ipv4(US, PEER, 132, pattern(40));
    x.inject(from4(icmp(3, 4, 1400, ours)));
    x.inject(from4(icmp(3, 2, 0, ours.slice(0, 28))));
    assert.deepEqual(x.told, [
      { kind: 'too-big', src: US, dst: PEER, mtu: 1400, payload: pattern(40), udpSrc: 0, udpDst: 0 },
      {
        kind: 'protocol-unreachable',
        src: US,
        dst: PEER,
        mtu: 0,
        payload: pattern(40).slice(0, 8),
        udpSrc: 0,
        udpDst: 0,
      },
    ]);
    assert.equal(x.s.routes.pmtu(ip(PEER)), 1400);
    assert.equal(x.net.leaked(), 0);
  });
  it('guesses an MTU where the router gives none (RFC 1191 section 7.1)', () => {
    const x = setUp();
    x.inject(from4(icmp(3, 4, 0, ipv4(US, PEER, 132, pattern(40), { total: 1500 }))));
    assert.equal(x.told[0]!.mtu, 0);
    assert.equal(x.s.routes.pmtu(ip(PEER)), 1492);
  });
  it('unwraps UDP from a tunnel’s port (RFC 6951)', () => {
    const x = setUp();
    x.s.udp.tunnel(9899, m => x.s.pool.freem(m));
    x.inject(from4(icmp(3, 1, 0, ipv4(US, PEER, 17, udp(US, PEER, 9899, 9900, pattern(20))))));
    x.inject(from4(icmp(3, 1, 0, ipv4(US, PEER, 17, udp(US, PEER, 9898, 9900, pattern(20))))));
    assert.deepEqual(x.told, [
      { kind: 'host-unreachable', src: US, dst: PEER, mtu: 0, payload: pattern(20), udpSrc: 9899, udpDst: 9900 },
    ]);
  });
  it('drops reports that are malformed or not about us', () => {
    const x = setUp();
    const c = x.s.icmp.counters;
    x.inject(from4(icmp(3, 1, 0, ipv4(PEER, US, 132, pattern(40)))));
    assert.equal(c.errors_not_ours, 1);
    const ours = ipv4(US, PEER, 132, pattern(40));
    x.inject(from4(icmp(3, 1, 0, ours.slice(0, 27))));
    x.inject(from4(icmp(3, 1, 0, ipv4(US, PEER, 132, pattern(40), { frag: 1 }))));
    x.inject(from4(icmp(3, 1, 0, concat([0x4f], ours.slice(1, 60)))));
    x.inject(from4(icmp(3, 1, 0, concat([0x44], ours.slice(1, 60)))));
    assert.equal(c.errors_malformed, 4);
    assert.deepEqual(x.told, []);
    assert.equal(x.net.leaked(), 0);
  });
  it('reports a closed port, quoting at most 548 bytes', () => {
    const x = setUp();
    const p = ipv4(PEER, US, 17, udp(PEER, US, 1, 2, pattern(900)));
    x.inject(p);
    const [a] = x.packets();
    assert.deepEqual(a!.slice(20), icmp(3, 3, 0, p.slice(0, 548)));
    assert.equal(x.net.leaked(), 0);
  });
  it('never reports about errors, groups, or later fragments', () => {
    const x = setUp();
    const error = (p: Uint8Array, csum = 0) => {
      const m = x.s.pool.fromBytes(p);
      x.s.pool.csum[m] = csum;
      x.s.icmp.error(m, 3, 2, 0);
    };
    error(ipv4(PEER, US, 1, icmp(3, 1, 0, pattern(8))));
    error(ipv4(PEER, US, 1, new Uint8Array()));
    error(ipv4(PEER, '224.0.0.1', 132, pattern(8)));
    error(ipv4(PEER, US, 132, pattern(8)), 0x100);
    error(ipv4('0.0.0.0', US, 132, pattern(8)));
    error(ipv4(PEER, US, 132, pattern(8), { frag: 3 }));
    assert.equal(x.s.icmp.counters.errors_suppressed, 6);
    error(ipv4(PEER, US, 1, icmp(8, 0, 0, pattern(8))));
    assert.equal(x.packets().length, 1);
    assert.equal(x.net.leaked(), 0);
  });
  it('limits what it says', () => {
    const x = setUp();
    x.s.sysctl.set('net.inet.icmp.icmplim', 10);
    const many = () => {
      for (let i = 0; i < 30; i++) x.inject(ipv4(PEER, US, 17, udp(PEER, US, 1, 2, pattern(9))));
      return x.packets().length;
    };
    assert.equal(many(), 10);
    x.net.clock.now += 0.55e9;
    assert.equal(many(), 5);
    x.net.clock.now += 60e9;
    assert.equal(many(), 10);
    x.s.sysctl.set('net.inet.icmp.echolim', 0);
    x.inject(ipv4(PEER, US, 1, icmp(8, 0, 1, pattern(5))));
    assert.equal(x.s.icmp.counters.echo_limited, 1);
    assert.equal(x.net.leaked(), 0);
  });
  it('knows what the codes mean', () => {
    const kinds = Array.from({ length: 16 }, (_, code) => kindOf(3, code)!.split('-')[0]);
    assert.deepEqual(kinds, [
      'net',
      'host',
      'protocol',
      'port',
      'too',
      'host',
      'net',
      'host',
      'host',
      'admin',
      'admin',
      'net',
      'host',
      'admin',
      'host',
      'host',
    ]);
    assert.equal(kindOf(11, 0), 'time-exceeded');
    assert.equal(kindOf(12, 0), undefined);
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5, 6].map(c => kindOf6(1, c)!.split('-')[0]),
      ['net', 'admin', 'host', 'host', 'port', 'admin', 'admin'],
    );
    assert.deepEqual(
      [kindOf6(2, 0), kindOf6(3, 0), kindOf6(4, 1), kindOf6(4, 0)],
      ['too-big', 'time-exceeded', 'protocol-unreachable', undefined],
    );
  });
});

describe('Icmp6', () => {
  it('answers echo, to a group from its own address', () => {
    const x = setUp();
    x.inject(ipv6(PEER6, US6, 58, icmp6(PEER6, US6, 128, 0, 0x12340001, pattern(57))));
    assert.deepEqual(x.packets(), [ipv6(US6, PEER6, 58, icmp6(US6, PEER6, 129, 0, 0x12340001, pattern(57)))]);
    x.inject(ipv6(PEER6, 'ff02::1', 58, icmp6(PEER6, 'ff02::1', 128, 0, 1, pattern(5))));
    assert.deepEqual(x.packets(), [ipv6(US6, PEER6, 58, icmp6(US6, PEER6, 129, 0, 1, pattern(5)))]);
    assert.equal(x.net.leaked(), 0);
  });
  it('pings, and hears the answer', () => {
    const x = setUp();
    const heard: string[] = [];
    x.s.icmp6.onEchoReply = (from, id, seq, n) => heard.push(`${from} ${id} ${seq} ${n}`);
    assert.equal(x.s.icmp6.ping(ip(PEER6), 7, 3, 56), 0);
    assert.equal(checksumOver(US6, PEER6, 58, x.packets()[0]!.slice(40)), 0);
    x.inject(ipv6(PEER6, US6, 58, icmp6(PEER6, US6, 129, 0, 0x00070003, pattern(56))));
    assert.deepEqual(heard, ['2001:db8::2 7 3 56']);
  });
  it('tells the protocol of a quoted packet, behind extension headers and out of tunnels', () => {
    const x = setUp();
    x.s.udp.tunnel(9899, m => x.s.pool.freem(m));
    x.inject(from6(2, 0, 1400, ipv6(US6, PEER6, 132, pattern(40))));
    const fragment = concat([132, 0, 0, 1, 0, 0, 0, 7], pattern(16));
    x.inject(from6(1, 4, 0, ipv6(US6, PEER6, 44, fragment)));
    x.inject(from6(1, 0, 0, ipv6(US6, PEER6, 17, udp(US6, PEER6, 9899, 9900, pattern(20)))));
    x.inject(from6(4, 1, 40, ipv6(US6, PEER6, 132, pattern(12))));
    const common = { src: US6, dst: PEER6, mtu: 0, udpSrc: 0, udpDst: 0 };
    assert.deepEqual(x.told, [
      { ...common, kind: 'too-big', mtu: 1400, payload: pattern(40) },
      { ...common, kind: 'port-unreachable', payload: pattern(16) },
      { ...common, kind: 'net-unreachable', payload: pattern(20), udpSrc: 9899, udpDst: 9900 },
      { ...common, kind: 'protocol-unreachable', payload: pattern(12) },
    ]);
    assert.equal(x.s.routes.pmtu(ip(PEER6)), 1400);
    // RFC 8201 section 4: less than 1280 is not believed, nor told to anybody.
    for (const mtu of [0, 500, 1279]) x.inject(from6(2, 0, mtu, ipv6(US6, PEER6, 132, pattern(40))));
    assert.equal(x.told.length, 4);
    assert.equal(x.s.icmp6.counters.errors_malformed, 3);
    assert.equal(x.s.routes.pmtu(ip(PEER6)), 1400);
    x.inject(from6(2, 0, 1280, ipv6(US6, PEER6, 132, pattern(40))));
    assert.equal(x.s.routes.pmtu(ip(PEER6)), 1280);
    assert.equal(x.net.leaked(), 0);
  });
  it('drops reports that are malformed or not about us', () => {
    const x = setUp();
    const c = x.s.icmp6.counters;
    x.inject(from6(1, 4, 0, ipv6(PEER6, US6, 132, pattern(40))));
    assert.equal(c.errors_not_ours, 1);
    x.inject(from6(1, 4, 0, pattern(39)));
    x.inject(from6(1, 4, 0, ipv6(US6, PEER6, 132, pattern(7))));
    x.inject(from6(1, 4, 0, ipv6(US6, PEER6, 44, concat([132, 0, 1, 0, 0, 0, 0, 7], pattern(16)))));
    x.inject(from6(1, 4, 0, ipv6(US6, PEER6, 60, concat([132, 200], pattern(16)))));
    assert.equal(c.errors_malformed, 4);
    const bad = from6(128, 0, 0, pattern(8));
    bad[45]! ^= 1;
    x.inject(bad);
    assert.equal(c.bad_checksum, 1);
    x.inject(from6(200, 0, 0, pattern(8)));
    assert.equal(c.unknown_type, 1);
    assert.deepEqual(x.told, []);
    assert.equal(x.net.leaked(), 0);
  });
  it('reports a closed port, but not about errors and groups, and within its limit', () => {
    const x = setUp();
    const p = ipv6(PEER6, US6, 17, udp(PEER6, US6, 1, 2, pattern(1400)));
    x.inject(p);
    const [a] = x.packets();
    assert.equal(a!.length, 1280);
    assert.equal(checksumOver(US6, PEER6, 58, a!.slice(40)), 0);
    assert.deepEqual(a!.slice(40, 42), Uint8Array.of(1, 4));
    assert.deepEqual(a!.slice(48), p.slice(0, 1232));
    const error = (q: Uint8Array) => x.s.icmp6.error(x.s.pool.fromBytes(q), 1, 4, 0);
    error(ipv6(PEER6, US6, 58, icmp6(PEER6, US6, 1, 1, 0, pattern(8))));
    error(ipv6(PEER6, 'ff02::1', 132, pattern(8)));
    error(ipv6('::', US6, 132, pattern(8)));
    assert.equal(x.s.icmp6.counters.errors_suppressed, 3);
    x.s.sysctl.set('net.inet6.icmp6.errppslimit', 0);
    error(ipv6(PEER6, US6, 132, pattern(8)));
    assert.equal(x.s.icmp6.counters.errors_limited, 1);
    assert.deepEqual(x.packets(), []);
    assert.equal(x.net.leaked(), 0);
  });
});

it('an empty pool loses the report, not the stack', () => {
  const x = setUp();
  const p = ipv4(PEER, US, 17, udp(PEER, US, 1, 2, concat(be16(1), pattern(9))));
  const frame = ether(0x0800, p);
  const { pool } = x.s;
  const m = pool.fromBytes(frame, 0, frame.length, 64);
  const rest: number[] = [];
  for (let r = pool.get(1); r !== M_NULL; r = pool.get(1)) rest.push(r);
  x.t.ifp.input(m);
  assert.equal(x.s.icmp.counters.nobufs, 1);
  for (const r of rest) pool.free(r);
  assert.equal(x.net.leaked(), 0);
});
