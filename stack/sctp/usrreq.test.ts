import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  EAGAIN,
  EALREADY,
  ECONNRESET,
  EHOSTUNREACH,
  EINPROGRESS,
  EINVAL,
  EISCONN,
  EMSGSIZE,
  ENOENT,
  ENOTCONN,
  EOPNOTSUPP,
  EPIPE,
} from '../kern/errno.js';
import { SOCK_SEQPACKET, SOCK_STREAM } from '../kern/protosw.js';
import {
  MSG_EOR,
  MSG_NOTIFICATION,
  MSG_PEEK,
  RecvInfo,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  type Socket,
} from '../kern/socket.js';
import { SCTP_ABORT, SCTP_DISABLE_FRAGMENTS, SCTP_EOF, SCTP_EVENT, SO_SNDBUF, SOL_SOCKET } from './api.js';
import { drain, sendInfo } from './harness.js';
import * as f from './packets.fixture.js';

const over = (w: f.WirePeer) => assert.equal(w.end(), 0);
const one = Uint8Array.of(1);

describe('bind', () => {
  test('wrong', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    for (const [addrs, e] of [
      [[], EINVAL],
      [[w.at('any', -1)], EINVAL],
      [[w.at('any', 65536)], EINVAL],
      [[w.at('any', 1.5)], EINVAL],
      [[w.at('any', Number.NaN)], EINVAL],
      [[w.at('10.0.0.1', 5), w.at('10.0.0.1', 6)], EINVAL],
      [[w.at('any', 5), w.at('10.0.0.1', 5)], EINVAL],
      [[w.at('10.9.9.9', 5)], EADDRNOTAVAIL],
      [[w.at('fd00::1', 5)], EAFNOSUPPORT],
    ] as const)
      assert.equal(so.bind(...addrs), -e);
    assert.equal(so.bind(w.at('10.0.0.1', 5)), 0);
    assert.equal(so.bind(w.at('10.0.0.1', 6)), -EINVAL);
    assert.equal(w.socket().bind(w.at('any', 5)), -EADDRINUSE);
    assert.equal(w.socket(SOCK_SEQPACKET).bind(w.at('10.0.0.1', 5)), -EADDRINUSE);
    assert.equal(w.socket().bind(w.at('127.0.0.1', 5)), 0);
    over(w);
  });
  test('port 0 gives a free one above 49151', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    assert.equal(so.bind(w.at('any', 0)), 0);
    const name = so.sockaddr();
    assert.ok(typeof name !== 'number' && name.port >= 49152);
    over(w);
  });
});

describe('listen, accept', () => {
  test('listen', () => {
    const w = new f.WirePeer();
    const [c] = w.connecting();
    assert.equal(c.listen(1), -EINVAL);
    w.inject(f.initAck());
    w.inject(f.cookieAck());
    assert.equal(c.listen(1), -EADDRINUSE);
    over(w);
    const v = new f.WirePeer();
    const [s, l] = v.accepted();
    assert.equal(s.listen(1), -EADDRINUSE);
    assert.equal(l.listen(7), 0);
    over(v);
  });
  test('accept', () => {
    const w = new f.WirePeer();
    assert.equal(w.socket().accept(), -EINVAL);
    assert.equal(w.socket(SOCK_SEQPACKET).accept(), -EOPNOTSUPP);
    assert.equal(w.listen().accept(), -EAGAIN);
    over(w);
  });
  for (const [style, type] of [
    ['one-to-many (RFC 6458 §3.1.3)', SOCK_SEQPACKET],
    ['one-to-one', SOCK_STREAM],
  ] as const)
    test(`listen(0) on ${style} turns it off`, () => {
      const w = new f.WirePeer();
      const l = w.listen(type);
      l.listen(0);
      w.inject(f.init(), { dst: f.LOCAL_PORT });
      w.one('ABORT');
      l.listen(1);
      w.inject(f.init(), { dst: f.LOCAL_PORT });
      w.one('INIT ACK');
      over(w);
    });
});

describe('connect', () => {
  test('wrong', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    for (const [addrs, e] of [
      [[], EINVAL],
      [[w.at(w.peer, 0)], EINVAL],
      [[w.at(w.peer, 70000)], EINVAL],
      [[w.at(w.peer, 7.5)], EINVAL],
      [[w.at(w.peer, 7), w.at('10.0.0.3', 8)], EINVAL],
      [[w.at('any', 7)], EINVAL],
      [[w.at('224.0.0.1', 7)], EINVAL],
      [[w.at('255.255.255.255', 7)], EINVAL],
      [[w.at('fd00::2', 7)], EAFNOSUPPORT],
    ] as const)
      assert.equal(so.connect(...addrs), -e);
    assert.deepEqual([w.names(), w.associations.length], [[], 0]);
    assert.equal(so.connect(w.at(w.peer, 7)), -EINPROGRESS);
    over(w);
  });
  test('no way there', () => {
    const w = new f.WirePeer();
    w.stack.interfaces.setUp(w.ifp, false);
    assert.equal(w.socket().connect(w.at('10.5.5.5', 7)), -EHOSTUNREACH);
    w.stack.interfaces.setUp(w.ifp, true);
    over(w);
  });
  test('twice: EALREADY, then EISCONN; one-to-many EALREADY; on a listener EOPNOTSUPP', () => {
    const w = new f.WirePeer();
    const [so] = w.connecting();
    assert.equal(so.connect(w.at(w.peer, f.PEER_PORT)), -EALREADY);
    w.inject(f.initAck());
    w.inject(f.cookieAck());
    assert.equal(so.connect(w.at(w.peer, f.PEER_PORT)), -EISCONN);
    assert.equal(w.listen().connect(w.at(w.peer, 1)), -EOPNOTSUPP);
    const many = w.socket(SOCK_SEQPACKET);
    assert.equal(many.connect(w.at(w.peer, 8)), -EINPROGRESS);
    assert.equal(many.connect(w.at(w.peer, 8)), -EALREADY);
    assert.equal(many.connect(w.at(w.peer, 9)), -EINPROGRESS);
    over(w);
  });
});

describe('send (facts part 2.4)', () => {
  const sendOn =
    (so: Socket) =>
    (n: number, info = {}, to?: ReturnType<f.WirePeer['at']>) =>
      so.send(new Uint8Array(n), 0, n, sendInfo(info), to);
  test('one-to-one', () => {
    const w = new f.WirePeer();
    assert.equal(w.socket().send(one), -ENOTCONN);
    assert.equal(w.listen().send(one), -EINVAL);
    const [so] = w.connected();
    const send = sendOn(so);
    assert.equal(send(0), -EINVAL);
    for (const sid of [10, 65536, -1, 0.5, Number.NaN]) assert.equal(send(1, { sid }), -EINVAL);
    assert.equal(send(1, { sid: 9 }), 1);
    so.setsockopt(SOL_SOCKET, SO_SNDBUF, 4096);
    assert.equal(send(4097), -EMSGSIZE);
    assert.equal(send(4095), 4095);
    assert.equal(send(1), -EAGAIN);
    assert.equal(so.writable, false);
    so.setsockopt(SOL_SOCKET, SO_SNDBUF, 100_000);
    so.setsockopt(132, SCTP_DISABLE_FRAGMENTS, true);
    assert.equal(send(1453), -EMSGSIZE);
    assert.equal(send(1452), 1452);
    so.shutdown(SHUT_WR);
    assert.equal(send(1), -EPIPE);
    w.inject(f.abort());
    assert.equal(send(1), -ECONNRESET);
    over(w);
  });
  test('one-to-many', () => {
    const w = new f.WirePeer();
    const so = w.socket(SOCK_SEQPACKET);
    const send = sendOn(so);
    const to = w.at(w.peer, f.PEER_PORT);
    assert.equal(send(1), -ENOTCONN);
    assert.equal(send(1, { assocId: 77 }), -ENOENT);
    assert.equal(send(1, { flags: SCTP_EOF }, to), -ENOENT);
    assert.equal(send(1, { flags: SCTP_ABORT }, to), -ENOENT);
    assert.equal(send(1, {}, w.at(w.peer, 0)), -EINVAL);
    assert.equal(send(1, {}, to), 1); // sets up on the way
    w.settle();
    w.one('INIT');
    w.inject(f.initAck());
    w.inject(f.cookieAck());
    const id = w.associations[0]!.assocId;
    assert.equal(send(1, { assocId: id }), 1);
    assert.equal(send(1, {}, to), 1);
    assert.equal(send(0, { flags: SCTP_EOF, assocId: id }), 0);
    assert.equal(send(1, { assocId: id }), -ECONNRESET);
    over(w);
  });
  test('on an IPv6 socket a v4-mapped address names the IPv4 peer', () => {
    const w = new f.WirePeer({ family: 6, more: ['10.0.0.1/24'] });
    const so = w.socket(SOCK_SEQPACKET);
    assert.equal(sendOn(so)(1, {}, w.at('::ffff:10.0.0.2', 7)), 1);
    assert.equal(sendOn(so)(1, {}, w.at('::ffff:10.0.0.2', 7)), 1);
    w.settle();
    assert.equal(w.one('INIT').to, '10.0.0.2');
    assert.equal(w.associations.length, 1);
    over(w);
  });
  test('ranges outside the buffer', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    for (const [off, len] of [
      [0, 2],
      [1, 1],
      [-1, 1],
      [0, -1],
      [0, 0.5],
      [Number.NaN, 1],
    ] as const) {
      assert.equal(so.send(one, off, len), -EINVAL);
      assert.equal(so.recv(new Uint8Array(1), off, len, new RecvInfo()), -EINVAL);
    }
    over(w);
  });
});

describe('recv', () => {
  test('in pieces, MSG_EOR on the last; MSG_PEEK takes nothing', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted();
    w.inject(f.data({ tsn: f.PEER_TSN, sid: 3, ppid: 0xfffffffe, payload: Uint8Array.of(1, 2, 3, 4, 5) }));
    const info = new RecvInfo();
    const buf = new Uint8Array(8);
    const recv = (n: number, flags = 0): [number, boolean, number] => {
      const r = so.recv(buf, 0, n, info, flags);
      return [r, (info.msgFlags & MSG_EOR) !== 0, buf[0]!];
    };
    assert.deepEqual(recv(8, MSG_PEEK), [5, true, 1]);
    assert.deepEqual(recv(3, MSG_PEEK), [3, false, 1]);
    assert.deepEqual(recv(3), [3, false, 1]);
    assert.deepEqual(recv(8), [2, true, 4]);
    assert.deepEqual([info.sid, info.ppid, info.tsn, info.from?.port], [3, 0xfffffffe, f.PEER_TSN, f.PEER_PORT]);
    assert.equal(recv(8)[0], -EAGAIN);
    over(w);
  });
  test('not connected: ENOTCONN; one-to-many: EAGAIN', () => {
    const w = new f.WirePeer();
    const info = new RecvInfo();
    assert.equal(w.socket().recv(one, 0, 1, info), -ENOTCONN);
    assert.equal(w.socket(SOCK_SEQPACKET).recv(one, 0, 1, info), -EAGAIN);
    over(w);
  });
  test('a restart in the middle of a message delivered in parts: its end is there, and told', () => {
    const w = new f.WirePeer();
    const l = w.listen(SOCK_STREAM, ['partial-delivery', 'assoc-change']);
    l.setsockopt(SOL_SOCKET, 0x1002, 4096);
    w.dial();
    const so = w.accept(l);
    for (let i = 0; i < 2; i++)
      w.inject(f.data({ tsn: f.PEER_TSN + i, flags: i === 0 ? 2 : 0, payload: new Uint8Array(1400) }));
    w.take();
    w.inject(f.init({ tag: 9 }));
    w.inject([f.cookieEcho(f.cookieOf(w.one('INIT ACK'))), f.data({ tsn: f.PEER_TSN })]);
    assert.equal(w.associations.length, 1);
    const got = drain(so);
    assert.deepEqual(
      got.messages.map(m => [m.data.length, m.eor]),
      [
        [2800, true],
        [4, true],
      ],
    );
    assert.ok(got.notes.some(n => n.type === 'partial-delivery'));
    over(w);
  });
  test('SHUT_RD in the middle of a message delivered in parts', () => {
    const w = new f.WirePeer();
    const l = w.listen();
    l.setsockopt(SOL_SOCKET, 0x1002, 4096);
    w.dial();
    const so = w.accept(l);
    for (let i = 0; i < 2; i++)
      w.inject(f.data({ tsn: f.PEER_TSN + i, flags: i === 0 ? 2 : 0, payload: new Uint8Array(1400) }));
    assert.equal(so.shutdown(SHUT_RD), 0);
    w.inject(f.data({ tsn: f.PEER_TSN + 2, flags: 1 }));
    assert.deepEqual(drain(so), { messages: [], notes: [], end: 0 });
    assert.equal(w.counted('sctps_datadropclosed')[0], 1);
    over(w);
  });
});

describe('shutdown, names, a closed socket', () => {
  test('shutdown', () => {
    const w = new f.WirePeer();
    assert.equal(w.socket().shutdown(SHUT_WR), -ENOTCONN);
    assert.equal(w.socket(SOCK_SEQPACKET).shutdown(SHUT_WR), -EOPNOTSUPP);
    const [so] = w.connected();
    assert.equal(so.shutdown(3), -EINVAL);
    assert.equal(so.shutdown(SHUT_RDWR), 0);
    over(w);
  });
  test('getpeername', () => {
    const w = new f.WirePeer();
    assert.equal(w.socket().peeraddr(), -ENOTCONN);
    const [so] = w.connected();
    const p = so.peeraddr();
    assert.ok(typeof p !== 'number' && p.addr.toString() === w.peer && p.port === f.PEER_PORT);
    over(w);
  });
  test('every call on a closed socket is EINVAL', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    so.close();
    assert.deepEqual(
      [so.close(), so.send(one), so.listen(1), so.connect(w.at(w.peer, 1)), so.accept()],
      Array(5).fill(-EINVAL),
    );
    over(w);
  });
});

test('notifications wait in a bounded queue; those dropped are counted', () => {
  const w = new f.WirePeer({ pool: { small: 4096, cluster: 512, jumbo: 4 } });
  const [so] = w.accepted();
  so.setsockopt(132, SCTP_EVENT, { assocId: 0, type: 'remote-error', on: true });
  for (let i = 0; i < 1100; i++) w.inject(f.error(f.param(1, [0, 0, 0, 0])));
  const n = drain(so).notes.length;
  assert.equal(n + w.counted('sctps_notedropped')[0]!, 1100);
  assert.ok(n >= 1000 && n < 1100, `${n}`);
  assert.equal(so.recv(one, 0, 1, new RecvInfo()), -EAGAIN);
  assert.equal(MSG_NOTIFICATION, 0x2000);
  over(w);
});
