import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL, ENOENT, ENOPROTOOPT, EOPNOTSUPP } from '../kern/errno.js';
import { SOCK_SEQPACKET } from '../kern/protosw.js';
import { SHUT_WR, type Socket } from '../kern/socket.js';
import * as api from './api.js';
import * as f from './packets.fixture.js';

const L = 132;
const over = (w: f.WirePeer) => assert.equal(w.end(), 0);
const get = (so: Socket, name: number, arg?: unknown) => so.getsockopt(L, name, arg) as Record<string, unknown>;
/** A one-to-many listener with one association; its id. */
function many(): [f.WirePeer, Socket, number] {
  const w = new f.WirePeer();
  const so = w.listen(SOCK_SEQPACKET);
  w.dial();
  w.take();
  return [w, so, w.associations[0]!.assocId];
}

test('unknown options and levels', () => {
  const w = new f.WirePeer();
  const so = w.socket();
  for (const [level, name] of [
    [L, 0x7777],
    [L, 0x06], // SET_PEER_PRIMARY_ADDR: RFC 5061 is no part of this
    [0, 1],
    [api.SOL_SOCKET, 0x9999],
  ] as const) {
    assert.equal(so.getsockopt(level, name), -ENOPROTOOPT);
    assert.equal(so.setsockopt(level, name, 2048), -ENOPROTOOPT);
  }
  over(w);
});

describe('whom an option is for (RFC 6458 §7.1)', () => {
  test('future associations, one association, an unknown one', () => {
    const [w, so, id] = many();
    assert.ok(id >= 3);
    const set = (assocId: number, max: number) => so.setsockopt(L, api.SCTP_RTOINFO, { assocId, max });
    assert.deepEqual(
      [set(0, 5000), set(id, 6000), set(id + 1, 7000), set(1, 7000), set(2, 7000)],
      [0, 0, -ENOENT, -EINVAL, -EINVAL],
    );
    assert.deepEqual([get(so, api.SCTP_RTOINFO, 0).max, get(so, api.SCTP_RTOINFO, id).max], [5000, 6000]);
    for (const o of [
      api.SCTP_RTOINFO,
      api.SCTP_ASSOCINFO,
      api.SCTP_DELAYED_SACK,
      api.SCTP_PEER_ADDR_PARAMS,
      api.SCTP_MAXSEG,
    ])
      assert.equal(so.getsockopt(L, o, { assocId: id + 1 }), -ENOENT);
    for (const o of [api.SCTP_STATUS, api.SCTP_PRIMARY_ADDR]) assert.equal(so.getsockopt(L, o, id + 1), -ENOENT);
    for (const o of [api.SCTP_GET_PATHS, api.SCTP_GET_PEER_ADDRESSES])
      assert.equal(so.getsockopt(L, o, id + 1), -ENOENT);
    over(w);
  });
  test('SCTP_CURRENT_ASSOC and SCTP_ALL_ASSOC where several may be meant', () => {
    const [w, so, id] = many();
    const set = (assocId: number, value: number) => so.setsockopt(L, api.SCTP_MAX_BURST, { assocId, value });
    const values = () => [get(so, api.SCTP_MAX_BURST, 0).value, get(so, api.SCTP_MAX_BURST, id).value];
    assert.deepEqual([set(api.SCTP_CURRENT_ASSOC, 9), values()], [0, [4, 9]]);
    assert.deepEqual([set(api.SCTP_ALL_ASSOC, 11), values()], [0, [11, 11]]);
    assert.deepEqual([set(0, 12), values()], [0, [12, 11]]);
    over(w);
  });
  test('one-to-one ignores the id', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    assert.equal(so.setsockopt(L, api.SCTP_RTOINFO, { assocId: 4711, max: 7000 }), 0);
    assert.equal(get(so, api.SCTP_RTOINFO, 0).max, 7000);
    over(w);
  });
});

describe('ranges', () => {
  const refused: [name: string, option: number, values: unknown[]][] = [
    ['RTOINFO', api.SCTP_RTOINFO, [{ min: 2000, initial: 1000 }, { initial: 70_000 }, { max: 500 }]],
    ['INITMSG', api.SCTP_INITMSG, [{ numOstreams: 65536 }, { maxInstreams: 65536 }]],
    ['AUTOCLOSE on one-to-one', api.SCTP_AUTOCLOSE, [5]],
    ['MAXSEG', api.SCTP_MAXSEG, [{ assocId: 0, value: 3 }, -1, 1.5]],
    ['ECN_SUPPORTED', api.SCTP_ECN_SUPPORTED, [2]],
    ['PLUGGABLE_CC', api.SCTP_PLUGGABLE_CC, [99]],
    ['DELAYED_SACK', api.SCTP_DELAYED_SACK, [{ delay: 501 }]],
    ['REMOTE_UDP_ENCAPS_PORT', api.SCTP_REMOTE_UDP_ENCAPS_PORT, [{ port: 65536 }, { port: -1 }, {}]],
    ['DEFAULT_SEND_PARAM', api.SCTP_DEFAULT_SEND_PARAM, [{ sid: 65536 }]],
    ['EVENT', api.SCTP_EVENT, [{ type: 'no-such', on: true }, { type: 'shutdown' }, { on: true }]],
    [
      'PEER_ADDR_PARAMS',
      api.SCTP_PEER_ADDR_PARAMS,
      [
        { flags: api.SPP_HB_ENABLE | api.SPP_HB_DISABLE },
        { flags: api.SPP_PMTUD_ENABLE | api.SPP_PMTUD_DISABLE },
        { hbInterval: 14_400_001 },
        { flags: api.SPP_PMTUD_DISABLE, pathMtu: 511 },
        { flags: api.SPP_PMTUD_DISABLE, pathMtu: 65_537 },
      ],
    ],
  ];
  for (const [name, option, values] of refused)
    test(name, () => {
      const w = new f.WirePeer();
      const so = w.socket();
      for (const v of values) {
        const before = JSON.stringify(so.getsockopt(L, option));
        assert.equal(so.setsockopt(L, option, v), -EINVAL, JSON.stringify(v));
        assert.equal(JSON.stringify(so.getsockopt(L, option)), before);
      }
      over(w);
    });
  test('cookie life is clamped to 1 s .. 1 h', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    for (const [life, is] of [
      [1, 1000],
      [5000, 5000],
      [1e9, 3_600_000],
    ] as const) {
      so.setsockopt(L, api.SCTP_ASSOCINFO, { cookieLife: life });
      assert.equal(get(so, api.SCTP_ASSOCINFO).cookieLife, is);
    }
    over(w);
  });
  test('buffers below one byte', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    for (const o of [api.SO_SNDBUF, api.SO_RCVBUF]) {
      for (const n of [0, -1]) assert.equal(so.setsockopt(api.SOL_SOCKET, o, n), -EINVAL);
      assert.equal(so.setsockopt(api.SOL_SOCKET, o, 1), 0);
      assert.equal(so.getsockopt(api.SOL_SOCKET, o), 1);
    }
    over(w);
  });
});

describe('what they do', () => {
  test('INITMSG goes into the INIT', () => {
    const w = new f.WirePeer();
    const so = w.socket();
    so.setsockopt(L, api.SCTP_INITMSG, { numOstreams: 3, maxInstreams: 4, maxAttempts: 1, maxInitTimeo: 500 });
    so.connect(w.at(w.peer, 7));
    w.settle();
    const i = w.one('INIT').chunks[0]!.init!;
    assert.deepEqual([i.os, i.is], [3, 4]);
    w.run(30 * f.SEC);
    assert.deepEqual([w.names(), so.error], [['INIT'], 60]);
    over(w);
  });
  test('MAXSEG cuts messages', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    assert.equal(so.setsockopt(L, api.SCTP_MAXSEG, { assocId: 0, value: 100 }), 0);
    so.send(new Uint8Array(250));
    w.settle();
    assert.deepEqual(
      w.take().flatMap(p => p.chunks.map(c => c.length - 16)),
      [100, 100, 50],
    );
    over(w);
  });
  test('ECN is offered or not', () => {
    for (const value of [0, 1]) {
      const w = new f.WirePeer();
      const so = w.socket();
      so.setsockopt(L, api.SCTP_ECN_SUPPORTED, value);
      so.connect(w.at(w.peer, 7));
      w.settle();
      assert.equal(
        w.one('INIT').chunks[0]!.tlvs.some(t => t.type === 0x8000),
        value === 1,
      );
      over(w);
    }
  });
  test('a path MTU fixed, fixed again, and let go', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    const set = (flags: number, pathMtu = 0) => so.setsockopt(L, api.SCTP_PEER_ADDR_PARAMS, { flags, pathMtu });
    const mtu = () => w.associations[0]!.paths[0]!.mtu;
    assert.deepEqual([set(api.SPP_PMTUD_DISABLE, 800), mtu()], [0, 832]);
    assert.deepEqual([set(api.SPP_PMTUD_DISABLE, 600), mtu()], [0, 632]);
    w.run(700 * f.SEC);
    assert.equal(get(so, api.SCTP_PEER_ADDR_PARAMS, { assocId: 0, address: w.at(w.peer, 0) }).pathMtu, 600);
    assert.equal(set(api.SPP_PMTUD_ENABLE), 0);
    over(w);
  });
  test('HB_DEMAND sends a heartbeat now; HB_DISABLE stops them', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    w.take();
    so.setsockopt(L, api.SCTP_PEER_ADDR_PARAMS, {
      address: w.at(w.peer, 0),
      flags: api.SPP_HB_DEMAND | api.SPP_HB_DISABLE,
    });
    w.settle();
    const hb = w.one('HEARTBEAT');
    w.inject(f.chunk(5, 0, hb.chunks[0]!.body));
    w.run(300 * f.SEC);
    assert.deepEqual([w.names(), w.counted('sctps_hbackrecv')], [[], [1]]);
    over(w);
  });
  test('AUTOCLOSE ends an idle association; the longest time is as good as never', () => {
    for (const [seconds, state] of [
      [5, ''],
      [0xffffffff, 'ESTABLISHED'],
    ] as const) {
      const w = new f.WirePeer();
      const so = w.listen(SOCK_SEQPACKET);
      assert.equal(so.setsockopt(L, api.SCTP_AUTOCLOSE, seconds), 0);
      w.dial();
      w.run(7 * f.SEC);
      if (state === '') w.inject(f.shutdownAck());
      assert.equal(w.state, state);
      over(w);
    }
  });
  test('PRIMARY_ADDR: confirmed addresses of the peer only', () => {
    const w = new f.WirePeer();
    w.listen();
    w.dial({ params: [f.addressParam('10.0.0.9')] });
    const so = w.socket(SOCK_SEQPACKET); // not the one that has it
    assert.equal(so.setsockopt(L, api.SCTP_PRIMARY_ADDR, { assocId: 3, address: w.at('10.0.0.9', 0) }), -ENOENT);
    over(w);
    const [v, s, id] = many();
    const set = (a: string) => s.setsockopt(L, api.SCTP_PRIMARY_ADDR, { assocId: id, address: v.at(a, 0) });
    assert.deepEqual([set('10.0.0.77'), set(v.peer)], [-EINVAL, 0]);
    over(v);
  });
  test('STATUS and paths', () => {
    const [w, so, id] = many();
    const s = so.getsockopt(L, api.SCTP_STATUS, id) as api.AssocStatus;
    assert.deepEqual(
      [s.state, s.instrms, s.outstrms, s.rwnd, s.primary!.state],
      ['ESTABLISHED', 10, 10, 100_000, 'active'],
    );
    assert.notEqual(s.primary!.why, '');
    assert.deepEqual(so.getsockopt(L, api.SCTP_GET_ASSOC_ID_LIST), [id]);
    assert.equal(so.getsockopt(L, api.SCTP_GET_ASSOC_NUMBER), 1);
    assert.equal((so.getsockopt(L, api.SCTP_GET_PATHS, id) as unknown[]).length, 1);
    over(w);
  });
});

describe('sctp_bindx', () => {
  test('adds and removes, all or nothing', () => {
    const w = new f.WirePeer({ more: ['10.0.1.1/24', '10.0.2.1/24'] });
    const so = w.socket();
    const add = (...a: string[]) =>
      so.setsockopt(
        L,
        api.SCTP_BINDX_ADD_ADDR,
        a.map(x => w.at(x, 9)),
      );
    const remove = (...a: string[]) =>
      so.setsockopt(
        L,
        api.SCTP_BINDX_REM_ADDR,
        a.map(x => w.at(x, 9)),
      );
    const bound = () =>
      (so.getsockopt(L, api.SCTP_GET_LOCAL_ADDRESSES, 0) as { addr: object }[]).map(x => String(x.addr));
    assert.deepEqual([add('10.0.0.1'), bound()], [0, ['10.0.0.1']]); // binds
    assert.equal(add('10.0.1.1', '10.9.9.9'), -EADDRNOTAVAIL);
    assert.equal(add('fd00::1'), -EAFNOSUPPORT);
    assert.deepEqual(bound(), ['10.0.0.1']);
    assert.deepEqual([add('10.0.1.1', '10.0.2.1'), bound().length], [0, 3]);
    assert.equal(remove('10.0.0.1', '10.9.9.9'), -EINVAL);
    assert.equal(remove('10.0.0.1', '10.0.1.1', '10.0.2.1'), -EINVAL);
    assert.deepEqual([remove('10.0.0.1', '10.0.1.1'), bound()], [0, ['10.0.2.1']]);
    assert.equal(so.setsockopt(L, api.SCTP_BINDX_ADD_ADDR, [w.at('10.0.0.1', 10)]), -EINVAL);
    const other = w.socket();
    other.bind(w.at('10.0.0.1', 9));
    other.listen(1);
    assert.equal(add('10.0.0.1'), -EADDRINUSE);
    over(w);
  });
  test('not on "all addresses", not with an association (RFC 5061 does that)', () => {
    const w = new f.WirePeer();
    const [so] = w.connected();
    assert.equal(so.setsockopt(L, api.SCTP_BINDX_ADD_ADDR, [w.at(w.local, 0)]), -EOPNOTSUPP);
    assert.equal(w.listen().setsockopt(L, api.SCTP_BINDX_ADD_ADDR, [w.at(w.local, 0)]), -EINVAL);
    so.shutdown(SHUT_WR);
    over(w);
  });
});

test('values of the wrong shape are refused and change nothing', () => {
  const w = new f.WirePeer();
  const [so] = w.connected();
  const many = w.socket(SOCK_SEQPACKET);
  const names = Object.entries(api).filter(([k, v]) => /^SCTP_/.test(k) && typeof v === 'number');
  const junk = [
    undefined,
    null,
    'x',
    Symbol.iterator,
    [],
    [{}],
    () => 1,
    { assocId: 'x' },
    { assocId: {} },
    { address: {} },
    { address: { addr: {}, port: 1 } },
    { assocId: -1 },
    Number.NaN,
    -1,
    1.5,
    2 ** 40,
    { value: 'y' },
    { initial: 'q' },
    { flags: null, hbInterval: '1' },
  ];
  for (const [, name] of names)
    for (const j of junk)
      for (const s of [so, many]) {
        assert.doesNotThrow(() => s.getsockopt(L, name as number, j));
        assert.doesNotThrow(() => s.setsockopt(L, name as number, j));
      }
  over(w);
});
