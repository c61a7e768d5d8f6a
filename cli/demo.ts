/**
 * `nke demo`, which is `npm start`: two appliances in two processes over UDP on loopback. Power up, link up, load SCTP.kext,
 * associate over two paths, move data, pull the first path's cable in the middle and watch the failover, plug it in again,
 * shut down, unload, and account for every byte.
 */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { Appliance } from '../appliance.js';
import { sockaddrs } from '../sockets/message.js';
import { AsyncSocket } from '../sockets/promises.js';
import type { StampedEvent } from '../stack/kern/event.js';
import { IPPROTO_SCTP } from '../stack/netinet/in.js';
import { type PathInfo, SCTP_GET_PATHS, SCTP_REMOTE_UDP_ENCAPS_PORT } from '../stack/sctp/api.js';
import { COUNTERS } from '../stack/sctp/stats.js';
import {
  demoAppliance,
  type EndReport,
  endAppliance,
  type FromPeer,
  hurry,
  MESSAGE_BYTES,
  RECEIVER,
  SCTP_PORT,
  SENDER,
} from './demo-protocol.js';
import { CliError, EXIT_FAILED, EXIT_OK, oneLine } from './errors.js';
import { bytes, grouped, rate, table } from './format.js';
import { Digest, fillMessage } from './pattern.js';
import { type Progress, progress } from './progress.js';

export interface DemoOptions {
  readonly json: boolean;
  /** Seconds of transfer; the cable is out in the middle third. */
  readonly seconds: number;
  /** What starts this program again: the compiled nke.js. */
  readonly program: string;
}

/** No step may take longer than this; together with the transfer the demonstration stays below 20 seconds. */
const STEP_MS = 5000;
const BURST = 256;

interface Step {
  readonly step: string;
  readonly at: number; // ms since the start
  readonly detail: string;
}

interface Transfer {
  messages: number;
  bytes: number;
  hash: string;
  seconds: number;
  /** Milliseconds from pulling the cable to the first acknowledged progress on the other path. */
  failoverMs: number | undefined;
  restoredMs: number | undefined;
  bytesWhileOut: number;
}

/** Fails with a sentence when a promise takes too long. */
async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new CliError(`${what} took longer than ${ms / 1000} s`, EXIT_FAILED)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms));

/** The other process: messages from it by type, and its end. */
class Peer {
  readonly #child: ChildProcess;
  readonly #got = new Map<string, FromPeer>();
  readonly #waiting = new Map<string, (m: FromPeer) => void>();
  readonly exit: Promise<number>;
  #fail: ((e: Error) => void) | undefined;
  readonly failed: Promise<never>;

  constructor(program: string) {
    this.#child = fork(program, ['demo-peer'], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    this.failed = new Promise<never>((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
    this.exit = once(this.#child, 'exit').then(([code]) => {
      this.#fail?.(new CliError(`the second process ended early (status ${String(code)})`, EXIT_FAILED));
      return (code as number | null) ?? -1;
    });
    this.#child.on('message', (m: FromPeer) => {
      if (m.type === 'failed') this.#fail?.(new CliError(`the second process: ${m.error}`, EXIT_FAILED));
      this.#got.set(m.type, m);
      this.#waiting.get(m.type)?.(m);
    });
  }
  expect<T extends FromPeer['type']>(type: T, ms = STEP_MS): Promise<Extract<FromPeer, { type: T }>> {
    const got = new Promise<FromPeer>(resolve => {
      const already = this.#got.get(type);
      if (already !== undefined) resolve(already);
      else this.#waiting.set(type, resolve);
    });
    return within(ms, `waiting for "${type}" of the second process`, Promise.race([got, this.failed])) as Promise<
      Extract<FromPeer, { type: T }>
    >;
  }
  finish(): void {
    this.#child.send({ type: 'finish' });
  }
  /** Ends it, if it has not ended by itself. */
  kill(): void {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL');
  }
}

/** The demonstration. Resolves to the exit status. */
export async function demo(options: DemoOptions): Promise<number> {
  const run = new Demo(options);
  try {
    return await run.run();
  } catch (e) {
    run.fail(oneLine(e));
    return e instanceof CliError ? e.status : EXIT_FAILED;
  } finally {
    await run.dispose();
  }
}

class Demo {
  readonly #options: DemoOptions;
  readonly #began = performance.now();
  readonly #steps: Step[] = [];
  readonly #events: StampedEvent[] = [];
  #bar: Progress | undefined;
  #appliance: Appliance | undefined;
  #peer: Peer | undefined;
  #closed = false;

  constructor(options: DemoOptions) {
    this.#options = options;
  }

  #say(step: string, detail: string): void {
    const at = Math.round(performance.now() - this.#began);
    this.#steps.push({ step, at, detail });
    if (this.#options.json) return;
    const line = `${(at / 1000).toFixed(2).padStart(6)} s  ${step.padEnd(11)} ${detail}`;
    if (this.#bar === undefined) process.stdout.write(`${line}\n`);
    else this.#bar.note(line);
  }

  fail(error: string): void {
    this.#bar?.stop();
    this.#bar = undefined;
    if (this.#options.json) process.stdout.write(`${JSON.stringify({ ok: false, error, steps: this.#steps })}\n`);
    process.stderr.write(`nke: the demonstration failed: ${error}\n`);
  }

  async dispose(): Promise<void> {
    this.#bar?.stop();
    this.#peer?.kill();
    if (!this.#closed) await this.#appliance?.close();
  }

  async run(): Promise<number> {
    this.#peer = new Peer(this.#options.program);
    const { appliance, udpPort } = await demoAppliance('demo-a', SENDER, RECEIVER);
    this.#appliance = appliance;
    appliance.stack.events.subscribe(e => this.#events.push(e));
    for (const card of appliance.cards) {
      const { name } = card;
      this.#say('power up', `${name}: ${appliance.powerState(name)}, self test passed, ${card.spec}`);
      appliance.up(name, true);
      await this.#until(() => card.ifp.running, `the link of ${name}`);
      this.#say(
        'link up',
        `${name}: ${card.ifp.addresses.map(a => `${a.addr}/${a.prefix}`).join(' ')} mtu ${card.ifp.mtu}`,
      );
    }
    appliance.kextload('SCTP');
    this.#say('kextload', `SCTP.kext in protosw and domain; tunnel on UDP port ${udpPort} (RFC 6951)`);
    const ready = await this.#peer.expect('ready', 2 * STEP_MS);
    this.#say('peer', `second process is up: ${RECEIVER.join(' and ')}, UDP port ${ready.udpPort}`);

    const socket = AsyncSocket.create(appliance);
    hurry(socket);
    socket.setsockopt(IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, { assocId: 0, port: ready.udpPort });
    socket.bind(...sockaddrs(SENDER, 0));
    await within(STEP_MS, 'the association', socket.connect(sockaddrs(RECEIVER, SCTP_PORT)));
    const paths = () => socket.getsockopt(IPPROTO_SCTP, SCTP_GET_PATHS, 0) as PathInfo[];
    await this.#until(() => paths().length === 2 && paths().every(p => p.state === 'active'), 'confirming both paths');
    for (const p of paths())
      this.#say(
        'path',
        `${p.source} -> ${p.address.addr} ${p.state}${p.primary ? ', primary' : ''}, rto ${Math.round(p.rto)} ms, mtu ${p.mtu}`,
      );

    const transfer = await this.#transfer(appliance, socket, paths);
    const received = await this.#peer.expect('received');
    this.#say('shutdown', 'association ended gracefully (RFC 9260 §9.2)');
    socket.close();
    this.#peer.finish();
    const [here, there] = await Promise.all([endAppliance(appliance), this.#peer.expect('closed')]);
    this.#closed = true;
    this.#say(
      'kextunload',
      `SCTP.kext is out on both sides; mbufs left in use: ${here.mbufsInUse} and ${there.end.mbufsInUse}`,
    );
    const status = await within(STEP_MS, 'the end of the second process', this.#peer.exit);
    return this.#summary(transfer, received, here, there.end, status);
  }

  /** Waits for a condition, a few milliseconds at a time. */
  async #until(condition: () => boolean, what: string, ms = STEP_MS): Promise<void> {
    const end = performance.now() + ms;
    while (!condition()) {
      if (performance.now() > end) throw new CliError(`${what} took longer than ${ms / 1000} s`, EXIT_FAILED);
      await pause(5);
    }
  }

  /** Sends for the given time; in the middle third the first card's cable is out. */
  async #transfer(appliance: Appliance, socket: AsyncSocket, paths: () => PathInfo[]): Promise<Transfer> {
    const total = this.#options.seconds * 1000;
    const start = performance.now();
    const elapsed = () => performance.now() - start;
    const t: Transfer = {
      messages: 0,
      bytes: 0,
      hash: '',
      seconds: 0,
      failoverMs: undefined,
      restoredMs: undefined,
      bytesWhileOut: 0,
    };
    const digest = new Digest();
    const bar = progress('transfer', process.stdout, this.#options.json);
    this.#bar = bar;
    let sampleAt = start;
    let sampleBytes = 0;
    const show = () => {
      const now = performance.now();
      const text = `${rate(t.bytes - sampleBytes, (now - sampleAt) / 1000)}, ${bytes(t.bytes)} on ${activePath(paths())}`;
      sampleAt = now;
      sampleBytes = t.bytes;
      bar.update(elapsed() / total, text);
    };
    const timer = setInterval(show, 200);
    const cable = this.#cable(appliance, paths, t, total);
    cable.catch(() => {});
    try {
      const buf = Buffer.allocUnsafe(MESSAGE_BYTES);
      for (let seq = 0; elapsed() < total; seq++) {
        fillMessage(buf, 0, MESSAGE_BYTES, seq);
        while (!socket.trySend(buf)) await within(STEP_MS, 'room in the send buffer', socket.drained());
        t.messages++;
        t.bytes += MESSAGE_BYTES;
        digest.update(buf, 0, MESSAGE_BYTES);
        if (seq % BURST === BURST - 1) await new Promise(resolve => setImmediate(resolve));
      }
      await cable;
      socket.shutdown();
      // 0 = everything is acknowledged and the association has ended.
      const rest = Buffer.allocUnsafe(64);
      while ((await within(2 * STEP_MS, 'the graceful shutdown', socket.recvInto(rest))) !== 0);
    } finally {
      clearInterval(timer);
      bar.stop();
      this.#bar = undefined;
    }
    t.seconds = elapsed() / 1000;
    t.hash = digest.hex();
    this.#say(
      'sent',
      `${grouped(t.messages)} messages, ${bytes(t.bytes)} in ${t.seconds.toFixed(2)} s: ${rate(t.bytes, t.seconds)}`,
    );
    return t;
  }

  /** Pulls the first card's cable after a third of the time, plugs it in after two, and watches the paths. */
  async #cable(appliance: Appliance, paths: () => PathInfo[], t: Transfer, total: number): Promise<void> {
    const first = appliance.cards[0]!.name;
    await pause(total / 3);
    appliance.link(first, false);
    const pulled = performance.now();
    const before = t.bytes;
    this.#say('cable out', `${first}: link down`);
    // Done when the second card carries more than the heartbeats and retransmissions of the first moments.
    const second = appliance.cards[1]!.ifp.counters;
    const carried = second.obytes;
    await this.#until(() => second.obytes - carried > 20 * MESSAGE_BYTES, 'going on over the second path', total / 3);
    t.failoverMs = performance.now() - pulled;
    const other = pathTo(paths(), RECEIVER[1])!;
    this.#say(
      'failover',
      `after ${t.failoverMs.toFixed(0)} ms data goes on ${other.source} -> ${other.address.addr}, because the link of ${first} is down`,
    );
    // Path.Max.Retrans counts on meanwhile; the path may still be on trial when the cable comes back.
    const left = () => total / 3 - (performance.now() - pulled);
    while (left() > 0 && pathTo(paths(), RECEIVER[0])?.state !== 'inactive') await pause(5);
    if (left() > 0)
      this.#say(
        'path down',
        `${RECEIVER[0]} is inactive after ${(performance.now() - pulled).toFixed(0)} ms (RFC 9260 §8.2)`,
      );
    await pause(Math.max(0, left()));
    t.bytesWhileOut = t.bytes - before;
    appliance.link(first, true);
    const plugged = performance.now();
    this.#say('cable in', `${first}: link up again; ${bytes(t.bytesWhileOut)} moved meanwhile`);
    await this.#until(() => pathTo(paths(), RECEIVER[0])?.state === 'active', 'the first path coming back', total / 3);
    t.restoredMs = performance.now() - plugged;
    this.#say('path back', `${RECEIVER[0]} is active again after ${t.restoredMs.toFixed(0)} ms`);
  }

  #summary(
    t: Transfer,
    received: { messages: number; bytes: number; hash: string },
    here: EndReport,
    there: EndReport,
    peerStatus: number,
  ): number {
    const a = here.counters.sctp ?? {};
    const b = there.counters.sctp ?? {};
    const checks: [string, boolean][] = [
      ['every message sent was received', t.messages === received.messages && t.messages > 0],
      ['every byte sent was received', t.bytes === received.bytes],
      ['SHA-256 of what was sent and of what was received are equal', t.hash === received.hash],
      ["SCTP's own count agrees on both sides", a.sctps_outbytes === t.bytes && b.sctps_inbytes === t.bytes],
      [
        'the association outlived the cable',
        t.failoverMs !== undefined && t.bytesWhileOut > 0 && t.restoredMs !== undefined,
      ],
      [
        'the association ended by SHUTDOWN, not ABORT',
        a.sctps_shutdown === 1 && a.sctps_aborted === 0 && b.sctps_aborted === 0,
      ],
      ['SCTP.kext was unloaded on both sides', here.unloaded && there.unloaded],
      ['no mbuf was lost', here.mbufsInUse === 0 && there.mbufsInUse === 0],
      ['the second process ended well', peerStatus === 0],
    ];
    const ok = checks.every(([, held]) => held);
    const seconds = (performance.now() - this.#began) / 1000;
    if (this.#options.json) {
      const summary = {
        ok,
        seconds,
        sent: {
          messages: t.messages,
          bytes: t.bytes,
          sha256: t.hash,
          seconds: t.seconds,
          bitsPerSecond: (t.bytes * 8) / t.seconds,
        },
        received: { messages: received.messages, bytes: received.bytes, sha256: received.hash },
        failoverMs: t.failoverMs,
        restoredMs: t.restoredMs,
        bytesWhileOut: t.bytesWhileOut,
        checks: Object.fromEntries(checks),
        steps: this.#steps,
        counters: { sender: here.counters, receiver: there.counters },
      };
      process.stdout.write(`${JSON.stringify(summary)}\n`);
      return ok ? EXIT_OK : EXIT_FAILED;
    }
    const out = [
      '',
      `sent      ${grouped(t.messages)} messages  ${grouped(t.bytes)} bytes  sha256 ${t.hash.slice(0, 16)}...`,
      `received  ${grouped(received.messages)} messages  ${grouped(received.bytes)} bytes  sha256 ${received.hash.slice(0, 16)}...`,
      '',
      counterTable(here.counters, there.counters),
      ...checks.map(([text, held]) => `${held ? 'ok  ' : 'FAIL'}  ${text}`),
      '',
      ok ? `It held, in ${seconds.toFixed(1)} s.` : 'It did not hold; see the lines marked FAIL.',
      '',
    ];
    process.stdout.write(out.join('\n'));
    return ok ? EXIT_OK : EXIT_FAILED;
  }
}

const pathTo = (paths: readonly PathInfo[], address: string): PathInfo | undefined =>
  paths.find(p => p.address.addr.toString() === address);

/** The path that data takes: the one with most of it in flight. */
function activePath(paths: readonly PathInfo[]): string {
  const p = paths.reduce<PathInfo | undefined>(
    (best, x) => (best === undefined || x.flight > best.flight ? x : best),
    undefined,
  );
  return p === undefined ? 'no path' : `${p.source} -> ${p.address.addr}`;
}

/** Every counter that is not zero on one of the sides, with its meaning where the layer gives one. */
function counterTable(here: EndReport['counters'], there: EndReport['counters']): string {
  const rows: { group: string; name: string; a: number; b: number }[] = [];
  for (const group of new Set([...Object.keys(here), ...Object.keys(there)]))
    for (const name of new Set([...Object.keys(here[group] ?? {}), ...Object.keys(there[group] ?? {})])) {
      const a = here[group]?.[name] ?? 0;
      const b = there[group]?.[name] ?? 0;
      if (a !== 0 || b !== 0) rows.push({ group, name, a, b });
    }
  const meaning: Readonly<Record<string, string>> = COUNTERS;
  return table(rows, [
    { head: 'Layer', cell: r => r.group },
    { head: 'Counter', cell: r => r.name },
    { head: 'Sender', cell: r => grouped(r.a), right: true },
    { head: 'Receiver', cell: r => grouped(r.b), right: true },
    { head: 'Meaning', cell: r => (r.group === 'sctp' ? (meaning[r.name] ?? '') : '') },
  ]);
}
