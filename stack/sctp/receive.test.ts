/** DATA received (receive.ts), against RFC 9260 §6.2, §6.5 to §6.7 and §6.9. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CAUSE_INVALID_STREAM, DATA_B, DATA_E, DATA_I, DATA_U, ERROR } from './constants.js';
import { Puppet } from './data.fixture.js';
import { drain } from './harness.js';

const whole = DATA_B | DATA_E;

/** The first DATA is acknowledged at once; afterwards the delay rules hold. */
function settled(options: ConstructorParameters<typeof Puppet>[0] = {}): Puppet {
  const p = new Puppet(options);
  p.data(0).take();
  drain(p.so);
  return p;
}

describe('when a SACK goes out (§6.2)', () => {
  test('for the first DATA at once, then for every second packet, else after 200 ms', () => {
    const p = new Puppet();
    assert.deepEqual(
      p
        .data(0)
        .sacks()
        .map(x => x.cum),
      [0],
    );
    assert.deepEqual(p.data(1).sacks(), []);
    assert.deepEqual(
      p
        .data(2)
        .sacks()
        .map(x => x.cum),
      [2],
    );
    p.data(3);
    assert.deepEqual(p.run(199e6).sacks(), []);
    assert.deepEqual(
      p
        .run(1e6)
        .sacks()
        .map(x => x.cum),
      [3],
    );
  });

  test('at once for a gap, as long as there is one, and when it closes', () => {
    const p = settled();
    assert.deepEqual(p.data(2).sacks()[0], {
      cum: 0,
      arwnd: p.s.receiver.window(p.a),
      gaps: [[2, 2]],
      dups: [],
      link: 0,
      at: p.now,
    });
    assert.deepEqual(p.data(3).sacks()[0]!.gaps, [[2, 3]]);
    assert.deepEqual(p.data(6).sacks()[0]!.gaps, [
      [2, 3],
      [6, 6],
    ]);
    const closed = p.data(1).sacks()[0]!;
    assert.deepEqual([closed.cum, closed.gaps], [3, [[6, 6]]]);
    p.data(4);
    assert.deepEqual(p.data(5).sacks().at(-1)!.cum, 6);
    assert.deepEqual(p.data(7).sacks(), [], 'all is well again');
  });

  test('at once for a duplicate, which it lists; at most 20 of them; they are listed once', () => {
    const p = settled();
    assert.deepEqual(p.data(0).sacks()[0]!.dups, [0]);
    p.data(2).take();
    assert.deepEqual(p.inject(Array.from({ length: 30 }, () => p.dataChunk(2))).sacks()[0]!.dups, Array(20).fill(2));
    assert.deepEqual(p.data(3).sacks()[0]!.dups, []);
    assert.equal(drain(p.so).messages.length, 0, 'nothing is delivered twice or too early');
  });

  test('at once for the I bit (RFC 7053)', () => {
    const p = settled();
    assert.equal(p.data(1, { flags: whole | DATA_I }).sacks().length, 1);
  });

  test('to where the last DATA came from (§6.4)', () => {
    const p = settled({ links: 2 });
    p.data(1, {}, 1).data(2, {}, 1);
    assert.deepEqual(
      p.sacks().map(x => x.link),
      [1],
    );
  });
});

describe('TSNs', () => {
  test('4,095 beyond the cumulative one is the last that is taken', () => {
    const p = settled();
    p.data(4095, { flags: whole | DATA_U });
    assert.deepEqual(p.sacks()[0]!.gaps, [[4095, 4095]]);
    p.data(4096, { flags: whole | DATA_U });
    assert.equal(p.s.stats.sctps_datadropmap, 1);
    assert.equal(drain(p.so).messages.length, 1);
  });

  test('wrap at 2^32: gaps, duplicates and delivery go on', () => {
    const p = new Puppet();
    const edge = -3 | 0;
    p.a.startReceiving(edge as never, 10);
    Object.assign(p, { peerFirst: edge });
    for (const t of [0, 2, 4, 6, 5, 3, 3, 1]) p.data(t);
    const last = p.sacks().at(-1)!;
    assert.deepEqual([last.cum, last.gaps], [6, []]);
    assert.deepEqual(
      drain(p.so).messages.map(m => m.ssn),
      [0, 1, 2, 3, 4, 5, 6],
    );
    assert.equal(p.a.cumTsn, 3);
  });

  test('SSNs wrap at 2^16', () => {
    const p = settled();
    p.a.inStreams[1] = Object.assign(Object.create(Object.getPrototypeOf(p.a.inStreams[0])), {
      nextSsn: 65534,
      held: 0,
      heldCount: 0,
    });
    p.data(1, { sid: 1, ssn: 1 }).data(2, { sid: 1, ssn: 65535 }).data(3, { sid: 1, ssn: 0 });
    assert.equal(drain(p.so).messages.length, 0);
    p.data(4, { sid: 1, ssn: 65534 });
    assert.deepEqual(
      drain(p.so).messages.map(m => m.ssn),
      [65534, 65535, 0, 1],
    );
    p.data(5, { sid: 1, ssn: 65535 });
    assert.ok(p.a.dead, 'an SSN that was delivered before');
  });
});

describe('streams and order', () => {
  test('a hole in one stream does not hold another; unordered ones wait for nobody', () => {
    const p = settled();
    p.data(2, { sid: 1, ssn: 1 })
      .data(3, { sid: 2, ssn: 0 })
      .data(4, { sid: 1, flags: whole | DATA_U });
    assert.deepEqual(
      drain(p.so).messages.map(m => m.sid),
      [2, 1],
    );
    p.data(1, { sid: 1, ssn: 0 });
    assert.deepEqual(
      drain(p.so).messages.map(m => m.ssn),
      [0, 1],
    );
  });

  test('a stream that does not exist is reported, acknowledged and not delivered (§6.5)', () => {
    const p = settled();
    const sent = p.data(1, { sid: 60_000 }).data(2).data(3).take();
    const error = sent.find(c => c.type === ERROR)!;
    assert.deepEqual([error.dv.getUint16(4), error.dv.getUint16(8)], [CAUSE_INVALID_STREAM, 60_000]);
    assert.deepEqual(
      p.sacks(sent).map(x => x.cum),
      [1, 3],
    );
    assert.equal(p.a.dead, false);
  });

  test('no data in a chunk is an error of the peer (§6.2)', () => {
    const p = settled();
    p.data(1, { bytes: 0 });
    assert.match(p.a.reason!.text, /no user data/);
  });
});

describe('fragments (§6.9)', () => {
  for (const [name, order] of Object.entries({
    'in order': [1, 2, 3, 4],
    backwards: [4, 3, 2, 1],
    mixed: [3, 1, 4, 2],
  }))
    test(`put together ${name}`, () => {
      const p = settled();
      for (const t of order)
        p.data(t, { ssn: 1, bytes: 100, fill: t, flags: (t === 1 ? DATA_B : 0) | (t === 4 ? DATA_E : 0) });
      const { messages } = drain(p.so);
      assert.deepEqual(
        messages.map(m => m.data.length),
        [400],
      );
      assert.deepEqual(
        [0, 100, 200, 300].map(i => messages[0]!.data[i]),
        [1, 2, 3, 4],
      );
      assert.equal(p.a.heldBytes, 0);
    });

  test('of one message on two streams end the association', () => {
    const p = settled();
    p.data(1, { ssn: 1, flags: DATA_B }).data(2, { sid: 3, ssn: 1, flags: DATA_E });
    assert.match(p.a.reason!.text, /differ/);
  });

  test('a message larger than the buffer is delivered in parts; other streams wait for its end; EOR is at its end only', () => {
    const p = settled({ tunables: { recvspace: 20_000, recvbuf_auto: 0 } });
    let t = 1;
    const parts: { n: number; eor: boolean; sid: number }[] = [];
    for (let i = 0; i < 40; i++) {
      p.data(t++, { ssn: 1, bytes: 1000, flags: i === 0 ? DATA_B : 0 });
      for (const m of drain(p.so).messages) parts.push({ n: m.data.length, eor: m.eor, sid: m.sid });
    }
    assert.ok(parts.length > 10);
    assert.ok(parts.every(x => !x.eor && x.sid === 0));
    // A message of another stream whose TSN is behind the last fragment.
    p.data(t + 1, { sid: 2, ssn: 0 });
    assert.equal(drain(p.so).messages.length, 0);
    p.data(t, { ssn: 1, bytes: 1000, flags: DATA_E });
    const rest = drain(p.so).messages;
    assert.deepEqual(
      rest.map(m => [m.sid, m.eor]),
      [
        [0, true],
        [2, true],
      ],
    );
    assert.equal(parts.reduce((x, y) => x + y.n, 0) + rest[0]!.data.length, 41_000);
    p.data(t + 2, { ssn: 2 });
    assert.equal(drain(p.so).messages.length, 1, 'the stream goes on');
  });

  test('so small that their overhead fills the window do not lock it up', () => {
    const p = settled({ tunables: { recvspace: 20_000, recvbuf_auto: 0 } });
    let read = 0;
    for (let i = 0; i < 300; i++) {
      p.data(1 + i, { ssn: 1, bytes: 20, flags: i === 0 ? DATA_B : i === 299 ? DATA_E : 0 });
      for (const m of drain(p.so).messages) read += m.data.length;
    }
    assert.equal(read, 6000);
    assert.equal(p.s.stats.sctps_datadropwindow, 0);
  });

  test('more than 4,096 of one message, in a large buffer', () => {
    const p = settled({ tunables: { recvspace: 4_000_000 }, pool: { small: 6000, cluster: 1024, jumbo: 8 } });
    let read = 0;
    for (let i = 0; i < 5000; i += 50) {
      p.inject(
        Array.from({ length: 50 }, (_, k) =>
          p.dataChunk(1 + i + k, { ssn: 1, bytes: 4, flags: i + k === 0 ? DATA_B : i + k === 4999 ? DATA_E : 0 }),
        ),
      );
      for (const m of drain(p.so).messages) read += m.data.length;
    }
    assert.equal(read, 20_000);
  });
});

describe('the window', () => {
  test('closes as the reader falls behind, counts small messages by what they cost, and drops only what is new', () => {
    const p = settled({ tunables: { recvspace: 10_000, recvbuf_auto: 0 } });
    const before = p.s.receiver.window(p.a);
    p.data(1, { bytes: 1000 });
    assert.equal(p.s.receiver.window(p.a), before - 1000 - 256);
    p.data(3, { bytes: 1000 });
    for (let t = 4; t < 20; t++) p.data(t, { bytes: 1000 });
    assert.ok(p.s.stats.sctps_datadropwindow > 0);
    const last = p.sacks().at(-1)!;
    assert.equal(last.arwnd, 0);
    p.data(2, { bytes: 1000 });
    assert.ok(p.sacks()[0]!.cum >= 3, 'a hole is filled even so');
  });

  test('opens for the reader: a SACK tells when it is worth it, not for a crumb', () => {
    const p = settled({ tunables: { recvspace: 10_000, recvbuf_auto: 0 } });
    for (let t = 1; t < 12; t++) p.data(t, { bytes: 1000 });
    p.run(300e6).take();
    const buf = new Uint8Array(4000);
    const one = () => p.so.recv(buf, 0, 4000, {} as never);
    one();
    assert.deepEqual(p.sacks(), [], 'below RFC 1122 silly window limits');
    one();
    one();
    one();
    const told = p.sacks();
    assert.equal(told.length, 1);
    assert.ok(told[0]!.arwnd >= 3000);
  });

  test('an empty mbuf pool closes it and tells so; the association lives on', () => {
    const p = settled();
    const pool = p.pair.a.pool;
    const taken: number[] = [];
    while (pool.freeClusters > 64) taken.push(pool.getCluster());
    while (pool.freeSmall > 64) taken.push(pool.getSmall());
    p.data(1, { bytes: 1000 });
    assert.equal(p.s.stats.sctps_datadropnobuf, 1);
    assert.deepEqual(
      p.sacks().map(x => [x.cum, x.arwnd]),
      [[0, 0]],
    );
    for (const m of taken) pool.freem(m);
    p.data(1, { bytes: 1000 });
    assert.equal(drain(p.so).messages.length, 1);
  });
});
