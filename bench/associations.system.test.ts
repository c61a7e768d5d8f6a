/** An idle association fits into 4 KiB, and one that has ended leaves nothing. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AssociationsRun } from './associations-run.js';
import { nodeProgram } from './nodes.js';

const COUNT = 20_000;
const LIMIT = 4096;

test(`${COUNT.toLocaleString('en')} associations: at most ${LIMIT} bytes each when idle, none when they have ended`, {
  timeout: 180_000,
}, async t => {
  const r = await nodeProgram<AssociationsRun>('associations-run', [COUNT, 2 * COUNT, 'close'], {
    flags: ['--expose-gc', '--max-old-space-size=4096'],
    timeoutMs: 170_000,
  });
  t.diagnostic(
    `${r.heapEach.toFixed(0)} bytes for each end before any data, ${r.idleEach.toFixed(0)} when idle after data, ${r.leftEach.toFixed(1)} left by as many more that have ended`,
  );
  assert.ok(r.heapEach < LIMIT, `${r.heapEach.toFixed(0)} bytes for each end`);
  assert.ok(r.idleEach < LIMIT, `${r.idleEach.toFixed(0)} bytes for each end that is idle after data`);
  // The smallest object that could be forgotten has 16 bytes.
  assert.ok(r.leftEach < 16, `${r.leftEach.toFixed(1)} bytes stay of each end that was closed`);
});
