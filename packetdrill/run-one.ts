/** One script file from its name to its result; whatever happens on the way is a result too. */

import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { Position, Script } from './ast.js';
import { ParseError } from './error.js';
import type { Defines } from './lexer.js';
import { parse } from './parser.js';
import { explain, type FileResult, type ScriptError } from './report.js';
import type { Abi, RunOptions, ScriptResult } from './result.js';
import { runScript } from './runner.js';

/** What all scripts of a call share. Plain data: it is handed to worker threads. */
export interface SuiteOptions {
  readonly tight: boolean;
  readonly abi: Abi;
  /** Directory for the exchanges as pcapng, one file a script. */
  readonly pcap?: string;
  readonly seed?: number;
  readonly defines: Defines;
}

/** Larger than any script; a bound for what is read into memory. */
const MAX_BYTES = 4 << 20;

/** Reads, parses and runs one file. Never throws. `run` is there for tests. */
export function runFile(
  file: string,
  options: SuiteOptions,
  run: (script: Script, options: RunOptions) => ScriptResult = runScript,
): FileResult {
  const start = performance.now();
  const done = (virtualSeconds: number, notes: readonly string[], error?: ScriptError): FileResult => ({
    file,
    ok: error === undefined,
    ms: performance.now() - start,
    virtualSeconds,
    ...(error === undefined ? {} : { error }),
    notes,
  });
  let script: Script | undefined;
  let text = '';
  try {
    const size = statSync(file).size;
    if (size > MAX_BYTES)
      return done(0, [], { line: 1, column: 1, what: `a script of ${size} bytes: the most is ${MAX_BYTES}` });
    text = readFileSync(file, 'utf8');
    script = parse(file, text, { defines: options.defines });
    const result = run(script, {
      tight: options.tight,
      abi: options.abi,
      seed: options.seed,
      ...(options.pcap === undefined ? {} : { pcap: pcapFile(options.pcap, file) }),
    });
    const notes = [...script.warnings.map(w => `line ${w.at.line}: ${w.text}`), ...result.notes];
    if (result.ok) return done(result.virtualSeconds, notes);
    const { failure } = result;
    if (failure === undefined)
      return done(result.virtualSeconds, notes, { line: 1, column: 1, what: 'failed without a reason' });
    const event = script.events.find(e => e.at.line === failure.at.line && e.at.column === failure.at.column);
    return done(result.virtualSeconds, notes, explain(failure, (event ?? within(script, failure.at.line))?.source));
  } catch (e) {
    if (e instanceof ParseError) {
      const { at, what, expected, got } = e;
      return done(0, [], { line: at.line, column: at.column, what, expected, got, source: pointAt(text, at) });
    }
    const line = script === undefined ? 1 : (script.events[0]?.at.line ?? 1);
    const code = e instanceof Error ? (e as NodeJS.ErrnoException).code : undefined;
    const system = script === undefined && code !== undefined;
    const why = e instanceof Error ? (process.env.NKE_DEBUG ? (e.stack ?? e.message) : e.message) : String(e);
    return done(0, [], { line, column: 1, what: system ? `cannot be read: ${why}` : `internal error: ${why}` });
  }
}

/** The line at fault with a mark under the column. */
function pointAt(text: string, at: Position): string {
  const line = text.split('\n', at.line)[at.line - 1]?.replace(/\r$/, '') ?? '';
  return `${line}\n${line.slice(0, at.column - 1).replace(/[^\t]/g, ' ')}^`;
}

/** The last event that starts at or before a line: failures may point into the middle of one. */
const within = (script: Script, line: number) => script.events.findLast(e => e.at.line <= line);

/** DIR with the script's own path below it, `.pkt` become `.pcapng`; never outside DIR. */
function pcapFile(dir: string, file: string): string {
  const path = relative('.', file)
    .split(/[\\/]/)
    .filter(p => p !== '..' && p !== '.' && p !== '')
    .join('/');
  const target = join(dir, `${path.replace(/\.pkt$/, '')}.pcapng`);
  mkdirSync(dirname(target), { recursive: true });
  return target;
}
