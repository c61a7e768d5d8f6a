/** Many scripts: finds them, runs them one after the other or in worker threads, and gives the results in their order. */

import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { FileResult } from './report.js';
import { runFile, type SuiteOptions } from './run-one.js';

/** Threads stop paying long before this. */
export const MAX_JOBS = 64;
/** Wall time for one script in a thread, in milliseconds; far above what any takes in virtual time. */
const PATIENCE = 60_000;
/** Directories below each other; symbolic links to directories are not followed, so this is a bound and not a hope. */
const MAX_DIRECTORY_DEPTH = 32;

/**
 * The files that names stand for: a file as it is, a directory for all `*.pkt` below it in the order of their names. Each file
 * once. Throws with a sentence when a name is nothing or a directory has no script.
 */
export function findScripts(names: readonly string[]): string[] {
  const out = new Set<string>();
  for (const name of names) {
    const stat = statSync(name, { throwIfNoEntry: false });
    if (stat === undefined) throw new Error(`there is no file or directory ${name}`);
    const found = stat.isDirectory() ? walk(name, 0) : [name];
    if (found.length === 0) throw new Error(`there is no script (*.pkt) in ${name}`);
    for (const f of found) out.add(f);
  }
  return [...out];
}

function walk(dir: string, depth: number): string[] {
  if (depth > MAX_DIRECTORY_DEPTH) return [];
  return readdirSync(dir, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap(e => {
      const path = join(dir, e.name);
      if (e.isDirectory()) return walk(path, depth + 1);
      const file = e.isFile() || (e.isSymbolicLink() && statSync(path, { throwIfNoEntry: false })?.isFile() === true);
      return file && e.name.endsWith('.pkt') ? [path] : [];
    });
}

/**
 * Runs the files. `report` hears of each result in the order of the files, as soon as all before it are there. With more than
 * one job a script that kills or hangs its thread is a failure of that script alone.
 */
export async function runFiles(
  files: readonly string[],
  options: SuiteOptions,
  jobs: number,
  report: (result: FileResult) => void,
): Promise<FileResult[]> {
  const results: FileResult[] = [];
  if (jobs <= 1 || files.length <= 1) {
    for (const file of files) {
      const result = runFile(file, options);
      results.push(result);
      report(result);
    }
    return results;
  }
  const slots = new Array<FileResult | undefined>(files.length);
  let next = 0;
  const finish = (index: number, result: FileResult): void => {
    slots[index] = result;
    for (let r = slots[results.length]; r !== undefined; r = slots[results.length]) {
      results.push(r);
      report(r);
    }
  };
  /** One line of work: a thread, and a new one where it ended over a script. */
  const line = async (): Promise<void> => {
    let worker: Worker | undefined;
    try {
      while (next < files.length) {
        const index = next++;
        worker ??= new Worker(new URL('./worker.js', import.meta.url), { workerData: options });
        const outcome = await ask(worker, files[index]!);
        if (typeof outcome === 'string') {
          await worker.terminate();
          worker = undefined;
          finish(index, lost(files[index]!, outcome));
        } else finish(index, outcome);
      }
    } finally {
      await worker?.terminate();
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, files.length, MAX_JOBS) }, line));
  return results;
}

/** A file's result, or why there is none. */
function ask(worker: Worker, file: string): Promise<FileResult | string> {
  return new Promise(resolve => {
    const end = (outcome: FileResult | string): void => {
      clearTimeout(timer);
      worker.removeAllListeners();
      // An error after the answer must not end the process.
      worker.on('error', () => {});
      resolve(outcome);
    };
    const timer = setTimeout(() => end(`no end after ${PATIENCE / 1000} s of wall time`), PATIENCE);
    worker.removeAllListeners();
    worker.on('message', (result: FileResult) => end(result));
    worker.on('error', e => end(`internal error: ${e instanceof Error ? e.message : String(e)}`));
    worker.on('exit', code => end(`its thread ended with ${code}`));
    worker.postMessage(file);
  });
}

const lost = (file: string, what: string): FileResult => ({
  file,
  ok: false,
  ms: 0,
  virtualSeconds: 0,
  error: { line: 1, column: 1, what },
  notes: [],
});
