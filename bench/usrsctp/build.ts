// Builds usrsctp-peer from its C source with gcc, when the source is newer than what was built last.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { skipWithout } from '../../vm/peers.js';

// dist/bench/usrsctp/build.js -> the package's root: the C source is not compiled to dist/.
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const source = join(root, 'bench', 'usrsctp', 'usrsctp-peer.c');

/** For node:test's `skip`: false when usrsctp-peer can be built and run here, else why not. */
export function skipWithoutUsrsctp(): string | false {
  return skipWithout('libusrsctp-dev', 'gcc', 'libc6-dev');
}

/** build/ inside the package, or the user's cache when the package is installed where we may not write. */
function outputFolder(): string {
  const folder = join(root, 'build', 'usrsctp');
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
    return folder;
  } catch {
    const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'nke', 'usrsctp');
    mkdirSync(cache, { recursive: true });
    return cache;
  }
}

/** Modification time in milliseconds, 0 for a file that is not there. */
const modified = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** The path of an up-to-date usrsctp-peer, built if need be. Throws what gcc said when it does not build. */
export function buildUsrsctpPeer(): string {
  const absent = skipWithoutUsrsctp();
  if (absent) throw new Error(`usrsctp-peer cannot be built: ${absent}`);
  const program = join(outputFolder(), 'usrsctp-peer');
  if (modified(program) > modified(source)) return program;
  // Built aside and renamed, so that two processes that build at once do not meet a half-written program.
  const aside = `${program}.${process.pid}`;
  const gcc = ['-O2', '-Wall', '-Wextra', '-o', aside, source, '-lusrsctp', '-lpthread'];
  const done = spawnSync('gcc', gcc, { encoding: 'utf8', timeout: 60_000, killSignal: 'SIGKILL' });
  if (done.status !== 0) {
    rmSync(aside, { force: true });
    throw new Error(`usrsctp-peer does not build: ${done.error?.message ?? done.stderr}`);
  }
  renameSync(aside, program);
  return program;
}
