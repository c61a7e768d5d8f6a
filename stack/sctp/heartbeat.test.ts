/** Heartbeats (heartbeat.ts), against RFC 9260 §5.4, §8.1 to §8.3. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HEARTBEAT, HEARTBEAT_ACK, SHUTDOWN, SHUTDOWN_ACK } from './constants.js';
import { Puppet, type Sent } from './data.fixture.js';
import { SctpPair } from './harness.js';
import { ByteWriter } from './wire.js';

const beats = (p: Puppet): Sent[] => p.take().filter(c => c.type === HEARTBEAT);
/** The answer to a heartbeat: its own bytes with another type, perhaps spoilt at a byte. */
function answer(h: Sent, spoil = -1): Uint8Array {
  const b = h.bytes.slice();
  b[0] = HEARTBEAT_ACK;
  if (spoil >= 0) b[spoil]! ^= 1;
  return b;
}

describe('schedule', () => {
  test('an idle path: every HB.interval + RTO/2 to 3/2 RTO; answers keep errors at 0 and measure', () => {
    const p = new Puppet();
    let last = p.now;
    for (let i = 0; i < 5; i++) {
      let h: Sent[] = [];
      while (h.length === 0) h = beats(p.run(100e6));
      const gap = h[0]!.at - last;
      if (i > 0) assert.ok(gap >= 30.4e9 && gap <= 31.6e9, `${gap}`);
      last = h[0]!.at;
      p.run(50e6).inject([answer(h[0]!)]);
      assert.equal(p.a.paths[0]!.errors, 0);
    }
    assert.ok(p.a.paths[0]!.srtt > 5e6, 'measured');
  });

  test('none while new data goes over the path; retransmissions and answers do not make it busy', () => {
    const p = new Puppet();
    for (let i = 0; i < 70; i++) {
      p.send(10).run(1e9);
      p.sack((p.a.nextTsn - 1 - p.first) | 0);
    }
    assert.deepEqual(beats(p), []);
    // HEARTBEATs of the peer are answered all the time; ours go nevertheless.
    let seen = 0;
    for (let i = 0; i < 70; i++) {
      p.inject([new ByteWriter().chunk(HEARTBEAT, 0, w => w.tlv(1, x => x.u32(i))).take()]);
      const h = beats(p.run(1e9));
      seen += h.length;
      for (const x of h) p.inject([answer(x)]);
    }
    assert.ok(seen >= 1);
  });

  test('off: none, and the path does not fail for it', () => {
    const p = new Puppet();
    p.a.paths[0]!.hbEnabled = false;
    assert.deepEqual(beats(p.run(600e9)).length <= 1, true);
    assert.equal(p.a.paths[0]!.state, 'active');
  });
});

describe('answers', () => {
  test('only exactly what was sent counts, and once', () => {
    const p = new Puppet();
    let h: Sent[] = [];
    while (h.length === 0) h = beats(p.run(1e9));
    for (const i of [7, 18, 23, 29, 43]) p.inject([answer(h[0]!, i)]);
    const short = answer(h[0]!).subarray(0, 40);
    short[3] = 40;
    p.inject([short]);
    assert.equal(p.s.stats.sctps_hbackbad, 6);
    const before = p.s.stats.sctps_hbackrecv;
    p.inject([answer(h[0]!)]).inject([answer(h[0]!)]);
    assert.deepEqual([p.s.stats.sctps_hbackrecv - before, p.s.stats.sctps_hbackbad], [1, 7]);
    assert.equal(p.a.dead, false);
  });

  test('the answer to a heartbeat that was given up is late, not bad, and counts for nothing', () => {
    const p = new Puppet();
    let h: Sent[] = [];
    while (h.length === 0) h = beats(p.run(1e9));
    let next: Sent[] = [];
    while (next.length === 0) next = beats(p.run(1e9));
    const received = p.s.stats.sctps_hbackrecv;
    p.inject([answer(h[0]!)]);
    assert.deepEqual([p.s.stats.sctps_hbacklate, p.s.stats.sctps_hbackbad], [1, 0]);
    assert.equal(p.s.stats.sctps_hbackrecv, received);
    p.inject([answer(next[0]!)]);
    assert.equal(p.s.stats.sctps_hbackrecv, received + 1);
  });

  test('a HEARTBEAT is echoed byte for byte, padded, to where it came from', () => {
    const p = new Puppet({ links: 2 });
    const chunk = new ByteWriter()
      .chunk(HEARTBEAT, 0x80, w => w.tlv(1, x => x.bytes(Uint8Array.of(1, 2, 3, 4, 5))))
      .take();
    const sent = p.inject([chunk], 1).take();
    assert.deepEqual(
      sent.map(c => [c.type, c.flags, c.link]),
      [[HEARTBEAT_ACK, 0, 1]],
    );
    assert.deepEqual([...sent[0]!.bytes.subarray(4)], [...chunk.subarray(4, 13)]);
  });
});

describe('while shutting down (§8.3)', () => {
  for (const who of ['we', 'the peer'] as const)
    test(`none any more when ${who} began it: T2 watches over the path`, () => {
      const p = new Puppet();
      if (who === 'we') p.so.shutdown(1);
      else p.inject([new ByteWriter().chunk(SHUTDOWN, 0, w => w.u32(p.a.cumAcked)).take()]);
      const sent = p
        .run(200e9)
        .take()
        .map(c => c.type);
      assert.ok(sent.filter(t => t === (who === 'we' ? SHUTDOWN : SHUTDOWN_ACK)).length > 5);
      assert.equal(sent.includes(HEARTBEAT), false);
    });
});

describe('failure (§8.2)', () => {
  test('not answered: errors, the RTO backs off, the path fails after Path.Max.Retrans; an answer brings it back', () => {
    const p = new Puppet({ events: ['peer-addr-change'] });
    const path = p.a.paths[0]!;
    let h: Sent[] = [];
    let failed = 0;
    for (let i = 0; i < 600 && failed === 0; i++) {
      h = [...h, ...beats(p.run(1e9))];
      if (path.state === 'inactive') failed = h.length;
    }
    assert.equal(failed, 7, 'the sixth goes unanswered when the seventh is sent');
    assert.equal(path.rto, 60e9);
    p.inject([answer(h.at(-1)!)]);
    assert.equal(path.state, 'active');
    assert.equal(path.errors, 0);
    assert.ok(path.rto < 60e9);
  });

  test('on a path that carries no data they do not count against the association (§8.1)', () => {
    const p = new Puppet({ links: 2 });
    for (let i = 0; i < 900; i++)
      for (const h of beats(p.run(1e9))) if (h.link === 0 && i % 2 === 0) p.inject([answer(h)]);
    assert.equal(p.a.paths[1]!.state, 'inactive');
    assert.equal(p.a.dead, false);
    const q = new Puppet({ links: 2 });
    q.a.paths[0]!.hbEnabled = false;
    q.run(900e9);
    assert.equal(q.a.paths[1]!.state, 'inactive');
    assert.equal(q.a.dead, false);
    assert.equal(q.a.errors, 0);
  });

  test('on the only path they do', () => {
    const p = new Puppet();
    p.run(900e9);
    assert.equal(p.a.dead, true);
    assert.match(p.a.reason!.text, /11 errors in a row/);
  });
});

describe('unconfirmed paths (§5.4)', () => {
  test('are probed at once, at most HB.Max.Burst at a time; slowly when they do not answer; without harm', () => {
    // The links but the first lose everything from the start, so their addresses are never confirmed.
    const p = new SctpPair({ links: 7, pool: { small: 512, cluster: 1024, jumbo: 8 } });
    for (const l of p.links.slice(1)) l.options = { ...l.options, loss: () => true };
    const times: number[] = [];
    for (const l of p.links.slice(1))
      l.onFrame = (from, f, at) => {
        if (from === p.a && f[14 + 20 + 12] === HEARTBEAT) times.push(at);
      };
    p.connect();
    p.net.run(5e9);
    for (const t of times) {
      const together = times.filter(x => x >= t && x < t + 0.9e9).length;
      assert.ok(together <= 4, `${together} within an RTO`);
    }
    const a = [...p.kexts[0].sctp!.associations()][0]!;
    p.net.run(600e9);
    times.length = 0;
    p.net.run(310e9);
    assert.ok(times.length >= 6 && times.length <= 6 * 11, `${times.length} in five minutes on six paths`);
    assert.equal(a.dead, false);
    assert.deepEqual(
      a.paths.slice(1).map(x => x.state),
      Array(6).fill('unconfirmed'),
    );
    assert.equal(a.errors, 0);
  });
});
