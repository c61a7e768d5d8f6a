/** Properties of whole associations under random faults (property.fixture.ts): 3,000 of them. */

import { test } from 'node:test';
import { runSeeds } from './property.fixture.js';

test('3,000 random associations', { timeout: 300_000 }, () => runSeeds(1001, 3000));
