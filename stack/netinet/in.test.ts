import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { InAddr } from './in.js';

const words = fc.tuple(fc.integer(), fc.integer(), fc.integer(), fc.integer());

describe('InAddr', () => {
  it('parses and prints RFC 5952 text', () => {
    for (const [text, canonical] of [
      ['192.0.2.1', '192.0.2.1'],
      ['0.0.0.0', '0.0.0.0'],
      ['255.255.255.255', '255.255.255.255'],
      ['::', '::'],
      ['::1', '::1'],
      ['1::', '1::'],
      ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
      ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
      ['::ffff:192.0.2.1', '::ffff:192.0.2.1'],
      ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
      ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ] as const)
      assert.equal(InAddr.of(text).toString(), canonical);
  });
  it('refuses everything else', () => {
    for (const bad of [
      '',
      '1.2.3',
      '1.2.3.4.5',
      '1.2.3.256',
      '01.2.3.4',
      '1.2.3.4 ',
      ':',
      ':::',
      '1::2::3',
      '1:2:3:4:5:6:7',
      '1:2:3:4:5:6:7:8:9',
      '12345::',
      'g::',
      '::1.2.3',
      'fe80::1%eth0',
      '::1.2.3.4:5',
      '1:2:3:4:5:6:7:8::',
    ])
      assert.equal(InAddr.parse(bad), undefined, bad);
    assert.throws(() => InAddr.of('x'), TypeError);
  });
  it('round-trips text and bytes', () => {
    fc.assert(
      fc.property(words, fc.boolean(), ([a, b, c, d], six) => {
        const x = six ? new InAddr(6, a, b, c, d) : new InAddr(4, 0, 0, 0xffff, d);
        assert.ok(InAddr.of(x.toString()).equals(x));
        const dv = new DataView(new ArrayBuffer(20));
        assert.equal(x.write(dv, 2), six ? 16 : 4);
        const y = new InAddr();
        assert.ok((six ? y.read6(dv, 2) : y.read4(dv, 2)).equals(x));
        assert.ok(x.clone().equals(x));
        assert.equal(x.clone().hash(), x.hash());
      }),
    );
  });
  it('tells families apart', () => {
    assert.ok(!InAddr.of('1.2.3.4').equals(InAddr.of('::ffff:1.2.3.4')));
    assert.ok(InAddr.of('::ffff:1.2.3.4').isV4Mapped);
    assert.ok(!InAddr.of('1.2.3.4').isV4Mapped);
  });
  it('knows scopes', () => {
    for (const [text, scope] of [
      ['0.0.0.0', 'unspecified'],
      ['::', 'unspecified'],
      ['127.1.2.3', 'loopback'],
      ['::1', 'loopback'],
      ['169.254.9.9', 'link'],
      ['fe80::1', 'link'],
      ['febf::1', 'link'],
      ['fec0::1', 'global'],
      ['10.0.0.1', 'private'],
      ['172.16.0.1', 'private'],
      ['172.31.255.255', 'private'],
      ['172.32.0.1', 'global'],
      ['192.168.0.1', 'private'],
      ['192.169.0.1', 'global'],
      ['fd00::1', 'private'],
      ['fe00::1', 'global'],
      ['224.0.0.1', 'multicast'],
      ['240.0.0.1', 'global'],
      ['ff02::1', 'multicast'],
      ['255.255.255.255', 'broadcast'],
    ] as const)
      assert.equal(InAddr.of(text).scope, scope, text);
  });
  it('compares prefixes as text of bits would', () => {
    const bits = (x: InAddr) =>
      (x.family === 4 ? [x.w3] : [x.w0, x.w1, x.w2, x.w3]).map(w => (w >>> 0).toString(2).padStart(32, '0')).join('');
    fc.assert(
      fc.property(words, fc.nat(128), fc.nat(128), fc.boolean(), ([a, b, c, d], flip, n, six) => {
        const x = six ? new InAddr(6, a, b, c, d) : new InAddr(4, 0, 0, 0xffff, d);
        const y = x.clone();
        const size = six ? 128 : 32;
        const at = flip % size;
        const w = six ? (['w0', 'w1', 'w2', 'w3'] as const)[at >>> 5]! : 'w3';
        y[w] ^= 1 << (31 - (at & 31));
        const len = n % (size + 1);
        assert.equal(x.inPrefix(y, len), bits(x).slice(0, len) === bits(y).slice(0, len));
        assert.ok(x.inPrefix(x, len));
      }),
    );
    assert.ok(!InAddr.of('1.2.3.4').inPrefix(InAddr.of('::'), 0));
  });
});
