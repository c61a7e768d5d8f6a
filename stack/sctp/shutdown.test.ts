import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EPIPE, ETIMEDOUT } from '../kern/errno.js';
import { SHUT_WR, type Socket } from '../kern/socket.js';
import { SCTP_RTOINFO } from './api.js';
import { CAUSE_PROTOCOL_VIOLATION, T_BIT } from './constants.js';
import { ALL_EVENTS, drain } from './harness.js';
import * as f from './packets.fixture.js';

const over = (w: f.WirePeer) => assert.equal(w.end(), 0);
const kinds = (so: Socket) => drain(so).notes.map(n => (n.type === 'assoc-change' ? n.state : n.type));

/** An accepted association, its socket, and the TSN before our first. */
function ready(tunables = {}): { w: f.WirePeer; so: Socket; acked: number } {
  const w = new f.WirePeer({ tunables });
  const l = w.listen(1, ALL_EVENTS);
  const { initAck } = w.dial();
  w.one('COOKIE ACK');
  const so = w.accept(l);
  drain(so);
  return { w, so, acked: initAck.chunks[0]!.init!.tsn - 1 };
}

describe('we begin (§9.2)', () => {
  test('SHUTDOWN, SHUTDOWN ACK, SHUTDOWN COMPLETE', () => {
    const { w, so } = ready();
    w.inject(f.data({ tsn: f.PEER_TSN }));
    drain(so);
    w.take();
    so.shutdown(SHUT_WR);
    w.settle();
    const s = w.one('SHUTDOWN');
    assert.deepEqual([s.chunks[0]!.tsn, s.tag, w.state], [f.PEER_TSN, f.PEER_TAG, 'SHUTDOWN_SENT']);
    assert.equal(so.send(Uint8Array.of(1)), -EPIPE);
    w.inject(f.shutdownAck());
    const c = w.one('SHUTDOWN COMPLETE');
    assert.deepEqual([c.tag, c.chunks[0]!.flags, w.state], [f.PEER_TAG, 0, '']);
    assert.deepEqual([kinds(so), drain(so).end, so.error], [['shutdown-comp'], 0, 0]);
    assert.match(w.told('closed'), /both sides have shut down \(RFC 9260 §9\.2\)/);
    assert.deepEqual(w.counted('sctps_shutdown', 'sctps_aborted', 'sctps_currestab'), [1, 0, 0]);
    over(w);
  });
  test('SHUTDOWN waits until all data is acknowledged; its last DATA has the I bit', () => {
    const { w, so, acked } = ready();
    so.send(new Uint8Array(10));
    so.send(new Uint8Array(10));
    so.shutdown(SHUT_WR);
    w.settle();
    const d = w.take().flatMap(p => p.chunks);
    assert.deepEqual(
      d.map(c => [c.name, c.flags & 8]),
      [
        ['DATA', 0],
        ['DATA', 8],
      ],
    );
    assert.equal(w.state, 'SHUTDOWN_PENDING');
    w.inject(f.sack(acked + 1));
    assert.deepEqual([w.names(), w.state], [[], 'SHUTDOWN_PENDING']);
    w.inject(f.sack(acked + 2));
    assert.deepEqual([w.names(), w.state], [['SHUTDOWN'], 'SHUTDOWN_SENT']);
    over(w);
  });
  test('DATA after our SHUTDOWN is taken, and answered with SHUTDOWN again; with SACK where there is a gap', () => {
    const { w, so } = ready();
    so.shutdown(SHUT_WR);
    w.settle();
    w.one('SHUTDOWN');
    w.inject(f.data({ tsn: f.PEER_TSN }));
    assert.equal(w.one('SHUTDOWN').chunks[0]!.tsn, f.PEER_TSN);
    w.inject(f.data({ tsn: f.PEER_TSN + 2, ssn: 2 }));
    assert.deepEqual(w.one('SHUTDOWN+SACK').chunks[1]!.sack!.gaps, [[2, 2]]);
    assert.equal(drain(so).messages.length, 1);
    over(w);
  });
  test('SHUTDOWN lost: again with back-off (T2), up to Association.Max.Retrans; then ABORT and ETIMEDOUT', () => {
    const { w, so } = ready();
    so.shutdown(SHUT_WR);
    w.settle();
    let last = w.one('SHUTDOWN').at;
    const gaps: number[] = [];
    let end = '';
    for (let i = 0; i < 40 && end === ''; i++) {
      for (const p of w.wait(400 * f.SEC)) {
        if (p.names === 'ABORT') end = p.names;
        if (p.names !== 'SHUTDOWN') continue;
        gaps.push((p.at - last) / f.SEC);
        last = p.at;
      }
    }
    assert.deepEqual(gaps.slice(0, 5), [1, 2, 4, 8, 16]);
    assert.deepEqual([end, so.error, w.state], ['ABORT', ETIMEDOUT, '']);
    assert.match(so.errorReason, /RFC 9260 §(8\.1|9\.2)/);
    over(w);
  });
  test('T5: a shutdown that goes on for too long ends with ABORT, whatever the peer does', () => {
    const { w, so } = ready({ shutdown_guard_time: 7 });
    so.shutdown(SHUT_WR);
    const began = w.clock.now;
    for (let i = 0; i < 20 && w.state !== ''; i++) {
      w.run(f.SEC / 2);
      w.inject(f.heartbeat()); // it lives, but does not shut down
    }
    const a = w.take().find(p => p.names === 'ABORT');
    assert.equal((a!.at - began) / f.SEC, 7);
    assert.equal(so.error, ETIMEDOUT);
    assert.match(so.errorReason, /T5.*RFC 9260 §9\.2/);
    assert.equal(w.counted('sctps_timeoutguard')[0], 1);
    over(w);
  });
  test('T5 guards a close too that was called while connecting', () => {
    const w = new f.WirePeer({ tunables: { shutdown_guard_time: 7 } });
    const [so] = w.connecting();
    so.send(new Uint8Array(5));
    so.close();
    w.inject(f.initAck());
    w.inject(f.cookieAck());
    assert.equal(w.state, 'SHUTDOWN_PENDING');
    w.run(8 * f.SEC);
    assert.equal(w.state, '');
    over(w);
  });
});

describe('the peer begins', () => {
  test('SHUTDOWN, SHUTDOWN ACK, SHUTDOWN COMPLETE', () => {
    const { w, so, acked } = ready();
    w.inject(f.shutdown(acked));
    const p = w.one('SHUTDOWN ACK');
    assert.deepEqual([p.tag, w.state], [f.PEER_TAG, 'SHUTDOWN_ACK_SENT']);
    assert.deepEqual(kinds(so), ['shutdown']);
    assert.match(w.told('shutdown-received'), /§9\.2/);
    assert.deepEqual([so.readable, so.send(Uint8Array.of(1))], [true, -EPIPE]);
    w.inject(f.shutdownComplete());
    assert.deepEqual([w.names(), w.state, kinds(so), so.error], [[], '', ['shutdown-comp'], 0]);
    over(w);
  });
  test('what we have queued goes first; SHUTDOWN acknowledges like a SACK', () => {
    const { w, so, acked } = ready();
    for (let i = 0; i < 3; i++) so.send(new Uint8Array(10));
    w.settle();
    w.take();
    w.inject(f.shutdown(acked + 1));
    assert.deepEqual([w.names(), w.state, w.associations[0]!.unackdata], [[], 'SHUTDOWN_RECEIVED', 2]);
    w.inject(f.shutdown(acked + 3));
    assert.deepEqual([w.names(), w.state], [['SHUTDOWN ACK'], 'SHUTDOWN_ACK_SENT']);
    over(w);
  });
  test('SHUTDOWN ACK lost: again at T2, and at once when SHUTDOWN comes again', () => {
    const { w, acked } = ready();
    w.inject(f.shutdown(acked));
    const first = w.one('SHUTDOWN ACK');
    w.inject(f.shutdown(acked));
    w.one('SHUTDOWN ACK');
    const [p] = w.wait();
    assert.deepEqual([p!.names, (p!.at - first.at) / f.SEC], ['SHUTDOWN ACK', 1]);
    over(w);
  });
  test('SHUTDOWN COMPLETE lost: the peer is gone and answers out of the blue, with the T bit', () => {
    const { w, acked } = ready();
    w.inject(f.shutdown(acked));
    w.take();
    w.wait();
    w.inject(f.shutdownComplete(T_BIT), { tag: f.PEER_TAG });
    assert.equal(w.state, '');
    over(w);
  });
  test('DATA after its SHUTDOWN is dropped', () => {
    const { w, so, acked } = ready();
    so.send(new Uint8Array(10));
    w.settle();
    w.inject(f.shutdown(acked));
    w.take();
    w.inject(f.data({ tsn: f.PEER_TSN }));
    assert.deepEqual([w.names(), w.counted('sctps_datadropstate')], [[], [1]]);
    w.inject(f.shutdown(acked + 1));
    w.one('SHUTDOWN ACK');
    w.inject(f.data({ tsn: f.PEER_TSN }));
    assert.deepEqual([w.names(), w.counted('sctps_datadropstate')], [[], [2]]);
    over(w);
  });
  for (const [name, chunks] of [
    ['a TSN is missing', [f.data({ tsn: f.PEER_TSN + 1 })]],
    ['a message is not complete', [f.data({ tsn: f.PEER_TSN, flags: 2 })]],
    ['a message waits for its turn', [f.data({ tsn: f.PEER_TSN, ssn: 1 })]],
  ] as const)
    test(`SHUTDOWN although ${name}: ABORT`, () => {
      const { w, acked } = ready();
      w.inject(chunks);
      w.take();
      w.inject(f.shutdown(acked));
      assert.equal(w.one('ABORT').chunks[0]!.tlvs[0]!.type, CAUSE_PROTOCOL_VIOLATION);
      assert.match(w.told('lost'), /missing here \(RFC 9260 §9\.2\)/);
      over(w);
    });
  test('SHUTDOWN that acknowledges what was never sent: ABORT', () => {
    const { w, so, acked } = ready();
    w.inject(f.shutdown(acked + 1));
    w.one('ABORT');
    assert.match(so.errorReason, /never sent/);
    over(w);
  });
  test('a SHUTDOWN of another length than 8', () => {
    const { w } = ready();
    w.inject(f.chunk(7));
    assert.deepEqual([w.state, w.counted('sctps_badchunklen')], ['ESTABLISHED', [1]]);
    over(w);
  });
});

test('both at once: SHUTDOWN crosses SHUTDOWN, both send SHUTDOWN ACK', () => {
  const { w, so, acked } = ready();
  so.shutdown(SHUT_WR);
  w.settle();
  w.one('SHUTDOWN');
  w.inject(f.shutdown(acked));
  assert.deepEqual([w.names(), w.state], [['SHUTDOWN ACK'], 'SHUTDOWN_ACK_SENT']);
  w.inject(f.shutdownAck());
  assert.deepEqual([w.names(), w.state], [['SHUTDOWN COMPLETE'], '']);
  over(w);
});

describe('in every other state', () => {
  for (const [state, bring] of [
    ['COOKIE_WAIT', (w: f.WirePeer) => void w.connecting()],
    ['COOKIE_ECHOED', (w: f.WirePeer) => void w.connected([], {}, true)],
    ['ESTABLISHED', (w: f.WirePeer) => void w.accepted()],
  ] as const)
    test(`SHUTDOWN (${state === 'ESTABLISHED' ? 'not' : 'ignored'}) and SHUTDOWN COMPLETE in ${state}`, () => {
      const w = new f.WirePeer();
      bring(w);
      w.take();
      w.inject(f.shutdownComplete());
      if (state !== 'ESTABLISHED') w.inject(f.shutdown(1));
      assert.deepEqual([w.names(), w.state], [[], state]);
      assert.equal(w.counted('sctps_unexpected')[0], state === 'ESTABLISHED' ? 1 : 2);
      over(w);
    });
});

test('closing while connecting: nothing more is sent; with data queued the set-up goes on, then data, then the end', () => {
  const w = new f.WirePeer();
  const [so] = w.connecting();
  so.close();
  assert.deepEqual([w.names(), w.associations.length], [[], 0]);
  const [so2, i] = w.connecting();
  so2.setsockopt(132, SCTP_RTOINFO, { assocId: 0, initial: 100, min: 100, max: 100 });
  so2.send(new Uint8Array(5));
  so2.close();
  w.inject(f.initAck());
  w.one('COOKIE ECHO+DATA');
  w.inject([f.cookieAck(), f.sack(i.chunks[0]!.init!.tsn)]);
  w.one('SHUTDOWN');
  w.inject(f.shutdownAck());
  w.one('SHUTDOWN COMPLETE');
  over(w);
});
