/**
 * `kext`: what extensions cost. Frames a second with a filter that only counts and after it has gone; a thousand loads and
 * unloads of each shipped extension under full traffic; the time from a pulled cable to the first packet on the other path;
 * ten virtual minutes of sleep.
 */

import { Simulation } from '../simulation.js';
import { AsyncSocket, sockaddrs } from '../sockets/index.js';
import { measureFailover } from './failover.js';
import type { KextCyclesRun } from './kext-cycles-run.js';
import type { KextFramesRun } from './kext-frames-run.js';
import { nodeProgram } from './nodes.js';
import type { Demand, Sample, Scenario } from './scenario.js';

const CYCLES = 1000;
/** In the order of the shipped extensions; SCTP brings SCTPSupport along. */
const EXTENSIONS = ['SCTP', 'SCTPSupport', 'PacketLog', 'VLAN', 'LLDP', 'UDPLite', 'SockGuard'] as const;
const MINUTES = 10;
/** One way, ns: a round trip of 10 ms. */
const DELAY_US = 5000;

/** One run in a process of its own. */
export function kextCycles(name: string, cycles = CYCLES): Promise<KextCyclesRun> {
  return nodeProgram<KextCyclesRun>('kext-cycles-run', [name, cycles], { flags: ['--expose-gc'], timeoutMs: 120_000 });
}

/**
 * Round trips from waking to the first new data at the receiver, after `minutes` of virtual sleep; and what ended meanwhile.
 * With `flying` the hosts fall asleep while packets are under way, which are lost; else all is acknowledged, and a message is
 * sent at waking.
 */
export async function sleepRun(flying: boolean, minutes = MINUTES): Promise<{ roundTrips: number; ended: number }> {
  const sim = new Simulation(7);
  try {
    const make = (n: number) =>
      sim.create({
        cards: ['x', 'y'].map((w, i) => ({
          port: `wire:${w}`,
          addresses: [`10.0.${i}.${n}/24`],
          faults: { seed: 1, delay: DELAY_US },
        })),
        kexts: ['SCTP'],
      });
    const [a, b] = [make(1), make(2)];
    sim.run(() => [...a.cards, ...b.cards].every(c => c.ifp.running), { virtual: 10e9 });
    const listener = AsyncSocket.create(b);
    const socket = AsyncSocket.create(a);
    listener.bind(...sockaddrs(['10.0.0.2', '10.0.1.2'], 7));
    listener.listen();
    let up = false;
    void socket.connect(sockaddrs(['10.0.0.2', '10.0.1.2'], 7)).then(() => {
      up = true;
    });
    await sim.runAsync(() => up, { virtual: 10e9 });
    const accepted = await listener.accept();
    const data = Buffer.alloc(1000);
    for (let i = 0; i < 100; i++) socket.trySend(data);
    let got = 0;
    const take = () => {
      while (accepted.tryRecvInto(data) > 0) got++;
      return got;
    };
    await sim.runAsync(() => take() >= (flying ? 20 : 100), { virtual: 10e9 });
    if (!flying) sim.pass(1e9);
    a.sleep('bench');
    b.sleep('bench');
    sim.pass(minutes * 60e9);
    const before = take();
    a.wake('bench');
    b.wake('bench');
    const woken = sim.clock.now;
    if (!flying) socket.trySend(data);
    if (!(await sim.runAsync(() => take() > before, { virtual: 10e9 }))) throw new Error('no data moved after waking');
    const roundTrips = (sim.clock.now - woken) / (2 * DELAY_US * 1000);
    if (!(await sim.runAsync(() => take() === (flying ? 100 : 101), { virtual: 60e9 })))
      throw new Error(`only ${got} messages came`);
    const { sctp = {} } = a.counters();
    for (const s of [socket, accepted, listener]) s.close();
    return { roundTrips, ended: (sctp.sctps_aborted ?? 0) + (sctp.sctps_timeoutassoc ?? 0) };
  } finally {
    await sim.close();
  }
}

const cyclesDemands: readonly Demand[] = EXTENSIONS.flatMap(name => {
  const cycles = `${CYCLES.toLocaleString('en')} loads and unloads of ${name}.kext under traffic`;
  return [
    { what: `${cycles}: frames lost without a reason`, point: name, metric: 'lost', atMost: 0, unit: 'frames' },
    { what: `${cycles}: things not back where they were`, point: name, metric: 'left', atMost: 0, unit: '' },
    { what: `${cycles}: the heap, over the heap before`, point: name, metric: 'heap', atMost: 105, unit: '%' },
  ];
});

export const kext: Scenario = {
  name: 'kext',
  about: 'what extensions cost: a filter that counts, loads and unloads under traffic, a pulled cable, a long sleep',
  metrics: [
    { name: 'rate', unit: 'million/s', better: 'more' },
    { name: 'counting', unit: 'x', better: 'more' },
    { name: 'unloaded', unit: 'x', better: 'more' },
    { name: 'load', unit: 'µs', better: 'less' },
    { name: 'unload', unit: 'µs', better: 'less' },
    { name: 'lost', unit: 'frames', better: 'less' },
    { name: 'left', unit: '', better: 'less' },
    { name: 'heap', unit: 'x', better: 'less' },
    { name: 'failover', unit: 'ms', better: 'less' },
    { name: 'round trips', unit: 'RTT', better: 'less' },
    { name: 'ended', unit: 'associations', better: 'less' },
  ],
  points: [
    { name: 'filter', x: 0, quick: true },
    ...EXTENSIONS.map((name, i) => ({ name, x: i + 1, quick: name === 'VLAN' })),
    { name: 'cable', x: EXTENSIONS.length + 1, quick: true },
    { name: 'sleep', x: EXTENSIONS.length + 2, quick: true },
    { name: 'sleep, data under way', x: EXTENSIONS.length + 3, quick: true },
  ],
  columns: [
    {
      name: 'nke',
      about:
        'filter: 64-byte frames from dlil over two cards to dlil, shares of the rate without a filter; NAME: a host that receives frames all the time; cable: two appliances, two paths; sleep: in virtual time',
      kind: 'ours',
      async run(p, lab): Promise<Sample> {
        if (p.name === 'filter') {
          const r = await nodeProgram<KextFramesRun>('kext-frames-run', [64, lab.seconds], {
            timeoutMs: (lab.seconds + 60) * 1000,
          });
          if (r.counted !== r.passed) throw new Error(`the filter saw ${r.counted} of ${r.passed} frames`);
          return {
            rate: r.none / 1e6,
            counting: r.counting / r.none,
            unloaded: r.unloaded / r.none,
            load: r.loadUs,
            unload: r.unloadUs,
          };
        }
        if (p.name === 'cable') {
          const { samples } = await measureFailover('wire');
          return { failover: Math.max(...samples) };
        }
        if (p.name.startsWith('sleep')) {
          const r = await sleepRun(p.name !== 'sleep');
          return { 'round trips': r.roundTrips, ended: r.ended };
        }
        const r = await kextCycles(p.name);
        return { lost: r.lost, left: r.left.length, heap: 1 + r.heapPercent / 100, load: r.loadUs, unload: r.unloadUs };
      },
    },
  ],
  demands: [
    {
      what: 'frames with a data-link filter that only counts, over frames without',
      point: 'filter',
      metric: 'counting',
      atLeast: 90,
      unit: '%',
    },
    {
      what: 'frames after the filter has been unloaded, over frames before',
      point: 'filter',
      metric: 'unloaded',
      atLeast: 98,
      unit: '%',
    },
    ...cyclesDemands,
    {
      what: 'cable pulled: first packet on the other path, the slowest of 20',
      point: 'cable',
      metric: 'failover',
      atMost: 5,
      unit: 'ms',
    },
    {
      what: `${MINUTES} virtual minutes of sleep: round trips until data moves`,
      point: 'sleep',
      metric: 'round trips',
      atMost: 1,
      unit: 'RTT',
    },
    {
      what: `${MINUTES} virtual minutes of sleep: associations that ended`,
      point: 'sleep',
      metric: 'ended',
      atMost: 0,
      unit: 'associations',
    },
    {
      what: `${MINUTES} virtual minutes of sleep that began with data under way: round trips until data moves`,
      point: 'sleep, data under way',
      metric: 'round trips',
      atMost: 1,
      unit: 'RTT',
    },
  ],
  plots: [],
  repeats: 3,
};
