/**
 * A worker thread: one whole appliance with one receive queue of every card, on a processor of its own. It answers the main
 * thread's requests and takes what other workers pass to it.
 */

import { parentPort, workerData } from 'node:worker_threads';
import { Appliance } from '../appliance.js';
import { native } from '../nic/native.js';
import type { FromWorker, ToWorker, WorkerContext, WorkerStart } from './protocol.js';
import { SharedSteering } from './shared.js';

const start = workerData as WorkerStart;
const port = parentPort!;
const say = (m: FromWorker): void => port.postMessage(m);

const steering = new SharedSteering(start.shared, start.queue, start.queues, queue => say({ kind: 'bell', queue }));
const context: WorkerContext = {
  queue: start.queue,
  queues: start.queues,
  data: start.data,
  onRequest: undefined,
  emit: event => say({ kind: 'event', event }),
};

function answer(appliance: Appliance, name: string, args: unknown): unknown {
  if (name === 'counters') return appliance.counters();
  if (name === 'associations') return appliance.sctp()?.associations().length ?? 0;
  if (context.onRequest === undefined) throw new Error(`a worker does not know the request "${name}"`);
  return context.onRequest(name, args);
}

async function request(appliance: Appliance, id: number, name: string, args: unknown): Promise<void> {
  try {
    say({ kind: 'answer', id, result: await answer(appliance, name, args) });
  } catch (e) {
    const { message, code, status } = e as { message?: string; code?: string; status?: number };
    say({ kind: 'refusal', id, message: message ?? String(e), code: code ?? status ?? '' });
  }
}

async function run(): Promise<void> {
  const n = start.processor === undefined ? undefined : native?.threadPin(start.processor);
  const queues = start.cards.map(({ shared, ...queue }, card) =>
    shared ? { ...queue, exchange: steering.exchange(card) } : queue,
  );
  const appliance = Appliance.create(start.config, { steering, queues });
  appliance.stack.counters.add('steering', steering.counters);
  port.on('message', (m: ToWorker) => {
    if (m.kind === 'take') steering.take();
    else if (m.kind === 'request') void request(appliance, m.id, m.name, m.args);
    else {
      steering.close();
      void appliance.close(m.graceMs).then(() => port.close());
    }
  });
  if (start.program !== undefined) {
    const { default: program } = (await import(start.program)) as {
      default: (appliance: Appliance, context: WorkerContext) => void | Promise<void>;
    };
    await program(appliance, context);
  }
  const cards = appliance.cards.map(c => ({
    name: c.name,
    port: c.spec,
    addresses: c.ifp.addresses.map(a => `${a.addr}/${a.prefix}`),
    mtu: c.ifp.mtu,
  }));
  say({ kind: 'ready', cards, processor: n !== undefined && n >= 0 ? n : undefined });
}

try {
  await run();
} catch (e) {
  const { message, code } = e as { message?: string; code?: string };
  say({ kind: 'failed', code: code ?? 'EIO', message: message ?? String(e) });
  // What the program has opened by now must not keep the thread.
  setImmediate(() => process.exit(1));
}
