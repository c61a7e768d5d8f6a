/** Properties of whole associations under random faults (property.fixture.ts): a few now, thousands in the system tests. */

import { test } from 'node:test';
import { runSeeds } from './property.fixture.js';

test('random associations', () => {
  runSeeds(1, 12);
});
