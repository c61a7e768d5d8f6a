/**
 * Worker appliances: several appliances that are one host, one on each core. Each is a thread with a whole appliance: its own
 * memory, cards, stack and sockets, and one of the receive queues of every card's medium. Nothing is shared on the data path.
 *
 * An association lives in one worker, whichever it is that the medium gave its INIT to, or that began it. That worker draws
 * only verification tags that are its number modulo N, and the medium steers by them (nic/ports/steer.ts). What has no tag of
 * ours (an INIT for an association that is there, a reflected tag) or was steered as a train of several associations is passed
 * on through shared memory (workers/shared.ts, stack/sctp/steer.ts): affinity does not depend on the medium's steering.
 *
 *   udp:ADDRESS:PORT       N sockets of one port (SO_REUSEPORT)
 *   packet:IF              N packet sockets, each with rings of its own, in a fanout group (PACKET_FANOUT)
 *   tap:IF, tun:IF         N queues of the interface (IFF_MULTI_QUEUE)
 *
 * On all but the first the workers are one station: one hardware address, the same IP addresses. What asks (ARP, solicitations,
 * echo) comes to one of them, which answers; what answers is told to all (nic/ports/share.ts). Fragments are put together in the
 * first worker and handed on as SCTP packets. Datagrams that are no tunnel's are spread by source and ports, so that a program
 * which wants them binds its port in every worker; those to a port that a worker has drawn for itself come to it.
 *
 * The queues are opened here and outlive the workers: a worker that dies leaves its queue to its successor, and the queues of
 * the others stay what they are. The associations of the dead one are gone; their peers learn it by ABORT from the successor
 * (RFC 9260 §8.4).
 *
 * A program listens in every worker: a peer's INIT comes to any of them.
 */

import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { ApplianceError } from './appliance.js';
import type { ApplianceConfig, CardConfig } from './appliance-config.js';
import { native } from './nic/native.js';
import { parseAddress } from './nic/ports/address.js';
import { openPacketGroup } from './nic/ports/packet.js';
import { PortError } from './nic/ports/port.js';
import { packetSteeringProgram, steeringProgram } from './nic/ports/steer.js';
import { openTunTapGroup } from './nic/ports/tuntap.js';
import { openUdpGroup } from './nic/ports/udp.js';
import { QUEUES_MAX } from './stack/kern/steering.js';
import type { FromWorker, ToWorker, WorkerCard, WorkerQueue, WorkerStart } from './workers/protocol.js';
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
const INTERFACE = /^(packet|tap|tun):(.*)$/;
/** What the other ports cannot be. */
const REFUSED: Readonly<Record<string, string>> = {
  xdp: 'an XDP program can send a frame only to sockets of the receive queue that it came to, and which one that is the interface says',
  raw: 'the system gives every raw socket all packets',
  wire: 'a cable has one end on each side',
};
/** SCTP's own UDP port (RFC 6951 §5.1), unless the configuration names another one. */
const TUNNEL = 9899;
const TUNNEL_SYSCTL = 'net.inet.sctp.udp_tunneling_port';
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

/** A hardware address that is locally administered: the workers' together. */
function drawMac(): string {
  const mac = randomBytes(6);
  mac[0] = (mac[0]! & 0xfc) | 2;
  return [...mac].map(b => b.toString(16).padStart(2, '0')).join(':');
}

function closeAll(fds: readonly number[]): void {
  for (const fd of fds) native?.close(fd);
}

export class WorkerAppliances {
  readonly name: string;
  readonly queues: number;
  readonly #options: WorkersOptions;
  readonly #config: ApplianceConfig;
  readonly #shared: SharedArrayBuffer;
  /** UDP port of SCTP in UDP. */
  readonly #tunnel: number;
  /** By card, then by queue. */
  readonly #opened: { readonly queues: readonly WorkerQueue[]; close(): void }[] = [];
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
    this.#tunnel = config.sysctl?.[TUNNEL_SYSCTL] || TUNNEL;
    for (let i = 0; i < queues; i++)
      this.#slots.push({ worker: undefined, ready: false, processor: undefined, waiting: new Map() });
    try {
      this.#config = { ...config, cards: config.cards.map(c => this.#openCard(c)) };
    } catch (e) {
      this.#closeQueues();
      throw e;
    }
  }

  /** Opens a card's queues, one for each worker; gives the card as all workers have it. */
  #openCard(card: CardConfig): CardConfig {
    const kind = card.port.split(':')[0]!;
    const why = Object.hasOwn(REFUSED, kind) ? ` (${REFUSED[kind]})` : '';
    const [udp, own] = [UDP.exec(card.port), INTERFACE.exec(card.port)];
    if (udp === null && own === null)
      throw new ApplianceError(
        'EINVAL',
        `several workers cannot share ${card.port}${why}: give a packet, tap, tun or udp card in its place, or one worker`,
      );
    if (native === undefined)
      throw new PortError('ENATIVE', 'several workers need the C module: run "npm run build", or give one worker');
    if (udp !== null) return this.#openUdp(card, udp[1] ?? udp[2]!, Number(udp[3]));
    if (own![1] === 'packet') this.#openPacket(own![2]!);
    else this.#openTunTap(own![1] === 'tap', own![2]!, card.mtu);
    return own![1] === 'tun' || card.mac !== undefined ? card : { ...card, mac: drawMac() };
  }

  #openUdp(card: CardConfig, address: string, wanted: number): CardConfig {
    const family = parseAddress(address)?.family;
    if (family === undefined)
      throw new ApplianceError('EINVAL', `"${address}" is no IP address; give udp:ADDRESS:PORT`);
    const program = steeringProgram(family, this.queues);
    const { fds, port } = openUdpGroup({ address, port: wanted, mtu: card.mtu }, this.queues, program);
    this.#opened.push({ queues: fds.map(fd => ({ fd, shared: false })), close: () => closeAll(fds) });
    return { ...card, port: `udp:${family === 6 ? `[${address}]` : address}:${port}` };
  }

  #openPacket(name: string): void {
    const program = packetSteeringProgram('ip', this.queues, this.#tunnel);
    const queues = openPacketGroup({ interface: name }, this.queues, program);
    this.#opened.push({
      queues: queues.map(q => ({ ...q, shared: true })),
      close: () => closeAll(queues.flatMap(q => (q.bell < 0 ? [q.fd] : [q.bell, q.fd]))),
    });
  }

  #openTunTap(tap: boolean, name: string, mtu: number | undefined): void {
    const program = packetSteeringProgram(tap ? 'ethernet' : 'ip', this.queues, this.#tunnel);
    const group = openTunTapGroup(tap, { interface: name, mtu, queues: this.queues }, program);
    this.#opened.push({ queues: group.queues.map(fd => ({ fd, shared: true })), close: () => group.close() });
  }

  #closeQueues(): void {
    for (const o of this.#opened.splice(0)) o.close();
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
      cards: this.#opened.map(o => o.queues[queue]!),
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
    this.#closeQueues();
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
