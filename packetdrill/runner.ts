/**
 * Runs a script against a fresh stack with SCTP.kext on an interface in memory, in virtual time (facts part 2): the stack's
 * timers fire up to the moment of each event, what it sends waits with its own time stamp until the script asks for it.
 */

import { writeFileSync } from 'node:fs';
import { LINKTYPE_RAW, PCAPNG_INBOUND, PCAPNG_OUTBOUND, PcapngWriter } from '../nic/ports/pcapng.js';
import { Clock, SEC, SeededRandom } from '../stack/kern/clock.js';
import { MbufPool } from '../stack/kern/mbuf.js';
import { SOCK_SEQPACKET } from '../stack/kern/protosw.js';
import type { SockAddr, Socket } from '../stack/kern/socket.js';
import { type SctpKext, sctpKext } from '../stack/kexts/SCTP.kext/index.js';
import { IFF_MULTICAST, IFF_NOARP, IFF_POINTOPOINT } from '../stack/net/ifnet.js';
import { AF_INET, AF_INET6, InAddr } from '../stack/netinet/in.js';
import { Stack } from '../stack/stack.js';
import { TestInterface } from '../stack/testing.js';
import type {
  Command,
  IcmpPacket,
  InitChunk,
  PacketEvent,
  Position,
  Script,
  ScriptEvent,
  SctpPacket,
  SyscallEvent,
} from './ast.js';
import { planCommand } from './commands.js';
import { compareChunks } from './compare.js';
import { decodeChunks } from './decode.js';
import { encodeChunks, ScriptError, type ToWire } from './encode.js';
import { numberOf } from './expressions.js';
import { CHUNK_NAMES } from './forms.js';
import { type Base, Mapping } from './mapping.js';
import type { Difference, Failure, RunOptions, ScriptResult } from './result.js';
import { readSettings, type Settings } from './settings.js';
import { type Attempt, Kernel, type Outcome } from './syscalls.js';
import { KNOWN_SYSCTLS } from './sysctls.js';
import { errnoOf, errnoText } from './values.js';
import {
  type Captured,
  capture,
  findParameter,
  firstChunk,
  icmpFrame,
  sctpFrame,
  sctpPacket,
  type Tuple,
} from './wire.js';

/** Mbufs of the stack under test: enough for full buffers both ways beside what senders must leave (making them costs time). */
const POOL = { small: 1024, cluster: 768, jumbo: 16 } as const;
/** Steps at one instant after which the stack is thought to run in circles. */
const MAX_STEPS = 20_000;
/** How long a `*` line, or a call that blocks without saying how long, waits in virtual time. */
const PATIENCE = 600 * SEC;
/** How much longer a packet that is late is waited for, to say when it came. */
const LATE = 5 * SEC;
/** Most packets that wait for their line; a stack that sends more without being asked is stopped. */
const MAX_WAITING = 10_000;
const EXTRA_NOTES = 20;

/** A captured packet with the numbers in force when it was sent. */
interface Waiting {
  readonly packet: Captured;
  readonly base: Base | undefined;
}

/** A blocking call under way. */
interface InFlight {
  readonly event: SyscallEvent;
  readonly attempt: Attempt;
  /** When it must return, ns, and by how much it may be off. */
  readonly due: number;
  readonly slack: number;
}

class Failed extends Error {
  readonly failure: Failure;
  constructor(failure: Failure) {
    super(failure.what);
    this.failure = failure;
  }
}

/** Runs one script. Never throws: whatever goes wrong is the result's failure. */
export function runScript(script: Script, options: RunOptions): ScriptResult {
  let at: Position = script.events[0]?.at ?? { file: script.file, line: 1, column: 1 };
  const notes: string[] = [];
  let run: Run | undefined;
  try {
    const settings = readSettings(script.options, options.overrides);
    run = new Run(settings, options, notes);
    if (script.init !== undefined) {
      at = script.init.at;
      run.command(script.init);
    }
    for (const event of script.events) {
      at = event.at;
      run.step(event);
    }
    run.finish();
    return { ok: true, virtualSeconds: run.seconds, notes };
  } catch (e) {
    return { ok: false, failure: failureOf(e, at), virtualSeconds: run?.seconds ?? 0, notes };
  } finally {
    run?.end(script.cleanup);
  }
}

function failureOf(e: unknown, at: Position): Failure {
  if (e instanceof Failed) return e.failure;
  if (e instanceof ScriptError) return { at: e.at ?? at, what: e.message };
  const text = e instanceof Error ? (process.env.NKE_DEBUG ? (e.stack ?? e.message) : e.message) : String(e);
  return { at, what: `internal error: ${text}` };
}

const seconds = (ns: number): string => `${(ns / SEC).toFixed(6).replace(/\.?0+$/, '')} s`;
const signed = (n: number): number => Math.round(n * SEC);

class Run {
  readonly #settings: Settings;
  readonly #options: RunOptions;
  readonly #notes: string[];
  readonly #clock = new Clock(SEC);
  readonly #zero = SEC;
  readonly #stack: Stack;
  readonly #kext: SctpKext;
  readonly #nic: TestInterface;
  readonly #mapping: Mapping;
  readonly #kernel: Kernel;
  readonly #tuple: Tuple;
  readonly #peerPort: number;
  readonly #waiting: Waiting[] = [];
  readonly #pcap: { readonly writer: PcapngWriter; readonly parts: Uint8Array[]; readonly file: string } | undefined;
  #tolerance: number;
  #percent: number;
  /** Where relative times count from. */
  #origin = SEC;
  #kicked = false;
  #inFlight: InFlight | undefined;
  /** The result of a blocking call that has returned meanwhile. */
  #strangers = 0;

  constructor(settings: Settings, options: RunOptions, notes: string[]) {
    this.#settings = settings;
    this.#options = options;
    this.#notes = notes;
    notes.push(...settings.notes);
    const seed = options.seed ?? 1;
    const random = new SeededRandom(seed);
    this.#tolerance = options.tight ? Math.min(settings.toleranceUs, 2000) * 1000 : settings.toleranceUs * 1000;
    this.#percent = options.tight ? 0 : settings.tolerancePercent / 100;
    this.#peerPort = 32768 + (random.u32() % 16384);
    this.#stack = new Stack({
      clock: this.#clock,
      random,
      pool: new MbufPool(POOL),
      kick: () => {
        this.#kicked = true;
      },
    });
    this.#nic = new TestInterface(this.#stack, 'tun0', {
      mtu: settings.mtu,
      flags: IFF_NOARP | IFF_POINTOPOINT | IFF_MULTICAST,
      addresses: settings.addresses,
    });
    const any = InAddr.of(settings.local.family === 4 ? '0.0.0.0' : '::');
    if (this.#stack.routes.add(any, 0, settings.gateway) < 0)
      throw new ScriptError(`the gateway ${settings.gateway} is not reached from ${settings.addresses[0]}`);
    this.#kext = sctpKext();
    const loaded = this.#stack.kexts.load(this.#kext);
    if (!loaded.ok) throw new Error(loaded.reason);
    this.#tuple = {
      local: settings.local,
      remote: settings.remote,
      localPort: settings.bindPort,
      remotePort: this.#peerPort,
    };
    const sctp = () => this.#kext.sctp;
    this.#mapping = new Mapping({
      alive: tag => sctp()?.byTag(tag) !== undefined,
      opening: tag => {
        const state = sctp()?.byTag(tag)?.state;
        return state === 'COOKIE_WAIT' || state === 'COOKIE_ECHOED';
      },
      peerTag: tag => sctp()?.byTag(tag)?.peerTag,
    });
    this.#kernel = this.#makeKernel();
    if (options.pcap !== undefined) {
      const parts: Uint8Array[] = [];
      const writer = new PcapngWriter(b => parts.push(b.slice()), LINKTYPE_RAW);
      this.#pcap = { writer, parts, file: options.pcap };
    }
    this.#settle();
  }

  #makeKernel(): Kernel {
    const { settings, tuple } = { settings: this.#settings, tuple: this.#tuple };
    // A v6 socket writes a v4 address as ::ffff:a.b.c.d.
    const seen = (a: InAddr): InAddr => (settings.mapped ? new InAddr(6, 0, 0, 0xffff, a.w3) : a);
    const port = (so: Socket): number => {
      const a = so.sockaddr();
      return typeof a === 'number' ? 0 : a.port;
    };
    return new Kernel({
      stack: this.#stack,
      domain: settings.local.family === 6 || settings.mapped ? AF_INET6 : AF_INET,
      abi: this.#options.abi,
      mapping: this.#mapping,
      bindAddress: { addr: seen(settings.local), port: settings.bindPort },
      connectAddress: { addr: seen(settings.remote), port: settings.connectPort },
      // Before anybody is known: whom a one-to-many socket would send to.
      peer: () => ({
        addr: settings.remote,
        port: this.#mapping.current === undefined ? settings.connectPort : tuple.remotePort,
      }),
      sending: (so, to) => {
        if (so.proto.type !== SOCK_SEQPACKET || this.#mapping.current !== undefined) return;
        tuple.localPort = port(so);
        tuple.remotePort = to.port;
      },
      made: () => {
        tuple.localPort = settings.bindPort;
        tuple.remotePort = this.#peerPort;
      },
      bound: so => {
        tuple.localPort = port(so);
      },
      connecting: (so, to: SockAddr) => {
        tuple.localPort = port(so); // 0: the first INIT tells
        tuple.remotePort = to.port;
      },
    });
  }

  get seconds(): number {
    return (this.#clock.now - this.#zero) / SEC;
  }

  // ------------------------------------------------------------------------------------------------------------- events

  step(event: ScriptEvent): void {
    switch (event.kind) {
      case 'packet':
        if (event.packet.direction === 'out') this.#expect(event);
        else this.#inject(event);
        return;
      case 'syscall':
        this.#call(event);
        return;
      case 'command':
        this.#arrive(event);
        this.command(event.command);
        this.#settle();
        this.#origin = this.#clock.now;
        return;
      case 'code':
        throw new ScriptError('code sections (%{ … }%) are not supported here', event.at);
    }
  }

  /** Waits for the moment of an event that this side causes. */
  #arrive(event: ScriptEvent): void {
    const { time } = event;
    let t = this.#origin;
    if (time.kind === 'absolute') t = this.#zero + signed(time.seconds);
    else if (time.kind === 'relative') t = this.#origin + signed(time.seconds);
    else if (time.kind === 'blocking') t = (time.relative ? this.#origin : this.#zero) + signed(time.from);
    if (t < this.#clock.now - this.#tolerance)
      throw new ScriptError(
        `the time ${seconds(t - this.#zero)} is past: it is ${seconds(this.#clock.now - this.#zero)} already`,
        event.at,
      );
    this.#advance(Math.max(t, this.#clock.now));
  }

  command(command: Command): void {
    const plan = planCommand(command.text);
    if (plan.ignored.length > 0)
      throw new ScriptError(`only sysctl is known here, not: ${plan.ignored.join('; ')}`, command.at);
    for (const { name, value, ignoreUnknown } of plan.settings) {
      const e = this.#stack.sysctl.set(name, value);
      if (e === 0) continue;
      const known = KNOWN_SYSCTLS.get(name);
      if (known !== undefined) {
        if (!(value >= known.min && value <= known.max))
          throw new ScriptError(`sysctl ${name}=${value}: out of range`, command.at);
        if (value !== known.have)
          this.#notes.push(`sysctl ${name}=${value} has no effect: this stack does not have it`);
      } else if (e !== -2 || !ignoreUnknown)
        throw new ScriptError(`sysctl ${name}=${value}: ${e === -2 ? 'unknown name' : errnoText(e)}`, command.at);
    }
  }

  // ------------------------------------------------------------------------------------------------------ inbound packets

  #inject(event: PacketEvent): void {
    const p = event.packet;
    this.#arrive(event);
    if (p.encap.length > 0) throw new ScriptError('outer headers are not supported here', p.at);
    if (p.transport === 'icmp') this.#receive(this.#icmp(p));
    else this.#receiveSctp(p);
    this.#origin = this.#clock.now;
  }

  #icmp(p: IcmpPacket): Uint8Array {
    const written = p.echoed?.kind === 'sctp' ? p.echoed.tag : 0;
    // The written tag stands for the one that the stack under test really puts on its packets (facts part 4.10).
    return icmpFrame(this.#tuple, p, this.#mapping.current === undefined ? written : this.#mapping.peerTagNow());
  }

  #receiveSctp(p: SctpPacket): void {
    const m = this.#mapping;
    const chunks = p.chunks ?? [];
    const cookie = chunks.some(c => c.name === 'COOKIE_ECHO' && typeof c.val === 'symbol');
    const base = m.forPacket(cookie);
    const to: ToWire = {
      tsn: n => base?.tsnToLive(n) ?? n >>> 0,
      cookie: m.cookie?.bytes,
      heartbeat: m.heartbeat,
    };
    const body = p.raw ?? encodeChunks(chunks, to);
    const init = p.raw !== undefined ? p.raw[0] === 1 : chunks.some(c => c.name === 'INIT');
    const reflected = chunks.some(
      c => (c.name === 'ABORT' || c.name === 'SHUTDOWN_COMPLETE') && typeof c.flgs === 'number' && (c.flgs & 1) !== 0,
    );
    const tag = m.verificationTag(base, p.tag, reflected, init);
    const wrongTag = p.tag !== undefined && !reflected && !init && base !== undefined && tag !== base.liveTag;
    const intact = p.checksum !== 'bad' && !wrongTag;
    // What the peer says of itself, in an INIT or INIT ACK.
    const first = firstChunk(body);
    if (intact && first !== undefined && (first.type === 1 || first.type === 2) && first.bytes.length >= 8)
      m.peerInit(new DataView(first.bytes.buffer, first.bytes.byteOffset).getUint32(4), first.type === 2);
    const ports = { src: this.#tuple.remotePort, dst: this.#tuple.localPort };
    const sctp = sctpPacket(ports, tag, body, p.checksum ?? 'good');
    this.#receive(sctpFrame(this.#tuple, sctp, p.udp, p.ip), () => {
      if (cookie && intact) m.cookieGiven();
    });
  }

  #receive(frame: Uint8Array, then?: () => void): void {
    this.#record(frame, PCAPNG_INBOUND);
    this.#nic.inject(frame);
    then?.();
    this.#settle();
  }

  // ----------------------------------------------------------------------------------------------------- outbound packets

  #expect(event: PacketEvent): void {
    const { packet: p, time } = event;
    if (p.transport === 'icmp') throw new ScriptError('ICMP can only be injected', p.at);
    if (p.encap.length > 0) throw new ScriptError('outer headers are not supported here', p.at);
    let from = Number.NEGATIVE_INFINITY;
    let to = Number.POSITIVE_INFINITY;
    if (time.kind === 'absolute' || time.kind === 'relative')
      from = to = (time.kind === 'relative' ? this.#origin : this.#zero) + signed(time.seconds);
    else if (time.kind === 'window') {
      const start = time.relative ? this.#origin : this.#zero;
      from = start + signed(time.from);
      to = start + signed(time.to);
    }
    const slack = time.kind === 'any' ? 0 : this.#slack(to - this.#origin);
    const limit = time.kind === 'any' ? this.#clock.now + PATIENCE : to + slack + LATE;
    this.#wait(() => this.#waiting.length > 0, limit);
    const got = this.#waiting.shift();
    if (got === undefined) {
      const until = time.kind === 'any' ? limit : to + slack;
      this.#fail(event, `expected a packet, none came until ${seconds(until - this.#zero)}`, {
        differences: [{ field: 'packet', expected: 'a packet', got: 'none' }],
      });
    }
    const late = got.packet.at < from - slack || got.packet.at > to + slack;
    this.#match(event, p, got, late ? this.#when(from, to, slack, got.packet.at) : []);
    this.#origin = Math.max(this.#origin, got.packet.at);
  }

  #slack(distance: number): number {
    return Math.max(this.#tolerance, this.#percent * Math.max(distance, 0));
  }

  #when(from: number, to: number, slack: number, at: number): Difference[] {
    const [a, b] = [seconds(from - this.#zero), seconds(to - this.#zero)];
    const expected = `${from === to ? a : `${a} to ${b}`} (± ${seconds(slack)})`;
    return [{ field: 'time', expected, got: seconds(at - this.#zero) }];
  }

  #match(event: PacketEvent, p: SctpPacket, got: Waiting, differences: Difference[]): void {
    const { packet, base } = got;
    const want = p.chunks ?? [];
    const init = want.find((c): c is InitChunk => c.name === 'INIT' || c.name === 'INIT_ACK');
    const first = firstChunk(packet.body);
    if (init !== undefined && base !== undefined && first?.type === (init.name === 'INIT' ? 1 : 2)) {
      const number = (v: unknown) => (typeof v === 'number' ? v : 0);
      this.#mapping.label(base, number(init.tag), number(init.tsn));
    }
    const chunks = decodeChunks(packet.body, want, {
      tsn: n => base?.tsnToScript(n) ?? n,
      tag: n => base?.tagToScript(n) ?? n,
    });
    if (p.tag !== undefined && p.tag !== packet.tag)
      differences.push({ field: 'tag', expected: String(p.tag), got: String(packet.tag) });
    this.#compareHeaders(p, packet, differences);
    differences.push(...compareChunks(want, chunks));
    const shown: SctpPacket = {
      ...p,
      chunks,
      udp: packet.udp,
      tag: p.tag === undefined ? undefined : packet.tag,
      checksum: packet.checksum === 'good' ? undefined : packet.checksum,
    };
    if (differences.length > 0) {
      const what =
        differences.length === 1 && differences[0]!.field === 'time'
          ? 'the packet came at the wrong time'
          : 'the packet that came is not the one expected';
      this.#fail(event, what, { packets: { expected: p, got: shown }, differences });
    }
    this.#learn(got, first);
  }

  /** What a matched packet leaves for later lines: numbers, the cookie, heartbeat information. */
  #learn(got: Waiting, first: ReturnType<typeof firstChunk>): void {
    if (got.base !== undefined && first !== undefined && (first.type === 1 || first.type === 2)) {
      const cookie = first.type === 2 ? findParameter(first.bytes, 20, 7) : undefined;
      this.#mapping.matchedInit(got.base, first.type === 1, cookie);
    }
    const { body } = got.packet;
    for (let o = 0; o + 4 <= body.length; ) {
      const len = (body[o + 2]! << 8) | body[o + 3]!;
      if (len < 4 || o + len > body.length) return;
      if (body[o] === 4) this.#mapping.heartbeat = findParameter(body.subarray(o, o + len), 4, 1);
      o += (len + 3) & ~3;
    }
  }

  #compareHeaders(p: SctpPacket, got: Captured, out: Difference[]): void {
    const diff = (field: string, expected: number | string, value: number | string) => {
      if (expected !== value) out.push({ field, expected: String(expected), got: String(value) });
    };
    diff('layers', p.udp === undefined ? 'IP/SCTP' : 'IP/UDP/SCTP', got.udp === undefined ? 'IP/SCTP' : 'IP/UDP/SCTP');
    if (p.checksum === 'zero') diff('checksum', 'zero', got.checksum);
    else if (got.checksum === 'bad') diff('checksum', 'right', 'wrong');
    const { ip } = p;
    if (ip === undefined) return;
    if (ip.ttl !== undefined) diff('ttl', ip.ttl, got.ttl);
    if (ip.tos !== undefined) diff('tos', ip.tos, got.tos);
    if (ip.dscp !== undefined) diff('dscp', ip.dscp, got.tos >>> 2);
    if (ip.flowlabel !== undefined) diff('flowlabel', ip.flowlabel, got.flowlabel);
    const ecn = got.tos & 3;
    if (ip.ecn === 'ect01') diff('ecn', 'ect0 or ect1', ecn === 1 || ecn === 2 ? 'ect0 or ect1' : ecn);
    else if (ip.ecn !== undefined) diff('ecn', ip.ecn, ecn);
  }

  // ----------------------------------------------------------------------------------------------------------------- calls

  #call(event: SyscallEvent): void {
    this.#awaitInFlight(event);
    this.#arrive(event);
    const { time } = event;
    const attempt = this.#kernel.begin(event.call);
    const first = attempt();
    if (first !== 'blocked') {
      this.#settle();
      if (time.kind === 'blocking') this.#returned({ ...this.#due(event), event, attempt });
      this.#finishCall(event, first);
    } else if (time.kind === 'blocking') {
      this.#inFlight = { event, attempt, ...this.#due(event) };
      this.#settle();
    } else {
      // A call that blocks holds up the script until it returns.
      let outcome: Outcome | undefined;
      const tryAgain = () => {
        const r = attempt();
        if (r !== 'blocked') outcome = r;
        return r !== 'blocked';
      };
      this.#settle();
      if (!this.#wait(tryAgain, this.#clock.now + PATIENCE) || outcome === undefined)
        this.#fail(event, `${event.call.name} blocks and does not return`);
      this.#settle();
      this.#finishCall(event, outcome);
    }
    this.#origin = this.#clock.now;
  }

  #due(event: SyscallEvent): { due: number; slack: number } {
    const { time } = event;
    if (time.kind !== 'blocking') return { due: this.#clock.now, slack: this.#tolerance };
    const due = (time.relative ? this.#origin : this.#zero) + signed(time.to);
    return { due, slack: this.#slack(signed(time.to - time.from)) };
  }

  /** One blocking call at a time: the next call, and the end of the script, wait for it. */
  #awaitInFlight(event?: SyscallEvent): void {
    const f = this.#inFlight;
    if (f === undefined) return;
    this.#wait(() => this.#inFlight === undefined, f.due + f.slack);
    if (this.#inFlight !== undefined)
      this.#fail(f.event, `${f.event.call.name} still blocks at ${seconds(this.#clock.now - this.#zero)}`, {
        expected: `returns at ${seconds(f.due - this.#zero)}`,
        got: event === undefined ? 'blocked at the end of the script' : 'blocked when the next call was made',
      });
  }
  #poll(): void {
    const f = this.#inFlight;
    if (f === undefined) return;
    const r = f.attempt();
    if (r === 'blocked') return;
    this.#inFlight = undefined;
    this.#returned(f);
    this.#finishCall(f.event, r);
  }
  #returned(f: InFlight): void {
    if (Math.abs(this.#clock.now - f.due) > f.slack)
      this.#fail(f.event, `${f.event.call.name} returned at the wrong time`, {
        differences: this.#when(f.due, f.due, f.slack, this.#clock.now),
      });
  }

  #finishCall(event: SyscallEvent, r: Outcome): void {
    const { call } = event;
    const want = call.result.kind === 'any' ? undefined : numberOf(call.result);
    const got = r.value < 0 ? `-1 ${errnoText(r.value)}` : String(r.value);
    const wrong = () =>
      this.#fail(event, `${call.name} returned ${got}`, {
        expected: `${want ?? '...'}${call.errno === undefined ? '' : ` ${call.errno}`}`,
        got,
      });
    if (r.opened !== undefined) {
      if (want !== undefined && want < 0) wrong();
      this.#kernel.label(want ?? 0, r.opened);
    } else if (r.value < 0) {
      if (want !== undefined && want !== -1) wrong();
      const errno = call.errno === undefined || want === undefined ? undefined : errnoOf(call.errno);
      if (call.errno !== undefined && want !== undefined && errno === undefined)
        throw new ScriptError(`"${call.errno}" is no errno of FreeBSD`, call.at);
      if (errno !== undefined && errno !== -r.value) wrong();
    } else if (want !== undefined && want !== r.value) wrong();
    if (r.differences.length > 0 && (r.value >= 0 || r.opened !== undefined))
      this.#fail(event, `${call.name} gave something else than expected`, { differences: r.differences });
  }

  // ------------------------------------------------------------------------------------------------------------------ time

  #fail(event: ScriptEvent, what: string, more: Omit<Failure, 'at' | 'what'> = {}): never {
    throw new Failed({ at: event.at, what, ...more });
  }

  /** Does everything that is due now, and takes what the stack sends. */
  #settle(): void {
    for (let step = 0; step < MAX_STEPS; step++) {
      this.#kicked = false;
      this.#stack.run(this.#clock.now);
      this.#collect();
      this.#poll();
      if (!this.#kicked && this.#stack.deadline() > this.#clock.now) return;
    }
    throw new ScriptError(`the stack still has work after ${MAX_STEPS} steps at one instant`);
  }

  /** Runs to an instant, timer by timer. */
  #advance(to: number): void {
    for (let next = this.#stack.deadline(); next <= to; next = this.#stack.deadline()) {
      this.#clock.now = Math.max(next, this.#clock.now);
      this.#settle();
    }
    this.#clock.now = Math.max(this.#clock.now, to);
  }

  /** Runs timer by timer until a condition holds, but not beyond an instant; the clock then stands there. */
  #wait(until: () => boolean, limit: number): boolean {
    for (;;) {
      if (until()) return true;
      const next = this.#stack.deadline();
      if (next > limit) {
        if (limit > this.#clock.now && limit !== Number.POSITIVE_INFINITY) this.#clock.now = limit;
        return until();
      }
      this.#clock.now = Math.max(next, this.#clock.now);
      this.#settle();
    }
  }

  // --------------------------------------------------------------------------------------------------------------- capture

  #collect(): void {
    for (const frame of this.#nic.take()) {
      this.#record(frame, PCAPNG_OUTBOUND);
      const packet = capture(this.#clock.now, frame, this.#settings.udpEncapsulation);
      if (packet === undefined) continue;
      if (!this.#belongs(packet)) {
        this.#strangers++;
        continue;
      }
      if (this.#waiting.length >= MAX_WAITING)
        throw new ScriptError(`more than ${MAX_WAITING} packets wait to be looked at`);
      this.#waiting.push({ packet, base: this.#baseOf(packet) });
    }
  }

  /** Only packets of the socket under test count: its addresses and ports, or an INIT to the peer that it connects to. */
  #belongs(p: Captured): boolean {
    const t = this.#tuple;
    if (!p.src.equals(t.local) || !p.dst.equals(t.remote) || p.dstPort !== t.remotePort) return false;
    if (t.localPort === 0 && firstChunk(p.body)?.type === 1) t.localPort = p.srcPort;
    return p.srcPort === t.localPort;
  }

  #baseOf(p: Captured): Base | undefined {
    const first = firstChunk(p.body);
    if (first !== undefined && (first.type === 1 || first.type === 2) && first.bytes.length >= 20) {
      const dv = new DataView(first.bytes.buffer, first.bytes.byteOffset, first.bytes.length);
      return this.#mapping.sentInit(dv.getUint32(4), dv.getUint32(16), first.type === 1);
    }
    return this.#mapping.current;
  }

  #record(frame: Uint8Array, direction: number): void {
    if (this.#pcap === undefined) return;
    const { writer } = this.#pcap;
    const packet = frame.subarray(14);
    const at = writer.begin(packet.length);
    writer.u8.set(packet, at);
    const ns = this.#clock.now - this.#zero;
    writer.end(packet.length, Math.floor(ns / SEC), ns % SEC, direction);
  }

  // ------------------------------------------------------------------------------------------------------------------- end

  /** The last event is done. */
  finish(): void {
    this.#awaitInFlight();
  }

  /** Remarks, the cleanup command and the capture file; also after a failure. */
  end(cleanup: Command | undefined): void {
    for (const { packet } of this.#waiting.slice(0, EXTRA_NOTES))
      this.#notes.push(`left over at ${seconds(packet.at - this.#zero)}: ${chunkNames(packet.body)}`);
    if (this.#waiting.length > EXTRA_NOTES)
      this.#notes.push(`and ${this.#waiting.length - EXTRA_NOTES} packets more left over`);
    if (this.#strangers > 0) this.#notes.push(`${this.#strangers} packets were not of the socket under test`);
    if (cleanup !== undefined) {
      // The stack is gone with the script: nothing has to be put back.
      for (const x of planCommand(cleanup.text).ignored) this.#notes.push(`cleanup ignored: ${x}`);
    }
    if (this.#pcap === undefined) return;
    this.#pcap.writer.flush();
    writeFileSync(this.#pcap.file, Buffer.concat(this.#pcap.parts));
  }
}

function chunkNames(body: Uint8Array): string {
  const names: string[] = [];
  for (let o = 0; o + 4 <= body.length && names.length < 20; ) {
    const len = (body[o + 2]! << 8) | body[o + 3]!;
    names.push(CHUNK_NAMES.get(body[o]!) ?? `chunk 0x${body[o]!.toString(16)}`);
    if (len < 4) break;
    o += (len + 3) & ~3;
  }
  return names.length === 0 ? 'a packet without chunks' : names.join('; ');
}
