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
  w.ifp.event({ kind: 'mtu', ifname: w.ifp.name, mtu: 1400 });
  assert.equal(w.associations[0]!.paths[0]!.mtu, 1400, 'and grow with it');
  over(w);
});

test('after a sleep: a probe and one packet of data; the rest waits for an answer or an RTO; links that changed are noticed', () => {
  for (const answers of [true, false]) {
    const w = new f.WirePeer();
    const [so] = w.accepted();
    w.stack.events.emit({ kind: 'sleep', reason: 'test' });
    // The card goes to sleep as well: nobody's failure.
    w.ifp.event({ kind: 'link-off', ifname: w.ifp.name, reason: 'power state D3hot' });
    assert.equal(w.counted('sctps_linkdown')[0], 0);
    w.take();
    w.stack.events.emit({ kind: 'wake', reason: 'test' });
    so.send(new Uint8Array(5000));
    w.settle();
    const [probe, data, ...others] = w.take();
    assert.ok(probe !== undefined && data !== undefined);
    assert.equal(others.length, 0, 'two packets');
    assert.equal(probe.bytes[12], 4, 'a HEARTBEAT');
    assert.equal(data.bytes[12], 0, 'DATA');
    if (answers) {
      const ack = probe.bytes.slice(12);
      ack[0] = 5;
      w.inject(ack);
      w.settle();
      assert.ok(w.names().every(n => n.startsWith('DATA')));
    } else {
      w.run(0.9e9);
      assert.deepEqual(w.names(), []);
      w.run(0.2e9);
      assert.ok(w.names().some(n => n.startsWith('DATA')));
    }
    w.closeAll();
  }
});

test('a sleep while data is in flight: the earliest goes again with the probe, and its SACK says where to go on', () => {
  const w = new f.WirePeer();
  const [so] = w.accepted();
  const tsn = (p: f.WirePacket) => new DataView(p.bytes.buffer, p.bytes.byteOffset).getUint32(16);
  so.send(new Uint8Array(20_000));
  w.settle();
  const flying = w.take().map(tsn);
  assert.ok(flying.length >= 3);
  w.stack.events.emit({ kind: 'sleep', reason: 'test' });
  w.stack.events.emit({ kind: 'wake', reason: 'test' });
  w.settle();
  const [probe, data, ...others] = w.take();
  assert.ok(probe !== undefined && data !== undefined);
  assert.equal(probe.bytes[12], 4, 'a HEARTBEAT');
  assert.equal(tsn(data), flying[0]);
  assert.deepEqual(others, []);
  // The peer has had them all: its SACK was lost. One packet more, which is new, and the window when the probe is answered.
  w.inject(f.sack(flying.at(-1)!));
  w.settle();
  assert.deepEqual(w.take().map(tsn), [flying.at(-1)! + 1]);
  const ack = probe.bytes.slice(12);
  ack[0] = 5;
  w.inject(ack);
  w.settle();
  const more = w.take().map(tsn);
  assert.ok(more.length >= 2 && more.length <= 4, `${more.length} packets`);
  assert.equal(more[0], flying.at(-1)! + 2);
  assert.deepEqual(w.counted('sctps_timeoutdata', 'sctps_sendretransdata'), [0, 1]);
  w.closeAll();
});
