/** `associations`: many of them in one process, both ends, in virtual time: memory of each, set-up rate, throughput over all. */

import type { AssociationsRun } from './associations-run.js';
import { nodeProgram } from './nodes.js';
import type { Scenario } from './scenario.js';

/** Messages of 1,000 bytes sent over all associations of a run. */
const MESSAGES = 200_000;
const QUICK_MESSAGES = 20_000;

export const associations: Scenario = {
  name: 'associations',
  about:
    'N associations from clients to one one-to-many socket, both ends in one process on one core: memory of each end when idle, set-up rate, throughput over all in turn',
  metrics: [
    { name: 'memory', unit: 'bytes', better: 'less' },
    { name: 'resident', unit: 'bytes', better: 'less' },
    { name: 'set-up', unit: 'per s', better: 'more' },
    { name: 'throughput', unit: 'Gb/s', better: 'more' },
  ],
  points: [
    { name: '1', x: 1, quick: true },
    { name: '1,000', x: 1000, quick: true },
    { name: '100,000', x: 100_000 },
  ],
  columns: [
    {
      name: 'nke',
      about:
        "memory: V8's heap and what it holds outside; resident: growth of the process; both for each end, after a full collection",
      kind: 'ours',
      async run(p, lab) {
        const messages = lab.options.quick ? QUICK_MESSAGES : MESSAGES;
        const r = await nodeProgram<AssociationsRun>('associations-run', [p.x, messages], {
          flags: ['--expose-gc', '--max-old-space-size=8192'],
          timeoutMs: 300_000,
        });
        return {
          memory: r.heapEach,
          resident: r.residentEach,
          'set-up': r.associations / r.setUpSeconds,
          throughput: (r.messages * 8000) / r.seconds / 1e9,
        };
      },
    },
  ],
  demands: [
    {
      what: '100,000 idle associations in one process: memory of each',
      point: '100,000',
      metric: 'memory',
      atMost: 4096,
      unit: 'bytes',
    },
    { what: '100,000 associations: set-up', point: '100,000', metric: 'set-up', atLeast: 20_000, unit: 'per s' },
  ],
  plots: [
    {
      title: 'Memory of each association',
      xLabel: 'associations',
      xLog: true,
      yLog: true,
      over: 'points',
      metric: 'memory',
    },
    { title: 'Set-up rate', xLabel: 'associations', xLog: true, over: 'points', metric: 'set-up' },
    { title: 'Throughput over all', xLabel: 'associations', xLog: true, over: 'points', metric: 'throughput' },
  ],
  repeats: 3,
};
