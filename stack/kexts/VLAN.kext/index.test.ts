/** VLANs in virtual time: tags on and off, several at once, what belongs to nobody, parents that come and go, under traffic. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RecvInfo, Socket } from '../../kern/socket.js';
import { AF_INET, InAddr, SOCK_DGRAM } from '../../kpi.js';
import type { Stack } from '../../stack.js';
import { MSEC, VirtualNet } from '../../testing.js';
import { VLAN_KEXT, vlanKext } from './index.js';

const UDP = 17;

function pair(vlans: readonly [string, string], params = {}) {
  const net = new VirtualNet();
  const a = net.addHost('a');
  const b = net.addHost('b');
  const link = net.link(a, b, { delay: MSEC, addresses: [['10.0.0.1/24'], ['10.0.0.2/24']] });
  for (const [i, s] of [a, b].entries()) {
    const r = s.kexts.load(vlanKext(), { params: { vlans: vlans[i], ...params } });
    assert.ok(r.ok, JSON.stringify(r));
  }
  return { net, a, b, link };
}
function udp(s: Stack, port: number): Socket {
  const so = s.socket(AF_INET, SOCK_DGRAM, UDP);
  assert.ok(so instanceof Socket);
  assert.equal(so.bind({ addr: new InAddr(4), port }), 0);
  return so;
}
const recv = (so: Socket) => so.recv(new Uint8Array(2000), 0, 2000, new RecvInfo());

describe('VLAN.kext', () => {
  it('carries IP over two VLANs and the untagged parent at once, each to its own', () => {
    const { net, a, b, link } = pair(
      ['nke0.10=10.1.0.1/24 nke0.20=10.2.0.1/24+fd00:2::1/64', 'nke0.10=10.1.0.2/24 nke0.20=10.2.0.2/24+fd00:2::2/64'],
      { pcp: 'tos' },
    );
    const tags: number[] = [];
    link.onFrame = (_from, f) => {
      const dv = new DataView(f.buffer, f.byteOffset, f.length);
      tags.push(dv.getUint16(12) === 0x8100 ? dv.getUint16(14) & 0xfff : 0);
      assert.ok(f.length <= 1518);
    };
    const from = udp(a, 1);
    const to = udp(b, 7);
    // What the first ones wait for is ARP's answer.
    for (const net4 of ['10.0.0.2', '10.1.0.2', '10.2.0.2'])
      from.send(new Uint8Array(1), 0, 1, undefined, { addr: InAddr.of(net4), port: 7 });
    net.run(10 * MSEC);
    while (recv(to) >= 0);
    for (let i = 0; i < 50; i++)
      for (const net4 of ['10.0.0.2', '10.1.0.2', '10.2.0.2'])
        assert.equal(from.send(new Uint8Array(1472), 0, 1472, undefined, { addr: InAddr.of(net4), port: 7 }), 1472);
    let got = 0;
    for (let i = 0; i < 20; i++) {
      net.run(5 * MSEC);
      for (let n = recv(to); n >= 0; n = recv(to)) got++;
    }
    assert.equal(got, 150);
    assert.deepEqual([...new Set(tags)].sort(), [0, 10, 20]);
    assert.ok(b.counters.group('vlan')!.received! > 20);
    const v = b.interfaces.byName('nke0.20')!;
    assert.ok(v.counters.ipackets > 10 && v.counters.opackets > 0);
    assert.equal(v.mtu, 1500);
    from.close();
    to.close();
    for (const s of [a, b]) {
      assert.deepEqual(s.kexts.unload(VLAN_KEXT), { ok: true });
      assert.equal(s.interfaces.byName('nke0.10'), undefined);
    }
    assert.equal(net.leaked(), 0);
  });

  it('counts and drops unknown, reserved and short tags; a priority tag is the parent’s', () => {
    const { net, b, link } = pair(['', 'nke0.10=10.1.0.2/24']);
    const { pool } = link.a.stack;
    const send = (...tail: number[]) => {
      const f = new Uint8Array(14 + tail.length);
      f.set(link.b.ifp.mac);
      f.set(link.a.ifp.mac, 6);
      f.set([0x81, 0x00], 12);
      f.set(tail, 14);
      link.a.stack.interfaces.transmit(link.a.ifp, pool.fromBytes(f));
      net.run(2 * MSEC);
    };
    const seen: string[] = [];
    b.interfaces.attachProtocol(0x88b5, (ifp, m) => {
      seen.push(`${ifp.name} ${b.pool.toBytes(m)}`);
      b.pool.freem(m);
    });
    send(0x00, 99, 0x88, 0xb5, 1);
    send(0xff, 0xff, 0x88, 0xb5, 1);
    send(0x00);
    send();
    send(0xe0, 0, 0x88, 0xb5, 1);
    send(0x20, 10, 0x88, 0xb5, 2);
    assert.deepEqual(seen, ['nke0 1', 'nke0.10 2']);
    const c = b.counters.group('vlan')!;
    assert.deepEqual([c.unknown, c.reserved, c.too_short, c.priority_tagged, c.received], [1, 1, 2, 1, 1]);
    assert.equal(net.leaked(), 0);
  });

  it('takes tags off frames that lie in pieces', () => {
    const { net, b, link } = pair(['', 'nke0.10']);
    const seen: string[] = [];
    b.interfaces.attachProtocol(0x88b5, (ifp, m) => {
      seen.push(`${ifp.name} ${b.pool.toBytes(m)}`);
      b.pool.freem(m);
    });
    const f = Uint8Array.of(...link.b.ifp.mac, ...link.a.ifp.mac, 0x81, 0, 0, 10, 0x88, 0xb5, 7, 8, 9);
    for (let cut = 14; cut < f.length; cut++) {
      const m = b.pool.fromBytes(f, 0, cut);
      const rest = b.pool.fromBytes(f, cut, f.length - cut);
      b.pool.next[m] = rest;
      b.pool.pktlen[m] = f.length;
      link.b.ifp.input(m);
    }
    assert.deepEqual([...new Set(seen)], ['nke0.10 7,8,9']);
    assert.equal(seen.length, f.length - 14);
    assert.equal(net.leaked(), 0);
  });

  it('follows its parent: link, MTU, and its end', () => {
    const { net, a, link } = pair(['nke0.10=10.1.0.1/24', '']);
    const v = a.interfaces.byName('nke0.10')!;
    assert.ok(v.running);
    link.setCarrier(false);
    assert.ok(!v.running);
    link.setCarrier(true);
    assert.ok(v.running);
    link.setMtu(1300);
    assert.equal(v.mtu, 1300);
    a.interfaces.detach(link.a.ifp);
    assert.equal(a.interfaces.byName('nke0.10'), undefined);
    assert.equal(a.interfaces.ownerOf(InAddr.of('10.1.0.1')), undefined);
    assert.equal(net.leaked(), 0);
  });

  it('refuses what cannot be, and leaves nothing of it', () => {
    for (const vlans of [
      'nke9.10',
      'nke0.0',
      'nke0.4095',
      'nke0',
      'nke0.x',
      'nke0.1=10.0.0.1/24',
      'nke0.1=x/24',
      'nke0.1 nke0.1',
    ]) {
      const net = new VirtualNet();
      const a = net.addHost('a');
      const b = net.addHost('b');
      net.link(a, b, { addresses: [['10.0.0.1/24'], ['10.0.0.2/24']] });
      const before = a.counters.names().length;
      assert.ok(!a.kexts.load(vlanKext(), { params: { vlans } }).ok, vlans);
      assert.deepEqual(
        a.interfaces.list().map(i => i.name),
        ['lo0', 'nke0'],
      );
      assert.equal(a.counters.names().length, before);
      assert.ok(!a.interfaces.hasProtocol(0x8100));
    }
  });
});
