/**
 * Runs a script against a host of its own, in virtual time (facts part 2): events in their order, each at its moment, until
 * the first that is not as the script says.
 */

import { SEC } from '../stack/kern/clock.js';
import { ENOENT } from '../stack/kern/errno.js';
import { SOCK_SEQPACKET } from '../stack/kern/protosw.js';
import type { Socket } from '../stack/kern/socket.js';
import { AF_INET, AF_INET6, InAddr } from '../stack/netinet/in.js';
import type {
  Command,
  IcmpPacket,
  PacketEvent,
  Position,
  Script,
  ScriptEvent,
  SctpPacket,
  SyscallEvent,
} from './ast.js';
import { firstChunk } from './capture.js';
import { noteOf, planCommand } from './commands.js';
import type { Environment } from './descriptors.js';
import { encodeChunks, ScriptError, type ToWire } from './encode.js';
import { numberOf } from './expressions.js';
import { Host, seconds } from './host.js';
import { learn, matchPacket } from './matching.js';
import type { Abi, Difference, Failure, RunOptions, ScriptResult } from './result.js';
import { readSettings, type Settings } from './settings.js';
import { type Attempt, Kernel, type Outcome } from './syscalls.js';
import { errnoOf, errnoText } from './values.js';
import { encapsulate, icmpFrame, sctpFrame, sctpPacket } from './wire.js';

/** How long a `*` line, or a call that blocks without saying how long, waits in virtual time. */
const PATIENCE = 600 * SEC;
/** How much longer a packet that is late is waited for, to say when it came. */
const LATE = 5 * SEC;
/** Tolerance of virtual time (`tight`), µs: timers of the stack count in milliseconds. */
const TIGHT = 2000;

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
    run = new Run(script, settings, options, notes);
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

const nanoseconds = (n: number): number => Math.round(n * SEC);

/** What calls need of the host, and what they tell it: which ports the conversation has. */
function environment(host: Host, settings: Settings, abi: Abi): Environment {
  const { tuple } = host;
  // A v6 socket writes a v4 address as ::ffff:a.b.c.d.
  const seen = (a: InAddr): InAddr => (settings.mapped ? new InAddr(6, 0, 0, 0xffff, a.w3) : a);
  const port = (so: Socket): number => {
    const a = so.sockaddr();
    return typeof a === 'number' ? 0 : a.port;
  };
  return {
    stack: host.stack,
    domain: settings.local.family === 6 || settings.mapped ? AF_INET6 : AF_INET,
    abi,
    mapping: host.mapping,
    bindAddress: { addr: seen(settings.local), port: settings.bindPort },
    connectAddress: { addr: seen(settings.remote), port: settings.connectPort },
    // Before anybody is known: whom a one-to-many socket would send to.
    peer: () => ({
      addr: settings.remote,
      port: host.mapping.current === undefined ? settings.connectPort : tuple.remotePort,
    }),
    sending: (so, to) => {
      if (so.proto.type !== SOCK_SEQPACKET || host.mapping.current !== undefined) return;
      tuple.localPort = port(so);
      tuple.remotePort = to.port;
    },
    made: () => {
      tuple.localPort = settings.bindPort;
      tuple.remotePort = host.peerPort;
    },
    bound: so => {
      tuple.localPort = port(so);
    },
    connecting: (so, to) => {
      tuple.localPort = port(so); // 0: the first INIT tells
      tuple.remotePort = to.port;
    },
  };
}

class Run {
  readonly #host: Host;
  readonly #kernel: Kernel;
  readonly #notes: string[];
  readonly #tolerance: number;
  readonly #percent: number;
  /** Where relative times count from. */
  #origin: number;
  #inFlight: InFlight | undefined;

  constructor(script: Script, settings: Settings, options: RunOptions, notes: string[]) {
    this.#notes = notes;
    notes.push(...settings.notes);
    this.#tolerance = (options.tight ? Math.min(settings.toleranceUs, TIGHT) : settings.toleranceUs) * 1000;
    this.#percent = options.tight ? 0 : settings.tolerancePercent / 100;
    const wantsIcmp = script.events.some(
      e => e.kind === 'packet' && e.packet.transport === 'icmp' && e.packet.direction === 'out',
    );
    this.#host = new Host(settings, options, wantsIcmp);
    this.#host.stepped = () => this.#poll();
    this.#kernel = new Kernel(environment(this.#host, settings, options.abi));
    this.#origin = this.#host.zero;
  }

  get seconds(): number {
    return this.#host.seconds;
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
        this.#host.settle();
        this.#origin = this.#host.clock.now;
        return;
      case 'code':
        throw new ScriptError('code sections (%{ … }%) are not supported here', event.at);
    }
  }

  /** An instant as people read it: since the script started. */
  #clockText(ns: number): string {
    return seconds(ns - this.#host.zero);
  }

  /** Waits for the moment of an event that this side causes. */
  #arrive(event: ScriptEvent): void {
    const { time } = event;
    const { clock, zero } = this.#host;
    let t = this.#origin;
    if (time.kind === 'absolute') t = zero + nanoseconds(time.seconds);
    else if (time.kind === 'relative') t = this.#origin + nanoseconds(time.seconds);
    else if (time.kind === 'blocking') t = (time.relative ? this.#origin : zero) + nanoseconds(time.from);
    if (t < clock.now - this.#tolerance)
      throw new ScriptError(
        `the time ${this.#clockText(t)} is past: it is ${this.#clockText(clock.now)} already`,
        event.at,
      );
    this.#host.advance(Math.max(t, clock.now));
  }

  /** Only settings of sysctl have a meaning here; the rest is refused aloud (facts part 6). */
  command(command: Command): void {
    const plan = planCommand(command.text);
    if (plan.ignored.length > 0)
      throw new ScriptError(`only sysctl is known here, not: ${plan.ignored.join('; ')}`, command.at);
    for (const setting of plan.settings) {
      const { name, value, ignoreUnknown } = setting;
      const e = this.#host.stack.sysctl.set(name, value);
      const note = noteOf(setting, e);
      if (note !== undefined) this.#notes.push(note);
      else if (e !== 0 && (e !== -ENOENT || !ignoreUnknown)) {
        const why = e === -ENOENT ? 'unknown name' : errnoText(e);
        throw new ScriptError(`sysctl ${name}=${value}: ${why}`, command.at);
      }
    }
  }

  // ------------------------------------------------------------------------------------------------------ inbound packets

  #inject(event: PacketEvent): void {
    const p = event.packet;
    this.#arrive(event);
    if (p.transport === 'icmp') this.#host.inject(encapsulate(this.#icmp(p), p.encap));
    else this.#injectSctp(p);
    this.#origin = this.#host.clock.now;
  }

  #icmp(p: IcmpPacket): Uint8Array {
    const { mapping, tuple } = this.#host;
    const written = p.echoed?.kind === 'sctp' ? p.echoed.tag : 0;
    // The written tag stands for the one that the stack under test really puts on its packets (facts part 4.10).
    return icmpFrame(tuple, p, mapping.current === undefined ? written : mapping.peerTagNow());
  }

  #injectSctp(p: SctpPacket): void {
    const { mapping: m, tuple } = this.#host;
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
    const sctp = sctpPacket({ src: tuple.remotePort, dst: tuple.localPort }, tag, body, p.checksum ?? 'good');
    this.#host.inject(encapsulate(sctpFrame(tuple, sctp, p.udp, p.ip), p.encap), () => {
      if (cookie && intact) m.cookieGiven();
    });
  }

  // ----------------------------------------------------------------------------------------------------- outbound packets

  #expect(event: PacketEvent): void {
    const { packet: p, time } = event;
    const { clock, zero, waiting, mapping } = this.#host;
    let from = Number.NEGATIVE_INFINITY;
    let to = Number.POSITIVE_INFINITY;
    if (time.kind === 'absolute' || time.kind === 'relative')
      from = to = (time.kind === 'relative' ? this.#origin : zero) + nanoseconds(time.seconds);
    else if (time.kind === 'window') {
      const start = time.relative ? this.#origin : zero;
      from = start + nanoseconds(time.from);
      to = start + nanoseconds(time.to);
    }
    const slack = time.kind === 'any' ? 0 : this.#slack(to - this.#origin);
    const limit = time.kind === 'any' ? clock.now + PATIENCE : to + slack + LATE;
    this.#host.wait(() => waiting.length > 0, limit);
    const got = waiting.shift();
    if (got === undefined) {
      const until = time.kind === 'any' ? limit : to + slack;
      this.#fail(event, `expected a packet, none came until ${this.#clockText(until)}`, {
        differences: [{ field: 'packet', expected: 'a packet', got: 'none' }],
      });
    }
    const { at } = got.packet;
    const late = at < from - slack || at > to + slack ? this.#when(from, to, slack, at) : [];
    const { differences, shown } = matchPacket(p, got, mapping);
    const all = [...late, ...differences];
    if (all.length > 0) {
      const timeOnly = differences.length === 0;
      const what = timeOnly ? 'the packet came at the wrong time' : 'the packet that came is not the one expected';
      this.#fail(event, what, { packets: { expected: p, got: shown }, differences: all });
    }
    learn(got, mapping);
    this.#origin = Math.max(this.#origin, at);
  }

  /** By how much the time of something may be off that lies so far behind the event before. */
  #slack(distance: number): number {
    return Math.max(this.#tolerance, this.#percent * Math.max(distance, 0));
  }

  #when(from: number, to: number, slack: number, at: number): Difference[] {
    const [a, b] = [this.#clockText(from), this.#clockText(to)];
    const expected = `${from === to ? a : `${a} to ${b}`} (± ${seconds(slack)})`;
    return [{ field: 'time', expected, got: this.#clockText(at) }];
  }

  // ----------------------------------------------------------------------------------------------------------------- calls

  #call(event: SyscallEvent): void {
    this.#awaitInFlight(event);
    this.#arrive(event);
    const { time } = event;
    const host = this.#host;
    const attempt = this.#kernel.begin(event.call);
    const first = attempt();
    if (first !== 'blocked') {
      host.settle();
      if (time.kind === 'blocking') this.#returned({ ...this.#due(event), event, attempt });
      this.#finishCall(event, first);
    } else if (time.kind === 'blocking') {
      this.#inFlight = { event, attempt, ...this.#due(event) };
      host.settle();
    } else {
      // A call that blocks holds up the script until it returns.
      let outcome: Outcome | undefined;
      const tryAgain = () => {
        const r = attempt();
        if (r !== 'blocked') outcome = r;
        return r !== 'blocked';
      };
      host.settle();
      if (!host.wait(tryAgain, host.clock.now + PATIENCE) || outcome === undefined)
        this.#fail(event, `${event.call.name} blocks and does not return`);
      host.settle();
      this.#finishCall(event, outcome);
    }
    this.#origin = host.clock.now;
  }

  #due(event: SyscallEvent): { due: number; slack: number } {
    const { time } = event;
    if (time.kind !== 'blocking') return { due: this.#host.clock.now, slack: this.#tolerance };
    const due = (time.relative ? this.#origin : this.#host.zero) + nanoseconds(time.to);
    return { due, slack: this.#slack(nanoseconds(time.to - time.from)) };
  }

  /** One blocking call at a time: the next call, and the end of the script, wait for it. */
  #awaitInFlight(event?: SyscallEvent): void {
    const f = this.#inFlight;
    if (f === undefined) return;
    this.#host.wait(() => this.#inFlight === undefined, f.due + f.slack);
    if (this.#inFlight !== undefined)
      this.#fail(f.event, `${f.event.call.name} still blocks at ${this.#clockText(this.#host.clock.now)}`, {
        expected: `returns at ${this.#clockText(f.due)}`,
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
    const { now } = this.#host.clock;
    if (Math.abs(now - f.due) > f.slack)
      this.#fail(f.event, `${f.event.call.name} returned at the wrong time`, {
        differences: this.#when(f.due, f.due, f.slack, now),
      });
  }

  #finishCall(event: SyscallEvent, r: Outcome): void {
    const { call } = event;
    const want = call.result.kind === 'any' ? undefined : numberOf(call.result);
    const got = r.value < 0 ? `-1 ${errnoText(r.value)}` : String(r.value);
    const errno = call.errno === undefined || want === undefined ? undefined : errnoOf(call.errno);
    if (call.errno !== undefined && want !== undefined && errno === undefined)
      throw new ScriptError(`"${call.errno}" is no errno of FreeBSD`, call.at);
    const fits = (value: number): boolean => {
      if (want === undefined) return true;
      return value < 0 ? want === -1 && (errno === undefined || errno === -value) : want === value;
    };
    // Any label does for a descriptor.
    const labelled = r.opened !== undefined && r.label === undefined;
    const right = labelled ? want === undefined || want >= 0 : fits(r.value) || (r.also !== undefined && fits(r.also));
    if (!right)
      this.#fail(event, `${call.name} returned ${got}`, {
        expected: `${want ?? '...'}${call.errno === undefined ? '' : ` ${call.errno}`}`,
        got,
      });
    if (r.opened !== undefined) this.#kernel.label(r.label ?? want ?? 0, r.opened);
    if (r.differences.length > 0 && (r.value >= 0 || r.opened !== undefined))
      this.#fail(event, `${call.name} gave something else than expected`, { differences: r.differences });
  }

  #fail(event: ScriptEvent, what: string, more: Omit<Failure, 'at' | 'what'> = {}): never {
    throw new Failed({ at: event.at, what, ...more });
  }

  // ------------------------------------------------------------------------------------------------------------------- end

  /** The last event is done. */
  finish(): void {
    this.#awaitInFlight();
  }

  /** Remarks, the cleanup command and the capture file; also after a failure. */
  end(cleanup: Command | undefined): void {
    this.#host.end(this.#notes);
    // The stack is gone with the script: nothing has to be put back.
    if (cleanup !== undefined)
      for (const x of planCommand(cleanup.text).ignored) this.#notes.push(`cleanup ignored: ${x}`);
  }
}
