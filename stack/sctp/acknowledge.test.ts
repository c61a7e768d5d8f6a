/** SACKs received (acknowledge.ts), against RFC 9260 §6.2.1, §6.3 and §7.2.4. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SHUTDOWN } from './constants.js';
import { Puppet } from './data.fixture.js';
import { ByteWriter } from './wire.js';

const wide = { tunables: { maxburst: 0, initial_cwnd: 20 } };
const MTU = 1500;

describe('cumulative acknowledgement', () => {
  test('takes chunks out of flight, stops T3 when all is acknowledged, restarts it when the earliest is', () => {
    const p = new Puppet(wide);
    const path = p.a.paths[0]!;
    assert.deepEqual(p.send(1000, 4).tsns(), [0, 1, 2, 3]);
    assert.equal(path.flight, 4000);
    const first = path.t3.deadline;
    p.run(100e6).sack(1);
    assert.equal(path.flight, 2000);
    assert.equal(path.t3.deadline, first + 100e6, 'R3: restarted');
    p.run(100e6).sack(1, [[3, 3]]);
    assert.equal(path.flight, 1000);
    assert.equal(path.t3.deadline, first + 100e6, 'a gap block alone does not restart it');
    p.sack(3);
    assert.equal(path.flight, 0);
    assert.equal(path.t3.pending, false, 'R2: stopped');
    assert.equal(p.a.queuedBytes, 0);
  });

  test('old ones are dropped, ones of what was never sent end the association', () => {
    const p = new Puppet(wide);
    p.send(1000, 4).take();
    p.sack(2).sack(1);
    assert.equal(p.s.stats.sctps_oldsack, 1);
    assert.equal(p.a.outstanding, 1);
    p.sack(4);
    assert.ok(p.a.dead);
    assert.match(p.a.reason!.text, /never sent/);
    const q = new Puppet(wide);
    q.send(1000, 4).take();
    q.sack(-1, [[2, 4]]);
    assert.ok(q.a.dead);
  });

  test('a length that does not fit the counts is dropped and counted', () => {
    const p = new Puppet(wide);
    p.send(1000, 2).take();
    const bad = p.sackChunk(1);
    bad[13] = 1;
    p.inject([bad]);
    assert.equal(p.s.stats.sctps_badsack, 1);
    assert.equal(p.a.outstanding, 2);
  });

  test('SHUTDOWN acknowledges, and makes room in the window for as much (§9.2)', () => {
    const p = new Puppet({ tunables: { ...wide.tunables, recvspace: 8000, initial_cwnd: 40 } });
    p.send(1000, 30);
    assert.deepEqual(p.tsns(), [0, 1, 2, 3, 4, 5], 'the window is full');
    for (let round = 0, cum = -1; round < 4; round++) {
      cum = (p.a.nextTsn - 1 - p.first) | 0;
      p.inject([new ByteWriter().chunk(SHUTDOWN, 0, w => w.u32((p.first + cum) >>> 0)).take()]);
      const sent = p.tsns();
      assert.ok(sent.length >= 4, `round ${round} sent ${sent.length}`);
    }
    assert.equal(p.a.state, 'SHUTDOWN_RECEIVED');
  });
});

describe('fast retransmit', () => {
  test('three reports by SACKs with something new; the window is cut once; T3 starts anew for the first chunk', () => {
    const p = new Puppet(wide);
    const path = p.a.paths[0]!;
    p.send(1000, 10).take();
    const cwnd = path.cwnd;
    p.sack(-1, [[1, 1]]).sack(-1, [[1, 2]]);
    assert.deepEqual(p.tsns(), []);
    p.sack(-1, [[1, 2]]).sack(-1, [[1, 2]]);
    assert.deepEqual(p.tsns(), [], 'nothing newly acknowledged: no report (HTNA)');
    p.run(50e6).sack(-1, [[1, 3]]);
    assert.deepEqual(p.tsns(), [0]);
    assert.equal(path.ssthresh, Math.max(cwnd >> 1, 4 * MTU));
    assert.equal(path.cwnd, path.ssthresh);
    assert.equal(path.t3.deadline, p.now + path.rto);
    assert.equal(p.s.stats.sctps_sendfastretrans, 1);
  });

  test('a second loss in the same window goes again without a second cut; leaving needs all that was out', () => {
    const p = new Puppet(wide);
    const path = p.a.paths[0]!;
    p.send(1000, 10).take();
    for (const to of [1, 2, 3]) p.sack(-1, [[1, to]]);
    const { cwnd } = path;
    assert.deepEqual(p.tsns(), [0]);
    for (const to of [6, 7, 8])
      p.sack(-1, [
        [1, 3],
        [6, to],
      ]);
    // 4 and 5 were reported missing three times by now; what does not fit into one packet waits for the window.
    assert.equal(p.tsns()[0], 4);
    assert.equal(path.cwnd, cwnd);
    p.sack(8);
    assert.equal(path.inFastRecovery, true);
    p.sack(9);
    assert.equal(path.inFastRecovery, false);
  });

  test('in recovery a cumulative TSN that moves reports everything missing (§7.2.4)', () => {
    const p = new Puppet(wide);
    p.send(1000, 12).take();
    for (const to of [2, 3, 4]) p.sack(-1, [[2, to]]); // 0 and 1 are lost
    assert.deepEqual(p.tsns()[0], 0);
    // 6 is lost as well; nothing above it is newly acknowledged any more, only the cumulative TSN moves.
    p.sack(-1, [
      [2, 5],
      [7, 11],
    ]);
    p.take();
    p.sack(0, [
      [2, 5],
      [7, 11],
    ]);
    p.sack(1 + 4, [[7, 11]]);
    assert.ok(p.tsns().includes(6));
  });

  test('one that is lost again is sent again when later chunks are acknowledged', () => {
    const p = new Puppet({ tunables: { ...wide.tunables, initial_cwnd: 40 } });
    p.send(1000, 20).take();
    for (const to of [1, 2, 3]) p.sack(-1, [[1, to]]);
    assert.deepEqual(p.tsns(), [0]);
    for (let to = 4; to < 20; to++) p.sack(-1, [[1, to]]);
    assert.deepEqual(p.tsns(), [], 'only what was sent before the retransmission was acknowledged');
    p.send(1000, 5).take();
    for (const to of [20, 21, 22]) p.sack(-1, [[1, to]]);
    assert.equal(p.tsns()[0], 0);
  });
  test('to the letter it waits for T3: fast_retransmit_again=0 (rule 5)', () => {
    const p = new Puppet({ tunables: { ...wide.tunables, initial_cwnd: 40, fast_retransmit_again: 0 } });
    p.send(1000, 20).take();
    for (const to of [1, 2, 3]) p.sack(-1, [[1, to]]);
    assert.deepEqual(p.tsns(), [0]);
    p.send(1000, 5).take();
    for (const to of [20, 21, 22, 23]) p.sack(-1, [[1, to]]);
    assert.deepEqual(p.tsns(), []);
    p.run(1.1e9);
    assert.equal(p.tsns()[0], 0);
  });
});

test('gap blocks taken back return to flight and time out', () => {
  const p = new Puppet(wide);
  const path = p.a.paths[0]!;
  p.send(1000, 4).take();
  p.sack(0, [[2, 3]]);
  assert.equal(path.flight, 1000);
  p.sack(0);
  assert.equal(path.flight, 3000);
  p.run(1.1e9);
  assert.deepEqual(p.tsns()[0], 1);
  p.sack(3);
  assert.equal(p.a.outstanding, 0);
});

test('overlapping and unordered gap blocks; a SACK made of many is not worth much work', () => {
  const p = new Puppet(wide);
  p.send(1000, 8).take();
  p.sack(-1, [
    [5, 6],
    [2, 3],
    [2, 5],
  ]);
  assert.equal(p.a.flight, 3000); // 0, 1, 7
  p.sack(
    -1,
    Array.from({ length: 300 }, () => [1, 7] as const),
  );
  assert.equal(p.a.flight, 1000);
});

test('round trips: one sample a flight, none of retransmissions, and measuring goes on afterwards', () => {
  const p = new Puppet(wide);
  const path = p.a.paths[0]!;
  const { srtt } = path;
  p.send(1000).take();
  p.run(300e6).sack(0);
  assert.equal(Math.round(path.srtt), Math.round(srtt + (300e6 - srtt) / 8));
  const kept = path.srtt;
  p.send(1000)
    .run(path.rto + 1e6)
    .take();
  assert.ok(path.backedOff);
  p.run(100e6).sack(1);
  assert.equal(path.srtt, kept, 'Karn: no sample');
  assert.ok(path.backedOff, 'nor does it undo the back-off');
  p.send(1000).take();
  p.run(100e6).sack(2);
  assert.notEqual(path.srtt, kept);
  assert.equal(path.backedOff, false);
});

test('acknowledgement of data sent once undoes the back-off even without a sample', () => {
  const p = new Puppet(wide);
  const path = p.a.paths[0]!;
  p.send(1000)
    .run(path.rto + 1e6)
    .take();
  assert.equal(path.rto, 2e9);
  p.a.paths[0]!.rttWanted = false; // the one timed chunk of this round is another
  p.send(1000).take();
  p.sack(0).take();
  p.send(1000).take();
  p.sack((p.a.nextTsn - 1 - p.first) | 0);
  assert.equal(path.rto, 1e9);
});

describe("the peer's window", () => {
  test('is what it tells less what is in flight with its overhead; a silly one is none', () => {
    const p = new Puppet(wide);
    p.send(1000, 4).take();
    p.sack(1, [], 10_000);
    assert.equal(p.a.peerRwnd, 10_000 - 2 * (1000 + 256));
    p.sack(2, [], 1256 + 1419);
    assert.equal(p.a.peerRwnd, 0);
  });

  test('closed: one chunk at a time asks; answered probes never end the association nor fail the path', () => {
    const p = new Puppet(wide);
    p.a.paths[0]!.hbEnabled = false; // nobody would answer them here
    p.send(1000, 2).take();
    p.send(1000, 5);
    p.sack(1, [], 0);
    assert.equal(p.tsns().length >= 1, true);
    const cum = (p.a.cumAcked - p.first) | 0;
    for (let i = 0; i < 40; i++) {
      p.run(70e9).take();
      p.sack(cum, [], 0);
    }
    assert.equal(p.a.dead, false);
    assert.equal(p.a.paths[0]!.state, 'active');
    assert.ok(p.a.flightChunks <= 5);
    p.sack(cum, [], 100_000);
    p.take();
    p.sack((p.a.nextTsn - 1 - p.first) | 0);
    p.take();
    assert.equal(p.a.out.pending, 0, 'and when it opens, all goes');
  });

  test('closed over much that is outstanding: it survives too, with one chunk in flight', () => {
    const p = new Puppet(wide);
    p.send(1000, 8).take();
    for (let i = 0; i < 40; i++) {
      p.run(70e9);
      assert.ok(p.a.flightChunks <= (i === 0 ? 8 : 1), `round ${i}: ${p.a.flightChunks} in flight`);
      p.sack(-1, [], 0);
    }
    assert.equal(p.a.dead, false);
    p.sack(-1, [], 100_000);
    assert.equal(p.tsns().includes(0), true, 'an open window brings the probe at once');
  });

  test('probes that nobody answers end it after Association.Max.Retrans', () => {
    const p = new Puppet(wide);
    p.send(1000, 1).take();
    p.sack(0, [], 0);
    p.send(1000, 1).run(700e9);
    assert.ok(p.a.dead);
    assert.match(p.a.reason!.text, /probes were not answered|heartbeat/);
  });
});

test('TSNs wrap at 2^32', () => {
  const p = new Puppet(wide);
  // As if 2^32 - k TSNs had gone before: the whole sender stands just below the edge.
  const edge = -4 | 0;
  p.a.nextTsn = edge as never;
  p.a.cumAcked = p.a.highestAcked = ((edge - 1) | 0) as never;
  p.a.resendFrom = edge as never;
  Object.assign(p, { first: edge });
  assert.deepEqual(p.send(1000, 8).tsns(), [0, 1, 2, 3, 4, 5, 6, 7]);
  for (const to of [2, 4, 6]) p.sack(0, [[2, to]]);
  assert.deepEqual(p.tsns(), [1]);
  p.sack(7);
  assert.equal(p.a.flight, 0);
  assert.equal(p.a.nextTsn, 4);
});
