/**
 * Kernel extensions: loading, dependencies, references, replacing and unloading, after Darwin's OSKext and kmod. An
 * extension is an object with a manifest and start/stop; start is handed the kernel programming interface (kpi.ts), and
 * everything it registers through that is taken back when start fails or the extension leaves.
 *
 * What the historical SCTP extension did at each step, and what is done here:
 *   load: protocols added one by one, none taken back on failure  → everything is taken back, in reverse order
 *   load: results of the UDP tunnel's set-up ignored              → a failing step fails the start
 *   unload: refused without names                                 → refused with the names of all holders, waits, or drains
 *   unload: fails at the end although all else is gone            → stop may only refuse before it has undone anything;
 *                                                                   one that throws or hangs is finished by the loader
 *   unload: endpoints closed but not collected block it           → they are named, and `wait` ends when they have gone
 */

import type { Stack } from '../stack.js';
import { Callout } from './callout.js';
import { MSEC, type Nanos, SEC } from './clock.js';
import { EAGAIN, EBUSY, EEXIST, EINVAL, EIO, ENOENT, ENOMEM, ETIMEDOUT, errnoName } from './errno.js';
import { paramValues } from './kextparam.js';
import { Kmod, message } from './kmod.js';
import type { Kpi, ParamRow, ParamValue } from './kpi.js';
import { MAX_TAG } from './kpipool.js';

export interface KextManifest {
  /** Reverse DNS name, such as "org.nke.SCTP". */
  readonly identifier: string;
  /** Up to three numbers, such as "1.2.0". */
  readonly version: string;
  /** What it is, for people: "protocol", "filter". */
  readonly kind: string;
  /** Identifiers that must be loaded before, and their least version. */
  readonly dependencies: Readonly<Record<string, string>>;
  /** Parameters with types and defaults. */
  readonly parameters?: Readonly<Record<string, ParamRow>>;
  /** A sentence for kextstat. */
  readonly about?: string;
}

// biome-ignore lint/suspicious/noConfusingVoidType: a start or stop that returns nothing has succeeded.
export type KextStatusCode = number | void;

export interface Kext {
  readonly manifest: KextManifest;
  /** Ships with the stack: its protocol rows are put in unwatched, it accounts for its mbufs itself. */
  readonly builtin?: boolean;
  /** Dependencies that it brings along, by identifier: loaded first when they are not there. */
  readonly brings?: Readonly<Record<string, () => Kext>>;
  /** Returns 0 (or nothing), or -errno; or a promise of that, if its loader waits. */
  start(kpi: Kpi): KextStatusCode | PromiseLike<KextStatusCode>;
  /**
   * Called when nothing holds it. Returns 0 or nothing; or -errno, with nothing undone: it then stays loaded. What it
   * leaves registered is taken back, so a stop may be empty.
   */
  stop(): KextStatusCode;
  /** Names of what still uses it besides the open sockets of its protocols; empty or absent: it may go. */
  references?(): readonly string[];
  /** It is to leave: end gracefully what it has (true), or it stays after all (false). New sockets are refused meanwhile. */
  drain?(on: boolean): void;
  /** What its successor is to know (kpi.inherited). Called when the successor's start is about to be called. */
  handover?(): unknown;
}

export type KextResult =
  /** `pending`: its start, or the wait, goes on; `settled` will be told. `notes`: what had to be taken back, or went wrong. */
  | { readonly ok: true; readonly pending?: true; readonly notes?: readonly string[] }
  | {
      readonly ok: false;
      readonly errno: number; // positive
      readonly reason: string;
      /** What holds the extension, or what is missing for it. */
      readonly holders: readonly string[];
    };

export type KextState = 'starting' | 'started' | 'draining' | 'stopping';

export interface KextStatus {
  readonly index: number;
  readonly identifier: string;
  readonly version: string;
  readonly kind: string;
  readonly state: KextState;
  /** Users and dependents. */
  readonly refs: number;
  readonly holders: readonly string[];
  readonly dependencies: readonly string[];
  /** Everything it has registered, by kind and name. */
  readonly registered: readonly string[];
  /** Mbufs that it holds, and has got and freed so far. */
  readonly held: number;
  readonly allocated: number;
  readonly freed: number;
  /** Callbacks that broke the rules and were taken out; the last reason. */
  readonly faults: number;
  readonly lastFault: string;
  readonly params: Readonly<Record<string, ParamValue>>;
}

export interface LoadOptions {
  readonly params?: Readonly<Record<string, unknown>>;
  /** Interfaces to work on; empty: all. */
  readonly where?: readonly string[];
  /** Mbufs that it may hold at once. */
  readonly mbufs?: number;
  /** Told once when a start that returned a promise has ended. Without it such a start is refused. */
  readonly settled?: (result: KextResult) => void;
  /** How long such a start may take; default 5 s. */
  readonly timeout?: Nanos;
}

export interface UnloadOptions {
  /** Refuse new users, and ask the extension to end those it has. Implies waiting. */
  readonly drain?: boolean;
  /** How long to wait for its holders to go; default with `drain`: 30 s. Needs `settled`. */
  readonly wait?: Nanos;
  readonly settled?: (result: KextResult) => void;
}

/** Calls code of an extension that may hang, and throws when it has not returned in time. Set by who runs the stack. */
export type KextGuard = (what: string, fn: () => unknown) => unknown;

interface Loaded {
  readonly kext: Kext;
  readonly kmod: Kmod;
  readonly index: number;
  state: KextState;
  /** Registered past the kpi during its start. */
  strays: Tables;
  readonly deadline: Callout;
}

/** The stack's tables, as far as an extension may have put something in past its kpi. */
interface Tables {
  readonly protocols: readonly unknown[];
  readonly filters: readonly unknown[];
  readonly sysctls: readonly string[];
  readonly counters: readonly string[];
  readonly tunnels: readonly number[];
}
const NO_TABLES: Tables = { protocols: [], filters: [], sysctls: [], counters: [], tunnels: [] };

/** The stack's own programming interface, on which extensions may depend. */
export const KPI_IDENTIFIER = 'org.nke.kpi.stack';
export const KPI_VERSION = '1.1.0';

export const IDENTIFIER = /^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){1,8}$/;
export const VERSION = /^\d{1,9}(\.\d{1,9}){0,2}$/;
/** Extensions of one stack at once. */
export const MAX_KEXTS = 128;
const START_TIMEOUT = 5 * SEC;
const DRAIN_TIMEOUT = 30 * SEC;
/** How often holders are looked at while waiting. */
const LOOK = 10 * MSEC;

export class KextLoader {
  /** By default code of extensions is called as it is. */
  guard: KextGuard = (_what, fn) => fn();
  readonly #stack: Stack;
  readonly #loaded: Loaded[] = [];
  readonly #loading: string[] = [];
  readonly #tags = new Uint8Array(MAX_TAG + 1);
  #index = 0;
  constructor(stack: Stack) {
    this.#stack = stack;
  }

  /** Loads and starts an extension, its dependencies first, or says why not; then nothing of it is left in the stack. */
  load(kext: Kext, options: LoadOptions = {}): KextResult {
    const m = kext.manifest;
    const why = this.#checkManifest(m);
    if (why !== undefined) return why;
    const there = this.#find(m.identifier);
    if (there !== undefined || m.identifier === KPI_IDENTIFIER)
      return refuse(
        EEXIST,
        `${m.identifier} is loaded already (version ${there?.kext.manifest.version ?? KPI_VERSION})`,
        [m.identifier],
      );
    if (this.#loading.includes(m.identifier))
      return refuse(EINVAL, `a dependency cycle: ${[...this.#loading, m.identifier].join(' needs ')}`);
    if (this.#loaded.length >= MAX_KEXTS) return refuse(ENOMEM, `${MAX_KEXTS} extensions are loaded; that is the most`);
    return this.#whole(kext, () => this.#begin(kext, options));
  }
  /** Loads what an extension needs, then begins it. Rolled back whole: what was loaded for its sake goes too if that fails. */
  #whole(kext: Kext, begin: () => KextResult): KextResult {
    const before = [...this.#loaded];
    this.#loading.push(kext.manifest.identifier);
    let result: KextResult;
    try {
      result = this.#dependencies(kext) ?? begin();
    } finally {
      this.#loading.pop();
    }
    if (!result.ok)
      for (const entry of [...this.#loaded].reverse())
        if (!before.includes(entry) && this.#loaded.includes(entry)) this.unload(entry.kext.manifest.identifier);
    return result;
  }

  #checkManifest(m: KextManifest): KextResult | undefined {
    if (!IDENTIFIER.test(m.identifier))
      return refuse(EINVAL, `"${m.identifier}" is not an extension identifier such as org.nke.SCTP`);
    if (!VERSION.test(m.version))
      return refuse(EINVAL, `${m.identifier}: "${m.version}" is not a version such as 1.2.0`);
    for (const least of Object.values(m.dependencies))
      if (!VERSION.test(least)) return refuse(EINVAL, `${m.identifier}: "${least}" is not a version`);
    return undefined;
  }

  /** Loads what is missing and can be had; refuses when something stays missing or is too old. */
  #dependencies(kext: Kext): KextResult | undefined {
    const m = kext.manifest;
    for (const [identifier, least] of Object.entries(m.dependencies)) {
      const make =
        kext.brings !== undefined && Object.hasOwn(kext.brings, identifier) ? kext.brings[identifier] : undefined;
      if (identifier !== KPI_IDENTIFIER && this.#find(identifier) === undefined && make !== undefined) {
        let other: Kext;
        try {
          other = make();
        } catch (e) {
          return refuse(EINVAL, `${m.identifier} needs ${identifier}: ${message(e)}`, [identifier]);
        }
        const result = this.load(other);
        if (!result.ok)
          return refuse(result.errno, `${m.identifier} needs ${identifier}: ${result.reason}`, result.holders);
      }
      const entry = this.#find(identifier);
      const version = identifier === KPI_IDENTIFIER ? KPI_VERSION : entry?.kext.manifest.version;
      if (version === undefined)
        return refuse(ENOENT, `${m.identifier} needs ${identifier} ${least} or later, which is not loaded`, [
          identifier,
        ]);
      if (compareVersions(version, least) < 0)
        return refuse(EINVAL, `${m.identifier} needs ${identifier} ${least} or later; ${version} is loaded`, [
          identifier,
        ]);
      if (entry !== undefined && entry.state !== 'started')
        return refuse(EAGAIN, `${m.identifier} needs ${identifier}, which is ${entry.state}`, [identifier]);
    }
    return undefined;
  }

  /** Makes the entry of an extension and calls its start. */
  #begin(kext: Kext, options: LoadOptions, replaces?: Loaded): KextResult {
    const m = kext.manifest;
    const checked = paramValues(m.parameters ?? {}, options.params ?? {});
    if ('complaint' in checked) return refuse(EINVAL, `${m.identifier}: ${checked.complaint}`);
    for (const name of options.where ?? [])
      if (this.#stack.interfaces.byName(name) === undefined)
        return refuse(ENOENT, `${m.identifier}: there is no interface "${name}"`, [name]);
    const tag = this.#tags.indexOf(0, 1);
    if (tag < 0) return refuse(ENOMEM, `${MAX_TAG} extensions hold mbufs; that is the most`);
    const before = this.#tables();
    const entry: Loaded = {
      kext,
      index: ++this.#index,
      state: 'starting',
      strays: NO_TABLES,
      kmod: new Kmod(this.#stack, {
        identifier: m.identifier,
        version: m.version,
        rows: m.parameters ?? {},
        values: checked.values,
        where: options.where ?? replaces?.kmod.where ?? [],
        tag,
        limit: options.mbufs,
        builtin: kext.builtin === true,
        inherited: replaces === undefined ? undefined : handover(replaces.kext),
        predecessor: replaces?.kmod,
        dependencies: id => (Object.hasOwn(m.dependencies, id) ? this.#find(id)?.kmod : undefined),
      }),
      deadline: new Callout(() => late()),
    };
    this.#tags[tag] = 1;
    if (replaces === undefined) this.#loaded.push(entry);
    let over = false;
    const end = (e: unknown, thrown: boolean): KextResult => {
      over = true;
      this.#stack.callouts.stop(entry.deadline);
      if (thrown) return this.#failed(entry, EIO, message(e));
      if (typeof e === 'number' && e < 0) return this.#failed(entry, -e, errnoName(e));
      return replaces === undefined ? this.#started(entry) : this.#swap(replaces, entry);
    };
    const late = () => {
      if (over) return;
      over = true;
      options.settled?.(this.#failed(entry, ETIMEDOUT, 'it did not finish in time'));
    };
    let returned: unknown;
    try {
      returned = this.guard(`start of ${m.identifier}`, () => kext.start(entry.kmod));
    } catch (e) {
      entry.strays = difference(this.#tables(), before);
      return end(e, true);
    }
    entry.strays = difference(this.#tables(), before);
    if (!isThenable(returned)) return end(returned, false);
    if (options.settled === undefined) {
      returned.then(
        () => {},
        () => {},
      );
      over = true;
      return this.#failed(entry, EAGAIN, 'its start is asynchronous, and its loader does not wait');
    }
    this.#stack.callouts.reset(entry.deadline, options.timeout ?? START_TIMEOUT);
    const settle = (e: unknown, thrown: boolean) => {
      if (!over) options.settled!(end(e, thrown));
    };
    returned.then(
      e => settle(e, false),
      e => settle(e, true),
    );
    this.#stack.kick();
    return { ok: true, pending: true };
  }

  #started(entry: Loaded): KextResult {
    const m = entry.kext.manifest;
    const e = this.#stack.ctl.register(entry.kmod.control);
    if (e < 0) return this.#failed(entry, -e, `its control cannot be registered (${errnoName(e)})`);
    entry.state = 'started';
    this.#stack.events.emit({ kind: 'kext-loaded', kext: m.identifier, version: m.version });
    return { ok: true };
  }
  /** Takes back all that a failed start had done. */
  #failed(entry: Loaded, errno: number, why: string): KextResult {
    const m = entry.kext.manifest;
    const swept = this.#remove(entry);
    const reason = `${m.identifier} did not start: ${why}${swept.length ? `; taken back: ${swept.join(', ')}` : ''}`;
    this.#stack.events.emit({ kind: 'kext-failed', kext: m.identifier, version: m.version, reason });
    return refuse(errno, reason);
  }
  /** Sweeps an entry and forgets it. Returns the names of what was found. */
  #remove(entry: Loaded): string[] {
    this.#stack.callouts.stop(entry.deadline);
    const swept = [...entry.kmod.sweep(), ...this.#sweepTables(entry.strays)];
    const i = this.#loaded.indexOf(entry);
    if (i >= 0) this.#loaded.splice(i, 1);
    this.#tags[entry.kmod.tag] = 0;
    return swept;
  }

  /**
   * Stops and removes an extension. Refused, with names, while something uses it or another extension depends on it; with
   * `wait` or `drain` it goes as soon as nothing does, or stays when the time is over.
   */
  unload(identifier: string, options: UnloadOptions = {}): KextResult {
    const entry = this.#find(identifier);
    if (entry === undefined) return refuse(ENOENT, `${identifier} is not loaded`);
    if (entry.state !== 'started') return refuse(EBUSY, `${identifier} is ${entry.state}`);
    const dependents = this.#dependents(entry);
    const wait = options.wait ?? (options.drain === true ? DRAIN_TIMEOUT : 0);
    if (this.#holders(entry).length === 0) return this.#stop(entry);
    if (wait <= 0 || options.settled === undefined || dependents.length > 0) return this.#held(entry);
    if (options.drain === true) this.#drain(entry, true);
    // Waited for under the state "draining" too: a second unload says so.
    entry.state = 'draining';
    const end = this.#stack.clock.now + wait;
    const { settled } = options;
    const stay = (result: KextResult) => {
      entry.state = 'started';
      if (options.drain === true) this.#drain(entry, false);
      settled(result);
    };
    const look = new Callout(() => {
      if (entry.state !== 'draining' || this.#find(identifier) !== entry) {
        settled(refuse(EBUSY, `${identifier} was unloaded or replaced meanwhile`));
        return;
      }
      if (this.#holders(entry).length === 0) {
        const result = this.#stop(entry);
        if (result.ok) settled(result);
        else stay(result);
        return;
      }
      if (this.#stack.clock.now >= end) stay(this.#held(entry));
      else this.#stack.callouts.reset(look, LOOK);
    });
    this.#stack.callouts.reset(look, LOOK);
    this.#stack.kick();
    return { ok: true, pending: true };
  }
  /**
   * For a stack that is closed: unloads everything, last loaded first. What still has users, or will not stop, is taken
   * back by force. Returns what had to be.
   */
  unloadAll(): string[] {
    const forced: string[] = [];
    for (const entry of [...this.#loaded].reverse()) {
      if (!this.#loaded.includes(entry)) continue;
      if (entry.state === 'draining') entry.state = 'started';
      const { identifier } = entry.kext.manifest;
      const result = this.unload(identifier);
      if (result.ok) continue;
      this.#stack.ctl.deregister(entry.kmod.control);
      this.#remove(entry);
      forced.push(result.reason);
    }
    return forced;
  }
  #held(entry: Loaded): KextResult {
    const holders = this.#holders(entry);
    return refuse(EBUSY, `${entry.kext.manifest.identifier} is in use by ${holders.join(', ')}`, holders);
  }
  #drain(entry: Loaded, on: boolean): void {
    for (const row of entry.kmod.rows()) this.#stack.protocols.quiesce(row, on);
    try {
      entry.kext.drain?.(on);
    } catch (e) {
      entry.kmod.fault('drain', e);
    }
  }
  #stop(entry: Loaded): KextResult {
    const { identifier, version } = entry.kext.manifest;
    const was = entry.state;
    entry.state = 'stopping';
    const notes: string[] = [];
    try {
      const e = this.guard(`stop of ${identifier}`, () => entry.kext.stop());
      if (typeof e === 'number' && e < 0) {
        entry.state = was;
        return refuse(-e, `${identifier} would not stop (${errnoName(e)})`);
      }
    } catch (e) {
      // Half of it may be gone already: there is no way back, so the loader goes on to the end.
      notes.push(`its stop failed: ${message(e)}`);
    }
    this.#stack.ctl.deregister(entry.kmod.control);
    const kept = this.#stack.pool.held[entry.kmod.tag]!;
    const swept = this.#remove(entry);
    if (notes.length > 0 && swept.length > 0) notes.push(`taken back: ${swept.join(', ')}`);
    else if (kept > 0) notes.push(`taken back: ${kept} mbuf${kept === 1 ? '' : 's'} that it kept`);
    for (const reason of notes)
      this.#stack.events.emit({ kind: 'kext-fault', kext: identifier, what: 'unload', reason });
    this.#stack.events.emit({ kind: 'kext-unloaded', kext: identifier, version });
    return notes.length > 0 ? { ok: true, notes } : { ok: true };
  }

  /**
   * Puts a new version of a loaded extension in its place between two frames: its filters take the places of those of the
   * same name, so every frame is seen by exactly one of the two. The old one goes on untouched until the new one has
   * started, and stays when that fails. Refused while the old one has sockets, interfaces or dependents.
   */
  replace(kext: Kext, options: LoadOptions = {}): KextResult {
    const m = kext.manifest;
    const why = this.#checkManifest(m);
    if (why !== undefined) return why;
    const old = this.#find(m.identifier);
    if (old === undefined) return refuse(ENOENT, `${m.identifier} is not loaded; load it instead`);
    if (old.state !== 'started') return refuse(EBUSY, `${m.identifier} is ${old.state}`);
    const holders = [...this.#holders(old), ...old.kmod.interfaces().map(i => `interface ${i}`)];
    if (holders.length > 0)
      return refuse(EBUSY, `${m.identifier} cannot be replaced while in use by ${holders.join(', ')}`, holders);
    // What was set on the old one holds on for the new one, where it still has such a parameter and the value fits.
    const kept: Record<string, unknown> = {};
    for (const [name, row] of Object.entries(m.parameters ?? {})) {
      const value = old.kmod.params[name];
      if (value !== undefined && 'values' in paramValues({ [name]: row }, { [name]: value })) kept[name] = value;
    }
    return this.#whole(kext, () => this.#begin(kext, { ...options, params: { ...kept, ...options.params } }, old));
  }
  /** The new one has started: it takes the old one's place. */
  #swap(old: Loaded, entry: Loaded): KextResult {
    const { identifier, version } = entry.kext.manifest;
    const i = this.#loaded.indexOf(old);
    if (i < 0 || old.state !== 'started') return this.#failed(entry, EBUSY, `${identifier} has gone or is leaving`);
    const notes: string[] = [];
    const failed = entry.kmod.commit(() => {
      try {
        const e = this.guard(`stop of ${identifier}`, () => old.kext.stop());
        if (typeof e === 'number' && e < 0) notes.push(`the old version's stop returned ${errnoName(e)}`);
      } catch (e) {
        notes.push(`the old version's stop failed: ${message(e)}`);
      }
      const kept = this.#stack.pool.held[old.kmod.tag]!;
      if (kept > 0) notes.push(`the old version kept ${kept} mbuf${kept === 1 ? '' : 's'}, which are freed`);
      this.#loaded[i] = entry;
      this.#stack.ctl.deregister(old.kmod.control, entry.kmod.control);
      old.kmod.sweep();
      this.#sweepTables(old.strays);
      this.#tags[old.kmod.tag] = 0;
    });
    entry.state = 'started';
    if (failed.length > 0) notes.push(`not registered: ${failed.join(', ')}`);
    for (const reason of notes)
      this.#stack.events.emit({ kind: 'kext-fault', kext: identifier, what: 'replace', reason });
    this.#stack.events.emit({ kind: 'kext-replaced', kext: identifier, version, was: old.kext.manifest.version });
    return notes.length > 0 ? { ok: true, notes } : { ok: true };
  }

  /** The extension, if it is loaded. */
  get(identifier: string): Kext | undefined {
    return this.#find(identifier)?.kext;
  }
  /** For kextstat, in order of loading. */
  list(): readonly KextStatus[] {
    return this.#loaded.map(({ kext, kmod, index, state }, i) => {
      const m = kext.manifest;
      const holders = state === 'starting' ? [] : this.#holders(this.#loaded[i]!);
      return {
        index,
        identifier: m.identifier,
        version: m.version,
        kind: m.kind,
        state,
        refs: holders.length,
        holders,
        dependencies: Object.keys(m.dependencies),
        registered: kmod.registered(),
        held: kmod.pool.held,
        allocated: kmod.pool.counters.allocated,
        freed: kmod.pool.counters.freed,
        faults: kmod.faults,
        lastFault: kmod.lastFault,
        params: { ...kmod.params },
      };
    });
  }

  #find(identifier: string): Loaded | undefined {
    return this.#loaded.find(l => l.kext.manifest.identifier === identifier);
  }
  #dependents(entry: Loaded): string[] {
    const id = entry.kext.manifest.identifier;
    return this.#loaded
      .filter(l => l !== entry && Object.hasOwn(l.kext.manifest.dependencies, id))
      .map(l => l.kext.manifest.identifier);
  }
  #holders(entry: Loaded): string[] {
    let own: readonly string[];
    try {
      own = entry.kext.references?.() ?? entry.kmod.sockets();
    } catch (e) {
      entry.kmod.fault('references', e);
      own = entry.kmod.sockets();
    }
    const running = this.#stack.interfaces.running(entry.kmod).map(name => `filter ${name}, which is being called`);
    return [...own, ...running, ...this.#dependents(entry)];
  }

  #tables(): Tables {
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
  #sweepTables(r: Tables): string[] {
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

function difference(now: Tables, before: Tables): Tables {
  return {
    protocols: now.protocols.filter(x => !before.protocols.includes(x)),
    filters: now.filters.filter(x => !before.filters.includes(x)),
    sysctls: now.sysctls.filter(x => !before.sysctls.includes(x)),
    counters: now.counters.filter(x => !before.counters.includes(x)),
    tunnels: now.tunnels.filter(x => !before.tunnels.includes(x)),
  };
}

function isThenable(x: unknown): x is PromiseLike<unknown> {
  return typeof x === 'object' && x !== null && 'then' in x && typeof x.then === 'function';
}

function handover(kext: Kext): unknown {
  try {
    return kext.handover?.();
  } catch {
    return undefined;
  }
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
