/** SockGuard in virtual time: every verdict under traffic, rules that change meanwhile, and rules of any kind. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ControlClient } from '../../kern/ctlclient.js';
import { RecvInfo, Socket } from '../../kern/socket.js';
import { AF_INET, EACCES, EAGAIN, InAddr, SEC, SOCK_DGRAM } from '../../kpi.js';
import { check, drain, SctpPair } from '../../sctp/harness.js';
import type { Stack } from '../../stack.js';
import { MSEC, VirtualNet } from '../../testing.js';
import { SOCKGUARD_KEXT, sockGuardKext } from './index.js';
import { parseRules, type RuleText } from './rules.js';

const UDP = 17;
const B = { addr: InAddr.of('10.0.0.2'), port: 7 };

function pair(rules: readonly RuleText[] = []) {
  const net = new VirtualNet();
  const a = net.addHost('a');
  const b = net.addHost('b');
  net.link(a, b, { delay: MSEC, noarp: true, addresses: [['10.0.0.1/24'], ['10.0.0.2/24']] });
  assert.deepEqual(a.kexts.load(sockGuardKext(), { params: { rules: JSON.stringify(rules) } }), { ok: true });
  const ctl = ControlClient.open(a, SOCKGUARD_KEXT);
  assert.ok(ctl instanceof ControlClient);
  return { net, a, b, ctl };
}
function udp(s: Stack, port = 0): Socket {
  const so = s.socket(AF_INET, SOCK_DGRAM, UDP);
  assert.ok(so instanceof Socket);
  if (port !== 0) assert.equal(so.bind({ addr: new InAddr(4), port }), 0);
  return so;
}
const recv = (so: Socket) => so.recv(new Uint8Array(2000), 0, 2000, new RecvInfo());
const count = (so: Socket) => {
  let n = 0;
  while (recv(so) >= 0) n++;
  return n;
};

describe('SockGuard.kext', () => {
  it('denies by prefix, port, protocol and direction; the first rule that fits decides; it changes live', () => {
    const { net, a, b, ctl } = pair([
      { action: 'allow', direction: 'out', protocol: 'udp', prefix: '10.0.0.2', port: 7 },
      { action: 'deny', direction: 'out', protocol: 'udp', prefix: '10.0.0.0/24' },
      { action: 'deny', protocol: 'udp', port: 99 },
    ]);
    const so = udp(a, 5);
    const peer = udp(b, 7);
    const send = (port: number) => so.send(new Uint8Array(10), 0, 10, undefined, { addr: B.addr, port });
    assert.equal(send(7), 10);
    assert.equal(send(8), -EACCES);
    assert.equal(udp(a).connect({ addr: B.addr, port: 8 }), -EACCES);
    assert.equal(udp(a).bind({ addr: new InAddr(4), port: 99 }), -EACCES);
    net.run(5 * MSEC);
    assert.equal(count(peer), 1);
    assert.ok(ctl.request('call', { name: 'remove', args: { rule: 2 } }).ok);
    assert.equal(send(8), 10);
    assert.ok(
      ctl.request('call', {
        name: 'add',
        args: { rule: { action: 'deny', direction: 'in', prefix: '10.0.0.2' }, before: 1 },
      }).ok,
    );
    peer.send(new Uint8Array(3), 0, 3, undefined, { addr: InAddr.of('10.0.0.1'), port: 5 });
    net.run(5 * MSEC);
    assert.equal(recv(so), -EAGAIN);
    const list = ctl.request('call', { name: 'list' });
    assert.ok(list.ok);
    assert.deepEqual(
      (list.value as { counters: { denied: number } }[]).map(r => r.counters.denied),
      [1, 0, 1],
    );
    const bad = ctl.request('set', { name: 'rules', value: '[{"action":"maybe"}]' });
    assert.ok(!bad.ok);
    const bad2 = ctl.request('call', { name: 'set', args: { rules: [{ action: 'maybe' }] } });
    assert.ok(!bad2.ok && /rule 1: "action" must be/.test(bad2.reason));
    assert.ok(ctl.request('set', { name: 'rules', value: '[]' }).ok);
    peer.send(new Uint8Array(3), 0, 3, undefined, { addr: InAddr.of('10.0.0.1'), port: 5 });
    net.run(5 * MSEC);
    assert.equal(recv(so), 3);
    assert.deepEqual(a.kexts.unload(SOCKGUARD_KEXT), { ok: true });
    assert.equal(so.filters, null);
  });

  it('limits a sender: it waits, is woken, and gets its rate; none is lost', () => {
    const { net, a, b } = pair([{ action: 'limit', direction: 'out', messages: 100, burst: 0.1 }]);
    const so = udp(a);
    const peer = udp(b, 7);
    let sent = 0;
    const pump = () => {
      while (sent < 1000 && so.send(new Uint8Array(10), 0, 10, undefined, B) > 0) sent++;
    };
    so.upcall = pump;
    pump();
    assert.equal(sent, 10);
    let got = 0;
    for (let i = 0; i < 100; i++) {
      net.run(50 * MSEC);
      got += count(peer);
    }
    assert.ok(got >= 508 && got <= 511, `${got} in 5 s`);
    assert.ok(got === sent || got === sent - 1);
    assert.deepEqual(a.kexts.unload(SOCKGUARD_KEXT), { ok: true });
    net.run(10 * MSEC);
    assert.equal(sent, 1000, 'who waits goes on when the limit goes');
  });

  it('limits bytes; drops what is over, or keeps what came in for later, in order', () => {
    const { net, a, b, ctl } = pair([{ action: 'limit', direction: 'out', bytes: 1000, excess: 'drop' }]);
    const so = udp(a, 5);
    const peer = udp(b, 7);
    for (let i = 0; i < 20; i++) assert.equal(so.send(new Uint8Array(100), 0, 100, undefined, B), 100);
    net.run(5 * MSEC);
    assert.equal(count(peer), 10);
    assert.ok(
      ctl.request('call', {
        name: 'set',
        args: { rules: [{ action: 'limit', direction: 'in', messages: 10, burst: 0.1 }] },
      }).ok,
    );
    const got: number[] = [];
    so.upcall = () => {
      const buf = new Uint8Array(10);
      while (so.recv(buf, 0, 10, new RecvInfo()) > 0) got.push(buf[0]!);
    };
    for (let i = 0; i < 30; i++) peer.send(Uint8Array.of(i), 0, 1, undefined, { addr: InAddr.of('10.0.0.1'), port: 5 });
    net.run(SEC);
    assert.ok(got.length >= 10 && got.length <= 12, String(got.length));
    net.run(SEC);
    // The rest is let go, not lost.
    assert.deepEqual(a.kexts.unload(SOCKGUARD_KEXT), { ok: true });
    assert.deepEqual(
      got,
      Array.from({ length: 30 }, (_, i) => i),
    );
  });

  it('guards SCTP: a connection denied is aborted, a limited one loses nothing', () => {
    const p = new SctpPair({ noarp: true });
    const deny: RuleText[] = [{ action: 'deny', direction: 'in', protocol: 'sctp', prefix: '10.0.0.0/8' }];
    const limit: RuleText[] = [{ action: 'limit', direction: 'out', protocol: 'sctp', messages: 50, burst: 0.1 }];
    assert.ok(p.a.kexts.load(sockGuardKext(), { params: { rules: JSON.stringify(limit) } }).ok);
    const [c, server] = p.connect();
    let sent = 0;
    const pump = () => {
      while (sent < 100 && c.send(Uint8Array.of(sent)) > 0) sent++;
    };
    c.upcall = pump;
    pump();
    p.net.run(3e9);
    assert.equal(sent, 100);
    assert.deepEqual(
      drain(server).messages.map(m => m.data[0]),
      Array.from({ length: 100 }, (_, i) => i),
    );
    assert.ok(p.b.kexts.load(sockGuardKext(), { params: { rules: JSON.stringify(deny) } }).ok);
    check(c.close());
    p.net.run(1e9);
    server.close();
    assert.equal(p.a.kexts.list().at(-1)!.faults, 0);
  });

  it('refuses rules that say nothing, by name and number', () => {
    const cases: [unknown, RegExp][] = [
      [{}, /a list/],
      [[1], /rule 1: a rule is an object/],
      [[{ action: 'deny' }, { action: 'deny', colour: 1 }], /rule 2: a rule has no "colour"/],
      [[{ action: 'deny', port: 70000 }], /"port"/],
      [[{ action: 'deny', protocol: 'ipx' }], /"protocol" must be sctp/],
      [[{ action: 'deny', prefix: '10.0.0.0/33' }], /"prefix"/],
      [[{ action: 'limit' }], /needs "messages" or "bytes"/],
      [[{ action: 'allow', messages: 5 }], /only limit/],
      [[{ action: 'limit', messages: 1, burst: Number.NaN }], /"burst"/],
      [Array(257).fill({ action: 'deny' }), /at most 256/],
    ];
    for (const [rules, words] of cases) assert.match(String(parseRules(rules, 0)), words);
    const net = new VirtualNet();
    const r = net.addHost('x').kexts.load(sockGuardKext(), { params: { rules: '[' } });
    assert.ok(!r.ok);
  });
});
