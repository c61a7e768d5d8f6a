import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Callout } from './kern/callout.js';
import { AF_INET, AF_INET6, SOCK_DGRAM } from './kern/protosw.js';
import { RecvInfo, type Socket } from './kern/socket.js';
import { InAddr } from './netinet/in.js';
import { pattern } from './netinet/packets.fixture.js';
import { type LinkOptions, MSEC, SEC, VirtualNet } from './testing.js';

const ip = InAddr.of;
function pair(options: LinkOptions = {}) {
  const net = new VirtualNet({ seed: 7 });
  const a = net.addHost('a');
  const b = net.addHost('b');
  const link = net.link(a, b, {
    delay: 10 * MSEC,
    addresses: [
      ['10.0.0.1/24', '2001:db8::1/64'],
      ['10.0.0.2/24', '2001:db8::2/64'],
    ],
    ...options,
  });
  return { net, a, b, link };
}
function sockets(p: ReturnType<typeof pair>, domain: number = AF_INET) {
  const to = domain === AF_INET ? '10.0.0.2' : '2001:db8::2';
  const sa = p.a.socket(domain, SOCK_DGRAM, 0) as Socket;
  const sb = p.b.socket(domain, SOCK_DGRAM, 0) as Socket;
  sb.bind({ addr: ip(to), port: 7 });
  sa.connect({ addr: ip(to), port: 7 });
  const receive = () => {
    const buf = new Uint8Array(2000);
    const n = sb.recv(buf, 0, buf.length, new RecvInfo());
    return n < 0 ? n : buf.slice(0, n);
  };
  return { sa, sb, receive };
}

describe('VirtualNet', () => {
  // Both are spared the round trip by the peer's announcement: ARP's at link up, neighbour discovery's when its address has
  // stood the test of a second. Before that nobody may ask (RFC 4429 section 3.2).
  for (const [domain, ms] of [
    [AF_INET, 20],
    [AF_INET6, 1020],
  ] as const) {
    it(`carries a datagram, resolution included (family ${domain})`, () => {
      const p = pair();
      const { sa, sb, receive } = sockets(p, domain);
      sa.send(pattern(100));
      assert.ok(p.net.runUntil(() => sb.readable));
      assert.equal(p.net.clock.now, SEC + ms * MSEC);
      assert.deepEqual(receive(), pattern(100));
      p.net.run(10 * SEC);
      assert.equal(p.net.leaked(), 0);
    });
  }
  it('gives the same bytes at the same times for the same seed', () => {
    const trace = () => {
      const p = pair();
      const log: string[] = [];
      p.link.onFrame = (from, frame, at) =>
        log.push(`${at} ${p.net.names.get(from)} ${Buffer.from(frame).toString('hex')}`);
      const { sa } = sockets(p);
      for (let i = 0; i < 20; i++) sa.send(pattern(i * 200));
      p.net.run(100 * SEC);
      return log;
    };
    assert.deepEqual(trace(), trace());
    assert.ok(trace().length > 20);
  });
  it('loses, alters, delays and queues as told', () => {
    const p = pair({ noarp: true, rate: 8_000_000, queue: 1500, loss: (f, n) => f.length > 100 && n % 2 === 0 });
    const { sa, receive } = sockets(p);
    const t0 = p.net.clock.now;
    for (let i = 0; i < 4; i++) sa.send(pattern(500));
    p.net.runUntil(() => p.link.a.flying === 0);
    // 542 bytes at 1 byte per microsecond: the second waits for the first.
    assert.equal(p.net.clock.now, t0 + 2 * 542_000 + 10 * MSEC);
    assert.equal(p.link.a.counters.lost, 2);
    sa.send(pattern(500));
    sa.send(pattern(500));
    sa.send(pattern(500));
    sa.send(pattern(500));
    sa.send(pattern(500));
    sa.send(pattern(500));
    sa.send(pattern(500));
    assert.equal(p.link.a.counters.queue_full, 1);
    p.net.run(SEC);
    while (typeof receive() !== 'number');
    p.link.options = {
      noarp: true,
      delay: (_, n) => (n % 2 === 0 ? 2 : 1) * MSEC,
      alter: f => f.with(f.length - 1, 9),
    };
    sa.send(Uint8Array.of(1, 0));
    sa.send(Uint8Array.of(2, 0));
    p.net.run(SEC);
    assert.equal(p.b.udp.counters.bad_checksum, 2);
    assert.equal(p.net.leaked(), 0);
  });
  it('carries trains where the link does', () => {
    const p = pair({ trains: true, noarp: true });
    const got: number[][] = [];
    p.b.udp.tunnel(9899, (m, i) => {
      got.push([p.b.pool.pktlen[m]!, p.b.pool.segsz[m]!, p.b.pool.hdrlen[m]!, i.udpSrc]);
      p.b.pool.freem(m);
    });
    const m = p.a.pool.fromBytes(pattern(10000));
    p.a.pool.segsz[m] = 1400;
    assert.equal(p.a.udp.output(m, ip('10.0.0.1'), ip('10.0.0.2'), 9900, 9899, 0, true), 0);
    p.net.run(SEC);
    assert.deepEqual(got, [[10000, 1400, 0, 9900]]);
    assert.equal(p.net.leaked(), 0);
  });
  it('pulls the cable: events, loss of what is under way, and back', () => {
    const p = pair();
    const { sa, sb } = sockets(p);
    const seen: string[] = [];
    p.a.events.subscribe(e => seen.push(e.kind));
    sa.send(pattern(10));
    p.net.runUntil(() => sb.readable);
    sa.send(pattern(10));
    p.link.setCarrier(false);
    p.net.run(SEC);
    assert.equal(p.link.a.counters.carrier_lost, 1);
    assert.equal(p.a.interfaces.byName('nke0')!.running, false);
    assert.ok(sa.send(pattern(10)) < 0);
    p.link.setCarrier(true);
    sa.send(pattern(10));
    p.net.run(SEC);
    assert.deepEqual(
      seen.filter(k => k.startsWith('link')),
      ['link-off', 'link-on'],
    );
    assert.equal(p.b.udp.counters.delivered, 2);
    p.link.setMtu(1000);
    assert.equal(p.a.routes.pmtu(ip('10.0.0.2')), 1000);
    sb.close();
    assert.equal(p.net.leaked(), 0);
  });
  it('stops at a time, at a condition, or when nothing is left to happen', () => {
    const net = new VirtualNet();
    const a = net.addHost('a');
    net.runUntil(5 * SEC);
    assert.equal(net.clock.now, 5 * SEC);
    assert.equal(
      net.runUntil(() => false),
      false,
    );
    assert.equal(net.clock.now, 5 * SEC);
    let n = 0;
    const tick = new Callout(() => {
      n++;
      a.callouts.reset(tick, SEC);
    });
    a.callouts.reset(tick, SEC);
    assert.equal(
      net.runUntil(() => n === 3),
      true,
    );
    assert.equal(net.clock.now, 8 * SEC);
    assert.equal(
      net.runUntil(() => n === 1000, 10 * SEC),
      false,
    );
    assert.equal(net.clock.now, 18 * SEC);
    assert.equal(n, 13);
  });
  it('runs a host again when a flush has made work for a protocol that was flushed before', () => {
    const net = new VirtualNet();
    const a = net.addHost('a');
    let queued = false;
    let sent = 0;
    const row = (protocol: number, flush: () => void) =>
      a.protocols.add({ domain: AF_INET, type: 5, protocol, name: 'x', flush });
    row(250, () => {
      if (queued) sent++;
      queued = false;
    });
    let once = false;
    row(251, () => {
      if (once) return;
      once = queued = true;
      a.kick();
    });
    net.run(0);
    assert.equal(sent, 1);
  });
  it('notices a net that runs in circles', () => {
    const net = new VirtualNet();
    const a = net.addHost('a');
    const c = new Callout(() => a.callouts.reset(c, 0));
    a.callouts.reset(c, 0);
    assert.throws(() => net.run(1), /in circles/);
  });
  it('counts mbufs that were not given back', () => {
    const net = new VirtualNet();
    const a = net.addHost('a');
    a.pool.getSmall();
    assert.equal(net.leaked(), 1);
  });
});
