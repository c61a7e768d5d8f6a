/**
 * `links`: bulk over a real interface, the ports packet: and xdp: on a veth pair between two namespaces that the run makes, MTU
 * 1500, SCTP straight over IP; against a C program that moves the same bytes through the same kind of ring.
 */

import { Netns, skipWithoutNetns } from '../vm/netns.js';
import { packing } from './packing.js';
import { type Launch, limitProgram, missingCompiler, nkeBulk } from './peers.js';
import type { Point, Scenario } from './scenario.js';

const MESSAGE = 1400;
/** SCTP's room in a packet of 1,500 bytes: IPv4 takes 20, there is no UDP. */
const SCTP_ROOM = 1480;
const [NEAR, FAR] = ['nkea', 'nkeb'] as const;

/** Two namespaces joined by a veth pair; gone when `body` has ended, with all that was started in them. */
async function betweenNamespaces<T>(body: (near: Netns, far: Netns) => Promise<T>): Promise<T> {
  using near = new Netns();
  using far = new Netns();
  near.addVeth(NEAR, FAR, { other: far });
  return await body(near, far);
}

const within =
  (ns: Netns): Launch =>
  (argv, timeoutMs) =>
    ns.start(argv, { timeoutMs });

async function ours(kind: string, seconds: number) {
  return betweenNamespaces(async (near, far) => {
    const server = { argv: ['--port', `${kind}:${FAR}`, '--address', '10.77.0.2/24'], launch: within(far) };
    const client = {
      argv: ['--port', `${kind}:${NEAR}`, '--address', '10.77.0.1/24', '--remote', '10.77.0.2'],
      launch: within(near),
    };
    return nkeBulk({ message: MESSAGE, seconds, server, client });
  });
}

interface Ring {
  readonly frames: number;
  readonly seconds: number;
  /** Frames whose CRC32c was wrong. */
  readonly bad: number;
}

/** The C programs move frames of the size that such packets have, CRC32c and all. */
const FRAME = 14 + 20 + packing(MESSAGE, SCTP_ROOM).payload;

const LIMITS: Readonly<Record<string, (seconds: number) => Promise<Ring>>> = {
  packet: seconds =>
    betweenNamespaces((near, far) => {
      const path = (ns: Netns) => `/run/netns/${ns.name}`;
      return limitProgram<Ring>('packet-ring', [seconds, path(near), NEAR, path(far), FAR, FRAME, 1], seconds);
    }),
  // It makes its namespaces itself.
  xdp: seconds => limitProgram<Ring>('xdp-ring', [seconds, FRAME], seconds),
};

async function limit(kind: string, seconds: number): Promise<number> {
  const r = await LIMITS[kind]!(seconds);
  if (r.bad !== 0) throw new Error(`${r.bad} bad checksums`);
  return (r.frames * packing(MESSAGE, SCTP_ROOM).user * 8e-9) / r.seconds;
}

const kindOf = (p: Point): string => p.name.replace(':', '');

export const links: Scenario = {
  name: 'links',
  about:
    'bulk with 1,400-byte messages over the ports packet: and xdp:, a veth pair between two namespaces, MTU 1500: throughput of user data',
  metrics: [{ name: 'throughput', unit: 'Gb/s', better: 'more' }],
  points: [
    { name: 'packet:', x: 0, quick: true },
    { name: 'xdp:', x: 1, quick: true },
  ],
  columns: [
    {
      name: 'nke',
      about: 'two appliances, one in each namespace, SCTP over IP over Ethernet',
      kind: 'ours',
      missing: () => skipWithoutNetns() || undefined,
      async run(p, lab) {
        const t = await ours(kindOf(p), lab.seconds);
        if (!(t.bytes > 0)) throw new Error('nothing arrived');
        return { throughput: (t.bytes * 8e-9) / t.seconds };
      },
    },
    {
      name: 'limit',
      about: 'bench/limit/packet-ring.c and xdp-ring.c: the same frames through the same rings, two C programs',
      kind: 'limit',
      missing: () => skipWithoutNetns() || missingCompiler(),
      run: async (p, lab) => ({ throughput: await limit(kindOf(p), lab.seconds) }),
    },
  ],
  demands: ['packet:', 'xdp:'].map(point => ({
    what: `bulk over ${point} on a veth pair, MTU 1500: nke / C limit`,
    point,
    metric: 'throughput',
    over: 'limit',
    atLeast: 75,
    unit: '%',
  })),
  plots: [],
};
