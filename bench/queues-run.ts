/**
 * One run of `queues`, a process of its own: the same work by one worker on one processor, or by several, each on its own.
 *
 *   node dist/bench/queues-run.js frames|bulk|set-up MEDIUM SECONDS SERVERS CLIENTS
 *
 * MEDIUM is udp, on loopback, or packet, between the interfaces nkea and nkeb (frames have none: -). SERVERS and CLIENTS are lists
 * of processors, "0,1": so many workers of each side, and where each is (frames: CLIENTS is left out). Prints {"rate","shares","steered"}: frames a second, bits of user data a second, or associations set up a second; what
 * each worker had of it; and packets that came to a worker by the system's steering that were not for it.
 */

import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { native } from '../nic/native.js';
import { WorkerAppliances } from '../workers.js';
import { framesRun } from './frames-run.js';
import type { QueuesCount, QueuesRole } from './queues-worker.js';

export interface QueuesRun {
  readonly rate: number;
  readonly shares: readonly number[];
  readonly steered: number;
}

/** With its FCS: Ethernet's shortest. */
const FRAME = 64;
const MESSAGE = 1400;
/** Associations of all sources together: enough that each of two queues gets near half of them. */
const ASSOCIATIONS = 16;
/** Being set up at the same time, by all callers together: so many that nobody waits for a turn of the other side. */
const WINDOW = 2048;
/** Every worker compiles for itself, on the processors that are being measured. */
const WARMUP_MS = 5000;

const wait = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms));
const rates = (all: readonly number[], steered = 0): QueuesRun => ({
  rate: all.reduce((a, b) => a + b, 0),
  shares: all,
  steered,
});

/** Two cards and a cable for each thread: driver to driver, as `frames`. */
async function frames(seconds: number, processors: readonly number[]): Promise<QueuesRun> {
  const each = processors.map(
    processor =>
      new Promise<number>((resolve, reject) => {
        const thread = new Worker(fileURLToPath(import.meta.url), { workerData: { seconds, processor } });
        thread.once('message', resolve);
        thread.once('error', reject);
      }),
  );
  return rates(await Promise.all(each));
}

/** The card of each side, the server's first, and the server's address. */
const MEDIA = {
  udp: { cards: [{ port: 'udp:127.0.0.1:0' }, { port: 'udp:127.0.0.2:0' }], address: '127.0.0.1' },
  packet: {
    cards: [
      { port: 'packet:nkea', addresses: ['10.77.0.1/24'] },
      { port: 'packet:nkeb', addresses: ['10.77.0.2/24'] },
    ],
    address: '10.77.0.1',
  },
} as const;

async function associations(
  work: 'bulk' | 'set-up',
  medium: keyof typeof MEDIA,
  seconds: number,
  servers: readonly number[],
  clients: readonly number[],
): Promise<QueuesRun> {
  const program = new URL('./queues-worker.js', import.meta.url);
  const { cards, address } = MEDIA[medium];
  const start = (side: 0 | 1, processors: readonly number[], data: QueuesRole) =>
    WorkerAppliances.create(
      { name: data.role, cards: [cards[side]], kexts: ['SCTP'] },
      { workers: processors.length, processors, program, data },
    );
  const bulk = work === 'bulk';
  const server = await start(0, servers, { role: bulk ? 'sink' : 'server' });
  let client: WorkerAppliances | undefined;
  try {
    client = await start(1, clients, {
      role: bulk ? 'source' : 'caller',
      address,
      udp: medium === 'udp' ? Number(server.cards[0]!.port.split(':').at(-1)) : 0,
      associations: Math.ceil((bulk ? ASSOCIATIONS : WINDOW) / clients.length),
      message: MESSAGE,
    });
    await wait(WARMUP_MS);
    const counted = bulk ? server : client;
    const first = (await counted.all('count')) as QueuesCount[];
    await wait(seconds * 1000);
    const last = (await counted.all('count')) as QueuesCount[];
    const { sctp } = await server.counters();
    const per = last.map((l, i) => ((l.done - first[i]!.done) / (l.ms - first[i]!.ms)) * 1000 * (bulk ? 8 : 1));
    return rates(per, sctp!.sctps_steeredout!);
  } finally {
    await client?.close(0);
    await server.close(0);
  }
}

const list = (text = '0'): number[] => text.split(',').map(Number);

if (!isMainThread) {
  const { seconds, processor } = workerData as { seconds: number; processor: number };
  native?.threadPin(processor);
  const r = framesRun(FRAME, seconds);
  parentPort!.postMessage(r.frames / r.seconds);
} else if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [work, medium, seconds, servers, clients] = process.argv.slice(2);
  const run =
    work === 'frames'
      ? await frames(Number(seconds), list(servers))
      : await associations(
          work as 'bulk' | 'set-up',
          medium as keyof typeof MEDIA,
          Number(seconds),
          list(servers),
          list(clients),
        );
  process.stdout.write(`${JSON.stringify(run)}\n`);
}
