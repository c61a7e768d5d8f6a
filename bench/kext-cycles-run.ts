/**
 * One run of `kext`'s load and unload cycles, a process of its own (--expose-gc): one extension is loaded and unloaded again
 * and again on a host that receives frames as fast as one core can send them, and between all of it frames pass.
 *
 *   node --expose-gc dist/bench/kext-cycles-run.js NAME CYCLES
 *
 * Prints {"sent","received","lost","heapPercent","left","loadUs","unloadUs"}: `lost` is what neither arrived nor stands in a
 * counter, `left` what is not back where it was, in words.
 */

import { fileURLToPath } from 'node:url';
import { Catalog } from '../bundles/catalog.js';
import { InAddr } from '../stack/netinet/in.js';
import { cards, type Station } from './kext-frames-run.js';

/** Cycles before the first look: compiled code and full rings are heap too. */
const WARM_UP = 1500;

export interface KextCyclesRun {
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  readonly heapPercent: number;
  readonly left: readonly string[];
  readonly loadUs: number;
  readonly unloadUs: number;
}

/** Everything that must be back where it was. */
function inventory({ stack }: Station) {
  return {
    kexts: stack.kexts.list().length,
    protocols: stack.protocols.rows.length,
    domains: stack.protocols.domains.length,
    filters: stack.interfaces.filters.length,
    interfaces: stack.interfaces.list().length,
    'socket filters': stack.sflt.list.length,
    sysctls: stack.sysctl.list().length,
    counters: stack.counters.names().length,
    timers: stack.callouts.pending,
    subscribers: stack.events.subscribers,
    controls: stack.ctl.list().length,
    handles: process.getActiveResourcesInfo().length,
    'small mbufs': stack.pool.inUse.small,
    'jumbo mbufs': stack.pool.inUse.jumbo,
  };
}

export function kextCyclesRun(name: string, cycles: number): KextCyclesRun {
  const net = cards();
  const { b } = net;
  b.stack.interfaces.addAddress(b.ifp, InAddr.of('10.0.0.2'), 24);
  b.stack.host.sink = () => ({ write: bytes => bytes.length, close: () => {} });
  const catalog = new Catalog();
  const params = name === 'VLAN' ? { vlans: `${b.ifp.name}.10=10.1.0.2/24` } : {};
  let loadMs = 0;
  let unloadMs = 0;
  let now = 0;
  const pass = () => {
    net.batch();
    now += 1e6;
    b.stack.run(now);
  };
  const cycle = () => {
    const t0 = performance.now();
    const found = catalog.find(name);
    const r = b.stack.kexts.load(found.make(), { params });
    if (!r.ok) throw new Error(r.reason);
    const t1 = performance.now();
    pass();
    const t2 = performance.now();
    const u = b.stack.kexts.unload(found.manifest.identifier);
    if (!u.ok) throw new Error(u.reason);
    for (const k of b.stack.kexts.list().toReversed()) b.stack.kexts.unload(k.identifier); // what it had brought along
    const t3 = performance.now();
    pass();
    loadMs += t1 - t0;
    unloadMs += t3 - t2;
  };
  const heap = () => {
    globalThis.gc?.();
    globalThis.gc?.();
    return process.memoryUsage().heapUsed;
  };
  // What an interface does when it is new (duplicate address detection) is over, the event ring is full,
  // and the compiler has seen it all before the first look.
  now += 60e9;
  for (let i = 0; i < WARM_UP; i++) cycle();
  const before = inventory(b);
  const clusters = b.stack.pool.inUse.cluster;
  const heapBefore = heap();
  loadMs = unloadMs = 0;
  const { sent, received } = net.totals();
  for (let i = 0; i < cycles; i++) cycle();
  const heapAfter = heap();
  const after = inventory(b) as Record<string, number>;
  const left = Object.entries(before).flatMap(([what, n]) =>
    after[what] === n ? [] : [`${what}: ${n} → ${after[what]}`],
  );
  // Received frames stand in clusters that the ring has been given: their number varies within the ring.
  if (Math.abs(b.stack.pool.inUse.cluster - clusters) > 16) left.push('cluster mbufs');
  net.drain();
  const end = net.totals();
  net.close();
  return {
    sent: end.sent - sent,
    received: end.received - received,
    lost: end.sent - end.received - (sent - received),
    heapPercent: (heapAfter / heapBefore - 1) * 100,
    left,
    loadUs: (loadMs / cycles) * 1000,
    unloadUs: (unloadMs / cycles) * 1000,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  process.stdout.write(
    `${JSON.stringify(kextCyclesRun(process.argv[2] ?? 'LLDP', Number(process.argv[3] ?? 1000)))}\n`,
  );
