/** `lossy` as a row of the benchmarks: lossy.ts and the simulated network do the work. */

import { bulk } from '../simulation/bulk.js';
import { LOSSY_CELLS, type LossyCell, relayed } from './lossy.js';
import { missingUsrsctp } from './peers.js';
import type { Point, Scenario } from './scenario.js';

/** Seconds of slow start that do not count, and seconds that do. */
const SPAN = { skip: 5, seconds: 20 };
const QUICK = { skip: 1, seconds: 3 };
const span = (lab: { readonly options: { readonly quick: boolean } }) => (lab.options.quick ? QUICK : SPAN);

const cellOf = (p: Point): LossyCell => LOSSY_CELLS.find(c => c.loss * 100 === p.x)!;

const relay = (who: 'usrsctp' | 'nke') => async (p: Point, lab: Parameters<typeof span>[0], turn: number) => {
  const { skip, seconds } = span(lab);
  return { throughput: (await relayed(who, cellOf(p), turn, skip, seconds)).mbps };
};

export const lossy: Scenario = {
  name: 'lossy',
  about:
    'one association over a path of 100 Mb/s and 50 ms round trip with a queue of one bandwidth-delay product and random loss each way, after slow start',
  metrics: [{ name: 'throughput', unit: 'Mb/s', better: 'more' }],
  points: LOSSY_CELLS.map(c => ({ name: `${c.loss * 100} % loss`, x: c.loss * 100, quick: c.loss === 0.01 })),
  columns: [
    {
      name: 'nke',
      about: 'our stack in virtual time, another seed each run',
      kind: 'ours',
      async run(p, lab, turn) {
        const cell = cellOf(p);
        return { throughput: (await bulk({ ...cell, rtt: cell.rtt * 1e6, seed: turn, ...span(lab) })).mbps };
      },
    },
    {
      name: 'nke, real time',
      about: 'two appliances in real time through a relay with the same queue, delay and loss',
      kind: 'peer',
      run: relay('nke'),
    },
    {
      name: 'usrsctp',
      about: "FreeBSD's SCTP in user space through the same relay",
      kind: 'peer',
      missing: missingUsrsctp,
      run: relay('usrsctp'),
    },
  ],
  demands: [],
  plots: [{ title: 'Throughput over loss', xLabel: 'packets lost', over: 'points', metric: 'throughput' }],
  repeats: 3,
};
