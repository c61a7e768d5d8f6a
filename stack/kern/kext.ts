/**
 * Kernel extensions: loading, dependencies, references and unloading, after Darwin's OSKext and kmod. An extension is an
 * object with a manifest and start/stop; it registers protocols, filters, sysctls, counters and tunnels with the stack.
 * What start had registered when it failed, or what stop left behind, the loader takes back itself and reports.
 */

import type { Stack } from '../stack.js';
import { EBUSY, EEXIST, EINVAL, EIO, ENOENT, errnoName } from './errno.js';

export interface KextManifest {
  /** Reverse DNS name, such as "org.nke.SCTP". */
  readonly identifier: string;
  /** Up to three numbers, such as "1.2.0". */
  readonly version: string;
  /** What it is, for people: "protocol", "filter". */
  readonly kind: string;
  /** Identifiers that must be loaded before, and their least version. */
  readonly dependencies: Readonly<Record<string, string>>;
}

export interface Kext {
  readonly manifest: KextManifest;
  /** Returns 0 or -errno. */
  start(stack: Stack): number;
  /** Called only when nothing holds it. Returns 0 or -errno (it then stays loaded). */
  stop(): number;
  /** Names of what still uses it (sockets, associations); empty means that it may go. */
  references(): readonly string[];
}

export type KextResult =
  | { readonly ok: true }
  | {
      readonly ok: false;
      readonly errno: number; // positive
      readonly reason: string;
      /** What holds the extension, or what is missing for it. */
      readonly holders: readonly string[];
    };

export interface KextStatus {
  readonly index: number;
  readonly identifier: string;
  readonly version: string;
  readonly kind: string;
  readonly state: 'starting' | 'started' | 'stopping';
  /** Users and dependents. */
  readonly refs: number;
  readonly holders: readonly string[];
  readonly dependencies: readonly string[];
}

interface Loaded {
  readonly kext: Kext;
  readonly index: number;
  state: KextStatus['state'];
  readonly registered: Registered;
}

/** What an extension has put into the stack's tables. */
interface Registered {
  readonly protocols: readonly unknown[];
  readonly filters: readonly unknown[];
  readonly sysctls: readonly string[];
  readonly counters: readonly string[];
  readonly tunnels: readonly number[];
}

/** The stack's own programming interface, on which extensions may depend. */
export const KPI_IDENTIFIER = 'org.nke.kpi.stack';
export const KPI_VERSION = '1.0.0';

const IDENTIFIER = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$/;
const VERSION = /^\d{1,9}(\.\d{1,9}){0,2}$/;

export class KextLoader {
  readonly #stack: Stack;
  readonly #loaded: Loaded[] = [];
  #index = 0;
  constructor(stack: Stack) {
    this.#stack = stack;
  }

  /** Loads and starts an extension, or says why not; then nothing of it is left in the stack. */
  load(kext: Kext): KextResult {
    const m = kext.manifest;
    if (!IDENTIFIER.test(m.identifier))
      return refuse(EINVAL, `"${m.identifier}" is not an extension identifier such as org.nke.SCTP`);
    if (!VERSION.test(m.version))
      return refuse(EINVAL, `${m.identifier}: "${m.version}" is not a version such as 1.2.0`);
    const there = this.#find(m.identifier);
    if (there !== undefined || m.identifier === KPI_IDENTIFIER)
      return refuse(
        EEXIST,
        `${m.identifier} is loaded already (version ${there?.kext.manifest.version ?? KPI_VERSION})`,
        [m.identifier],
      );
    for (const [identifier, least] of Object.entries(m.dependencies)) {
      if (!VERSION.test(least)) return refuse(EINVAL, `${m.identifier}: "${least}" is not a version`);
      const version = identifier === KPI_IDENTIFIER ? KPI_VERSION : this.#find(identifier)?.kext.manifest.version;
      if (version === undefined)
        return refuse(ENOENT, `${m.identifier} needs ${identifier} ${least} or later, which is not loaded`, [
          identifier,
        ]);
      if (compareVersions(version, least) < 0)
        return refuse(EINVAL, `${m.identifier} needs ${identifier} ${least} or later; ${version} is loaded`, [
          identifier,
        ]);
    }
    const before = this.#snapshot();
    const entry: Loaded = {
      kext,
      index: ++this.#index,
      state: 'starting',
      registered: { protocols: [], filters: [], sysctls: [], counters: [], tunnels: [] },
    };
    this.#loaded.push(entry);
    const failed = this.#start(kext);
    const added = difference(this.#snapshot(), before);
    if (failed !== undefined) {
      const swept = this.#sweep(added);
      this.#loaded.splice(this.#loaded.indexOf(entry), 1);
      return refuse(
        failed.errno,
        `${m.identifier} did not start: ${failed.why}${swept.length ? `; taken back: ${swept.join(', ')}` : ''}`,
      );
    }
    Object.assign(entry.registered, added);
    entry.state = 'started';
    this.#stack.events.emit({ kind: 'kext-loaded', kext: m.identifier, version: m.version });
    return { ok: true };
  }

  /** Stops and removes an extension. Refused while something uses it or another extension depends on it. */
  unload(identifier: string): KextResult {
    const entry = this.#find(identifier);
    if (entry === undefined) return refuse(ENOENT, `${identifier} is not loaded`);
    if (entry.state !== 'started') return refuse(EBUSY, `${identifier} is ${entry.state}`);
    const holders = this.#holders(entry);
    if (holders.length > 0) return refuse(EBUSY, `${identifier} is in use by ${holders.join(', ')}`, holders);
    entry.state = 'stopping';
    let e: number;
    let why = '';
    try {
      e = entry.kext.stop();
    } catch (error) {
      e = -EIO;
      why = `: ${String(error)}`;
    }
    if (e < 0) {
      entry.state = 'started';
      return refuse(-e, `${identifier} would not stop (${errnoName(e)}${why})`);
    }
    this.#sweep(entry.registered);
    this.#loaded.splice(this.#loaded.indexOf(entry), 1);
    this.#stack.events.emit({ kind: 'kext-unloaded', kext: identifier, version: entry.kext.manifest.version });
    return { ok: true };
  }

  /** The extension, if it is loaded. */
  get(identifier: string): Kext | undefined {
    return this.#find(identifier)?.kext;
  }
  /** For kextstat, in order of loading. */
  list(): readonly KextStatus[] {
    return this.#loaded.map(entry => {
      const m = entry.kext.manifest;
      const holders = entry.state === 'starting' ? [] : this.#holders(entry);
      return {
        index: entry.index,
        identifier: m.identifier,
        version: m.version,
        kind: m.kind,
        state: entry.state,
        refs: holders.length,
        holders,
        dependencies: Object.keys(m.dependencies),
      };
    });
  }

  #find(identifier: string): Loaded | undefined {
    return this.#loaded.find(l => l.kext.manifest.identifier === identifier);
  }
  #holders(entry: Loaded): string[] {
    const id = entry.kext.manifest.identifier;
    const dependents = this.#loaded.filter(l => l !== entry && id in l.kext.manifest.dependencies);
    return [...entry.kext.references(), ...dependents.map(l => l.kext.manifest.identifier)];
  }
  #start(kext: Kext): { errno: number; why: string } | undefined {
    try {
      const e = kext.start(this.#stack);
      return e < 0 ? { errno: -e, why: errnoName(e) } : undefined;
    } catch (error) {
      return { errno: EIO, why: String(error) };
    }
  }

  #snapshot(): Registered {
    const s = this.#stack;
    return {
      protocols: [...s.protocols.rows],
      filters: s.interfaces.filters,
      sysctls: s.sysctl.prefixes(),
      counters: s.counters.names(),
      tunnels: s.udp.tunnels,
    };
  }
  /** Takes back what is still registered. Returns the names of what it found. */
  #sweep(r: Registered): string[] {
    const s = this.#stack;
    const swept: string[] = [];
    for (const row of s.protocols.rows.filter(p => r.protocols.includes(p))) {
      s.protocols.remove(row);
      swept.push(`protocol ${row.name}`);
    }
    for (const filter of s.interfaces.filters.filter(f => r.filters.includes(f))) {
      s.interfaces.detachFilter(filter);
      swept.push(`filter ${filter.name}`);
    }
    for (const prefix of s.sysctl.prefixes().filter(p => r.sysctls.includes(p))) {
      s.sysctl.remove(prefix);
      swept.push(`sysctl ${prefix}`);
    }
    for (const name of s.counters.names().filter(n => r.counters.includes(n))) {
      s.counters.remove(name);
      swept.push(`counters ${name}`);
    }
    for (const port of s.udp.tunnels.filter(p => r.tunnels.includes(p))) {
      s.udp.untunnel(port);
      swept.push(`UDP tunnel ${port}`);
    }
    return swept;
  }
}

function difference(now: Registered, before: Registered): Registered {
  return {
    protocols: now.protocols.filter(x => !before.protocols.includes(x)),
    filters: now.filters.filter(x => !before.filters.includes(x)),
    sysctls: now.sysctls.filter(x => !before.sysctls.includes(x)),
    counters: now.counters.filter(x => !before.counters.includes(x)),
    tunnels: now.tunnels.filter(x => !before.tunnels.includes(x)),
  };
}

function refuse(errno: number, reason: string, holders: readonly string[] = []): KextResult {
  return { ok: false, errno, reason, holders };
}

/** Negative, 0 or positive as a is older than, the same as or newer than b; missing numbers count as 0. */
export function compareVersions(a: string, b: string): number {
  const x = a.split('.').map(Number);
  const y = b.split('.').map(Number);
  for (let i = 0; i < 3; i++) {
    const d = (x[i] ?? 0) - (y[i] ?? 0);
    if (d !== 0) return d;
  }
  return 0;
}
