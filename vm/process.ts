// A child process with a bounded life: its own process group, a deadline after which it is killed, bounded output, and
// nothing left of it when we end. Peers (usrsctp, tshark, iperf3 on the host side) and guests are started through it.
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { onExit, processStat } from './cleanup.js';

/** How a process is started. */
export interface StartOptions {
  /** Milliseconds after which the process group is killed. */
  timeoutMs?: number;
  /** Text for standard input; without it standard input is empty. */
  input?: string;
  /** Milliseconds for which standard input stays open after that text, 0 = not at all. */
  hold?: number;
  /** Bytes of output kept per stream (the last ones). */
  keep?: number;
  /** Also opens a two-way channel as file descriptor 3 of the child. */
  channel?: boolean;
  /** Environment variables besides our own. */
  env?: Record<string, string>;
}

/** How a process ended. */
export interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  timedOut: boolean;
}

const defaultKeep = 1 << 20;

/** The ids of all running processes whose session is `session`. Reads /proc; empty where there is none. */
export function processesOfSession(session: number): number[] {
  let entries: string[];
  try {
    entries = readdirSync('/proc').filter(name => /^\d+$/.test(name));
  } catch {
    return [];
  }
  return entries.map(Number).filter(pid => {
    const stat = processStat(pid);
    return stat?.session === session && stat.state !== 'Z';
  });
}

/** A child process that is ours to end. */
export class ManagedProcess implements AsyncDisposable {
  /** The program and its arguments, for messages. */
  readonly argv: readonly string[];
  /** Resolves (never rejects) when the process has ended and its output is read. */
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;
  readonly #keep: number;
  readonly #watchers = new Set<() => void>();
  readonly #forget: () => void;
  readonly #deadline: NodeJS.Timeout;
  #stdout = '';
  #stderr = '';
  #timedOut = false;
  #result: Ended | undefined;

  /** Starts argv[0] with the arguments after it; no shell is involved. */
  constructor(argv: readonly string[], options: StartOptions = {}) {
    this.argv = argv;
    this.#keep = options.keep ?? defaultKeep;
    const stdio: StdioOptions = [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'];
    if (options.channel) stdio.push('pipe');
    // A session of its own: the group can be killed as a whole and what is left of it can be found.
    const child = spawn(argv[0]!, argv.slice(1), { stdio, detached: true, env: { ...process.env, ...options.env } });
    this.#child = child;
    this.#forget = onExit(() => this.kill());
    this.#deadline = setTimeout(() => {
      this.#timedOut = true;
      this.kill();
    }, options.timeoutMs ?? 60_000);
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout = this.#bounded(this.#stdout + text);
      this.#notify();
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = this.#bounded(this.#stderr + text);
      this.#notify();
    });
    this.ended = new Promise(resolve => {
      const end = (status: number | null, signal: NodeJS.Signals | null) => {
        if (this.#result) return;
        this.#result = { status, signal, timedOut: this.#timedOut };
        clearTimeout(this.#deadline);
        this.#forget();
        resolve(this.#result);
        this.#notify();
      };
      // What the program itself started and left behind ends with it; only then do the pipes close.
      child.on('exit', () => this.kill());
      child.on('close', end);
      child.on('error', error => {
        this.#stderr = this.#bounded(this.#stderr + `${argv[0]}: ${error.message}\n`);
        end(null, null);
      });
    });
    child.stdin?.on('error', () => {}); // a child that ends before it has read all is told by its status
    child.stdin?.write(options.input);
    const close = setTimeout(() => child.stdin?.end(), options.hold ?? 0);
    child.once('exit', () => clearTimeout(close));
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Standard output so far (the last `keep` characters). */
  get stdout(): string {
    return this.#stdout;
  }

  /** Standard error so far (the last `keep` characters). */
  get stderr(): string {
    return this.#stderr;
  }

  /** How it ended, undefined while it runs. */
  get result(): Ended | undefined {
    return this.#result;
  }

  /** The two-way channel of `channel: true`. */
  get channel(): Duplex {
    const stream = this.#child.stdio[3];
    if (!stream) throw new Error(`${this.argv[0]}: started without channel: true`);
    return stream as Duplex;
  }

  /** Sends a signal to the whole process group; a process that is gone is fine. */
  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    const pid = this.#child.pid;
    if (pid === undefined || this.#result) return; // never a pid that may be someone else's by now
    try {
      process.kill(-pid, signal);
    } catch {
      // ESRCH: nothing of the group is left
    }
  }

  /** Resolves with what `probe` returns once that is not undefined; rejects at the process's end or after timeoutMs. */
  async until<T>(what: string, probe: () => T | undefined, timeoutMs = 10_000): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer);
        this.#watchers.delete(check);
        act();
      };
      const give = (why: string) => settle(() => reject(new Error(`${this.argv[0]}: ${why} ${what}\n${this.tail()}`)));
      const check = () => {
        const value = probe();
        if (value !== undefined) settle(() => resolve(value));
        else if (this.#result) give(`ended (${this.#result.signal ?? this.#result.status}) before`);
      };
      const timer = setTimeout(() => give(`${timeoutMs} ms passed before`), timeoutMs);
      this.#watchers.add(check);
      check();
    });
  }

  /** The last lines of both outputs, for error messages. */
  tail(lines = 15): string {
    return (this.#stdout + this.#stderr).split('\n').slice(-lines).join('\n');
  }

  /** Kills the group and waits until the child is reaped. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    await this.ended;
  }

  #bounded(text: string): string {
    return text.length > 2 * this.#keep ? text.slice(-this.#keep) : text;
  }

  #notify(): void {
    for (const check of [...this.#watchers]) check();
  }
}
