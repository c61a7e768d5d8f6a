/** What the contract suites of this folder share: the two hosts that they run on, and helpers. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { type EventEmitter, once } from 'node:events';
import { Writable } from 'node:stream';
import type { TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Socket } from '../stack/kern/socket.js';
import {
  AsyncSocket,
  type ConnectOptions,
  connect,
  createServer,
  type Host,
  type ListenOptions,
  type Message,
  SctpError,
  type SctpServer,
  type SctpSocket,
  type ServerOptions,
  sockaddr,
} from './index.js';

/** Two hosts that reach each other, and a hand on their world. */
export interface Rig {
  readonly client: Host;
  readonly server: Host;
  /** IPv4, at least one each. With two or more on both sides, multi-homing is tested. */
  readonly clientAddresses: readonly string[];
  readonly serverAddresses: readonly string[];
  /** An address that has a route and never answers. */
  readonly silentAddress: string;
  /**
   * Lets protocol time pass (virtual or real). While a test awaits, the hosts must get on by themselves as well, timers
   * of less than a second (delayed SACK) included.
   */
  advance(ms: number): void | Promise<void>;
  /** Cuts, or mends, the paths to one of the server's addresses. Without it path failure is not tested. */
  setPath?(address: string, up: boolean): void;
  close(): void | Promise<void>;
}

/** A host that remembers every socket it has given out, accepted ones included. */
export class Watched implements Host {
  readonly sockets: Socket[] = [];
  readonly #host: Host;
  constructor(host: Host) {
    this.#host = host;
  }
  socket(domain: number, type: number, protocol: number): Socket | number {
    return this.#watch(this.#host.socket(domain, type, protocol));
  }
  #watch(so: Socket | number): Socket | number {
    if (typeof so === 'number') return so;
    this.sockets.push(so);
    const accept = so.accept.bind(so);
    so.accept = () => this.#watch(accept());
    return so;
  }
}

export interface World extends Rig {
  client: Watched;
  server: Watched;
  port: number;
  at: { address: readonly string[]; port: number };
}

export const WAIT = { timeout: 10_000 };

/** Waits until it is so, letting the hosts run; fails after a bounded number of turns. */
export async function until(what: string, so: () => boolean): Promise<void> {
  for (let i = 0; i < 20_000; i++) {
    if (so()) return;
    await turn();
  }
  assert.fail(`never happened: ${what}`);
}

/** Lets everything that is under way arrive. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 50; i++) await turn();
}

export async function failure(promise: Promise<unknown>): Promise<SctpError> {
  const error = await promise.then(
    () => assert.fail('should have failed'),
    e => e,
  );
  assert.ok(error instanceof SctpError, String(error));
  return error;
}

/** The error event of an emitter. */
export async function errorOf(emitter: EventEmitter): Promise<SctpError> {
  const [error] = (await once(emitter, 'error')) as [SctpError];
  return error;
}

export async function listening<T>(server: SctpServer<T>, w: World, options: ListenOptions = {}): Promise<void> {
  server.listen({ ...w.at, ...options });
  await once(server, 'listening');
}

export interface Pair {
  server: SctpServer;
  a: SctpSocket;
  b: SctpSocket;
}

/** A client socket and the server's side of it. */
export async function pair(w: World, so: ServerOptions = {}, co: Partial<ConnectOptions> = {}): Promise<Pair> {
  const server = createServer(w.server, so);
  await listening(server, w);
  const a = connect(w.client, { ...w.at, ...co });
  const [[b]] = (await Promise.all([once(server, 'connection'), once(a, 'connect')])) as [[SctpSocket], unknown];
  return { server, a, b };
}

/** The same in object mode. */
export async function objectPair(w: World, so: ServerOptions = {}, co: Partial<ConnectOptions> = {}) {
  const p = await pair(w, { ...so, objectMode: true }, { ...co, objectMode: true });
  return p as unknown as { server: SctpServer<Message>; a: SctpSocket<Message>; b: SctpSocket<Message> };
}

export async function asyncPair(w: World): Promise<{ listener: AsyncSocket; a: AsyncSocket; b: AsyncSocket }> {
  const listener = AsyncSocket.create(w.server);
  listener.bind(sockaddr(w.serverAddresses[0]!, w.port));
  listener.listen();
  const a = AsyncSocket.create(w.client);
  const [b] = await Promise.all([listener.accept(), a.connect(sockaddr(w.serverAddresses[0]!, w.port))]);
  return { listener, a, b };
}

/** A sink that hashes, and counts what it got. */
export function hasher(): Writable & { digest(): string; bytes: number } {
  const h = createHash('sha256');
  const w = new Writable({
    write(chunk: Buffer, _enc, done) {
      h.update(chunk);
      sink.bytes += chunk.length;
      done();
    },
  });
  const sink = Object.assign(w, { bytes: 0, digest: () => h.digest('hex') });
  return sink;
}

/** Repeatable bytes. */
export function noise(n: number, seed = 1): Buffer {
  const out = Buffer.allocUnsafe(n);
  let x = seed;
  for (let i = 0; i < n; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) | 0;
    out[i] = x >>> 24;
  }
  return out;
}
export const sha = (b: Buffer) => createHash('sha256').update(b).digest('hex');

export type Body = (w: World, t: TestContext) => Promise<void>;

export type Test = (title: string, body: Body) => void;

export async function finish(p: {
  server: SctpServer<never> | SctpServer;
  a: SctpSocket<never> | SctpSocket;
  b: SctpSocket<never> | SctpSocket;
}): Promise<void> {
  const closed = [p.a, p.b].filter(s => !s.closed).map(s => once(s as SctpSocket, 'close'));
  p.a.resume();
  p.b.resume();
  p.a.end();
  await Promise.all(closed);
  p.server.close();
  await settle();
}
