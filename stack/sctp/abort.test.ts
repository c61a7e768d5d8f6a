import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ECONNABORTED, ECONNREFUSED, ECONNRESET, EINVAL, EMSGSIZE, ETIMEDOUT } from '../kern/errno.js';
import { SOCK_SEQPACKET } from '../kern/protosw.js';
import type { Socket } from '../kern/socket.js';
import { SCTP_ABORT, SCTP_ABORT_ASSOC, SO_LINGER, SOL_SOCKET } from './api.js';
import { CAUSE_OUT_OF_RESOURCE, CAUSE_PROTOCOL_VIOLATION, CAUSE_USER_ABORT, T_BIT } from './constants.js';
import { ALL_EVENTS, drain, sendInfo } from './harness.js';
import * as f from './packets.fixture.js';

const over = (w: f.WirePeer) => assert.equal(w.end(), 0);
const text = (s: string) => new TextEncoder().encode(s);
const recvError = (so: Socket) => drain(so).end;
const lingerZero = (so: Socket) => so.setsockopt(SOL_SOCKET, SO_LINGER, { onoff: true, linger: 0 });

describe('received (§9.1): so_error, reason, notification, counters', () => {
  for (const [name, causes, words] of [
    ['without a cause', [], /ABORT without a cause/],
    ['user abort with a text', [f.param(CAUSE_USER_ABORT, text('lunch'))], /user initiated abort: lunch/],
    ['a text that is none', [f.param(CAUSE_USER_ABORT, [1, 2, 3])], /user initiated abort \(/],
    ['a code nobody knows', [f.param(0x4242, [])], /cause 16962/],
    ['a cause whose length is wrong', [f.param(CAUSE_PROTOCOL_VIOLATION, [65, 66], 400)], /protocol violation \(/],
  ] as const)
    test(name, () => {
      const w = new f.WirePeer();
      const [so] = w.accepted(ALL_EVENTS);
      so.send(new Uint8Array(10));
      w.settle();
      drain(so);
      w.take();
      w.inject(f.abort(0, ...causes));
      assert.deepEqual([so.error, w.state, w.names()], [ECONNRESET, '', []]);
      assert.match(so.errorReason, words);
      assert.match(so.errorReason, /\(RFC 9260 §9\.1\)$/);
      const { notes, end } = drain(so);
      assert.deepEqual(
        notes.map(n => n.type),
        ['send-failed', 'assoc-change'],
      );
      const [failed, lost] = notes;
      assert.ok(failed!.type === 'send-failed' && failed.sent && failed.data.length === 10);
      assert.ok(lost!.type === 'assoc-change' && lost.state === 'comm-lost' && words.test(`${lost.reason.text} (`));
      assert.equal(end, -ECONNRESET);
      assert.match(w.told('lost'), words);
      assert.deepEqual(w.counted('sctps_abortrecv', 'sctps_aborted', 'sctps_currestab'), [1, 1, 0]);
      over(w);
    });
  test('COOKIE-WAIT: ECONNREFUSED; COOKIE-ECHOED: ECONNRESET', () => {
    for (const echoed of [false, true]) {
      const w = new f.WirePeer();
      const [so] = echoed ? w.connected(ALL_EVENTS, {}, true) : w.connecting(ALL_EVENTS);
      w.inject(f.abort());
      assert.equal(so.error, echoed ? ECONNRESET : ECONNREFUSED);
      const n = drain(so).notes[0]!;
      assert.ok(n.type === 'assoc-change' && n.state === 'cant-start');
      over(w);
    }
  });
  test('COOKIE-WAIT: with T set no tag can fit, for the peer has not told one', () => {
    const w = new f.WirePeer();
    w.connecting();
    w.inject(f.abort(T_BIT), { tag: 0 });
    w.inject(f.abort(T_BIT));
    assert.deepEqual([w.state, w.counted('sctps_badvtag')], ['COOKIE_WAIT', [2]]);
    over(w);
  });
  test('before accept: the connection leaves the queue', () => {
    const w = new f.WirePeer();
    const l = w.listen();
    w.dial();
    w.inject(f.abort());
    assert.deepEqual([l.accept(), w.associations.length], [-35, 0]);
    over(w);
  });
  test('one-to-many: a notification, no so_error', () => {
    const w = new f.WirePeer();
    const l = w.listen(SOCK_SEQPACKET, ALL_EVENTS);
    w.dial();
    w.inject(f.abort());
    assert.equal(l.error, 0);
    assert.deepEqual(
      drain(l).notes.map(n => (n.type === 'assoc-change' ? n.state : n.type)),
      ['comm-up', 'comm-lost'],
    );
    over(w);
  });
});

describe('sent', () => {
  test('by the user, with a reason (§3.3.10.12)', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted(ALL_EVENTS);
    drain(so);
    assert.equal(so.setsockopt(132, SCTP_ABORT_ASSOC, { assocId: 0, reason: 'enough' }), 0);
    w.settle();
    const p = w.one('ABORT');
    const c = p.chunks[0]!;
    assert.deepEqual(
      [p.tag, c.flags, c.tlvs[0]!.type, c.tlvs[0]!.body],
      [f.PEER_TAG, 0, CAUSE_USER_ABORT, text('enough')],
    );
    assert.equal(so.error, ECONNABORTED);
    assert.match(so.errorReason, /user has aborted.*§9\.1/);
    assert.equal(w.counted('sctps_abortsent')[0], 1);
    over(w);
  });
  test('by send with SCTP_ABORT: established only, 1448 bytes of reason at most', () => {
    const w = new f.WirePeer();
    const [so] = w.connecting();
    const bye = (n: number) => so.send(new Uint8Array(n).fill(65), 0, n, sendInfo({ flags: SCTP_ABORT }));
    assert.equal(bye(1), -EINVAL);
    w.inject(f.initAck());
    assert.equal(bye(1), -EINVAL);
    w.inject(f.cookieAck());
    w.take();
    assert.equal(bye(1449), -EMSGSIZE);
    assert.equal(bye(1448), 1448);
    w.settle();
    assert.equal(w.one('ABORT').chunks[0]!.tlvs[0]!.body.length, 1448);
    over(w);
  });
  test('by close with SO_LINGER 0, or with data unread', () => {
    for (const unread of [false, true]) {
      const w = new f.WirePeer();
      const [so] = w.accepted();
      if (unread) w.inject(f.data({ tsn: f.PEER_TSN }));
      else lingerZero(so);
      w.take();
      so.close();
      w.settle();
      assert.equal(w.one('ABORT').chunks[0]!.tlvs[0]!.type, CAUSE_USER_ABORT);
      assert.match(w.told('lost'), unread ? /unread data/ : /user has aborted/);
      over(w);
    }
  });
  test("in COOKIE-WAIT: our own tag with the T bit, for the peer's is not known (facts 7.29)", () => {
    const w = new f.WirePeer();
    const [so, i] = w.connecting();
    so.send(new Uint8Array(4));
    lingerZero(so);
    so.close();
    w.settle();
    const p = w.one('ABORT');
    assert.deepEqual([p.tag, p.chunks[0]!.flags], [i.chunks[0]!.init!.tag, T_BIT]);
    over(w);
  });
  test('DATA for a closed socket: ABORT, out of resource (facts 7.29)', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted();
    so.close();
    w.settle();
    w.one('SHUTDOWN');
    w.inject(f.data({ tsn: f.PEER_TSN }));
    assert.equal(w.one('ABORT').chunks[0]!.tlvs[0]!.type, CAUSE_OUT_OF_RESOURCE);
    over(w);
  });
  test('the listener closes: who waits in its queue is told', () => {
    const w = new f.WirePeer();
    const l = w.listen();
    w.dial();
    w.one('COOKIE ACK');
    l.close();
    w.settle();
    w.one('ABORT');
    assert.match(w.told('lost'), /listener was closed/);
    over(w);
  });
  test('nobody answers data: ETIMEDOUT, and ABORT to the peer (§8.1)', () => {
    const w = new f.WirePeer({ tunables: { assoc_rtx_max: 2 } });
    const [so] = w.accepted();
    so.send(new Uint8Array(4));
    w.run(60 * f.SEC);
    assert.deepEqual([so.error, w.state, w.names().at(-1)], [ETIMEDOUT, '', 'ABORT']);
    assert.match(so.errorReason, /RFC 9260 §8\.1/);
    assert.equal(recvError(so), -ETIMEDOUT);
    over(w);
  });
});
