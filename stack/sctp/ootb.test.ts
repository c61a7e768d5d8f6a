import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CAUSE_INVALID_STREAM, CAUSE_STALE_COOKIE, T_BIT } from './constants.js';
import { judge } from './ootb.js';
import * as f from './packets.fixture.js';

const verdict = (tag: number, ...chunks: Uint8Array[]) => {
  const b = f.join(chunks);
  return judge(new DataView(b.buffer), 0, b.length, tag);
};
const stale = f.error(f.param(CAUSE_STALE_COOKIE, f.u32(1)));

describe('§8.4, rule by rule', () => {
  for (const [name, kind, ...chunks] of [
    ['2: ABORT', 'silent', f.abort()],
    ['2: ABORT behind others', 'silent', f.shutdownAck(), f.data({ tsn: 1 }), f.abort(T_BIT)],
    ['5: SHUTDOWN ACK', 'shutdown-complete', f.shutdownAck()],
    ['5: SHUTDOWN ACK behind others', 'shutdown-complete', f.sack(1), f.shutdownAck()],
    ['6: SHUTDOWN COMPLETE', 'silent', f.shutdownComplete()],
    ['7: COOKIE ACK', 'silent', f.cookieAck(), f.data({ tsn: 1 })],
    ['7: stale cookie', 'silent', stale],
    ['7: stale cookie as the second cause', 'silent', f.error(f.param(1, [0, 0, 0, 0]), f.param(3, [0, 0, 0, 1]))],
    ['8: another ERROR', 'abort-reflected', f.error(f.param(CAUSE_INVALID_STREAM, f.u32(1)))],
    ['8: INIT ACK', 'abort-reflected', f.initAck()],
    ['8: DATA', 'abort-reflected', f.data({ tsn: 1 })],
    ['8: HEARTBEAT', 'abort-reflected', f.heartbeat()],
    ['8: an unknown chunk', 'abort-reflected', f.chunk(0xfe)],
    ['8: a chunk with a bad length', 'abort-reflected', f.chunk(3, 0, undefined, 2)],
  ] as const)
    test(name, () => assert.equal(verdict(5, ...chunks).kind, kind));
  test('3: INIT is refused with its own tag', () =>
    assert.deepEqual(verdict(0, f.init({ tag: 9 })), { kind: 'abort-init', tag: 9 }));
  test('3: an ABORT beside the INIT goes first', () =>
    assert.equal(verdict(0, f.init({ tag: 9 }), f.abort()).kind, 'silent'));
  test('tag 0 without INIT has no answer (§8.5.1 A)', () => {
    for (const x of [f.data({ tsn: 1 }), f.shutdownAck(), f.heartbeat(), f.initAck()])
      assert.equal(verdict(0, x).kind, 'silent');
  });
});

describe('on the wire', () => {
  const answer = (chunks: Uint8Array[], over: f.WirePeerOptions = {}, where: f.InjectFields = {}) => {
    const w = new f.WirePeer(over);
    w.inject(chunks, { dst: 4444, ...where });
    const out = w.take();
    const counts = w.counted('sctps_ootb', 'sctps_ootb_aborts', 'sctps_ootb_silent');
    const told = [w.told('out-of-the-blue'), w.told('drop')];
    assert.equal(w.end(), 0);
    return { out, counts, told };
  };
  test('ABORT with the tag reflected, ports swapped, CRC good', () => {
    const { out, counts, told } = answer([f.data({ tsn: 1 })], {}, { tag: 0xcafe });
    const [p] = out;
    assert.deepEqual(
      [p!.names, p!.chunks[0]!.flags, p!.tag, p!.src, p!.dst, p!.crcGood],
      ['ABORT', T_BIT, 0xcafe, 4444, 7000, true],
    );
    assert.deepEqual([p!.from, p!.to], ['10.0.0.1', '10.0.0.2']);
    assert.deepEqual(counts, [1, 1, 0]);
    assert.match(told[0]!, /neither an association nor a listener \(RFC 9260 §8\.4\)/);
  });
  test('INIT: ABORT with its initiate tag, T clear', () => {
    const { out } = answer([f.init({ tag: 0x77 })]);
    assert.deepEqual([out[0]!.names, out[0]!.chunks[0]!.flags, out[0]!.tag], ['ABORT', 0, 0x77]);
  });
  test('SHUTDOWN ACK: SHUTDOWN COMPLETE with T', () => {
    const { out, counts } = answer([f.shutdownAck()], {}, { tag: 3 });
    assert.deepEqual([out[0]!.names, out[0]!.chunks[0]!.flags, out[0]!.tag], ['SHUTDOWN COMPLETE', T_BIT, 3]);
    assert.deepEqual(counts, [1, 0, 0]);
  });
  test('silence is counted, and told with its section', () => {
    const { out, counts, told } = answer([f.cookieAck()], {}, { tag: 3 });
    assert.deepEqual([out, counts], [[], [1, 0, 1]]);
    assert.match(told[1]!, /not answered \(RFC 9260 §8\.4\)/);
  });
  test('the answer goes into UDP as the question came (RFC 6951)', () => {
    const { out } = answer(
      [f.init({ tag: 7 })],
      { tunables: { udp_tunneling_port: 9899 } },
      { udpSrc: 3333, udpDst: 9899 },
    );
    assert.deepEqual([out[0]!.udpSrc, out[0]!.udpDst, out[0]!.tag], [9899, 3333, 7]);
  });
  for (const [blackhole, onInit, onData, onShutdownAck] of [
    [0, 'ABORT', 'ABORT', 'SHUTDOWN COMPLETE'],
    [1, '', 'ABORT', 'SHUTDOWN COMPLETE'],
    [2, '', '', 'SHUTDOWN COMPLETE'],
  ] as const)
    test(`blackhole ${blackhole}`, () => {
      const w = new f.WirePeer({ tunables: { blackhole } });
      const ask = (c: Uint8Array, tag: number) => {
        w.inject(c, { dst: 4444, tag });
        return w.names().join();
      };
      assert.deepEqual(
        [ask(f.init(), 0), ask(f.data({ tsn: 1 }), 5), ask(f.shutdownAck(), 5)],
        [onInit, onData, onShutdownAck],
      );
      assert.equal(w.end(), 0);
    });
  test('a COOKIE ECHO where nobody listens', () => {
    assert.equal(answer([f.cookieEcho()], {}, { tag: 3 }).out[0]!.names, 'ABORT');
  });
});
