import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { IFF_NOARP } from '../net/ifnet.js';
import { TestInterface, VirtualNet } from '../testing.js';
import { InAddr } from './in.js';
import { linkLocal } from './nd6.js';
import { addr, concat, ether, icmp6, ipv6, MAC_PEER, MAC_US, pattern } from './packets.fixture.js';

const ip = InAddr.of;
const US = '2001:db8::1';
const PEER = '2001:db8::2';
const NODE_US = 'ff02::1:ff00:1';
const GROUP_US = [0x33, 0x33, 0xff, 0, 0, 1];

function setUp() {
  const net = new VirtualNet();
  const s = net.addHost('a');
  s.sysctl.set('net.inet6.nd6.auto_linklocal', 0);
  const t = new TestInterface(s, 'nke0', { addresses: [`${US}/64`] });
  return { net, s, t };
}
const nd = (
  type: number,
  src: string,
  dst: string,
  flags: number,
  target: string,
  option: Uint8Array,
  mac: readonly number[] = MAC_US,
  hlim = 255,
  code = 0,
) => ether(0x86dd, ipv6(src, dst, 58, icmp6(src, dst, type, code, flags, concat(addr(target), option)), hlim), mac);
const sll = concat([1, 1], MAC_PEER);
const tll = concat([2, 1], MAC_PEER);
const solicit = (src = PEER, option: Uint8Array = sll, hlim = 255) =>
  nd(135, src, NODE_US, 0, US, option, GROUP_US, hlim);
const advert = (flags: number, option: Uint8Array = tll) => nd(136, PEER, US, flags, PEER, option);
const S = 0x40000000;
const O = 0x20000000;

describe('Nd6', () => {
  it('looks for a duplicate of a new address, then tells where it is', () => {
    const { net, t } = setUp();
    const dad = concat(
      [0x33, 0x33, 0xff, 0, 0, 1],
      MAC_US,
      [0x86, 0xdd],
      ipv6('::', NODE_US, 58, icmp6('::', NODE_US, 135, 0, 0, addr(US)), 255),
    );
    assert.deepEqual(t.take(), [dad]);
    assert.equal(t.groups.get('3333ff000001'), 1);
    assert.equal(t.groups.get('333300000001'), 1);
    net.run(1e9);
    const na = icmp6(US, 'ff02::1', 136, 0, O, concat(addr(US), [2, 1], MAC_US));
    assert.deepEqual(t.take(), [
      concat([0x33, 0x33, 0, 0, 0, 1], MAC_US, [0x86, 0xdd], ipv6(US, 'ff02::1', 58, na, 255)),
    ]);
  });
  for (const [name, frame] of [
    ['an advertisement for it', nd(136, US, 'ff02::1', O, US, tll, [0x33, 0x33, 0, 0, 0, 1])],
    ['another probe for it', solicit('::', new Uint8Array())],
  ] as const) {
    it(`gives up an address on probation for ${name}`, () => {
      const { net, s, t } = setUp();
      t.inject(frame);
      assert.equal(t.ifp.has(ip(US)), false);
      assert.equal(s.nd6.counters.duplicates, 1);
      assert.equal(t.groups.get('3333ff000001'), 0);
      assert.ok(
        s.events.since(0).some(e => e.kind === 'protocol' && e.what === 'duplicate-address' && e.reason.includes(US)),
      );
      net.run(5e9);
      assert.equal(net.leaked(), 0);
    });
  }
  it('defends an address that has stood the test', () => {
    const { net, s, t } = setUp();
    net.run(2e9);
    t.take();
    t.inject(solicit('::', new Uint8Array()));
    const na = icmp6(US, 'ff02::1', 136, 0, O, concat(addr(US), [2, 1], MAC_US));
    assert.deepEqual(
      t.take().map(f => f.slice(14)),
      [ipv6(US, 'ff02::1', 58, na, 255)],
    );
    t.inject(nd(136, US, 'ff02::1', O, US, tll, [0x33, 0x33, 0, 0, 0, 1]));
    assert.equal(s.nd6.counters.conflicts, 1);
    assert.ok(t.ifp.has(ip(US)));
  });
  it('answers solicitations, and learns who asked', () => {
    const { net, s, t } = setUp();
    net.run(2e9);
    t.take();
    t.inject(solicit());
    const na = icmp6(US, PEER, 136, 0, S | O, concat(addr(US), [2, 1], MAC_US));
    assert.deepEqual(t.take(), [ether(0x86dd, ipv6(US, PEER, 58, na, 255), MAC_PEER, MAC_US)]);
    // Learnt as stale, and the answer was its first use (RFC 4861 section 7.3.3).
    assert.equal(s.nd6.table.lookup(t.ifp, ip(PEER))!.state, 'delay');
    assert.equal(net.leaked(), 0);
  });
  it('does not override while the address is on probation (RFC 4429 section 3.3)', () => {
    const { s, t } = setUp();
    t.take();
    t.inject(solicit());
    const na = icmp6(US, PEER, 136, 0, S, concat(addr(US), [2, 1], MAC_US));
    assert.deepEqual(t.take(), [ether(0x86dd, ipv6(US, PEER, 58, na, 255), MAC_PEER, MAC_US)]);
    assert.equal(s.nd6.counters.duplicates, 0);
  });
  it('tells everybody when somebody unknown asks without saying where it is', () => {
    const { net, t } = setUp();
    t.take();
    t.inject(solicit(PEER, new Uint8Array()));
    const na = icmp6(US, 'ff02::1', 136, 0, 0, concat(addr(US), [2, 1], MAC_US));
    assert.deepEqual(
      t.take().map(f => f.slice(14)),
      [ipv6(US, 'ff02::1', 58, na, 255)],
    );
    assert.equal(net.leaked(), 0);
  });
  it('resolves: solicitation to the group, hold, advertisement, send', () => {
    const { net, s, t } = setUp();
    net.run(2e9);
    t.take();
    s.interfaces.output(t.ifp, s.pool.fromBytes(pattern(40)), 0x86dd, ip(PEER));
    const node = 'ff02::1:ff00:2';
    const ns = icmp6(US, node, 135, 0, 0, concat(addr(PEER), [1, 1], MAC_US));
    assert.deepEqual(t.take(), [ether(0x86dd, ipv6(US, node, 58, ns, 255), [0x33, 0x33, 0xff, 0, 0, 2], MAC_US)]);
    t.inject(advert(S | O));
    assert.deepEqual(t.take(), [ether(0x86dd, pattern(40), MAC_PEER, MAC_US)]);
    assert.equal(s.nd6.table.lookup(t.ifp, ip(PEER))!.state, 'reachable');
    net.run(30e9);
    assert.equal(s.nd6.table.lookup(t.ifp, ip(PEER))!.state, 'stale');
    t.inject(advert(S, new Uint8Array())); // without link address: a confirmation
    assert.equal(s.nd6.table.lookup(t.ifp, ip(PEER))!.state, 'reachable');
    assert.equal(net.leaked(), 0);
  });
  it('does not ask from an address on probation, but as soon as that has stood the test (RFC 4429 section 3.2)', () => {
    const { net, s, t } = setUp();
    t.take();
    net.run(0.5e9);
    s.interfaces.output(t.ifp, s.pool.fromBytes(pattern(40)), 0x86dd, ip(PEER));
    assert.deepEqual(t.take(), []);
    assert.equal(s.nd6.counters.no_source, 1);
    net.run(0.5e9 + 1e6);
    const node = 'ff02::1:ff00:2';
    const na = icmp6(US, 'ff02::1', 136, 0, O, concat(addr(US), [2, 1], MAC_US));
    const ns = icmp6(US, node, 135, 0, 0, concat(addr(PEER), [1, 1], MAC_US));
    assert.deepEqual(
      t.take().map(f => f.slice(14)),
      [ipv6(US, 'ff02::1', 58, na, 255), ipv6(US, node, 58, ns, 255)],
    );
    t.inject(advert(S | O));
    assert.deepEqual(t.take(), [ether(0x86dd, pattern(40), MAC_PEER, MAC_US)]);
    assert.equal(net.leaked(), 0);
  });
  it('asks from another address while the one in the subnet is on probation', () => {
    const { net, s, t } = setUp();
    net.run(2e9);
    s.interfaces.addAddress(t.ifp, ip('2001:db8:1::1'), 64);
    t.take();
    s.interfaces.output(t.ifp, s.pool.fromBytes(pattern(40)), 0x86dd, ip('2001:db8:1::2'));
    const node = 'ff02::1:ff00:2';
    const ns = icmp6(US, node, 135, 0, 0, concat(addr('2001:db8:1::2'), [1, 1], MAC_US));
    assert.deepEqual(
      t.take().map(f => f.slice(14)),
      [ipv6(US, node, 58, ns, 255)],
    );
  });
  it('holds what waits for a long probation, and asks three times after it', () => {
    const { net, s, t } = setUp();
    net.run(2e9);
    s.interfaces.removeAddress(t.ifp, ip(US));
    s.sysctl.set('net.inet6.nd6.dad_count', 8);
    s.interfaces.addAddress(t.ifp, ip(US), 64);
    s.interfaces.output(t.ifp, s.pool.fromBytes(pattern(40)), 0x86dd, ip(PEER));
    net.run(7.5e9);
    assert.equal(s.nd6.table.lookup(t.ifp, ip(PEER))!.state, 'incomplete');
    t.take();
    net.run(2.2e9);
    assert.equal(t.take().filter(f => f[54] === 135).length, 2);
    t.inject(advert(S | O));
    assert.deepEqual(t.take(), [ether(0x86dd, pattern(40), MAC_PEER, MAC_US)]);
    net.run(1e9);
    assert.equal(net.leaked(), 0);
  });
  it('drops what RFC 4861 section 7.1 says', () => {
    const { net, s, t } = setUp();
    net.run(2e9);
    t.take();
    t.inject(solicit(PEER, sll, 254));
    assert.equal(s.nd6.counters.bad_hop_limit, 1);
    t.inject(nd(135, PEER, NODE_US, 0, US, sll, GROUP_US, 255, 1)); // code
    t.inject(nd(135, PEER, NODE_US, 0, 'ff02::5', sll, GROUP_US)); // target is a group
    t.inject(solicit(PEER, concat([1, 0], MAC_PEER))); // option of length 0
    t.inject(solicit(PEER, concat([1, 2], MAC_PEER))); // longer than the packet
    t.inject(solicit(PEER, Uint8Array.of(1))); // half an option
    t.inject(solicit(PEER, concat([1, 1], [3, 0, 0, 0, 0, 1]))); // a group's link address
    t.inject(solicit('::', sll)); // a probe with link address
    t.inject(nd(136, PEER, 'ff02::1', S, PEER, tll, [0x33, 0x33, 0, 0, 0, 1])); // solicited, to all
    assert.equal(s.nd6.counters.malformed, 8);
    t.inject(solicit('2001:db8:9::9'));
    assert.equal(s.nd6.counters.not_on_link, 1);
    t.inject(nd(134, PEER, 'ff02::1', 0, US, sll, [0x33, 0x33, 0, 0, 0, 1])); // router advertisement
    assert.equal(s.nd6.counters.ignored, 1);
    assert.deepEqual(t.take(), []);
    assert.equal(s.nd6.table.list().length, 0);
    assert.equal(net.leaked(), 0);
  });
  it('gives interfaces a link-local address, but not where the medium carries IP', () => {
    const net = new VirtualNet();
    const s = net.addHost('a');
    const t = new TestInterface(s, 'nke0');
    const u = new TestInterface(s, 'nke1', { flags: IFF_NOARP });
    assert.deepEqual(
      t.ifp.addresses.map(a => `${a.addr}/${a.prefix}`),
      ['fe80::ff:fe00:101/64'],
    );
    assert.deepEqual(u.ifp.addresses, []);
    assert.equal(linkLocal(Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56)).toString(), 'fe80::5054:ff:fe12:3456');
  });
});
