/**
 * A bundle: the folder NAME.kext with manifest.json, code and SIGNATURE, read once and whole into memory; what is checked,
 * compiled and run are the same bytes. Anything in the folder that is no plain file of bounded size with a plain name, or
 * that the signature does not cover, is refused.
 */

import { closeSync, constants, fstatSync, lstatSync, opendirSync, openSync, readSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Kext, KextStatusCode } from '../stack/kern/kext.js';
import type { Kpi } from '../stack/kern/kpi.js';
import * as kpi from '../stack/kpi.js';
import { BundleError } from './error.js';
import { type Namespace, Program } from './link.js';
import { BUNDLE_PATH, type BundleManifest, parseManifest } from './manifest.js';
import { SIGNATURE_FILE, type TrustedKey, type Verdict, verifyFiles } from './sign.js';

export const MANIFEST_FILE = 'manifest.json';
export const MAX_FILES = 128;
export const MAX_FILE_BYTES = 1 << 20;
export const MAX_BUNDLE_BYTES = 4 << 20;

/** What an extension may import besides its own files. */
const BUILTINS: Readonly<Record<string, Namespace>> = { 'nke/kpi': kpi };

export interface BundleOptions {
  /** Keys whose signatures are believed. */
  readonly trust?: readonly TrustedKey[];
  /** Also take bundles that are unsigned, altered or signed by strangers. */
  readonly allowUnsigned?: boolean;
}

/** Reads every file of a bundle's folder. Throws BundleError. */
export function readFiles(dir: string, name: string): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  let total = 0;
  const walk = (below: string): void => {
    let handle: ReturnType<typeof opendirSync>;
    try {
      handle = opendirSync(join(dir, below));
    } catch (e) {
      throw new BundleError('ENOENT', `${name}: cannot read ${join(dir, below)}: ${(e as Error).message}`);
    }
    try {
      for (let entry = handle.readSync(); entry !== null; entry = handle.readSync()) {
        const path = below === '' ? entry.name : `${below}/${entry.name}`;
        if (!BUNDLE_PATH.test(path))
          throw new BundleError(
            'EINVAL',
            `${name}: ${JSON.stringify(path).slice(0, 120)} is no file name for a bundle (letters, digits, "_", "-", "."; at most 4 levels)`,
          );
        if (files.size >= MAX_FILES) throw new BundleError('EINVAL', `${name} has more than ${MAX_FILES} files`);
        if (entry.isDirectory()) walk(path);
        else {
          const data = readPlain(join(dir, path), `${name}/${path}`);
          total += data.length;
          if (total > MAX_BUNDLE_BYTES)
            throw new BundleError('EINVAL', `${name} is larger than ${MAX_BUNDLE_BYTES} bytes`);
          files.set(path, data);
        }
      }
    } finally {
      handle.closeSync();
    }
  };
  walk('');
  return files;
}

/** A plain file of bounded size; a symbolic link, device or pipe is refused without being opened for long. */
function readPlain(path: string, name: string): Buffer {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (e) {
    const { code } = e as NodeJS.ErrnoException;
    throw new BundleError(
      'EINVAL',
      code === 'ELOOP'
        ? `${name} is a symbolic link; a bundle has none`
        : `cannot read ${name}: ${(e as Error).message}`,
    );
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new BundleError('EINVAL', `${name} is not a plain file`);
    if (stat.size > MAX_FILE_BYTES)
      throw new BundleError('EINVAL', `${name} has ${stat.size} bytes; at most ${MAX_FILE_BYTES} are allowed`);
    const data = Buffer.alloc(stat.size);
    let at = 0;
    while (at < data.length) {
      const n = readSync(fd, data, at, data.length - at, at);
      if (n === 0) break;
      at += n;
    }
    return data.subarray(0, at);
  } finally {
    closeSync(fd);
  }
}

/** The manifest alone of a bundle's folder: for looking for dependencies. Throws BundleError. */
export function readManifest(path: string): BundleManifest {
  const name = basename(path);
  return parseManifest(
    utf8(readPlain(join(path, MANIFEST_FILE), `${name}/${MANIFEST_FILE}`), name),
    `${name}/${MANIFEST_FILE}`,
  );
}

function utf8(data: Buffer, name: string): string {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(data);
    if (text.includes('\0')) throw new TypeError();
    return text;
  } catch {
    throw new BundleError('EINVAL', `${name} is not UTF-8 text`);
  }
}

export class Bundle {
  /** "Foo.kext", and the folder's real path. */
  readonly name: string;
  readonly path: string;
  readonly manifest: BundleManifest;
  readonly files: ReadonlyMap<string, Buffer>;
  /** Whose signature it bears; its reason when that is not good (and allowed). */
  readonly verdict: Verdict;
  #program: Program | undefined;

  /** Reads and checks a bundle. Its code is not run, nor compiled. Throws BundleError. */
  constructor(path: string, options: BundleOptions = {}) {
    let real: string;
    try {
      real = realpathSync(path);
    } catch {
      throw new BundleError('ENOENT', `there is no bundle ${path}`);
    }
    if (!lstatSync(real).isDirectory() || !/\.kext$/.test(real))
      throw new BundleError('EINVAL', `${path} is not a bundle: a folder NAME.kext`);
    this.path = real;
    this.name = basename(real);
    this.files = readFiles(real, this.name);
    const manifest = this.files.get(MANIFEST_FILE);
    if (manifest === undefined) throw new BundleError('ENOENT', `${this.name} has no ${MANIFEST_FILE}`);
    this.verdict = verifyFiles(this.files, options.trust ?? []);
    if (!this.verdict.ok && options.allowUnsigned !== true)
      throw new BundleError(
        'EPERM',
        `${this.name} is refused: ${this.verdict.reason}; sign it (nke kext sign), trust its key (--kext-trust), or start the appliance with --allow-unsigned-kexts`,
      );
    this.manifest = parseManifest(utf8(manifest, this.name), `${this.name}/${MANIFEST_FILE}`);
    if (!this.files.has(this.manifest.entry))
      throw new BundleError('ENOENT', `${this.name}/${MANIFEST_FILE}: its entry ${this.manifest.entry} is not there`);
  }

  /** Compiles its code, which does not run. Throws BundleError with file and line. */
  compile(): Program {
    if (this.#program === undefined) {
      const sources = new Map<string, string>();
      for (const [path, data] of this.files)
        if (/\.(ts|js)$/.test(path) && path !== SIGNATURE_FILE) sources.set(path, utf8(data, `${this.name}/${path}`));
      this.#program = new Program(this.name, sources, this.manifest.entry, new Set(Object.keys(BUILTINS)));
    }
    return this.#program;
  }

  /**
   * The extension, for the loader. Its code runs when it is started, afresh each time. `brings`: where its dependencies are
   * found. Throws BundleError when it does not compile.
   */
  kext(brings: Readonly<Record<string, () => Kext>> = {}): Kext {
    const program = this.compile();
    const { manifest, name } = this;
    let code: Namespace | undefined;
    const call = <T>(fn: string, otherwise: T, ...args: unknown[]): T => {
      const f = code?.[fn];
      return typeof f === 'function' ? (f(...args) as T) : otherwise;
    };
    const kext: Kext = {
      manifest,
      brings,
      start: (k: Kpi) => {
        code = program.instantiate(BUILTINS);
        for (const fn of ['start', 'stop'])
          if (typeof code[fn] !== 'function')
            throw new BundleError('EINVAL', `${name}/${manifest.entry} does not export a function ${fn}`);
        return call<KextStatusCode>('start', undefined, k);
      },
      stop: () => call<KextStatusCode>('stop', undefined),
      drain: on => call('drain', undefined, on),
      handover: () => call('handover', undefined),
    };
    // Only when it says itself who uses it: else the loader counts its sockets.
    return Object.defineProperty(kext, 'references', {
      get: () => (typeof code?.references === 'function' ? () => call<readonly string[]>('references', []) : undefined),
    });
  }
}
