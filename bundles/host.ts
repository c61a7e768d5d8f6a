/**
 * What the machine lends to extensions through the kernel programming interface (HostServices): rings of files in one
 * folder, and libpcap's compiler of filter expressions. The stack itself does no I/O.
 */

import { spawnSync } from 'node:child_process';
import { closeSync, constants, fstatSync, mkdirSync, openSync, readdirSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { EINVAL, EIO, EMSGSIZE, ENOBUFS } from '../stack/kern/errno.js';
import type { BpfProgram, Sink, SinkOptions } from '../stack/kern/kpi.js';

/** Files open at once by all extensions of an appliance, and bounds of one. */
const MAX_SINKS = 256;
const MAX_FILE_BYTES = 2 ** 32;
const MAX_FILES = 1000;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$/;
const SUFFIX = /^[a-z0-9]{1,8}$/;

/** A ring of files NAME.0001.SUFFIX, NAME.0002.SUFFIX, ... of which the newest `files` are kept. */
class FileRing implements Sink {
  readonly #dir: string;
  readonly #name: string;
  readonly #options: SinkOptions;
  readonly #closed: () => void;
  #number: number;
  #fd = -1;
  #size = 0;

  constructor(dir: string, name: string, options: SinkOptions, closed: () => void) {
    this.#dir = dir;
    this.#name = name;
    this.#options = options;
    this.#closed = closed;
    this.#number = this.#there().at(-1) ?? 0;
    this.#next();
  }
  /** Numbers of the ring's files, least first. */
  #there(): number[] {
    const { suffix } = this.#options;
    const found: number[] = [];
    for (const f of readdirSync(this.#dir)) {
      if (!f.startsWith(`${this.#name}.`) || !f.endsWith(`.${suffix}`)) continue;
      const n = f.slice(this.#name.length + 1, -suffix.length - 1);
      if (/^\d{4,9}$/.test(n)) found.push(Number(n));
    }
    return found.sort((a, b) => a - b);
  }
  #path(n: number): string {
    return join(this.#dir, `${this.#name}.${String(n).padStart(4, '0')}.${this.#options.suffix}`);
  }
  #next(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
    this.#number++;
    // O_EXCL and O_NOFOLLOW: never into a file or through a link that somebody else has put there.
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    const fd = openSync(this.#path(this.#number), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o640);
    if (!fstatSync(fd).isFile()) {
      closeSync(fd);
      throw new Error('not a file');
    }
    this.#fd = fd;
    this.#size = 0;
    this.#put(this.#options.header);
    const old = this.#there();
    for (const n of old.slice(0, Math.max(0, old.length - this.#options.files))) unlinkSync(this.#path(n));
  }
  #put(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    this.#size += bytes.length;
  }
  write(bytes: Uint8Array): number {
    if (bytes.length + this.#options.header.length > this.#options.fileBytes) return -EMSGSIZE;
    try {
      // After an error the file may end within a record: the next one begins whole.
      if (this.#fd < 0 || this.#size + bytes.length > this.#options.fileBytes) this.#next();
      this.#put(bytes);
      return bytes.length;
    } catch (e) {
      if (this.#fd >= 0) closeSync(this.#fd);
      this.#fd = -1;
      return (e as NodeJS.ErrnoException).code === 'ENOSPC' ? -ENOBUFS : -EIO;
    }
  }
  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
    this.#closed();
  }
}

/** Makes sinks in a folder, which is made when the first is opened. */
export function fileSinks(dir: string): (name: string, options: SinkOptions) => Sink | number {
  let open = 0;
  return (name, options) => {
    const { suffix, fileBytes, files, header } = options;
    const whole = (n: number, least: number, most: number) => Number.isInteger(n) && n >= least && n <= most;
    if (!NAME.test(name) || name.includes('..') || !SUFFIX.test(suffix)) return -EINVAL;
    if (!whole(fileBytes, 4096, MAX_FILE_BYTES) || !whole(files, 1, MAX_FILES) || header.length > 4096) return -EINVAL;
    if (open >= MAX_SINKS) return -ENOBUFS;
    try {
      mkdirSync(dir, { recursive: true, mode: 0o750 });
      const ring = new FileRing(dir, name, options, () => void open--);
      open++;
      return ring;
    } catch {
      return -EIO;
    }
  };
}

/**
 * Compiles a filter expression by libpcap: `tcpdump -ddd EXPRESSION`, which prints a program as numbers and opens nothing.
 * The expression is one argument, there is no shell; 2 s at most. Returns a sentence when it cannot.
 */
export function compileBpf(expression: string): BpfProgram | string {
  if (expression.length > 1024 || /[^\x20-\x7e]/.test(expression))
    return 'the expression is too long or not plain text';
  // "--": an expression that begins with a dash is none of tcpdump's options.
  const done = spawnSync('tcpdump', ['-y', 'EN10MB', '-s', '262144', '-ddd', '--', expression], {
    encoding: 'utf8',
    timeout: 2000,
    killSignal: 'SIGKILL',
    maxBuffer: 1 << 20,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (done.error !== undefined)
    return (done.error as NodeJS.ErrnoException).code === 'ENOENT'
      ? 'tcpdump is not installed, which compiles filter expressions; install the package tcpdump, or log without a filter'
      : `tcpdump cannot be run: ${done.error.message}`;
  if (done.status !== 0) return (done.stderr.trim().split('\n').at(-1) ?? '').slice(0, 300) || 'tcpdump refuses it';
  const lines = done.stdout.trim().split('\n');
  const program = lines.slice(1).map(l => l.split(' ').map(Number));
  const good = program.length === Number(lines[0]) && program.every(i => i.length === 4 && i.every(Number.isInteger));
  return good ? (program as unknown as BpfProgram) : 'tcpdump has printed no program';
}
