/** The functions of RFC 6458 §9: bindx, connectx, peeloff, lists of addresses, sendv, recvv and the deprecated ones. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  EADDRINUSE,
  EADDRNOTAVAIL,
  EALREADY,
  EFAULT,
  EINVAL,
  EISCONN,
  ENOENT,
  EOPNOTSUPP,
  EPERM,
} from '../kern/errno.js';
import { SOCK_SEQPACKET, SOCK_STREAM } from '../kern/protosw.js';
import { RecvInfo, Socket } from '../kern/socket.js';
import { AF_INET, AF_INET6 } from '../netinet/in.js';
import * as api from './api.js';
import { at, drain, SctpPair, sendInfo } from './harness.js';
import { checkInvariants } from './invariants.js';
import * as lib from './library.js';
import * as f from './packets.fixture.js';

const L = 132;
const over = (w: f.WirePeer) => assert.equal(w.end(), 0);
const one = Uint8Array.of(1);
const text = (list: unknown) => (list as { addr: object; port: number }[]).map(a => `${a.addr}:${a.port}`);

describe('sctp_bindx', () => {
  test('binds, adds, removes; errors; what came before an error stays', () => {
    const w = new f.WirePeer({ more: ['10.0.1.1/24', '10.0.2.1/24'] });
    const so = w.socket();
    const A = api.SCTP_BINDX_ADD_ADDR;
    assert.equal(lib.sctp_bindx(so, [w.at('10.0.0.1', 9)], 1), -EFAULT);
    assert.equal(lib.sctp_bindx(so, [], A), -EINVAL);
    assert.equal(lib.sctp_bindx(so, [w.at('10.0.0.1', 9), w.at('10.0.1.1', 8)], A), -EINVAL);
    assert.deepEqual(lib.sctp_getladdrs(so, 0), []);
    assert.equal(
      lib.sctp_bindx(so, [w.at('10.0.0.1', 9), w.at('10.0.1.1', 0), w.at('10.9.9.9', 0)], A),
      -EADDRNOTAVAIL,
    );
    assert.deepEqual(text(lib.sctp_getladdrs(so, 0)), ['10.0.0.1:9', '10.0.1.1:9']);
    assert.equal(lib.sctp_bindx(so, [w.at('10.0.0.1', 9)], api.SCTP_BINDX_REM_ADDR), 0);
    assert.deepEqual(text(lib.sctp_getladdrs(so, 0)), ['10.0.1.1:9']);
    assert.equal(lib.sctp_bindx(so, [w.at('10.0.1.1', 9)], api.SCTP_BINDX_REM_ADDR), -EINVAL, 'the last one');
    const any = w.socket();
    assert.equal(lib.sctp_bindx(any, [w.at('10.0.1.1', 0), w.at('10.0.2.1', 0)], A), 0);
    const ports = (lib.sctp_getladdrs(any, 0) as { port: number }[]).map(a => a.port);
    assert.ok(ports.length === 2 && ports[0] === ports[1] && ports[0]! >= 49152);
    over(w);
  });
  test('bound to the wildcard, getladdrs gives all of ours', () => {
    const w = new f.WirePeer({ more: ['10.0.1.1/24'] });
    const so = w.listen();
    assert.deepEqual(
      text(lib.sctp_getladdrs(so, 0)).filter(a => a.startsWith('10.')),
      ['10.0.0.1:5000', '10.0.1.1:5000'],
    );
    assert.equal(so.getsockopt(L, api.SCTP_GET_LOCAL_ADDR_SIZE, 0), (lib.sctp_getladdrs(so, 0) as []).length * 16);
    over(w);
  });
});

describe('sctp_connectx', () => {
  test('an id, all addresses; wrong ones', () => {
    const w = new f.WirePeer();
    const so = w.socket(SOCK_SEQPACKET);
    const id = lib.sctp_connectx(so, [w.at(w.peer, 7), w.at('10.0.0.9', 7)]);
    assert.equal(id, 3);
    w.settle();
    w.one('INIT');
    assert.deepEqual(text(lib.sctp_getpaddrs(so, id)), [`${w.peer}:7`, '10.0.0.9:7']);
    assert.equal(lib.sctp_getassocid(so, w.at('10.0.0.9', 7)), id);
    assert.equal(lib.sctp_getassocid(so, w.at('10.0.0.9', 8)), 0);
    assert.equal(lib.sctp_connectx(so, [w.at('10.0.0.9', 7)]), -EALREADY);
    assert.equal(lib.sctp_connectx(so, []), -EINVAL);
    assert.equal(lib.sctp_connectx(so, [w.at(w.peer, 7), w.at('10.0.0.9', 8)]), -EINVAL);
    assert.equal(so.setsockopt(L, api.SCTP_CONNECT_X, [{}]), -EINVAL);
    assert.equal(lib.sctp_getpaddrs(so, id + 1), -ENOENT);
    over(w);
  });
  test('one-to-one: EALREADY, then EISCONN', () => {
    const w = new f.WirePeer();
    const [so] = w.connecting();
    assert.equal(lib.sctp_connectx(so, [w.at(w.peer, 9)]), -EALREADY);
    w.inject(f.initAck());
    w.inject(f.cookieAck());
    assert.equal(lib.sctp_connectx(so, [w.at(w.peer, 9)]), -EISCONN);
    over(w);
  });
  test('delayed: the INIT waits for SCTP_CONNECT_X_COMPLETE, or RTO.Initial', () => {
    const w = new f.WirePeer();
    const so = w.socket(SOCK_SEQPACKET);
    const complete = (port: number) => so.setsockopt(L, api.SCTP_CONNECT_X_COMPLETE, w.at(w.peer, port));
    assert.equal(complete(7), -ENOENT);
    assert.equal(so.setsockopt(L, api.SCTP_CONNECT_X_COMPLETE, 7), -EINVAL);
    for (const port of [7, 8]) assert.ok(so.setsockopt(L, api.SCTP_CONNECT_X_DELAYED, [w.at(w.peer, port)]) > 0);
    w.settle();
    assert.deepEqual(w.names(), []);
    assert.equal(complete(7), 0);
    w.settle();
    w.one('INIT');
    assert.equal(complete(7), -EALREADY);
    w.run(0.9 * f.SEC);
    assert.deepEqual(w.names(), []);
    w.run(0.2 * f.SEC);
    assert.ok(w.take().some(p => p.dst === 8 && p.names === 'INIT'));
    assert.equal((so.getsockopt(L, api.SCTP_TIMEOUTS, 4) as api.Timeouts).init, 0);
    over(w);
  });
  test('sctp_sendx: the message goes behind the set-up', () => {
    const w = new f.WirePeer();
    const so = w.socket(SOCK_SEQPACKET);
    const to = [w.at(w.peer, f.PEER_PORT), w.at('10.0.0.9', f.PEER_PORT)];
    assert.equal(lib.sctp_sendx(so, one, to, sendInfo({ sid: 2 })), 1);
    w.settle();
    w.one('INIT');
    w.inject(f.initAck());
    const p = w.one('COOKIE ECHO+DATA');
    assert.equal(p.chunks[1]!.data!.sid, 2);
    assert.equal(lib.sctp_sendx(so, one, to, sendInfo()), 1);
    assert.equal(lib.sctp_sendx(so, one, [], sendInfo()), -EINVAL);
    assert.equal(w.associations.length, 1);
    over(w);
  });
});

describe('sctp_peeloff', () => {
  test('an association becomes a socket of its own, with what waits to be read', () => {
    const p = new SctpPair();
    const l = p.socket('b', SOCK_SEQPACKET, ['assoc-change', 'shutdown']);
    l.bind(at('0.0.0.0', 5000));
    l.listen(1);
    const clients = [1, 2].map(() => p.socket('a'));
    for (const c of clients) c.connect(at(p.addr('b'), 5000));
    p.net.run(1e9);
    for (const [i, c] of clients.entries()) {
      c.send(new Uint8Array(100).fill(i));
      c.send(new Uint8Array(200).fill(i));
    }
    p.net.run(1e9);
    const [x, y] = l.getsockopt(L, api.SCTP_GET_ASSOC_ID_LIST) as number[];
    const so = lib.sctp_peeloff(l, y!) as Socket;
    assert.ok(so instanceof Socket);
    checkInvariants(p.kexts[1].sctp!);
    const mine = drain(so);
    assert.deepEqual(
      mine.messages.map(m => [m.assocId, m.data.length]),
      [
        [y, 100],
        [y, 200],
      ],
    );
    assert.deepEqual(
      mine.notes.map(n => n.type),
      ['assoc-change'],
    );
    assert.deepEqual(
      drain(l).messages.map(m => m.assocId),
      [x, x],
    );
    // It is one-to-one now: ids are ignored, there is a peer, and shutdown is its own.
    assert.ok(typeof so.peeraddr() === 'object');
    assert.deepEqual(l.getsockopt(L, api.SCTP_GET_ASSOC_ID_LIST), [x]);
    assert.equal(so.send(new Uint8Array(7), 0, 7, sendInfo({ assocId: 4711 })), 7);
    p.net.run(1e9);
    const back = clients.map(c => drain(c).messages.length);
    assert.deepEqual(back.sort(), [0, 1]);
    assert.equal(lib.sctp_peeloff(so, y!), -EOPNOTSUPP);
    assert.equal(lib.sctp_peeloff(l, y!), -ENOENT);
    assert.equal(so.shutdown(1), 0);
    p.net.run(1e9);
    assert.deepEqual([p.kexts[1].associations().length, drain(so).end], [1, 0]);
    for (const s of [so, l, ...clients]) s.close();
    assert.equal(p.end(), 0);
  });
  test('not of a one-to-one socket; not of an id that none has; a wrong one', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    assert.equal(lib.sctp_peeloff(so, 3), -EOPNOTSUPP);
    assert.equal(lib.sctp_peeloff(w.socket(SOCK_SEQPACKET), 3), -ENOENT);
    assert.equal(so.getsockopt(L, api.SCTP_PEELOFF, 'x'), -EINVAL);
    over(w);
  });
  test('in the middle of a delivery in parts', () => {
    const w = new f.WirePeer();
    const l = w.listen(SOCK_SEQPACKET);
    l.setsockopt(L, api.SCTP_PARTIAL_DELIVERY_POINT, 500);
    l.setsockopt(L, api.SCTP_FRAGMENT_INTERLEAVE, 0);
    w.dial();
    w.inject(f.data({ tsn: f.PEER_TSN, flags: 2, payload: new Uint8Array(1000) }));
    const so = w.adopt(lib.sctp_peeloff(l, w.associations[0]!.assocId) as Socket);
    checkInvariants(w.kext.sctp!);
    w.inject(f.data({ tsn: f.PEER_TSN + 1, flags: 1, payload: new Uint8Array(10) }));
    assert.deepEqual(
      drain(so).messages.map(m => [m.data.length, m.eor]),
      [[1010, true]],
    );
    assert.deepEqual(drain(l).messages, []);
    over(w);
  });
});

describe('sctp_sendv, sctp_recvv', () => {
  test('several buffers, all kinds of information; the id comes back', () => {
    const w = new f.WirePeer();
    const so = w.socket(SOCK_SEQPACKET);
    const to = [w.at(w.peer, f.PEER_PORT), w.at('10.0.0.9', f.PEER_PORT)];
    const info = { sid: 3, flags: 0, ppid: 46, context: 0, assocId: 0 };
    const iov = [Uint8Array.of(1, 2), Uint8Array.of(3)];
    assert.equal(lib.sctp_sendv(so, iov, [to[0]!, w.at('10.0.0.9', 1)]), -EINVAL);
    assert.equal(lib.sctp_sendv(so, iov, to, { type: lib.SCTP_SENDV_SNDINFO, info }), 3);
    assert.equal(info.assocId, w.associations[0]!.assocId);
    w.settle();
    w.one('INIT');
    w.inject(f.initAck());
    const d = w.one('COOKIE ECHO+DATA').chunks[1]!.data!;
    assert.deepEqual([d.sid, d.ppid, [...d.payload]], [3, 46, [1, 2, 3]]);
    w.inject(f.cookieAck());
    const pr = { prPolicy: 1, prValue: 10 };
    assert.equal(lib.sctp_sendv(so, [one], [to[0]!], { type: lib.SCTP_SENDV_PRINFO, info: pr }), 1);
    const flags = lib.SCTP_SEND_SNDINFO_VALID | lib.SCTP_SEND_PRINFO_VALID;
    const spa = {
      type: lib.SCTP_SENDV_SPA,
      flags,
      sndinfo: { ...info, sid: 4 },
      prinfo: { prPolicy: 9, prValue: 0 },
    } as const;
    assert.equal(lib.sctp_sendv(so, [one], to, spa), -EINVAL);
    assert.equal(lib.sctp_sendv(so, [one], to, { ...spa, flags: lib.SCTP_SEND_SNDINFO_VALID }), 1);
    assert.equal(lib.sctp_sendv(so, [one], []), -57);
    over(w);
  });
  test('what kind of information has come', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted();
    const recv = () => lib.sctp_recvv(so, new Uint8Array(64), new RecvInfo());
    for (let i = 0; i < 5; i++) w.inject(f.data({ tsn: f.PEER_TSN + i, ssn: i }));
    assert.deepEqual(recv(), { n: 4, infotype: lib.SCTP_RECVV_NOINFO });
    so.setsockopt(L, api.SCTP_RECVRCVINFO, 1);
    assert.deepEqual(recv(), { n: 4, infotype: lib.SCTP_RECVV_RCVINFO });
    so.setsockopt(L, api.SCTP_RECVNXTINFO, 1);
    assert.deepEqual(recv(), { n: 4, infotype: lib.SCTP_RECVV_RN });
    so.setsockopt(L, api.SCTP_RECVRCVINFO, 0);
    assert.deepEqual(recv(), { n: 4, infotype: lib.SCTP_RECVV_NXTINFO });
    assert.deepEqual(recv(), { n: 4, infotype: lib.SCTP_RECVV_NOINFO }, 'there is no next one');
    assert.equal(recv().n, -35);
    over(w);
  });
  test('the deprecated ones', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    w.take();
    assert.equal(lib.sctp_sendmsg(so, one, undefined, 46, api.SCTP_UNORDERED, 5, 100, 7), 1);
    w.settle();
    const c = w.one('DATA').chunks[0]!;
    assert.deepEqual([c.flags, c.data!.sid, c.data!.ppid], [7, 5, 46]);
    assert.equal(lib.sctp_send(so, one, sendInfo({ sid: 99 })), -EINVAL);
    assert.equal(lib.sctp_sendmsgx(so, one, [w.at(w.peer, f.PEER_PORT)], 1, 4, 0, 0, 0), -EINVAL, 'no such policy');
    w.inject(f.data({ tsn: f.PEER_TSN }));
    assert.equal(lib.sctp_recvmsg(so, new Uint8Array(9), new RecvInfo()), 4);
    over(w);
  });
});

describe('sctp_opt_info, sctp_getaddrlen', () => {
  test('gets for one association', () => {
    const w = new f.WirePeer();
    const so = w.listen(SOCK_SEQPACKET);
    w.dial();
    const id = w.associations[0]!.assocId;
    assert.equal((lib.sctp_opt_info(so, id, api.SCTP_STATUS) as api.AssocStatus).assocId, id);
    const info = lib.sctp_opt_info(so, id, api.SCTP_GET_PEER_ADDR_INFO, { address: w.at(w.peer, f.PEER_PORT) });
    assert.equal((info as api.PathInfo).state, 'active');
    for (const bad of [1, 2]) assert.equal(lib.sctp_opt_info(so, bad, api.SCTP_STATUS), -EINVAL);
    assert.equal(lib.sctp_opt_info(so, id + 1, api.SCTP_STATUS), -ENOENT);
    assert.equal(lib.sctp_opt_info(so, id, 0x7777), -EINVAL);
    over(w);
  });
  test('sizes of addresses', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    assert.deepEqual([lib.sctp_getaddrlen(so, AF_INET), lib.sctp_getaddrlen(so, AF_INET6)], [16, 28]);
    assert.equal(lib.sctp_getaddrlen(so, 7 as never), -EINVAL);
    over(w);
  });
});

describe('SCTP_REUSE_PORT', () => {
  test('two may bind where both allow it, one may listen; not on one-to-many, not after bind, not taken back', () => {
    const w = new f.WirePeer();
    const [a, b, c] = [w.socket(), w.socket(), w.socket()];
    const set = (so: Socket, v: unknown) => so.setsockopt(L, api.SCTP_REUSE_PORT, v);
    assert.equal(set(w.socket(SOCK_SEQPACKET), 1), -EINVAL);
    assert.deepEqual([set(a, 1), set(b, 1), set(b, 0)], [0, 0, 0]);
    assert.equal(b.getsockopt(L, api.SCTP_REUSE_PORT), 1);
    assert.deepEqual([a.bind(w.at('any', 9)), b.bind(w.at('any', 9)), c.bind(w.at('any', 9))], [0, 0, -EADDRINUSE]);
    assert.equal(set(a, 1), -EINVAL);
    assert.deepEqual([a.listen(1), b.listen(1)], [0, -EADDRINUSE]);
    assert.equal(b.connect(w.at(w.peer, 7)), -36);
    const d = w.socket(SOCK_STREAM);
    set(d, 1);
    assert.equal(d.bind(w.at('any', 9)), 0);
    assert.equal(d.connect(w.at(w.peer, 7)), -EADDRINUSE, 'the same two ends');
    assert.equal(d.connect(w.at(w.peer, 8)), -36);
    over(w);
  });
});

test('for the administrator, or of builds that are not this one', () => {
  const w = new f.WirePeer();
  const so = w.socket();
  assert.equal(so.setsockopt(L, api.SCTP_SET_DYNAMIC_PRIMARY, { address: w.at(w.peer, 1) }), -EPERM);
  assert.equal(so.setsockopt(L, api.SCTP_CLR_STAT_LOG, 1), -EOPNOTSUPP);
  assert.equal(so.getsockopt(L, api.SCTP_GET_STAT_LOG), -EOPNOTSUPP);
  over(w);
});
