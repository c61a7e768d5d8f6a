// Network namespaces for tests: a place of its own for TAPs, bridges and veth pairs, made and removed with ip(8). All
// traffic of a system test stays in one. The name is nke-PID-N, so that leftovers of a killed process can be told.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, readdirSync } from 'node:fs';
import { onExit, pidAlive } from './cleanup.js';
import { skipWithout } from './peers.js';
import { ManagedProcess, type StartOptions } from './process.js';

/** What a finished command left. */
export interface RunResult {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** How a link in a namespace is set up. */
export interface LinkOptions {
  /** Addresses with prefix length: '10.0.0.1/24', 'fd00::1/64'. */
  addresses?: readonly string[];
  mtu?: number;
  /** MAC address. */
  mac?: string;
}

const namePattern = /^nke-(\d+)-\d+$/;
let made = 0;

/** Runs a program to its end. Throws only when it could not be started or overran its time. */
function runSync(argv: readonly string[], timeoutMs: number, input = ''): RunResult {
  const done = spawnSync(argv[0]!, argv.slice(1), {
    encoding: 'utf8',
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: 64 << 20,
    input,
  });
  if (done.error) throw new Error(`${argv.join(' ')}: ${done.error.message}`);
  return { status: done.status, stdout: done.stdout, stderr: done.stderr };
}

/** Runs ip(8); a status other than 0 is an error that carries what ip said. */
function ip(args: readonly string[]): string {
  const done = runSync(['ip', ...args], 10_000);
  if (done.status !== 0) throw new Error(`ip ${args.join(' ')}: ${done.stderr.trim() || `status ${done.status}`}`);
  return done.stdout;
}

/** For node:test's `skip`: false when namespaces and TAPs can be made here, else why not and what to do. */
export function skipWithoutNetns(): string | false {
  const absent = skipWithout('iproute2');
  if (absent) return absent;
  if (process.geteuid?.() !== 0) return 'network namespaces need root; run the tests as root';
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
  } catch {
    return 'TAPs need /dev/net/tun; load the kernel module tun, or start the container with --device /dev/net/tun';
  }
  return false;
}

/** Removes namespaces of processes that are gone without having cleaned up. Returns their names. */
export function sweepNetns(): string[] {
  let names: string[];
  try {
    names = readdirSync('/run/netns');
  } catch {
    return [];
  }
  return names.filter(name => {
    const pid = namePattern.exec(name)?.[1];
    return pid !== undefined && !pidAlive(Number(pid)) && runSync(['ip', 'netns', 'del', name], 10_000).status === 0;
  });
}

/** A network namespace with lo up. Disposing of it ends what was started in it and removes it with all its links. */
export class Netns implements Disposable {
  readonly name: string;
  readonly #forget: () => void;
  readonly #processes = new Set<ManagedProcess>();
  #gone = false;

  /** Makes the namespace; throws what ip(8) says when that fails (no root, no iproute2). */
  constructor() {
    this.name = `nke-${process.pid}-${++made}`;
    ip(['netns', 'add', this.name]);
    this.#forget = onExit(() => this[Symbol.dispose]());
    this.ip('link', 'set', 'lo', 'up');
  }

  /** ip -n NAME args…; returns its output, throws what it says on failure. */
  ip(...args: string[]): string {
    return ip(['-n', this.name, ...args]);
  }

  /** A persistent TAP, up; a program in this namespace attaches to it by name (TUNSETIFF). */
  addTap(name: string, options: LinkOptions = {}): void {
    this.ip('tuntap', 'add', name, 'mode', 'tap');
    this.#configure(name, options);
  }

  /** A persistent TUN, up. */
  addTun(name: string, options: LinkOptions = {}): void {
    this.ip('tuntap', 'add', name, 'mode', 'tun');
    this.#configure(name, options);
  }

  /** A bridge over `members`, up, forwarding at once and flooding multicast (no querier is there to be asked). */
  addBridge(name: string, members: readonly string[], options: LinkOptions = {}): void {
    this.ip('link', 'add', name, 'type', 'bridge', 'stp_state', '0', 'mcast_snooping', '0');
    for (const member of members) this.ip('link', 'set', member, 'master', name);
    this.#configure(name, options);
  }

  /** A veth pair, both ends up; the far end may live in another namespace. */
  addVeth(near: string, far: string, options: { near?: LinkOptions; far?: LinkOptions; other?: Netns } = {}): void {
    const other = options.other ?? this;
    this.ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', other.name);
    this.#configure(near, options.near ?? {});
    other.#configure(far, options.far ?? {});
  }

  /** Sets a link up or down: the software way to pull a cable. */
  setLink(name: string, up: boolean): void {
    this.ip('link', 'set', name, up ? 'up' : 'down');
  }

  /** Adds an address; IPv6 without duplicate address detection, so that it serves at once. */
  addAddress(link: string, address: string): void {
    this.ip('address', 'add', address, 'dev', link, ...(address.includes(':') ? ['nodad'] : []));
  }

  removeLink(name: string): void {
    this.ip('link', 'del', name);
  }

  /** The argument array that runs argv in this namespace (ip netns exec replaces itself, so the pid stays). */
  argv(argv: readonly string[]): string[] {
    return ['ip', 'netns', 'exec', this.name, ...argv];
  }

  /** Runs a program in the namespace to its end, blocking this process. */
  run(argv: readonly string[], options: { timeoutMs?: number; input?: string } = {}): RunResult {
    return runSync(this.argv(argv), options.timeoutMs ?? 10_000, options.input);
  }

  /** Starts a program in the namespace; it ends with the namespace at the latest. */
  start(argv: readonly string[], options: StartOptions = {}): ManagedProcess {
    const child = new ManagedProcess(this.argv(argv), options);
    this.#processes.add(child);
    void child.ended.then(() => this.#processes.delete(child));
    return child;
  }

  [Symbol.dispose](): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#forget();
    for (const child of this.#processes) child.kill();
    ip(['netns', 'del', this.name]);
  }

  #configure(link: string, options: LinkOptions): void {
    if (options.mac) this.ip('link', 'set', link, 'address', options.mac);
    if (options.mtu) this.ip('link', 'set', link, 'mtu', String(options.mtu));
    this.ip('link', 'set', link, 'up');
    for (const address of options.addresses ?? []) this.addAddress(link, address);
  }
}
