import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SEC } from '../kern/clock.js';
import { EEXIST, EINVAL, ENOENT } from '../kern/errno.js';
import { InAddr } from '../netinet/in.js';
import type { Stack } from '../stack.js';
import { TestInterface, VirtualNet } from '../testing.js';
import { compareSources, masked } from './route.js';

const ip = InAddr.of;
function setUp(...interfaces: (readonly string[])[]) {
  const net = new VirtualNet();
  const s = net.addHost('a');
  const i = interfaces.map((addresses, n) => new TestInterface(s, `nke${n}`, { addresses }));
  return { net, s, i };
}
const via = (s: Stack, dst: string) => s.routes.lookup(ip(dst))?.ifp.name;
const from = (s: Stack, src: string, dst: string) => s.routes.lookupFrom(ip(src), ip(dst))?.ifp.name;
const source = (s: Stack, dst: string) => {
  const out = new InAddr();
  return s.routes.source(ip(dst), out) ? out.toString() : undefined;
};

describe('RouteTable', () => {
  it('has connected and local routes by itself', () => {
    const { s } = setUp(['10.0.0.1/24', '2001:db8::1/64']);
    assert.equal(via(s, '10.0.0.77'), 'nke0');
    assert.equal(via(s, '10.0.0.1'), 'lo0');
    assert.equal(via(s, '2001:db8::9'), 'nke0');
    assert.equal(via(s, '2001:db8::1'), 'lo0');
    assert.equal(via(s, '127.9.9.9'), 'lo0');
    assert.equal(via(s, '::1'), 'lo0');
    assert.equal(via(s, '10.0.1.1'), undefined);
    s.interfaces.removeAddress(s.interfaces.byName('nke0')!, ip('10.0.0.1'));
    assert.equal(via(s, '10.0.0.77'), undefined);
    assert.equal(via(s, '10.0.0.1'), undefined);
  });
  it('prefers the longest prefix', () => {
    const { s, i } = setUp(['10.0.0.1/8'], ['192.168.1.1/24']);
    const { routes } = s;
    assert.equal(routes.add(ip('0.0.0.0'), 0, ip('192.168.1.254')), 0);
    assert.equal(routes.add(ip('10.1.2.3'), 16, ip('192.168.1.253')), 0);
    assert.equal(routes.add(ip('10.1.2.0'), 24, undefined, i[0]!.ifp), 0);
    assert.equal(via(s, '10.9.9.9'), 'nke0');
    assert.equal(via(s, '10.1.9.9'), 'nke1');
    assert.equal(routes.lookup(ip('10.1.9.9'))!.gateway!.toString(), '192.168.1.253');
    assert.equal(routes.lookup(ip('10.1.9.9'))!.net.toString(), '10.1.0.0');
    assert.equal(via(s, '10.1.2.9'), 'nke0');
    assert.equal(via(s, '8.8.8.8'), 'nke1');
    assert.equal(routes.add(ip('10.1.0.0'), 16, ip('192.168.1.253')), -EEXIST);
    assert.equal(routes.remove(ip('10.1.7.7'), 16), 0);
    assert.equal(routes.remove(ip('10.1.0.0'), 16), -ENOENT);
    assert.equal(via(s, '10.1.9.9'), 'nke0');
  });
  it('refuses routes that make no sense', () => {
    const { s, i } = setUp(['10.0.0.1/24']);
    const { routes } = s;
    assert.equal(routes.add(ip('0.0.0.0'), 33, ip('10.0.0.2')), -EINVAL);
    assert.equal(routes.add(ip('0.0.0.0'), 0, ip('10.0.9.2')), -EINVAL);
    assert.equal(routes.add(ip('0.0.0.0'), 0, ip('fe80::1')), -EINVAL);
    assert.equal(routes.add(ip('0.0.0.0'), 0), -EINVAL);
    assert.equal(routes.add(ip('0.0.0.0'), 0, undefined, i[0]!.ifp, ip('9.9.9.9')), -EINVAL);
  });
  it('sends from the card that owns the source: two cards in one subnet', () => {
    const { s } = setUp(['127.0.0.1/8'], ['127.0.0.2/8']);
    assert.equal(from(s, '127.0.0.1', '127.0.0.9'), 'nke0');
    assert.equal(from(s, '127.0.0.2', '127.0.0.9'), 'nke1');
    // The peer may be at the very address of a card: no short cut by lo0.
    assert.equal(from(s, '127.0.0.2', '127.0.0.1'), 'nke1');
    assert.equal(from(s, '127.0.0.1', '127.0.0.1'), 'nke0');
    assert.equal(via(s, '127.0.0.1'), 'nke0');
    assert.equal(s.interfaces.ownerOf(ip('127.0.0.1'))!.name, 'nke0');
    const nke0 = s.interfaces.byName('nke0')!;
    s.interfaces.removeAddress(nke0, ip('127.0.0.1'));
    assert.equal(s.interfaces.ownerOf(ip('127.0.0.1'))!.name, 'lo0');
  });
  it('passes over an interface that is down, unless the source is tied to it', () => {
    const { s, i } = setUp(['10.0.0.1/24'], ['10.0.0.2/24']);
    assert.equal(via(s, '10.0.0.9'), 'nke0');
    i[0]!.ifp.link = false;
    i[0]!.ifp.event({ kind: 'link-off', ifname: 'nke0', reason: 'test' });
    assert.equal(via(s, '10.0.0.9'), 'nke1');
    assert.equal(from(s, '10.0.0.1', '10.0.0.9'), 'nke0');
    s.interfaces.setUp(i[1]!.ifp, false);
    assert.equal(via(s, '10.0.0.9'), 'nke0'); // none usable: the first, and output says ENETDOWN
  });
  it('falls back to any route when the owner of the source has none', () => {
    const { s } = setUp(['10.0.0.1/24'], ['192.168.0.1/24']);
    assert.equal(from(s, '10.0.0.1', '192.168.0.9'), 'nke1');
    assert.equal(from(s, '9.9.9.9', '192.168.0.9'), 'nke1');
    assert.equal(from(s, '10.0.0.1', '10.0.0.1'), 'lo0');
    assert.equal(from(s, '192.168.0.1', '10.0.0.1'), 'lo0');
  });
  it('keeps loopback and link-local off the default route', () => {
    const { s } = setUp(['10.0.0.1/24', '2001:db8::1/64']);
    s.routes.add(ip('0.0.0.0'), 0, ip('10.0.0.254'));
    assert.equal(from(s, '10.0.0.1', '127.0.0.5'), 'lo0');
    assert.equal(via(s, '169.254.1.1'), undefined);
    assert.equal(via(s, '1.1.1.1'), 'nke0');
  });
  it('sends to groups by the interface of the source', () => {
    const { s } = setUp(['10.0.0.1/24'], ['10.0.1.1/24']);
    assert.equal(from(s, '10.0.1.1', '224.0.0.5'), 'nke1');
    assert.equal(via(s, '255.255.255.255'), 'nke0');
    s.routes.add(ip('224.0.0.0'), 4, undefined, s.interfaces.byName('nke1'));
    assert.equal(via(s, '224.0.0.5'), 'nke1');
  });
  it('gives the same answer from its cache as without', () => {
    const { s } = setUp(['10.0.0.1/24'], ['10.0.1.1/24']);
    const before = { ...s.routes.counters };
    for (let k = 1; k <= 600; k++) {
      const d = new InAddr(4, 0, 0, 0xffff, 0x0a000000 + k * 3 + (k > 80 ? 1 : 0));
      const first = s.routes.lookup(d);
      assert.equal(s.routes.lookup(d), first);
      const subnet = d.w3 >>> 8;
      assert.equal(
        first?.ifp.name,
        subnet === 0x0a0000 ? 'nke0' : subnet === 0x0a0001 ? 'nke1' : undefined,
        d.toString(),
      );
    }
    assert.equal(s.routes.counters.lookups - before.lookups, 1200);
    assert.equal(s.routes.counters.misses - before.misses, 600);
  });
  it('knows broadcast addresses', () => {
    const { s, i } = setUp(['10.0.0.1/24', '10.1.0.1/31']);
    const { ifp } = i[0]!;
    assert.ok(s.routes.isBroadcast(ifp, ip('10.0.0.255')));
    assert.ok(s.routes.isBroadcast(ifp, ip('255.255.255.255')));
    assert.ok(!s.routes.isBroadcast(ifp, ip('10.0.1.255')));
    assert.ok(!s.routes.isBroadcast(ifp, ip('10.1.0.1')));
    assert.ok(!s.routes.isBroadcast(ifp, ip('ff02::1')));
  });
});

describe('source addresses', () => {
  it('come from the outgoing interface, and it can say why', () => {
    const { s } = setUp(['10.0.0.1/24', '10.0.0.200/24', '2001:db8::1/64'], ['192.168.0.1/24']);
    assert.equal(source(s, '10.0.0.77'), '10.0.0.1');
    assert.equal(source(s, '10.0.0.201'), '10.0.0.200');
    assert.match(
      s.routes.why(ip('10.0.0.201')),
      /matches 10.0.0.0\/24 dev nke0 connected; source 10.0.0.200: longest matching prefix \(RFC 6724 rule 8\)/,
    );
    assert.equal(source(s, '10.0.0.200'), '10.0.0.200');
    assert.match(s.routes.why(ip('10.0.0.200')), /our own/);
    assert.equal(source(s, '2001:db8::2'), '2001:db8::1');
    assert.match(s.routes.why(ip('9.9.9.9')), /no route/);
    assert.equal(source(s, '9.9.9.9'), undefined);
  });
  it('have the right scope: global for global, link-local for link-local', () => {
    const { s } = setUp(['2001:db8::1/64', 'fd00::1/64']);
    const ll = s.interfaces
      .byName('nke0')!
      .addresses.find(a => a.addr.isLinkLocal)!
      .addr.toString();
    assert.equal(source(s, 'fe80::99'), ll);
    assert.equal(source(s, '2001:db8::99'), '2001:db8::1');
    assert.equal(source(s, 'fd00::99'), 'fd00::1');
    assert.equal(source(s, '127.0.0.1'), '127.0.0.1');
  });
  it('obey a static route, and are borrowed when an interface has none', () => {
    const { s, i } = setUp(['10.0.0.1/24', '10.0.0.5/24'], ['2001:db8::1/64']);
    s.routes.add(ip('9.0.0.0'), 8, ip('10.0.0.254'), undefined, ip('10.0.0.5'));
    assert.equal(source(s, '9.1.1.1'), '10.0.0.5');
    s.routes.add(ip('8.0.0.0'), 8, undefined, i[1]!.ifp);
    assert.equal(source(s, '8.1.1.1'), '10.0.0.1');
    assert.match(s.routes.why(ip('8.1.1.1')), /nke1 has none of this family/);
  });
  it('compare by RFC 6724 section 5, the same both ways', () => {
    const cases = [
      ['10.0.0.1', '10.0.0.2', '10.0.0.2', -1],
      ['169.254.0.1', '10.0.0.1', '9.9.9.9', -2],
      ['169.254.0.1', '10.0.0.1', '169.254.0.2', 2],
      ['fd00::1', '2001:db8::1', '2001:db8:1::1', -6],
      ['2001:db8:1::1', '2001:db8:2::1', '2001:db8:2::2', -8],
      ['2001:db8::1', '2001:db8::2', '2001:db8::3', 0],
    ] as const;
    for (const [a, b, d, want] of cases) {
      assert.equal(compareSources(ip(a), ip(b), ip(d)), want, `${a} ${b} ${d}`);
      assert.equal(compareSources(ip(b), ip(a), ip(d)) + want, 0);
    }
  });
});

describe('path MTU', () => {
  it('is lowered by reports, within bounds, and recovers after ten minutes', () => {
    const { net, s } = setUp(['10.0.0.1/24', '2001:db8::1/64']);
    const d = ip('10.0.0.9');
    assert.equal(s.routes.pmtu(d), 1500);
    assert.equal(s.routes.learnPmtu(d, 1400), true);
    assert.equal(s.routes.learnPmtu(d, 1450), false);
    assert.equal(s.routes.learnPmtu(d, 575), false);
    assert.equal(s.routes.pmtu(d), 1400);
    assert.equal(s.routes.pmtu(ip('10.0.0.8')), 1500);
    net.clock.now += 600 * SEC;
    assert.equal(s.routes.pmtu(d), 1500);
    assert.equal(s.routes.learnPmtu(ip('2001:db8::2'), 1279), false);
    assert.equal(s.routes.learnPmtu(ip('2001:db8::2'), 1280), true);
    assert.equal(s.routes.pmtu(ip('1.2.3.4')), 0);
  });
  it('follows the interface and the route', () => {
    const { s, i } = setUp(['10.0.0.1/24']);
    s.routes.add(ip('9.0.0.0'), 8, ip('10.0.0.254'), undefined, undefined, 1300);
    assert.equal(s.routes.pmtu(ip('9.1.1.1')), 1300);
    i[0]!.ifp.event({ kind: 'mtu', ifname: 'nke0', mtu: 1200 });
    assert.equal(s.routes.pmtu(ip('9.1.1.1')), 1200);
  });
});

it('masked clears host bits', () => {
  assert.equal(masked(ip('10.1.2.3'), 12).toString(), '10.0.0.0');
  assert.equal(masked(ip('10.1.2.3'), 32).toString(), '10.1.2.3');
  assert.equal(masked(ip('10.1.2.3'), 0).toString(), '0.0.0.0');
  assert.equal(masked(ip('2001:db8:ffff:ffff::1'), 50).toString(), '2001:db8:ffff:c000::');
});
