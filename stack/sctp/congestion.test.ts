/** Congestion control (congestion.ts), against RFC 9260 §7.2 and RFC 3465. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Association } from './association.js';
import { rfc9260 as cc, initialWindow } from './congestion.js';
import { Puppet } from './data.fixture.js';
import type { Path } from './path.js';
import { defaultTunables } from './tunables.js';

const t = defaultTunables();
const MTU = 1500;

/** A path that is nothing but its window. */
function path(over: Partial<Path> = {}): Path {
  const asoc = { maxBurst: 4, peerArwnd: 0, maxCwnd: 0 };
  return {
    asoc,
    mtu: MTU,
    cwnd: 0,
    ssthresh: 0,
    partialBytesAcked: 0,
    netAck: 0,
    flightBefore: 0,
    ...over,
  } as unknown as Path;
}
const ack = (p: Path, netAck: number, flightBefore: number, advanced = true) => {
  Object.assign(p, { netAck, flightBefore });
  cc.afterSack(p.asoc as Association, p, advanced, t);
};

test('first window: tunable packets within Max.Burst, or §7.2.1', () => {
  assert.equal(initialWindow(path(), t), 3 * 1488);
  assert.equal(initialWindow(path(), { ...t, initial_cwnd: 10 }), 4 * 1488);
  assert.equal(initialWindow(path(), { ...t, initial_cwnd: 0 }), 4380);
  assert.equal(initialWindow(path({ mtu: 9000 }), { ...t, initial_cwnd: 0 }), 18_000);
  assert.equal(initialWindow(path({ mtu: 576 }), { ...t, initial_cwnd: 0 }), 4 * 576);
});

describe('slow start (§7.2.1)', () => {
  test('grows by what was acknowledged, at most L packets, only if full and the cumulative TSN moves', () => {
    const p = path({ cwnd: 6000, ssthresh: 100_000 });
    ack(p, 1000, 6000);
    assert.equal(p.cwnd, 7000);
    ack(p, 6000, 7000);
    assert.equal(p.cwnd, 10_000);
    ack(p, 3000, 9999);
    assert.equal(p.cwnd, 10_000, 'not full');
    ack(p, 3000, 10_000, false);
    assert.equal(p.cwnd, 10_000, 'the cumulative TSN stood');
    p.inFastRecovery = true;
    ack(p, 3000, 10_000);
    assert.equal(p.cwnd, 10_000, 'in fast recovery');
  });

  test('ssthresh follows a window that tunes itself until there was congestion', () => {
    const p = path({ cwnd: 6000, ssthresh: 8000, ssthreshOpen: true });
    (p.asoc as { peerArwnd: number }).peerArwnd = 50_000;
    ack(p, 1000, 6000);
    assert.equal(p.ssthresh, 50_000);
    cc.afterFastRetransmit(p);
    ack(p, 1000, 9000);
    assert.equal(p.ssthresh, 6000);
  });
});

describe('several SACKs before there is output again', () => {
  const started = (messages: number) => {
    const p = new Puppet({ tunables: { maxburst: 0, initial_cwnd: 4 } });
    p.send(1000, messages).take();
    assert.equal(p.a.paths[0]!.flight, 6000);
    return p;
  };

  test('each counts as if output had filled the window before it', () => {
    const [one, many] = [started(40), started(40)];
    one.sack(1).sack(3);
    many.inject([many.sackChunk(1), many.sackChunk(3)]);
    assert.equal(one.a.paths[0]!.cwnd, 4 * 1488 + 4000);
    assert.equal(many.a.paths[0]!.cwnd, one.a.paths[0]!.cwnd);
    assert.equal(many.a.paths[0]!.flight, one.a.paths[0]!.flight);
  });

  test('but not when there was no data to fill it with', () => {
    const [one, many] = [started(7), started(7)];
    one.sack(1).sack(3);
    many.inject([many.sackChunk(1), many.sackChunk(3)]);
    assert.equal(one.a.paths[0]!.cwnd, 4 * 1488 + 2000);
    assert.equal(many.a.paths[0]!.cwnd, one.a.paths[0]!.cwnd);
  });
});

describe('congestion avoidance (§7.2.2)', () => {
  test('one packet a window, counted in bytes; gap blocks count; not full: the credit is kept at a window', () => {
    const p = path({ cwnd: 10_000, ssthresh: 8000 });
    ack(p, 6000, 10_000, false);
    assert.deepEqual([p.cwnd, p.partialBytesAcked], [10_000, 6000]);
    ack(p, 6000, 10_000);
    assert.deepEqual([p.cwnd, p.partialBytesAcked], [11_500, 2000]);
    ack(p, 11_000, 5000);
    assert.deepEqual([p.cwnd, p.partialBytesAcked], [11_500, 11_500]);
    ack(p, 100, 11_500);
    assert.deepEqual([p.cwnd, p.partialBytesAcked], [13_000, 100]);
  });

  test('the credit is gone when all data is acknowledged', () => {
    const p = new Puppet({ tunables: { maxburst: 0, initial_cwnd: 20 } });
    p.a.paths[0]!.ssthresh = 1;
    p.a.paths[0]!.ssthreshOpen = false;
    p.send(1000, 3).take();
    p.sack(1);
    assert.equal(p.a.paths[0]!.partialBytesAcked, 2000);
    p.sack(2);
    assert.equal(p.a.paths[0]!.partialBytesAcked, 0);
  });
});

describe('reductions (§7.2.3)', () => {
  for (const [name, cwnd, ssthresh] of [
    ['large', 40_000, 20_000],
    ['small', 5000, 4 * MTU],
  ] as const)
    test(name, () => {
      const a = path({ cwnd, partialBytesAcked: 5 });
      cc.afterFastRetransmit(a);
      assert.deepEqual([a.ssthresh, a.cwnd, a.partialBytesAcked], [ssthresh, ssthresh, 0]);
      const b = path({ cwnd });
      cc.afterTimeout(b);
      assert.deepEqual([b.ssthresh, b.cwnd], [ssthresh, MTU]);
      const c = path({ cwnd });
      cc.afterEcnEcho(c);
      assert.deepEqual([c.ssthresh, c.cwnd], [ssthresh, Math.min(cwnd, ssthresh)]);
    });
});

test('an idle window halves once per RTO down to 4 packets; ssthresh keeps what it was', () => {
  const p = path({ cwnd: 100_000, ssthresh: 1e6 });
  cc.afterIdle(p, 2);
  assert.deepEqual([p.cwnd, p.ssthresh], [25_000, 100_000]);
  cc.afterIdle(p, 50);
  assert.equal(p.cwnd, 4 * MTU);
  const small = path({ cwnd: 4464, ssthresh: 9 });
  cc.afterIdle(small, 3);
  assert.deepEqual([small.cwnd, small.ssthresh], [4464, 9], 'a small one does not grow by waiting');
  const q = new Puppet({ tunables: { maxburst: 0, initial_cwnd: 20 } });
  q.send(1000).take();
  q.sack(0);
  const { cwnd } = q.a.paths[0]!;
  q.run(2.5e9).send(1000).take();
  assert.equal(q.a.paths[0]!.cwnd, Math.max(cwnd >> 2, 4 * MTU));
});

test('a ceiling set by the user holds', () => {
  const p = path({ cwnd: 10_000, ssthresh: 100_000 });
  p.asoc.maxCwnd = 10_500;
  ack(p, 3000, 10_000);
  assert.equal(p.cwnd, 10_500);
});
