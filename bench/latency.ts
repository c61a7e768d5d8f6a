/** `latency`: request and response of 64 bytes between two processes over loopback. */

import {
  kernelSctpPingpong,
  limitProgram,
  missingCompiler,
  missingKernelSctp,
  missingNpmPeer,
  missingUsrsctp,
  nkePair,
  npmPingpong,
  usrsctpPingpong,
} from './peers.js';
import type { Metric, Point, Sample, Scenario } from './scenario.js';
import { QUANTILES, quantileName } from './statistics.js';

const BYTES = 64;
const SHOWN = ['p50', 'p99', 'p99.9', 'max'];

// The first is what ratios are made of; the others, hidden, are for the plot.
const METRICS: readonly Metric[] = [
  ...SHOWN.map(name => ({ name, unit: 'us', better: 'less' as const })),
  ...QUANTILES.map(quantileName)
    .filter(name => !SHOWN.includes(name))
    .map(name => ({ name, unit: 'us', better: 'less' as const, hidden: true })),
];

const sample = (rttUs: readonly number[] | undefined): Sample => {
  if (rttUs === undefined || rttUs.length !== QUANTILES.length || !(rttUs[0]! > 0)) throw new Error('no round trip');
  return Object.fromEntries(QUANTILES.map((q, i) => [quantileName(q), rttUs[i]!]));
};

const SPIN = 'busy-poll';
const SLEEP = 'sleeping';
const spins = (p: Point) => p.name === SPIN;
const neverSpins = (p: Point) => (spins(p) ? 'it always sleeps: see that line' : undefined);

async function kernel(kind: 'udp' | 'tcp', p: Point, seconds: number): Promise<Sample> {
  const args = [kind, spins(p) ? 'spin' : 'sleep', BYTES, seconds];
  return sample((await limitProgram<{ rttUs: number[] }>('pingpong', args, seconds)).rttUs);
}

export const latency: Scenario = {
  name: 'latency',
  about: `request and response of ${BYTES} bytes, two processes over UDP on loopback; busy-poll: both spin, one core each`,
  metrics: METRICS,
  points: [
    { name: SPIN, x: 0, quick: true },
    { name: SLEEP, x: 1, quick: true },
  ],
  columns: [
    {
      name: 'nke',
      about: 'two appliances, UDP on loopback',
      kind: 'ours',
      run: async (p, lab) =>
        sample((await nkePair('pingpong', { message: BYTES, seconds: lab.seconds, busyPoll: spins(p) })).client.rttUs),
    },
    {
      name: 'usrsctp',
      about: "FreeBSD's SCTP in user space, two C programs, UDP on loopback",
      kind: 'peer',
      missing: missingUsrsctp,
      skips: neverSpins,
      run: async (_p, lab) => sample(await usrsctpPingpong(BYTES, lab.seconds)),
    },
    {
      name: 'kernel SCTP',
      about: "Linux's SCTP over the loopback of one user-mode Linux guest of one processor",
      kind: 'peer',
      missing: missingKernelSctp,
      skips: neverSpins,
      run: async (_p, lab) => sample(await kernelSctpPingpong(lab, BYTES)),
    },
    ...(['sctp', 'werift'] as const).map(name => ({
      name: `npm ${name}`,
      about: `npm package ${name}, two Node processes, UDP on loopback`,
      kind: 'peer' as const,
      missing: () => missingNpmPeer(name),
      skips: neverSpins,
      run: async (_p: Point, lab: { readonly seconds: number }) => sample(await npmPingpong(name, BYTES, lab.seconds)),
    })),
    {
      name: 'kernel TCP',
      about: "Linux's TCP on loopback, TCP_NODELAY, two C programs",
      kind: 'peer',
      missing: missingCompiler,
      run: (p, lab) => kernel('tcp', p, lab.seconds),
    },
    {
      name: 'limit',
      about: 'bench/limit/pingpong.c: kernel UDP on loopback, two C programs',
      kind: 'limit',
      missing: missingCompiler,
      run: (p, lab) => kernel('udp', p, lab.seconds),
    },
  ],
  demands: [
    {
      what: 'latency, 64 bytes, busy-poll: p50 of nke / of the C UDP ping-pong',
      point: SPIN,
      metric: 'p50',
      over: 'limit',
      atMost: 1.5,
      unit: 'x',
    },
    { what: 'latency, 64 bytes, busy-poll: p99.9', point: SPIN, metric: 'p99.9', atMost: 1000, unit: 'us' },
  ],
  plots: [{ title: 'Round trips, distribution', xLabel: 'share of round trips', over: 'quantiles', yLog: true }],
};
