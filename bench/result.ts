/** What every scenario gives: one object, the same shape for all, and how it is printed. */

/** Samples of one side in one unit; larger is better unless the unit is a time. */
export interface Series {
  readonly unit: string;
  readonly median: number;
  readonly samples: readonly number[];
}

export interface BenchResult {
  readonly scenario: string;
  readonly params: Readonly<Record<string, string | number>>;
  readonly ours: Series;
  readonly peers: Readonly<Record<string, Series>>;
  readonly limit?: Series;
  /** ours / other, by name; "limit" for the limit. */
  readonly ratios: Readonly<Record<string, number>>;
  /** Columns left out, and why. */
  readonly missing: Readonly<Record<string, string>>;
}

export function median(samples: readonly number[]): number {
  if (samples.length === 0) return Number.NaN;
  const s = [...samples].sort((a, b) => a - b);
  const mid = s.length >> 1;
  return s.length % 2 === 1 ? s[mid]! : (s[mid - 1]! + s[mid]!) / 2;
}

export const series = (unit: string, samples: readonly number[]): Series => ({
  unit,
  median: median(samples),
  samples,
});

const round = (n: number): number => Number(n.toPrecision(4));

/** A result with its medians and ratios worked out. */
export function result(
  scenario: string,
  params: BenchResult['params'],
  unit: string,
  samples: { ours: readonly number[]; peers: Readonly<Record<string, readonly number[]>>; limit?: readonly number[] },
  missing: Readonly<Record<string, string>>,
): BenchResult {
  const ours = series(unit, samples.ours.map(round));
  const peers: Record<string, Series> = {};
  const ratios: Record<string, number> = {};
  for (const [name, s] of Object.entries(samples.peers)) {
    if (s.length === 0) continue;
    peers[name] = series(unit, s.map(round));
    ratios[name] = round(ours.median / peers[name].median);
  }
  const limit =
    samples.limit !== undefined && samples.limit.length > 0 ? series(unit, samples.limit.map(round)) : undefined;
  if (limit !== undefined) ratios.limit = round(ours.median / limit.median);
  return { scenario, params, ours, peers, ...(limit === undefined ? {} : { limit }), ratios, missing };
}

/** A table for people: medians with their spread, and ratios. */
export function table(r: BenchResult): string {
  const params = Object.entries(r.params)
    .map(([k, v]) => `${k} ${v}`)
    .join(', ');
  const rows: [string, Series, number | undefined][] = [['nke', r.ours, undefined]];
  for (const [name, s] of Object.entries(r.peers)) rows.push([name, s, r.ratios[name]]);
  if (r.limit !== undefined) rows.push(['limit (C)', r.limit, r.ratios.limit]);
  const width = Math.max(...rows.map(([n]) => n.length));
  const lines = rows.map(([name, s, ratio]) => {
    const spread = `${Math.min(...s.samples).toFixed(3)} .. ${Math.max(...s.samples).toFixed(3)}`;
    const versus = ratio === undefined ? '' : `   nke is ${ratio.toFixed(2)} x`;
    return `  ${name.padEnd(width)}  ${s.median.toFixed(3).padStart(10)} ${s.unit}   (${spread}, ${s.samples.length} runs)${versus}`;
  });
  for (const [name, why] of Object.entries(r.missing)) lines.push(`  ${name.padEnd(width)}  not measured: ${why}`);
  return `${r.scenario}: ${params}\n${lines.join('\n')}\n`;
}
