import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EADDRNOTAVAIL, EEXIST, EINVAL, ENETDOWN, ENOBUFS, ENOENT } from '../kern/errno.js';
import { M_NULL } from '../kern/mbuf.js';
import { InAddr } from '../netinet/in.js';
import { ether, pattern } from '../netinet/packets.fixture.js';
import { TestInterface, VirtualNet } from '../testing.js';
import type { IfFilter } from './dlil.js';
import { IFF_NOARP, IFF_PROMISC } from './ifnet.js';

const ip = InAddr.of;
function setUp(addresses: readonly string[] = ['10.0.0.1/24']) {
  const net = new VirtualNet();
  const s = net.addHost('a');
  const t = new TestInterface(s, 'nke0', { addresses });
  t.take();
  return { net, s, t, d: s.interfaces, ifp: t.ifp };
}
const used = (s: ReturnType<typeof setUp>['s']) => s.pool.inUse.small + s.pool.inUse.cluster + s.pool.inUse.jumbo;

describe('Dlil interfaces', () => {
  it('attaches, lists and detaches, with events and counters', () => {
    const { s, d, ifp } = setUp();
    assert.deepEqual(
      d.list().map(i => `${i.index}:${i.name}`),
      ['1:lo0', '2:nke0'],
    );
    assert.equal(d.byIndex(2), ifp);
    assert.equal(d.byIndex(9), undefined);
    assert.equal(d.attach(ifp), -EEXIST);
    assert.ok(s.counters.has('if.nke0'));
    assert.equal(d.detach(ifp), 0);
    assert.equal(d.detach(ifp), -ENOENT);
    assert.equal(d.byName('nke0'), undefined);
    assert.ok(!s.counters.has('if.nke0'));
    assert.deepEqual(
      s.routes.list().filter(r => r.ifp === ifp),
      [],
    );
    assert.equal(s.routes.lookup(ip('10.0.0.1')), undefined);
    ifp.input(s.pool.getSmall()); // a late frame is freed
    assert.equal(used(s), 0);
    const kinds = s.events
      .since(0)
      .filter(e => 'ifname' in e && e.ifname === 'nke0')
      .map(e => e.kind);
    // The second address is the link-local one, which comes with being up.
    assert.deepEqual(kinds, [
      'if-attached',
      'address-added',
      'if-up',
      'address-added',
      'if-down',
      'address-removed',
      'address-removed',
      'if-detached',
    ]);
  });
  it('checks addresses', () => {
    const { d, ifp, s } = setUp();
    assert.equal(d.addAddress(ifp, ip('10.0.0.1'), 24), -EEXIST);
    assert.equal(d.addAddress(ifp, ip('10.0.0.2'), 33), -EINVAL);
    assert.equal(d.addAddress(ifp, ip('224.0.0.1'), 24), -EINVAL);
    assert.equal(d.addAddress(ifp, ip('0.0.0.0'), 0), -EINVAL);
    assert.equal(d.addAddress(ifp, ip('127.0.0.1'), 8), 0); // lo0 gives it up
    assert.equal(d.removeAddress(ifp, ip('10.0.0.9')), -EADDRNOTAVAIL);
    const other = new TestInterface(s, 'nke1');
    assert.equal(d.addAddress(other.ifp, ip('10.0.0.1'), 24), -EEXIST);
    d.detach(other.ifp);
    assert.equal(d.addAddress(other.ifp, ip('10.0.0.3'), 24), -ENOENT);
    assert.equal(d.ownerOf(ip('10.0.0.3')), undefined);
  });
  it('bounds the addresses of an interface', () => {
    const { d, ifp } = setUp([]);
    let n = 0;
    while (d.addAddress(ifp, new InAddr(4, 0, 0, 0xffff, 0x0a000001 + n), 8) === 0) n++;
    assert.ok(n >= 60 && n <= 64);
  });
});

describe('Dlil input', () => {
  it('drops and counts what it should', () => {
    const { s, t, d, ifp } = setUp();
    const c = d.counters;
    t.inject(pattern(13));
    assert.equal(c.input_runt, 1);
    t.inject(ether(0x0800, pattern(40), [2, 0, 0, 0, 7, 7]));
    assert.equal(c.input_not_mine, 1);
    t.inject(ether(0x8100, pattern(40)));
    assert.equal(c.input_vlan, 1);
    t.inject(ether(0x88cc, pattern(40)));
    assert.equal(c.input_no_protocol, 1);
    assert.equal(ifp.counters.inoproto, 2);
    d.setUp(ifp, false);
    t.inject(ether(0x0800, pattern(40)));
    assert.equal(c.input_down, 1);
    assert.equal(used(s), 0);
  });
  it('in promiscuous mode shows filters what is for others, and keeps it from the protocols', () => {
    const { s, t, d, ifp } = setUp();
    ifp.flags |= IFF_PROMISC;
    let seen = 0;
    d.attachFilter({
      name: 'tap',
      input: (_, m) => {
        seen++;
        return m;
      },
    });
    t.inject(ether(0x0800, pattern(40), [2, 0, 0, 0, 7, 7]));
    assert.equal(seen, 1);
    assert.equal(s.ip.counters.received, 0);
    assert.equal(used(s), 0);
  });
  it('takes any link address on a medium that carries IP', () => {
    const net = new VirtualNet();
    const s = net.addHost('a');
    const t = new TestInterface(s, 'nke0', { flags: IFF_NOARP, addresses: ['10.0.0.1/24'] });
    t.inject(ether(0x0800, pattern(40), [0, 0, 0, 0, 0, 0]));
    t.inject(ether(0x0800, pattern(40), [255, 255, 255, 255, 255, 255]));
    assert.equal(s.ip.counters.received, 2);
    assert.equal(used(s), 0);
  });
  it('takes a header spread over several mbufs', () => {
    const { s, t } = setUp();
    t.inject(ether(0x0800, pattern(40)), { pieces: [1, 5, 3] });
    assert.equal(s.ip.counters.received, 1);
    assert.equal(used(s), 0);
  });
});

describe('Dlil filters', () => {
  it('run in order on input, in reverse on output; they can change and swallow', () => {
    const { s, t, d } = setUp();
    const log: string[] = [];
    const make = (name: string): IfFilter => ({
      name,
      input: (_, m) => {
        log.push(`in ${name}`);
        return m;
      },
      output: (_, m) => {
        log.push(`out ${name}`);
        return m;
      },
      event: (_, e) => log.push(`${e.kind} ${name}`),
      detached: () => log.push(`detached ${name}`),
    });
    const [a, b] = [make('a'), make('b')];
    assert.equal(d.attachFilter(a), 0);
    assert.equal(d.attachFilter(b, t.ifp), 0);
    assert.equal(d.attachFilter(make('a')), -EEXIST);
    t.inject(ether(0x0800, pattern(40)));
    s.arp.announce(t.ifp, ip('10.0.0.1'));
    t.ifp.event({ kind: 'mtu', ifname: 'nke0', mtu: 1400 });
    assert.equal(d.detachFilter(a), 0);
    assert.equal(d.detachFilter(a), -ENOENT);
    assert.deepEqual(log, ['in a', 'in b', 'out b', 'out a', 'mtu a', 'mtu b', 'detached a']);
    d.attachFilter({
      name: 'wall',
      input: (_, m) => {
        s.pool.freem(m);
        return M_NULL;
      },
      output: (_, m) => {
        s.pool.freem(m);
        return M_NULL;
      },
    });
    t.take();
    const before = s.ip.counters.received;
    t.inject(ether(0x0800, pattern(40)));
    s.arp.announce(t.ifp, ip('10.0.0.1'));
    assert.equal(s.ip.counters.received, before);
    assert.equal(t.take().length, 0);
    assert.deepEqual([d.counters.input_filtered, d.counters.output_filtered], [1, 1]);
    assert.equal(used(s), 0);
  });
  it('see only their own interface, and may leave while they run', () => {
    const { s, t, d } = setUp();
    const other = new TestInterface(s, 'nke1');
    let n = 0;
    const f: IfFilter = {
      name: 'once',
      input: (_, m) => {
        n++;
        d.detachFilter(f);
        return m;
      },
    };
    d.attachFilter(f, t.ifp);
    other.inject(ether(0x0800, pattern(40)));
    t.inject(ether(0x0800, pattern(40)));
    t.inject(ether(0x0800, pattern(40)));
    assert.equal(n, 1);
  });
  it('lose a frame that a filter has made too short', () => {
    const { s, t, d } = setUp();
    d.attachFilter({
      name: 'cut',
      input: (_, m) => {
        s.pool.trim(m, 5);
        return m;
      },
    });
    t.inject(ether(0x0800, pattern(40)));
    assert.equal(s.ip.counters.received, 0);
    assert.equal(used(s), 0);
  });
});

describe('Dlil output', () => {
  it('says when the interface is down or its ring is full', () => {
    const { s, t, d, ifp } = setUp();
    s.arp.table.learn(ifp, ip('10.0.0.2'), Uint8Array.from([2, 0, 0, 0, 9, 9]), true, true);
    const send = () => d.output(ifp, s.pool.fromBytes(pattern(20)), 0x0800, ip('10.0.0.2'));
    assert.equal(send(), 0);
    assert.deepEqual(t.take()[0], ether(0x0800, pattern(20), [2, 0, 0, 0, 9, 9], [...ifp.mac]));
    t.accept = false;
    assert.equal(send(), -ENOBUFS);
    assert.equal(d.counters.output_full, 1);
    d.setUp(ifp, false);
    assert.equal(send(), -ENETDOWN);
    assert.equal(used(s), 0);
  });
  it('rings the doorbell once a batch', () => {
    const { net, s, t, ifp } = setUp();
    s.run(net.clock.now);
    const before = t.flushes;
    s.arp.announce(ifp, ip('10.0.0.1'));
    s.arp.announce(ifp, ip('10.0.0.1'));
    assert.equal(s.deadline(), net.clock.now);
    s.run(net.clock.now);
    s.run(net.clock.now);
    assert.equal(t.flushes, before + 1);
  });
  it('maps broadcast and groups without asking anybody', () => {
    const { s, t, d, ifp } = setUp();
    const to = (dst: string, type = 0x0800) => {
      d.output(ifp, s.pool.fromBytes(pattern(20)), type, ip(dst));
      return Buffer.from(t.take()[0]!.subarray(0, 6)).toString('hex');
    };
    assert.equal(to('10.0.0.255'), 'ffffffffffff');
    assert.equal(to('255.255.255.255'), 'ffffffffffff');
    assert.equal(to('224.0.0.251'), '01005e0000fb');
    assert.equal(to('ff02::fb', 0x86dd), '3333000000fb');
    assert.equal(s.arp.counters.requests_sent, 0);
  });
  it('forgets neighbours and frames when the link goes', () => {
    const { s, d, ifp } = setUp();
    d.output(ifp, s.pool.fromBytes(pattern(20)), 0x0800, ip('10.0.0.2'));
    assert.equal(used(s), 1);
    ifp.link = false;
    ifp.event({ kind: 'link-off', ifname: 'nke0', reason: 'test' });
    assert.equal(used(s), 0);
    assert.deepEqual(s.arp.table.list(), []);
  });
});
