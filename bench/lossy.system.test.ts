/** The relay between real peers, and the scenario made of it. How fast they are is the benchmark's affair. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lossy, relayed } from './lossy.js';
import { skipWithoutUsrsctp } from './usrsctp/build.js';

for (const [who, skip] of [
  ['nke', false],
  ['usrsctp', skipWithoutUsrsctp()],
] as const)
  test(`two ${who} peers speak through the relay, which loses what it is told to`, { skip }, async () => {
    const { mbps, report } = await relayed(who, { loss: 0.02, rtt: 10, buffer: 1 << 20 }, 1, 1, 2);
    assert.ok(mbps > 0.1 && mbps < 95.8, `${mbps} Mb/s`);
    assert.equal(report.acked.length, 4);
    const { fault_in = 0, fault_lost = 0, fault_out = 0 } = report.towardsFar;
    assert.ok(fault_out > 100 && fault_lost > fault_in / 200 && fault_lost < fault_in / 10, JSON.stringify(report));
    assert.ok((report.towardsNear.fault_out ?? 0) > 50, JSON.stringify(report));
  });

test('lossy measures what it is asked to, in virtual time exactly, and says what is missing', async () => {
  const cells = [{ loss: 0.01, rtt: 20, buffer: 1 << 18 }];
  const run = () => lossy({ cells, skip: 1, seconds: 2, seeds: 2, peers: [] });
  const r = await run();
  assert.equal(r.rows.length, 1);
  assert.equal(r.rows[0]!.virtual.length, 2);
  assert.deepEqual(r.missing, { usrsctp: 'not asked for' });
  assert.deepEqual((await run()).rows, r.rows);
});
