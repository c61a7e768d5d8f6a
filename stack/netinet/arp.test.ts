import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { IFF_NOARP } from '../net/ifnet.js';
import { TestInterface, VirtualNet } from '../testing.js';
import { InAddr } from './in.js';
import { arp, ether, hex, MAC_PEER, MAC_US, pattern } from './packets.fixture.js';

const ip = InAddr.of;
const BCAST = [255, 255, 255, 255, 255, 255];
const ZERO = [0, 0, 0, 0, 0, 0];

function setUp() {
  const net = new VirtualNet();
  const s = net.addHost('a');
  s.sysctl.set('net.inet6.nd6.auto_linklocal', 0);
  const t = new TestInterface(s, 'nke0', { addresses: ['10.0.0.1/24'] });
  return { net, s, t };
}
const request = (sender: string, target: string) => ether(0x0806, arp(1, MAC_PEER, sender, ZERO, target), BCAST);
const reply = (sender: string, target: string, mac = MAC_PEER) =>
  ether(0x0806, arp(2, mac, sender, MAC_US, target), MAC_US, mac);

describe('Arp', () => {
  it('announces an address when the interface comes up, and when one is added', () => {
    const { s, t } = setUp();
    const announcement = (a: string) => ether(0x0806, arp(1, MAC_US, a, ZERO, a), BCAST, MAC_US);
    assert.deepEqual(t.take(), [announcement('10.0.0.1')]);
    s.interfaces.addAddress(t.ifp, ip('10.0.0.7'), 24);
    assert.deepEqual(t.take(), [announcement('10.0.0.7')]);
  });
  it('answers requests for us, and learns who asked', () => {
    const { net, s, t } = setUp();
    t.take();
    t.inject(request('10.0.0.2', '10.0.0.1'));
    assert.deepEqual(t.take(), [ether(0x0806, arp(2, MAC_US, '10.0.0.1', MAC_PEER, '10.0.0.2'), MAC_PEER, MAC_US)]);
    assert.equal(s.arp.table.lookup(t.ifp, ip('10.0.0.2'))!.state, 'stale');
    t.inject(request('10.0.0.2', '10.0.0.3')); // not for us
    t.inject(request('0.0.0.0', '10.0.0.1')); // a probe: answered, nobody learnt
    assert.equal(t.take().length, 1);
    assert.equal(s.arp.table.list().length, 1);
    assert.equal(net.leaked(), 0);
  });
  it('resolves: request, hold, reply, send', () => {
    const { net, s, t } = setUp();
    t.take();
    s.interfaces.output(t.ifp, s.pool.fromBytes(pattern(30)), 0x0800, ip('10.0.0.2'));
    assert.deepEqual(t.take(), [ether(0x0806, arp(1, MAC_US, '10.0.0.1', ZERO, '10.0.0.2'), BCAST, MAC_US)]);
    t.inject(reply('10.0.0.2', '10.0.0.1'));
    assert.deepEqual(t.take(), [ether(0x0800, pattern(30), MAC_PEER, MAC_US)]);
    assert.equal(s.arp.table.lookup(t.ifp, ip('10.0.0.2'))!.state, 'reachable');
    assert.equal(net.leaked(), 0);
  });
  it('probes the neighbour itself before it forgets it', () => {
    const { net, s, t } = setUp();
    t.inject(request('10.0.0.2', '10.0.0.1'));
    t.take();
    s.interfaces.output(t.ifp, s.pool.fromBytes(pattern(30)), 0x0800, ip('10.0.0.2'));
    net.run(5e9);
    const frames = t.take();
    assert.equal(frames.length, 2);
    assert.deepEqual(frames[1], ether(0x0806, arp(1, MAC_US, '10.0.0.1', ZERO, '10.0.0.2'), MAC_PEER, MAC_US));
    t.inject(reply('10.0.0.2', '10.0.0.1'));
    net.run(5e9);
    assert.equal(t.take().length, 0);
  });
  it('does not believe unsolicited replies from strangers, nor anybody off the link', () => {
    const { s, t } = setUp();
    t.inject(reply('10.0.0.2', '10.0.0.1'));
    assert.equal(s.arp.table.list().length, 0);
    t.inject(request('192.168.0.1', '10.0.0.1'));
    assert.equal(s.arp.table.list().length, 0);
    assert.equal(s.arp.counters.not_on_link, 1);
  });
  it('counts a conflict and defends the address (RFC 5227 section 2.4)', () => {
    const { net, s, t } = setUp();
    t.take();
    t.inject(reply('10.0.0.1', '10.0.0.1'));
    assert.equal(s.arp.counters.conflicts, 1);
    assert.equal(t.take().length, 1);
    t.inject(ether(0x0806, arp(1, MAC_US, '10.0.0.1', ZERO, '10.0.0.1'), BCAST, MAC_US)); // our own echo
    assert.equal(s.arp.counters.conflicts, 1);
    assert.equal(net.leaked(), 0);
  });
  it('drops malformed packets', () => {
    const { net, s, t } = setUp();
    const good = arp(1, MAC_PEER, '10.0.0.2', ZERO, '10.0.0.1');
    for (const [at, value] of [
      [1, 6],
      [2, 9],
      [4, 8],
      [5, 16],
      [7, 9],
    ] as const) {
      const bad = good.slice();
      bad[at] = value;
      t.inject(ether(0x0806, bad, BCAST));
    }
    t.inject(ether(0x0806, good.subarray(0, 27), BCAST));
    assert.equal(s.arp.counters.malformed, 6);
    t.inject(ether(0x0806, arp(1, [3, 0, 0, 0, 0, 1], '10.0.0.2', ZERO, '10.0.0.1'), BCAST));
    t.inject(ether(0x0806, arp(1, MAC_PEER, '224.0.0.1', ZERO, '10.0.0.1'), BCAST));
    assert.equal(s.arp.counters.bad_sender, 2);
    assert.equal(s.arp.table.list().length, 0);
    assert.equal(net.leaked(), 0);
  });
  it('is silent on a medium that carries IP', () => {
    const net = new VirtualNet();
    const s = net.addHost('a');
    const t = new TestInterface(s, 'nke0', { addresses: ['10.0.0.1/24'], flags: IFF_NOARP });
    t.inject(ether(0x0806, arp(1, MAC_PEER, '10.0.0.2', ZERO, '10.0.0.1'), BCAST));
    s.interfaces.output(t.ifp, s.pool.fromBytes(pattern(30)), 0x0800, ip('10.0.0.2'));
    assert.deepEqual(t.take(), [
      ether(0x0800, pattern(30), hex('000000000000') as unknown as number[], [...t.ifp.mac]),
    ]);
    assert.equal(net.leaked(), 0);
  });
});
