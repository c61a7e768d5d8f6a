/**
 * The npm packages that are peers of the benchmarks, in a folder of their own: package.json beside this file's source names
 * their exact versions; npm installs them on first use (no scripts are run) into build/npm-peers, or into the user's cache
 * when the package is installed where we may not write.
 */

import { spawnSync } from 'node:child_process';
import { accessSync, constants, copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../vm/compile.js';

const manifest = join(packageRoot, 'bench', 'npm-peers', 'package.json');

function folder(): string {
  const build = join(packageRoot, 'build', 'npm-peers');
  try {
    mkdirSync(build, { recursive: true });
    accessSync(build, constants.W_OK);
    return build;
  } catch {
    const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'nke', 'npm-peers');
    mkdirSync(cache, { recursive: true });
    return cache;
  }
}

/** The wanted versions by package. */
const wanted = (): Record<string, string> =>
  (JSON.parse(readFileSync(manifest, 'utf8')) as { dependencies: Record<string, string> }).dependencies;

/** The version of a package installed in `where`, undefined when it is not. */
function installed(where: string, name: string): string | undefined {
  const path = join(where, 'node_modules', name, 'package.json');
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version : undefined;
}

/** What is installed now, as "npm NAME" to version. */
export function npmPeerVersions(): Record<string, string> {
  const where = folder();
  const found = Object.keys(wanted()).map(name => [`npm ${name}`, installed(where, name)] as const);
  return Object.fromEntries(found.filter(([, version]) => version !== undefined)) as Record<string, string>;
}

let failure: string | undefined;

/** The folder whose node_modules holds the peer, installed if need be. Throws why it cannot be. */
export function installNpmPeer(name: string): string {
  const where = folder();
  const version = wanted()[name];
  if (version === undefined) throw new Error(`${name} is not in ${manifest}`);
  if (installed(where, name) === version) return where;
  // One try a process: without a registry, each would take its time to fail.
  if (failure !== undefined) throw new Error(failure);
  copyFileSync(manifest, join(where, 'package.json'));
  const argv = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const done = spawnSync('npm', argv, { cwd: where, encoding: 'utf8', timeout: 120_000, killSignal: 'SIGKILL' });
  if (done.status !== 0) {
    const why = done.error?.message ?? done.stderr.trim().split('\n')[0] ?? '';
    throw new Error((failure = `the npm package ${name} ${version} cannot be installed: ${why}`));
  }
  return where;
}
