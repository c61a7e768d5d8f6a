/** Explicit congestion notification (ecn.ts), against RFC 4960 appendix A and RFC 3168. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CWR, DATA, ECNE, SACK } from './constants.js';
import { Puppet } from './data.fixture.js';

const wide = { tunables: { maxburst: 0, initial_cwnd: 20 } };
const CE = 3;
const ECT0 = 2;

test('negotiated by default; packets with DATA are marked ECT(0), others not', () => {
  const p = new Puppet(wide);
  assert.equal(p.a.ecn, true);
  const sent = p.data(0).send(100).take();
  assert.deepEqual(
    sent.map(c => [c.type, c.ecn]),
    [
      [SACK, 0],
      [DATA, ECT0],
    ],
  );
  const off = new Puppet({ tunables: { ecn_enable: 0 } });
  assert.equal(off.a.ecn, false);
  assert.equal(off.send(100).take()[0]!.ecn, 0);
});

test('CE: ECNE with the lowest TSN of the packet, in front of every SACK, until CWR', () => {
  const p = new Puppet(wide);
  p.data(0).take();
  p.inject([p.dataChunk(1), p.dataChunk(2)], 0, CE);
  const ecnes = () =>
    p
      .take()
      .filter(c => c.type === ECNE)
      .map(c => (c.dv.getInt32(4) - p.peerFirst) | 0);
  assert.deepEqual(ecnes(), [1]);
  p.data(3).data(4);
  assert.deepEqual(ecnes(), [1]);
  p.inject([p.ecnChunk(CWR, 0)]);
  p.data(5).data(6);
  assert.deepEqual(ecnes(), [1], 'a CWR for an earlier one does not end it');
  p.inject([p.ecnChunk(CWR, 1)]);
  p.data(7).data(8);
  assert.deepEqual(ecnes(), []);
});

test('a later mark is told even when the CWR for the one before is under way', () => {
  const p = new Puppet(wide);
  p.data(0).data(1, {}, 0, CE).data(2).data(3, {}, 0, CE).take();
  p.inject([p.ecnChunk(CWR, 1)]);
  assert.equal(p.a.ecneDue, true);
  p.inject([p.ecnChunk(CWR, 3)]);
  assert.equal(p.a.ecneDue, false);
});

test('ECNE: one reduction a window, CWR each time', () => {
  const p = new Puppet(wide);
  const path = p.a.paths[0]!;
  p.send(1000, 10).take();
  const { cwnd } = path;
  const echo = (tsn: number) => {
    const sent = p.inject([p.ecnChunk(ECNE, tsn)]).take();
    return sent.filter(c => c.type === CWR).map(c => (c.dv.getInt32(4) - p.first) | 0);
  };
  assert.deepEqual(echo(3), [3]);
  assert.equal(path.cwnd, Math.max(cwnd >> 1, 6000));
  assert.equal(path.ssthresh, path.cwnd);
  const after = path.cwnd;
  assert.deepEqual(echo(5), [5]);
  assert.equal(path.cwnd, after, 'the same window');
  p.sack(9).send(1000, 3).take();
  const grown = path.cwnd;
  assert.deepEqual(echo(11), [11]);
  assert.equal(path.cwnd, Math.min(grown, Math.max(grown >> 1, 6000)));
  assert.equal(p.s.stats.sctps_ecnereduce, 2);
  assert.deepEqual(echo(5000), [], 'never sent');
});

test('no reduction for a mark in a window that fast recovery has answered (RFC 3168 §6.1.2)', () => {
  const p = new Puppet(wide);
  p.send(1000, 10).take();
  for (const to of [1, 2, 3]) p.sack(-1, [[1, to]]);
  const { cwnd } = p.a.paths[0]!;
  p.inject([p.ecnChunk(ECNE, 4)]);
  assert.equal(p.a.paths[0]!.cwnd, cwnd);
  assert.ok(p.take().some(c => c.type === CWR));
});
