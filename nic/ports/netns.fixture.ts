/** A network namespace for a system test file, gone when the process ends. Test support only. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { native } from '../native.js';

/** Runs a program; throws with what it said when it fails. */
export function run(program: string, ...args: string[]): string {
  const r = spawnSync(program, args, { encoding: 'utf8' });
  if (r.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${r.stderr || r.error?.message}`);
  return r.stdout;
}

/** Why namespaces cannot be had here, or false. */
export function noNamespace(): string | false {
  if (native === undefined) return 'the C module is not built';
  if (process.getuid?.() !== 0) return 'needs root, for a network namespace and TUN/TAP';
  const r = spawnSync('ip', ['-V']);
  return r.status === 0 ? false : 'needs the program ip (package iproute2)';
}

/** Makes a namespace; it is removed when the process ends, however it ends by itself. Returns its path. */
export function makeNamespace(suffix = ''): string {
  const name = `nke-test-${process.pid}${suffix}`;
  run('ip', 'netns', 'add', name);
  process.on('exit', () => spawnSync('ip', ['netns', 'del', name]));
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => process.exit(1));
  return `/run/netns/${name}`;
}

/** Makes a namespace and moves this process into it, loopback up and IPv6's own chatter off. */
export function liveInNamespace(): string {
  const path = makeNamespace();
  const r = native!.enterNamespace(path);
  if (r !== 0) throw new Error(`cannot enter ${path}: errno ${-r}`);
  run('ip', 'link', 'set', 'lo', 'up');
  for (const scope of ['all', 'default']) writeFileSync(`/proc/sys/net/ipv6/conf/${scope}/disable_ipv6`, '1');
  return path;
}
