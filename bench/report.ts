/** What `nke bench` prints for people: a table for each scenario, and what had to be reached. */

import { table } from '../cli/format.js';
import type { Machine } from './machine.js';
import type { ProfileResult } from './profile.js';
import { NOT_ASKED } from './run.js';
import type { Ratio, ScenarioResult, Series, Verdict } from './scenario.js';

/** All of one run of `nke bench`: what --json prints and the HTML report holds. */
export interface BenchReport {
  readonly tool: 'nke bench';
  readonly machine: Machine;
  /** ISO 8601. */
  readonly started: string;
  /** How long it all took. */
  readonly seconds: number;
  readonly options: { readonly seconds: number; readonly repeat: number; readonly quick: boolean };
  readonly scenarios: readonly ScenarioResult[];
  /** All demands of the scenarios run, together. */
  readonly verdicts: readonly Verdict[];
  readonly profile?: ProfileResult;
}

/** Three significant digits, with thousands apart. */
export function figure(n: number): string {
  if (!Number.isFinite(n)) return 'none';
  const a = Math.abs(n);
  if (a >= 1000) return Math.round(n).toLocaleString('en');
  return String(Number(n.toPrecision(3)));
}

/** The value of a verdict with its unit. */
export const judged = (v: Verdict): string => (v.value === null ? '' : `${figure(v.value)} ${v.unit}`);

/** What a verdict had to reach. */
export const wanted = (v: Verdict): string =>
  [
    v.atLeast === undefined ? '' : `>= ${figure(v.atLeast)} ${v.unit}`,
    v.atMost === undefined ? '' : `<= ${figure(v.atMost)} ${v.unit}`,
  ]
    .filter(text => text !== '')
    .join(', ');

const ratioText = (ratios: readonly Ratio[], s: Series): string => {
  const r = ratios.find(q => q.point === s.point && q.metric === s.metric && q.over === s.column);
  return r === undefined ? '' : `${figure(r.ratio)} x`;
};

/** One scenario: a line for each point, column and metric. */
export function scenarioTable(r: ScenarioResult): string {
  const shown = new Set(r.metrics.filter(m => m.hidden !== true).map(m => m.name));
  const rows = r.series.filter(s => shown.has(s.metric));
  const several = shown.size > 1;
  const lines = table(rows, [
    { head: 'Point', cell: s => s.point },
    { head: 'Who', cell: s => s.column },
    ...(several ? [{ head: 'What', cell: (s: Series) => s.metric }] : []),
    { head: 'Median', cell: s => figure(s.median), right: true },
    { head: 'Unit', cell: s => s.unit },
    { head: 'Spread', cell: s => `${figure(s.low)} .. ${figure(s.high)} (${s.samples.length})` },
    { head: 'nke / it', cell: s => ratioText(r.ratios, s), right: true },
  ]);
  const missing = r.missing
    .filter(m => m.why !== NOT_ASKED)
    .map(m => `not measured: ${m.column}${m.point === undefined ? '' : ` at ${m.point}`}: ${m.why}\n`);
  return `${r.scenario}: ${r.about}\n\n${lines}${missing.length === 0 ? '' : `\n${missing.join('')}`}`;
}

/** What had to be reached, and whether it was. */
export function verdictTable(verdicts: readonly Verdict[]): string {
  if (verdicts.length === 0) return '';
  return table(verdicts, [
    { head: 'What must be reached', cell: v => v.what },
    { head: 'Wanted', cell: wanted, right: true },
    { head: 'Measured', cell: judged, right: true },
    { head: 'Verdict', cell: v => (v.why === undefined ? v.verdict : `${v.verdict} (${v.why})`) },
  ]);
}

/** One line about the machine. */
export function machineLine(m: Machine): string {
  const versions = Object.entries(m.versions).map(([name, version]) => `${name} ${version}`);
  const guest = m.virtualized === 'a virtual machine' ? ', a virtual machine' : '';
  const memory = `${(m.memoryBytes / 2 ** 30).toFixed(0)} GiB`;
  return `${m.processor}, ${m.processors} processors${guest}, ${memory}, ${m.kernel}, load ${m.load.toFixed(2)}; ${versions.join(', ')}; C module ${m.nativeModule}`;
}
