/** Sending by the whole of RFC 6458 §5.3 and §8: explicit EOR, SENDALL, ADDR_OVER, defaults, implicit set-up. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EAGAIN, EINVAL, EMSGSIZE, ENOENT, ENOTCONN, EPIPE } from '../kern/errno.js';
import { SOCK_SEQPACKET } from '../kern/protosw.js';
import { MSG_EOF, MSG_EOR, type Socket } from '../kern/socket.js';
import * as api from './api.js';
import type { Endpoint } from './endpoint.js';
import { at, drain, SctpPair, sendInfo } from './harness.js';
import * as f from './packets.fixture.js';

const L = 132;
const over = (w: f.WirePeer) => assert.equal(w.end(), 0);
const put = (so: Socket, n: number, info = {}, flags = 0, to?: ReturnType<f.WirePeer['at']>) =>
  so.send(new Uint8Array(n), 0, n, sendInfo(info), to, flags);
/** DATA chunks sent: [flags B 2 E 1 U 4 I 8, stream, SSN, PPID, payload bytes]; and the last TSN there was. */
let tsn = 0;
const sent = (w: f.WirePeer) =>
  w.take().flatMap(p =>
    p.chunks.flatMap(c => {
      if (c.data === undefined) return [];
      tsn = c.data.tsn;
      return [[c.flags, c.data.sid, c.data.ssn, c.data.ppid, c.data.payload.length]];
    }),
  );

describe('explicit EOR (RFC 6458 §8.1.26)', () => {
  const begin = () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    assert.equal(so.setsockopt(L, api.SCTP_EXPLICIT_EOR, 1), 0);
    assert.equal(so.getsockopt(L, api.SCTP_EXPLICIT_EOR), 1);
    so.setsockopt(L, api.SCTP_NODELAY, 1);
    w.take();
    return [w, so] as const;
  };
  test('a message in parts: one SSN, the first PPID and order; it ends with SCTP_EOR, MSG_EOR or SCTP_EOF', () => {
    const [w, so] = begin();
    put(so, 10, { sid: 1, ppid: 7 });
    put(so, 20, { sid: 1, ppid: 8, flags: api.SCTP_UNORDERED });
    put(so, 30, { sid: 1, flags: api.SCTP_EOR });
    put(so, 5, { sid: 1, ppid: 9 });
    put(so, 6, { sid: 1 }, MSG_EOR);
    w.settle();
    assert.deepEqual(sent(w), [
      [2, 1, 0, 7, 10],
      [0, 1, 0, 7, 20],
      [1, 1, 0, 7, 30],
      [2, 1, 1, 9, 5],
      [1, 1, 1, 9, 6],
    ]);
    w.inject(f.sack(tsn));
    put(so, 3, { flags: api.SCTP_UNORDERED });
    put(so, 4, { flags: api.SCTP_EOF });
    w.settle();
    assert.deepEqual(sent(w), [
      [6, 0, 0, 0, 3],
      [13, 0, 0, 0, 4],
    ]);
    assert.equal(put(so, 1), -EPIPE);
    over(w);
  });
  test('without I-DATA nothing of another stream comes between the parts', () => {
    const [w, so] = begin();
    put(so, 10, { sid: 1 });
    put(so, 11, { sid: 2, flags: api.SCTP_EOR });
    w.settle();
    assert.deepEqual(
      sent(w).map(x => x[4]),
      [10],
    );
    put(so, 12, { sid: 1, flags: api.SCTP_EOR });
    w.settle();
    assert.deepEqual(
      sent(w).map(x => [x[1], x[4]]),
      [
        [1, 12],
        [2, 11],
      ],
    );
    over(w);
  });
  test('more than the buffer holds is taken in part; without it EMSGSIZE', () => {
    const [w, so] = begin();
    so.setsockopt(api.SOL_SOCKET, api.SO_SNDBUF, 4096);
    assert.equal(put(so, 10_000, { flags: api.SCTP_EOR }), 4096);
    assert.equal(put(so, 1, { flags: api.SCTP_EOR }), -EAGAIN);
    w.settle();
    assert.deepEqual(
      sent(w).map(x => x[0]),
      [2, 0, 0],
    );
    so.setsockopt(L, api.SCTP_EXPLICIT_EOR, 0);
    assert.equal(put(so, 10_000), -EMSGSIZE);
    over(w);
  });
  test('a part left without its end: shutdown and close are an ABORT', () => {
    for (const end of [(so: Socket) => so.shutdown(1), (so: Socket) => so.close()]) {
      const [w, so] = begin();
      put(so, 10);
      w.settle();
      sent(w);
      end(so);
      w.settle();
      assert.deepEqual(w.names(), []);
      w.inject(f.sack(tsn));
      assert.deepEqual(w.names(), ['ABORT']);
      over(w);
    }
    const [w, so] = begin();
    put(so, 10);
    w.settle();
    sent(w);
    w.inject(f.sack(tsn));
    so.shutdown(1);
    w.settle();
    assert.deepEqual(w.names(), ['ABORT']);
    over(w);
  });
  test('a hundred thousand bytes in parts arrive as one message', () => {
    const p = new SctpPair();
    const [c, s, l] = p.connect();
    c.setsockopt(L, api.SCTP_EXPLICIT_EOR, 1);
    for (let i = 0; i < 100; i++)
      assert.equal(
        c.send(new Uint8Array(1000).fill(i), 0, 1000, sendInfo({ flags: i === 99 ? api.SCTP_EOR : 0 })),
        1000,
      );
    p.net.run(5e9);
    const got = drain(s).messages;
    assert.equal(
      got.reduce((n, m) => n + m.data.length, 0),
      100_000,
    );
    assert.deepEqual(
      got.map(m => m.eor),
      [...got.slice(1).map(() => false), true],
    );
    for (const so of [c, s, l]) so.close();
    assert.equal(p.end(), 0);
  });
});

describe('SENDALL (RFC 6458 §5.3.4)', () => {
  test('one message to every association; too long EMSGSIZE; nothing EINVAL; EOF for all', () => {
    const w = new f.WirePeer();
    const so = w.listen(SOCK_SEQPACKET);
    w.dial();
    w.take();
    w.dial({ tag: 5 }, { src: 7001 });
    w.take();
    const all = { flags: api.SCTP_SENDALL };
    assert.equal(put(so, 100, all), 100);
    w.settle();
    assert.deepEqual(
      w.take().map(p => [p.dst, p.names]),
      [
        [7000, 'DATA'],
        [7001, 'DATA'],
      ],
    );
    assert.equal(put(so, 1433, all), -EMSGSIZE);
    assert.equal(put(so, 0, all), -EINVAL);
    assert.equal(put(so, 0, { flags: api.SCTP_SENDALL | api.SCTP_ABORT }), 0);
    w.settle();
    assert.deepEqual(w.names(), ['ABORT', 'ABORT']);
    assert.equal(w.associations.length, 0);
    assert.equal(put(so, 100, all), 100, 'nobody is there: nobody gets it');
    over(w);
  });
  test('on a one-to-one socket the flag means nothing', () => {
    const w = new f.WirePeer();
    assert.equal(put(w.socket(), 1, { flags: api.SCTP_SENDALL }), -ENOTCONN);
    const [so] = w.connected();
    assert.equal(put(so, 2000, { flags: api.SCTP_SENDALL }), 2000);
    over(w);
  });
});

describe('ADDR_OVER: one message to a path of the choice', () => {
  test('goes there and back to the primary; without an address, or a wrong one, EINVAL', () => {
    const p = new SctpPair({ links: 2 });
    const [c, s, l] = p.connect();
    p.net.run(5e9);
    c.setsockopt(L, api.SCTP_NODELAY, 1);
    const send = (addr?: string, port = 5000) => {
      const to = addr === undefined ? undefined : at(addr, port);
      return c.send(new Uint8Array(100), 0, 100, sendInfo({ flags: api.SCTP_ADDR_OVER }), to);
    };
    assert.equal(send(), -EINVAL);
    assert.equal(send('10.9.9.9'), -EINVAL);
    assert.equal(send(p.addr('b', 1), 77), -EINVAL);
    const flight = () => [...p.kexts[0].sctp!.associations()][0]!.paths.map(x => x.flight);
    assert.equal(send(p.addr('b', 1)), 100);
    c.send(new Uint8Array(50));
    p.net.run(1e6);
    assert.deepEqual(flight(), [50, 100]);
    p.net.run(1e9);
    assert.equal(drain(s).messages.length, 2);
    for (const so of [c, s, l]) so.close();
    assert.equal(p.end(), 0);
  });
});

describe('what a message goes with when nothing is said', () => {
  test('defaults of the socket for new associations, of each for itself; CURRENT, ALL; streams that are not there', () => {
    const w = new f.WirePeer();
    const so = w.listen(SOCK_SEQPACKET);
    const set = (assocId: number, v: object) => so.setsockopt(L, api.SCTP_DEFAULT_SNDINFO, { assocId, ...v });
    assert.equal(set(api.SCTP_FUTURE_ASSOC, { sid: 2, ppid: 5 }), 0);
    w.dial();
    const id = w.associations[0]!.assocId;
    const of = (assocId: number) => {
      const v = so.getsockopt(L, api.SCTP_DEFAULT_SEND_PARAM, assocId) as Record<string, number>;
      return [v.sid, v.ppid, v.context, v.assocId];
    };
    assert.deepEqual(of(id), [2, 5, 0, id]);
    assert.equal(set(id, { sid: 3 }), 0);
    assert.equal(set(api.SCTP_CURRENT_ASSOC, { context: 9 }), 0);
    assert.deepEqual(
      [of(0), of(id)],
      [
        [2, 5, 0, 0],
        [3, 5, 9, id],
      ],
    );
    assert.equal(set(api.SCTP_ALL_ASSOC, { ppid: 6 }), 0);
    assert.deepEqual(
      [of(0), of(id)],
      [
        [2, 6, 0, 0],
        [3, 6, 9, id],
      ],
    );
    for (const bad of [{ sid: 10 }, { sid: 65536 }, { ppid: -1 }]) assert.equal(set(id, bad), -EINVAL);
    assert.equal(set(id + 1, { sid: 0 }), -ENOENT);
    assert.equal(so.setsockopt(L, api.SCTP_DEFAULT_SEND_PARAM, { assocId: id, prPolicy: 4 }), -EINVAL);
    w.take();
    assert.equal(so.send(new Uint8Array(4), 0, 4, undefined, w.at(w.peer, f.PEER_PORT)), 4);
    w.settle();
    assert.deepEqual(sent(w), [[3, 3, 0, 6, 4]]);
    over(w);
  });
  test('on a one-to-one socket the association has its own', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    so.setsockopt(L, api.SCTP_DEFAULT_SNDINFO, { sid: 4, ppid: 1 });
    w.take();
    so.send(new Uint8Array(4));
    w.settle();
    assert.deepEqual(sent(w), [[3, 4, 0, 1, 4]]);
    over(w);
  });
  test('a policy of partial reliability is checked, and without the extension everything is reliable', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    assert.equal(put(so, 1, { prPolicy: 4, prValue: 1 }), -EINVAL);
    assert.equal(put(so, 1, { prPolicy: api.SCTP_PR_SCTP_TTL, prValue: 1 }), 1);
    over(w);
  });
});

describe('implicit set-up with SCTP_INIT and further addresses', () => {
  test('streams, attempts and time of this association only', () => {
    const w = new f.WirePeer();
    const so = w.socket(SOCK_SEQPACKET);
    const to = w.at(w.peer, f.PEER_PORT);
    const init = { numOstreams: 3, maxInstreams: 4, maxAttempts: 1, maxInitTimeo: 500 };
    assert.equal(put(so, 1, { sid: 3, init }, 0, to), -EINVAL);
    assert.equal(w.associations.length, 0);
    assert.equal(put(so, 1, { sid: 2, init, addresses: [w.at('10.0.0.9', f.PEER_PORT)] }, 0, to), 1);
    w.settle();
    const i = w.one('INIT').chunks[0]!.init!;
    assert.deepEqual([i.os, i.is, w.associations[0]!.paths.length], [3, 4, 2]);
    w.run(30 * f.SEC);
    assert.deepEqual([w.names(), w.associations.length], [['INIT'], 0]);
    assert.equal((so.getsockopt(L, api.SCTP_INITMSG) as api.InitMsg).numOstreams, 10);
    over(w);
  });
  test('a further address finds the association that there is', () => {
    const w = new f.WirePeer();
    const so = w.listen(SOCK_SEQPACKET);
    w.dial();
    const known = w.at(w.peer, f.PEER_PORT);
    assert.equal(put(so, 1, { addresses: [known] }, 0, w.at('10.0.0.9', f.PEER_PORT)), 1);
    assert.equal(w.associations.length, 1);
    over(w);
  });
  test('MSG_EOF is SCTP_EOF', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    w.take();
    assert.equal(put(so, 4, {}, MSG_EOF), 4);
    w.settle();
    sent(w);
    w.inject(f.sack(tsn));
    assert.deepEqual(w.names(), ['SHUTDOWN']);
    over(w);
  });
});

describe('fragments (RFC 9260 §6.9)', () => {
  const sizes = (len: number, trains: boolean) => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    so.setsockopt(L, api.SCTP_NODELAY, 1);
    const a = (so.pcb as Endpoint).only!;
    a.current.trains = trains;
    w.take();
    put(so, len);
    const out: number[][] = [];
    for (let round = 0; round < 20 && a.outstanding + a.out.pending > 0; round++) {
      w.settle();
      out.push(...sent(w).map(([flags, , , , n]) => [flags as number, n as number]));
      w.inject(f.sack(tsn));
    }
    assert.equal(
      out.reduce((sum, [, n]) => sum + n!, 0),
      len,
    );
    assert.deepEqual(
      out.map(([flags]) => flags),
      out.map((_, i) => (i === 0 ? 2 : 0) | (i === out.length - 1 ? 1 : 0)),
    );
    return out.map(([, n]) => n!);
  };
  test('full ones and what is left; in trains of one size, if their packets are as long', () => {
    const point = sizes(8192, false)[0]!;
    assert.deepEqual(sizes(8192, false), [...Array(5).fill(point), 8192 - 5 * point]);
    assert.deepEqual(sizes(8192, true), [1366, 1366, 1365, 1365, 1365, 1365]);
    assert.deepEqual(sizes(4 * 1400, true), [1400, 1400, 1400, 1400]);
    // 1400 and 1401 would be packets of two lengths.
    assert.deepEqual(sizes(4 * 1400 + 1, true), sizes(4 * 1400 + 1, false));
    // 46 full ones would do, but only 47 can be of one size.
    const many = sizes(65536, true);
    assert.deepEqual([many.length, Math.max(...many), Math.min(...many)], [47, 1395, 1394]);
    assert.deepEqual(sizes(100, true), [100]);
  });
});
