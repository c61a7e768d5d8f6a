/**
 * One-to-many sockets with several associations (RFC 6458 §3, §8.1.20): one whose message is delivered in parts makes the
 * others wait, and what becomes of those. All found by the property run.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EAGAIN } from '../kern/errno.js';
import { SOCK_SEQPACKET } from '../kern/protosw.js';
import { MSG_EOR, RecvInfo, Socket } from '../kern/socket.js';
import { IPPROTO_SCTP } from '../netinet/in.js';
import * as api from './api.js';
import { at, check, drain, type PairOptions, SctpPair, sendInfo } from './harness.js';
import * as lib from './library.js';

const POINT = 1000;
const bytes = (n: number, value: number) => new Uint8Array(n).fill(value);

/** A hub on b at interleave level 0, and two clients on a with explicit EOR; the first has a message open and half read. */
function halfRead(options: PairOptions = {}, more: (client: Socket) => void = () => {}) {
  const pause = 40 * ((options.delay as number | undefined) ?? 10e6);
  const p = new SctpPair(options);
  const set = (so: Socket, name: number, value: unknown) => check(so.setsockopt(IPPROTO_SCTP, name, value));
  const hub = p.socket('b', SOCK_SEQPACKET, ['assoc-change', 'shutdown']);
  set(hub, api.SCTP_FRAGMENT_INTERLEAVE, 0);
  set(hub, api.SCTP_PARTIAL_DELIVERY_POINT, POINT);
  check(hub.bind(at('0.0.0.0', 5000)));
  check(hub.listen(5));
  const clients = [0, 1].map(i => {
    const so = p.socket('a', SOCK_SEQPACKET);
    set(so, api.SCTP_EXPLICIT_EOR, 1);
    more(so);
    check(so.send(bytes(10, i), 0, 10, sendInfo({ flags: api.SCTP_EOR }), at(p.addr('b'), 5000)));
    p.net.run(pause);
    return so;
  });
  const ids = drain(hub).messages.map(m => m.assocId);
  assert.equal(ids.length, 2);
  const [first, second] = clients as [Socket, Socket];
  const send = (so: Socket, n: number, value: number, flags: number) =>
    check(so.send(bytes(n, value), 0, n, sendInfo({ assocId: 3, flags, sid: 1 })));
  send(first, POINT + 500, 1, 0);
  p.net.run(pause);
  const part = drain(hub).messages;
  assert.ok(part.length > 0 && part.every(m => m.assocId === ids[0] && !m.eor), 'a part of the first');
  /** Everything of an association that the hub has to read now, notifications by their state. */
  const seen = (id: number) => {
    const out: string[] = [];
    const info = new RecvInfo();
    const buf = new Uint8Array(10_000);
    for (;;) {
      const n = hub.recv(buf, 0, buf.length, info);
      if (n === -EAGAIN) return out;
      const note = info.notification as api.Notification | undefined;
      if (info.assocId !== id) continue;
      if (note === undefined)
        out.push(`${n}${(info.msgFlags & MSG_EOR) !== 0 ? '' : '+'}${info.from === undefined ? ' of nobody' : ''}`);
      else out.push('state' in note ? note.state : note.type);
    }
  };
  const done = () => {
    for (const so of [first, second, hub]) so.close();
    assert.equal(p.end(), 0);
  };
  return { p, hub, first, second, ids: ids as [number, number], send, seen, done };
}

describe('fragment interleave 0, another association delivers a message in parts', () => {
  test('whole messages wait for its end; a SHUTDOWN behind them is no violation', () => {
    const w = halfRead({ delay: 500e6 });
    w.send(w.second, 20, 2, api.SCTP_EOR);
    check(w.second.send(bytes(0, 0), 0, 0, sendInfo({ assocId: 3, flags: api.SCTP_EOF })));
    assert.ok(w.p.net.runUntil(() => w.hub.readable, 5e9)); // SHUTDOWN has come, SHUTDOWN COMPLETE has not
    assert.deepEqual(w.seen(w.ids[1]), ['shutdown']);
    w.send(w.first, 5, 1, api.SCTP_EOR);
    w.p.net.run(5e9);
    assert.deepEqual(w.seen(w.ids[1]), ['20 of nobody', 'shutdown-comp']);
    w.done();
  });
  test('what waited comes before the news that its association has ended, and does not pose as of another sender', () => {
    const w = halfRead();
    w.send(w.second, 20, 2, api.SCTP_EOR);
    check(w.second.send(bytes(0, 0), 0, 0, sendInfo({ assocId: 3, flags: api.SCTP_EOF })));
    w.p.net.run(5e9);
    assert.deepEqual(w.seen(w.ids[1]), ['shutdown', '20 of nobody', 'shutdown-comp']);
    w.done();
  });
  test('peeled off, it waits no longer', () => {
    const w = halfRead();
    w.send(w.second, 20, 2, api.SCTP_EOR);
    w.p.net.run(1e9);
    assert.deepEqual(w.seen(w.ids[1]), []);
    const own = lib.sctp_peeloff(w.hub, w.ids[1]);
    assert.ok(own instanceof Socket);
    assert.deepEqual(
      drain(own).messages.map(m => m.data.length),
      [20],
    );
    own.close();
    w.done();
  });
  for (const peel of [false, true])
    test(`a window that fills while it waits opens again ${peel ? 'when it is peeled off' : 'when its turn comes'}`, () => {
      const small = (so: Socket) => check(so.setsockopt(IPPROTO_SCTP, api.SCTP_MAXSEG, { assocId: 0, value: 40 }));
      const w = halfRead({ tunables: { recvspace: 12_000, maxburst: 0, recvbuf_auto: 0 } }, small);
      // More fragments than the window holds with their overhead: none that comes later could begin the delivery.
      w.send(w.second, 3000, 2, api.SCTP_EOR);
      w.p.net.run(60e9);
      assert.deepEqual(w.seen(w.ids[1]), []);
      let from = w.hub;
      if (peel) {
        from = lib.sctp_peeloff(w.hub, w.ids[1]) as Socket;
        assert.ok(from instanceof Socket);
      }
      w.send(w.first, 5, 1, api.SCTP_EOR);
      let got = 0;
      for (let i = 0; i < 200 && got < 3000; i++) {
        for (const m of drain(from).messages) if (m.data[0] === 2) got += m.data.length;
        w.p.net.run(1e9);
      }
      assert.equal(got, 3000);
      if (peel) from.close();
      w.done();
    });
});

test('closed with a message open, and others queued behind it that can never go: ABORT at once, not after T5', () => {
  const p = new SctpPair();
  const [c, s, l] = p.connect(['assoc-change'], so => check(so.setsockopt(IPPROTO_SCTP, api.SCTP_EXPLICIT_EOR, 1)));
  p.net.run(1e9);
  drain(s);
  check(c.send(bytes(100, 1), 0, 100, sendInfo({ sid: 1 })));
  p.net.run(1e9);
  check(c.send(bytes(50, 2), 0, 50, sendInfo({ sid: 2, flags: api.SCTP_EOR })));
  c.close();
  p.net.run(2e9);
  assert.deepEqual(
    drain(s).notes.map(n => (n as { state?: string }).state),
    ['comm-lost'],
  );
  for (const so of [s, l]) so.close();
  assert.equal(p.end(), 0);
});

test('SCTP_SENDALL with explicit EOR: to each association whole or not at all, and never into an open message', () => {
  const w = halfRead();
  // The first client's only association has a message open on stream 1, so there is nobody to take this.
  const all = { flags: api.SCTP_SENDALL, sid: 1 };
  assert.equal(w.first.send(bytes(30, 3), 0, 30, sendInfo(all)), 30);
  assert.equal(w.first.send(bytes(31, 3), 0, 31, sendInfo({ ...all, sid: 2 })), 31);
  w.p.net.run(1e9);
  w.send(w.first, 5, 1, api.SCTP_EOR);
  w.p.net.run(1e9);
  assert.deepEqual(w.seen(w.ids[0]), ['5', '31']);
  w.done();
});
