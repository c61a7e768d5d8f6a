/** How the end of a script is told: as text with a diff field by field, and as one JSON object. */

import { printPacket } from './print.js';
import type { Difference, Failure } from './result.js';

/** Why a script failed, in plain data: it crosses threads and becomes JSON. */
export interface ScriptError {
  /** Where in the file; 1, 1 when nothing of it could be read. */
  readonly line: number;
  readonly column: number;
  /** One sentence without a full stop. */
  readonly what: string;
  readonly expected?: string;
  readonly got?: string;
  readonly differences?: readonly Difference[];
  /** The event at fault as written. */
  readonly source?: string;
}

/** What became of one script file. */
export interface FileResult {
  readonly file: string;
  readonly ok: boolean;
  /** Wall time in milliseconds. */
  readonly ms: number;
  readonly virtualSeconds: number;
  /** There exactly when `ok` is false. */
  readonly error?: ScriptError;
  /** Remarks: unknown options, commands without meaning here, packets left over. */
  readonly notes: readonly string[];
}

/** A runner's failure as plain data, its packets printed in the dialect. */
export function explain(failure: Failure, source: string | undefined): ScriptError {
  const { at, what, packets } = failure;
  return {
    line: at.line,
    column: at.column,
    what,
    expected: failure.expected ?? (packets && printPacket(packets.expected)),
    got: failure.got ?? (packets && printPacket(packets.got)),
    differences: failure.differences,
    source,
  };
}

/** `{file, ok, ms, virtualSeconds, error?: {line, column, what, expected, got, …}, notes}`; times rounded to the microsecond. */
export function jsonOf(r: FileResult): Record<string, unknown> {
  const round = (n: number, digits: number) => Number(n.toFixed(digits));
  const error = r.error && { ...r.error, expected: r.error.expected ?? null, got: r.error.got ?? null };
  return {
    file: r.file,
    ok: r.ok,
    ms: round(r.ms, 3),
    virtualSeconds: round(r.virtualSeconds, 6),
    ...(error === undefined ? {} : { error }),
    ...(r.notes.length === 0 ? {} : { notes: r.notes }),
  };
}

/** Longest line of an event or packet that is shown. */
const WIDTH = 2000;
const cut = (text: string) => (text.length > WIDTH ? `${text.slice(0, WIDTH)}…` : text);

/** Byte strings for people: the first of them. Whoever wants all of them takes JSON or the capture. */
const BYTES = /\[(0x[0-9a-f]{2}(?:, 0x[0-9a-f]{2}){7})((?:, 0x[0-9a-f]{2}){9,})\]/g;
const fewBytes = (text: string) => text.replace(BYTES, (_all, first, rest) => `[${first}, … ${rest.length / 6} more]`);

/** Chunks, and the parameters of long ones, of a packet under each other once it is too long for a line. */
function folded(text: string, indent: string): string {
  const short = cut(fewBytes(text));
  if (short.length <= 100) return short;
  return short
    .replace(/; (?=[A-Z_]+\[)/g, `;\n${indent}  `)
    .split('\n')
    .map(line => (line.length <= 120 ? line : line.replace(/, (?=[A-Z0-9_]+\[)/g, `,\n${indent}    `)))
    .join('\n');
}

/** A result as lines of text: one line when it passed, else where, what, and the diff. */
export function textOf(r: FileResult, verbose = false): string {
  const notes = verbose || !r.ok ? r.notes.map(n => `  note      ${n}`) : [];
  if (r.error === undefined)
    return [`ok   ${r.file}  (${r.ms.toFixed(1)} ms, ${r.virtualSeconds.toFixed(3)} s virtual)`, ...notes].join('\n');
  const e = r.error;
  const lines = [`FAIL ${r.file}:${e.line}:${e.column}: ${e.what}`];
  if (e.source !== undefined) {
    const source = e.source.split(/\r?\n/);
    lines.push(...source.slice(0, 12).map(l => `  ${'|'.padEnd(10)}${cut(l)}`));
    if (source.length > 12) lines.push(`  ${'|'.padEnd(10)}… ${source.length - 12} more lines`);
  }
  const indent = ' '.repeat(12);
  // Of a script that cannot be parsed the sentence has said it all.
  const said = e.expected !== undefined && e.what.includes(e.expected);
  if (e.expected !== undefined && !said) lines.push(`  expected  ${folded(e.expected, indent)}`);
  if (e.got !== undefined && !said) lines.push(`  came      ${folded(e.got, indent)}`);
  if (e.differences !== undefined && e.differences.length > 0) lines.push(...diffTable(e.differences));
  return [...lines, ...notes].join('\n');
}

/** Field, expected and got in columns; fields that begin alike say it once. */
function diffTable(differences: readonly Difference[]): string[] {
  const MOST = 20;
  const shown = differences.slice(0, MOST);
  const width = Math.max(...shown.map(d => d.field.length));
  const values = Math.min(40, Math.max(...shown.map(d => d.expected.length)));
  const rows = shown.map((d, i) => {
    const head = i === 0 ? 'differs   ' : '          ';
    return `  ${head}${d.field.padEnd(width)}  expected ${cut(d.expected).padEnd(values)}  came ${cut(d.got)}`;
  });
  if (differences.length > MOST) rows.push(`            … and ${differences.length - MOST} more`);
  return rows;
}

export interface Summary {
  readonly total: number;
  readonly passed: number;
  readonly failed: number;
  readonly virtualSeconds: number;
}

export function summarize(results: readonly FileResult[]): Summary {
  const passed = results.filter(r => r.ok).length;
  return {
    total: results.length,
    passed,
    failed: results.length - passed,
    virtualSeconds: results.reduce((n, r) => n + r.virtualSeconds, 0),
  };
}

/** `47 scripts: 45 passed, 2 failed; 0.52 s (123.4 s of virtual time)`. */
export function summaryText(s: Summary, wallSeconds: number): string {
  const scripts = `${s.total} script${s.total === 1 ? '' : 's'}`;
  const time = `${wallSeconds.toFixed(2)} s (${s.virtualSeconds.toFixed(1)} s of virtual time)`;
  return `${scripts}: ${s.passed} passed, ${s.failed} failed; ${time}`;
}
