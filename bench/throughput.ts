/** `bulk` and `messages`: one association, two processes, as fast as it goes, over UDP on loopback with packets of 1,500 bytes. */

import { packing } from './packing.js';
import {
  kernelSctpBulk,
  limitProgram,
  missingCompiler,
  missingKernelSctp,
  missingNpmPeer,
  missingUsrsctp,
  nkeBulk,
  npmBulk,
  type Transfer,
  usrsctpBulk,
} from './peers.js';
import type { Column, Metric, Point, Sample, Scenario } from './scenario.js';

const GBPS: Metric = { name: 'throughput', unit: 'Gb/s', better: 'more' };
const RATE: Metric = { name: 'rate', unit: 'messages/s', better: 'more' };

const sample = (t: Transfer): Sample => ({
  throughput: t.seconds > 0 ? (t.bytes * 8e-9) / t.seconds : Number.NaN,
  rate: t.seconds > 0 ? t.messages / t.seconds : Number.NaN,
});

/** A run in which nothing arrived is a failure, not a zero. */
function arrived(t: Transfer): Sample {
  if (!(t.bytes > 0 && t.seconds > 0)) throw new Error('nothing arrived');
  return sample(t);
}

/** The limit: trains of the packets that such messages fill, with their checksums, and nothing else. */
async function trains(message: number, seconds: number): Promise<Sample> {
  const { payload, user } = packing(message);
  const perTrain = Math.min(44, Math.floor(65_000 / payload));
  const r = await limitProgram<{ bytes: number; seconds: number; bad: number }>(
    'udp-train',
    [seconds, payload, perTrain],
    seconds,
  );
  if (r.bad !== 0) throw new Error(`${r.bad} bad checksums`);
  const bytes = (r.bytes / payload) * user;
  return arrived({ bytes, messages: bytes / message, seconds: r.seconds });
}

const MAX_DATAGRAM = 65_507;
/** Fewer system calls than messages would be another benchmark: for these sizes the columns below have nothing to say. */
const npmSkips = (p: Point): string | undefined =>
  p.x > 65_536 ? 'messages of more than 64 KiB are not tried' : undefined;

/** Columns over the message size, which is a point's x. */
const COLUMNS: readonly Column[] = [
  {
    name: 'nke',
    about: 'two appliances, UDP on loopback, MTU 1500',
    kind: 'ours',
    run: async (p, lab) => arrived(await nkeBulk({ message: p.x, seconds: lab.seconds })),
  },
  {
    name: 'usrsctp',
    about: "FreeBSD's SCTP in user space, two C programs, UDP on loopback, MTU 1500",
    kind: 'peer',
    missing: missingUsrsctp,
    run: async (p, lab) => arrived(await usrsctpBulk(p.x, lab.seconds)),
  },
  {
    name: 'kernel SCTP',
    about:
      "Linux's SCTP between two C programs over the loopback (MTU 1500) of one user-mode Linux guest: one processor, system calls some 70 us each; a lower bound of what the kernel does on bare metal",
    kind: 'peer',
    missing: missingKernelSctp,
    run: async (p, lab) => arrived(await kernelSctpBulk(lab, p.x)),
  },
  {
    name: 'npm sctp',
    about: 'npm package sctp 1.0.0, two Node processes, UDP on loopback',
    kind: 'peer',
    missing: () => missingNpmPeer('sctp'),
    skips: npmSkips,
    run: async (p, lab) => arrived(await npmBulk('sctp', p.x, lab.seconds)),
  },
  {
    name: 'npm werift',
    about: "npm package werift 0.25.2's SCTP class without its DTLS, two Node processes, UDP on loopback",
    kind: 'peer',
    missing: () => missingNpmPeer('werift'),
    skips: npmSkips,
    run: async (p, lab) => arrived(await npmBulk('werift', p.x, lab.seconds)),
  },
  {
    name: 'kernel TCP',
    about: "Linux's TCP on loopback (MTU 65536), one write a message, two C programs",
    kind: 'peer',
    missing: missingCompiler,
    run: async (p, lab) => arrived(await limitProgram('stream', ['tcp', p.x, lab.seconds], lab.seconds)),
  },
  {
    name: 'kernel UDP',
    about: "Linux's UDP on loopback, one datagram a message, what arrives of it, two C programs",
    kind: 'peer',
    missing: missingCompiler,
    skips: p => (p.x > MAX_DATAGRAM ? 'a datagram holds 65,507 bytes at most' : undefined),
    run: async (p, lab) => arrived(await limitProgram('stream', ['udp', p.x, lab.seconds], lab.seconds)),
  },
  {
    name: 'limit',
    about: 'bench/limit/udp-train.c: only the system calls and checksums of the same packets, two C programs',
    kind: 'limit',
    missing: missingCompiler,
    run: (p, lab) => trains(p.x, lab.seconds),
  },
];

export const bulk: Scenario = {
  name: 'bulk',
  about:
    'one association, two processes, UDP on loopback, packets of 1,500 bytes: throughput of user data over message size',
  metrics: [GBPS],
  points: [
    { name: '100 B', x: 100 },
    { name: '400 B', x: 400 },
    { name: '1,400 B', x: 1400, quick: true },
    { name: '8 KiB', x: 8 << 10 },
    { name: '64 KiB', x: 64 << 10, quick: true },
    { name: '1 MiB', x: 1 << 20 },
  ],
  columns: COLUMNS,
  demands: [
    {
      what: 'bulk, 1,400-byte messages: nke / usrsctp',
      point: '1,400 B',
      metric: 'throughput',
      over: 'usrsctp',
      atLeast: 20,
      unit: 'x',
    },
    {
      what: 'bulk, 1,400-byte messages: nke / C limit',
      point: '1,400 B',
      metric: 'throughput',
      over: 'limit',
      atLeast: 55,
      unit: '%',
    },
    {
      what: 'bulk, 64 KiB messages: nke / usrsctp',
      point: '64 KiB',
      metric: 'throughput',
      over: 'usrsctp',
      atLeast: 20,
      unit: 'x',
    },
  ],
  plots: [
    {
      title: 'Throughput over message size',
      xLabel: 'bytes a message',
      xLog: true,
      yLog: true,
      over: 'points',
      metric: 'throughput',
    },
  ],
};

export const messages: Scenario = {
  name: 'messages',
  about: 'one association, two processes, UDP on loopback: how many small messages a second, bundled as they fit',
  metrics: [RATE, GBPS],
  points: [{ name: '100 B', x: 100, quick: true }],
  columns: COLUMNS,
  demands: [
    {
      what: 'messages of 100 bytes: nke / usrsctp',
      point: '100 B',
      metric: 'rate',
      over: 'usrsctp',
      atLeast: 15,
      unit: 'x',
    },
  ],
  plots: [],
};
