// Builds the C programs of tests and benchmarks with gcc, when their source is newer than what was built last.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package's root: this file is dist/vm/compile.js, and what is not TypeScript stays outside dist/. */
export const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** build/peers in the package, or the user's cache when the package is installed where we may not write. */
function outputFolder(): string {
  const folder = join(packageRoot, 'build', 'peers');
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
    return folder;
  } catch {
    const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'nke', 'peers');
    mkdirSync(cache, { recursive: true });
    return cache;
  }
}

/** Modification time in milliseconds, 0 for a file that is not there. */
const modified = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/**
 * The path of an up-to-date program built from `source` (a path in the package, as are the headers `includes`), with
 * the libraries given. Throws what gcc said when it does not build.
 */
export function compileC(source: string, includes: readonly string[] = [], libraries: readonly string[] = []): string {
  const from = join(packageRoot, source);
  const name = basename(source, '.c');
  const program = join(outputFolder(), name);
  const newest = Math.max(modified(from), ...includes.map(file => modified(join(packageRoot, file))));
  if (modified(program) > newest) return program;
  // Built aside and renamed, so that two processes that build at once do not meet a half-written program.
  const aside = `${program}.${process.pid}`;
  const folders = [...new Set(includes.map(file => `-I${join(packageRoot, dirname(file))}`))];
  const gcc = ['-O2', '-Wall', '-Wextra', ...folders, '-o', aside, from, ...libraries.map(library => `-l${library}`)];
  const done = spawnSync('gcc', gcc, { encoding: 'utf8', timeout: 60_000, killSignal: 'SIGKILL' });
  if (done.status !== 0) {
    rmSync(aside, { force: true });
    throw new Error(`${name} does not build: ${done.error?.message ?? done.stderr}`);
  }
  renameSync(aside, program);
  return program;
}
