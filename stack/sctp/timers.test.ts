/** Timers and round trips (timers.ts), against RFC 9260 §6.3 and §8.1. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Association } from './association.js';
import { Puppet } from './data.fixture.js';
import { at, check, drain, SctpPair, sendInfo } from './harness.js';
import type { Path } from './path.js';
import { backOff, measureRtt, undoBackOff } from './timers.js';

const wide = { tunables: { maxburst: 0, initial_cwnd: 20 } };
const MS = 1e6;

function path(rtoMin = 0, rtoMax = 60_000): Path {
  const asoc = { rtoMin, rtoMax, rtoInitial: 1000 } as Association;
  return { asoc, srtt: 0, rttvar: 0, rto: 1000 * MS, backedOff: false } as unknown as Path;
}

describe('RTO (§6.3.1)', () => {
  test('first sample, later samples', () => {
    const p = path();
    measureRtt(p, 100 * MS);
    assert.deepEqual([p.srtt, p.rttvar, p.rto], [100 * MS, 50 * MS, 300 * MS]);
    measureRtt(p, 200 * MS);
    assert.equal(p.rttvar, 50 * MS * 0.75 + 100 * MS * 0.25);
    assert.equal(p.srtt, 112.5 * MS);
    assert.equal(p.rto, p.srtt + 4 * p.rttvar);
  });
  test('bounds: RTO.Min, RTO.Max, the granularity of the clock, no sample above a minute', () => {
    const low = path(1000);
    measureRtt(low, 1 * MS);
    assert.equal(low.rto, 1000 * MS);
    const high = path(1000, 2000);
    measureRtt(high, 5000 * MS);
    assert.equal(high.rto, 2000 * MS);
    const still = path();
    for (let i = 0; i < 200; i++) measureRtt(still, 10 * MS);
    assert.ok(still.rto >= 11 * MS);
    const far = path();
    measureRtt(far, 61e9);
    measureRtt(far, -1);
    assert.equal(far.srtt, 0);
  });
  test('back-off doubles up to RTO.Max; undone, it is what was measured, or RTO.Initial', () => {
    const p = path(1000, 5000);
    for (const rto of [2000, 4000, 5000, 5000]) {
      backOff(p);
      assert.equal(p.rto, rto * MS);
    }
    undoBackOff(p);
    assert.equal(p.rto, 1000 * MS);
    measureRtt(p, 600 * MS);
    backOff(p);
    undoBackOff(p);
    assert.equal(p.rto, 1800 * MS);
  });
});

describe('T3 (§6.3.2, §6.3.3)', () => {
  test('1, 2, 4 ... seconds; cwnd one packet; the association ends after Association.Max.Retrans', () => {
    const p = new Puppet({ tunables: { ...wide.tunables, assoc_rtx_max: 4 } });
    const start = p.now;
    const sent: number[] = [];
    p.send(100);
    for (let i = 0; i < 400 && !p.a.dead; i++)
      for (const c of p.run(100 * MS).take()) if (c.tsn === 0) sent.push(Math.round((c.at - start) / 1e9));
    assert.deepEqual(sent, [0, 1, 3, 7, 15]);
    assert.equal(p.a.paths[0]!.cwnd, 1500);
    assert.match(p.a.reason!.text, /5 errors in a row/);
    assert.equal(p.so.error, 60);
  });

  test('does not fire for a path whose chunks were all acknowledged while others are still to be resent', () => {
    const p = new Puppet({ ...wide, links: 2 });
    p.send(1000, 4).take();
    p.run(1.01e9); // lost on the primary: goes to the other path
    const sent = p.take();
    assert.deepEqual(
      sent.filter(c => c.tsn >= 0).map(c => [c.tsn, c.link]),
      [[0, 1]],
    );
    assert.equal(p.a.paths[0]!.t3.pending, false);
    assert.equal(p.a.paths[1]!.t3.pending, true);
    assert.deepEqual(
      p.a.paths.map(x => x.errors),
      [1, 0],
    );
    p.sack(3, [], 200_000, 1);
    assert.equal(p.a.paths[1]!.t3.pending, false);
    assert.deepEqual([p.a.errors, p.a.resend], [0, 0]);
  });

  test('a late acknowledgement of what was taken for lost credits no path that did not carry it', () => {
    const p = new Puppet({ ...wide, links: 2 });
    p.send(1000, 6).take();
    p.run(1.01e9);
    const { cwnd } = p.a.paths[1]!;
    p.a.paths[1]!.errors = 3;
    p.sack(5);
    assert.ok(p.a.paths[1]!.cwnd <= cwnd + 1000);
  });
});

test('T1 governs data bundled with the COOKIE ECHO: it goes again with it, T3 counts nothing', () => {
  const p = new SctpPair({ pool: { small: 512, cluster: 1024, jumbo: 8 } });
  const l = p.socket('b');
  check(l.bind(at('0.0.0.0', 5000)));
  check(l.listen(1));
  const c = p.socket('a');
  c.connect(at('10.0.0.2', 5000));
  // One-to-one sockets queue only once connected, so the data is put in from behind.
  const sctp = p.kexts[0].sctp!;
  const a = [...sctp.associations()][0]!;
  assert.equal(c.send(new Uint8Array(50).fill(5), 0, 50, sendInfo()), 50);
  let lost = 0;
  let withData = 0;
  p.links[0]!.options = {
    ...p.links[0]!.options,
    loss: f => {
      const type = f[14 + 20 + 12]!;
      if (type !== 10) return false;
      if (f.length > 14 + 20 + 12 + (f[14 + 20 + 14]! << 8) + f[14 + 20 + 15]! + 16) withData++;
      return lost++ < 3;
    },
  };
  p.net.run(1.5e9);
  assert.equal(a.state, 'COOKIE_ECHOED');
  assert.equal(a.paths[0]!.errors, 0);
  p.net.run(20e9);
  assert.equal(a.state, 'ESTABLISHED');
  assert.equal(sctp.stats.sctps_timeoutdata, 0);
  assert.equal(sctp.stats.sctps_timeoutcookie, 3);
  assert.equal(withData, 4, 'the data is in each packet with the COOKIE ECHO');
  const s = l.accept();
  assert.equal(typeof s, 'object');
  assert.equal(drain(s as never).messages.length, 1);
});

test('autoclose ends an idle association, not a busy one', () => {
  const p = new SctpPair();
  const [c, s] = p.connect();
  const a = [...p.kexts[0].sctp!.associations()][0]!;
  a.autoclose = 5;
  p.kexts[0].sctp!.stack.callouts.reset(a.autocloseTimer, 5e9);
  for (let i = 0; i < 4; i++) {
    c.send(new Uint8Array(10), 0, 10);
    p.net.run(3e9);
    drain(s);
    assert.equal(a.dead, false);
  }
  p.net.run(10e9);
  assert.equal(a.dead, true);
});
