// The Debian packages that tests and benchmarks talk to, as a table, and a program that installs what is missing:
//   node dist/vm/peers.js     exit status 0 when all are there, 1 when some are not (it says which, and what mends it)
// Nothing of it is needed to run the appliance.
import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** One package, what we use it for, and the files of which one shows that it is there. */
export interface Peer {
  /** Debian package, also its name in peerAvailable(). */
  package: string;
  purpose: string;
  files: readonly string[];
}

export const peers: readonly Peer[] = [
  {
    package: 'libusrsctp-examples',
    purpose: "FreeBSD's SCTP stack in user space: tsctp, client, echo_server, discard_server",
    files: ['/usr/lib/usrsctp/tsctp'],
  },
  {
    package: 'libusrsctp-dev',
    purpose: 'the same as a library, for bench/usrsctp/usrsctp-peer.c',
    files: ['/usr/include/usrsctp.h'],
  },
  {
    package: 'gcc',
    purpose: 'builds the peer programs bench/usrsctp/usrsctp-peer.c and vm/kernel-peer.c',
    files: ['/usr/bin/gcc'],
  },
  { package: 'libc6-dev', purpose: 'C headers for gcc', files: ['/usr/include/stdio.h'] },
  {
    package: 'user-mode-linux',
    purpose: "a Linux kernel as an ordinary process: the kernel's own SCTP as a peer",
    files: ['/usr/bin/linux.uml'],
  },
  { package: 'kmod', purpose: 'modprobe inside that guest', files: ['/usr/sbin/modprobe', '/sbin/modprobe'] },
  {
    package: 'iproute2',
    purpose: 'network namespaces, TAPs and bridges',
    files: ['/usr/sbin/ip', '/sbin/ip', '/usr/bin/ip', '/bin/ip'],
  },
  { package: 'lksctp-tools', purpose: 'sctp_test, sctp_darn in the guest', files: ['/usr/bin/sctp_test'] },
  { package: 'iperf3', purpose: 'iperf3 --sctp in the guest', files: ['/usr/bin/iperf3'] },
  {
    package: 'tshark',
    purpose: 'checks our pcapng and that no packet of ours is malformed',
    files: ['/usr/bin/tshark'],
  },
  {
    package: 'tcpdump',
    purpose: 'compiles the filter expressions of PacketLog.kext',
    files: ['/usr/bin/tcpdump', '/usr/sbin/tcpdump'],
  },
  { package: 'chromium', purpose: "opens the benchmark's HTML report, headless", files: ['/usr/bin/chromium'] },
];

/** Whether a peer is there; if not, the reason is a sentence for a skipped test. */
export type Availability = { available: true } | { available: false; reason: string };

/** What stands in for the machine in tests of this file. */
export interface Machine {
  exists(path: string): boolean;
  /** The effective user id. */
  uid: number;
  /** Runs a program within a time limit; its output is shown only when it failed. */
  run(argv: readonly string[], timeoutMs: number): { ok: boolean; output: string };
  say(line: string): void;
}

const thisMachine: Machine = {
  exists: existsSync,
  uid: process.geteuid?.() ?? -1,
  run(argv, timeoutMs) {
    const done = spawnSync(argv[0]!, argv.slice(1), {
      encoding: 'utf8',
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 16 << 20,
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
    const why = done.error ? `${done.error.message}\n` : '';
    return { ok: done.status === 0, output: why + (done.stdout ?? '') + (done.stderr ?? '') };
  },
  say(line) {
    process.stdout.write(`${line}\n`);
  },
};

const installArgv = (packages: readonly string[]) => [
  'apt-get',
  'install',
  '-y',
  '--no-install-recommends',
  ...packages,
];

/** The rows of the table whose files are not there. */
export function missing(table: readonly Peer[] = peers, machine: Pick<Machine, 'exists'> = thisMachine): Peer[] {
  return table.filter(peer => !peer.files.some(file => machine.exists(file)));
}

/** Whether the package `name` of the table is there. A name outside the table is a programmer error. */
export function peerAvailable(
  name: string,
  table: readonly Peer[] = peers,
  machine: Pick<Machine, 'exists'> = thisMachine,
): Availability {
  const peer = table.find(row => row.package === name);
  if (!peer) throw new Error(`no peer is called ${name}; the table in vm/peers.ts has the names`);
  if (missing([peer], machine).length === 0) return { available: true };
  const command = installArgv([peer.package]).join(' ');
  return { available: false, reason: `${peer.package} is not installed (${peer.purpose}); as root: ${command}` };
}

/** For node:test's `skip`: false when all the named packages are there, else the reason of the first that is not. */
export function skipWithout(...names: string[]): string | false {
  for (const name of names) {
    const state = peerAvailable(name);
    if (!state.available) return state.reason;
  }
  return false;
}

/** Installs what is missing when root, says what is missing otherwise. Returns the exit status of the program. */
export function installPeers(table: readonly Peer[] = peers, machine: Machine = thisMachine): number {
  const absent = missing(table, machine);
  if (absent.length === 0) {
    machine.say(`peers: all ${table.length} packages are there`);
    return 0;
  }
  const names = absent.map(peer => peer.package);
  if (machine.uid === 0) {
    machine.say(`peers: installing ${names.join(' ')}`);
    const update = machine.run(['apt-get', 'update', '-q'], 180_000);
    const install = machine.run(installArgv(names), 600_000);
    if (!install.ok) {
      // An update that failed matters only if the install failed too: an old package list often serves.
      const output = (update.ok ? '' : update.output) + install.output;
      machine.say(output.trimEnd().split('\n').slice(-8).join('\n'));
    }
  }
  const still = missing(table, machine);
  if (still.length === 0) return 0;
  for (const peer of still) machine.say(`peers: MISSING ${peer.package}: ${peer.purpose}`);
  const command = installArgv(still.map(peer => peer.package)).join(' ');
  machine.say(`peers: tests that need them will be skipped; this mends it, as root: apt-get update && ${command}`);
  return 1;
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url))
  process.exitCode = installPeers();
