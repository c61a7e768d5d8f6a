/**
 * One receive queue of a medium that several cards share, each in a thread of its own (workers.ts). What goes to one of them is
 * steered (steer.ts). What answers a question that any of them may have asked comes to one queue and is wanted by all: ARP replies
 * and announcements (RFC 826, RFC 5227), neighbour and router advertisements and redirects (RFC 4861), ICMP errors and echo
 * replies (RFC 792, RFC 4443). SharedPort is a decorator that tells such frames to the others, and receives what they tell. What
 * asks a question is not told, so that it is answered once.
 */
import { copyBytes } from './headers.js';
import type { Batch, Memory, Port, PortCapabilities, PortCounters } from './port.js';
import { SoftReadiness } from './readiness.js';

/** The way to the same card's other queues. */
export interface FrameExchange {
  /** Copies a frame to every other queue that runs; what does not fit on the way is lost, and counted there. */
  tell(u8: Uint8Array, off: number, len: number): void;
  /** Called, never from inside a port's method, for each frame that another queue tells; the bytes are valid during the call. */
  hear: ((u8: Uint8Array, off: number, len: number) => void) | undefined;
}

/** A queue of a medium: what a port is given in place of opening one (createPort). */
export interface PortQueue {
  /** The bound socket, or the queue: its opener's. */
  readonly fd: number;
  /** packet: the ring's bell, its blocks, the interface's index (PacketQueue). */
  readonly bell?: number;
  readonly blocks?: number;
  readonly index?: number;
  /** None on media that carry nothing but SCTP. */
  readonly exchange?: FrameExchange;
}

const TYPE_IP = 0x0800;
const TYPE_ARP = 0x0806;
const TYPE_IP6 = 0x86dd;
const TYPE_VLAN = 0x8100;
const TYPE_QINQ = 0x88a8;
const ETHER = 14;
const TAG = 4;
const ARP_BYTES = 28;
const IP4 = 20;
const IP6 = 40;
const ICMP = 1;
const ICMP6 = 58;
/** Echo reply, unreachable, redirect, time exceeded, parameter problem. */
const TYPES4 = (1 << 0) | (1 << 3) | (1 << 5) | (1 << 11) | (1 << 12);

/** True for a frame (or an IP packet) that all queues want to see. */
export function concernsAll(u8: Uint8Array, off: number, len: number, carries: PortCapabilities['carries']): boolean {
  const end = off + len;
  let at = off;
  let type = 0;
  if (carries === 'ethernet') {
    if (len < ETHER + 1) return false;
    type = (u8[off + 12]! << 8) | u8[off + 13]!;
    at = off + ETHER;
    if (type === TYPE_VLAN || type === TYPE_QINQ) {
      if (len < ETHER + TAG + 1) return false;
      type = (u8[off + 16]! << 8) | u8[off + 17]!;
      at += TAG;
    }
  } else if (len > 0) type = u8[off]! >>> 4 === 4 ? TYPE_IP : TYPE_IP6;
  if (type === TYPE_IP) {
    if (at + IP4 > end || u8[at + 9] !== ICMP || (u8[at + 6]! & 0x1f) !== 0 || u8[at + 7] !== 0) return false;
    const icmp = at + ((u8[at]! & 15) << 2);
    return icmp < end && u8[icmp]! < 32 && ((TYPES4 >>> u8[icmp]!) & 1) !== 0;
  }
  if (type === TYPE_IP6) {
    if (at + IP6 >= end || u8[at + 6] !== ICMP6) return false;
    const t = u8[at + IP6]!;
    // Errors (RFC 4443 §2.1), echo reply; router advertisement, neighbour advertisement, redirect.
    return t < 128 || t === 129 || t === 134 || t === 136 || t === 137;
  }
  if (type !== TYPE_ARP || at + ARP_BYTES > end) return false;
  const operation = (u8[at + 6]! << 8) | u8[at + 7]!;
  if (operation !== 1) return operation === 2;
  // An announcement asks for its own sender.
  for (let i = 0; i < 4; i++) if (u8[at + 14 + i] !== u8[at + 24 + i]) return false;
  return true;
}

/** Frames that were told and have not been received yet, at most. */
const SLOTS = 64;
const SLOT = 2048;

export class SharedPort implements Port {
  readonly counters: PortCounters;
  readonly #inner: Port;
  readonly #exchange: FrameExchange;
  readonly #slots = new Uint8Array(SLOTS * SLOT);
  readonly #lengths = new Int32Array(SLOTS);
  #head = 0; // the slot to be read first
  #waiting = 0;
  #memory: Memory | undefined;
  #wake: (() => void) | undefined;
  readonly #soft = new SoftReadiness();
  readonly #fire = (): void => {
    const wake = this.#wake;
    this.disarm();
    wake?.();
  };

  constructor(inner: Port, exchange: FrameExchange) {
    this.#inner = inner;
    this.#exchange = exchange;
    this.counters = Object.assign(inner.counters, {
      tx_told: 0, // frames told to the other queues
      rx_told: 0, // frames of theirs that were received here
      rx_told_full: 0, // no slot was free, or it was too long for one
    });
  }

  get name(): string {
    return this.#inner.name;
  }
  get capabilities(): PortCapabilities {
    return this.#inner.capabilities;
  }
  get carrier(): boolean {
    return this.#inner.carrier;
  }
  get removed(): boolean {
    return this.#inner.removed === true;
  }
  get hostAddresses(): readonly string[] {
    return this.#inner.hostAddresses ?? [];
  }
  get regionBytes(): number {
    return this.#inner.regionBytes ?? 0;
  }
  describe(): string {
    return this.#inner.describe?.() ?? '';
  }
  get onCarrier(): ((up: boolean) => void) | undefined {
    return this.#inner.onCarrier;
  }
  set onCarrier(f: ((up: boolean) => void) | undefined) {
    this.#inner.onCarrier = f;
  }
  get onChange(): (() => void) | undefined {
    return this.#inner.onChange;
  }
  set onChange(f: (() => void) | undefined) {
    this.#inner.onChange = f;
  }

  open(memory: Memory, own?: number): void {
    this.#inner.open(memory, own);
    this.#memory = memory;
    this.#waiting = 0;
    this.#exchange.hear = (u8, off, len) => this.#heard(u8, off, len);
  }

  #heard(u8: Uint8Array, off: number, len: number): void {
    if (this.#waiting === SLOTS || len > SLOT) {
      this.counters.rx_told_full!++;
      return;
    }
    const slot = (this.#head + this.#waiting++) % SLOTS;
    this.#slots.set(u8.subarray(off, off + len), slot * SLOT); // (of shared memory, which the C module does not take)
    this.#lengths[slot] = len;
    this.#soft.signal();
  }

  transmit(batch: Batch, now: number): number {
    return this.#inner.transmit(batch, now);
  }

  receive(batch: Batch, posted: number, now: number): number {
    const memory = this.#memory;
    if (memory === undefined) return this.#inner.receive(batch, posted, now);
    const { u8 } = memory;
    const { off, len, segsz } = batch;
    const { carries } = this.#inner.capabilities;
    let n = this.#inner.receive(batch, posted, now);
    for (let i = 0; i < n; i++) {
      if (segsz[i] !== 0 || !concernsAll(u8, off[i]!, len[i]!, carries)) continue;
      this.counters.tx_told!++;
      this.#exchange.tell(u8, off[i]!, len[i]!);
    }
    const room = Math.min(posted, batch.capacity);
    while (this.#waiting > 0 && n < room) {
      const slot = this.#head;
      const bytes = this.#lengths[slot]!;
      this.#head = (slot + 1) % SLOTS;
      this.#waiting--;
      if (bytes > batch.cap[n]!) {
        this.counters.rx_truncated!++;
        continue;
      }
      copyBytes(this.#slots, slot * SLOT, u8, off[n]!, bytes);
      len[n] = bytes;
      segsz[n] = 0;
      batch.hdrlen[n] = 0;
      batch.flags[n] = 0;
      this.counters.rx_told!++;
      n++;
    }
    batch.count = n;
    return n;
  }

  deadline(): number {
    return this.#inner.deadline();
  }

  arm(wake: () => void): void {
    this.#wake = wake;
    this.#inner.arm(this.#fire);
    this.#soft.arm(this.#fire, this.#waiting > 0);
  }
  disarm(): void {
    this.#wake = undefined;
    this.#inner.disarm();
    this.#soft.disarm();
  }

  close(): void {
    this.#memory = undefined;
    this.#exchange.hear = undefined;
    this.#wake = undefined;
    this.#soft.close();
    this.#inner.close();
  }
}
