/**
 * Runs a scenario: every column in turn at every point, several times, so that what else the machine does falls on all of
 * them alike; medians with their spread; ratios within the run; demands judged.
 *
 * A column that cannot be measured, or whose run fails, is left out with the reason; the others go on.
 */

import type { Lab } from './lab.js';
import type {
  Column,
  Demand,
  Metric,
  Missing,
  Point,
  Ratio,
  Sample,
  Scenario,
  ScenarioResult,
  Series,
  Verdict,
} from './scenario.js';
import { median, rounded } from './statistics.js';

export interface RunOptions {
  /** Columns to run; all by default. */
  readonly columns?: readonly string[];
  /** Points to run, spaces left out; all by default (those marked quick in a quick run). */
  readonly points?: readonly string[];
  /** Progress: what was just measured, and which share of the scenario is done. */
  readonly progress?: (fraction: number, text: string) => void;
  /** What is worth a line of its own: a column left out, a run that failed. */
  readonly note?: (text: string) => void;
}

const squeezed = (text: string) => text.replaceAll(/[\s,]/g, '').toLowerCase();

/** The points of a scenario that a run measures. */
export function chosenPoints(scenario: Scenario, names: readonly string[] | undefined, quick: boolean): Point[] {
  if (names !== undefined && names.length > 0)
    return scenario.points.filter(p => names.some(n => squeezed(n) === squeezed(p.name) || n === String(p.x)));
  return scenario.points.filter(p => !quick || p.quick === true);
}

const oneLine = (e: unknown): string => (e instanceof Error ? e.message : String(e)).trim().split('\n')[0]!;

/** Why a column is missing that --peer left out. */
export const NOT_ASKED = 'not asked for';

/** The columns that can be measured; why not goes to `missing`. */
async function usable(s: Scenario, lab: Lab, o: RunOptions, missing: Missing[]): Promise<Column[]> {
  const out: Column[] = [];
  for (const c of s.columns) {
    const wanted = o.columns === undefined || o.columns.length === 0 || o.columns.includes(c.name);
    const why = wanted ? await c.missing?.(lab) : NOT_ASKED;
    if (why === undefined) out.push(c);
    else {
      missing.push({ column: c.name, why });
      if (wanted) o.note?.(`${s.name}: without ${c.name}: ${why}`);
    }
  }
  return out;
}

interface Cell {
  readonly point: Point;
  readonly column: Column;
  readonly samples: Sample[];
  /** Why it is not measured. */
  why: string;
  failures: number;
}

/** A cell that has failed so often is given up: one that hangs costs its whole time limit each time. */
const GIVE_UP = 2;

/** Measures one cell once; says what came out. */
async function measure(
  s: Scenario,
  cell: Cell,
  lab: Lab,
  turn: number,
  missing: Missing[],
  o: RunOptions,
): Promise<string> {
  const { point, column } = cell;
  try {
    const sample = await column.run(point, lab, turn);
    cell.samples.push(sample);
    return told(s.metrics, sample);
  } catch (e) {
    cell.failures++;
    const why = oneLine(e);
    missing.push({ column: column.name, point: point.name, why: `run ${turn}: ${why}` });
    o.note?.(`${s.name} ${point.name} ${column.name}: failed, the run goes on without it: ${why}`);
    return 'failed';
  }
}

/** Runs one scenario. Rejects only for errors of this program. */
export async function runScenario(s: Scenario, lab: Lab, o: RunOptions = {}): Promise<ScenarioResult> {
  const missing: Missing[] = [];
  const columns = await usable(s, lab, o, missing);
  const points = chosenPoints(s, o.points, lab.options.quick);
  const repeat = Math.min(lab.options.repeat, s.repeats ?? Number.POSITIVE_INFINITY);
  const cells = points.flatMap(point =>
    columns.map((column): Cell => ({ point, column, samples: [], why: '', failures: 0 })),
  );
  for (const cell of cells) {
    const why = cell.column.skips?.(cell.point);
    if (why === undefined) continue;
    cell.why = why;
    missing.push({ column: cell.column.name, point: cell.point.name, why });
  }
  const live = cells.filter(c => c.why === '');
  let done = 0;
  for (let turn = 1; turn <= repeat; turn++) {
    for (const cell of live) {
      done++;
      const said = cell.failures < GIVE_UP ? await measure(s, cell, lab, turn, missing, o) : 'left out';
      o.progress?.(
        done / (live.length * repeat),
        `${cell.point.name} ${cell.column.name}: ${said} (${turn}/${repeat})`,
      );
    }
  }
  const series = cells.flatMap(c => seriesOf(s.metrics, c.point.name, c.column.name, c.samples));
  return {
    scenario: s.name,
    about: s.about,
    metrics: s.metrics,
    points: points.map(({ name, x }) => ({ name, x })),
    columns: columns.map(({ name, about, kind }) => ({ name, about, kind })),
    plots: s.plots,
    series,
    ratios: ratiosOf(s.metrics, series),
    missing,
    verdicts: s.demands.map(d => judge(d, series, missing)),
  };
}

/** The shown metrics of a sample on one line. */
function told(metrics: readonly Metric[], sample: Sample): string {
  return metrics
    .filter(m => m.hidden !== true && sample[m.name] !== undefined)
    .map(m => `${m.name} ${rounded(sample[m.name]!)} ${m.unit}`)
    .join(', ');
}

/** Samples of one cell, metric by metric. */
export function seriesOf(
  metrics: readonly Metric[],
  point: string,
  column: string,
  samples: readonly Sample[],
): Series[] {
  return metrics.flatMap(m => {
    const values = samples
      .map(s => s[m.name])
      .filter(v => v !== undefined)
      .map(rounded);
    if (values.length === 0) return [];
    return [
      {
        point,
        column,
        metric: m.name,
        unit: m.unit,
        median: rounded(median(values)),
        low: Math.min(...values),
        high: Math.max(...values),
        samples: values,
      },
    ];
  });
}

/** Ours over each other column, of every metric that both have. */
export function ratiosOf(metrics: readonly Metric[], series: readonly Series[]): Ratio[] {
  const shown = new Set(metrics.filter(m => m.hidden !== true).map(m => m.name));
  return series.flatMap(other => {
    if (other.column === 'nke' || !shown.has(other.metric)) return [];
    const ours = find(series, other.point, 'nke', other.metric);
    if (ours === undefined || other.median === 0) return [];
    const { point, metric, column } = other;
    return [{ point, metric, over: column, ratio: rounded(ours.median / other.median) }];
  });
}

const find = (series: readonly Series[], point: string, column: string, metric: string): Series | undefined =>
  series.find(s => s.point === point && s.column === column && s.metric === metric);

/** Judges a demand by the medians of one run. */
export function judge(d: Demand, series: readonly Series[], missing: readonly Missing[] = []): Verdict {
  const { what, unit, atLeast, atMost } = d;
  const bounds = { ...(atLeast === undefined ? {} : { atLeast }), ...(atMost === undefined ? {} : { atMost }) };
  const absent = (column: string): Verdict => {
    const why = missing.find(m => m.column === column && (m.point === undefined || m.point === d.point))?.why;
    const reason = `${column}: ${why ?? `no measurement at ${d.point}`}`;
    return { what, value: null, unit, ...bounds, verdict: 'not measured', why: reason };
  };
  const mine = d.column ?? 'nke';
  const ours = find(series, d.point, mine, d.metric);
  if (ours === undefined) return absent(mine);
  const other = d.over === undefined ? undefined : find(series, d.point, d.over, d.metric);
  if (d.over !== undefined && other === undefined) return absent(d.over);
  const ratio = other === undefined ? ours.median : ours.median / other.median;
  const value = rounded(unit === '%' ? ratio * 100 : ratio);
  const held = (atLeast === undefined || value >= atLeast) && (atMost === undefined || value <= atMost);
  return { what, value, unit, ...bounds, verdict: held ? 'pass' : 'short' };
}
