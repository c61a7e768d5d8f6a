/**
 * Faults: a decorator that gives a port the troubles of a network, on transmit: loss, burst loss (Gilbert-Elliott),
 * duplication, corruption, delay with jitter, reordering, and a rate with a bounded queue. To trouble the other direction,
 * decorate the other end. Everything follows a seeded random source and the caller's clock, so that a run can be repeated.
 *
 * A packet passes, in this order: size, loss, corruption, duplication, the rate's queue, delay. Each copy is then held until
 * it falls due. Single packets only: a train that arrives on the decorated port is cut here.
 */
import { linkCounters } from './counters.js';
import { copySegment, findIp, repairHeaders, segments } from './headers.js';
import { Batch, Memory, type Port, type PortCapabilities, type PortCounters } from './port.js';
import { SoftReadiness } from './readiness.js';

/** A seeded source of uniform unsigned 32-bit numbers. */
export interface FaultRandom {
  u32(): number;
}

/** Gilbert-Elliott: two states with their own loss; probabilities are per packet. */
export interface BurstLoss {
  readonly toBad: number;
  readonly toGood: number;
  /** Loss in the good state, default 0, and in the bad state, default 1. */
  readonly lossGood?: number;
  readonly lossBad?: number;
}

export interface FaultOptions {
  /** Probabilities are 0 to 1. */
  readonly loss?: number;
  readonly burst?: BurstLoss;
  readonly duplicate?: number;
  /** A packet of which `corruptBits` random bits are flipped (default 1). */
  readonly corrupt?: number;
  readonly corruptBits?: number;
  /** Delay in ns, and uniform jitter of up to so many ns more. */
  readonly delay?: number;
  readonly jitter?: number;
  /** Probability that a packet is held back for `reorderDelay` ns (default 1 ms) more, so that later ones overtake it. */
  readonly reorder?: number;
  readonly reorderDelay?: number;
  /** Bits per second of IP packets (frames for Ethernet), 0 = unlimited; with the bytes that may wait (default 256 KiB). */
  readonly rate?: number;
  readonly queueBytes?: number;
  /** Packets that may wait for the rate, the one on the line included; 0 = as many as fit `queueBytes` (the default). */
  readonly queuePackets?: number;
  /** Bytes of line time that a packet costs beyond its own: 24 for Ethernet's preamble, FCS and gap. Default 0. */
  readonly overhead?: number;
  /** IP packets longer than this are lost without a word, as in a path whose MTU nobody tells; 0 = none (the default). */
  readonly mtu?: number;
  /** Packets held at most, default 1024. */
  readonly held?: number;
}

/** in + duplicated = out + held + every kind of loss. */
const OWN = [
  'fault_in',
  'fault_out',
  'fault_lost',
  'fault_lost_burst',
  'fault_corrupted',
  'fault_duplicated',
  'fault_delayed',
  'fault_reordered',
  'fault_queue_full',
  'fault_held_full',
  'fault_oversize',
  'fault_mtu',
  'fault_closed',
  'fault_rx_truncated',
] as const;
type FaultCounter = (typeof OWN)[number];

const RECEIVE_ROOMS = 32;
const PUMP = 64;
const L2 = 18;

/** Sees a packet as it leaves for the inner port: its bytes [off, off + len) of u8, valid during the call, and when. */
export type FaultTap = (u8: Uint8Array, off: number, len: number, now: number) => void;

export class FaultPort implements Port {
  readonly name: string;
  readonly counters: Record<FaultCounter, number> & PortCounters;
  /** Told of every packet that has passed the faults. */
  tap: FaultTap | undefined;
  readonly #inner: Port;
  readonly #random: FaultRandom;
  #o: Required<Omit<FaultOptions, 'burst' | 'held'>> & { burst: BurstLoss | undefined };
  readonly #capacity: number;
  #slot = 0; // bytes of one held packet
  #memory: Memory | undefined;
  #own: Memory | undefined; // held packets, then rooms for what the inner port receives
  #room = 0;
  readonly #out = new Batch(PUMP);
  readonly #in = new Batch(RECEIVE_ROOMS);
  #inEntry = 0; // entry of #in that is being handed on, and its next segment
  #inSegment = 0;

  // Held packets: a binary heap of slots by due time, then by order of arrival.
  readonly #due: Float64Array;
  readonly #order: Float64Array;
  readonly #length: Int32Array;
  readonly #heap: Int32Array;
  readonly #free: Int32Array;
  #freeTop = 0; // free slots on the stack
  #held = 0; // slots in the heap
  #arrivals = 0;
  #lineFree = 0; // when the line has sent all that was queued for it
  // When the line has sent each packet that waits for it: a ring in order of time, for the bound in packets.
  readonly #lineEnds: Float64Array;
  #lineHead = 0;
  #lineCount = 0;
  #bad = false; // Gilbert-Elliott state
  #blocked = false; // the inner port refused: its wake, not our deadline, is next
  readonly #ready = new SoftReadiness();

  constructor(inner: Port, random: FaultRandom, options: FaultOptions = {}) {
    this.#inner = inner;
    this.#random = random;
    this.name = inner.name;
    this.#capacity = options.held ?? 1024;
    this.#o = complete(options);
    if (this.#o.corrupt > 0 && inner.capabilities.sctpCrc) {
      throw new Error(
        `${inner.name} fills in the CRC32c below the faults, which would make corrupted packets good again: open it with sctpCrc: false`,
      );
    }
    const column = () => new Float64Array(this.#capacity);
    this.#due = column();
    this.#order = column();
    this.#lineEnds = column();
    this.#length = new Int32Array(this.#capacity);
    this.#heap = new Int32Array(this.#capacity);
    this.#free = new Int32Array(this.#capacity);
    const own = Object.fromEntries(OWN.map(key => [key, 0])) as Record<FaultCounter, number>;
    this.counters = linkCounters(own, inner.counters);
  }

  /** The inner port's, with single packets only, and none longer than a slot. */
  get capabilities(): PortCapabilities {
    const caps = this.#inner.capabilities;
    const mtu = this.#slot > 0 ? Math.min(caps.mtu, this.#slot - L2) : caps.mtu;
    return { ...caps, mtu, train: 0, trainSegments: 0 };
  }

  get carrier(): boolean {
    return this.#inner.carrier;
  }
  get onCarrier(): ((up: boolean) => void) | undefined {
    return this.#inner.onCarrier;
  }
  set onCarrier(f: ((up: boolean) => void) | undefined) {
    this.#inner.onCarrier = f;
  }
  get removed(): boolean {
    return this.#inner.removed === true;
  }
  get hostAddresses(): readonly string[] {
    return this.#inner.hostAddresses ?? [];
  }
  get onChange(): (() => void) | undefined {
    return this.#inner.onChange;
  }
  set onChange(f: (() => void) | undefined) {
    this.#inner.onChange = f;
  }

  describe(): string {
    return this.#inner.describe?.() ?? '';
  }

  /** Packets held back now. */
  get held(): number {
    return this.#held;
  }

  /** Changes the faults from the next packet on (`held` stays). */
  set(options: FaultOptions): void {
    const o = complete(options);
    if (o.corrupt > 0 && this.#inner.capabilities.sctpCrc) throw new Error('corruption needs sctpCrc: false below');
    this.#o = o;
  }

  open(memory: Memory): void {
    if (this.#memory !== undefined) throw new Error(`${this.name} is open already`);
    // The inner port may learn its MTU only when it opens (tap): its slots are made for the largest that may be.
    const caps = this.#inner.capabilities;
    this.#slot = Math.max(caps.mtu, 1500) + L2;
    this.#room = Math.max(caps.train, this.#slot);
    const own = new Memory(new ArrayBuffer(this.#capacity * this.#slot + RECEIVE_ROOMS * this.#room));
    this.#inner.open(own); // packets wait in our own store: the port gets no part of the region
    this.#own = own;
    this.#memory = memory;
    this.#held = 0;
    for (let i = 0; i < this.#capacity; i++) this.#free[i] = this.#capacity - 1 - i;
    this.#freeTop = this.#capacity;
    this.#in.count = 0;
    this.#inEntry = 0;
    this.#inSegment = 0;
    this.#blocked = false;
    this.#lineFree = 0;
    this.#lineCount = 0;
  }

  #chance(p: number): boolean {
    return p > 0 && this.#random.u32() < p * 0x1_0000_0000;
  }

  transmit(batch: Batch, now: number): number {
    const memory = this.#memory;
    if (memory === undefined) return 0;
    const c = this.counters;
    for (let i = 0; i < batch.count; i++) {
      c.fault_in++;
      const len = batch.len[i]!;
      const off = batch.off[i]!;
      if (len <= 0 || len > this.#slot || batch.segsz[i]! > 0 || off < 0 || off + len > memory.u8.length) {
        c.fault_oversize++;
      } else if (this.#tooLong(memory.u8, off, len)) {
        c.fault_mtu++;
      } else if (this.#lost()) {
        // counted by #lost
      } else {
        const first = this.#hold(memory.u8, off, len, now);
        if (first >= 0 && this.#chance(this.#o.corrupt)) this.#corrupt(first);
        if (this.#chance(this.#o.duplicate)) {
          c.fault_duplicated++;
          this.#hold(memory.u8, off, len, now);
        }
      }
    }
    this.#pump(now);
    return batch.count;
  }

  /** True when the IP packet is longer than the path takes. An Ethernet frame has 14 bytes more, and 4 with a VLAN tag. */
  #tooLong(u8: Uint8Array, off: number, len: number): boolean {
    const mtu = this.#o.mtu;
    if (mtu === 0 || len <= mtu) return false;
    if (this.#inner.capabilities.carries !== 'ethernet') return true;
    return len > mtu + (u8[off + 12] === 0x81 && u8[off + 13] === 0x00 ? 18 : 14);
  }

  #lost(): boolean {
    const o = this.#o;
    if (this.#chance(o.loss)) {
      this.counters.fault_lost++;
      return true;
    }
    const b = o.burst;
    if (b === undefined) return false;
    if (this.#chance(this.#bad ? b.toGood : b.toBad)) this.#bad = !this.#bad;
    if (!this.#chance(this.#bad ? (b.lossBad ?? 1) : (b.lossGood ?? 0))) return false;
    this.counters.fault_lost_burst++;
    return true;
  }

  /** Copies a packet into the store and says when it falls due. Returns its slot, -1 when it was dropped. */
  #hold(u8: Uint8Array, off: number, len: number, now: number): number {
    const o = this.#o;
    const c = this.counters;
    let due = now;
    if (o.rate > 0) {
      const start = Math.max(now, this.#lineFree);
      const cost = len + o.overhead;
      // What waits for the line, in bytes, is the time it still needs.
      if (((start - now) * o.rate) / 8e9 + cost > o.queueBytes || (o.queuePackets > 0 && this.#lineFull(now))) {
        c.fault_queue_full++;
        return -1;
      }
      due = start + (cost * 8e9) / o.rate;
    }
    if (this.#freeTop === 0) {
      c.fault_held_full++;
      return -1;
    }
    if (o.rate > 0) this.#queued(due, now);
    due += o.delay;
    if (o.jitter > 0) due += (this.#random.u32() / 0x1_0000_0000) * o.jitter;
    if (this.#chance(o.reorder)) {
      due += o.reorderDelay;
      c.fault_reordered++;
    }
    if (due > now) c.fault_delayed++;
    const slot = this.#free[--this.#freeTop]!;
    const at = slot * this.#slot;
    this.#own!.u8.set(u8.subarray(off, off + len), at);
    this.#length[slot] = len;
    this.#due[slot] = due;
    this.#order[slot] = this.#arrivals++;
    this.#heapPush(slot);
    return slot;
  }

  /** True when as many packets wait for the line as may. */
  #lineFull(now: number): boolean {
    this.#leftLine(now);
    return this.#lineCount >= this.#o.queuePackets;
  }
  /** Forgets the packets that the line has sent. */
  #leftLine(now: number): void {
    const ends = this.#lineEnds;
    while (this.#lineCount > 0 && ends[this.#lineHead]! <= now) {
      this.#lineHead = (this.#lineHead + 1) % ends.length;
      this.#lineCount--;
    }
  }
  /** A packet waits for the line until `end`. */
  #queued(end: number, now: number): void {
    this.#lineFree = end;
    this.#leftLine(now);
    const ends = this.#lineEnds;
    // (those that wait are held, so there is room for each; a held one may leave late when the inner port is blocked)
    if (this.#lineCount < ends.length) ends[(this.#lineHead + this.#lineCount++) % ends.length] = end;
  }

  /** Flips bits behind the link-layer header, so that the packet still finds its way to who must notice. */
  #corrupt(slot: number): void {
    const at = slot * this.#slot;
    const skip = this.#inner.capabilities.carries === 'ethernet' ? 14 : 0;
    const bits = (this.#length[slot]! - skip) * 8;
    if (bits <= 0) return;
    const u8 = this.#own!.u8;
    for (let i = 0; i < this.#o.corruptBits; i++) {
      const bit = this.#random.u32() % bits;
      u8[at + skip + (bit >>> 3)]! ^= 1 << (bit & 7);
    }
    this.counters.fault_corrupted++;
  }

  /** Hands what is due to the inner port. */
  #pump(now: number): void {
    this.#blocked = false;
    const out = this.#out;
    for (let due = this.#collect(now); due > 0; due = this.#collect(now)) {
      const taken = this.#inner.transmit(out, now);
      this.counters.fault_out += taken;
      if (this.tap !== undefined)
        for (let i = 0; i < taken; i++) this.tap(this.#own!.u8, out.off[i]!, out.len[i]!, now);
      for (let i = 0; i < due; i++) {
        const slot = out.off[i]! / this.#slot;
        if (i < taken) this.#free[this.#freeTop++] = slot;
        else this.#heapPush(slot);
      }
      if (taken < due) {
        this.#blocked = true;
        return;
      }
    }
  }

  /** Takes up to PUMP due packets off the heap, in order, into #out. Neither held nor free until pump has seen what was taken. */
  #collect(now: number): number {
    const out = this.#out;
    let n = 0;
    while (n < PUMP && this.#held > 0 && this.#due[this.#heap[0]!]! <= now) {
      const slot = this.#heapPop();
      out.off[n] = slot * this.#slot;
      out.len[n] = this.#length[slot]!;
      out.segsz[n] = 0;
      out.hdrlen[n] = 0;
      out.flags[n] = 0;
      n++;
    }
    out.count = n;
    return n;
  }

  #before(a: number, b: number): boolean {
    const d = this.#due[a]! - this.#due[b]!;
    return d < 0 || (d === 0 && this.#order[a]! < this.#order[b]!);
  }

  #heapPush(slot: number): void {
    const h = this.#heap;
    let i = this.#held++;
    while (i > 0) {
      const up = (i - 1) >> 1;
      if (!this.#before(slot, h[up]!)) break;
      h[i] = h[up]!;
      i = up;
    }
    h[i] = slot;
  }

  #heapPop(): number {
    const h = this.#heap;
    const n = this.#held--;
    const first = h[0]!;
    const last = h[n - 1]!;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= n - 1) break;
      if (child + 1 < n - 1 && this.#before(h[child + 1]!, h[child]!)) child++;
      if (!this.#before(h[child]!, last)) break;
      h[i] = h[child]!;
      i = child;
    }
    h[i] = last;
    return first;
  }

  receive(batch: Batch, posted: number, now: number): number {
    batch.count = 0;
    const memory = this.#memory;
    if (memory === undefined) return 0;
    this.#pump(now);
    const room = Math.min(posted, batch.capacity);
    let n = 0;
    while (n < room) {
      if (this.#inEntry >= this.#in.count && !this.#refill(now)) break;
      n = this.#handOn(memory.u8, batch, n);
    }
    batch.count = n;
    return n;
  }

  #refill(now: number): boolean {
    const rooms = this.#in;
    const base = this.#capacity * this.#slot;
    for (let i = 0; i < RECEIVE_ROOMS; i++) {
      rooms.off[i] = base + i * this.#room;
      rooms.cap[i] = this.#room;
    }
    this.#inEntry = 0;
    this.#inSegment = 0;
    return this.#inner.receive(rooms, RECEIVE_ROOMS, now) > 0;
  }

  /** Copies the next single packet to entry n of the caller's batch; returns how many it has then. */
  #handOn(u8: Uint8Array, batch: Batch, n: number): number {
    const rooms = this.#in;
    const i = this.#inEntry;
    const k = this.#inSegment++;
    const at = batch.off[n]!;
    const train = rooms.segsz[i]! > 0;
    const len = copySegment(this.#own!.u8, rooms, i, k, u8, at, batch.cap[n]!);
    const flags = rooms.flags[i]!;
    if (this.#inSegment >= segments(rooms, i)) {
      this.#inEntry++;
      this.#inSegment = 0;
    }
    if (len === 0) {
      this.counters.fault_rx_truncated++;
      return n;
    }
    if (train) {
      const l3 = findIp(u8, at, at + len, this.#inner.capabilities.carries);
      if (l3 >= 0) repairHeaders(u8, l3, at + len, false, false);
    }
    batch.len[n] = len;
    batch.segsz[n] = 0;
    batch.hdrlen[n] = 0;
    batch.flags[n] = flags;
    return n + 1;
  }

  deadline(): number {
    const inner = this.#inner.deadline();
    return this.#held > 0 && !this.#blocked ? Math.min(this.#due[this.#heap[0]!]!, inner) : inner;
  }

  arm(wake: () => void): void {
    if (this.#memory === undefined) return;
    const once = () => {
      this.disarm();
      wake();
    };
    this.#inner.arm(once);
    // Segments of a train that are still in our hands: the inner port knows nothing of them.
    if (this.#inEntry < this.#in.count) this.#ready.arm(once, true);
  }

  disarm(): void {
    this.#inner.disarm();
    this.#ready.disarm();
  }

  close(): void {
    if (this.#memory === undefined) return;
    this.counters.fault_closed += this.#held;
    this.#memory = undefined;
    this.#held = 0;
    this.#ready.close();
    this.#inner.close();
    this.#own = undefined;
  }
}

/** Options with their defaults. Throws RangeError for what cannot be. */
function complete(o: FaultOptions): Required<Omit<FaultOptions, 'burst' | 'held'>> & { burst: BurstLoss | undefined } {
  const b = o.burst;
  const chances = [o.loss, o.duplicate, o.corrupt, o.reorder, b?.toBad, b?.toGood, b?.lossGood, b?.lossBad];
  for (const p of chances) if (p !== undefined && !(p >= 0 && p <= 1)) throw new RangeError(`${p} is no probability`);
  for (const v of [o.delay, o.jitter, o.reorderDelay, o.rate, o.queueBytes, o.queuePackets, o.overhead, o.mtu]) {
    if (v !== undefined && !(v >= 0 && v < Number.POSITIVE_INFINITY))
      throw new RangeError(`${v} is no time, rate or size`);
  }
  return {
    loss: o.loss ?? 0,
    burst: b,
    duplicate: o.duplicate ?? 0,
    corrupt: o.corrupt ?? 0,
    corruptBits: o.corruptBits ?? 1,
    delay: o.delay ?? 0,
    jitter: o.jitter ?? 0,
    reorder: o.reorder ?? 0,
    reorderDelay: o.reorderDelay ?? 1_000_000,
    rate: o.rate ?? 0,
    queueBytes: o.queueBytes ?? 256 << 10,
    queuePackets: o.queuePackets ?? 0,
    overhead: o.overhead ?? 0,
    mtu: o.mtu ?? 0,
  };
}
