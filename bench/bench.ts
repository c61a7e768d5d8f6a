/**
 * `nke bench`: scenarios, each a row of data, measured against peers and against the machine's own limit.
 * JSON output is one object a line (result.ts); people get a table and progress on standard error.
 */

import { parseArgs } from 'node:util';
import { bulk } from './bulk.js';
import { garbage } from './garbage.js';
import { type BenchResult, table } from './result.js';

export interface BenchOptions {
  readonly message: number;
  readonly seconds: number;
  readonly runs: number;
  readonly only?: readonly string[];
  readonly progress?: (text: string) => void;
}

export interface Scenario {
  readonly name: string;
  readonly about: string;
  run(o: BenchOptions): Promise<BenchResult>;
}

export const SCENARIOS: readonly Scenario[] = [
  { name: 'bulk', about: 'one association, two processes, UDP on loopback: Gb/s of user data', run: bulk },
  { name: 'garbage', about: 'bytes of JavaScript garbage per packet on the data path', run: garbage },
];

const USAGE = `usage: nke bench SCENARIO... [--json] [--runs N] [--seconds S] [--message BYTES] [--only nke,usrsctp,limit]

Scenarios (or "all"):
${SCENARIOS.map(s => `  ${s.name.padEnd(12)} ${s.about}`).join('\n')}

Examples:
  nke bench bulk
  nke bench bulk --json --runs 7 --seconds 3
`;

/** Runs the command; returns its exit status: 0, 1 when a scenario failed, 2 when it was called wrongly. */
export async function runBench(argv: readonly string[]): Promise<number> {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(argv);
  } catch (e) {
    process.stderr.write(`nke bench: ${(e as Error).message}\n${USAGE}`);
    return 2;
  }
  const { values, positionals } = parsed;
  if (values.help || positionals.length === 0) {
    process.stdout.write(USAGE);
    return values.help ? 0 : 2;
  }
  const names = positionals.includes('all') ? SCENARIOS.map(s => s.name) : positionals;
  const chosen = names.map(n => SCENARIOS.find(s => s.name === n));
  const unknown = names.filter((_, i) => chosen[i] === undefined);
  const numbers = { runs: Number(values.runs), seconds: Number(values.seconds), message: Number(values.message) };
  const wrong =
    !Number.isInteger(numbers.runs) ||
    numbers.runs < 1 ||
    numbers.runs > 100 ||
    !(numbers.seconds > 0 && numbers.seconds <= 60) ||
    !Number.isInteger(numbers.message) ||
    numbers.message < 1 ||
    numbers.message > 1 << 20;
  if (unknown.length > 0 || wrong) {
    const why =
      unknown.length > 0
        ? `no scenario ${unknown.join(', ')}`
        : 'runs are 1 to 100, seconds up to 60, a message 1 to 1048576 bytes';
    process.stderr.write(`nke bench: ${why}\n${USAGE}`);
    return 2;
  }
  let status = 0;
  for (const s of chosen) {
    try {
      const r = await s!.run({
        ...numbers,
        ...(values.only === undefined ? {} : { only: values.only.split(',') }),
        progress: text => process.stderr.write(`${text}\n`),
      });
      process.stdout.write(values.json ? `${JSON.stringify(r)}\n` : `\n${table(r)}`);
    } catch (e) {
      process.stderr.write(`nke bench: ${s!.name}: ${(e as Error).message}\n`);
      status = 1;
    }
  }
  return status;
}

function parse(argv: readonly string[]) {
  return parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
      runs: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '2' },
      message: { type: 'string', default: '1400' },
      only: { type: 'string' },
    },
  });
}
