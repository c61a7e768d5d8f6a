/** What goes out when (output.ts, packet.ts), against RFC 9260 §6.1, §6.10, §7.2 and §7.3. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SCTP_SACK_IMMEDIATELY, SCTP_UNORDERED } from './api.js';
import { DATA, DATA_B, DATA_E, DATA_I, DATA_U, ERROR, HEARTBEAT, HEARTBEAT_ACK, SACK } from './constants.js';
import { Puppet } from './data.fixture.js';
import { drain, SctpPair, sendInfo } from './harness.js';
import { checkInvariants } from './invariants.js';
import { setMtu } from './paths.js';
import { ByteWriter } from './wire.js';

const wide = { tunables: { maxburst: 0, initial_cwnd: 20 } };

describe('bundling (§6.10)', () => {
  test('many small messages share packets up to the path MTU', () => {
    const p = new Puppet(wide);
    const sent = p.send(100, 25).take();
    // 1500 - 20 - 12 = 1468 bytes for chunks of 116.
    const perPacket = [...new Set(sent.map(c => c.packet))].map(n => sent.filter(c => c.packet === n).length);
    assert.deepEqual(perPacket, [12, 12, 1]);
    assert.deepEqual(
      sent.map(c => c.tsn),
      [...Array(25).keys()],
    );
  });

  test('ERROR and SACK stand in front of DATA in one packet', () => {
    const p = new Puppet(wide);
    p.data(0).data(1).take();
    p.send(10).inject([p.dataChunk(2, { sid: 50_000 })]);
    const sent = p.take();
    assert.deepEqual(
      sent.map(c => c.type),
      [ERROR, SACK, DATA],
    );
    assert.equal(new Set(sent.map(c => c.packet)).size, 1);
  });

  test('a delayed SACK goes along with a control chunk, behind it', () => {
    const p = new Puppet(wide);
    p.data(0).data(1).take();
    assert.ok(p.a.sackTimer.pending);
    const beat = new ByteWriter().chunk(HEARTBEAT, 0, w => w.tlv(1, x => x.u32(7))).take();
    assert.deepEqual(
      p
        .inject([beat])
        .take()
        .map(c => c.type),
      [HEARTBEAT_ACK, SACK],
    );
    assert.equal(p.a.sackTimer.pending, false);
  });

  test('a delayed SACK goes along with data', () => {
    const p = new Puppet(wide);
    p.data(0).data(1).take();
    assert.ok(p.a.sackTimer.pending);
    assert.deepEqual(
      p
        .send(10)
        .take()
        .map(c => c.type),
      [SACK, DATA],
    );
    assert.equal(p.a.sackTimer.pending, false);
  });

  test('padding is zero, lengths are not padded', () => {
    const p = new Puppet(wide);
    let frame = new Uint8Array(0);
    p.pair.links[0]!.onFrame = (_from, f) => (frame = f.slice());
    p.send(5);
    p.pair.net.run(0);
    const o = 14 + 20 + 12;
    assert.equal(frame[o + 2]! * 256 + frame[o + 3]!, 21);
    assert.deepEqual([...frame.subarray(o + 21, o + 24)], [0, 0, 0]);
  });
});

describe("Nagle's rule (§6.1)", () => {
  test('holds a packet that is not full while data is in flight', () => {
    const p = new Puppet(wide);
    p.a.nodelay = false;
    assert.deepEqual(p.send(100).tsns(), [0]);
    assert.deepEqual(p.send(100, 5).tsns(), []);
    assert.deepEqual(p.send(1000).tsns().length > 0, true, 'now one is full');
    p.sack((p.a.nextTsn - 1 - p.first) | 0);
    p.take();
    assert.equal(p.a.out.pending, 0, 'nothing in flight any more: the rest goes');
  });

  test('does not hold the last fragment of a message', () => {
    const p = new Puppet(wide);
    p.a.nodelay = false;
    const sent = p.send(1500).take();
    assert.deepEqual(
      sent.map(c => c.flags),
      [DATA_B, DATA_E],
    );
  });
});

describe('fragmentation (§6.9)', () => {
  test('flags, one SSN, consecutive TSNs, sizes that fill packets', () => {
    const p = new Puppet(wide);
    p.send(10, 1, { sid: 2 }).take();
    const sent = p.send(4000, 1, { sid: 2, flags: SCTP_SACK_IMMEDIATELY }).take();
    assert.deepEqual(
      sent.map(c => c.flags),
      [DATA_B, 0, DATA_E | DATA_I],
    );
    assert.deepEqual(
      sent.map(c => c.bytes.length - 16),
      [1452, 1452, 1096],
    );
    assert.deepEqual(
      sent.map(c => c.dv.getUint16(10)),
      [1, 1, 1],
    );
    assert.deepEqual(
      sent.map(c => c.tsn),
      [1, 2, 3],
    );
    assert.deepEqual(
      p
        .send(10, 1, { flags: SCTP_UNORDERED })
        .take()
        .map(c => c.flags),
      [DATA_B | DATA_E | DATA_U],
    );
  });
});

describe('limits', () => {
  test('congestion window: not above cwnd, one chunk may cross it', () => {
    const p = new Puppet({ tunables: { maxburst: 0, initial_cwnd: 3 } });
    assert.equal(p.a.paths[0]!.cwnd, 3 * 1488);
    assert.equal(p.send(1000, 20).tsns().length, 5);
    assert.equal(p.sack(0).tsns().length, 2, 'full: slow start');
  });

  test('Max.Burst packets for each one received (§6.1 D)', () => {
    const p = new Puppet({ tunables: { initial_cwnd: 4 } });
    p.a.paths[0]!.cwnd = 100_000;
    assert.equal(p.send(1000, 50).tsns().length, 4);
    assert.equal(p.sack(3).tsns().length, 4);
  });

  test("the peer's window, with the overhead of each chunk", () => {
    const p = new Puppet(wide);
    p.send(1000).take();
    p.sack(0, [], 4000);
    assert.equal(p.send(1000, 10).tsns().length, 3);
  });

  test('no more TSNs beyond the first one missing than a peer keeps track of', () => {
    const p = new Puppet({
      tunables: { maxburst: 0, initial_cwnd: 20, sendspace: 1_000_000 },
      pool: { small: 6000, cluster: 1024, jumbo: 8 },
    });
    p.a.paths[0]!.cwnd = 1e9;
    p.a.peerRwnd = 1e9;
    p.send(1, 4500).take();
    assert.equal(p.a.outstanding, 4095);
    p.sack(99, [], 1e9);
    p.take();
    assert.equal(p.a.outstanding, 4095);
  });

  test('retransmissions go first, and DATA of a T3 goes one packet at a time (§6.3.3)', () => {
    const p = new Puppet(wide);
    p.send(1000, 6).take();
    p.run(1.1e9);
    assert.deepEqual(p.tsns(), [0]);
    p.send(1000, 2);
    assert.deepEqual(p.sack(0).tsns(), [1, 2]);
    assert.deepEqual(p.sack(5).tsns(), [6, 7]);
  });

  test('a burst of one still sends when a SACK has taken room in the packet', () => {
    const p = new Puppet({ tunables: { maxburst: 1 } });
    p.data(0).data(1).take();
    p.send(1452);
    assert.deepEqual(
      p
        .data(2)
        .take()
        .map(c => c.type),
      [SACK, DATA],
    );
  });

  test('a chunk sent too often ends the association', () => {
    const p = new Puppet({ tunables: { ...wide.tunables, max_retran_chunk: 3, assoc_rtx_max: 100 } });
    p.send(100).run(60e9);
    assert.match(p.a.reason!.text, /was sent 4 times/);
  });
});

describe('path MTU (§7.3)', () => {
  test('chunks made for a larger one are fragmented by IP and arrive', () => {
    const p = new SctpPair({ mtu: 9000 });
    const [c, s, l] = p.connect();
    const sctp = p.kexts[0].sctp!;
    const a = [...sctp.associations()][0]!;
    for (let i = 0; i < 5; i++) c.send(new Uint8Array(8900).fill(i), 0, 8900, sendInfo());
    setMtu(sctp, a.paths[0]!, 1500, 'test');
    const got: number[] = [];
    p.net.runUntil(() => {
      checkInvariants(sctp);
      for (const m of drain(s).messages) got.push(m.data.length);
      return got.length === 5;
    }, 100e9);
    assert.deepEqual(got, Array(5).fill(8900));
    for (const so of [c, s, l]) so.close();
    assert.equal(p.end(), 0);
  });
});

describe('mbuf shortage', () => {
  for (const [name, mtu] of [
    ['clusters', 1500],
    ['jumbos', 9000],
  ] as const)
    test(`no ${name} for packets: output tries again by itself, nothing leaks`, () => {
      const p = new SctpPair({ mtu, pool: { small: 512, cluster: 1024, jumbo: 8 } });
      const [c, s, l] = p.connect();
      const pool = p.a.pool;
      for (let i = 0; i < 10; i++) c.send(new Uint8Array(1000).fill(i), 0, 1000, sendInfo());
      const taken: number[] = [];
      for (let m = pool.getJumbo(); m !== 0; m = pool.getJumbo()) taken.push(m);
      for (let m = pool.getCluster(); m !== 0; m = pool.getCluster()) taken.push(m);
      p.net.run(100e6);
      assert.ok(p.kexts[0].sctp!.stats.sctps_nomem > 0);
      assert.equal(drain(s).messages.length, 0);
      for (const m of taken) pool.freem(m);
      p.net.run(100e6);
      assert.equal(drain(s).messages.length, 10, 'within a tenth of a second, without a time-out');
      for (const so of [c, s, l]) so.close();
      assert.equal(p.end(), 0);
    });

  test('large path MTU: a send queue does not take the jumbos that packets need', () => {
    const p = new SctpPair({ mtu: 9000, pool: { small: 512, cluster: 1024, jumbo: 4 } });
    const [c, s, l] = p.connect();
    let sent = 0;
    while (c.send(new Uint8Array(20_000), 0, 20_000, sendInfo()) > 0) sent++;
    let got = 0;
    p.net.runUntil(() => {
      got += drain(s).messages.filter(m => m.eor).length;
      return got === sent;
    }, 20e9);
    assert.equal(got, sent);
    for (const so of [c, s, l]) so.close();
    assert.equal(p.end(), 0);
  });
});

describe('trains', () => {
  test('packets of one size share an mbuf; a shorter one ends the train, a longer one begins its own', () => {
    const p = new Puppet({ ...wide, trains: true });
    const frames: number[] = [];
    p.pair.links[0]!.onFrame = (_from, f) => frames.push(f.length);
    const header = 14 + 20;
    p.send(1452, 6).send(10, 1);
    p.pair.net.run(0);
    // Six full packets and a short one: one frame for the card to cut.
    assert.deepEqual(frames, [header + 6 * 1480 + 12 + 28]);
    frames.length = 0;
    p.a.sackDue = true;
    p.data(0);
    p.sack(6);
    p.a.sackDue = true;
    p.send(1452, 3);
    p.pair.net.run(0);
    assert.equal(frames.reduce((x, y) => x + y, 0) >= 3 * 1480, true);
    checkInvariants(p.s);
    assert.equal(p.s.stats.sctps_outtrains >= 1, true);
  });
});
