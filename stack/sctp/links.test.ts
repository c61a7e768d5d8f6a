import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InAddr } from '../netinet/in.js';
import * as f from './packets.fixture.js';

const over = (w: f.WirePeer) => assert.equal(w.end(), 0);

test('the cable is pulled and comes back: told with the reason, the path is probed at once', () => {
  const w = new f.WirePeer();
  w.accepted();
  w.setUp(false);
  assert.match(w.associations[0]!.paths[0]!.why, /link is down/);
  assert.match(w.told('path-link-down'), /the link under 10\.0\.0\.1 is down \(RFC 9260 §6\.4\)/);
  assert.equal(w.counted('sctps_linkdown')[0], 1);
  w.take();
  w.setUp(true);
  w.settle();
  assert.deepEqual(w.names(), ['HEARTBEAT']);
  assert.match(w.told('path-link-up'), /up again/);
  over(w);
});

test('our address is taken away: another one takes its place', () => {
  const w = new f.WirePeer({ more: ['10.0.1.1/24'] });
  const [so] = w.accepted();
  assert.equal(w.associations[0]!.paths[0]!.source, '10.0.0.1');
  assert.equal(w.stack.interfaces.removeAddress(w.ifp, InAddr.of('10.0.0.1')), 0);
  assert.equal(w.associations[0]!.paths[0]!.source, '10.0.1.1');
  assert.match(w.told('path-source'), /10\.0\.0\.1 was taken away, 10\.0\.1\.1 is used now/);
  so.send(Uint8Array.of(1));
  w.settle();
  assert.equal(w.one('DATA').from, '10.0.1.1');
  over(w);
});

test("the interface's MTU shrinks: path MTUs follow, not below 512", () => {
  const w = new f.WirePeer();
  const [so] = w.accepted();
  w.ifp.event({ kind: 'mtu', ifname: w.ifp.name, mtu: 900 });
  assert.equal(w.associations[0]!.paths[0]!.mtu, 900);
  assert.match(w.told('path-mtu'), /MTU of nke0 is 900 now/);
  so.send(new Uint8Array(2000));
  w.settle();
  assert.ok(w.take().every(p => p.bytes.length + 20 <= 900));
  w.ifp.event({ kind: 'mtu', ifname: w.ifp.name, mtu: 100 });
  assert.equal(w.associations[0]!.paths[0]!.mtu, 512);
  over(w);
});
