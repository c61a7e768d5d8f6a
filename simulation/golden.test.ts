/** A part of the golden tables, to the byte; all of them in golden.system.test.ts. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { goldenRows, TABLES } from './tables.js';

for (const table of TABLES) {
  const golden = goldenRows(table);
  test(`golden table ${table.name}: its rows are those of the file`, () => {
    assert.deepEqual(
      [...golden.keys()],
      table.rows.map(r => r.key),
    );
  });
  const quick = table.rows.filter(r => r.quick);
  if (quick.length === 0) continue;
  test(`golden table ${table.name}: ${quick.length} of ${table.rows.length} rows`, async () => {
    for (const row of quick)
      assert.equal(await row.measure(), golden.get(row.key), `${row.key}: node dist/simulation/golden.js shows all`);
  });
}
