import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ECONNABORTED, ECONNREFUSED, ETIMEDOUT } from '../kern/errno.js';
import { SOCK_SEQPACKET, SOCK_STREAM } from '../kern/protosw.js';
import { SHUT_WR, type Socket } from '../kern/socket.js';
import { type Notification, SCTP_ASSOCINFO } from './api.js';
import {
  CAUSE_COOKIE_IN_SHUTDOWN,
  CAUSE_INVALID_PARAM,
  CAUSE_MISSING_PARAM,
  CAUSE_OUT_OF_RESOURCE,
  CAUSE_RESTART_NEW_ADDR,
  CAUSE_STALE_COOKIE,
  PARAM_COOKIE_PRESERVATIVE,
  PARAM_STATE_COOKIE,
  PARAM_SUPPORTED_ADDR_TYPES,
  T_BIT,
} from './constants.js';
import { ALL_EVENTS, drain } from './harness.js';
import * as f from './packets.fixture.js';

const notes = (so: Socket) =>
  drain(so).notes.map((n: Notification) =>
    n.type === 'assoc-change' || n.type === 'peer-addr-change' ? n.state : n.type,
  );
const cookieParam = f.param(PARAM_STATE_COOKIE, f.COOKIE);
/** As `end`, for a test that has got this far. */
const over = (w: f.WirePeer) => assert.equal(w.end(), 0);

describe('set-up, arrow by arrow (§5.1)', () => {
  test('active: INIT, INIT ACK, COOKIE ECHO, COOKIE ACK', () => {
    const w = new f.WirePeer({ more: ['10.0.1.1/24'] });
    const [so, i] = w.connecting(ALL_EVENTS);
    assert.deepEqual([i.tag, i.dst, i.from, i.crcGood, w.state], [0, f.PEER_PORT, w.local, true, 'COOKIE_WAIT']);
    const c = i.chunks[0]!;
    assert.ok(c.init!.tag !== 0 && c.init!.rwnd >= 4096);
    assert.deepEqual([c.init!.os, c.init!.is], [10, 2048]);
    assert.deepEqual(
      c.tlvs.filter(t => t.type === 5).map(t => t.body.join('.')),
      ['10.0.0.1', '10.0.1.1'],
    );
    assert.deepEqual([...c.tlvs.find(t => t.type === PARAM_SUPPORTED_ADDR_TYPES)!.body], [0, 5]);
    w.inject(f.initAck({ is: 3 }));
    const echo = w.one('COOKIE ECHO');
    assert.deepEqual([echo.tag, echo.chunks[0]!.body, w.state], [f.PEER_TAG, f.COOKIE, 'COOKIE_ECHOED']);
    assert.equal(so.writable, false);
    w.inject(f.cookieAck());
    assert.deepEqual([w.names(), w.state, so.writable], [[], 'ESTABLISHED', true]);
    const up = drain(so).notes[0]!;
    assert.ok(up.type === 'assoc-change' && up.state === 'comm-up' && up.outStreams === 3 && up.inStreams === 10);
    assert.match(w.told('established'), /RFC 9260 §5\.1/);
    assert.deepEqual(w.counted('sctps_activeestab', 'sctps_passiveestab', 'sctps_currestab'), [1, 0, 1]);
    over(w);
  });
  test('passive: nothing is kept until the cookie comes back', () => {
    const w = new f.WirePeer();
    const l = w.listen(SOCK_STREAM, ALL_EVENTS);
    for (let i = 0; i < 50; i++) w.inject(f.init({ tag: i + 1 }), { dst: f.LOCAL_PORT });
    assert.equal(w.take().length, 50);
    assert.equal(w.associations.length, 0);
    const { initAck } = w.dial({ os: 7, is: 4 });
    assert.deepEqual([initAck.tag, initAck.chunks[0]!.init!.os], [f.PEER_TAG, 4]);
    assert.equal(w.one('COOKIE ACK').tag, f.PEER_TAG);
    const so = w.accept(l);
    assert.equal(w.state, 'ESTABLISHED');
    const up = drain(so).notes[0]!;
    assert.ok(up.type === 'assoc-change' && up.outStreams === 4 && up.inStreams === 7);
    assert.deepEqual(w.counted('sctps_activeestab', 'sctps_passiveestab', 'sctps_currestab'), [0, 1, 1]);
    so.close();
    l.close();
    over(w);
  });
  test('DATA with the COOKIE ECHO is taken, and goes with ours', () => {
    const w = new f.WirePeer();
    const l = w.listen();
    w.inject(f.init(), { dst: f.LOCAL_PORT });
    const cookie = f.cookieOf(w.one('INIT ACK'));
    w.inject([f.cookieEcho(cookie), f.data({ tsn: f.PEER_TSN })], { dst: f.LOCAL_PORT });
    assert.deepEqual(w.names(), ['COOKIE ACK+SACK']);
    const so = w.accept(l);
    assert.equal(drain(so).messages.length, 1);
    const v = new f.WirePeer();
    const [c] = v.connecting();
    c.send(Uint8Array.of(1));
    v.inject(f.initAck());
    assert.deepEqual(v.names(), ['COOKIE ECHO+DATA']);
    assert.equal(drain(so).messages.length, 0);
    so.close();
    l.close();
    over(w);
    over(v);
  });
  test('an empty cookie is a cookie', () => {
    const w = new f.WirePeer();
    w.connected([], { params: [f.param(PARAM_STATE_COOKIE)] });
    assert.equal(w.state, 'ESTABLISHED');
    over(w);
  });
  for (const implied of [f.sack(0), f.heartbeat()])
    test(`COOKIE ACK lost, ${implied[0] === 3 ? 'SACK' : 'HEARTBEAT'} comes: established`, () => {
      const w = new f.WirePeer();
      const [, i] = w.connected([], {}, true);
      w.take();
      w.inject(implied[0] === 3 ? f.sack(i.chunks[0]!.init!.tsn - 1) : implied);
      assert.equal(w.state, 'ESTABLISHED');
      over(w);
    });
});

describe('lost packets (§5.1.6)', () => {
  test('INIT again with back-off, the same tag and TSN; in the end ETIMEDOUT with the reason', () => {
    const w = new f.WirePeer();
    const [so, first] = w.connecting(ALL_EVENTS);
    const times = [first.at];
    for (let i = 0; i < 8; i++) {
      const [p] = w.wait();
      assert.deepEqual([p!.names, p!.chunks[0]!.init], ['INIT', first.chunks[0]!.init]);
      times.push(p!.at);
    }
    assert.deepEqual(
      times.slice(1).map((t, i) => (t - times[i]!) / f.SEC),
      [1, 2, 4, 8, 16, 32, 60, 60],
    );
    assert.deepEqual(w.wait(), []);
    assert.deepEqual([so.error, w.state], [ETIMEDOUT, '']);
    assert.match(so.errorReason, /no answer to INIT after 9 tries \(RFC 9260 §5\.1\.6\)/);
    assert.match(w.told('connect-failed'), /RFC 9260 §5\.1\.6/);
    assert.deepEqual(notes(so), ['cant-start']);
    assert.deepEqual(w.counted('sctps_timeoutinit', 'sctps_aborted', 'sctps_currestab'), [9, 1, 0]);
    over(w);
  });
  test('COOKIE ECHO again, and its data with it', () => {
    const w = new f.WirePeer();
    const [so] = w.connecting();
    so.send(Uint8Array.of(1));
    w.inject(f.initAck());
    const first = w.one('COOKIE ECHO+DATA');
    const [again] = w.wait();
    assert.deepEqual([again!.names, again!.at - first.at], ['COOKIE ECHO+DATA', f.SEC]);
    assert.deepEqual(again!.chunks[1]!.data, first.chunks[1]!.data);
    for (let i = 0; i < 20 && w.state !== ''; i++) w.wait();
    assert.equal(so.error, ETIMEDOUT);
    assert.match(so.errorReason, /no answer to COOKIE ECHO/);
    over(w);
  });
  test('INIT ACK lost: INIT comes twice, either cookie will do; COOKIE ACK lost: COOKIE ECHO comes twice', () => {
    const w = new f.WirePeer();
    const l = w.listen();
    w.inject(f.init(), { dst: f.LOCAL_PORT });
    w.take();
    const { cookie } = w.dial();
    w.one('COOKIE ACK');
    w.inject(f.cookieEcho(cookie));
    w.one('COOKIE ACK');
    assert.equal(w.associations.length, 1);
    assert.equal(w.counted('sctps_passiveestab')[0], 1);
    w.accept(l);
    assert.equal(l.accept(), -35);
    over(w);
  });
  test('T1 tries the addresses in turn', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    so.connect(w.at('10.0.0.2', 7000), w.at('10.0.0.3', 7000));
    const to = [w.wait(), w.wait(), w.wait()].map(x => x[0]!.to);
    assert.deepEqual(to, ['10.0.0.2', '10.0.0.3', '10.0.0.2']);
    // The INIT ACK from the second: that is where the cookie goes.
    w.inject(f.initAck(), { from: '10.0.0.3' });
    assert.equal(w.one('COOKIE ECHO').to, '10.0.0.3');
    over(w);
  });
  test('the INIT ACK may come from an address nobody has named', () => {
    const w = new f.WirePeer();
    w.connecting();
    w.inject(f.initAck(), { from: '10.0.0.77' });
    assert.equal(w.one('COOKIE ECHO').to, '10.0.0.77');
    w.inject(f.cookieAck(), { from: '10.0.0.77' });
    assert.equal(w.state, 'ESTABLISHED');
    over(w);
  });
});

describe('refused', () => {
  test('ABORT answers INIT: ECONNREFUSED, with the cause', () => {
    const w = new f.WirePeer();
    const [so] = w.connecting(ALL_EVENTS);
    w.inject(f.abort(0, f.param(CAUSE_OUT_OF_RESOURCE)));
    assert.deepEqual([so.error, w.state], [ECONNREFUSED, '']);
    assert.match(so.errorReason, /ABORT: out of resource \(RFC 9260 §5\.1\)/);
    assert.deepEqual(notes(so), ['cant-start']);
    over(w);
  });
  for (const [name, fields, cause, words] of [
    ['initiate tag 0', { tag: 0 }, CAUSE_INVALID_PARAM, /initiate tag 0.*§3\.3\.3/],
    ['no cookie', { params: [] }, CAUSE_MISSING_PARAM, /no state cookie.*§3\.3\.3/],
    ['no streams', { is: 0 }, CAUSE_INVALID_PARAM, /streams is 0.*§3\.3\.2/],
    ['a small window', { rwnd: 1000 }, CAUSE_INVALID_PARAM, /a_rwnd 1000/],
  ] as const)
    test(`a bad INIT ACK (${name}) is answered with ABORT, the user is told why`, () => {
      const w = new f.WirePeer();
      const [so, i] = w.connecting();
      w.inject(f.initAck(fields));
      const p = w.one('ABORT');
      const tag0 = 'tag' in fields;
      assert.deepEqual([p.tag, p.chunks[0]!.flags], tag0 ? [i.chunks[0]!.init!.tag, T_BIT] : [f.PEER_TAG, 0]);
      assert.equal(p.chunks[0]!.tlvs[0]!.type, cause);
      assert.equal(so.error, ECONNABORTED);
      assert.match(so.errorReason, words);
      over(w);
    });
  test('a bad INIT is answered with its tag and the cause, and told', () => {
    const w = new f.WirePeer();
    w.listen();
    w.inject(f.init({ is: 0, tag: 0x55 }), { dst: f.LOCAL_PORT });
    const p = w.one('ABORT');
    assert.deepEqual([p.tag, p.chunks[0]!.flags, p.chunks[0]!.tlvs[0]!.type], [0x55, 0, CAUSE_INVALID_PARAM]);
    assert.match(w.told('init-refused'), /streams is 0 \(RFC 9260 §3\.3\.2\)/);
    over(w);
  });
  test('an INIT ACK bundled with anything is dropped', () => {
    const w = new f.WirePeer();
    w.connecting();
    w.inject([f.initAck(), f.cookieAck()]);
    assert.deepEqual([w.state, w.counted('sctps_badinit')], ['COOKIE_WAIT', [1]]);
    over(w);
  });
  for (const limit of [0, 1] as const)
    test(`accept queue full, abort_at_limit ${limit}`, () => {
      const w = new f.WirePeer({ tunables: { abort_at_limit: limit } });
      const l = w.listen(SOCK_STREAM, [], 1);
      w.dial();
      w.one('COOKIE ACK');
      w.dial({ tag: 0x22 }, { src: 7001 });
      assert.deepEqual(w.names(), limit === 0 ? [] : ['ABORT']);
      assert.equal(w.counted('sctps_listenfull')[0], 1);
      assert.match(w.told('drop'), /accept queue full/);
      // Room again: the next cookie is taken.
      w.accept(l);
      w.dial({ tag: 0x23 }, { src: 7001 });
      w.one('COOKIE ACK');
      assert.equal(w.associations.length, 2);
      over(w);
    });
});

describe('cookies (§5.1.5, §5.2.6)', () => {
  const stale = (us: number) => f.error(f.param(CAUSE_STALE_COOKIE, f.u32(us)));
  test('forged, for other ports, with another tag: dropped without an answer', () => {
    const w = new f.WirePeer();
    w.listen();
    w.inject(f.init(), { dst: f.LOCAL_PORT });
    const cookie = f.cookieOf(w.one('INIT ACK'));
    const forged = cookie.slice();
    forged[50]! ^= 1;
    w.inject(f.cookieEcho(forged), { dst: f.LOCAL_PORT });
    w.inject(f.cookieEcho(cookie), { dst: f.LOCAL_PORT, src: 7001 });
    w.inject(f.cookieEcho(cookie), { dst: f.LOCAL_PORT, tag: 5 });
    assert.deepEqual([w.names(), w.counted('sctps_badcookie'), w.associations.length], [[], [3], 0]);
    assert.match(w.told('drop'), /§5\.1\.5/);
    over(w);
  });
  test('too old: ERROR with the staleness, to the tag in the cookie', () => {
    const w = new f.WirePeer();
    w.listen();
    w.inject(f.init(), { dst: f.LOCAL_PORT });
    const cookie = f.cookieOf(w.one('INIT ACK'));
    w.run(60 * f.SEC + 3 * f.MSEC);
    w.inject(f.cookieEcho(cookie), { dst: f.LOCAL_PORT });
    const p = w.one('ERROR');
    const t = p.chunks[0]!.tlvs[0]!;
    assert.deepEqual([p.tag, t.type, t.body], [f.PEER_TAG, CAUSE_STALE_COOKIE, f.u32(3000)]);
    assert.equal(w.associations.length, 0);
    over(w);
  });
  test('too old, but both tags are those of the association: good (§5.2.4)', () => {
    const w = new f.WirePeer();
    w.listen();
    const { cookie } = w.dial();
    w.one('COOKIE ACK');
    w.run(70 * f.SEC);
    w.take();
    w.inject(f.cookieEcho(cookie));
    assert.ok(w.names().includes('COOKIE ACK'));
    over(w);
  });
  test('a cookie whose association has ended is not good again', () => {
    const w = new f.WirePeer();
    w.listen();
    const { cookie } = w.dial();
    w.one('COOKIE ACK');
    w.inject(f.abort());
    w.inject(f.cookieEcho(cookie));
    assert.deepEqual([w.names(), w.associations.length, w.counted('sctps_discardcookie')], [[], 0, [1]]);
    over(w);
  });
  test('ours is too old: INIT again, asking for twice as much longer; data goes with the next COOKIE ECHO', () => {
    const w = new f.WirePeer();
    const [so, first] = w.connecting();
    so.send(Uint8Array.of(9));
    w.inject(f.initAck());
    w.one('COOKIE ECHO+DATA');
    w.inject(stale(1_500_000));
    const i = w.one('INIT').chunks[0]!;
    assert.deepEqual(i.init, first.chunks[0]!.init);
    assert.deepEqual(i.tlvs.find(t => t.type === PARAM_COOKIE_PRESERVATIVE)!.body, f.u32(3000));
    assert.match(w.told('stale-cookie'), /1500000 µs \(RFC 9260 §5\.2\.6\)/);
    w.inject(f.initAck({ params: [f.param(PARAM_STATE_COOKIE, [7, 7])] }));
    const p = w.one('COOKIE ECHO+DATA');
    assert.deepEqual(p.chunks[1]!.data!.tsn, first.chunks[0]!.init!.tsn);
    w.inject([f.cookieAck(), f.sack(p.chunks[1]!.data!.tsn)]);
    assert.equal(w.associations[0]!.unackdata, 0);
    over(w);
  });
  test('always too old: given up after Max.Init.Retransmits', () => {
    const w = new f.WirePeer();
    const [so] = w.connecting();
    let rounds = 0;
    for (; w.state !== '' && rounds < 20; rounds++) {
      w.inject(f.initAck());
      w.inject(stale(1));
    }
    assert.deepEqual([rounds, so.error], [9, ETIMEDOUT]);
    assert.match(so.errorReason, /stale/);
    over(w);
  });
  test('a stale cookie ERROR in any other state is nothing', () => {
    const w = new f.WirePeer();
    w.accepted();
    w.inject(stale(1));
    assert.deepEqual([w.state, w.counted('sctps_unexpected')], ['ESTABLISHED', [1]]);
    over(w);
  });
  test('SCTP_ASSOCINFO sets the life', () => {
    const w = new f.WirePeer();
    const l = w.listen();
    assert.equal(l.setsockopt(132, SCTP_ASSOCINFO, { assocId: 0, cookieLife: 1000 }), 0);
    w.inject(f.init(), { dst: f.LOCAL_PORT });
    const cookie = f.cookieOf(w.one('INIT ACK'));
    w.run(2 * f.SEC);
    w.inject(f.cookieEcho(cookie), { dst: f.LOCAL_PORT });
    w.one('ERROR');
    over(w);
  });
});

describe('collisions (§5.2.1, table 12 B and D)', () => {
  /** Both sides begin; the peer's INIT reaches us in COOKIE-ECHOED: our INIT and our INIT ACK. */
  const crossed = (tag: number): [f.WirePeer, Socket, f.WirePacket, f.WirePacket] => {
    const w = new f.WirePeer();
    const [so, i] = w.connected(ALL_EVENTS, {}, true);
    w.take();
    w.inject(f.init({ tag }));
    return [w, so, i, w.one('INIT ACK')];
  };
  test('INIT in COOKIE-WAIT: INIT ACK with the tag and TSN of our own INIT', () => {
    const w = new f.WirePeer();
    const [so, i] = w.connecting(ALL_EVENTS);
    w.inject(f.init({ tag: 0x33 }));
    const ack = w.one('INIT ACK');
    assert.deepEqual(ack.chunks[0]!.init!.tag, i.chunks[0]!.init!.tag);
    assert.deepEqual(ack.chunks[0]!.init!.tsn, i.chunks[0]!.init!.tsn);
    assert.deepEqual([ack.tag, w.state], [0x33, 'COOKIE_WAIT']);
    w.inject(f.cookieEcho(f.cookieOf(ack)));
    const p = w.one('COOKIE ACK');
    assert.deepEqual([p.tag, w.state, notes(so)], [0x33, 'ESTABLISHED', ['comm-up']]);
    assert.equal(w.counted('sctps_collisionestab')[0], 1);
    // The peer's INIT ACK to our INIT comes late: nothing (§5.2.3).
    w.inject(f.initAck({ tag: 0x44 }));
    assert.deepEqual([w.names(), w.state], [[], 'ESTABLISHED']);
    w.run(100 * f.SEC);
    assert.ok(!w.names().includes('INIT'), 'T1 has been stopped');
    over(w);
  });
  test('INIT in COOKIE-ECHOED with another tag (B): the cookie brings it', () => {
    const [w, so, i, ack] = crossed(0x33);
    assert.equal(ack.chunks[0]!.init!.tag, i.chunks[0]!.init!.tag);
    w.inject([f.cookieEcho(f.cookieOf(ack)), f.data({ tsn: f.PEER_TSN })]);
    const p = w.one('COOKIE ACK+SACK');
    assert.deepEqual([p.tag, w.state, notes(so)], [0x33, 'ESTABLISHED', ['comm-up']]);
    over(w);
  });
  test('data sent with our COOKIE ECHO goes again to the new tag (B)', () => {
    const w = new f.WirePeer();
    const [so] = w.connecting();
    so.send(Uint8Array.of(1));
    w.inject(f.initAck());
    const sent = w.one('COOKIE ECHO+DATA');
    w.inject(f.init({ tag: 0x33 }));
    w.inject(f.cookieEcho(f.cookieOf(w.one('INIT ACK'))));
    const p = w.one('COOKIE ACK+DATA');
    assert.deepEqual([p.tag, p.chunks[1]!.data], [0x33, sent.chunks[1]!.data]);
    over(w);
  });
  test('INIT in COOKIE-ECHOED with the same tag (D)', () => {
    const [w, so, , ack] = crossed(f.PEER_TAG);
    w.inject(f.cookieEcho(f.cookieOf(ack)));
    assert.deepEqual([w.one('COOKIE ACK').tag, w.state, notes(so)], [f.PEER_TAG, 'ESTABLISHED', ['comm-up']]);
    w.inject(f.cookieAck());
    assert.equal(w.counted('sctps_unexpected')[0], 1);
    over(w);
  });
  test('INIT in COOKIE-ECHOED from a new address: refused (§5.2.1)', () => {
    const w = new f.WirePeer();
    w.connected([], {}, true);
    w.take();
    w.inject(f.init({ params: [f.addressParam('10.0.9.9')] }));
    assert.equal(w.one('ABORT').chunks[0]!.tlvs[0]!.type, CAUSE_RESTART_NEW_ADDR);
    assert.equal(w.state, 'COOKIE_ECHOED');
    over(w);
  });
  test('an old cookie (C) is discarded', () => {
    const w = new f.WirePeer();
    w.listen();
    w.inject(f.init(), { dst: f.LOCAL_PORT });
    const old = w.one('INIT ACK');
    w.dial();
    w.one('COOKIE ACK');
    w.inject(f.cookieEcho(f.cookieOf(old)), { tag: old.chunks[0]!.init!.tag });
    assert.deepEqual([w.names(), w.state, w.counted('sctps_discardcookie')], [[], 'ESTABLISHED', [1]]);
    over(w);
  });
});

describe('restart (§5.2.2, table 12 A)', () => {
  /** Brings an accepted association into a state. */
  const into: Record<string, (w: f.WirePeer, so: Socket) => void> = {
    ESTABLISHED: () => {},
    SHUTDOWN_PENDING: (_w, so) => {
      so.send(new Uint8Array(10));
      so.shutdown(SHUT_WR);
    },
    SHUTDOWN_SENT: (_w, so) => so.shutdown(SHUT_WR),
    SHUTDOWN_RECEIVED: (w, so) => {
      so.send(new Uint8Array(10));
      w.settle();
      w.inject(f.shutdown(w.associations.length === 0 ? 0 : cumulative(w)));
    },
    SHUTDOWN_ACK_SENT: w => w.inject(f.shutdown(cumulative(w))),
  };
  /** The TSN before the first that the stack sends. */
  let ack0 = 0;
  const cumulative = (_w: f.WirePeer) => ack0;
  const prepared = (state: string): [f.WirePeer, Socket] => {
    const w = new f.WirePeer();
    const l = w.listen(SOCK_STREAM, ALL_EVENTS);
    const { initAck } = w.dial();
    ack0 = initAck.chunks[0]!.init!.tsn - 1;
    const so = w.accept(l);
    into[state]!(w, so);
    w.settle();
    assert.equal(w.state, state);
    w.take();
    drain(so);
    return [w, so];
  };

  for (const state of ['ESTABLISHED', 'SHUTDOWN_PENDING', 'SHUTDOWN_SENT', 'SHUTDOWN_RECEIVED'])
    test(`in ${state}: the socket survives, RESTART, what was queued is reported failed`, () => {
      const [w, so] = prepared(state);
      const closing = state === 'SHUTDOWN_PENDING' || state === 'SHUTDOWN_SENT';
      const oldTag = w.associations.length;
      w.inject(f.init({ tag: 0x99, tsn: 5_000_000 }));
      const ack = w.one('INIT ACK');
      assert.deepEqual([ack.tag, oldTag], [0x99, 1]);
      w.inject([f.cookieEcho(f.cookieOf(ack)), f.data({ tsn: 5_000_000 })]);
      const sent = w.take();
      assert.equal(sent[0]!.names.startsWith('COOKIE ACK'), true, sent.map(p => p.names).join());
      assert.equal(sent[0]!.tag, 0x99);
      assert.equal(w.state, closing ? 'SHUTDOWN_SENT' : 'ESTABLISHED'); // our user still wants the end
      const got = drain(so);
      assert.equal(got.messages.length, 1);
      const kinds = got.notes.map(n => (n.type === 'assoc-change' ? n.state : n.type));
      const queued = state === 'SHUTDOWN_PENDING' || state === 'SHUTDOWN_RECEIVED';
      assert.deepEqual(
        kinds.filter(k => k !== 'sender-dry'),
        [...(queued ? ['send-failed'] : []), 'restart'],
      );
      assert.match(w.told('restart'), /restarted the association \(RFC 9260 §5\.2\.4\.1\)/);
      assert.deepEqual(w.counted('sctps_restartestab', 'sctps_currestab'), [1, 1]);
      if (!closing) {
        // Everything begins anew: our first TSN is that of the INIT ACK.
        so.send(Uint8Array.of(4));
        w.settle();
        const d = w.one('DATA');
        assert.deepEqual([d.chunks[0]!.data!.tsn, d.chunks[0]!.data!.ssn, d.tag], [ack.chunks[0]!.init!.tsn, 0, 0x99]);
      }
      over(w);
    });
  test('in SHUTDOWN-ACK-SENT: INIT is answered with SHUTDOWN ACK (§9.2)', () => {
    const [w] = prepared('SHUTDOWN_ACK_SENT');
    w.inject(f.init({ tag: 0x99 }));
    assert.deepEqual([w.one('SHUTDOWN ACK').tag, w.state], [f.PEER_TAG, 'SHUTDOWN_ACK_SENT']);
    // The restarted peer is in COOKIE-WAIT and reflects the tag (§8.5.1 E).
    w.inject(f.shutdownComplete(T_BIT), { tag: f.PEER_TAG });
    assert.equal(w.state, '');
    over(w);
  });
  test('in SHUTDOWN-ACK-SENT: the cookie is answered with SHUTDOWN ACK, and an ERROR to its new tag', () => {
    const w = new f.WirePeer();
    const l = w.listen();
    const { initAck } = w.dial();
    w.take();
    w.inject(f.init({ tag: 0x99 }));
    const ack = w.one('INIT ACK');
    w.tag = initAck.chunks[0]!.init!.tag;
    w.inject(f.shutdown(initAck.chunks[0]!.init!.tsn - 1));
    w.one('SHUTDOWN ACK');
    w.inject(f.cookieEcho(f.cookieOf(ack)), { tag: ack.chunks[0]!.init!.tag });
    const [e, s] = w.take().sort((x, y) => (x.names < y.names ? -1 : 1));
    assert.deepEqual([e!.names, e!.tag, e!.chunks[0]!.tlvs[0]!.type], ['ERROR', 0x99, CAUSE_COOKIE_IN_SHUTDOWN]);
    assert.deepEqual([s!.names, s!.tag, w.state], ['SHUTDOWN ACK', f.PEER_TAG, 'SHUTDOWN_ACK_SENT']);
    w.accept(l);
    over(w);
  });
  for (const [name, params, from, cause] of [
    ['listed', [f.addressParam('10.0.9.9')], undefined, ['10.0.9.9']],
    ['as the source, while it lists the old one', [f.addressParam('10.0.0.2')], '10.0.0.55', ['10.0.0.55']],
  ] as const)
    test(`with a new address ${name}: refused, the address in the cause (§5.2.2)`, () => {
      const [w] = prepared('ESTABLISHED');
      w.inject(f.init({ tag: 0x99, params }), from === undefined ? {} : { from });
      const p = w.one('ABORT');
      assert.deepEqual([p.tag, p.chunks[0]!.flags, p.to], [0x99, 0, from ?? w.peer]);
      const c = p.chunks[0]!.tlvs[0]!;
      assert.equal(c.type, CAUSE_RESTART_NEW_ADDR);
      assert.deepEqual(c.body, f.join(cause.map(f.addressParam)));
      assert.deepEqual([w.state, w.counted('sctps_restartnewaddr')], ['ESTABLISHED', [1]]);
      assert.match(w.told('init-refused'), /new addresses \(RFC 9260 §5\.2\.2\)/);
      over(w);
    });
  test('addresses that were never taken (family, scope) are not new', () => {
    const w = new f.WirePeer();
    w.listen();
    const params = ['fd00::2', '127.0.0.5', '169.254.1.1', '10.0.0.2'].map(f.addressParam);
    w.dial({ params });
    w.one('COOKIE ACK');
    assert.deepEqual(
      w.associations[0]!.paths.map(p => p.address.addr.toString()),
      ['10.0.0.2'],
    );
    assert.equal(w.counted('sctps_addrdropped')[0], 1);
    w.inject(f.init({ tag: 0x99, params }));
    w.one('INIT ACK');
    over(w);
  });
  test('the cookie may come from another address of the peer', () => {
    const [w] = prepared('ESTABLISHED');
    w.inject(f.init({ tag: 0x99 }));
    const ack = w.one('INIT ACK');
    w.inject(f.cookieEcho(f.cookieOf(ack)), { from: '10.0.0.66' });
    assert.deepEqual([w.one('COOKIE ACK').tag, w.associations.length], [0x99, 1]);
    over(w);
  });
});

describe('addresses and associations (§5.1.2)', () => {
  test('an address of the INIT ACK belongs to another association: refused', () => {
    const w = new f.WirePeer();
    const so = w.socket(SOCK_SEQPACKET);
    const at = (a: string) => w.at(a, f.PEER_PORT);
    so.connect(at('10.0.0.2'));
    w.settle();
    w.inject(f.initAck());
    w.inject(f.cookieAck());
    w.take();
    so.connect(at('10.0.0.3'));
    w.settle();
    w.one('INIT');
    w.inject(f.initAck({ tag: 0x22, params: [cookieParam, f.addressParam('10.0.0.2')] }), { from: '10.0.0.3' });
    assert.deepEqual([w.one('ABORT').tag, w.counted('sctps_addrconflict'), w.associations.length], [0x22, [1], 1]);
    assert.match(w.told('connect-failed'), /belongs to another association/);
    over(w);
  });
  test('more addresses than max_held_addresses are not taken', () => {
    const w = new f.WirePeer({ tunables: { max_held_addresses: 3 } });
    w.listen();
    w.dial({ params: Array.from({ length: 9 }, (_, i) => f.addressParam(`10.0.0.${10 + i}`)) });
    assert.equal(w.associations[0]!.paths.length, 4); // and the source
    assert.equal(w.counted('sctps_addrdropped')[0], 1);
    over(w);
  });
  test('an INIT too large to put into a cookie is refused', () => {
    const w = new f.WirePeer();
    w.listen();
    const big = f.init({ params: [f.param(0x8123, new Uint8Array(60_000))] });
    w.inject(big, { dst: f.LOCAL_PORT });
    assert.equal(w.one('ABORT').chunks[0]!.tlvs[0]!.type, CAUSE_OUT_OF_RESOURCE);
    over(w);
  });
});

describe('SCTP in UDP (RFC 6951)', () => {
  const tunnel = { tunables: { udp_tunneling_port: 9899 } };
  const udp = () => {
    const w = new f.WirePeer(tunnel);
    w.udpSrc = 4000;
    w.udpDst = 9899;
    return w;
  };
  test('active and passive: ports as asked for, and as they came', () => {
    const w = udp();
    const [, i] = w.connecting();
    assert.deepEqual([i.udpSrc, i.udpDst], [9899, 4000]);
    w.inject(f.initAck());
    w.inject(f.cookieAck());
    assert.deepEqual([w.take()[0]!.udpDst, w.state], [4000, 'ESTABLISHED']);
    over(w);
    const v = udp();
    v.accepted();
    assert.equal(v.associations[0]!.paths[0]!.encapsPort, 4000);
    over(v);
  });
  test("the peer's port is learnt from packets with our tag only, and not from INITs", () => {
    const w = udp();
    w.accepted();
    const port = () => w.associations[0]!.paths[0]!.encapsPort;
    w.inject(f.heartbeat(), { udpSrc: 4001, tag: 1 });
    assert.equal(port(), 4000);
    w.inject(f.heartbeat(), { udpSrc: 4001 });
    assert.deepEqual([port(), w.take()[0]!.udpDst], [4001, 4001]);
    w.inject(f.init({ tag: 0x99 }), { udpSrc: 4002 });
    assert.deepEqual([port(), w.one('ABORT').udpDst], [4001, 4002]);
    assert.match(w.told('init-refused'), /encapsulation port \(RFC 6951/);
    over(w);
  });
  test('asked for while the tunnel is off: an error at once', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    so.setsockopt(132, 0x24, { assocId: 0, port: 9899 });
    assert.equal(so.connect(w.at(w.peer, 7000)), -65);
    assert.match(so.errorReason, /udp_tunneling_port is 0/);
    over(w);
  });
});
