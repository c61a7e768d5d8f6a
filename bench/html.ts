/**
 * The HTML report: one file for a browser, nothing is loaded from elsewhere. Verdicts, plots (uPlot, inlined), tables, the
 * machine and every raw sample; the whole result stands in it as JSON too, in the element "report".
 */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type BenchReport, figure, judged, machineLine, wanted } from './report.js';
import type { Plot, ScenarioResult, Series } from './scenario.js';
import { QUANTILES, quantileName } from './statistics.js';

/** A line of a plot: a value for each x, null where there is none; and the spread around it. */
export interface DrawnLine {
  readonly label: string;
  readonly color: string;
  readonly dashed: boolean;
  readonly values: readonly (number | null)[];
  readonly low: readonly (number | null)[];
  readonly high: readonly (number | null)[];
}
/** A plot as the page's script draws it. */
export interface DrawnPlot {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly xLog: boolean;
  readonly yLog: boolean;
  readonly x: readonly number[];
  /** What stands under each x, instead of the number. */
  readonly ticks: readonly string[];
  readonly lines: readonly DrawnLine[];
}

/** Colours that people with any kind of colour vision tell apart (Okabe and Ito 2008); ours is black. */
const COLORS = ['#E69F00', '#56B4E9', '#009E73', '#CC79A7', '#0072B2', '#D55E00', '#8C8C8C'];
const OURS = '#000000';

const escaped = (text: string): string => text.replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);

/** JSON inside a script element: nothing in it can end the element. */
const inScript = (value: unknown): string => JSON.stringify(value).replaceAll('<', '\\u003c');

const at = (series: readonly Series[], point: string, column: string, metric: string): Series | undefined =>
  series.find(s => s.point === point && s.column === column && s.metric === metric);

function line(label: string, index: number, ours: boolean, found: readonly (Series | undefined)[]): DrawnLine {
  return {
    label,
    color: ours ? OURS : COLORS[index % COLORS.length]!,
    dashed: !ours && index >= COLORS.length,
    values: found.map(s => s?.median ?? null),
    low: found.map(s => s?.low ?? null),
    high: found.map(s => s?.high ?? null),
  };
}

/** A plot over the points of a scenario: a line for each column. */
function overPoints(r: ScenarioResult, plot: Plot): Pick<DrawnPlot, 'x' | 'ticks' | 'lines' | 'yLabel'> {
  const metric = plot.metric!;
  const points = [...r.points].sort((a, b) => a.x - b.x);
  const lines = r.columns.map((c, i) =>
    line(
      c.name,
      i,
      c.kind === 'ours',
      points.map(p => at(r.series, p.name, c.name, metric)),
    ),
  );
  const unit = r.metrics.find(m => m.name === metric)!.unit;
  return { x: points.map(p => p.x), ticks: points.map(p => p.name), lines, yLabel: unit };
}

/**
 * A plot of distributions, a line for each column and point. The shares lie as in a HDR histogram: each step to the right
 * leaves a tenth of what was left, p90, p99, p99.9. The largest of all has no place on such an axis; the table has it.
 */
function overQuantiles(r: ScenarioResult): Pick<DrawnPlot, 'x' | 'ticks' | 'lines' | 'yLabel'> {
  const shares = QUANTILES.filter(q => q < 1);
  const pairs = r.points.flatMap(p => r.columns.map(c => ({ p, c })));
  const lines = pairs.map(({ p, c }, i) =>
    line(
      `${c.name}, ${p.name}`,
      i,
      false,
      shares.map(q => at(r.series, p.name, c.name, quantileName(q))),
    ),
  );
  return {
    x: shares.map(q => Math.log10(1 / (1 - q))),
    ticks: shares.map(quantileName),
    lines,
    yLabel: r.metrics[0]!.unit,
  };
}

/** The plots of a scenario that have something to show: at least one line of two points. */
export function drawnPlots(r: ScenarioResult): DrawnPlot[] {
  return r.plots.flatMap(plot => {
    const content = plot.over === 'points' ? overPoints(r, plot) : overQuantiles(r);
    const lines = content.lines.filter(l => l.values.some(v => v !== null));
    if (content.x.length < 2 || lines.length === 0) return [];
    const { title, xLabel } = plot;
    return [{ title, xLabel, xLog: plot.xLog === true, yLog: plot.yLog === true, ...content, lines }];
  });
}

/** The page's own script, in plain JavaScript of the browser: draws every plot with uPlot. */
const SCRIPT = `
for (const [i, p] of JSON.parse(document.getElementById('plots').textContent).entries()) {
  const data = [p.x, ...p.lines.map(l => l.values)];
  const label = v => {
    const k = p.x.findIndex(x => Math.abs(x - v) < 1e-9);
    return k < 0 ? String(v) : p.ticks[k];
  };
  const whiskers = u => {
    const { ctx } = u;
    ctx.save();
    p.lines.forEach((l, s) => {
      if (!u.series[s + 1].show) return;
      ctx.strokeStyle = l.color;
      ctx.lineWidth = devicePixelRatio;
      p.x.forEach((x, k) => {
        if (l.low[k] === null || l.low[k] === l.high[k]) return;
        const at = Math.round(u.valToPos(x, 'x', true));
        ctx.beginPath();
        ctx.moveTo(at, u.valToPos(l.low[k], 'y', true));
        ctx.lineTo(at, u.valToPos(l.high[k], 'y', true));
        ctx.stroke();
      });
    });
    ctx.restore();
  };
  const positive = p.lines.flatMap(l => l.values).filter(v => v > 0);
  // A logarithmic axis needs a whole decade around what it shows.
  const decades = [10 ** Math.floor(Math.log10(Math.min(...positive))), 10 ** Math.ceil(Math.log10(Math.max(...positive) * 1.01))];
  const all = p.lines.flatMap(l => l.high).filter(v => v !== null);
  const margin = p.xLog ? 1.3 : (p.x[p.x.length - 1] - p.x[0]) * 0.04;
  const xs = p.xLog ? [p.x[0] / margin, p.x[p.x.length - 1] * margin] : [p.x[0] - margin, p.x[p.x.length - 1] + margin];
  new uPlot({
    width: Math.min(920, document.body.clientWidth - 20),
    height: 380,
    title: p.title,
    scales: {
      x: { time: false, distr: p.xLog ? 3 : 1, range: () => xs },
      y: { distr: p.yLog ? 3 : 1, range: () => (p.yLog ? decades : [0, Math.max(...all) * 1.08]) },
    },
    axes: [
      { label: p.xLabel, splits: () => p.x, filter: (u, splits) => splits, values: (u, splits) => splits.map(label), rotate: p.x.length > 8 ? -40 : 0, size: 60 },
      { label: p.yLabel, size: 80, values: (u, splits) => splits.map(v => (v === null ? null : Number(v.toPrecision(4)).toLocaleString('en', { maximumSignificantDigits: 4 }))) },
    ],
    series: [
      { label: p.xLabel, value: (u, v) => (v === null ? '' : label(v)) },
      ...p.lines.map(l => ({ label: l.label, stroke: l.color, width: l.color === '#000000' ? 3 : 1.5, dash: l.dashed ? [6, 4] : undefined, points: { show: true, size: 6 }, spanGaps: true })),
    ],
    hooks: { draw: [whiskers] },
  }, data, document.getElementById('plot' + i));
}
document.documentElement.dataset.drawn = String(document.querySelectorAll('.uplot canvas').length);
`;

const STYLE = `
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 960px; margin: 2em auto; padding: 0 1em; }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2em; border-bottom: 1px solid #ccc }
table:not(.u-legend) { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1em 0; font-size: 14px }
table:not(.u-legend) :is(th, td) { padding: .2em .8em; text-align: left; border-bottom: 1px solid #e5e5e5; vertical-align: top }
.n { text-align: right } .pass { color: #00734f; font-weight: 600 } .short { color: #b3400e; font-weight: 600 }
.about, .machine { color: #555 } .samples { font-size: 12px; color: #666; font-family: ui-monospace, monospace }
details { margin: .6em 0 } .plot { margin: 1em 0 }
`;

const cell = (text: string, cls = ''): string => `<td${cls === '' ? '' : ` class="${cls}"`}>${escaped(text)}</td>`;

function htmlTable(heads: readonly string[], rows: readonly string[]): string {
  const head = heads.map(h => `<th>${escaped(h)}</th>`).join('');
  return `<table><thead><tr>${head}</tr></thead><tbody>${rows.map(r => `<tr>${r}</tr>`).join('\n')}</tbody></table>`;
}

function verdicts(report: BenchReport): string {
  if (report.verdicts.length === 0) return '';
  const rows = report.verdicts.map(
    v =>
      cell(v.what) +
      cell(wanted(v), 'n') +
      cell(judged(v), 'n') +
      cell(v.why === undefined ? v.verdict : `${v.verdict}: ${v.why}`, v.verdict.split(' ')[0]),
  );
  return `<h2>What must be reached</h2>${htmlTable(['', 'Wanted', 'Measured', 'Verdict'], rows)}`;
}

function scenarioSection(r: ScenarioResult, firstPlot: number): string {
  const plots = drawnPlots(r).map((_, i) => `<div class="plot" id="plot${firstPlot + i}"></div>`);
  const shown = new Set(r.metrics.filter(m => m.hidden !== true).map(m => m.name));
  const rows = r.series
    .filter(s => shown.has(s.metric))
    .map(s => {
      const ratio = r.ratios.find(q => q.point === s.point && q.metric === s.metric && q.over === s.column);
      return (
        cell(s.point) +
        cell(s.column) +
        cell(s.metric) +
        cell(figure(s.median), 'n') +
        cell(s.unit) +
        cell(ratio === undefined ? '' : `${figure(ratio.ratio)} x`, 'n') +
        cell(s.samples.join(' '), 'samples')
      );
    });
  const columns = r.columns.map(c => `<li><b>${escaped(c.name)}</b>: ${escaped(c.about)}</li>`);
  const missing = r.missing.map(
    m => `<li>${escaped(`${m.column}${m.point === undefined ? '' : ` at ${m.point}`}: ${m.why}`)}</li>`,
  );
  return `<h2 id="${escaped(r.scenario)}">${escaped(r.scenario)}</h2>
<p class="about">${escaped(r.about)}</p>
${plots.join('\n')}
${htmlTable(['Point', 'Who', 'What', 'Median', 'Unit', 'nke / it', 'Samples'], rows)}
<details open><summary>Who is who</summary><ul>${columns.join('\n')}</ul></details>
${missing.length === 0 ? '' : `<details><summary>Not measured</summary><ul>${missing.join('\n')}</ul></details>`}`;
}

function profileSection(report: BenchReport): string {
  const p = report.profile;
  if (p === undefined) return '';
  const each = (us: number, packets: number) => ((us * 1000) / packets).toFixed(0);
  const rows = p.sender.layers
    .map((l, i) => ({ l, r: p.receiver.layers[i]! }))
    .filter(({ l, r }) => l.microseconds > 0 || r.microseconds > 0)
    .map(
      ({ l, r }) =>
        cell(l.layer) +
        cell(each(l.microseconds, p.sender.packets), 'n') +
        cell(each(r.microseconds, p.receiver.packets), 'n'),
    );
  return `<h2>Where a packet's time goes</h2><p class="about">bulk, ${p.message}-byte messages, ${figure(p.gbps)} Gb/s with the profiler running</p>
${htmlTable(['Layer', 'sender, ns a packet', 'receiver, ns a packet'], rows)}`;
}

/** The files of uPlot that go into the page. */
function library(): { script: string; style: string } {
  const folder = createRequire(import.meta.url)
    .resolve('uplot/package.json')
    .replace(/package\.json$/, 'dist/');
  return {
    script: readFileSync(`${folder}uPlot.iife.min.js`, 'utf8'),
    style: readFileSync(`${folder}uPlot.min.css`, 'utf8'),
  };
}

/** The page. */
export function htmlReport(report: BenchReport): string {
  const { script, style } = library();
  const sections: string[] = [];
  const plots: DrawnPlot[] = [];
  for (const r of report.scenarios) {
    sections.push(scenarioSection(r, plots.length));
    plots.push(...drawnPlots(r));
  }
  const o = report.options;
  const how = `${o.quick ? 'quick run: to see that it works, not to quote; ' : ''}medians of ${o.repeat} runs of ${o.seconds} s in turn, bars from the lowest to the highest`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>nke bench, ${escaped(report.started)}</title>
<meta name="viewport" content="width=device-width">
<style>${style}${STYLE}</style></head><body>
<h1>nke bench</h1>
<p class="machine">${escaped(report.started)}, ${figure(report.seconds)} s; ${escaped(how)}<br>${escaped(machineLine(report.machine))}</p>
${verdicts(report)}
${sections.join('\n')}
${profileSection(report)}
<script type="application/json" id="report">${inScript(report)}</script>
<script type="application/json" id="plots">${inScript(plots)}</script>
<script>${script}</script>
<script>${SCRIPT}</script>
</body></html>
`;
}
