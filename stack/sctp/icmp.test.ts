import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ECONNREFUSED, ECONNRESET } from '../kern/errno.js';
import type { Socket } from '../kern/socket.js';
import { ALL_EVENTS, drain } from './harness.js';
import * as f from './packets.fixture.js';

// ICMP types and codes (RFC 792, RFC 1191).
const UNREACH = 3;
const [NET, HOST, PROTOCOL, PORT, TOO_BIG] = [0, 1, 2, 3, 4];
const over = (w: f.WirePeer) => assert.equal(w.end(), 0);

/** An established association and a DATA packet that it has sent. */
function sent(): { w: f.WirePeer; so: Socket; about: f.WirePacket } {
  const w = new f.WirePeer();
  const [so] = w.accepted(ALL_EVENTS);
  so.send(new Uint8Array(1000));
  w.settle();
  drain(so);
  return { w, so, about: w.one('DATA') };
}

describe('whose packet was it (§10 ICMP5, ICMP6)', () => {
  const ignored = (w: f.WirePeer, state: string) => {
    assert.deepEqual([w.state, w.counted('sctps_icmp', 'sctps_icmpignored')], [state, [0, 1]]);
    assert.match(w.told('drop'), /RFC 9260 §10/);
    over(w);
  };
  test("a quoted tag that is not the peer's", () => {
    const { w, about } = sent();
    const bytes = f.packet({ src: about.src, dst: about.dst, tag: about.tag + 1 }, [f.cookieAck()]);
    w.injectIcmp(UNREACH, PROTOCOL, { ...about, bytes });
    ignored(w, 'ESTABLISHED');
  });
  test('ports or addresses of no association', () => {
    const { w, about } = sent();
    w.injectIcmp(UNREACH, PROTOCOL, { ...about, bytes: f.packet({ src: 1, dst: 2, tag: about.tag }, [f.cookieAck()]) });
    ignored(w, 'ESTABLISHED');
  });
  test('too little is quoted to tell', () => {
    const { w, about } = sent();
    w.injectIcmp(UNREACH, PROTOCOL, about, 0, 7);
    assert.equal(w.state, 'ESTABLISHED');
    over(w);
  });
  test('an INIT without its initiate tag, or with another', () => {
    for (const change of ['short', 'tag'] as const) {
      const w = new f.WirePeer();
      const [, i] = w.connecting();
      const bytes = i.bytes.slice();
      if (change === 'tag') bytes[17]! ^= 1;
      w.injectIcmp(UNREACH, PROTOCOL, { ...i, bytes }, 0, change === 'short' ? 16 : 576);
      ignored(w, 'COOKIE_WAIT');
    }
  });
});

describe('protocol unreachable (ICMP8), and port unreachable as FreeBSD takes it (facts 7.27)', () => {
  for (const code of [PROTOCOL, PORT])
    test(`code ${code} while connecting: ECONNREFUSED with the reason`, () => {
      const w = new f.WirePeer();
      const [so, i] = w.connecting();
      w.injectIcmp(UNREACH, code!, i);
      assert.deepEqual([so.error, w.state], [ECONNREFUSED, '']);
      assert.match(so.errorReason, /unreachable: the peer has no SCTP there \(RFC 9260 §10 ICMP8\)/);
      assert.match(w.told('connect-failed'), /ICMP/);
      over(w);
    });
  test('when established: as an ABORT received', () => {
    const { w, so, about } = sent();
    w.injectIcmp(UNREACH, PROTOCOL, about);
    assert.deepEqual([so.error, w.state, w.names()], [ECONNRESET, '', []]);
    const lost = drain(so).notes.at(-1)!;
    assert.ok(lost.type === 'assoc-change' && lost.state === 'comm-lost');
    over(w);
  });
  test('about our INIT when we are past COOKIE-WAIT: too late to matter', () => {
    const w = new f.WirePeer();
    const [, i] = w.connected();
    w.injectIcmp(UNREACH, PROTOCOL, i);
    assert.equal(w.state, 'ESTABLISHED');
    over(w);
  });
});

describe('net and host unreachable (ICMP9)', () => {
  for (const code of [NET, HOST])
    test(`code ${code}: the path is down, told with the reason; data goes on being tried`, () => {
      const { w, so, about } = sent();
      w.injectIcmp(UNREACH, code!, about);
      assert.equal(w.associations[0]!.paths[0]!.state, 'inactive');
      const n = drain(so).notes[0]!;
      assert.ok(n.type === 'peer-addr-change' && n.state === 'unreachable' && /ICMP/.test(n.reason.text));
      assert.match(w.told('path-down'), /ICMP.*RFC 9260 §10/);
      assert.deepEqual(w.counted('sctps_pathdown', 'sctps_icmp'), [1, 1]);
      assert.ok(w.wait(10 * f.SEC).some(p => /DATA|HEARTBEAT/.test(p.names)));
      over(w);
    });
});

describe('fragmentation needed (ICMP7, §7.3)', () => {
  test('the path MTU follows, what was lost goes again, later messages in smaller pieces', () => {
    const { w, so, about } = sent();
    w.injectIcmp(UNREACH, TOO_BIG, about, 800);
    assert.equal(w.associations[0]!.paths[0]!.mtu, 800);
    assert.ok(w.take().some(p => p.chunks[0]!.data?.tsn === about.chunks[0]!.data!.tsn));
    assert.match(w.told('path-mtu'), /packets above 800 bytes are too big \(RFC 9260 §7\.3\)/);
    w.inject(f.sack(about.chunks[0]!.data!.tsn));
    so.send(new Uint8Array(3000));
    w.settle();
    const sizes = w.take().map(p => p.bytes.length + 20);
    assert.ok(sizes.length > 3 && sizes.every(n => n <= 800), sizes.join());
    assert.deepEqual(w.counted('sctps_pmtulowered'), [1]);
    over(w);
  });
  test('larger than before: nothing; absurdly small: 512', () => {
    const { w, about } = sent();
    w.injectIcmp(UNREACH, TOO_BIG, about, 1600);
    assert.equal(w.associations[0]!.paths[0]!.mtu, 1500);
    w.injectIcmp(UNREACH, TOO_BIG, about, 68);
    assert.equal(w.associations[0]!.paths[0]!.mtu, 512);
    over(w);
  });
  test('the INIT itself was too big: an INIT is never made smaller, but the path is known', () => {
    const w = new f.WirePeer();
    const [, i] = w.connecting();
    w.injectIcmp(UNREACH, TOO_BIG, i, 600);
    assert.deepEqual([w.state, w.associations[0]!.paths[0]!.mtu], ['COOKIE_WAIT', 600]);
    over(w);
  });
});

test('time exceeded says nothing about the association', () => {
  const { w, about } = sent();
  w.injectIcmp(11, 0, about);
  assert.deepEqual([w.state, w.counted('sctps_icmpignored')], ['ESTABLISHED', [1]]);
  over(w);
});
