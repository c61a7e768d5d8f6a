import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Callout } from './kern/callout.js';
import { EAFNOSUPPORT, EHOSTUNREACH, EPROTONOSUPPORT } from './kern/errno.js';
import { CSUM_IP, CSUM_SCTP, CSUM_UDP } from './kern/mbuf.js';
import { AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM } from './kern/protosw.js';
import { RecvInfo, type Socket } from './kern/socket.js';
import { InAddr } from './netinet/in.js';
import { pattern } from './netinet/packets.fixture.js';
import { MSEC, VirtualNet } from './testing.js';

const ip = InAddr.of;

describe('Stack', () => {
  it('runs callouts, then what protocols piled up, then doorbells', () => {
    const net = new VirtualNet();
    const s = net.addHost('a');
    const log: string[] = [];
    s.protocols.add({ domain: AF_INET, type: SOCK_STREAM, protocol: 250, name: 'x', flush: () => log.push('flush') });
    s.callouts.reset(new Callout(() => log.push('callout')), MSEC);
    assert.equal(s.deadline(), net.clock.now + MSEC);
    s.run(net.clock.now + MSEC);
    assert.deepEqual(log, ['callout', 'flush']);
    assert.equal(s.deadline(), Number.POSITIVE_INFINITY);
  });
  it('makes sockets of registered protocols only, and kicks its loop', () => {
    let kicks = 0;
    const s = new VirtualNet().addHost('a');
    s.kick = () => kicks++;
    assert.equal(s.socket(AF_INET, SOCK_STREAM, 132), -EPROTONOSUPPORT);
    const so = s.socket(AF_INET, SOCK_DGRAM, 17) as Socket;
    so.send(pattern(3), 0, 3, undefined, { addr: ip('127.0.0.1'), port: 9 });
    assert.equal(kicks, 1);
    assert.equal(s.deadline(), s.clock.now); // loopback waits
  });
  it('dispatches output by family', () => {
    const net = new VirtualNet();
    const s = net.addHost('a');
    const m = () => s.pool.fromBytes(pattern(9));
    assert.equal(s.output(m(), ip('127.0.0.1'), ip('::1'), 200, 0, true), -EAFNOSUPPORT);
    assert.equal(s.output(m(), ip('10.0.0.1'), ip('10.0.0.2'), 200, 0, true), -EHOSTUNREACH);
    assert.equal(s.output(m(), new InAddr(), ip('::1'), 200, 0, true), 0);
    assert.equal(s.output(m(), ip('127.0.0.1'), ip('127.0.0.1'), 200, 0, true), 0);
    s.run(net.clock.now);
    assert.deepEqual([s.ip.counters.no_protocol, s.ip6.counters.no_protocol], [1, 1]);
    assert.equal(net.leaked(), 0);
  });
  it('says what the card on the way can do', () => {
    const net = new VirtualNet();
    const [a, b] = [net.addHost('a'), net.addHost('b')];
    net.link(a, b, { trains: true, mtu: 9000, addresses: [['10.0.0.1/24'], ['10.0.0.2/24']] });
    net.link(a, b, { addresses: [['10.1.0.1/24'], ['10.1.0.2/24']] });
    const any = new InAddr();
    assert.equal(a.hwassistFor(any, ip('10.0.0.2')), CSUM_SCTP | CSUM_UDP | CSUM_IP);
    assert.equal(a.hwassistFor(any, ip('10.1.0.2')), 0);
    assert.equal(a.hwassistFor(any, ip('9.9.9.9')), 0);
    assert.deepEqual(
      [a.trainFor(any, ip('10.0.0.2'))?.trainBytes, a.trainFor(any, ip('10.0.0.2'))?.trainSegments],
      [65535, 64],
    );
    assert.equal(a.trainFor(any, ip('10.1.0.2')), undefined);
    assert.equal(a.routeFor(any, ip('10.0.0.2'))?.mtu, 9000);
    assert.equal(a.routeFor(any, ip('10.1.0.2'))?.ifp.name, 'nke1');
  });
  it('talks to itself over lo0, in both families and at its own addresses', () => {
    const net = new VirtualNet();
    const s = net.addHost('a');
    for (const [domain, to] of [
      [AF_INET, '127.0.0.1'],
      [AF_INET, '127.5.5.5'],
      [AF_INET6, '::1'],
    ] as const) {
      const so = s.socket(domain, SOCK_DGRAM, 0) as Socket;
      so.bind({ addr: ip(to), port: 7 });
      const c = s.socket(domain, SOCK_DGRAM, 0) as Socket;
      assert.equal(c.connect({ addr: ip(to), port: 7 }), 0);
      assert.equal(c.send(pattern(20000)), 20000); // more than lo0's MTU
      net.run(0);
      const buf = new Uint8Array(30000);
      assert.equal(so.recv(buf, 0, buf.length, new RecvInfo()), 20000);
      so.close();
      c.close();
    }
    assert.equal(net.leaked(), 0);
  });
});
