// A Linux guest as an ordinary process: boots Debian's user-mode Linux (linux.uml) with the host's file system as its
// read-only root, gives it network cards on TAPs of a namespace, and runs commands in it. The agent inside is
// vm/guest-init.sh, which also says how commands and output travel.
//
// What this kernel (6.1.176) is as an SCTP peer, as seen in /proc/sys/net/sctp after modprobe sctp:
//   RFC 6951 (UDP encapsulation): yes. net.sctp.udp_port (local port, 0 = off; set it and the kernel listens) and
//     net.sctp.encap_port (default remote port, 0 = off) both exist; per association SCTP_REMOTE_UDP_ENCAPS_PORT.
//     But this kernel loses what it segments itself (GSO) when SCTP is encapsulated: some bursts of a sender vanish
//     before the driver (tx_dropped of vec0 counts them), and T3-rtx at one second each follows. Guest.encapsulate()
//     therefore keeps GSO away; plain SCTP loses nothing.
//   on by default: ecn_enable=1, prsctp_enable=1 (RFC 3758), pf_enable=1 with pf_retrans=0 (RFC 7829)
//   off by default: addip_enable, auth_enable (RFC 5061, 4895), reconf_enable (RFC 6525), intl_enable (RFC 8260, I-DATA),
//     plpmtud_probe_interval=0 (RFC 8899); setting them to 1 works (the last wants 5000 ms or more).
//   times: rto_initial=3000 rto_min=1000 rto_max=60000 sack_timeout=200 hb_interval=30000 valid_cookie_life=60000 (ms)
//   limits: path_max_retrans=5 association_max_retrans=10 max_init_retransmits=8 max_burst=4; cookie HMAC md5
//   buffers: sctp_rmem 4096 865500 865500, sctp_wmem 4096 16384 231744 (bytes, at 256 MiB of memory)
// The guest has one processor, and a system call in it costs some 70 us: it is bound by system calls, not by packets.
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { onExit, pidAlive } from './cleanup.js';
import { packageRoot } from './compile.js';
import type { Netns, RunResult } from './netns.js';
import { skipWithout } from './peers.js';
import { ManagedProcess, processesOfSession } from './process.js';

/** A network card of the guest: vec0, vec1, … in this order. */
export interface GuestNic {
  /** The TAP in the namespace, made by Netns.addTap(). */
  tap: string;
  /** Addresses with prefix length: '10.0.0.2/24', 'fd00::2/64'. */
  addresses: readonly string[];
  mac?: string;
  mtu?: number;
}

export interface GuestOptions {
  /** Where the TAPs are; without it the guest has no network card. */
  netns?: Netns;
  nics?: readonly GuestNic[];
  /** Memory as the kernel reads it, default '256M'. */
  memory?: string;
  /** Kernel modules loaded at boot, default ipv6 and sctp. */
  modules?: readonly string[];
  /** Commands run in turn when the network is up; each must succeed. */
  commands?: readonly (readonly string[])[];
  /** Milliseconds until the guest must be ready, default 30,000. */
  bootTimeoutMs?: number;
  /** Milliseconds after which the guest is killed whatever it does, default ten minutes. */
  lifetimeMs?: number;
}

const kernel = '/usr/bin/linux.uml';
const initScript = join(packageRoot, 'vm', 'guest-init.sh');
const folderPattern = /^nke-uml-(\d+)-/;
/** The folders a guest uses: one for the kernel to boot from, one in memory for sync output (an fsync per write). */
const shareBase = () => (existsSync('/dev/shm') ? '/dev/shm' : tmpdir());

/** For node:test's `skip`: false when guests can be booted here, else why not. */
export function skipWithoutGuest(): string | false {
  return skipWithout('user-mode-linux', 'kmod', 'iproute2');
}

/** Removes folders of guests whose process is gone without having cleaned up. Returns their paths. */
export function sweepGuests(): string[] {
  const swept: string[] = [];
  for (const base of new Set([tmpdir(), shareBase()])) {
    for (const name of readdirSync(base)) {
      const pid = folderPattern.exec(name)?.[1];
      if (pid === undefined || pidAlive(Number(pid))) continue;
      rmSync(join(base, name), { recursive: true, force: true });
      swept.push(join(base, name));
    }
  }
  return swept;
}

/** A time limit that was overrun. */
class Late extends Error {}

/** What `promise` gives, or a rejection with Late after timeoutMs. */
async function within<T>(promise: Promise<T>, timeoutMs: number, why: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Late(why)), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A command that runs in the guest. */
export class GuestJob {
  readonly argv: readonly string[];
  /** Its exit status, 128 + n for signal n. Rejects when the guest ends first. */
  readonly done: Promise<number>;
  readonly #folder: string;
  readonly #signal: (signal: string) => void;
  #status: number | undefined;

  /** Made by Guest.start(). `folder` holds its output on the host. */
  constructor(argv: readonly string[], folder: string, done: Promise<number>, signal: (signal: string) => void) {
    this.argv = argv;
    this.#folder = folder;
    this.#signal = signal;
    this.done = done.then(status => (this.#status = status));
    this.done.catch(() => {}); // whoever waits for it hears of it
  }

  /** The exit status, undefined while it runs. */
  get status(): number | undefined {
    return this.#status;
  }

  get stdout(): string {
    return this.#read('out');
  }

  get stderr(): string {
    return this.#read('err');
  }

  /**
   * Sends a signal to the command and all it started, e.g. 'TERM', 'INT', 'KILL'; resolves with its exit status. A command
   * that still runs after graceMs gets KILL; rejects if even that does not end it.
   */
  async kill(signal = 'TERM', graceMs = 3000): Promise<number> {
    if (!/^[A-Z0-9]+$/.test(signal)) throw new Error(`${signal} is no signal's name`);
    if (this.#status === undefined) this.#signal(signal);
    try {
      return await within(this.done, graceMs, `guest: ${this.argv.join(' ')}: did not end at ${signal}`);
    } catch (error) {
      if (!(error instanceof Late)) throw error;
      this.#signal('KILL');
      return within(this.done, 5000, `guest: ${this.argv.join(' ')}: did not end at KILL`);
    }
  }

  /** Waits until the output (both streams) matches; rejects when the command ends first or after timeoutMs. */
  async output(pattern: RegExp, timeoutMs = 10_000): Promise<RegExpExecArray> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      const ended = this.#status !== undefined;
      const text = this.stdout + this.stderr;
      const found = pattern.exec(text);
      if (found) return found;
      const why = ended ? `ended with status ${this.#status}` : performance.now() > end ? `${timeoutMs} ms passed` : '';
      if (why) throw new Error(`guest: ${this.argv.join(' ')}: ${why} before ${pattern} came\n${text.slice(-2000)}`);
      await Promise.race([new Promise(resolve => setTimeout(resolve, 20)), this.done]);
    }
  }

  #read(name: string): string {
    const path = join(this.#folder, name);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }
}

/** A booted guest. Dispose of it with `await using`, or shutdown(); it ends with this process and with its namespace. */
export class Guest implements AsyncDisposable {
  /** The kernel's release, e.g. '6.1.176'. */
  readonly release: string;
  readonly #process: ManagedProcess;
  readonly #folders: Folders;
  readonly #nics: readonly GuestNic[];
  readonly #jobs = new Map<string, { resolve: (status: number) => void; reject: (error: Error) => void }>();
  #lastJob = 0;

  /** Made by bootGuest(). `control` yields the lines that come from the agent after "ready". */
  constructor(
    child: ManagedProcess,
    folders: Folders,
    release: string,
    nics: readonly GuestNic[],
    control: ControlLine,
  ) {
    this.release = release;
    this.#nics = nics;
    this.#process = child;
    this.#folders = folders;
    control.onLine = line => {
      const [verb, id, status] = line.split(' ');
      const job = verb === 'done' && id !== undefined ? this.#jobs.get(id) : undefined;
      if (!job) return;
      this.#jobs.delete(id!);
      job.resolve(Number(status));
    };
    void child.ended.then(({ status, signal }) => {
      const error = new Error(`the guest ended (${signal ?? status})\n${child.tail()}`);
      for (const job of this.#jobs.values()) job.reject(error);
      this.#jobs.clear();
      folders.remove();
    });
  }

  /** What kernel and agent wrote to the console. */
  get console(): string {
    return this.#process.stdout + this.#process.stderr;
  }

  /** The process id of the guest's kernel on the host, also its session. */
  get pid(): number {
    return this.#process.pid!;
  }

  /** Starts a command: argv[0] is looked up in the guest's PATH, no shell reads it. `input` is its standard input. */
  start(argv: readonly string[], options: { input?: string } = {}): GuestJob {
    if (argv.length === 0 || argv.some(word => word.includes('\0'))) throw new Error('argv needs words without NUL');
    if (this.#process.result) throw new Error(`the guest has ended\n${this.#process.tail()}`);
    const id = String(++this.#lastJob);
    const folder = join(this.#folders.share, id);
    mkdirSync(folder);
    writeFileSync(join(folder, 'argv'), argv.map(word => `${word}\0`).join(''));
    if (options.input !== undefined) writeFileSync(join(folder, 'in'), options.input);
    const done = new Promise<number>((resolve, reject) => this.#jobs.set(id, { resolve, reject }));
    this.#send(`run ${id}`);
    return new GuestJob(argv, folder, done, signal => this.#send(`kill ${id} ${signal}`));
  }

  /** Runs a command to its end. Rejects, having killed it, after timeoutMs. */
  async run(argv: readonly string[], options: { timeoutMs?: number; input?: string } = {}): Promise<RunResult> {
    const timeoutMs = options.timeoutMs ?? 10_000;
    const job = this.start(argv, options);
    try {
      const status = await within(job.done, timeoutMs, `guest: ${argv.join(' ')}: ${timeoutMs} ms passed`);
      return { status, stdout: job.stdout, stderr: job.stderr };
    } catch (error) {
      if (!(error instanceof Late)) throw error;
      await job.kill('KILL').catch(() => {});
      throw new Error(`${error.message}\n${(job.stdout + job.stderr).slice(-2000)}`);
    }
  }

  /** Like run(), but a status other than 0 is an error that carries the output. Resolves with standard output. */
  async check(argv: readonly string[], options: { timeoutMs?: number; input?: string } = {}): Promise<string> {
    const { status, stdout, stderr } = await this.run(argv, options);
    if (status !== 0) throw new Error(`guest: ${argv.join(' ')}: status ${status}\n${stdout}${stderr}`);
    return stdout;
  }

  /** Copies a program of the host into the guest; returns its path there. (The guest sees no host file below /tmp.) */
  put(path: string): string {
    const folder = join(this.#folders.share, 'bin');
    mkdirSync(folder, { recursive: true });
    const name = basename(path);
    if (!existsSync(join(folder, name))) {
      copyFileSync(path, join(folder, name));
      chmodSync(join(folder, name), 0o755);
    }
    return `/run/nke/bin/${name}`;
  }

  /** Reads a sysctl, e.g. 'net.sctp.encap_port', having written `value` to it if one is given. */
  async sysctl(name: string, value?: string | number): Promise<string> {
    const path = `/proc/sys/${name.replaceAll('.', '/')}`;
    const script = 'if [ "$2" ]; then echo "$2" >"$1" || exit; fi; cat "$1"';
    return (await this.check(['sh', '-c', script, 'sh', path, String(value ?? '')])).trim();
  }

  /**
   * Turns on UDP encapsulation (RFC 6951) for all SCTP of the guest: the UDP port it listens on, and the one it sends to
   * until a packet of the peer says otherwise. See the head of this file for why GSO is cut to one packet.
   */
  async encapsulate(localUdp: number, remoteUdp: number): Promise<void> {
    await this.sysctl('net.sctp.udp_port', localUdp);
    await this.sysctl('net.sctp.encap_port', remoteUdp);
    for (const [i, nic] of this.#nics.entries()) {
      await this.check(['ip', 'link', 'set', 'dev', `vec${i}`, 'gso_max_size', String(nic.mtu ?? 1500)]);
    }
  }

  /** Powers the guest off, kills it if that takes longer than timeoutMs; resolves when nothing of it is left. */
  async shutdown(timeoutMs = 5000): Promise<void> {
    if (!this.#process.result) {
      this.#send('halt');
      const timer = setTimeout(() => this.#process.kill(), timeoutMs);
      await this.#process.ended;
      clearTimeout(timer);
    }
    await gone(this.#process);
    this.#folders.remove();
  }

  /** Pulls the plug: kills the guest at once. */
  kill(): void {
    this.#process.kill();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  #send(line: string): void {
    this.#process.channel.write(`${line}\n`);
  }
}

/** The folders of one guest on the host, removed once. */
interface Folders {
  boot: string;
  share: string;
  remove(): void;
}

function makeFolders(): Folders {
  const boot = mkdtempSync(join(tmpdir(), `nke-uml-${process.pid}-`));
  const share = mkdtempSync(join(shareBase(), `nke-uml-${process.pid}-`));
  const erase = () => {
    for (const folder of [boot, share]) rmSync(folder, { recursive: true, force: true });
  };
  const forget = onExit(erase);
  // The kernel's command line has no quoting to rely on.
  if (!/^[\w./-]+$/.test(boot + share)) {
    erase();
    throw new Error(`the temporary folder ${tmpdir()} has characters a kernel command line cannot carry; set TMPDIR`);
  }
  for (const folder of [boot, share]) {
    copyFileSync(initScript, join(folder, 'guest-init.sh'));
    chmodSync(join(folder, 'guest-init.sh'), 0o755);
  }
  const remove = () => {
    forget();
    erase();
  };
  return { boot, share, remove };
}

/** Splits what comes from the agent into lines. */
class ControlLine {
  onLine: (line: string) => void = () => {};
  #rest = '';

  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.onLine(line.trim());
  }
}

/** Waits, at most two seconds, until no process of the guest is left (the kernel reaps a killed group in its own time). */
async function gone(child: ManagedProcess): Promise<void> {
  await child.ended;
  for (let i = 0; i < 100 && processesOfSession(child.pid!).length > 0; i++) {
    for (const pid of processesOfSession(child.pid!)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // already gone
      }
    }
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

function commandLine(options: GuestOptions, folders: Folders): string[] {
  const nics = options.nics ?? [];
  for (const nic of nics) {
    if (!/^[\w.-]{1,15}$/.test(nic.tap)) throw new Error(`${nic.tap} is no interface name`);
    if (nic.mac !== undefined && !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(nic.mac))
      throw new Error(`${nic.mac} is no MAC`);
  }
  const modules = options.modules ?? ['ipv6', 'sctp'];
  if (modules.some(module => !/^\w+$/.test(module))) throw new Error(`odd module name in ${modules.join(' ')}`);
  return [
    kernel,
    'rootfstype=hostfs',
    'root=/dev/root',
    'ro',
    `init=${join(folders.boot, 'guest-init.sh')}`,
    `mem=${options.memory ?? '256M'}`,
    'con=null',
    'con0=null,fd:1',
    'ssl=null',
    'ssl0=fd:3',
    'quiet',
    'noreboot', // a panic ends the process
    'panic=-1',
    `uml_dir=${folders.boot}`,
    'umid=guest',
    `NKE_SHARE=${folders.share}`,
    `NKE_MODULES=${modules.join(',')}`,
    // gro=1 does SCTP no harm (checksums are right, none is merged); TCP gains by it.
    ...nics.map(
      (nic, i) => `vec${i}:transport=tap,ifname=${nic.tap},depth=128,gro=1${nic.mac ? `,mac=${nic.mac}` : ''}`,
    ),
  ];
}

/** Boots a guest and brings its cards up. Rejects with the end of its console when it does not come up in time. */
export async function bootGuest(options: GuestOptions = {}): Promise<Guest> {
  const nics = options.nics ?? [];
  if (nics.length > 0 && !options.netns)
    throw new Error('a guest with network cards needs the namespace of their TAPs');
  const folders = makeFolders();
  try {
    const argv = commandLine(options, folders);
    const start = { timeoutMs: options.lifetimeMs ?? 600_000, channel: true, env: { TMPDIR: shareBase() } };
    const child = options.netns ? options.netns.start(argv, start) : new ManagedProcess(argv, start);
    try {
      return await bring(child, folders, options);
    } catch (error) {
      child.kill();
      await gone(child);
      throw error;
    }
  } catch (error) {
    folders.remove();
    throw error;
  }
}

/** Waits for the agent, then sets the network up and runs the commands wanted. */
async function bring(child: ManagedProcess, folders: Folders, options: GuestOptions): Promise<Guest> {
  const control = new ControlLine();
  const timeoutMs = options.bootTimeoutMs ?? 30_000;
  const release = await new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no guest after ${timeoutMs} ms\n${child.tail()}`)), timeoutMs);
    void child.ended.then(({ status, signal }) => {
      clearTimeout(timer);
      reject(new Error(`the guest ended (${signal ?? status}) while it booted\n${child.tail()}`));
    });
    control.onLine = line => {
      if (!line.startsWith('ready ')) return;
      clearTimeout(timer);
      resolve(line.slice(6));
    };
    if (child.pid === undefined) return;
    child.channel.setEncoding('utf8').on('data', (text: string) => control.push(text));
    child.channel.on('error', () => {}); // a guest that dies is told by its process
  });
  const guest = new Guest(child, folders, release, options.nics ?? [], control);
  const lines = (options.nics ?? []).flatMap((nic, i) => [
    `link set dev vec${i} ${nic.mtu ? `mtu ${nic.mtu} ` : ''}up`,
    ...nic.addresses.map(address => `address add ${address} dev vec${i}${address.includes(':') ? ' nodad' : ''}`),
  ]);
  if (lines.length > 0) await guest.check(['ip', '-batch', '-'], { input: lines.map(line => `${line}\n`).join('') });
  for (const command of options.commands ?? []) await guest.check(command, { timeoutMs: 30_000 });
  return guest;
}
