/** `garbage`: bytes of JavaScript heap per packet on the data path, socket to socket over two cards and a cable. */

import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BenchResult, result } from './result.js';

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
export function garbageRun(messages = 1_000_000): GarbageRun {
  const program = join(dirname(fileURLToPath(import.meta.url)), 'garbage-run.js');
  const done = spawnSync(
    process.execPath,
    ['--expose-gc', '--max-semi-space-size=512', '--min-semi-space-size=512', program, String(messages)],
    {
      encoding: 'utf8',
      timeout: 120_000,
    },
  );
  if (done.status !== 0) throw new Error(`the garbage run failed: ${done.stderr}`);
  return JSON.parse(done.stdout) as GarbageRun;
}

export async function garbage(o: { runs: number; progress?: (text: string) => void }): Promise<BenchResult> {
  const samples: number[] = [];
  for (let i = 1; i <= o.runs; i++) {
    const r = garbageRun();
    if (r.collections > 0) throw new Error('a collection fell into the measurement');
    samples.push(r.garbage / r.messages);
    o.progress?.(
      `garbage ${i}/${o.runs}: ${samples.at(-1)!.toFixed(2)} bytes a data packet, ${(r.messages / r.seconds / 1e6).toFixed(2)} million messages a second on one core`,
    );
  }
  return result(
    'garbage',
    { messages: 1_000_000, message: 1400, medium: 'wire' },
    'bytes/packet',
    { ours: samples, peers: {} },
    {},
  );
}
