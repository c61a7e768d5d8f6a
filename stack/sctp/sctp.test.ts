/** Associations from end to end between two stacks in virtual time. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SOCK_SEQPACKET } from '../kern/protosw.js';
import { SHUT_WR, type Socket } from '../kern/socket.js';
import { SCTP_UNORDERED } from './api.js';
import { ALL_EVENTS, at, check, drain, SctpPair, sendInfo } from './harness.js';

const text = (s: string) => new TextEncoder().encode(s);
const str = (b: Uint8Array) => new TextDecoder().decode(b);

/** Sends `total` bytes of `size`-byte messages from c to s and checks every byte on arrival. */
function transfer(p: SctpPair, c: Socket, s: Socket, about: number, size: number, over = {}): void {
  const total = Math.ceil(about / size) * size;
  const msg = new Uint8Array(size);
  const info = sendInfo(over);
  let sent = 0;
  let got = 0;
  let next = 0;
  const ok = p.net.runUntil(() => {
    while (sent < total) {
      for (let i = 0; i < size; i++) msg[i] = (sent / size + i) & 255;
      const n = c.send(msg, 0, size, info);
      if (n < 0) break;
      sent += n;
    }
    for (const m of drain(s).messages) {
      if ((info.flags & SCTP_UNORDERED) === 0) {
        assert.equal(m.data[0], next & 255);
        if (m.eor) next++;
      }
      got += m.data.length;
    }
    return got >= total;
  }, 600e9);
  assert.ok(ok, `only ${got} of ${total} bytes arrived; sent ${sent}`);
  assert.equal(got, total);
}

for (const family of [4, 6] as const) {
  for (const encaps of [0, 9899]) {
    test(`set-up, a message each way, graceful end: IPv${family}${encaps ? ' in UDP' : ''}`, () => {
      const p = new SctpPair({ family, encaps });
      const [c, s, l] = p.connect(ALL_EVENTS);
      check(c.send(text('hello'), 0, 5, sendInfo({ sid: 3, ppid: 7 })));
      p.net.run(1e9);
      const atServer = drain(s);
      assert.equal(str(atServer.messages[0]!.data), 'hello');
      assert.deepEqual(
        [atServer.messages[0]!.sid, atServer.messages[0]!.ppid, atServer.messages[0]!.eor],
        [3, 7, true],
      );
      assert.deepEqual(
        atServer.notes.map(n => n.type),
        ['assoc-change'],
      );
      check(s.send(text('there'), 0, 5));
      p.net.run(1e9);
      assert.equal(str(drain(c).messages[0]!.data), 'there');
      check(c.shutdown(SHUT_WR));
      p.net.run(1e9);
      assert.equal(drain(s).end, 0);
      assert.equal(drain(c).end, 0);
      assert.equal(p.kexts[0].associations().length, 0);
      for (const so of [c, s, l]) check(so.close());
      assert.equal(p.end(), 0);
    });
  }
}

test('bulk transfer, ordered, one stream', () => {
  const p = new SctpPair();
  const [c, s, l] = p.connect();
  transfer(p, c, s, 2_000_000, 1000);
  for (const so of [c, s, l]) so.close();
  assert.equal(p.end(), 0);
});

test('bulk transfer in trains, acknowledged as trains: fewer SACKs than for as many single packets', () => {
  const sacks = (trains: boolean): number => {
    const p = new SctpPair({ trains });
    const [c, s, l] = p.connect();
    transfer(p, c, s, 4_000_000, 1400);
    const { sctps_sendsacks, sctps_recvdata } = p.kexts[1].sctp!.stats;
    for (const so of [c, s, l]) so.close();
    assert.equal(p.end(), 0);
    return sctps_sendsacks / sctps_recvdata;
  };
  assert.ok(sacks(false) > 0.45, 'every second packet (§6.2)');
  const each = sacks(true);
  assert.ok(each < 0.3 && each > 0.02, `${each} SACKs a packet`);
});

test('messages larger than the path MTU and larger than the receive buffer', () => {
  const p = new SctpPair();
  const [c, s, l] = p.connect();
  transfer(p, c, s, 1_000_000, 50_000);
  for (const so of [c, s, l]) so.close();
  assert.equal(p.end(), 0);
});

describe('faults', () => {
  for (const [name, options] of Object.entries({
    'loss of every 20th frame': { loss: (_f: Uint8Array, n: number) => n > 6 && n % 20 === 0 },
    'bursts of loss': { loss: (_f: Uint8Array, n: number) => n > 10 && n % 100 < 8 },
    reordering: { delay: (_f: Uint8Array, n: number) => 5e6 + (n % 7) * 300_000 },
    corruption: {
      alter: (f: Uint8Array, n: number) => {
        if (n > 6 && n % 15 === 0) f[f.length - 3]! ^= 0x40;
        return f;
      },
    },
  })) {
    for (const over of [{}, { flags: SCTP_UNORDERED }]) {
      test(`${name}${over.flags ? ', unordered' : ''}`, () => {
        const p = new SctpPair(options);
        const [c, s, l] = p.connect();
        transfer(p, c, s, 500_000, 1200, over);
        for (const so of [c, s, l]) so.close();
        assert.equal(p.end(), 0);
        if (name === 'corruption') assert.ok(p.b.counters !== undefined);
      });
    }
  }
});

test('one-to-many: implicit set-up, answers by association id', () => {
  const p = new SctpPair();
  const server = p.socket('b', SOCK_SEQPACKET);
  check(server.bind(at('0.0.0.0', 7)));
  check(server.listen(1));
  const client = p.socket('a', SOCK_SEQPACKET);
  check(client.send(text('ping'), 0, 4, sendInfo(), at('10.0.0.2', 7)));
  p.net.run(1e9);
  const got = drain(server).messages;
  assert.equal(str(got[0]!.data), 'ping');
  check(server.send(text('pong'), 0, 4, sendInfo({ assocId: got[0]!.assocId })));
  p.net.run(1e9);
  assert.equal(str(drain(client).messages[0]!.data), 'pong');
  client.close();
  server.close();
  assert.equal(p.end(), 0);
});

test('connect to a port where nobody listens is refused, with the reason', () => {
  const p = new SctpPair();
  const c = p.socket('a');
  assert.equal(c.connect(at('10.0.0.2', 9)), -36);
  p.net.run(1e9);
  assert.equal(c.error, 61);
  assert.match(c.errorReason, /ABORT.*RFC 9260/);
  c.close();
  assert.equal(p.end(), 0);
});

test('connect to a host that does not answer times out after Max.Init.Retransmits', () => {
  const p = new SctpPair({ loss: () => true });
  const c = p.socket('a');
  c.connect(at('10.0.0.2', 9));
  p.net.run(1000e9);
  assert.equal(c.error, 60);
  assert.match(c.errorReason, /no answer to INIT after 9 tries/);
  c.close();
  assert.equal(p.end(), 0);
});

test('two paths: the cable of the primary is pulled, data goes on over the other', () => {
  const p = new SctpPair({ links: 2 });
  const [c, s, l] = p.connect(ALL_EVENTS);
  p.net.run(2e9);
  assert.equal(p.kexts[0].associations()[0]!.paths.filter(x => x.state === 'active').length, 2);
  transfer(p, c, s, 200_000, 1000);
  p.links[0]!.setCarrier(false);
  const before = p.net.clock.now;
  transfer(p, c, s, 200_000, 1000);
  assert.ok(p.net.clock.now - before < 2e9, `took ${(p.net.clock.now - before) / 1e6} ms`);
  for (const so of [c, s, l]) so.close();
  assert.equal(p.end(), 0);
});

test('two paths: the primary silently loses everything; time-outs find the other', () => {
  const p = new SctpPair({ links: 2 });
  const [c, s, l] = p.connect(ALL_EVENTS);
  p.net.run(2e9);
  p.links[0]!.options = { ...p.links[0]!.options, loss: () => true };
  transfer(p, c, s, 200_000, 1000);
  p.net.run(200e9);
  assert.equal(p.kexts[0].associations()[0]!.paths[0]!.state, 'inactive');
  p.links[0]!.options = { ...p.links[0]!.options, loss: () => false };
  p.net.run(200e9);
  assert.equal(p.kexts[0].associations()[0]!.paths[0]!.state, 'active');
  for (const so of [c, s, l]) so.close();
  assert.equal(p.end(), 0);
});

test('the extension cannot leave while endpoints exist, and comes and goes without a trace', () => {
  const p = new SctpPair();
  const c = p.socket('a');
  const r = p.a.kexts.unload('org.nke.SCTP');
  assert.equal(r.ok, false);
  c.close();
  for (let i = 0; i < 50; i++) {
    assert.ok(p.a.kexts.unload('org.nke.SCTP').ok);
    assert.ok(p.a.kexts.load(p.kexts[0]).ok);
  }
  assert.equal(p.end(), 0);
});
