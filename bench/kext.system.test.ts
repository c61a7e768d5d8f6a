/** A thousand loads and unloads of every shipped extension under full traffic: no frame lost, everything back where it was. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SHIPPED } from '../bundles/shipped.js';
import { kextCycles, sleepRun } from './kext.js';

for (const name of Object.keys(SHIPPED))
  test(`${name}.kext`, async () => {
    const r = await kextCycles(name);
    assert.ok(r.received > 500_000, `${r.received} frames`);
    assert.equal(r.lost, 0);
    assert.deepEqual(r.left, []);
    assert.ok(r.heapPercent < 5, `the heap has grown by ${r.heapPercent.toFixed(1)} %`);
  });

test('ten virtual minutes of sleep end no association, and all data arrives', async () => {
  for (const flying of [false, true]) assert.equal((await sleepRun(flying)).ended, 0);
});
