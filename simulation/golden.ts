/**
 * Writes the golden tables (tables.ts) anew, or says what would change:
 *
 *   node dist/simulation/golden.js [throughput] [failover] [peers]           compares; status 1 when a row differs
 *   node dist/simulation/golden.js --write [throughput] [failover] [peers]   rewrites the files
 *
 * To be done only when a change of the stack is meant to change them; the difference belongs into that change's review.
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GOLDEN, goldenRows, rowText, TABLES } from './tables.js';

const args = process.argv.slice(2);
const write = args.includes('--write');
const names = args.filter(a => !a.startsWith('--'));
const unknown = names.filter(n => !TABLES.some(t => t.name === n));
if (unknown.length > 0) {
  process.stderr.write(`there is no table ${unknown.join(', ')}: ${TABLES.map(t => t.name).join(', ')}\n`);
  process.exit(2);
}
let changed = 0;
for (const table of TABLES) {
  if (names.length > 0 && !names.includes(table.name)) continue;
  const old = write ? new Map<string, string>() : goldenRows(table);
  const lines = [...table.about.map(l => `# ${l}`), '# Written by: node dist/simulation/golden.js --write', ''];
  lines.push(table.header);
  for (const row of table.rows) {
    const value = await row.measure();
    lines.push(rowText(row.key, value));
    if (write) process.stderr.write(`${table.name}: ${lines.at(-1)}\n`);
    else if (old.get(row.key) !== value) {
      changed++;
      process.stdout.write(
        `${table.name}\n-${rowText(row.key, old.get(row.key) ?? '')}\n+${rowText(row.key, value)}\n`,
      );
    }
  }
  if (write) writeFileSync(join(GOLDEN, `${table.name}.txt`), `${lines.join('\n')}\n`);
}
process.exit(changed === 0 ? 0 : 1);
