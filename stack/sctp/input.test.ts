import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  CAUSE_PROTOCOL_VIOLATION,
  CAUSE_UNRECOGNIZED_CHUNK,
  CAUSE_UNRECOGNIZED_PARAMS,
  PARAM_ECN,
  PARAM_HEARTBEAT_INFO,
  PARAM_STATE_COOKIE,
  PARAM_UNRECOGNIZED,
  T_BIT,
} from './constants.js';
import * as f from './packets.fixture.js';
import { COUNTERS, type CounterName } from './stats.js';

/** A fresh association, and what one injected packet does to it: counters that moved, packets sent, state. */
function onAssociation(chunks: Uint8Array | Uint8Array[], where: f.InjectFields = {}) {
  const w = new f.WirePeer();
  w.accepted();
  const before = { ...w.stats };
  w.inject(chunks, where);
  const moved = (Object.keys(COUNTERS) as CounterName[]).filter(k => w.stats[k] !== before[k]);
  const out = w.take();
  const r = { w, moved, out, state: w.state, drop: w.told('drop'), tag: w.tag };
  assert.equal(w.end(), 0);
  return r;
}

describe('the common header', () => {
  test('a packet too short for a chunk', () => {
    const w = new f.WirePeer();
    w.injectPacket(new Uint8Array(12));
    w.injectPacket(new Uint8Array(3));
    w.settle();
    assert.deepEqual([w.counted('sctps_hdrops'), w.names()], [[2], []]);
    assert.match(w.told('drop'), /RFC 9260 §3\b/);
  });
  for (const [name, counter, where] of [
    ['bad CRC32c', 'sctps_checksumerrors', { crc: 'bad' }],
    ['CRC32c 0', 'sctps_checksumerrors', { crc: 0 }],
    ['source port 0', 'sctps_badport', { src: 0 }],
    ['destination port 0', 'sctps_badport', { dst: 0 }],
    ['wrong tag', 'sctps_badvtag', { tag: 12345 }],
    ['tag 0', 'sctps_badvtag', { tag: 0 }],
    ["the peer's own tag", 'sctps_badvtag', { tag: f.PEER_TAG }],
  ] as const)
    test(`${name} is dropped, counted and told`, () => {
      const r = onAssociation(f.heartbeat(), where);
      assert.ok(r.moved.includes(counter), r.moved.join());
      assert.deepEqual([r.out, r.state], [[], 'ESTABLISHED']);
      assert.match(r.drop, /RFC 9260 §/);
    });
  test('a flood of one kind of drop is told once a second, with its number', () => {
    const w = new f.WirePeer();
    for (let i = 0; i < 100; i++) w.inject(f.heartbeat(), { tag: 1, crc: 'bad' });
    w.run(f.SEC);
    w.inject(f.heartbeat(), { tag: 1, crc: 'bad' });
    const told = w.events.filter(e => e.kind === 'protocol' && e.what === 'drop');
    assert.deepEqual(
      told.map(e => (e.kind === 'protocol' ? e.detail.count : 0)),
      [1, 100],
    );
    assert.equal(w.end(), 0);
  });
});

describe('verification tags (§8.5.1)', () => {
  test('INIT with a tag, with initiate tag 0, or not alone', () => {
    for (const [chunks, where] of [
      [[f.init()], { tag: 5 }],
      [[f.init({ tag: 0 })], {}],
      [[f.init(), f.cookieAck()], {}],
      [[f.init({ length: 19 })], {}],
    ] as const) {
      const w = new f.WirePeer();
      w.listen();
      w.inject(chunks, where);
      assert.deepEqual([w.counted('sctps_badinit'), w.names()], [[1], []]);
      assert.equal(w.end(), 0);
    }
  });
  for (const [name, chunk, tag, ended] of [
    ['ABORT, our tag', f.abort(), 'mine', true],
    ["ABORT with T, the peer's tag", f.abort(T_BIT), 'peer', true],
    ['ABORT with T, our tag', f.abort(T_BIT), 'mine', false],
    ["ABORT, the peer's tag", f.abort(), 'peer', false],
  ] as const)
    test(name, () => {
      const w = new f.WirePeer();
      w.accepted();
      w.inject(chunk, { tag: tag === 'mine' ? w.tag : f.PEER_TAG });
      assert.equal(w.state, ended ? '' : 'ESTABLISHED');
      assert.deepEqual(w.counted('sctps_abortrecv', 'sctps_badvtag'), ended ? [1, 0] : [0, 1]);
      assert.equal(w.end(), 0);
    });
  test('an ABORT behind other chunks obeys the T bit too', () => {
    const r = onAssociation([f.heartbeat(), f.abort(T_BIT)]);
    assert.equal(r.state, 'ESTABLISHED');
    assert.ok(r.moved.includes('sctps_badvtag'));
  });
  test('SHUTDOWN ACK in COOKIE-WAIT and COOKIE-ECHOED is out of the blue', () => {
    for (const echoed of [false, true]) {
      const w = new f.WirePeer();
      if (echoed) w.connected([], {}, true);
      else w.connecting();
      w.take();
      w.inject(f.shutdownAck(), { tag: 99 });
      const p = w.one('SHUTDOWN COMPLETE');
      assert.deepEqual([p.tag, p.chunks[0]!.flags, w.state], [99, T_BIT, echoed ? 'COOKIE_ECHOED' : 'COOKIE_WAIT']);
      assert.equal(w.end(), 0);
    }
  });
});

describe('bundling and lengths (§3.2, §6.10)', () => {
  test('HEARTBEATs are each answered as they came, padding and all', () => {
    const r = onAssociation([
      f.heartbeat(f.u32(1)),
      f.chunk(4, 7, f.param(PARAM_HEARTBEAT_INFO, [1, 2, 3]).subarray(0, 7)),
    ]);
    assert.equal(r.out[0]!.names, 'HEARTBEAT ACK+HEARTBEAT ACK');
    const ack = r.out[0]!.chunks[1]!;
    assert.deepEqual([ack.flags, ack.length, [...ack.body]], [0, 11, [0, 1, 0, 7, 1, 2, 3]]);
  });
  test('a chunk length below 4, or beyond the packet, ends the packet', () => {
    for (const length of [0, 3, 500]) {
      const r = onAssociation([f.heartbeat(), f.chunk(4, 0, f.u32(1), length), f.heartbeat()]);
      assert.ok(r.moved.includes('sctps_badchunklen'));
      assert.equal(r.out[0]?.names, 'HEARTBEAT ACK');
      assert.equal(r.state, 'ESTABLISHED');
    }
  });
  test('bytes behind the last chunk that make none', () => {
    const r = onAssociation([f.heartbeat(), Uint8Array.of(1, 2)]);
    assert.ok(r.moved.includes('sctps_badchunklen'));
    assert.equal(r.out[0]?.names, 'HEARTBEAT ACK');
  });
  test('control behind DATA is a protocol violation', () => {
    const r = onAssociation([f.data({ tsn: f.PEER_TSN }), f.heartbeat()]);
    assert.deepEqual([r.out[0]!.names, r.out[0]!.tag, r.state], ['ABORT', f.PEER_TAG, '']);
    assert.equal(r.out[0]!.chunks[0]!.tlvs[0]!.type, CAUSE_PROTOCOL_VIOLATION);
  });
  test('INIT ACK, COOKIE ACK, SHUTDOWN COMPLETE, SHUTDOWN ACK when established: counted, no answer', () => {
    for (const c of [f.initAck(), f.cookieAck(), f.shutdownComplete(), f.shutdownAck()]) {
      const r = onAssociation(c);
      assert.ok(r.moved.includes('sctps_unexpected'), r.moved.join());
      assert.deepEqual([r.out, r.state], [[], 'ESTABLISHED']);
    }
  });
});

describe('unknown chunks (§3.2)', () => {
  for (const [bits, type, reported, on] of [
    ['00 stop', 0x3f, false, false],
    ['01 stop and report', 0x7f, true, false],
    ['10 skip', 0xbf, false, true],
    ['11 skip and report', 0xff, true, true],
  ] as const)
    test(bits, () => {
      const unknown = f.chunk(type, 3, Uint8Array.of(1, 2, 3, 4, 5));
      const r = onAssociation([unknown, f.heartbeat()]);
      assert.equal(
        r.out.map(p => p.names).join(),
        [...(reported ? ['ERROR'] : []), ...(on ? ['HEARTBEAT ACK'] : [])].join('+'),
      );
      if (reported) {
        const cause = r.out[0]!.chunks[0]!.tlvs[0]!;
        assert.equal(cause.type, CAUSE_UNRECOGNIZED_CHUNK);
        assert.deepEqual(cause.body, unknown); // padding and all, as FreeBSD
      }
      assert.ok(r.moved.includes('sctps_unknownchunk'));
      assert.equal(r.state, 'ESTABLISHED');
    });
  test('not reported in COOKIE-WAIT: there is no tag to report to', () => {
    const w = new f.WirePeer();
    w.connecting();
    w.inject(f.chunk(0xff, 0, f.u32(1)));
    assert.deepEqual([w.names(), w.state], [[], 'COOKIE_WAIT']);
    assert.equal(w.end(), 0);
  });
  test('a packet full of them cannot make us send without bound', () => {
    const r = onAssociation(Array.from({ length: 350 }, () => f.chunk(0xff)));
    const bytes = r.out.reduce((n, p) => n + p.bytes.length, 0);
    assert.ok(bytes < 1500, `${bytes} bytes for 1412`);
    assert.ok(r.moved.includes('sctps_outfailed'));
  });
});

describe('unknown parameters', () => {
  const unknown = (type: number) => f.param(type, [1, 2, 3, 4]);
  for (const [bits, type, reported, on] of [
    ['00 stop', 0x3fff, false, false],
    ['01 stop and report', 0x7fff, true, false],
    ['10 skip', 0xbfff, false, true],
    ['11 skip and report', 0xffff, true, true],
  ] as const) {
    test(`in INIT: ${bits}`, () => {
      const w = new f.WirePeer();
      w.listen();
      // What stands behind it and is to be reported shows whether the reading went on.
      const next = f.param(0xfffe, [5]);
      w.inject(f.init({ params: [unknown(type), next] }), { dst: f.LOCAL_PORT });
      const types = w.one('INIT ACK').chunks[0]!.tlvs;
      const back = types.filter(t => t.type === PARAM_UNRECOGNIZED).map(t => [...t.body]);
      assert.deepEqual(back, [...(reported ? [[...unknown(type)]] : []), ...(on ? [[...next.subarray(0, 5)]] : [])]);
      assert.equal(w.end(), 0);
    });
    test(`in INIT ACK: ${bits}`, () => {
      const w = new f.WirePeer();
      const cookie = f.param(PARAM_STATE_COOKIE, f.COOKIE);
      const [so] = w.connecting();
      w.inject(f.initAck({ params: [cookie, unknown(type), f.param(PARAM_ECN)] }));
      const p = w.one(reported ? 'COOKIE ECHO+ERROR' : 'COOKIE ECHO');
      if (reported) {
        const cause = p.chunks[1]!.tlvs[0]!;
        assert.deepEqual([cause.type, cause.body], [CAUSE_UNRECOGNIZED_PARAMS, unknown(type)]);
      }
      w.inject(f.cookieAck());
      assert.deepEqual([w.state, so.writable], ['ESTABLISHED', true]);
      assert.equal(w.end(), 0);
    });
  }
});

describe('DATA in states that do not take it (§6)', () => {
  test('COOKIE-WAIT: dropped', () => {
    const w = new f.WirePeer();
    w.connecting();
    w.inject(f.data({ tsn: 1 }));
    assert.deepEqual([w.counted('sctps_datadropstate'), w.names(), w.state], [[1], [], 'COOKIE_WAIT']);
    assert.equal(w.end(), 0);
  });
  test('COOKIE-ECHOED: it proves that the peer has our cookie (§5.1)', () => {
    const w = new f.WirePeer();
    w.connected([], {}, true);
    w.take();
    w.inject(f.data({ tsn: f.PEER_TSN }));
    assert.deepEqual([w.names(), w.state], [['SACK'], 'ESTABLISHED']);
    assert.equal(w.end(), 0);
  });
});
