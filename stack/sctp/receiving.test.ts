/** Receiving by RFC 6458 §5.3, §6 and §8: next message, context, notifications in parts, partial delivery, interleaving. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EAGAIN, EINVAL, ENOENT } from '../kern/errno.js';
import { SOCK_SEQPACKET, SOCK_STREAM } from '../kern/protosw.js';
import { MSG_EOR, MSG_NOTIFICATION, MSG_PEEK, RecvInfo, type Socket } from '../kern/socket.js';
import * as api from './api.js';
import { drain } from './harness.js';
import { encodeNotification } from './notifications.js';
import * as f from './packets.fixture.js';

const L = 132;
const over = (w: f.WirePeer) => assert.equal(w.end(), 0);
const read = (so: Socket, n = 64, flags = 0) => {
  const info = new RecvInfo();
  const buf = new Uint8Array(n);
  return { n: so.recv(buf, 0, n, info, flags), info, buf };
};

describe('what comes with a message', () => {
  test('SCTP_RECVNXTINFO: what stands behind it', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted(['remote-error']);
    so.setsockopt(L, api.SCTP_RECVNXTINFO, 1);
    w.inject(f.data({ tsn: f.PEER_TSN, payload: new Uint8Array(5) }));
    w.inject(f.data({ tsn: f.PEER_TSN + 1, sid: 3, ppid: 9, flags: 7, payload: new Uint8Array(6) }));
    w.inject(f.error(f.param(1, [0, 1, 0, 0])));
    const assocId = w.associations[0]!.assocId;
    assert.deepEqual(read(so, 2).info.next, {
      sid: 3,
      ppid: 9,
      flags: api.SCTP_UNORDERED | api.SCTP_COMPLETE,
      length: 6,
      assocId,
    });
    assert.equal(read(so).info.next?.length, 6);
    assert.deepEqual(read(so).info.next, {
      sid: 0,
      ppid: 0,
      flags: api.SCTP_NOTIFICATION | api.SCTP_COMPLETE,
      length: 16 + 12,
      assocId,
    });
    assert.equal(read(so).info.next, undefined);
    so.setsockopt(L, api.SCTP_RECVNXTINFO, 0);
    w.inject(f.data({ tsn: f.PEER_TSN + 2, ssn: 1 }));
    w.inject(f.data({ tsn: f.PEER_TSN + 3, ssn: 2 }));
    assert.equal(read(so).info.next, undefined);
    over(w);
  });
  test('SCTP_CONTEXT, of the socket and of an association', () => {
    const w = new f.WirePeer();
    const so = w.listen(SOCK_SEQPACKET);
    so.setsockopt(L, api.SCTP_CONTEXT, { assocId: 0, value: 0xfffffff7 });
    w.dial();
    const id = w.associations[0]!.assocId;
    w.inject(f.data({ tsn: f.PEER_TSN }));
    so.setsockopt(L, api.SCTP_CONTEXT, { assocId: id, value: 8 });
    w.inject(f.data({ tsn: f.PEER_TSN + 1, ssn: 1 }));
    assert.deepEqual([read(so).info.context, read(so).info.context], [0xfffffff7, 8]);
    assert.deepEqual(so.getsockopt(L, api.SCTP_CONTEXT, id), { assocId: id, value: 8 });
    over(w);
  });
});

describe('notifications', () => {
  test('are read as bytes, in parts, MSG_EOR with the last; MSG_PEEK takes nothing', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted(['remote-error']);
    w.inject(f.error(f.param(1, [0, 1, 0, 0])));
    const id = w.associations[0]!.assocId;
    const data = Uint8Array.of(9, 0, 0, 12, 0, 1, 0, 8, 0, 1, 0, 0);
    const whole = encodeNotification({ type: 'remote-error', assocId: id, cause: 1, data } as never);
    assert.equal(read(so, 64, MSG_PEEK).n, whole.length);
    assert.deepEqual(read(so, 64, MSG_PEEK).buf.subarray(0, whole.length), whole);
    const parts: number[] = [];
    const flags: number[] = [];
    for (let i = 0; i < 3; i++) {
      const r = read(so, 10);
      parts.push(...r.buf.subarray(0, r.n));
      flags.push(r.info.msgFlags);
      assert.equal(r.info.notification?.type, 'remote-error');
      assert.deepEqual([r.info.flags, r.info.assocId, String(r.info.from!.addr)], [api.SCTP_NOTIFICATION, id, w.peer]);
    }
    assert.deepEqual(parts, [...whole]);
    assert.deepEqual(flags, [MSG_NOTIFICATION, MSG_NOTIFICATION, MSG_NOTIFICATION | MSG_EOR]);
    assert.equal(read(so).n, -EAGAIN);
    over(w);
  });
  test('assoc-change: features when up; the ABORT, its cause and what failed when lost', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted(['assoc-change', 'send-failed']);
    so.send(Uint8Array.of(1, 2, 3));
    w.settle();
    w.inject(f.abort(0, f.param(12, [0x62, 0x79, 0x65])));
    const notes = drain(so).notes as Extract<api.Notification, { type: 'assoc-change' }>[];
    const [up, failed, lost] = notes as [(typeof notes)[0], unknown, (typeof notes)[0]];
    assert.deepEqual([up.state, up.features, up.abort], ['comm-up', [api.SCTP_ASSOC_SUPPORTS_MULTIBUF], undefined]);
    assert.deepEqual([lost.state, lost.causeCode, lost.error], ['comm-lost', 12, 54]);
    assert.deepEqual([...lost.abort!], [6, 0, 0, 12, 0, 12, 0, 7, 0x62, 0x79, 0x65, 0]);
    const x = failed as Extract<api.Notification, { type: 'send-failed' }>;
    assert.deepEqual([x.sent, x.error, [...x.data], x.deprecated], [true, 12, [1, 2, 3], undefined]);
    over(w);
  });
  test('an ABORT of our own: its cause is in the notification too', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted(['assoc-change']);
    w.inject(f.data({ tsn: f.PEER_TSN, payload: new Uint8Array(0) }));
    const lost = drain(so).notes.at(-1) as Extract<api.Notification, { type: 'assoc-change' }>;
    assert.deepEqual([lost.state, lost.causeCode, lost.abort], ['comm-lost', 9, undefined]);
    over(w);
  });
  test('one remote-error for an ERROR chunk: the first cause, the whole chunk', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted(['remote-error']);
    w.inject(f.error(f.param(6, [0x7f, 0, 0, 4]), f.param(8, [1, 2, 3, 4])));
    const notes = drain(so).notes as Extract<api.Notification, { type: 'remote-error' }>[];
    assert.deepEqual(
      notes.map(n => [n.cause, n.data.length, n.data[0]]),
      [[6, 20, 9]],
    );
    over(w);
  });
  test('send-failed in its old form, only when that alone was asked for', () => {
    for (const [names, deprecated] of [
      [['send-failed-deprecated'], true],
      [['send-failed-deprecated', 'send-failed'], undefined],
    ] as const) {
      const w = new f.WirePeer();
      const [so] = w.accepted();
      for (const type of names) so.setsockopt(L, api.SCTP_EVENT, { type, on: true });
      so.send(Uint8Array.of(1));
      w.inject(f.abort());
      const r = read(so, 256);
      assert.equal((r.info.notification as { deprecated?: boolean }).deprecated, deprecated);
      assert.equal(r.buf[0], deprecated ? 4 : 14);
      over(w);
    }
  });
  test('sender-dry: at once for who subscribes while dry, else when all is acknowledged', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted();
    const on = (v: boolean) => so.setsockopt(L, api.SCTP_EVENT, { type: 'sender-dry', on: v });
    assert.equal(on(true), 0);
    assert.deepEqual(
      drain(so).notes.map(n => n.type),
      ['sender-dry'],
    );
    on(false);
    w.take();
    so.send(Uint8Array.of(1));
    w.settle();
    on(true);
    assert.deepEqual(drain(so).notes, []);
    w.inject(f.sack(w.take()[0]!.chunks[0]!.data!.tsn));
    assert.deepEqual(
      drain(so).notes.map(n => n.type),
      ['sender-dry'],
    );
    over(w);
  });
});

describe('SCTP_EVENT and SCTP_EVENTS: whom for', () => {
  const on = (so: Socket, type: string, assocId: number, v = true) =>
    so.setsockopt(L, api.SCTP_EVENT, { assocId, type, on: v });
  const is = (so: Socket, type: string, assocId: number) =>
    (so.getsockopt(L, api.SCTP_EVENT, { assocId, type }) as { on: boolean }).on;
  test('future, current, all, one association; each has what it began with', () => {
    const w = new f.WirePeer();
    const so = w.listen(SOCK_SEQPACKET);
    on(so, 'shutdown', api.SCTP_FUTURE_ASSOC);
    w.dial();
    const id = w.associations[0]!.assocId;
    assert.deepEqual([is(so, 'shutdown', 0), is(so, 'shutdown', id)], [true, true]);
    on(so, 'shutdown', 0, false);
    assert.deepEqual([is(so, 'shutdown', 0), is(so, 'shutdown', id)], [false, true]);
    on(so, 'remote-error', api.SCTP_CURRENT_ASSOC);
    assert.deepEqual([is(so, 'remote-error', 0), is(so, 'remote-error', id)], [false, true]);
    on(so, 'remote-error', api.SCTP_ALL_ASSOC, false);
    on(so, 'peer-addr-change', api.SCTP_ALL_ASSOC);
    assert.deepEqual(
      [is(so, 'remote-error', id), is(so, 'peer-addr-change', 0), is(so, 'peer-addr-change', id)],
      [false, true, true],
    );
    w.inject(f.error(f.param(1, [0, 1, 0, 0])));
    assert.deepEqual(drain(so).notes, []);
    on(so, 'remote-error', id);
    w.inject(f.error(f.param(1, [0, 1, 0, 0])));
    assert.equal(drain(so).notes.length, 1);
    for (const bad of ['x', -1]) assert.equal(on(so, 'shutdown', bad as number), -EINVAL);
    assert.equal(on(so, 'shutdown', id + 1), -ENOENT);
    for (const bad of [1, 2])
      assert.equal(so.getsockopt(L, api.SCTP_EVENT, { assocId: bad, type: 'shutdown' }), -EINVAL);
    assert.equal(on(so, 'sender-dry', 0), 0);
    for (const several of [1, 2]) assert.equal(on(so, 'sender-dry', several), -45);
    over(w);
  });
  test('the old form sets all at once, for the socket and its associations', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted(['assoc-change']);
    const events = { dataIo: true, shutdown: 1, sendFailure: true };
    assert.equal(so.setsockopt(L, api.SCTP_EVENTS, events), 0);
    assert.deepEqual(so.getsockopt(L, api.SCTP_EVENTS), {
      dataIo: true,
      association: false,
      address: false,
      sendFailure: true,
      peerError: false,
      shutdown: true,
      partialDelivery: false,
      adaptationLayer: false,
      authentication: false,
      senderDry: false,
      streamReset: false,
    });
    assert.equal(so.setsockopt(L, api.SCTP_EVENTS, { shutdown: 'yes' }), -EINVAL);
    assert.equal(so.setsockopt(L, api.SCTP_EVENTS, 7), -EINVAL);
    drain(so);
    so.setsockopt(L, api.SCTP_EVENTS, { senderDry: true });
    assert.ok(drain(so).notes.some(n => n.type === 'sender-dry'));
    over(w);
  });
});

describe('partial delivery (RFC 6458 §8.1.20, §8.1.21)', () => {
  /** A listener with two associations whose peers can send; small receive buffer. */
  function two(level: number, point?: number): [f.WirePeer, Socket, (who: number, d: f.DataFieldsOfTest) => void] {
    const w = new f.WirePeer();
    const so = w.listen(SOCK_SEQPACKET);
    assert.equal(so.setsockopt(L, api.SCTP_FRAGMENT_INTERLEAVE, level), 0);
    if (point !== undefined) assert.equal(so.setsockopt(L, api.SCTP_PARTIAL_DELIVERY_POINT, point), 0);
    w.dial();
    w.take();
    const tags = [w.tag];
    w.dial({ tag: 5 }, { src: 7001 });
    tags.push(w.tag);
    w.take();
    return [w, so, (who, d) => w.inject(f.data(d), { tag: tags[who]!, src: 7000 + who, dst: f.LOCAL_PORT })];
  }
  const got = (so: Socket) => drain(so).messages.map(m => [m.assocId, m.sid, m.data.length, m.eor]);
  const T = f.PEER_TSN;
  const part = (i: number, flags: number, n = 1000, over: object = {}): f.DataFieldsOfTest => ({
    tsn: T + i,
    flags,
    payload: new Uint8Array(n),
    ...over,
  });

  test('begins at the point, not before', () => {
    const [w, so, send] = two(1, 1500);
    assert.equal(so.getsockopt(L, api.SCTP_PARTIAL_DELIVERY_POINT), 1500);
    send(0, part(0, 2));
    assert.deepEqual(got(so), []);
    send(0, part(1, 0));
    assert.deepEqual(got(so), [[3, 0, 2000, false]]);
    send(0, part(2, 0, 10));
    assert.deepEqual(got(so), [[3, 0, 10, false]]);
    send(0, part(3, 1, 11));
    assert.deepEqual(got(so), [[3, 0, 11, true]]);
    assert.equal(so.setsockopt(L, api.SCTP_PARTIAL_DELIVERY_POINT, 0x7fffffff), -EINVAL);
    over(w);
  });
  test('level 0: nothing comes between, not of other associations either', () => {
    const [w, so, send] = two(0, 500);
    send(0, part(0, 2));
    assert.deepEqual(got(so), [[3, 0, 1000, false]]);
    send(1, part(0, 3, 5));
    send(1, part(1, 2, 1000, { ssn: 1 }));
    assert.deepEqual(got(so), []);
    send(0, part(1, 1, 7));
    assert.deepEqual(got(so), [
      [3, 0, 7, true],
      [4, 0, 5, true],
      [4, 0, 1000, false], // its turn: the point was reached while it waited
    ]);
    send(1, part(2, 1, 8, { ssn: 1 }));
    assert.deepEqual(got(so), [[4, 0, 8, true]]);
    over(w);
  });
  test('level 0: the association ends in the middle: the others go on', () => {
    const [w, so, send] = two(0, 500);
    so.setsockopt(L, api.SCTP_EVENT, { assocId: api.SCTP_CURRENT_ASSOC, type: 'partial-delivery', on: true });
    send(0, part(0, 2, 1000, { ssn: 0 }));
    send(1, part(0, 3, 5));
    w.inject(f.abort(), { tag: w.associations.length > 0 ? tagOf(w, 7000) : 0, src: 7000, dst: f.LOCAL_PORT });
    const r = drain(so);
    assert.deepEqual(
      r.messages.map(m => [m.assocId, m.data.length, m.eor]),
      [
        [3, 1000, true],
        [4, 5, true],
      ],
    );
    assert.deepEqual(
      r.notes.map(n => [n.type, (n as { sid?: number }).sid]),
      [['partial-delivery', 0]],
    );
    over(w);
  });
  const tagOf = (w: f.WirePeer, port: number) =>
    [...w.kext.sctp!.associations()].find(a => a.peerPort === port)!.myTag as number;
  test('level 1: other associations may, other streams must wait', () => {
    const [w, so, send] = two(1, 500);
    send(0, part(0, 2));
    send(0, part(2, 3, 9, { sid: 1 }));
    send(1, part(0, 3, 5));
    assert.deepEqual(got(so), [
      [3, 0, 1000, false],
      [4, 0, 5, true],
    ]);
    send(0, part(1, 1, 7));
    assert.deepEqual(got(so), [
      [3, 0, 7, true],
      [3, 1, 9, true],
    ]);
    over(w);
  });
  test('level 2: other streams may, the same one must wait', () => {
    const [w, so, send] = two(2, 500);
    send(0, part(0, 2));
    send(0, part(2, 3, 9, { sid: 1 }));
    send(0, part(3, 7, 10));
    send(0, part(4, 3, 11, { ssn: 1 }));
    assert.deepEqual(got(so), [
      [3, 0, 1000, false],
      [3, 1, 9, true],
    ]);
    send(0, part(1, 1, 7));
    assert.deepEqual(got(so), [
      [3, 0, 7, true],
      [3, 0, 10, true],
      [3, 0, 11, true],
    ]);
    over(w);
  });
  test('levels are 0, 1, 2; net.inet.sctp.default_frag_interleave is where a socket begins', () => {
    const w = new f.WirePeer({ tunables: { default_frag_interleave: 2 } });
    const so = w.socket(SOCK_STREAM);
    assert.equal(so.getsockopt(L, api.SCTP_FRAGMENT_INTERLEAVE), 2);
    for (const v of [3, -1, 'x', undefined]) assert.equal(so.setsockopt(L, api.SCTP_FRAGMENT_INTERLEAVE, v), -EINVAL);
    over(w);
  });
});

test('SCTP_I_WANT_MAPPED_V4_ADDR: IPv4 peers as IPv6 sees them, everywhere', () => {
  const w = new f.WirePeer({ family: 6, more: ['10.0.0.1/24'] });
  const so = w.socket(SOCK_SEQPACKET);
  const say = () => {
    const list = so.getsockopt(L, api.SCTP_GET_PEER_ADDRESSES, 3) as { addr: object }[];
    const info = (so.getsockopt(L, api.SCTP_STATUS, 3) as api.AssocStatus).primary!;
    return [String(list[0]!.addr), String(info.address.addr)];
  };
  assert.equal(so.setsockopt(L, api.SCTP_CONNECT_X, [w.at('10.0.0.2', 7)]), 3);
  assert.deepEqual(say(), ['10.0.0.2', '10.0.0.2']);
  assert.equal(so.setsockopt(L, api.SCTP_I_WANT_MAPPED_V4_ADDR, 1), 0);
  const mapped = say();
  assert.deepEqual(mapped, [mapped[0], mapped[0]]);
  assert.match(mapped[0]!, /^::ffff:/);
  over(w);
  const v = new f.WirePeer();
  assert.equal(v.socket().setsockopt(L, api.SCTP_I_WANT_MAPPED_V4_ADDR, 1), -EINVAL);
  assert.equal(v.socket().getsockopt(L, api.SCTP_I_WANT_MAPPED_V4_ADDR), -EINVAL);
  over(v);
});
