// Builds the project: TypeScript to dist/, then the C module nic/native to nic/native/build/Release/nke_native.node.
// A machine without a C compiler still gets a working appliance (in-memory wire, Node's own UDP): the
// failure is said loudly and the build goes on. `--types` checks types alone.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const require = createRequire(import.meta.url);

// `npx nke` in a checkout links the package into npx's own cache and runs `prepare` again: what is built is good enough.
if (process.env.npm_command === 'exec' && existsSync(join(root, 'dist', 'nke.js'))) process.exit(0);

/** Runs a Node script with arguments, inheriting the terminal. Returns its exit status. */
function node(script, args, cwd = root) {
  return spawnSync(process.execPath, [script, ...args], { cwd, stdio: 'inherit' }).status ?? 1;
}

const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin', 'tsc');
const typesOnly = process.argv.includes('--types');
const status = node(tsc, typesOnly ? ['-p', root, '--noEmit'] : ['-p', root]);
if (status !== 0) process.exit(status);
if (typesOnly) process.exit(0);

/** npm names its bundled node-gyp in the environment of every script it runs; else look beside npm itself. */
function nodeGyp() {
  const named = process.env.npm_config_node_gyp;
  if (named && existsSync(named)) return named;
  for (const base of [
    '/usr/lib/node_modules',
    '/usr/local/lib/node_modules',
    join(dirname(process.execPath), '..', 'lib', 'node_modules'),
  ]) {
    const path = join(base, 'npm', 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
    if (existsSync(path)) return path;
  }
  return undefined;
}

const gyp = nodeGyp();
const headers = process.env.npm_config_nodedir ?? (existsSync('/usr/include/node/node_api.h') ? '/usr' : undefined);
const native = join(root, 'nic', 'native');
const verb = existsSync(join(native, 'build', 'Makefile')) ? 'build' : 'rebuild';
const built = gyp ? node(gyp, [verb, '--silent', ...(headers ? [`--nodedir=${headers}`] : [])], native) : 1;
if (built !== 0) {
  console.warn(
    'nke: the C module nic/native was not built (a C compiler and node-gyp are needed: apt-get install build-essential).\n' +
      'nke: the appliance runs without it on the in-memory wire and on plain UDP, slower; TAP, TUN and segmentation offload are off.',
  );
}
