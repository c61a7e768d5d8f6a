/**
 * Where extensions come from: those that ship with the package, folders to look in, and bundles by their path. Finds what
 * a name means, and what an extension depends on: shipped ones first, then bundles beside the one that asks, then the
 * folders.
 */

import { opendirSync } from 'node:fs';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { type Kext, KPI_IDENTIFIER } from '../stack/kern/kext.js';
import { Bundle, readManifest } from './bundle.js';
import { BundleError } from './error.js';
import type { BundleManifest } from './manifest.js';
import { type Machine, SHIPPED } from './shipped.js';
import { parseKey } from './sign.js';

/** Entries of a folder that are looked at for bundles. */
const MAX_ENTRIES = 4096;

export interface CatalogOptions {
  readonly machine?: Machine;
  /** Folders with bundles. */
  readonly path?: readonly string[];
  /** Public keys, a line each. */
  readonly trust?: readonly string[];
  readonly allowUnsigned?: boolean;
}

/** An extension that can be loaded. */
export interface Found {
  /** "SCTP", or the bundle's "Foo.kext". */
  readonly name: string;
  readonly manifest: Kext['manifest'];
  /** The folder; undefined for a shipped one. */
  readonly path: string | undefined;
  /** "shipped", the id of the key that signed it, or why its signature is not good. */
  readonly signed: string;
  /** Compiles its code, to find out early what is wrong. Throws BundleError. */
  check(): void;
  /** A fresh extension for the loader. */
  make(): Kext;
}

export class Catalog {
  readonly #machine: Machine;
  readonly #path: readonly string[];
  readonly #trust: ReturnType<typeof parseKey>[];
  readonly #allowUnsigned: boolean;

  /** Throws BundleError for a key that is none. */
  constructor(options: CatalogOptions = {}) {
    this.#machine = options.machine ?? {};
    this.#path = (options.path ?? []).map(p => resolve(p));
    this.#trust = (options.trust ?? []).map(parseKey);
    this.#allowUnsigned = options.allowUnsigned === true;
  }

  /** The extension that a name, an identifier or a path of a bundle means. Throws BundleError when there is none. */
  find(what: string, base = '.'): Found {
    if (what.includes('/')) return this.bundle(isAbsolute(what) ? what : join(base, what));
    const plain = what.replace(/\.kext$/, '');
    if (Object.hasOwn(SHIPPED, plain)) return this.#shipped(plain);
    for (const name of Object.keys(SHIPPED)) {
      const found = this.#shipped(name);
      if (found.manifest.identifier === what) return found;
    }
    for (const dir of this.#path) {
      const there = bundlesIn(dir).find(path => path.endsWith(`/${plain}.kext`));
      if (there !== undefined) return this.bundle(there);
    }
    const found = what.includes('.') ? this.#byIdentifier(what, this.#path) : undefined;
    if (found !== undefined) return found;
    throw new BundleError(
      'ENOENT',
      `there is no extension "${what}"; there is ${Object.keys(SHIPPED).join(', ')}, or give the path of a bundle (./NAME.kext)`,
    );
  }

  /** Names that find takes without a path, with their manifests. */
  names(): readonly { readonly name: string; readonly manifest: Kext['manifest'] }[] {
    return Object.keys(SHIPPED).map(name => ({ name, manifest: this.#shipped(name).manifest }));
  }

  #shipped(name: string): Found {
    const make = () => SHIPPED[name]!.make(this.#machine);
    return { name, manifest: make().manifest, path: undefined, signed: 'shipped', check: () => {}, make };
  }

  /** A bundle by its path, read and checked. Throws BundleError. */
  bundle(path: string): Found {
    const bundle = new Bundle(path, { trust: this.#trust, allowUnsigned: this.#allowUnsigned });
    return {
      name: bundle.name,
      manifest: bundle.manifest,
      path: bundle.path,
      signed: bundle.verdict.ok ? bundle.verdict.key : bundle.verdict.reason,
      check: () => void bundle.compile(),
      make: () => bundle.kext(this.#brings(bundle.manifest, bundle.path)),
    };
  }

  /** A dependency of a bundle, or undefined when it is nowhere. Throws BundleError when it is there and not good. */
  dependency(identifier: string, path: string | undefined): Found | undefined {
    for (const name of Object.keys(SHIPPED)) {
      const found = this.#shipped(name);
      if (found.manifest.identifier === identifier) return found;
    }
    return this.#byIdentifier(identifier, path === undefined ? this.#path : [dirname(path), ...this.#path]);
  }
  #byIdentifier(identifier: string, dirs: readonly string[]): Found | undefined {
    for (const dir of dirs)
      for (const path of bundlesIn(dir)) {
        let manifest: BundleManifest;
        try {
          manifest = readManifest(path);
        } catch {
          continue; // a broken neighbour is none of the asker's business
        }
        if (manifest.identifier === identifier) return this.bundle(path);
      }
    return undefined;
  }
  #brings(manifest: BundleManifest, path: string): Record<string, () => Kext> {
    const out: Record<string, () => Kext> = {};
    for (const identifier of Object.keys(manifest.dependencies)) {
      if (identifier === KPI_IDENTIFIER) continue;
      out[identifier] = () => {
        const found = this.dependency(identifier, path);
        if (found === undefined) throw new BundleError('ENOENT', `there is no extension ${identifier}`);
        return found.make();
      };
    }
    return out;
  }
}

/** Paths of the bundles in a folder, in order of name; none when it cannot be read. */
function bundlesIn(dir: string): string[] {
  const out: string[] = [];
  try {
    const handle = opendirSync(dir);
    try {
      for (let n = 0; n < MAX_ENTRIES; n++) {
        const entry = handle.readSync();
        if (entry === null) break;
        if (entry.isDirectory() && entry.name.endsWith('.kext')) out.push(join(dir, entry.name));
      }
    } finally {
      handle.closeSync();
    }
  } catch {
    return [];
  }
  return out.sort();
}
