/** The machine and the versions that a run was measured with: what a reader needs to judge its numbers. */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { native, nativeError } from '../nic/native.js';
import { packageRoot } from '../vm/compile.js';
import { npmPeerVersions } from './npm-peers/install.js';

export interface Machine {
  readonly processor: string;
  /** Processors that this process may use. */
  readonly processors: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  /** Of the last minute, when the run began: what else the machine was doing. */
  readonly load: number;
  readonly virtualized: string;
  /** Program or library to version; a peer that is not installed is not here. */
  readonly versions: Readonly<Record<string, string>>;
  /** Whether the C module was there, else why not. */
  readonly nativeModule: string;
}

/** Debian packages whose versions matter to the numbers. */
const PACKAGES = ['libusrsctp-dev', 'user-mode-linux', 'gcc', 'libc6'];

function packageVersions(): Record<string, string> {
  const done = spawnSync('dpkg-query', ['-W', ...PACKAGES], { encoding: 'utf8', timeout: 10_000 });
  // "libc6:amd64<TAB>2.36-9"; a package that is not installed is a complaint on standard error, or has no version.
  const rows = (done.stdout ?? '').split('\n').map(line => /^([^:\t]+)(?::\w+)?\t(\S+)$/.exec(line));
  return Object.fromEntries(rows.filter(r => r !== null).map(r => [r[1]!, r[2]!]));
}

/** What the processor says of being a guest: "hypervisor" stands among its flags. */
function virtualized(): string {
  try {
    return /^flags\s*:.*\bhypervisor\b/m.test(readFileSync('/proc/cpuinfo', 'utf8')) ? 'a virtual machine' : 'no';
  } catch {
    return 'unknown';
  }
}

export function examineMachine(): Machine {
  const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string };
  return {
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    processors: availableParallelism(),
    memoryBytes: totalmem(),
    kernel: `${type()} ${release()}`,
    load: loadavg()[0]!,
    virtualized: virtualized(),
    versions: {
      nke: version,
      node: process.versions.node,
      v8: process.versions.v8,
      ...packageVersions(),
      ...npmPeerVersions(),
    },
    nativeModule: native === undefined ? `missing: ${nativeError}` : 'built',
  };
}
