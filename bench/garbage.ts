/**
 * `garbage`: bytes of JavaScript heap per data packet, socket to socket over two cards and a cable; and the pauses that V8's
 * collector makes in both processes of a long bulk run over UDP.
 */

import { nodeProgram } from './nodes.js';
import { nkePair } from './peers.js';
import type { Sample, Scenario } from './scenario.js';

export interface GarbageRun {
  readonly messages: number;
  /** Packets of both directions since the start, warm-up included. */
  readonly packets: number;
  /** Bytes allocated while `messages` were moved. */
  readonly garbage: number;
  /** Collections that fell into the measurement: must be 0 for `garbage` to be whole. */
  readonly collections: number;
  readonly seconds: number;
}

/** One run in a process of its own, with a young generation of 512 MiB. */
export function garbageRun(messages = 1_000_000): Promise<GarbageRun> {
  return nodeProgram<GarbageRun>('garbage-run', [messages], {
    flags: ['--expose-gc', '--max-semi-space-size=512', '--min-semi-space-size=512'],
    timeoutMs: 120_000,
  });
}

/** Seconds of the bulk run whose pauses are looked at. */
const BULK_SECONDS = 30;

export const garbage: Scenario = {
  name: 'garbage',
  about: `bytes of garbage per data packet on the data path, and the collector's pauses in ${BULK_SECONDS} s of bulk (a quick run: as long as --seconds says)`,
  metrics: [
    { name: 'garbage', unit: 'bytes/packet', better: 'less' },
    { name: 'longest pause', unit: 'ms', better: 'less' },
    { name: 'pauses', unit: 'ms/s', better: 'less' },
  ],
  points: [
    { name: 'data path', x: 0, quick: true },
    { name: 'bulk', x: 1, quick: true },
  ],
  columns: [
    {
      name: 'nke',
      about:
        'data path: a million messages of 1,400 bytes between two sockets in one process; bulk: the worse of the two processes of a bulk run with such messages',
      kind: 'ours',
      async run(p, lab): Promise<Sample> {
        if (p.x === 0) {
          const r = await garbageRun();
          if (r.collections > 0) throw new Error('a collection fell into the measurement');
          return { garbage: r.garbage / r.messages };
        }
        const seconds = lab.options.quick ? lab.seconds : BULK_SECONDS;
        const { server, client } = await nkePair('bulk', { message: 1400, seconds });
        return {
          'longest pause': Math.max(server.gc.longestMs, client.gc.longestMs),
          pauses: Math.max(server.gc.totalMs, client.gc.totalMs) / seconds,
        };
      },
    },
  ],
  demands: [
    // Less than one byte a packet: not even one number for every sixteenth.
    { what: 'garbage per packet', point: 'data path', metric: 'garbage', atMost: 1, unit: 'bytes' },
    {
      what: `longest pause of the collector in ${BULK_SECONDS} s of bulk`,
      point: 'bulk',
      metric: 'longest pause',
      atMost: 2,
      unit: 'ms',
    },
  ],
  plots: [],
  repeats: 3,
};
