/**
 * Failover by the link's own word: the time from the loss of a card's carrier to the first packet on the surviving path of a
 * multi-homed association, in real time, over packet: on veth pairs and over cables in memory.
 *
 * Two appliances in this process, two cards each; messages of 100 bytes every millisecond on the primary path. For packet: a
 * second process (failover-puller.ts) takes the far end of the first veth pair down and watches the near end's carrier by
 * rtnetlink without sleeping: its reading of the system's monotonic clock is the beginning. For a cable it is the call.
 */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Appliance } from '../appliance.js';
import { Place, skipWithoutPlace } from '../interop/place.js';
import { Wires } from '../nic/ports/open.js';
import type { WirePort } from '../nic/ports/wire.js';
import { AsyncSocket, sockaddrs } from '../sockets/index.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import { type PathInfo, SCTP_GET_PATHS, SCTP_NODELAY } from '../stack/sctp/api.js';

export interface FailoverSamples {
  /** Milliseconds from the loss of carrier to the first packet on the surviving path, one a round. */
  readonly samples: readonly number[];
  /** Milliseconds from the loss of carrier to the event link-off, one a round. */
  readonly events: readonly number[];
  /** Milliseconds from when the command that takes the link down was started: what `samples` certainly do not exceed. */
  readonly bounds: readonly number[];
}
export type FailoverMedium = 'packet' | 'wire';

/** When a link was lost (ms, monotonic): as the kernel told it, and when the command that did it was started. */
export interface Loss {
  readonly at: number;
  readonly began: number;
}

/** The system's monotonic clock in ms, the same for all processes of the machine. */
export const monotonic = (): number => Number(process.hrtime.bigint() / 1000n) / 1000;

/** Takes interfaces of this network namespace down and up from another process. */
export class LinkPuller implements AsyncDisposable {
  readonly #child: ChildProcess;
  private constructor(child: ChildProcess) {
    this.#child = child;
  }
  static async start(): Promise<LinkPuller> {
    const child = fork(fileURLToPath(new URL('failover-puller.js', import.meta.url)), [], { stdio: 'inherit' });
    const puller = new LinkPuller(child);
    await puller.#answer();
    return puller;
  }
  async #answer(): Promise<Loss> {
    const [message] = (await once(this.#child, 'message', { signal: AbortSignal.timeout(10_000) })) as [
      { at?: number; began?: number; error?: string },
    ];
    if (message.error !== undefined) throw new Error(message.error);
    return { at: message.at ?? 0, began: message.began ?? 0 };
  }
  /** `ip ARGS`, and says when `watch` had lost its carrier or was gone. */
  async lose(watch: string, ...args: string[]): Promise<Loss> {
    const answer = this.#answer();
    this.#child.send({ watch, args });
    return await answer;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.disconnect();
    await gone;
  }
}

const sleep = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms));
async function until(what: string, so: () => boolean, ms = 10_000): Promise<void> {
  const end = monotonic() + ms;
  while (!so()) {
    if (monotonic() > end) throw new Error(`failover: ${what} did not come about within ${ms} ms`);
    await sleep(1);
  }
}

/** What takes the first path down and brings it back. */
interface Cut {
  /** Gives the time of the loss of carrier. */
  down(): Promise<Loss>;
  up(): void;
}

/**
 * Measures `rounds` failovers. Throws with what to do when packet: cannot be had here (`skipWithoutPlace` says so before).
 * Everything made for it is gone when it returns.
 */
export async function measureFailover(medium: FailoverMedium, rounds = 20): Promise<FailoverSamples> {
  if (medium === 'wire') {
    const wires = new Wires();
    const ports = [0, 1].map(n => [`wire:w${n}`, `wire:w${n}`] as const);
    return await run(ports, wires, rounds, a => {
      const port = a.cards[0]!.port as WirePort;
      return {
        down: async () => {
          const at = monotonic();
          port.pull();
          return { at, began: at };
        },
        up: () => port.plug(),
      };
    });
  }
  const why = skipWithoutPlace();
  if (why !== false) throw new Error(`failover over packet: ${why}`);
  using place = new Place();
  for (const n of [0, 1]) place.netns.addVeth(`fa${n}`, `fb${n}`);
  await using puller = await LinkPuller.start();
  const ports = [0, 1].map(n => [`packet:fa${n}`, `packet:fb${n}`] as const);
  return await run(ports, undefined, rounds, () => ({
    down: () => puller.lose('fa0', 'link', 'set', 'fb0', 'down'),
    up: () => place.netns.setLink('fb0', true),
  }));
}

async function run(
  ports: readonly (readonly [string, string])[],
  wires: Wires | undefined,
  rounds: number,
  cutOf: (a: Appliance) => Cut,
): Promise<FailoverSamples> {
  const made: Appliance[] = [];
  try {
    for (const end of [0, 1] as const) {
      const cards = ports.map((p, n) => ({ port: p[end], addresses: [`10.80.${n}.${end + 1}/24`] }));
      made.push(Appliance.create({ name: `failover${end}`, cards, kexts: ['SCTP'] }, wires && { wires }));
    }
    const [a, b] = made as [Appliance, Appliance];
    await until('the links', () => made.every(x => x.cards.every(c => c.ifp.running)));
    const listener = AsyncSocket.create(b);
    listener.bind(...sockaddrs(['10.80.0.2', '10.80.1.2'], 7));
    listener.listen();
    const socket = AsyncSocket.create(a);
    socket.setsockopt(IPPROTO_SCTP, SCTP_NODELAY, 1);
    await socket.connect(sockaddrs(['10.80.0.2', '10.80.1.2'], 7));
    const accepted = await listener.accept();
    const message = Buffer.alloc(100);
    const buffer = Buffer.alloc(65536);
    const traffic = setInterval(() => {
      socket.trySend(message);
      while (accepted.tryRecvInto(buffer) > 0);
    }, 1);
    try {
      return await cutAgain(a, socket, cutOf(a), rounds);
    } finally {
      clearInterval(traffic);
      for (const s of [socket, accepted, listener]) s.close();
    }
  } finally {
    for (const x of made) await x.close(100);
  }
}

async function cutAgain(a: Appliance, socket: AsyncSocket, cut: Cut, rounds: number): Promise<FailoverSamples> {
  const samples: number[] = [];
  const events: number[] = [];
  const bounds: number[] = [];
  const paths = () => socket.getsockopt(IPPROTO_SCTP, SCTP_GET_PATHS, 0) as PathInfo[];
  let packet = 0;
  let event = 0;
  // Nothing but failover puts packets on the second card: its path is idle, heartbeats are half a minute apart.
  const filter = {
    name: 'failover',
    output: (_ifp: unknown, m: number) => {
      if (packet === 0) packet = monotonic();
      return m;
    },
  };
  a.stack.interfaces.attachFilter(filter, a.cards[1]!.ifp);
  const unsubscribe = a.stack.events.subscribe(e => {
    if (e.kind === 'link-off' && e.ifname === 'nke0') event = monotonic();
  });
  try {
    for (let i = 0; i < rounds; i++) {
      await until('both paths', () => paths().length === 2 && paths().every(p => p.state === 'active'));
      await sleep(60);
      packet = event = 0;
      const loss = await cut.down();
      await until('a packet on the surviving path', () => packet !== 0 && event !== 0);
      // On a busy machine the watching process may be told after the appliance: it cannot have been later than that.
      const at = Math.min(loss.at, event);
      samples.push(packet - at);
      events.push(event - at);
      bounds.push(packet - loss.began);
      cut.up();
      await until('the link', () => a.cards[0]!.ifp.running);
    }
  } finally {
    unsubscribe();
    a.stack.interfaces.detachFilter(filter);
  }
  return { samples, events, bounds };
}
