/** Properties of whole associations under random faults (property.fixture.ts): 200 episodes, about 10,000 associations. */

import { test } from 'node:test';
import { runSeeds } from './property.fixture.js';

test('10,000 random associations', { timeout: 300_000 }, t => {
  const r = runSeeds(1001, 200);
  t.diagnostic(`${r.associations} associations, ${r.messages} messages`);
});
