/**
 * What a scenario is: a row of data. Points (what is varied) are its lines, columns are who does the work; a column's `run`
 * measures one point once. The runner (run.ts) takes the columns in turn, several times, and judges the demands.
 */

import type { Lab } from './lab.js';

/** One thing that a run measures. The first metric of a scenario is the one that ratios are made of. */
export interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly better: 'more' | 'less';
  /** Kept in the results and in plots, but not a line of the table. */
  readonly hidden?: boolean;
}

/** One value of what a scenario varies. */
export interface Point {
  /** Unique in its scenario: "1400 B", "100,000". Also what --point takes, spaces left out. */
  readonly name: string;
  /** Its place on the x axis. */
  readonly x: number;
  /** Part of a --quick run. */
  readonly quick?: boolean;
}

/** What one run of one column at one point gave, by metric. A metric that a column cannot tell is left out. */
export type Sample = Readonly<Record<string, number>>;

export interface Column {
  readonly name: string;
  /** A line that tells a reader what was measured. */
  readonly about: string;
  readonly kind: 'ours' | 'peer' | 'limit';
  /** Why this column cannot be measured on this machine: a sentence; undefined when it can. Must not throw. */
  missing?(lab: Lab): string | undefined | Promise<string | undefined>;
  /** Why it says nothing at a point; undefined when it does. */
  skips?(point: Point): string | undefined;
  /**
   * Measures once; `turn` counts from 1, for what has a seed. Throws when the run failed: the column then goes without that
   * sample, and the report says why.
   */
  run(point: Point, lab: Lab, turn: number): Promise<Sample>;
}

/** What must be reached: a metric's median at a point, or its ratio over another column in the same run. */
export interface Demand {
  readonly what: string;
  readonly point: string;
  readonly metric: string;
  /** The column judged, default 'nke'. */
  readonly column?: string;
  /** The ratio is taken over this column's median; without it the median itself is judged. */
  readonly over?: string;
  readonly atLeast?: number;
  readonly atMost?: number;
  /** Of the value judged: "x", "%" (the ratio times 100) or the metric's own. */
  readonly unit: string;
}

/** How a scenario is drawn, if it is. */
export interface Plot {
  readonly title: string;
  readonly xLabel: string;
  readonly xLog?: boolean;
  readonly yLog?: boolean;
  /** A line of each column over the points, of these metrics; or over the quantiles of a distribution. */
  readonly over: 'points' | 'quantiles';
  /** 'points': the metric on the y axis. */
  readonly metric?: string;
}

export interface Scenario {
  readonly name: string;
  readonly about: string;
  readonly metrics: readonly Metric[];
  readonly points: readonly Point[];
  readonly columns: readonly Column[];
  readonly demands: readonly Demand[];
  readonly plots: readonly Plot[];
  /** Runs of each cell at most, for what does not vary or takes long. */
  readonly repeats?: number;
}

// What comes out

export interface Series {
  readonly point: string;
  readonly column: string;
  readonly metric: string;
  readonly unit: string;
  readonly median: number;
  readonly low: number;
  readonly high: number;
  readonly samples: readonly number[];
}

export interface Ratio {
  readonly point: string;
  readonly metric: string;
  /** ours / over. */
  readonly over: string;
  readonly ratio: number;
}

export interface Missing {
  readonly column: string;
  /** Left out: everywhere. */
  readonly point?: string;
  readonly why: string;
}

export interface Verdict {
  readonly what: string;
  /** The value judged, in `unit`; null when it was not measured. */
  readonly value: number | null;
  readonly unit: string;
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly verdict: 'pass' | 'short' | 'not measured';
  /** Why it was not measured. */
  readonly why?: string;
}

export interface ScenarioResult {
  readonly scenario: string;
  readonly about: string;
  readonly metrics: readonly Metric[];
  readonly points: readonly Pick<Point, 'name' | 'x'>[];
  readonly columns: readonly Pick<Column, 'name' | 'about' | 'kind'>[];
  readonly plots: readonly Plot[];
  readonly series: readonly Series[];
  readonly ratios: readonly Ratio[];
  readonly missing: readonly Missing[];
  readonly verdicts: readonly Verdict[];
}
