/** The golden tables, to the byte: a row that differs means that the stack behaves otherwise than when it was written. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { goldenRows, TABLES } from './tables.js';

for (const table of TABLES)
  describe(`golden table ${table.name}`, () => {
    const golden = goldenRows(table);
    for (const row of table.rows)
      test(row.key, async () => {
        assert.equal(await row.measure(), golden.get(row.key));
      });
  });
