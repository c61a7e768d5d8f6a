/**
 * One run of `associations`, a process of its own: a server with one one-to-many socket, N associations from one-to-one
 * sockets of client appliances on cables, all in virtual time; both ends are in this process. Run with --expose-gc.
 *
 *   node --expose-gc dist/bench/associations-run.js N [MESSAGES [close]]
 *
 * Prints one line of JSON, AssociationsRun below. Memory is what the process has more after a full collection than before
 * the first association, divided by the 2 N ends that it holds then. With `close` it is also measured when they have been
 * idle after the messages for two heartbeat intervals, and what is left when as many again have come and gone.
 */

import { memoryUsage } from 'node:process';
import { fileURLToPath } from 'node:url';
import type { Appliance } from '../appliance.js';
import { Simulation } from '../simulation.js';
import { AF_INET, SOCK_SEQPACKET, SOCK_STREAM } from '../stack/kern/protosw.js';
import { RecvInfo, type SendInfo, Socket } from '../stack/kern/socket.js';
import { InAddr, IPPROTO_SCTP } from '../stack/netinet/in.js';

export interface AssociationsRun {
  readonly associations: number;
  /** Seconds from the first connect to the last association being up at both ends. */
  readonly setUpSeconds: number;
  /** Bytes per association end: V8's heap and what it holds outside it; and the growth of the resident set. */
  readonly heapEach: number;
  readonly residentEach: number;
  /** Messages of 1,000 bytes sent over all associations in turn, and the seconds that took. */
  readonly messages: number;
  readonly seconds: number;
  /**
   * With `close`, else 0: bytes per end when idle after the messages; what a second round of as many has left when all are
   * closed, over what the first had; and the seconds in which the first was closed.
   */
  readonly idleEach: number;
  readonly leftEach: number;
  readonly closeSeconds: number;
}

const SERVER_PORT = 7;
/** Clients of one client appliance: one SCTP port each. */
const PORTS_PER_CLIENT = 50_000;
const FIRST_PORT = 10_000;
/** Associations being set up at the same time, and messages on their way. */
const WINDOW = 128;
const SIZE = 1000;

function socket(host: Appliance, type: number): Socket {
  const so = host.socket(AF_INET, type, IPPROTO_SCTP);
  if (!(so instanceof Socket)) throw new Error(`no SCTP socket: ${so}`);
  return so;
}

/** Bytes on V8's heap and held by it outside, after a full collection; what is finalised later gets its turn in between. */
async function held(): Promise<{ heap: number; resident: number }> {
  for (let i = 0; i < 3; i++) {
    globalThis.gc!();
    await new Promise<void>(resolve => setTimeout(resolve, 20));
  }
  const m = memoryUsage();
  return { heap: m.heapUsed + m.external, resident: m.rss };
}

/** Two heartbeat intervals of 30 s with their jitter: every idle path has sent one. Longer than tags are held. */
const IDLE = 70e9;
const TIME_WAIT = 70e9;

/** Everything of every run: a warm-up that was collected in the middle of the measurement would be counted. */
const kept: unknown[] = [];

export async function associationsRun(count: number, messages: number, close = false): Promise<AssociationsRun> {
  const net = new Simulation(1);
  const groups = Math.ceil(count / PORTS_PER_CLIENT);
  const cable = (g: number) => `wire:cable${g}`;
  const clientHosts = Array.from({ length: groups }, (_, g) =>
    net.create({ name: `client${g}`, cards: [{ port: cable(g), addresses: [`10.0.${g}.2/24`] }], kexts: ['SCTP'] }),
  );
  const serverHost = net.create({
    name: 'server',
    cards: Array.from({ length: groups }, (_, g) => ({ port: cable(g), addresses: [`10.0.${g}.1/24`] })),
    kexts: ['SCTP'],
  });
  const server = socket(serverHost, SOCK_SEQPACKET);
  server.bind({ addr: InAddr.of('0.0.0.0'), port: SERVER_PORT });
  server.listen(WINDOW);
  const before = await held();

  const clients: Socket[] = [];
  const setUpSeconds = setUp(net, clientHosts, clients, count);
  net.pass(1e9); // COOKIE ACKs and delayed SACKs: every timer of the set-up has gone
  const after = await held();
  const seconds = transfer(net, clients, server, messages);
  const ended = { idle: 0, left: 0, seconds: 0 };
  if (close) {
    net.pass(IDLE);
    ended.idle = (await held()).heap - before.heap;
    ended.seconds = closeAll(net, clients, serverHost);
    const once = await held();
    setUp(net, clientHosts, clients, count);
    transfer(net, clients, server, messages);
    closeAll(net, clients, serverHost);
    ended.left = (await held()).heap - once.heap;
  }
  kept.push(net, clients, server);
  return {
    associations: count,
    setUpSeconds,
    heapEach: (after.heap - before.heap) / (2 * count),
    residentEach: (after.resident - before.resident) / (2 * count),
    messages,
    seconds,
    idleEach: ended.idle / (2 * count),
    leftEach: ended.left / (2 * count),
    closeSeconds: ended.seconds,
  };
}

/** Sets `count` associations up, WINDOW at a time, each from a new socket put into `clients`; returns the seconds. */
function setUp(net: Simulation, hosts: readonly Appliance[], clients: Socket[], count: number): number {
  let up = 0;
  const connected = (so: Socket): void => {
    if (so.error !== 0) throw new Error(`no association: ${so.errorReason}`);
    if (!so.writable) return;
    so.upcall = undefined;
    up++;
  };
  const targets = hosts.map((_, g) => ({ addr: InAddr.of(`10.0.${g}.1`), port: SERVER_PORT }));
  const any = InAddr.of('0.0.0.0');
  const start = performance.now();
  const established = net.run(() => {
    while (clients.length < count && clients.length - up < WINDOW) {
      const i = clients.length;
      const group = Math.floor(i / PORTS_PER_CLIENT);
      const so = socket(hosts[group]!, SOCK_STREAM);
      so.bind({ addr: any, port: FIRST_PORT + (i % PORTS_PER_CLIENT) });
      so.upcall = connected;
      so.connect(targets[group]!);
      clients.push(so);
    }
    return up === count;
  });
  if (!established) throw new Error(`only ${up} of ${count} associations came up`);
  return (performance.now() - start) / 1000;
}

/** Closes all clients, WINDOW at a time, and waits until no tag is held any more; returns the seconds that it took. */
function closeAll(net: Simulation, clients: Socket[], serverHost: Appliance): number {
  const left = (): number => serverHost.sctp()?.sctp?.associationCount ?? 0;
  const start = performance.now();
  const done = net.run(() => {
    while (clients.length > 0 && left() - clients.length < WINDOW) clients.pop()!.close();
    return clients.length === 0 && left() === 0;
  });
  if (!done) throw new Error(`${left()} associations did not end`);
  const seconds = (performance.now() - start) / 1000;
  net.pass(TIME_WAIT);
  return seconds;
}

/** Sends `messages` over all clients in turn; returns the seconds until the server has read the last. */
function transfer(net: Simulation, clients: readonly Socket[], server: Socket, messages: number): number {
  const message = new Uint8Array(SIZE);
  const buf = new Uint8Array(SIZE);
  const info: SendInfo = { sid: 0, flags: 0, ppid: 0, context: 0, assocId: 0, prPolicy: 0, prValue: 0 };
  const got = new RecvInfo();
  let sent = 0;
  let read = 0;
  server.upcall = () => {
    while (server.recv(buf, 0, SIZE, got) > 0) read++;
  };
  const start = performance.now();
  const done = net.run(() => {
    while (sent < messages && sent - read < WINDOW) {
      if (clients[sent % clients.length]!.send(message, 0, SIZE, info) !== SIZE) break;
      sent++;
    }
    return read === messages;
  });
  if (!done) throw new Error(`only ${read} of ${messages} messages arrived`);
  return (performance.now() - start) / 1000;
}

/** Associations and messages after which the code is compiled, and what V8 keeps of it no longer grows. */
const WARM_UP = [500, 5000] as const;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await associationsRun(...WARM_UP);
  const run = await associationsRun(
    Number(process.argv[2] ?? 1000),
    Number(process.argv[3] ?? 100_000),
    process.argv[4] === 'close',
  );
  process.stdout.write(`${JSON.stringify(run)}\n`);
  process.exit(0); // the associations are of no further use: what they hold goes with the process
}
