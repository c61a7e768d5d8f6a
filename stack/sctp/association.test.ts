/** What an association holds: tables made when needed, grown by doubling, let go when idle; and who shares what. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SOCK_SEQPACKET } from '../kern/protosw.js';
import { IPPROTO_SCTP } from '../netinet/in.js';
import { SCTP_DEFAULT_SNDINFO, SCTP_EVENT } from './api.js';
import { DATA_B, DATA_E, DATA_U } from './constants.js';
import { Puppet } from './data.fixture.js';
import type { Endpoint } from './endpoint.js';
import { at, check, drain, SctpPair, sendInfo } from './harness.js';

const WHOLE = DATA_B | DATA_E;

describe('tables of an association', () => {
  test('none before there is data', () => {
    const { a } = new Puppet();
    assert.deepEqual([a.ring.length, a.tsnMap.length, a.fragments.length, a.inStreams.length], [0, 0, 0, 0]);
    assert.equal(a.sackPending, false);
  });

  test('the TSN map doubles for wider gaps and keeps what is marked', () => {
    const p = new Puppet();
    p.data(2, { flags: WHOLE | DATA_U });
    assert.equal(p.a.tsnMap.length, 64);
    p.data(63, { flags: WHOLE | DATA_U });
    assert.equal(p.a.tsnMap.length, 128, '64 TSNs beyond the cumulative one');
    p.data(1000, { flags: WHOLE | DATA_U });
    assert.equal(p.a.tsnMap.length, 1024);
    p.data(4094, { flags: WHOLE | DATA_U });
    assert.equal(p.a.tsnMap.length, 4096);
    assert.deepEqual(p.sacks().at(-1)!.gaps, [
      [2, 2],
      [63, 63],
      [1000, 1000],
      [4094, 4094],
    ]);
    p.data(63, { flags: WHOLE | DATA_U });
    assert.deepEqual(p.sacks().at(-1)!.dups, [63]);
  });

  test('fragments far apart make their ring grow, and all of them are found again', () => {
    const p = new Puppet();
    // Unordered messages of two fragments, 64 and 128 TSNs apart: one place of a ring of 64.
    for (const t of [1, 65, 129]) p.data(t, { flags: DATA_E | DATA_U, fill: t });
    assert.equal(p.a.fragments.length, 256);
    for (const t of [0, 64, 128]) p.data(t, { flags: DATA_B | DATA_U, fill: t });
    assert.deepEqual(
      drain(p.so).messages.map(m => [...m.data]),
      [0, 64, 128].map(t => [t, t, t, t, t + 1, t + 1, t + 1, t + 1]),
    );
    assert.equal(p.a.heldChunks, 0);
    assert.ok(
      p.a.fragments.every(m => m === 0),
      'the ring is empty',
    );
  });

  test('inbound streams: by doubling up to the highest used, at most as many as there are', () => {
    const p = new Puppet();
    p.data(0, { sid: 0, ssn: 0 });
    assert.equal(p.a.inStreams.length, 4);
    const last = p.a.inStreamCount - 1;
    p.data(1, { sid: last, ssn: 0 }).data(2, { sid: 0, ssn: 1 }).data(3, { sid: last, ssn: 1 });
    assert.equal(p.a.inStreams.length, p.a.inStreamCount);
    assert.deepEqual(
      drain(p.so).messages.map(m => [m.sid, m.ssn]),
      [
        [0, 0],
        [last, 0],
        [0, 1],
        [last, 1],
      ],
    );
  });

  test('idle for a heartbeat interval: they are let go, and come back with data', () => {
    const p = new SctpPair();
    const [c, s] = p.connect();
    const a = (c.pcb as Endpoint).only!;
    const b = (s.pcb as Endpoint).only!;
    const exchange = () => {
      for (let i = 0; i < 20; i++) check(c.send(new Uint8Array(5000), 0, 5000, sendInfo()));
      p.net.run(1e9);
      return drain(s).messages.length;
    };
    assert.equal(exchange(), 20);
    assert.ok(a.ring.length > 0 && b.fragments.length > 0);
    p.net.run(100e9);
    assert.deepEqual([a.ring.length, b.ring.length, b.fragments.length, b.tsnMap.length], [0, 0, 0, 0]);
    assert.equal(exchange(), 20);
    c.close();
    s.close();
    p.net.run(1e9);
    assert.equal(p.kexts[1].sctp!.associationCount, 0);
  });

  test('not let go while something is held back', () => {
    const p = new Puppet();
    p.data(1, { ssn: 1 }).data(3, { flags: DATA_B | DATA_U });
    p.a.releaseIdle();
    p.data(0, { ssn: 0 });
    assert.deepEqual(
      drain(p.so).messages.map(m => m.ssn),
      [0, 1],
    );
    p.data(2, { flags: WHOLE | DATA_U }).data(4, { flags: DATA_E | DATA_U });
    assert.equal(drain(p.so).messages.length, 2);
  });
});

test('what is shared with the endpoint is replaced when one of them changes it', () => {
  const p = new SctpPair();
  const l = p.socket('b', SOCK_SEQPACKET);
  check(l.bind(at('0.0.0.0', 7)));
  check(l.listen(5));
  const c = p.socket('a');
  c.connect(at(p.addr('b'), 7));
  p.net.run(1e9);
  const ep = l.pcb as Endpoint;
  const [a] = ep.asocs.values();
  check(l.setsockopt(IPPROTO_SCTP, SCTP_EVENT, { assocId: a!.id, type: 'shutdown', on: true }));
  check(l.setsockopt(IPPROTO_SCTP, SCTP_DEFAULT_SNDINFO, { assocId: a!.id, ppid: 9 }));
  assert.deepEqual([ep.subscribed.has('shutdown'), a!.subscribed.has('shutdown')], [false, true]);
  assert.deepEqual([ep.defaultSend.ppid, a!.defaultSend.ppid], [0, 9]);
  const other = p.socket('b');
  assert.equal((other.pcb as Endpoint).subscribed.has('shutdown'), false);
  assert.equal((other.pcb as Endpoint).defaultSend.ppid, 0);
});

describe('tables of the stack', () => {
  test('accepted sockets do not stand among those that take INITs, but keep the port', () => {
    const p = new SctpPair();
    const [c, s, l] = p.connect();
    const sctp = p.kexts[1].sctp!;
    assert.equal(sctp.onPort(5000).length, 1);
    l.close();
    p.net.run(1e9);
    assert.equal(sctp.onPort(5000).length, 0);
    assert.equal(sctp.portInUse(5000), true);
    check(c.send(new Uint8Array(3), 0, 3, sendInfo()));
    p.net.run(1e9);
    assert.equal(drain(s).messages.length, 1);
    s.close();
    p.net.run(1e9);
    assert.equal(sctp.portInUse(5000), false);
  });

  test('a tag is held for its time, in the order in which associations ended', () => {
    const p = new SctpPair({ tunables: { vtag_time_wait: 10 } });
    const sctp = p.kexts[0].sctp!;
    const l = p.socket('b', SOCK_SEQPACKET);
    check(l.bind(at('0.0.0.0', 7)));
    check(l.listen(5));
    const tags: number[] = [];
    for (let i = 0; i < 3; i++) {
      const c = p.socket('a');
      c.connect(at(p.addr('b'), 7));
      p.net.run(1e9);
      tags.push((c.pcb as Endpoint).only!.myTag);
      c.close();
      p.net.run(2e9);
    }
    assert.deepEqual(
      tags.map(t => sctp.inTimeWait(t)),
      [true, true, true],
    );
    p.net.run(3e9);
    assert.deepEqual(
      tags.map(t => sctp.inTimeWait(t)),
      [false, true, true],
    );
    p.net.run(9e9);
    assert.deepEqual(
      tags.map(t => sctp.inTimeWait(t)),
      [false, false, false],
    );
  });
});
