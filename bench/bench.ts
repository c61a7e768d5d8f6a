/**
 * `nke bench`: runs scenarios (scenarios.ts), each a row of data, against peers and against the machine's own limit, all in
 * one run. People get progress on standard error and tables on standard output; programs one JSON object; a browser the
 * HTML report. No interface or namespace is touched that a run did not make.
 */

import { writeFileSync } from 'node:fs';
import { htmlReport } from './html.js';
import { Lab } from './lab.js';
import { examineMachine } from './machine.js';
import { type ProfileResult, profileBulk, profileText } from './profile.js';
import { type BenchReport, machineLine, scenarioTable, verdictTable } from './report.js';
import { runScenario } from './run.js';
import type { ScenarioResult } from './scenario.js';
import { SCENARIOS } from './scenarios.js';

export { SCENARIOS };

export interface BenchOptions {
  readonly scenarios: readonly string[];
  readonly seconds: number;
  readonly repeat: number;
  readonly quick: boolean;
  /** Columns and points; empty: all. */
  readonly peers: readonly string[];
  readonly points: readonly string[];
  readonly json: boolean;
  /** File for the HTML report. */
  readonly html?: string;
  readonly profile: boolean;
}

/** Makes the display of one stretch of work (cli/progress.ts); it is stopped before anything else is printed. */
export type StartProgress = (title: string) => {
  update(fraction: number, text: string): void;
  note(text: string): void;
  stop(): void;
};

/** The names of all columns, for messages and completion. */
export const columnNames = (): string[] => [...new Set(SCENARIOS.flatMap(s => s.columns.map(c => c.name)))];

/** Bytes of a message of the profiled transfer. */
const MESSAGE = 1400;

/** Runs what was asked for and gives the report. Rejects when the HTML file cannot be written. */
export async function bench(o: BenchOptions, startProgress: StartProgress): Promise<BenchReport> {
  const started = new Date();
  const machine = examineMachine();
  const print = (text: string) => void (o.json || process.stdout.write(text));
  print(`${machineLine(machine)}\n`);
  const results: ScenarioResult[] = [];
  await using lab = new Lab({ seconds: o.seconds, repeat: o.repeat, quick: o.quick });
  for (const s of SCENARIOS) {
    if (!o.scenarios.includes('all') && !o.scenarios.includes(s.name)) continue;
    const shown = startProgress(s.name);
    const options = { columns: o.peers, points: o.points, progress: shown.update, note: shown.note };
    const result = await runScenario(s, lab, options).finally(shown.stop);
    results.push(result);
    print(`\n${scenarioTable(result)}`);
  }
  let profile: ProfileResult | undefined;
  if (o.profile) {
    profile = await profileBulk(MESSAGE, Math.max(1, o.seconds));
    print(`\n${profileText(profile)}`);
  }
  const report: BenchReport = {
    tool: 'nke bench',
    machine,
    started: started.toISOString(),
    seconds: (Date.now() - started.getTime()) / 1000,
    options: { seconds: o.seconds, repeat: o.repeat, quick: o.quick },
    scenarios: results,
    verdicts: results.flatMap(r => r.verdicts),
    ...(profile === undefined ? {} : { profile }),
  };
  if (o.json) process.stdout.write(`${JSON.stringify(report)}\n`);
  print(`\n${verdictTable(report.verdicts)}`);
  if (o.html !== undefined) writeFileSync(o.html, htmlReport(report));
  return report;
}
