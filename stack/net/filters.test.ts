/** The chain of data-link filters: its order, requests to interfaces, and frames that filters inject. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EINVAL, ENETDOWN, ENOENT } from '../kern/errno.js';
import { M_NULL, type Mbuf } from '../kern/mbuf.js';
import { EJUSTRETURN } from '../kern/sflt.js';
import { MSEC, TestInterface, VirtualNet } from '../testing.js';
import { IFF_ORDER_STACK, IFF_ORDER_WIRE, type IfFilter, type IfIoctl } from './dlil.js';

function host() {
  const net = new VirtualNet();
  const s = net.addHost('a');
  return { net, s, nic: new TestInterface(s, 'nke0') };
}
const frame = () => {
  const f = new Uint8Array(60);
  f.set([2, 0, 0, 0, 1, 1]);
  f.set([0x88, 0xb5], 12);
  return f;
};

describe('filter chain', () => {
  it('stands in the order asked for, equal ones as they came; input from the wire, output to it', () => {
    const { net, s, nic } = host();
    const log: string[] = [];
    const make = (name: string, order?: number): IfFilter => ({
      name,
      ...(order === undefined ? {} : { order }),
      input: (_i, m) => {
        log.push(`${name}<`);
        return m;
      },
      output: (_i, m) => {
        log.push(`${name}>`);
        return m;
      },
    });
    for (const f of [make('b'), make('stack', IFF_ORDER_STACK), make('c'), make('wire', IFF_ORDER_WIRE), make('a', -1)])
      assert.equal(s.interfaces.attachFilter(f), 0);
    assert.equal(s.interfaces.attachFilter(make('x', 1001)), -EINVAL);
    nic.inject(frame());
    s.interfaces.transmit(nic.ifp, s.pool.fromBytes(frame()));
    const up = ['wire', 'a', 'b', 'c', 'stack'];
    assert.deepEqual(log, [...up.map(n => `${n}<`), ...up.toReversed().map(n => `${n}>`)]);
    assert.equal(net.leaked(), 0);
  });

  it('is asked before the driver: goes on, deals with it, or refuses', () => {
    const { s, nic } = host();
    const asked: IfIoctl[] = [];
    let verdict = 0;
    s.interfaces.attachFilter({
      name: 'f',
      ioctl: (_i, r) => {
        asked.push(r);
        return verdict;
      },
    });
    const { interfaces } = s;
    assert.equal(interfaces.ioctl(nic.ifp, { kind: 'set-mtu', mtu: 1400 }), 0);
    assert.equal(nic.ifp.mtu, 1400);
    verdict = -EJUSTRETURN;
    assert.equal(interfaces.ioctl(nic.ifp, { kind: 'set-mtu', mtu: 1300 }), 0);
    assert.equal(nic.ifp.mtu, 1400);
    verdict = -ENETDOWN;
    assert.equal(interfaces.setUp(nic.ifp, false), -ENETDOWN);
    assert.ok(nic.ifp.running);
    verdict = 0;
    assert.equal(interfaces.ioctl(nic.ifp, { kind: 'set-mtu', mtu: 10 }), -EINVAL);
    assert.equal(interfaces.ioctl(nic.ifp, { kind: 'set-mac', mac: new Uint8Array(5) }), -EINVAL);
    const mac = Uint8Array.of(1, 0, 0x5e, 0, 0, 2);
    assert.equal(interfaces.ioctl(nic.ifp, { kind: 'set-multicast', mac, join: true }), 0);
    assert.equal(nic.groups.get('01005e000002'), 1);
    assert.deepEqual(
      asked.map(r => r.kind),
      ['set-mtu', 'set-mtu', 'set-up', 'set-multicast'],
    );
  });

  it('injects from its own place on, both ways, also for a successor, and never twice through itself', () => {
    const { net, s, nic } = host();
    nic.take(); // what it said when it came up
    const log: string[] = [];
    const queue: [Mbuf, 'input' | 'output'][] = [];
    s.interfaces.attachProtocol(0x88b5, (_i, m) => {
      log.push('protocol');
      s.pool.freem(m);
    });
    const look = (name: string): IfFilter => ({
      name,
      input: (_i, m) => {
        log.push(`${name}<`);
        return m;
      },
      output: (_i, m) => {
        log.push(`${name}>`);
        return m;
      },
    });
    s.interfaces.attachFilter(look('below'));
    const keeper = (name: string, version: string) => {
      const filter: IfFilter = {
        name,
        input: (_i, m) => {
          log.push(`${version}<`);
          queue.push([m, 'input']);
          return M_NULL;
        },
        output: (_i, m) => {
          log.push(`${version}>`);
          queue.push([m, 'output']);
          return M_NULL;
        },
      };
      let leave = () => {};
      return {
        manifest: { identifier: 'org.nke.K', version, kind: 'filter', dependencies: {} },
        start: (kpi: import('../kern/kpi.js').Kpi) => {
          const flush = kpi.callout(() => {
            for (const [m, way] of queue.splice(0)) assert.equal(kpi.iflt_inject(filter, nic.ifp, m, way), 0);
          });
          flush.reset(MSEC);
          leave = () => {
            for (const [m, way] of queue.splice(0)) kpi.iflt_inject(filter, nic.ifp, m, way);
          };
          return kpi.iflt_attach(filter);
        },
        stop: () => leave(),
      };
    };
    assert.ok(s.kexts.load(keeper('k', '1')).ok);
    s.interfaces.attachFilter(look('above'));
    nic.inject(frame());
    s.interfaces.transmit(nic.ifp, s.pool.fromBytes(frame()));
    assert.deepEqual(log, ['below<', '1<', 'above>', '1>']);
    log.length = 0;
    net.run(2 * MSEC);
    assert.deepEqual(log, ['above<', 'protocol', 'below>']);
    assert.equal(nic.take().length, 1);
    log.length = 0;
    nic.inject(frame());
    assert.deepEqual(s.kexts.replace(keeper('k', '2')), { ok: true });
    assert.deepEqual(log, ['below<', '1<', 'above<', 'protocol'], 'what the old one held goes past the new one');
    assert.ok(s.kexts.unload('org.nke.K').ok);
    const stray: IfFilter = { name: 'stray' };
    assert.equal(s.interfaces.inject(stray, nic.ifp, s.pool.fromBytes(frame()), true), -ENOENT);
    assert.equal(net.leaked(), 0);
  });
});
