/** UDP-Lite in virtual time: coverage rules of RFC 3828 §3.1, damaged datagrams, ICMP, bounds. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RecvInfo, Socket } from '../../kern/socket.js';
import {
  AF_INET,
  AF_INET6,
  EAGAIN,
  ECONNREFUSED,
  errnoName,
  InAddr,
  IPPROTO_UDPLITE,
  SO_RCVBUF,
  SOCK_DGRAM,
  SOL_SOCKET,
} from '../../kpi.js';
import type { Stack } from '../../stack.js';
import { type LinkOptions, MSEC, VirtualNet } from '../../testing.js';
import { UDPLITE_KEXT, UDPLITE_RECV_CSCOV, UDPLITE_SEND_CSCOV, udpLiteKext } from './index.js';

function pair(options: LinkOptions = {}) {
  const net = new VirtualNet();
  const a = net.addHost('a');
  const b = net.addHost('b');
  const link = net.link(a, b, {
    delay: MSEC,
    noarp: true,
    addresses: [
      ['10.0.0.1/24', 'fd00::1/64'],
      ['10.0.0.2/24', 'fd00::2/64'],
    ],
    ...options,
  });
  for (const s of [a, b]) assert.ok(s.kexts.load(udpLiteKext()).ok);
  return { net, a, b, link };
}
function open(s: Stack, domain: number, port: number): Socket {
  const so = s.socket(domain, SOCK_DGRAM, IPPROTO_UDPLITE);
  assert.ok(so instanceof Socket);
  if (port !== 0) assert.equal(so.bind({ addr: new InAddr(domain === AF_INET ? 4 : 6), port }), 0);
  return so;
}
function read(so: Socket): Uint8Array | string {
  const buf = new Uint8Array(65536);
  const n = so.recv(buf, 0, buf.length, new RecvInfo());
  return n < 0 ? errnoName(n) : buf.slice(0, n);
}

for (const [family, domain, peer, header] of [
  ['IPv4', AF_INET, '10.0.0.2', 20],
  ['IPv6', AF_INET6, 'fd00::2', 40],
] as const)
  describe(`UDPLite.kext over ${family}`, () => {
    const to = { addr: InAddr.of(peer), port: 7 };
    it('delivers every coverage; damage in what is not covered passes, in what is covered does not', () => {
      let flip = -1;
      const { net, a, b } = pair({
        alter: f => {
          if (flip >= 0) f[14 + header + flip]! ^= 1;
          return f;
        },
      });
      const from = open(a, domain, 0);
      const at = open(b, domain, 7);
      const data = Uint8Array.from({ length: 101 }, (_, i) => i);
      for (const coverage of [0, 8, 9, 20, 108, 109, 110, 65535]) {
        assert.equal(from.setsockopt(IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, coverage), 0);
        for (flip of [-1, 30, 108]) {
          assert.equal(from.send(data, 0, data.length, undefined, to), data.length);
          net.run(5 * MSEC);
          const covered = coverage === 0 ? 109 : Math.min(109, coverage);
          const got = read(at);
          if (flip >= 0 && flip < covered) assert.equal(got, 'EAGAIN', `coverage ${coverage}, byte ${flip}`);
          else {
            const want = data.slice();
            if (flip >= 0) want[flip - 8]! ^= 1;
            assert.deepEqual(got, want, `coverage ${coverage}, byte ${flip}`);
          }
        }
      }
      from.close();
      at.close();
      for (const s of [a, b]) assert.deepEqual(s.kexts.unload(UDPLITE_KEXT), { ok: true });
      assert.equal(net.leaked(), 0);
    });

    it('drops illegal coverages and missing checksums, and takes no less coverage than was asked for', () => {
      let patch: (udp: Uint8Array) => void = () => {};
      const { net, a, b } = pair({
        alter: f => {
          patch(f.subarray(14 + header));
          return f;
        },
      });
      const from = open(a, domain, 0);
      const at = open(b, domain, 7);
      const send = () => {
        from.send(new Uint8Array(10), 0, 10, undefined, to);
        net.run(5 * MSEC);
        return read(at);
      };
      const c = b.counters.group('udplite')!;
      for (const coverage of [1, 7, 19, 65535]) {
        patch = u => u.set([coverage >> 8, coverage & 255], 4);
        assert.equal(send(), 'EAGAIN');
      }
      assert.equal(c.bad_coverage, 4);
      patch = u => u.set([0, 0], 6);
      assert.equal(send(), 'EAGAIN');
      assert.equal(c.no_checksum, 1);
      patch = () => {};
      from.setsockopt(IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, 3);
      assert.equal(from.getsockopt(IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV), 8);
      at.setsockopt(IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV, 12);
      assert.equal(send(), 'EAGAIN');
      from.setsockopt(IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, 12);
      assert.equal((send() as Uint8Array).length, 10);
      at.setsockopt(IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV, 0);
      assert.equal(send(), 'EAGAIN');
      from.setsockopt(IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, 0);
      assert.equal((send() as Uint8Array).length, 10);
      assert.equal(c.too_little_covered, 2);
    });

    it('says port unreachable, and a connected socket hears it', () => {
      const { net, a } = pair();
      const so = open(a, domain, 0);
      assert.equal(so.connect({ addr: InAddr.of(peer), port: 9 }), 0);
      assert.equal(so.send(new Uint8Array(5)), 5);
      net.run(5 * MSEC);
      assert.equal(so.send(new Uint8Array(5)), -ECONNREFUSED);
      assert.match(so.errorReason, /port-unreachable/);
      so.close();
      assert.equal(net.leaked(), 0);
    });

    it('carries 60,000 bytes in fragments, and any bytes as a datagram do no harm', () => {
      const { net, a, b } = pair();
      const from = open(a, domain, 0);
      const at = open(b, domain, 7);
      assert.equal(from.send(new Uint8Array(60_000).fill(5), 0, 60_000, undefined, to), 60_000);
      net.run(10 * MSEC);
      assert.deepEqual(read(at), new Uint8Array(60_000).fill(5));
      for (let i = 0; i < 300; i++) {
        const junk = new Uint8Array(i % 40);
        net.random.fill(junk);
        a.output(a.pool.fromBytes(junk), new InAddr(to.addr.family), to.addr, IPPROTO_UDPLITE, 0, false);
      }
      net.run(10 * MSEC);
      assert.equal(read(at), 'EAGAIN');
      assert.equal(b.kexts.list()[0]!.faults, 0);
    });

    it('has a bound on what waits, and holds the extension while it is open', () => {
      const { net, a, b } = pair();
      const from = open(a, domain, 0);
      const at = open(b, domain, 7);
      at.setsockopt(SOL_SOCKET, SO_RCVBUF, 2000);
      for (let i = 0; i < 20; i++) from.send(new Uint8Array(100), 0, 100, undefined, to);
      net.run(5 * MSEC);
      let n = 0;
      while (typeof read(at) !== 'string') n++;
      assert.equal(n, 5);
      assert.equal(at.recv(new Uint8Array(1), 0, 1, new RecvInfo()), -EAGAIN);
      const r = b.kexts.unload(UDPLITE_KEXT);
      assert.ok(!r.ok && /1 open socket of udplite/.test(r.reason));
      at.close();
      assert.ok(b.kexts.unload(UDPLITE_KEXT).ok);
    });
  });
