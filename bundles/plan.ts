/**
 * The preference list: which extensions to load at boot, in which order, where, with which parameters. All of it is
 * checked before the first is loaded: that they exist, are signed, compile, that their dependencies can be had in the
 * versions they want and in this order, interfaces and parameters. Complaints carry a JSON pointer, so that the command
 * line names the line.
 */

import { compareVersions, type Kext, type KextManifest, KPI_IDENTIFIER, KPI_VERSION } from '../stack/kern/kext.js';
import { paramValues } from '../stack/kern/kextparam.js';
import type { ParamValue } from '../stack/kern/kpi.js';
import type { Catalog, Found } from './catalog.js';
import { BundleError } from './error.js';

/** An entry of the list: a name, or what to load with where and how. Either `name` or `bundle` is given. */
export interface KextEntry {
  readonly name?: string;
  /** Path of a bundle. */
  readonly bundle?: string;
  /** Interfaces; none: all. */
  readonly on?: readonly string[];
  readonly params?: Readonly<Record<string, ParamValue>>;
}
export type KextPreference = string | KextEntry;

export interface PlanStep {
  readonly found: Found;
  readonly make: () => Kext;
  readonly on: readonly string[];
  readonly params: Readonly<Record<string, ParamValue>>;
}
export interface PlanComplaint {
  /** JSON pointer below the list: "/0/params/limit". */
  readonly pointer: string;
  readonly text: string;
}

const says = (e: unknown): string => {
  if (e instanceof BundleError) return e.message;
  throw e;
};

/** Checks a list and gives what to do, or complaints. `interfaces`: names that there will be. Runs no code of extensions. */
export function planKexts(
  list: readonly KextPreference[],
  catalog: Catalog,
  interfaces: readonly string[],
  base?: string,
): { steps: readonly PlanStep[] } | { complaints: readonly PlanComplaint[] } {
  const steps: PlanStep[] = [];
  const complaints: PlanComplaint[] = [];
  /** Identifier to version, of what is loaded by then. */
  const loaded = new Map<string, string>([[KPI_IDENTIFIER, KPI_VERSION]]);
  /** Where each was asked for, by hand. */
  const asked = new Map<string, number>();
  for (const [i, entry] of list.entries()) {
    const e: KextEntry = typeof entry === 'string' ? { name: entry } : entry;
    const at = (key: string) => (typeof entry === 'string' ? `/${i}` : `/${i}/${key}`);
    let found: Found;
    try {
      const what = e.bundle ?? e.name ?? '';
      found = catalog.find(e.bundle === undefined || what.includes('/') ? what : `./${what}`, base);
      found.check();
    } catch (error) {
      complaints.push({ pointer: at(e.bundle === undefined ? 'name' : 'bundle'), text: says(error) });
      continue;
    }
    const { identifier, version } = found.manifest;
    const before = asked.get(identifier);
    if (before !== undefined)
      complaints.push({ pointer: `/${i}`, text: `${identifier} is there already, as entry ${before + 1}` });
    else if (loaded.has(identifier))
      complaints.push({
        pointer: `/${i}`,
        text: `${identifier} is loaded by an entry before this one that needs it; put this entry in front of that one`,
      });
    asked.set(identifier, i);
    const why = missing(found, catalog, loaded, [identifier]);
    if (why !== undefined) complaints.push({ pointer: `/${i}`, text: why });
    loaded.set(identifier, version);
    for (const [k, name] of (e.on ?? []).entries())
      if (!interfaces.includes(name))
        complaints.push({
          pointer: `${at('on')}/${k}`,
          text: `there is no interface "${name}"; there are ${interfaces.join(', ')}`,
        });
    const values = paramValues(found.manifest.parameters ?? {}, e.params ?? {});
    if ('complaint' in values) complaints.push({ pointer: `${at('params')}/${values.name}`, text: values.complaint });
    const make = found.make;
    steps.push({ found, make, on: e.on ?? [], params: e.params ?? {} });
  }
  return complaints.length > 0 ? { complaints } : { steps };
}

/** Why the dependencies of an extension cannot be met; undefined, with `loaded` grown by what they bring, when they can. */
function missing(
  found: Found,
  catalog: Catalog,
  loaded: Map<string, string>,
  chain: readonly string[],
): string | undefined {
  const m: KextManifest = found.manifest;
  for (const [id, least] of Object.entries(m.dependencies)) {
    if (chain.includes(id)) return `a dependency cycle: ${[...chain, id].join(' needs ')}`;
    let version = loaded.get(id);
    if (version === undefined) {
      let other: Found | undefined;
      try {
        other = catalog.dependency(id, found.path);
        other?.check();
      } catch (error) {
        return `${m.identifier} needs ${id}: ${says(error)}`;
      }
      if (other === undefined) return `${m.identifier} needs ${id} ${least} or later, which is nowhere to be found`;
      const why = missing(other, catalog, loaded, [...chain, id]);
      if (why !== undefined) return why;
      version = other.manifest.version;
      loaded.set(id, version);
    }
    if (compareVersions(version, least) < 0)
      return `${m.identifier} needs ${id} ${least} or later; there is ${version}`;
  }
  return undefined;
}
