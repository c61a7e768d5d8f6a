/**
 * `nke kext test`: runs the tests of a bundle without a build. A test may import node:test, node:assert/strict, nke/kpi,
 * files of the bundle, and `nke/testing`, which gives it a small network in virtual time with the extension to be loaded.
 */

import assert from 'node:assert/strict';
import * as nodeTest from 'node:test';
import { MSEC } from '../stack/kern/clock.js';
import type { KextResult, LoadOptions } from '../stack/kern/kext.js';
import * as kpi from '../stack/kpi.js';
import type { Stack } from '../stack/stack.js';
import { type VirtualLink, VirtualNet } from '../stack/testing.js';
import { Bundle } from './bundle.js';
import { Catalog } from './catalog.js';
import { BundleError } from './error.js';
import { timeGuard } from './guard.js';
import { type Namespace, Program } from './link.js';

/** Two hosts, 10.0.0.1 and 10.0.0.2, on a link of 1 ms; the extension of the bundle is loaded on the first. */
export interface KextNetwork {
  readonly identifier: string;
  readonly a: Stack;
  readonly b: Stack;
  readonly link: VirtualLink;
  load(options?: LoadOptions): KextResult;
  unload(): KextResult;
  /** Lets virtual time go on by so many milliseconds. */
  run(ms?: number): void;
  /** Everything that is registered on the first host, and mbufs in use: the same before and after. */
  inventory(): unknown;
}

/**
 * For tests of a bundle (`import { network } from 'nke/testing'`): a fresh network with its extension to be loaded. What
 * `nke kext test` puts in this one's place knows the bundle; the types are for editors.
 */
export function network(): KextNetwork {
  throw new Error('run the tests of a bundle with: nke kext test ./NAME.kext');
}

function makeNetwork(catalog: Catalog, path: string): KextNetwork {
  const found = catalog.bundle(path);
  const net = new VirtualNet({ seed: 1 });
  const a = net.addHost('a');
  const b = net.addHost('b');
  const link = net.link(a, b, { delay: MSEC, noarp: true, addresses: [['10.0.0.1/24'], ['10.0.0.2/24']] });
  a.kexts.guard = timeGuard();
  const { identifier } = found.manifest;
  return {
    identifier,
    a,
    b,
    link,
    load: options => a.kexts.load(found.make(), options),
    unload: () => a.kexts.unload(identifier),
    run: (ms = 10) => net.run(ms * MSEC),
    inventory: () => ({
      kexts: a.kexts.list().map(k => k.identifier),
      protocols: a.protocols.rows.length,
      domains: a.protocols.domains.length,
      filters: a.interfaces.filters.length,
      interfaces: a.interfaces.list().map(i => i.name),
      socketFilters: a.sflt.list.length,
      sysctls: a.sysctl.list().length,
      counters: a.counters.names().length,
      tunnels: a.udp.tunnels,
      timers: a.callouts.pending,
      subscribers: a.events.subscribers,
      controls: a.ctl.list(),
      mbufs: a.pool.inUse,
    }),
  };
}

/**
 * Runs every *.test.ts of a bundle in this process, by node:test, which reports and sets the exit status at the end.
 * Returns their names. Throws BundleError when there is none or one does not compile.
 */
export function runTests(path: string): readonly string[] {
  const bundle = new Bundle(path, { allowUnsigned: true });
  const tests = [...bundle.files.keys()].filter(f => /\.test\.(ts|js)$/.test(f)).sort();
  if (tests.length === 0) throw new BundleError('ENOENT', `${bundle.name} has no *.test.ts`);
  const catalog = new Catalog({ allowUnsigned: true });
  const builtins: Record<string, Namespace> = {
    'nke/kpi': kpi,
    // Its own, not `network`: tests run later, when others may have been registered.
    'nke/testing': { network: () => makeNetwork(catalog, bundle.path) },
    'node:test': { ...nodeTest, default: nodeTest.test },
    'node:assert/strict': { ...assert, default: assert },
  };
  const sources = new Map<string, string>();
  for (const [file, data] of bundle.files) if (/\.(ts|js)$/.test(file)) sources.set(file, data.toString('utf8'));
  const programs = tests.map(t => new Program(bundle.name, sources, t, new Set(Object.keys(builtins))));
  for (const p of programs) p.instantiate(builtins);
  return tests;
}
