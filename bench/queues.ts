/** `queues`: one worker appliance on one processor against two on two (workers.ts): frames, bulk transfer, set-up. */

import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { native } from '../nic/native.js';
import { Netns, skipWithoutNetns } from '../vm/netns.js';
import { nodeProgram } from './nodes.js';
import { lastJson } from './peers.js';
import type { QueuesRun } from './queues-run.js';
import type { Column, Point, Sample, Scenario } from './scenario.js';

interface Work {
  readonly work: string;
  readonly medium: '-' | 'udp' | 'packet';
  readonly metric: string;
  /** What the program's number is divided by. */
  readonly per: number;
}
/** What is measured at each point. */
const WORK: Readonly<Record<string, Work>> = {
  'frames of 64 B': { work: 'frames', medium: '-', metric: 'frames', per: 1e6 },
  'bulk, 1,400 B': { work: 'bulk', medium: 'udp', metric: 'throughput', per: 1e9 },
  'bulk over packet': { work: 'bulk', medium: 'packet', metric: 'throughput', per: 1e9 },
  'set-up': { work: 'set-up', medium: 'udp', metric: 'set-up', per: 1 },
};

const missing = (): string | undefined =>
  native === undefined
    ? 'worker appliances need the C module: run "npm run build"'
    : availableParallelism() < 2
      ? 'two queues need two processors'
      : undefined;

/** The program in a namespace with both ends of a veth pair. */
async function onVeth(args: readonly (string | number)[], timeoutMs: number): Promise<QueuesRun> {
  using ns = new Netns();
  ns.addVeth('nkea', 'nkeb');
  const program = fileURLToPath(new URL('./queues-run.js', import.meta.url));
  await using child = ns.start([process.execPath, program, ...args.map(String)], { timeoutMs });
  return await lastJson<QueuesRun>(child);
}

const skips = (p: Point): string | undefined =>
  WORK[p.name]!.medium === 'packet' ? skipWithoutNetns() || undefined : undefined;

async function run(p: Point, seconds: number, servers: string, clients: string): Promise<Sample> {
  const { work, medium, metric, per } = WORK[p.name]!;
  const args = [work, medium, seconds, servers, clients];
  const timeoutMs = (seconds + 40) * 1000;
  const r = await (medium === 'packet'
    ? onVeth(args, timeoutMs)
    : nodeProgram<QueuesRun>('queues-run', args, { timeoutMs }));
  if (!(r.rate > 0)) throw new Error('nothing arrived');
  return { [metric]: r.rate / per, steered: r.steered };
}

const column = (name: string, about: string, servers: string, clients: string, more: Partial<Column> = {}): Column => ({
  name,
  about,
  kind: 'ours',
  missing,
  skips,
  run: (p, lab) => run(p, lab.seconds, servers, clients),
  ...more,
});

export const queues: Scenario = {
  name: 'queues',
  about:
    'one worker appliance on one processor against two on two: frames from driver to driver over two cards and a cable for each worker; bulk on 16 associations, by UDP on loopback and by packet: over a veth pair; set-up and ABORT of associations. Both ends work on the same processors',
  metrics: [
    { name: 'frames', unit: 'million/s', better: 'more' },
    { name: 'throughput', unit: 'Gb/s', better: 'more' },
    { name: 'set-up', unit: 'per s', better: 'more' },
    { name: 'steered', unit: 'packets passed on', better: 'less', hidden: true },
  ],
  points: Object.keys(WORK).map((name, x) => ({ name, x, quick: true })),
  columns: [
    column('nke', 'two queues: two workers at each end, one on each of two processors', '0,1', '0,1'),
    column('1 queue', 'one worker at each end, both on one processor', '0', '0', { kind: 'peer' }),
    column('1 queue, 2 processors', 'one worker at each end, each on a processor of its own', '0', '1', {
      kind: 'peer',
      skips: p => (WORK[p.name]!.work === 'frames' ? 'frames have no other end' : skips(p)),
    }),
  ],
  demands: Object.entries(WORK).map(([point, { metric }]) => ({
    what: `${point}: two queues / one`,
    point,
    metric,
    over: '1 queue',
    atLeast: 1.2,
    unit: 'x',
  })),
  plots: [],
};
