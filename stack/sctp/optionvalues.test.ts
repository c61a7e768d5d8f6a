/** Socket options one by one (RFC 6458 §8, FreeBSD's own): what they refuse, what they give, what they do. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ECONNREFUSED, EINVAL, ENOENT, ENOPROTOOPT } from '../kern/errno.js';
import { SOCK_SEQPACKET, SOCK_STREAM } from '../kern/protosw.js';
import type { Socket } from '../kern/socket.js';
import * as api from './api.js';
import { SctpPair } from './harness.js';
import * as f from './packets.fixture.js';

const L = 132;
const EDOM = 33;
const over = (w: f.WirePeer) => assert.equal(w.end(), 0);
const get = (so: Socket, name: number, arg?: unknown) => so.getsockopt(L, name, arg) as Record<string, number>;
function many(): [f.WirePeer, Socket, number] {
  const w = new f.WirePeer();
  const so = w.listen(SOCK_SEQPACKET);
  w.dial();
  w.take();
  return [w, so, w.associations[0]!.assocId];
}

describe('ids', () => {
  test('CURRENT and ALL where RFC 6458 allows them, EINVAL elsewhere', () => {
    const [w, so, id] = many();
    const value = (assocId: number) => ({ assocId, value: 0 });
    const yes = [api.SCTP_MAX_BURST, api.SCTP_CONTEXT, api.SCTP_PLUGGABLE_CC, api.SCTP_STREAM_SCHEDULER];
    const no = [api.SCTP_MAXSEG, api.SCTP_MAX_CWND, api.SCTP_ECN_SUPPORTED];
    for (const several of [api.SCTP_CURRENT_ASSOC, api.SCTP_ALL_ASSOC]) {
      for (const o of yes) assert.equal(so.setsockopt(L, o, value(several)), 0, `${o}`);
      for (const o of no) assert.equal(so.setsockopt(L, o, value(several)), -EINVAL, `${o}`);
      for (const o of [...yes, ...no]) assert.equal(so.getsockopt(L, o, several), -EINVAL);
      const v = { assocId: several };
      for (const o of [api.SCTP_DELAYED_SACK, api.SCTP_DEFAULT_SNDINFO, api.SCTP_DEFAULT_SEND_PARAM])
        assert.equal(so.setsockopt(L, o, v), 0, `${o}`);
      for (const o of [api.SCTP_RTOINFO, api.SCTP_ASSOCINFO, api.SCTP_PEER_ADDR_PARAMS, api.SCTP_PEER_ADDR_THLDS])
        assert.equal(so.setsockopt(L, o, v), -EINVAL, `${o}`);
    }
    for (const o of [...yes, ...no]) assert.equal(so.setsockopt(L, o, value(id + 1)), -ENOENT);
    over(w);
  });
  test('an address names the association as well', () => {
    const [w, so, id] = many();
    const address = w.at(w.peer, f.PEER_PORT);
    for (const o of [api.SCTP_PEER_ADDR_PARAMS, api.SCTP_PEER_ADDR_THLDS, api.SCTP_GET_PEER_ADDR_INFO])
      assert.equal(get(so, o, { address }).assocId, id, `${o}`);
    assert.equal(so.setsockopt(L, api.SCTP_PEER_ADDR_PARAMS, { address, pathMaxRxt: 9 }), 0);
    assert.equal(get(so, api.SCTP_PEER_ADDR_PARAMS, { assocId: id, address }).pathMaxRxt, 9);
    assert.equal(get(so, api.SCTP_PEER_ADDR_PARAMS, 0).pathMaxRxt, 5);
    const other = { assocId: id, address: w.at('10.7.7.7', f.PEER_PORT) };
    assert.equal(so.getsockopt(L, api.SCTP_PEER_ADDR_PARAMS, other), -EINVAL);
    assert.equal(so.setsockopt(L, api.SCTP_PEER_ADDR_THLDS, other), -EINVAL);
    // The wildcard address is none: all paths of the association.
    assert.equal(
      so.setsockopt(L, api.SCTP_PEER_ADDR_PARAMS, { assocId: id, address: w.at('any', 0), pathMaxRxt: 3 }),
      0,
    );
    assert.equal(get(so, api.SCTP_PEER_ADDR_PARAMS, { address }).pathMaxRxt, 3);
    over(w);
  });
});

describe('what is told of an association', () => {
  test('TIMEOUTS', () => {
    const w = new f.WirePeer();
    const [so] = w.connecting();
    w.run(1.5 * f.SEC);
    w.take();
    w.inject(f.initAck());
    w.run(2.5 * f.SEC); // backed off
    w.inject(f.cookieAck());
    w.take();
    so.send(Uint8Array.of(1));
    w.run(1.5 * f.SEC);
    w.inject(f.data({ tsn: f.PEER_TSN }));
    w.inject(f.data({ tsn: f.PEER_TSN + 1, ssn: 1 }));
    w.run(f.SEC);
    const { assocId, ...n } = get(so, api.SCTP_TIMEOUTS);
    assert.ok(assocId! >= 3);
    assert.deepEqual(n, { init: 1, data: 1, sack: 1, shutdown: 0, heartbeat: 0, cookie: 1, shutdownAck: 0 });
    assert.equal(w.socket().getsockopt(L, api.SCTP_TIMEOUTS), -EINVAL);
    over(w);
  });
  test('GET_SNDBUF_USE, GET_NONCE_VALUES, PCB_STATUS', () => {
    const [w, so, id] = many();
    w.inject(f.data({ tsn: f.PEER_TSN }));
    w.inject(f.data({ tsn: f.PEER_TSN + 2, ssn: 2, payload: new Uint8Array(6) }));
    so.send(new Uint8Array(50), 0, 50, undefined, w.at(w.peer, f.PEER_PORT));
    assert.deepEqual(get(so, api.SCTP_GET_SNDBUF_USE, id), { assocId: id, sndbuf: 50, rcvbuf: 10 });
    const tags = get(so, api.SCTP_GET_NONCE_VALUES, id);
    assert.deepEqual([tags.peerTag, tags.localTag], [f.PEER_TAG, w.tag]);
    const pcb = get(so, api.SCTP_PCB_STATUS);
    assert.deepEqual([pcb.endpoints, pcb.associations, pcb.remoteAddresses, pcb.readQueue], [1, 1, 1, 1]);
    assert.ok(pcb.freeChunks! > 0);
    for (const o of [api.SCTP_GET_SNDBUF_USE, api.SCTP_GET_NONCE_VALUES])
      assert.equal(so.getsockopt(L, o, 99), -ENOENT);
    over(w);
  });
});

describe('paths', () => {
  test('PEER_ADDR_THLDS: defaults, ranges, no switchover', () => {
    const [w, so, id] = many();
    assert.deepEqual(get(so, api.SCTP_PEER_ADDR_THLDS, 0), {
      assocId: 0,
      pathMaxRxt: 5,
      pathPfThld: 0xffff,
      pathCpThld: 0xffff,
    });
    const set = (v: object) => so.setsockopt(L, api.SCTP_PEER_ADDR_THLDS, { assocId: id, ...v });
    for (const bad of [{ pathCpThld: 5 }, { pathPfThld: 65536 }, { pathMaxRxt: 65536 }, { pathPfThld: 'x' }])
      assert.equal(set(bad), -EINVAL, JSON.stringify(bad));
    assert.equal(set({ pathMaxRxt: 2, pathPfThld: 1, pathCpThld: 0xffff }), 0);
    const p = get(so, api.SCTP_PEER_ADDR_THLDS, { assocId: id, address: w.at(w.peer, 0) });
    assert.deepEqual([p.pathMaxRxt, p.pathPfThld], [2, 1]);
    assert.equal(get(so, api.SCTP_PEER_ADDR_THLDS, 0).pathPfThld, 0xffff);
    over(w);
  });
  test('a potentially failed path: data goes elsewhere at once, it is probed each RTO, and back it begins small (RFC 7829)', () => {
    const p = new SctpPair({ links: 2, tunables: { path_pf_threshold: 0 } });
    const [c, s, l] = p.connect(['peer-addr-change']);
    p.net.run(5e9);
    const a = [...p.kexts[0].sctp!.associations()][0]!;
    const link = p.links[0]!;
    const { options } = link;
    link.options = { ...options, loss: () => true };
    c.send(new Uint8Array(100));
    p.net.run(1.2e9);
    assert.deepEqual([a.paths[0]!.pf, a.paths[0]!.state, a.current === a.paths[1]], [true, 'active', true]);
    const before = a.timeouts.heartbeat;
    p.net.run(4e9);
    assert.ok(a.timeouts.heartbeat > before, 'probed without waiting for the interval');
    link.options = options;
    p.net.run(10e9);
    assert.deepEqual([a.paths[0]!.pf, a.current === a.paths[0], a.paths[0]!.cwnd], [false, true, a.paths[0]!.mtu]);
    for (const so of [c, s, l]) so.close();
    assert.equal(p.end(), 0);
  });
  test('lower limits act on errors that are there', () => {
    const p = new SctpPair({ links: 2 });
    const [c, s, l] = p.connect();
    p.net.run(5e9);
    const a = [...p.kexts[0].sctp!.associations()][0]!;
    const q = a.paths[1]!;
    const set = (pathMaxRxt: number, pathPfThld: number) =>
      c.setsockopt(L, api.SCTP_PEER_ADDR_THLDS, { address: { addr: q.addr, port: 5000 }, pathMaxRxt, pathPfThld });
    q.errors = 3;
    assert.equal(set(5, 2), 0);
    assert.deepEqual([q.pf, q.state], [true, 'active']);
    set(5, 0xffff);
    assert.deepEqual([q.pf, q.state], [false, 'active']);
    set(2, 0xffff);
    assert.equal(q.state, 'inactive');
    set(9, 0xffff);
    assert.equal(q.state, 'active');
    for (const so of [c, s, l]) so.close();
    assert.equal(p.end(), 0);
  });
  test('MAX_CWND: of the socket for new associations, of one at once', () => {
    const [w, so, id] = many();
    const cwnd = () => w.associations[0]!.paths[0]!.cwnd;
    assert.ok(cwnd() > 4000);
    assert.equal(so.setsockopt(L, api.SCTP_MAX_CWND, { assocId: id, value: 3000 }), 0);
    assert.deepEqual(
      [cwnd(), get(so, api.SCTP_MAX_CWND, id).value, get(so, api.SCTP_MAX_CWND, 0).value],
      [3000, 3000, 0],
    );
    so.setsockopt(L, api.SCTP_MAX_CWND, { assocId: id, value: 10 });
    assert.equal(cwnd(), 1488, 'one packet');
    over(w);
  });
  test('PEER_ADDR_PARAMS: DSCP and flow label are told once they are set; IP_TOS sets them all', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    const flags = () => get(so, api.SCTP_PEER_ADDR_PARAMS, { address: w.at(w.peer, 0) });
    assert.equal(flags().flags! & (api.SPP_DSCP | api.SPP_IPV6_FLOWLABEL), 0);
    const v = { flags: api.SPP_DSCP | api.SPP_IPV6_FLOWLABEL, dscp: 0xbb, flowLabel: 0x12345 };
    assert.equal(so.setsockopt(L, api.SCTP_PEER_ADDR_PARAMS, v), 0);
    assert.deepEqual([flags().dscp, flags().flowLabel], [0xb8, 0x12345]);
    assert.equal(so.setsockopt(0, api.IP_TOS, 0x40), 0);
    assert.deepEqual([flags().dscp, so.getsockopt(0, api.IP_TOS)], [0x40, 0x40]);
    assert.equal(so.setsockopt(0, api.IP_TOS, 256), -EINVAL);
    assert.equal(so.setsockopt(41, api.IPV6_TCLASS, 4), -ENOPROTOOPT, 'an IPv4 socket');
    over(w);
  });
});

describe('acknowledging', () => {
  test('DELAYED_SACK: 0 leaves as it is, a frequency of 1 acknowledges each packet', () => {
    const w = new f.WirePeer();
    const [so] = w.accepted();
    const is = () => {
      const { delay, freq } = get(so, api.SCTP_DELAYED_SACK);
      return [delay, freq];
    };
    const set = (delay: number, freq: number) => so.setsockopt(L, api.SCTP_DELAYED_SACK, { delay, freq });
    assert.deepEqual([is(), set(500, 0), is(), set(0, 1), is()], [[200, 2], 0, [500, 2], 0, [500, 1]]);
    assert.equal(set(501, 0), -EINVAL);
    w.take();
    w.inject(f.data({ tsn: f.PEER_TSN }));
    w.take();
    w.inject(f.data({ tsn: f.PEER_TSN + 1, ssn: 1 }));
    assert.deepEqual(w.names(), ['SACK']);
    over(w);
  });
});

test('SET_INITIAL_DBG_SEQ: the next initial TSNs, counted up', () => {
  const w = new f.WirePeer();
  const so = w.socket(SOCK_SEQPACKET);
  assert.equal(so.setsockopt(L, api.SCTP_SET_INITIAL_DBG_SEQ, 0xffffffff), 0);
  so.connect(w.at(w.peer, 7));
  w.settle();
  assert.equal(w.one('INIT').chunks[0]!.init!.tsn, 0xffffffff);
  assert.equal(so.getsockopt(L, api.SCTP_SET_INITIAL_DBG_SEQ), 0);
  assert.equal(so.setsockopt(L, api.SCTP_SET_INITIAL_DBG_SEQ, -1), -EINVAL);
  over(w);
});

test('STREAM_SCHEDULER and PLUGGABLE_CC: what there is, and nothing else', () => {
  const [w, so, id] = many();
  for (const o of [api.SCTP_STREAM_SCHEDULER, api.SCTP_PLUGGABLE_CC]) {
    assert.equal(so.setsockopt(L, o, { assocId: id, value: 0 }), 0);
    assert.equal(so.setsockopt(L, o, { assocId: id, value: 1 }), -EINVAL);
    assert.deepEqual(get(so, o, id), { assocId: id, value: 0 });
  }
  over(w);
});

describe('SOL_SOCKET and below', () => {
  const S = api.SOL_SOCKET;
  test('SO_ERROR is taken; SO_LINGER has a range; SO_REUSEADDR and the rest read back', () => {
    const w = new f.WirePeer();
    const [so] = w.connecting();
    w.inject(f.abort(1), { tag: w.tag });
    w.inject(f.abort(0));
    assert.deepEqual([so.getsockopt(S, api.SO_ERROR), so.getsockopt(S, api.SO_ERROR)], [ECONNREFUSED, 0]);
    assert.equal(so.setsockopt(S, api.SO_ERROR, 1), -ENOPROTOOPT);
    for (const linger of [-1, 65536]) assert.equal(so.setsockopt(S, api.SO_LINGER, { onoff: true, linger }), -EDOM);
    assert.equal(so.setsockopt(S, api.SO_LINGER, { onoff: 'x', linger: 1 }), -EINVAL);
    assert.equal(so.setsockopt(S, api.SO_LINGER, { onoff: 128, linger: 7 }), 0);
    assert.deepEqual(so.getsockopt(S, api.SO_LINGER), { onoff: true, linger: 7 });
    assert.equal(so.getsockopt(S, api.SO_REUSEADDR), 0);
    so.setsockopt(S, api.SO_REUSEADDR, 1);
    assert.equal(so.getsockopt(S, api.SO_REUSEADDR), 4);
    assert.deepEqual([so.getsockopt(S, api.SO_TYPE), so.getsockopt(S, api.SO_PROTOCOL)], [SOCK_STREAM, 132]);
    assert.equal(w.listen().getsockopt(S, api.SO_ACCEPTCONN), 2);
    over(w);
  });
  test('SO_LINGER with 0 makes close an ABORT, with a time a shutdown', () => {
    for (const [linger, names] of [
      [0, 'ABORT'],
      [5, 'SHUTDOWN'],
    ] as const) {
      const w = new f.WirePeer();
      const [so] = w.accepted();
      w.take();
      so.setsockopt(S, api.SO_LINGER, { onoff: true, linger });
      so.close();
      w.settle();
      w.one(names);
      over(w);
    }
  });
  test('IPV6_V6ONLY: before bind, on an IPv6 socket', () => {
    const w = new f.WirePeer({ family: 6, more: ['10.0.0.1/24'] });
    const so = w.socket();
    assert.equal(so.setsockopt(41, api.IPV6_V6ONLY, 1), 0);
    assert.equal(so.getsockopt(41, api.IPV6_V6ONLY), 1);
    so.bind(w.at('any', 9));
    assert.equal(so.setsockopt(41, api.IPV6_V6ONLY, 0), -EINVAL);
    const list = so.getsockopt(L, api.SCTP_GET_LOCAL_ADDRESSES, 0) as { addr: { family: number } }[];
    assert.ok(list.length > 0 && list.every(a => a.addr.family === 6));
    over(w);
    const v = new f.WirePeer();
    assert.equal(v.socket().setsockopt(41, api.IPV6_V6ONLY, 1), -ENOPROTOOPT);
    over(v);
  });
});

test('net.inet.sctp.diag_info_code: ABORTs without a cause say why in words', () => {
  const w = new f.WirePeer();
  w.stack.sysctl.set('net.inet.sctp.diag_info_code', 0x1234);
  w.inject(f.data({ tsn: 1 }), { tag: 9, dst: 77 });
  const cause = w.one('ABORT').chunks[0]!.tlvs[0]!;
  assert.deepEqual([cause.type, new TextDecoder().decode(cause.body)], [0x1234, 'Out of the blue']);
  over(w);
});
