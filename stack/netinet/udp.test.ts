import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  EAGAIN,
  ECONNREFUSED,
  EDESTADDRREQ,
  EINVAL,
  EISCONN,
  EMSGSIZE,
  ENOENT,
  ENOTCONN,
  EOPNOTSUPP,
  EPIPE,
} from '../kern/errno.js';
import { CSUM_L4_OK } from '../kern/mbuf.js';
import { AF_INET, AF_INET6, SOCK_DGRAM } from '../kern/protosw.js';
import {
  MSG_EOR,
  MSG_PEEK,
  MSG_TRUNC,
  RecvInfo,
  SHUT_RD,
  SHUT_WR,
  SO_BROADCAST,
  SO_RCVBUF,
  SOL_SOCKET,
  type Socket,
} from '../kern/socket.js';
import { IFF_NOARP } from '../net/ifnet.js';
import type { Stack } from '../stack.js';
import { TestInterface, VirtualNet } from '../testing.js';
import { InAddr } from './in.js';
import { concat, ether, icmp, ipv4, ipv6, pattern, udp } from './packets.fixture.js';

const ip = InAddr.of;
const US = '10.0.0.1';
const PEER = '10.0.0.2';
const US6 = '2001:db8::1';
const PEER6 = '2001:db8::2';

function setUp() {
  const net = new VirtualNet();
  const s = net.addHost('a');
  const t = new TestInterface(s, 'nke0', { flags: IFF_NOARP, addresses: [`${US}/24`, `${US6}/64`] });
  const packets = () => t.take().map(f => f.slice(14));
  const inject = (p: Uint8Array, more = {}) => t.inject(ether(p[0]! >>> 4 === 4 ? 0x0800 : 0x86dd, p), more);
  return { net, s, t, c: s.udp.counters, packets, inject };
}
function open(s: Stack, domain: number = AF_INET): Socket {
  const so = s.socket(domain, SOCK_DGRAM, 0);
  assert.ok(typeof so === 'object');
  return so;
}
const at = (addr: string, port: number) => ({ addr: ip(addr), port });
const datagram = (from: number, to: number, data: Uint8Array, src = PEER, dst = US) =>
  ipv4(src, dst, 17, udp(src, dst, from, to, data));
function receive(so: Socket, room = 2000, flags = 0) {
  const buf = new Uint8Array(room);
  const info = new RecvInfo();
  const n = so.recv(buf, 0, room, info, flags);
  return n < 0 ? n : { data: buf.slice(0, n), from: `${info.from?.addr}:${info.from?.port}`, flags: info.msgFlags };
}

describe('Udp tunnels', () => {
  it('are given packets without UDP header, of both families', () => {
    const x = setUp();
    const got: string[] = [];
    const input = (m: number, i: { udpSrc: number; udpDst: number; src: InAddr; family: number }) => {
      got.push(`${i.family} ${i.src} ${i.udpSrc} ${i.udpDst} ${Buffer.from(x.s.pool.toBytes(m)).toString('hex')}`);
      x.s.pool.freem(m);
    };
    assert.equal(x.s.udp.tunnel(9899, input), 0);
    assert.equal(x.s.udp.tunnel(9899, input), -EADDRINUSE);
    assert.equal(x.s.udp.tunnel(0, input), -EINVAL);
    x.inject(datagram(9900, 9899, Uint8Array.of(1, 2)));
    x.inject(ipv6(PEER6, US6, 17, udp(PEER6, US6, 9900, 9899, Uint8Array.of(3))));
    // RFC 6935: none, over IPv6, to a tunnel
    const none = udp(PEER6, US6, 9900, 9899, Uint8Array.of(4));
    none.set([0, 0], 6);
    x.inject(ipv6(PEER6, US6, 17, none));
    assert.deepEqual(got, ['4 10.0.0.2 9900 9899 0102', '6 2001:db8::2 9900 9899 03', '6 2001:db8::2 9900 9899 04']);
    assert.equal(x.s.udp.untunnel(9899), 0);
    assert.equal(x.s.udp.untunnel(9899), -ENOENT);
    x.inject(datagram(9900, 9899, Uint8Array.of(1, 2)));
    assert.equal(x.c.no_port, 1);
    assert.equal(x.net.leaked(), 0);
  });
  it('are given trains whole, if somebody has checked them', () => {
    const x = setUp();
    const got: number[][] = [];
    x.s.udp.tunnel(9899, m => {
      got.push([x.s.pool.pktlen[m]!, x.s.pool.segsz[m]!, x.s.pool.hdrlen[m]!]);
      x.s.pool.freem(m);
    });
    const train = { segsz: 500, hdrlen: 42 };
    x.inject(datagram(1, 9899, pattern(1200)), { ...train, csum: CSUM_L4_OK });
    assert.deepEqual(got, [[1200, 500, 0]]);
    x.inject(datagram(1, 9899, pattern(1200)), train);
    assert.equal(x.c.bad_checksum, 1);
    x.inject(datagram(1, 9898, pattern(1200)), { ...train, csum: CSUM_L4_OK });
    assert.equal(x.c.no_port, 1);
    x.inject(datagram(1, 9899, pattern(1200)), { ...train, hdrlen: 41, csum: CSUM_L4_OK });
    assert.equal(x.c.bad_length, 1);
    assert.equal(x.net.leaked(), 0);
  });
  it('keep their port from sockets, and sockets theirs from tunnels', () => {
    const x = setUp();
    const so = open(x.s);
    x.s.udp.tunnel(9899, m => x.s.pool.freem(m));
    assert.equal(so.bind(at(US, 9899)), -EADDRINUSE);
    assert.equal(so.bind(at(US, 9900)), 0);
    assert.equal(
      x.s.udp.tunnel(9900, m => x.s.pool.freem(m)),
      -EADDRINUSE,
    );
  });
});

describe('Udp.input', () => {
  it('drops bad lengths and checksums', () => {
    const x = setUp();
    const so = open(x.s);
    so.bind(at('0.0.0.0', 7));
    const bad = datagram(1, 7, pattern(9));
    bad[30]! ^= 1;
    x.inject(bad);
    assert.equal(x.c.bad_checksum, 1);
    x.inject(ipv4(PEER, US, 17, pattern(7)));
    assert.equal(x.c.too_short, 1);
    for (const n of [7, 18]) {
      const u = udp(PEER, US, 1, 7, pattern(9));
      u[5] = n;
      x.inject(ipv4(PEER, US, 17, u));
    }
    assert.equal(x.c.bad_length, 2);
    const none6 = udp(PEER6, US6, 1, 7, pattern(9));
    none6.set([0, 0], 6);
    x.inject(ipv6(PEER6, US6, 17, none6));
    assert.equal(x.c.no_checksum, 1);
    const none4 = udp(PEER, US, 1, 7, pattern(9));
    none4.set([0, 0], 6);
    x.inject(ipv4(PEER, US, 17, none4));
    x.inject(ipv4(PEER, US, 17, concat(udp(PEER, US, 1, 7, pattern(9)), [1, 2, 3]))); // bytes behind the datagram
    assert.deepEqual(
      [receive(so), receive(so), receive(so)],
      [
        { data: pattern(9), from: '10.0.0.2:1', flags: MSG_EOR },
        { data: pattern(9), from: '10.0.0.2:1', flags: MSG_EOR },
        -EAGAIN,
      ],
    );
    assert.equal(x.net.leaked(), 0);
  });
  it('is silent about closed ports that were asked by broadcast', () => {
    const x = setUp();
    x.inject(datagram(1, 7, pattern(9), PEER, '10.0.0.255'));
    assert.equal(x.c.no_port_many, 1);
    assert.deepEqual(x.packets(), []);
    assert.equal(x.net.leaked(), 0);
  });
});

describe('UDP sockets', () => {
  it('send and receive', () => {
    const x = setUp();
    const so = open(x.s);
    let calls = 0;
    so.upcall = () => calls++;
    assert.equal(so.bind(at(US, 7)), 0);
    assert.equal(so.send(pattern(9), 2, 5, undefined, at(PEER, 8)), 5);
    const [p] = x.packets();
    assert.deepEqual(p!.slice(20), udp(US, PEER, 7, 8, pattern(9).slice(2, 7)));
    assert.equal(so.readable, false);
    x.inject(datagram(8, 7, pattern(30)));
    x.inject(datagram(9, 7, pattern(40)));
    assert.equal(so.readable, true);
    assert.equal(calls, 0); // not before the end of the batch
    x.s.run(x.net.clock.now);
    x.s.run(x.net.clock.now);
    assert.equal(calls, 1);
    assert.deepEqual(receive(so, 10, MSG_PEEK), { data: pattern(10), from: '10.0.0.2:8', flags: MSG_EOR | MSG_TRUNC });
    assert.deepEqual(receive(so, 10), { data: pattern(10), from: '10.0.0.2:8', flags: MSG_EOR | MSG_TRUNC });
    assert.deepEqual(receive(so), { data: pattern(40), from: '10.0.0.2:9', flags: MSG_EOR });
    assert.equal(receive(so), -EAGAIN);
    x.inject(datagram(9, 7, pattern(40)));
    assert.equal(so.close(), 0);
    x.inject(datagram(9, 7, pattern(40)));
    assert.equal(x.c.no_port, 1);
    assert.equal(x.net.leaked(), 0);
  });
  it('work over IPv6', () => {
    const x = setUp();
    const so = open(x.s, AF_INET6);
    assert.equal(so.bind(at('::', 7)), 0);
    assert.equal(so.send(pattern(9), 0, 9, undefined, at(PEER6, 8)), 9);
    assert.deepEqual(x.packets(), [ipv6(US6, PEER6, 17, udp(US6, PEER6, 7, 8, pattern(9)))]);
    x.inject(ipv6(PEER6, US6, 17, udp(PEER6, US6, 8, 7, pattern(3))));
    assert.deepEqual(receive(so), { data: pattern(3), from: '2001:db8::2:8', flags: MSG_EOR });
    assert.equal(so.send(pattern(9), 0, 9, undefined, at(PEER, 8)), -EAFNOSUPPORT);
    x.inject(datagram(8, 7, pattern(3))); // IPv4 is another socket's
    assert.equal(x.c.no_port, 1);
  });
  it('choose the best match: connected, bound, any', () => {
    const x = setUp();
    const any = open(x.s);
    assert.equal(any.bind(at('0.0.0.0', 7)), 0);
    const clash = open(x.s);
    assert.equal(clash.bind(at(US, 7)), -EADDRINUSE);
    const bound = open(x.s);
    assert.equal(bound.bind(at(US, 8)), 0);
    const other = open(x.s);
    assert.equal(other.bind(at('127.0.0.1', 8)), 0);
    assert.equal(bound.connect(at(PEER, 5)), 0);
    x.inject(datagram(5, 8, Uint8Array.of(1)));
    x.inject(datagram(6, 8, Uint8Array.of(2))); // not the peer: refused
    assert.equal((receive(bound) as { data: Uint8Array }).data[0], 1);
    assert.equal(receive(bound), -EAGAIN);
    assert.equal(x.c.no_port, 1);
  });
  it('connect: fixed addresses, ICMP errors', () => {
    const x = setUp();
    const so = open(x.s);
    assert.equal(so.send(pattern(3)), -EDESTADDRREQ);
    assert.equal(so.peeraddr(), -ENOTCONN);
    assert.equal(so.shutdown(SHUT_WR), -ENOTCONN);
    assert.equal(so.connect(at('9.9.9.9', 9)), -EADDRNOTAVAIL);
    assert.equal(so.connect(at(PEER, 9)), 0);
    const us = so.sockaddr() as { addr: InAddr; port: number };
    assert.equal(us.addr.toString(), US);
    assert.ok(us.port >= 49152);
    assert.equal(so.send(pattern(3), 0, 3, undefined, at(PEER, 9)), -EISCONN);
    assert.equal(so.send(pattern(3)), 3);
    const [p] = x.packets();
    let called = false;
    so.upcall = () => (called = true);
    x.inject(ipv4(PEER, US, 1, icmp(3, 3, 0, p!)));
    x.s.run(x.net.clock.now);
    assert.ok(called);
    assert.match(so.errorReason, /port-unreachable from the path to 10.0.0.2/);
    assert.equal(receive(so), -ECONNREFUSED);
    assert.equal(receive(so), -EAGAIN);
    so.shutdown(SHUT_WR);
    assert.equal(so.send(pattern(3)), -EPIPE);
    so.shutdown(SHUT_RD);
    assert.equal(so.recv(new Uint8Array(1), 0, 1, new RecvInfo()), 0);
    assert.equal(x.net.leaked(), 0);
  });
  it('refuse what cannot be', () => {
    const x = setUp();
    const so = open(x.s);
    assert.equal(so.bind(at('9.9.9.9', 7)), -EADDRNOTAVAIL);
    assert.equal(so.bind(at(US6, 7)), -EAFNOSUPPORT);
    assert.equal(so.bind(at(US, 70000)), -EINVAL);
    assert.equal(so.bind(at(US, 7), at(US, 8)), -EINVAL);
    assert.equal(so.bind(at(US, 7)), 0);
    assert.equal(so.bind(at(US, 8)), -EINVAL);
    assert.equal(so.listen(1), -EOPNOTSUPP);
    assert.equal(so.send(new Uint8Array(65508), 0, 65508, undefined, at(PEER, 8)), -EMSGSIZE);
    assert.equal(so.send(pattern(1), 0, 1, undefined, at(PEER, 0)), -EADDRNOTAVAIL);
    assert.equal(so.send(pattern(1), 0, 1, undefined, at('255.255.255.255', 8)), -EACCES);
    assert.equal(so.setsockopt(SOL_SOCKET, SO_BROADCAST, 1), 0);
    assert.equal(so.send(pattern(1), 0, 1, undefined, at('255.255.255.255', 8)), 1);
    assert.equal(x.net.leaked(), 0);
  });
  it('bound their buffer, in bytes', () => {
    const x = setUp();
    const so = open(x.s);
    so.bind(at(US, 7));
    assert.equal(so.setsockopt(SOL_SOCKET, SO_RCVBUF, 3000), 0);
    assert.equal(so.setsockopt(SOL_SOCKET, SO_RCVBUF, -1), -EINVAL);
    assert.equal(so.getsockopt(SOL_SOCKET, SO_RCVBUF), 3000);
    for (let i = 0; i < 10; i++) x.inject(datagram(1, 7, pattern(744)));
    assert.deepEqual([x.c.delivered, x.c.full], [3, 7]);
    receive(so);
    x.inject(datagram(1, 7, pattern(744)));
    assert.equal(x.c.delivered, 4);
    so.close();
    assert.equal(x.net.leaked(), 0);
  });
  it('fragment and reassemble the largest datagram between two hosts', () => {
    const net = new VirtualNet();
    const [a, b] = [net.addHost('a'), net.addHost('b')];
    net.link(a, b, { delay: 1e6, addresses: [['10.0.0.1/24'], ['10.0.0.2/24']] });
    const [sa, sb] = [open(a), open(b)];
    sb.bind(at('0.0.0.0', 7));
    sa.connect(at('10.0.0.2', 7));
    b.sysctl.set('net.inet.ip.maxfragsperpacket', 64);
    const data = pattern(65507);
    assert.equal(sa.send(data), 65507);
    // 45 fragments wait for ARP, whose queue is bounded: those that did not fit are lost, and the datagram with them.
    net.run(5e9);
    assert.equal(sb.readable, false);
    assert.ok(a.arp.table.counters.hold_overflow > 0);
    assert.equal(sa.send(data), 65507);
    assert.ok(net.runUntil(() => sb.readable));
    assert.deepEqual((receive(sb, 70000) as { data: Uint8Array }).data, data);
    net.run(60e9);
    assert.equal(net.leaked(), 0);
  });
});
