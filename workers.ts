/**
 * Worker appliances: several appliances that are one host, one on each core. Each is a thread with a whole appliance: its own
 * memory, cards, stack and sockets, and one of the receive queues of every card's medium. Nothing is shared on the data path.
 *
 * An association lives in one worker, whichever it is that the medium gave its INIT to, or that began it. That worker draws
 * only verification tags that are its number modulo N, and the medium steers by them (nic/ports/steer.ts). What has no tag of
 * ours (an INIT for an association that is there, a reflected tag) or was steered as a train of several associations is passed
 * on through shared memory (workers/shared.ts, stack/sctp/steer.ts): affinity does not depend on the medium's steering.
 *
 * The sockets of udp cards are opened here and outlive the workers: a worker that dies leaves its queue to its successor, and
 * the queues of the others stay what they are. The associations of the dead one are gone; their peers learn it by ABORT from
 * the successor (RFC 9260 §8.4).
 *
 * A program listens in every worker: a peer's INIT comes to any of them.
 */

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { ApplianceError } from './appliance.js';
import type { ApplianceConfig, CardConfig } from './appliance-config.js';
import { native } from './nic/native.js';
import { parseAddress } from './nic/ports/address.js';
import { PortError } from './nic/ports/port.js';
import { steeringProgram } from './nic/ports/steer.js';
import { openUdpGroup } from './nic/ports/udp.js';
import { QUEUES_MAX } from './stack/kern/steering.js';
import type { FromWorker, ToWorker, WorkerCard, WorkerStart } from './workers/protocol.js';
import { pathsHeld, sharedMemory, wipe } from './workers/shared.js';

export type { WorkerCard, WorkerContext } from './workers/protocol.js';
export { QUEUES_MAX };

export interface WorkersOptions {
  /** How many, 1 to QUEUES_MAX; default: one for each processor. */
  readonly workers?: number;
  /** Module whose default export `(appliance, context)` runs in every worker before it is ready: it opens the sockets. */
  readonly program?: URL;
  /** Given to the program; structured clone. */
  readonly data?: unknown;
  /**
   * Which processor each worker keeps to, counted among those that this process may use; none: no worker keeps to one. Default:
   * one after the other, when there are enough of them.
   */
  readonly processors?: readonly number[];
  /** Workers started in place of dead ones, all together, before a queue stays without; default 16. */
  readonly restarts?: number;
  /** A worker has ended without having been asked to. */
  readonly onExit?: (exit: WorkerExit) => void;
  /** What programs `emit`. */
  readonly onEvent?: (queue: number, event: unknown) => void;
}

export interface WorkerExit {
  readonly queue: number;
  /** Why, in a sentence. */
  readonly reason: string;
  /** Paths of associations that were lost with it. */
  readonly paths: number;
  /** Another one is being started in its place. */
  readonly restarting: boolean;
}

export type Counters = Record<string, Record<string, number>>;

interface Slot {
  worker: Worker | undefined;
  ready: boolean;
  processor: number | undefined;
  readonly waiting: Map<number, { resolve: (v: unknown) => void; reject: (e: Error) => void }>;
}

const UDP = /^udp:(?:\[([^\]]+)\]|([^:]+)):(\d+)$/;
/** A worker that has not closed so long after its grace is ended. */
const CLOSE_MS = 2000;
const RESTARTS = 16;

/** "trace.pcapng" of queue 1 is "trace.1.pcapng": two writers of one file would spoil it. */
function ofQueue(card: CardConfig, queue: number): CardConfig {
  const { capture, faults } = card;
  return {
    ...card,
    ...(capture === undefined ? {} : { capture: capture.replace(/(\.[^./]*)?$/, end => `.${queue}${end}`) }),
    ...(faults === undefined ? {} : { faults: { ...faults, seed: (faults.seed ?? 1) + queue } }),
  };
}

export class WorkerAppliances {
  readonly name: string;
  readonly queues: number;
  readonly #options: WorkersOptions;
  readonly #config: ApplianceConfig;
  readonly #shared: SharedArrayBuffer;
  /** By card, then by queue. */
  readonly #sockets: (readonly number[])[] = [];
  readonly #slots: Slot[] = [];
  #cards: readonly WorkerCard[] = [];
  #restarts: number;
  #closing = false;
  #serial = 0;

  /**
   * Starts the workers; resolves when all are ready. Rejects with ApplianceError or PortError whose message says what to do;
   * nothing is left behind then.
   */
  static async create(config: ApplianceConfig, options: WorkersOptions = {}): Promise<WorkerAppliances> {
    const made = new WorkerAppliances(config, options);
    try {
      await Promise.all(made.#slots.map((_, queue) => made.#start(queue)));
    } catch (e) {
      await made.close(0);
      throw e;
    }
    return made;
  }

  private constructor(config: ApplianceConfig, options: WorkersOptions) {
    const queues = options.workers ?? Math.min(availableParallelism(), QUEUES_MAX);
    if (!Number.isInteger(queues) || queues < 1 || queues > QUEUES_MAX)
      throw new ApplianceError('EINVAL', `${queues} workers cannot be; give 1 to ${QUEUES_MAX}`);
    this.name = config.name ?? 'nke';
    this.queues = queues;
    this.#options = options;
    this.#restarts = options.restarts ?? RESTARTS;
    this.#shared = sharedMemory(queues);
    for (let i = 0; i < queues; i++)
      this.#slots.push({ worker: undefined, ready: false, processor: undefined, waiting: new Map() });
    try {
      this.#config = { ...config, cards: config.cards.map(c => this.#openCard(c)) };
    } catch (e) {
      this.#closeSockets();
      throw e;
    }
  }

  /** Opens a card's sockets, one for each queue; gives the card with the port number that it got. */
  #openCard(card: CardConfig): CardConfig {
    const m = UDP.exec(card.port);
    const address = m?.[1] ?? m?.[2] ?? '';
    const parsed = parseAddress(address);
    if (m === null || parsed === undefined)
      throw new ApplianceError(
        'EINVAL',
        `several workers share udp cards only, for the system steers their packets: give udp:ADDRESS:PORT in place of ${card.port}, or one worker`,
      );
    if (native === undefined)
      throw new PortError('ENATIVE', 'several workers need the C module: run "npm run build", or give one worker');
    const group = openUdpGroup(
      { address, port: Number(m[3]), mtu: card.mtu },
      this.queues,
      steeringProgram(parsed.family, this.queues),
    );
    this.#sockets.push(group.fds);
    return { ...card, port: `udp:${m[1] === undefined ? address : `[${address}]`}:${group.port}` };
  }
  #closeSockets(): void {
    for (const fds of this.#sockets.splice(0)) for (const fd of fds) native?.close(fd);
  }

  /** The cards as every worker has them. */
  get cards(): readonly WorkerCard[] {
    return this.#cards;
  }
  /** Each worker: whether it runs, and which processor it keeps to. */
  get workers(): readonly { readonly ready: boolean; readonly processor: number | undefined }[] {
    return this.#slots.map(({ ready, processor }) => ({ ready, processor }));
  }

  #start(queue: number): Promise<void> {
    const slot = this.#slots[queue]!;
    const { program, data, processors } = this.#options;
    const own = this.queues <= availableParallelism() ? queue : undefined;
    const workerData: WorkerStart = {
      config: { ...this.#config, cards: this.#config.cards.map(c => ofQueue(c, queue)) },
      queue,
      queues: this.queues,
      shared: this.#shared,
      sockets: this.#sockets.map(fds => fds[queue]!),
      processor: processors === undefined ? own : processors[queue],
      program: program?.href,
      data,
    };
    return new Promise((resolve, reject) => {
      let reason = '';
      const worker = new Worker(new URL('./workers/thread.js', import.meta.url), {
        workerData,
        name: `${this.name}/${queue}`,
      });
      slot.worker = worker;
      worker.on('message', (m: FromWorker) => {
        if (m.kind === 'failed') {
          reason = m.message;
          reject(new ApplianceError(m.code, m.message));
        } else if (m.kind === 'ready') {
          slot.ready = true;
          slot.processor = m.processor;
          this.#cards = m.cards;
          resolve();
        } else this.#heard(queue, slot, m);
      });
      worker.on('error', e => {
        reason = e instanceof Error ? e.message : String(e);
      });
      worker.on('exit', code => {
        const why = reason || `its thread ended with status ${code}`;
        reject(new ApplianceError('EIO', `worker ${queue} did not start: ${why}`));
        this.#ended(queue, slot, why);
      });
    });
  }

  #heard(queue: number, slot: Slot, m: FromWorker): void {
    if (m.kind === 'bell') this.#say(m.queue, { kind: 'take' });
    else if (m.kind === 'event') this.#options.onEvent?.(queue, m.event);
    else if (m.kind === 'answer' || m.kind === 'refusal') {
      const waiting = slot.waiting.get(m.id);
      slot.waiting.delete(m.id);
      if (m.kind === 'answer') waiting?.resolve(m.result);
      else waiting?.reject(Object.assign(new Error(m.message), { code: m.code }));
    }
  }
  #say(queue: number, m: ToWorker): void {
    this.#slots[queue]?.worker?.postMessage(m);
  }

  #ended(queue: number, slot: Slot, reason: string): void {
    const was = slot.ready;
    const paths = pathsHeld(this.#shared, queue);
    slot.worker = undefined;
    slot.ready = false;
    wipe(this.#shared, this.queues, queue);
    for (const w of slot.waiting.values()) w.reject(new ApplianceError('EIO', `worker ${queue} has ended: ${reason}`));
    slot.waiting.clear();
    if (this.#closing) return;
    // One that never came up would not come up now either.
    const restarting = was && this.#restarts > 0;
    this.#options.onExit?.({ queue, reason, paths, restarting });
    if (!restarting) return;
    this.#restarts--;
    this.#start(queue).catch(() => {}); // its end has been told by then
  }

  /** Asks one worker. Rejects with what its program refused, or ApplianceError when it ends before it has answered. */
  request(queue: number, name: string, args: unknown = {}): Promise<unknown> {
    const slot = this.#slots[queue];
    if (slot?.worker === undefined || !slot.ready)
      return Promise.reject(new ApplianceError('EIO', `worker ${queue} does not run`));
    const id = ++this.#serial;
    return new Promise((resolve, reject) => {
      slot.waiting.set(id, { resolve, reject });
      this.#say(queue, { kind: 'request', id, name, args });
    });
  }
  /** Asks all workers that run; their answers in order. */
  all(name: string, args: unknown = {}): Promise<unknown[]> {
    return Promise.all(this.#slots.flatMap((s, queue) => (s.ready ? [this.request(queue, name, args)] : [])));
  }
  /** Every counter of every layer, the workers' together. */
  async counters(): Promise<Counters> {
    return sumCounters((await this.all('counters')) as Counters[]);
  }

  /** Ends all workers in good order, as Appliance.close does, and then the sockets. May be called twice. */
  async close(graceMs = 500): Promise<void> {
    this.#closing = true;
    await Promise.all(
      this.#slots.map(async ({ worker }) => {
        if (worker === undefined) return;
        const ended = new Promise(resolve => worker.once('exit', resolve));
        worker.postMessage({ kind: 'close', graceMs } satisfies ToWorker);
        const timer = setTimeout(() => void worker.terminate(), graceMs + CLOSE_MS);
        await ended;
        clearTimeout(timer);
      }),
    );
    this.#closeSockets();
  }
}

/** Counters of several appliances, added up. */
export function sumCounters(all: readonly Counters[]): Counters {
  const sum: Counters = {};
  for (const counters of all)
    for (const [group, rows] of Object.entries(counters)) {
      const into = (sum[group] ??= {});
      for (const [name, value] of Object.entries(rows)) into[name] = (into[name] ?? 0) + value;
    }
  return sum;
}
