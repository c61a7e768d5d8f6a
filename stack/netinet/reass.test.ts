import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CalloutWheel } from '../kern/callout.js';
import { Clock, SEC, SeededRandom } from '../kern/clock.js';
import { M_NULL, MbufPool } from '../kern/mbuf.js';
import { InAddr } from './in.js';
import { pattern } from './packets.fixture.js';
import { Reassembly } from './reass.js';

const HDR = 20;
const A = InAddr.of('10.0.0.1');
const B = InAddr.of('10.0.0.2');

function setUp(settings = { maxfragpackets: 4, maxfragsperpacket: 8, fragttl: 30 }, family: 4 | 6 = 4) {
  const clock = new Clock();
  const callouts = new CalloutWheel(clock);
  const pool = new MbufPool({ small: 64, cluster: 1200, jumbo: 2 });
  const expired: boolean[] = [];
  const r = new Reassembly(family, pool, callouts, settings, (m, first) => {
    expired.push(first);
    pool.freem(m);
  });
  const data = pattern(400);
  const add = (from: number, to: number, more: boolean, id = 1, tos = 0, proto = 17) => {
    const bytes = new Uint8Array(HDR + to - from);
    bytes[0] = from & 255;
    bytes.set(data.subarray(from, to), HDR);
    return r.add(pool.fromBytes(bytes), A, B, id, proto, HDR, from, to - from, more, tos);
  };
  const used = () => pool.inUse.small + pool.inUse.cluster + pool.inUse.jumbo;
  return { clock, callouts, pool, r, add, used, data, expired };
}

describe('Reassembly', () => {
  it('joins fragments that come in any order', () => {
    const pieces = [
      [0, 80],
      [80, 160],
      [160, 240],
      [240, 301],
    ] as const;
    const random = new SeededRandom(1);
    const t = setUp();
    for (let round = 0; round < 50; round++) {
      const order = [0, 1, 2, 3];
      for (let i = 3; i > 0; i--) {
        const j = random.u32() % (i + 1);
        [order[i], order[j]] = [order[j]!, order[i]!];
      }
      let whole = 0;
      for (const [n, k] of order.entries()) {
        whole = t.add(pieces[k]![0], pieces[k]![1], k < 3, round);
        assert.equal(whole !== M_NULL, n === 3);
      }
      assert.equal(t.pool.pktlen[whole], HDR + 301);
      assert.equal(t.pool.u8[t.pool.off[whole]!], 0); // the first fragment's header
      assert.deepEqual(t.pool.toBytes(whole).subarray(HDR), t.data.subarray(0, 301));
      t.pool.freem(whole);
    }
    assert.equal(t.used(), 0);
    assert.deepEqual(t.r.held, { datagrams: 0, fragments: 0 });
    assert.equal(t.callouts.pending, 0);
  });
  it('ignores exact duplicates', () => {
    const t = setUp();
    t.add(0, 80, true);
    t.add(0, 80, true);
    assert.equal(t.r.counters.duplicates, 1);
    t.pool.freem(t.add(80, 100, false));
    assert.equal(t.used(), 0);
  });
  for (const [name, from, to, more] of [
    ['into the one before', 72, 160, true],
    ['into the one behind', 80, 168, true],
    ['around', 0, 400, true],
    ['inside', 8, 16, true],
  ] as const) {
    it(`drops the datagram for an overlap ${name} (RFC 5722)`, () => {
      const t = setUp();
      t.add(0, 80, true);
      t.add(160, 240, true);
      assert.equal(t.add(from, to, more), M_NULL);
      assert.equal(t.r.counters.overlaps, 1);
      assert.equal(t.used(), 0);
    });
  }
  it('drops what contradicts itself about its length', () => {
    const t = setUp();
    t.add(80, 100, false);
    t.add(160, 240, true); // beyond the end
    assert.equal(t.r.counters.inconsistent, 1);
    t.add(160, 240, true);
    t.add(80, 100, false); // the end before something that is there
    assert.equal(t.r.counters.inconsistent, 2);
    t.add(80, 100, false);
    t.add(120, 140, false); // two ends
    assert.equal(t.r.counters.inconsistent, 3);
    assert.equal(t.used(), 0);
  });
  it('gives up after its time, and tells if the first fragment was there', () => {
    const t = setUp();
    t.add(0, 80, true, 1);
    t.add(80, 160, true, 2);
    t.clock.now = 30 * SEC - 1;
    t.callouts.run();
    assert.equal(t.r.held.datagrams, 2);
    t.clock.now = 30 * SEC;
    t.callouts.run();
    assert.deepEqual(t.expired, [true]);
    assert.equal(t.r.counters.timeouts, 2);
    assert.equal(t.used(), 0);
  });
  it('bounds datagrams, putting out the oldest', () => {
    const t = setUp();
    for (let id = 1; id <= 5; id++) t.add(0, 80, true, id);
    assert.equal(t.r.held.datagrams, 4);
    assert.equal(t.add(80, 90, false, 1), M_NULL); // was put out: begins anew, and puts out 2
    t.pool.freem(t.add(80, 90, false, 3));
    t.r.flush();
    assert.equal(t.used(), 0);
    assert.equal(t.callouts.pending, 0);
  });
  it('bounds the fragments of one datagram, and of all', () => {
    const t = setUp();
    for (let i = 0; i < 9; i++) t.add(i * 16, i * 16 + 8, true);
    assert.equal(t.r.counters.too_many, 1);
    assert.equal(t.used(), 0);
    const big = setUp({ maxfragpackets: 1024, maxfragsperpacket: 256, fragttl: 30 });
    for (let id = 0; id < 600; id++) for (let i = 0; i < 2; i++) big.add(i * 16, i * 16 + 8, true, id);
    assert.ok(big.r.held.fragments <= 1024);
    assert.equal(big.used(), big.r.held.fragments);
    big.r.flush();
    assert.equal(big.used(), 0);
  });
  it('takes none when it is switched off', () => {
    const t = setUp({ maxfragpackets: 0, maxfragsperpacket: 8, fragttl: 30 });
    assert.equal(t.add(0, 80, true), M_NULL);
    assert.equal(t.used(), 0);
  });
  it('keeps congestion marks, and drops a mix that cannot be (RFC 3168 section 5.3)', () => {
    const t = setUp();
    t.add(0, 80, true, 1, 0xb9);
    t.pool.freem(t.add(80, 90, false, 1, 0xbb));
    assert.equal(t.r.tos, 0xbb);
    t.add(0, 80, true, 2, 3);
    t.pool.freem(t.add(80, 90, false, 2, 2));
    assert.equal(t.r.tos, 3);
    t.add(0, 80, true, 3, 0);
    assert.equal(t.add(80, 90, false, 3, 3), M_NULL);
    assert.equal(t.r.counters.bad_ecn, 1);
    assert.equal(t.used(), 0);
  });
  it('tells protocols apart for IPv4, not for IPv6', () => {
    const four = setUp();
    four.add(0, 80, true, 1, 0, 17);
    assert.equal(four.add(80, 90, false, 1, 0, 6), M_NULL);
    four.r.flush();
    const six = setUp(undefined, 6);
    six.add(0, 80, true, 1, 0, 17);
    six.pool.freem(six.add(80, 90, false, 1, 0, 6));
    assert.equal(four.used() + six.used(), 0);
  });
});
