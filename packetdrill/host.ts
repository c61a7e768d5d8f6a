/**
 * The host under test: a fresh stack with SCTP.kext on an interface in memory, in virtual time (facts part 2). Its timers
 * fire up to the moment that is asked for; what it sends waits with its own time stamp, and the numbers in force then, until
 * the script asks for it.
 */

import { writeFileSync } from 'node:fs';
import { LINKTYPE_RAW, PCAPNG_INBOUND, PCAPNG_OUTBOUND, PcapngWriter } from '../nic/ports/pcapng.js';
import { Clock, SEC, SeededRandom } from '../stack/kern/clock.js';
import { MbufPool } from '../stack/kern/mbuf.js';
import { type SctpKext, sctpKext } from '../stack/kexts/SCTP.kext/index.js';
import { IFF_MULTICAST, IFF_NOARP, IFF_POINTOPOINT } from '../stack/net/ifnet.js';
import { InAddr } from '../stack/netinet/in.js';
import { Stack } from '../stack/stack.js';
import { TestInterface } from '../stack/testing.js';
import { type Captured, type CapturedIcmp, type CapturedSctp, capture, firstChunk } from './capture.js';
import { ScriptError } from './encode.js';
import { CHUNK_NAMES } from './forms.js';
import { type Base, Mapping } from './mapping.js';
import type { RunOptions } from './result.js';
import type { Settings } from './settings.js';
import { ETHER_HEADER, type Tuple } from './wire.js';

/** Mbufs of the stack under test: enough for full buffers both ways beside what senders must leave (making them costs time). */
const POOL = { small: 1024, cluster: 768, jumbo: 16 } as const;
/** Steps at one instant after which the stack is thought to run in circles. */
const MAX_STEPS = 20_000;
/** Most packets that wait for their line; a stack that sends more without being asked is stopped. */
const MAX_WAITING = 10_000;
const EXTRA_NOTES = 20;

/** A captured packet with the numbers in force when it was sent. */
export type Waiting =
  | { readonly packet: CapturedSctp; readonly base: Base | undefined }
  | { readonly packet: CapturedIcmp; readonly base: Base | undefined };

export const seconds = (ns: number): string => `${(ns / SEC).toFixed(6).replace(/\.?0+$/, '')} s`;

export class Host {
  readonly clock = new Clock(SEC);
  /** When the script started. */
  readonly zero = SEC;
  readonly stack: Stack;
  readonly mapping: Mapping;
  readonly tuple: Tuple;
  /** The port that the peer opens from. */
  readonly peerPort: number;
  /** What was sent and not asked for yet, in order. */
  readonly waiting: Waiting[] = [];
  /** Called after each step of the stack. */
  stepped: () => void = () => {};
  readonly #settings: Settings;
  readonly #nic: TestInterface;
  readonly #wantsIcmp: boolean;
  readonly #pcap: { readonly writer: PcapngWriter; readonly parts: Uint8Array[]; readonly file: string } | undefined;
  #kicked = false;
  #strangers = 0;

  /** `wantsIcmp`: ICMP packets wait in their turn as well. */
  constructor(settings: Settings, options: RunOptions, wantsIcmp: boolean) {
    this.#settings = settings;
    this.#wantsIcmp = wantsIcmp;
    const random = new SeededRandom(options.seed ?? 1);
    this.peerPort = 32768 + (random.u32() % 16384);
    this.stack = new Stack({
      clock: this.clock,
      random,
      pool: new MbufPool(POOL),
      kick: () => {
        this.#kicked = true;
      },
    });
    this.#nic = new TestInterface(this.stack, 'tun0', {
      mtu: settings.mtu,
      flags: IFF_NOARP | IFF_POINTOPOINT | IFF_MULTICAST,
      addresses: settings.addresses,
    });
    const any = InAddr.of(settings.local.family === 4 ? '0.0.0.0' : '::');
    if (this.stack.routes.add(any, 0, settings.gateway) < 0)
      throw new ScriptError(`the gateway ${settings.gateway} is not reached from ${settings.addresses[0]}`);
    const kext = sctpKext();
    const loaded = this.stack.kexts.load(kext);
    if (!loaded.ok) throw new Error(loaded.reason);
    this.mapping = mappingOf(kext);
    this.tuple = {
      local: settings.local,
      remote: settings.remote,
      localPort: settings.bindPort,
      remotePort: this.peerPort,
    };
    if (options.pcap !== undefined) {
      const parts: Uint8Array[] = [];
      const writer = new PcapngWriter(b => parts.push(b.slice()), LINKTYPE_RAW);
      this.#pcap = { writer, parts, file: options.pcap };
    }
    this.settle();
  }

  get seconds(): number {
    return (this.clock.now - this.zero) / SEC;
  }

  /** Hands a frame in; `then` runs when its input has been done, before anything that follows from it. */
  inject(frame: Uint8Array, then?: () => void): void {
    this.#record(frame, PCAPNG_INBOUND);
    this.#nic.inject(frame);
    then?.();
    this.settle();
  }

  /** Does everything that is due now, and takes what the stack sends. */
  settle(): void {
    for (let step = 0; step < MAX_STEPS; step++) {
      this.#kicked = false;
      this.stack.run(this.clock.now);
      this.#collect();
      this.stepped();
      if (!this.#kicked && this.stack.deadline() > this.clock.now) return;
    }
    throw new ScriptError(`the stack still has work after ${MAX_STEPS} steps at one instant`);
  }

  /** Runs to an instant, timer by timer. */
  advance(to: number): void {
    for (let next = this.stack.deadline(); next <= to; next = this.stack.deadline()) {
      this.clock.now = Math.max(next, this.clock.now);
      this.settle();
    }
    this.clock.now = Math.max(this.clock.now, to);
  }

  /** Runs timer by timer until a condition holds, but not beyond an instant; the clock then stands there. */
  wait(until: () => boolean, limit: number): boolean {
    for (;;) {
      if (until()) return true;
      const next = this.stack.deadline();
      if (next > limit) {
        if (limit > this.clock.now && limit !== Number.POSITIVE_INFINITY) this.clock.now = limit;
        return until();
      }
      this.clock.now = Math.max(next, this.clock.now);
      this.settle();
    }
  }

  #collect(): void {
    for (const frame of this.#nic.take()) {
      this.#record(frame, PCAPNG_OUTBOUND);
      const packet = capture(this.clock.now, frame, this.#settings.udpEncapsulation, this.#wantsIcmp);
      if (packet === undefined) continue;
      if (!this.#belongs(packet)) {
        this.#strangers++;
        continue;
      }
      if (this.waiting.length >= MAX_WAITING)
        throw new ScriptError(`more than ${MAX_WAITING} packets wait to be looked at`);
      this.waiting.push(
        packet.kind === 'sctp' ? { packet, base: this.#baseOf(packet) } : { packet, base: this.mapping.current },
      );
    }
  }

  /** Only packets of the socket under test count: its addresses and ports, or an INIT to the peer that it connects to. */
  #belongs(p: Captured): boolean {
    const t = this.tuple;
    if (!p.src.equals(t.local) || !p.dst.equals(t.remote)) return false;
    if (p.kind === 'icmp') return true;
    if (p.dstPort !== t.remotePort) return false;
    if (t.localPort === 0 && firstChunk(p.body)?.type === 1) t.localPort = p.srcPort;
    return p.srcPort === t.localPort;
  }

  #baseOf(p: CapturedSctp): Base | undefined {
    const first = firstChunk(p.body);
    if (first !== undefined && (first.type === 1 || first.type === 2) && first.bytes.length >= 20) {
      const dv = new DataView(first.bytes.buffer, first.bytes.byteOffset, first.bytes.length);
      return this.mapping.sentInit(dv.getUint32(4), dv.getUint32(16), first.type === 1);
    }
    return this.mapping.current;
  }

  #record(frame: Uint8Array, direction: number): void {
    if (this.#pcap === undefined) return;
    const { writer } = this.#pcap;
    const packet = frame.subarray(ETHER_HEADER);
    const at = writer.begin(packet.length);
    writer.u8.set(packet, at);
    const ns = this.clock.now - this.zero;
    writer.end(packet.length, Math.floor(ns / SEC), ns % SEC, direction);
  }

  /** Remarks about what was left, and the capture file. */
  end(notes: string[]): void {
    for (const { packet } of this.waiting.slice(0, EXTRA_NOTES))
      notes.push(`left over at ${seconds(packet.at - this.zero)}: ${nameOf(packet)}`);
    if (this.waiting.length > EXTRA_NOTES)
      notes.push(`and ${this.waiting.length - EXTRA_NOTES} packets more left over`);
    if (this.#strangers > 0) notes.push(`${this.#strangers} packets were not of the socket under test`);
    if (this.#pcap === undefined) return;
    this.#pcap.writer.flush();
    writeFileSync(this.#pcap.file, Buffer.concat(this.#pcap.parts));
  }
}

function mappingOf(kext: SctpKext): Mapping {
  return new Mapping({
    alive: tag => kext.sctp?.byTag(tag) !== undefined,
    opening: tag => {
      const state = kext.sctp?.byTag(tag)?.state;
      return state === 'COOKIE_WAIT' || state === 'COOKIE_ECHOED';
    },
    peerTag: tag => kext.sctp?.byTag(tag)?.peerTag,
  });
}

/** The chunks of a packet by name. */
function nameOf(p: Captured): string {
  if (p.kind === 'icmp') return `ICMP type ${p.type} code ${p.code}`;
  const names: string[] = [];
  for (let o = 0; o + 4 <= p.body.length && names.length < 20; ) {
    const len = (p.body[o + 2]! << 8) | p.body[o + 3]!;
    names.push(CHUNK_NAMES.get(p.body[o]!) ?? `chunk 0x${p.body[o]!.toString(16)}`);
    if (len < 4) break;
    o += (len + 3) & ~3;
  }
  return names.length === 0 ? 'a packet without chunks' : names.join('; ');
}
