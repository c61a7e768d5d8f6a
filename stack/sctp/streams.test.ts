/** Outbound streams and their scheduler (streams.ts), against RFC 9260 §6.5, §6.6 and §6.9. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SCTP_UNORDERED } from './api.js';
import { Puppet } from './data.fixture.js';

const wide = { tunables: { maxburst: 0, initial_cwnd: 20 } };
const sids = (p: Puppet) =>
  p
    .take()
    .filter(c => c.tsn >= 0)
    .map(c => c.dv.getUint16(8));
const ssns = (p: Puppet) =>
  p
    .take()
    .filter(c => c.tsn >= 0)
    .map(c => [c.dv.getUint16(8), c.dv.getUint16(10)]);

test('round robin: one message of each stream in turn, in the order in which they got something to send', () => {
  const p = new Puppet(wide);
  p.send(10, 3, { sid: 4 }).send(10, 2, { sid: 1 }).send(10, 1, { sid: 7 });
  assert.deepEqual(sids(p), [4, 1, 7, 4, 1, 4]);
});

test('a message in fragments is never interrupted (§6.9), even when the window stops it half-way', () => {
  const p = new Puppet({ tunables: { maxburst: 0, initial_cwnd: 3 } });
  p.send(8000, 1, { sid: 1 }).send(10, 2, { sid: 2 });
  const first: number[] = sids(p);
  assert.deepEqual(first, Array(first.length).fill(1));
  assert.ok(first.length < 6);
  const seen: number[] = [...first];
  for (let i = 0; i < 10; i++) seen.push(...sids(p.sack((p.a.nextTsn - 1 - p.first) | 0)));
  assert.deepEqual(seen, [1, 1, 1, 1, 1, 1, 2, 2]);
});

test('SSNs count per stream, unordered messages take none, and wrap at 2^16', () => {
  const p = new Puppet(wide);
  p.send(10, 1, { sid: 1 })
    .send(10, 1, { sid: 1, flags: SCTP_UNORDERED })
    .send(10, 1, { sid: 1 })
    .send(10, 1, { sid: 2 });
  assert.deepEqual(ssns(p).sort(), [
    [1, 0],
    [1, 0],
    [1, 1],
    [2, 0],
  ]);
  p.a.out.get(1).nextSsn = 65535;
  p.send(10, 3, { sid: 1 });
  assert.deepEqual(ssns(p), [
    [1, 65535],
    [1, 0],
    [1, 1],
  ]);
});

test('a stream that the association does not have is refused', () => {
  const p = new Puppet(wide);
  assert.throws(() => p.send(10, 1, { sid: 10 }), /-22/);
  p.send(10, 1, { sid: 9 });
  assert.deepEqual(sids(p), [9]);
});
