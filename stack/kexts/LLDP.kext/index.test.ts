/** LLDP in virtual time: what is said and heard, when, and for how long; data units of any bytes. */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RecvInfo, Socket } from '../../kern/socket.js';
import { InAddr, SEC, SOCK_DGRAM } from '../../kpi.js';
import type { Stack } from '../../stack.js';
import { MSEC, VirtualNet } from '../../testing.js';
import { LLDP_KEXT, LLDP_TABLE, LLDPPROTO_NEIGHBOURS, lldpKext, type Neighbour, PF_LLDP } from './index.js';
import { decode, encode } from './tlv.js';

function pair() {
  const net = new VirtualNet();
  const a = net.addHost('a');
  const b = net.addHost('b');
  const link = net.link(a, b, { delay: MSEC, addresses: [['10.0.0.1/24', 'fd00::1/64'], ['10.0.0.2/24']] });
  a.host.hostname = 'alpha';
  b.host.hostname = 'beta';
  const sent: { from: Stack; at: number; frame: Uint8Array }[] = [];
  link.onFrame = (from, frame, at) => {
    if (frame[12] === 0x88 && frame[13] === 0xcc) sent.push({ from, at, frame: frame.slice() });
  };
  return { net, a, b, link, sent };
}
const load = (s: Stack, params = {}) => assert.deepEqual(s.kexts.load(lldpKext(), { params }), { ok: true });
function open(s: Stack): Socket {
  const so = s.socket(PF_LLDP, SOCK_DGRAM, LLDPPROTO_NEIGHBOURS);
  assert.ok(so instanceof Socket);
  return so;
}
const table = (so: Socket) => so.getsockopt(LLDPPROTO_NEIGHBOURS, LLDP_TABLE) as Neighbour[];
function changes(so: Socket): string[] {
  const out: string[] = [];
  const buf = new Uint8Array(4096);
  for (let n = so.recv(buf, 0, 4096, new RecvInfo()); n >= 0; n = so.recv(buf, 0, 4096, new RecvInfo())) {
    const { what, neighbour } = JSON.parse(new TextDecoder().decode(buf.subarray(0, n)));
    out.push(`${what} ${neighbour.systemName}`);
  }
  return out;
}

describe('LLDP.kext', () => {
  it('neighbours know each other at once, keep each other, and part with a word', () => {
    const { net, a, b, sent } = pair();
    load(a);
    load(b);
    const so = open(b);
    net.run(10 * MSEC);
    const [n] = table(so);
    assert.deepEqual(
      { ...n },
      {
        ifname: 'nke0',
        chassisSubtype: 4,
        chassis: '02:00:00:00:00:01',
        portSubtype: 5,
        port: 'nke0',
        ttl: 121,
        portDescription: '',
        systemName: 'alpha',
        systemDescription: 'nke: a network appliance in software',
        capabilities: ['station'],
        enabled: ['station'],
        addresses: ['10.0.0.1', 'fd00::1', 'fe80::ff:fe00:1'],
        others: 0,
        expires: 121,
      },
    );
    assert.deepEqual(changes(so), ['added alpha']);
    net.run(600 * SEC);
    assert.equal(table(so).length, 1);
    const ours = sent.filter(s => s.from === a).map(s => s.at);
    // Four quick ones for the new neighbour, then every 30 s.
    assert.ok(ours.length >= 23 && ours.length <= 26, String(ours.length));
    a.interfaces.addAddress(a.interfaces.byName('nke0')!, InAddr.of('10.0.0.9'), 24);
    net.run(10 * MSEC);
    assert.deepEqual(changes(so), ['changed alpha']);
    assert.deepEqual(a.kexts.unload(LLDP_KEXT), { ok: true });
    net.run(10 * MSEC);
    assert.deepEqual(changes(so), ['withdrawn alpha']);
    assert.deepEqual(table(so), []);
    so.close();
    assert.deepEqual(b.kexts.unload(LLDP_KEXT), { ok: true });
    assert.equal(net.leaked(), 0);
  });

  it('forgets who falls silent, and everybody when the cable is pulled', () => {
    const { net, a, b, link } = pair();
    load(a, { interval: 5, hold: 2 });
    load(b);
    const so = open(b);
    net.run(SEC);
    changes(so);
    link.options = { ...link.options, loss: (f, _n, from) => from === a && f[12] === 0x88 };
    net.run(16 * SEC);
    assert.deepEqual(changes(so), ['aged_out alpha']);
    link.options = { ...link.options, loss: undefined };
    net.run(6 * SEC);
    assert.deepEqual(changes(so), ['added alpha']);
    link.setCarrier(false);
    assert.deepEqual(changes(so), ['aged_out alpha']);
    link.setCarrier(true);
    net.run(10 * MSEC);
    assert.deepEqual(changes(so), ['added alpha'], 'it says so at once when the link is back');
  });

  it('never sends more than five at once and one a second, however the link flaps', () => {
    const { net, a, link, sent } = pair();
    load(a);
    for (let i = 0; i < 100; i++) {
      link.setCarrier(false);
      link.setCarrier(true);
      net.run(50 * MSEC);
    }
    // 5 s: five of credit and one a second.
    assert.ok(sent.length <= 11, String(sent.length));
    assert.ok(a.counters.group('lldp')!.held_back! > 0);
  });

  it('keeps at most 64 neighbours on a link', () => {
    const { net, a, b, link } = pair();
    load(b);
    for (let i = 0; i < 100; i++) {
      const pdu = encode({
        mac: Uint8Array.of(2, 9, 9, 9, 9, i),
        ifname: 'x',
        ifindex: 1,
        ttl: 100,
        systemName: `n${i}`,
        systemDescription: '',
        addresses: [],
      });
      const f = new Uint8Array(14 + pdu.length);
      f.set([1, 0x80, 0xc2, 0, 0, 0x0e, 2, 9, 9, 9, 9, i, 0x88, 0xcc]);
      f.set(pdu, 14);
      a.interfaces.transmit(link.a.ifp, a.pool.fromBytes(f));
    }
    net.run(10 * MSEC);
    assert.equal(table(open(b)).length, 64);
    assert.equal(b.counters.group('lldp')!.too_many, 36);
  });

  it('takes data units of any bytes', () => {
    const { net } = pair();
    const good = encode({
      mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
      ifname: 'nke0',
      ifindex: 1,
      ttl: 120,
      systemName: 'x'.repeat(300),
      systemDescription: '\u0007ding',
      addresses: [InAddr.of('192.0.2.1'), InAddr.of('fd00::1')],
    });
    const whole = decode(good);
    assert.ok(typeof whole !== 'string');
    assert.equal(whole.systemName.length, 255);
    assert.equal(whole.systemDescription, '?ding');
    for (let n = 0; n < good.length; n++) decode(good.subarray(0, n));
    for (let i = 0; i < 3000; i++) {
      const junk = good.slice();
      for (let k = 0; k < 3; k++) junk[net.random.u32() % junk.length] = net.random.u32();
      const d = decode(junk);
      assert.ok(typeof d === 'string' || d.addresses.length <= 8);
    }
    assert.equal(decode(new Uint8Array(0)), 'chassis id, port id or time to live is missing');
    assert.equal(decode(Uint8Array.of(0x04, 2, 4, 1)), 'TLV 1 of the first three is type 2');
    assert.match(decode(Uint8Array.of(0x02, 2, 4, 1, 0x02, 2, 4, 1)) as string, /first three/);
  });
});
