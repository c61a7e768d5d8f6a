/** The data path allocates nothing per packet. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native, nativeError } from '../nic/native.js';
import { garbageRun } from './garbage.js';

test('a million messages from socket to socket leave less garbage than one number for each', {
  timeout: 120_000,
  skip: native === undefined ? `copying between two memories without a view needs the C module: ${nativeError}` : false,
}, async t => {
  const r = await garbageRun(1_000_000);
  assert.equal(r.collections, 0, 'a collection fell into the measurement, which then proves nothing');
  const each = r.garbage / r.messages;
  t.diagnostic(
    `${(r.garbage / 1e6).toFixed(1)} MB of garbage for a million data packets and their SACKs: ${each.toFixed(2)} bytes each`,
  );
  // The smallest thing V8 can allocate is a boxed number of 16 bytes.
  assert.ok(each < 16, `${each.toFixed(1)} bytes for each data packet`);
});
