/** `frames`: 64 to 1,514 byte frames from driver to card to cable to card to driver, and out of each real port. */

import { framesOverPort, portKinds, skipWithoutPort } from './frames-port.js';
import type { FramesRun } from './frames-run.js';
import { nodeProgram } from './nodes.js';
import type { Column, Sample, Scenario } from './scenario.js';

/** Preamble, start of frame and the gap between frames: what a frame takes of the line besides itself (IEEE 802.3). */
const LINE_OVERHEAD = 20;

const sample = (frames: number, seconds: number, bytes: number): Sample => ({
  rate: frames / seconds / 1e6,
  line: ((bytes + LINE_OVERHEAD) * 8 * frames) / seconds / 1e9,
});

/** Our card is not in it: what a port's medium takes by itself. The cable alone says nothing more than the first column. */
const PORTS: readonly Column[] = portKinds
  .filter(kind => kind !== 'wire')
  .map(kind => ({
    name: `${kind} port`,
    about: `the same frames out of a ${kind}: port of the machine into another one, two processes`,
    kind: 'peer' as const,
    missing: () => skipWithoutPort(kind) || undefined,
    async run(p, lab) {
      const r = await framesOverPort(kind, p.x, lab.seconds);
      return sample(r.frames, r.seconds, p.x);
    },
  }));

export const frames: Scenario = {
  name: 'frames',
  about:
    'driver -> rings -> firmware -> cable -> firmware -> rings -> driver in one process on one core, and out of each real port; sizes with FCS',
  metrics: [
    { name: 'rate', unit: 'million/s', better: 'more' },
    { name: 'line', unit: 'Gb/s on the line', better: 'more' },
  ],
  points: [64, 128, 256, 512, 1024, 1280, 1514].map(x => ({
    name: `${x === 1514 ? '1,514' : x.toLocaleString('en')} B`,
    x,
    quick: x === 64 || x === 1514,
  })),
  columns: [
    {
      name: 'nke',
      about: 'two cards and their drivers, joined by a cable in memory',
      kind: 'ours',
      async run(p, lab) {
        const r = await nodeProgram<FramesRun>('frames-run', [p.x, lab.seconds], {
          timeoutMs: (lab.seconds + 30) * 1000,
        });
        return sample(r.frames, r.seconds, p.x);
      },
    },
    ...PORTS,
  ],
  demands: [
    {
      what: 'frames of 64 bytes, driver to driver over two cards, one core',
      point: '64 B',
      metric: 'rate',
      atLeast: 14.88,
      unit: 'million/s',
    },
  ],
  plots: [{ title: 'Frames over their size', xLabel: 'bytes a frame', yLog: true, over: 'points', metric: 'rate' }],
};
