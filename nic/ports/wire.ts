/**
 * Wire: a cable in memory between two ports, which may lie in different regions. Each direction is a bounded queue; what
 * does not fit is refused, as a full transmit queue does, and the refused end is woken when the other has made room.
 * Carrier is there while the cable is plugged in and both ends are open.
 */
import { segments } from './headers.js';
import type { Batch, Memory, Port, PortCapabilities } from './port.js';
import { SoftReadiness } from './readiness.js';
import { PacketRing } from './ring.js';

export interface WireOptions {
  /** Names after "wire:"; the ends are told apart by "/0" and "/1". Default "wire". */
  readonly name?: string;
  /** Default 'ethernet'. */
  readonly carries?: 'ethernet' | 'ip' | 'udp';
  /** Largest IP packet, default 1500. An Ethernet frame may have 18 bytes more (header and one VLAN tag). */
  readonly mtu?: number;
  /** Largest train in bytes, passed whole; default 0: single packets only. */
  readonly train?: number;
  /** Mb/s that the cable is good for, told to the cards that negotiate over it; it slows nothing. Default: it does not tell. */
  readonly speed?: number;
  /** Most packets in flight in each direction, default 512. */
  readonly slots?: number;
  /** Most bytes in flight in each direction, default room for `slots` packets or 32 trains. */
  readonly bytes?: number;
}

const L2 = 18;
const TRAIN_SEGMENTS = 64;

export class WirePort implements Port {
  readonly name: string;
  capabilities: PortCapabilities;
  readonly counters = {
    tx_packets: 0,
    tx_bytes: 0,
    tx_oversize: 0,
    tx_full: 0,
    tx_no_carrier: 0,
    rx_packets: 0,
    rx_bytes: 0,
    rx_truncated: 0,
    rx_unplugged: 0,
  };
  onCarrier: ((up: boolean) => void) | undefined;
  onChange: (() => void) | undefined;

  readonly #queue: PacketRing; // packets on their way to this end
  readonly #ready = new SoftReadiness();
  readonly #longest: number;
  #peer: WirePort = this;
  #memory: Memory | undefined;
  #halves: Uint16Array = new Uint16Array(0); // the region by 16 bits
  #plugged = true;
  #carrier = false;
  #news = false; // carrier changed since the last wake
  #refused = false; // transmit refused a packet for want of room

  /** Use createWire. */
  constructor(name: string, options: WireOptions) {
    const mtu = options.mtu ?? 1500;
    const train = options.train ?? 0;
    const slots = options.slots ?? 512;
    this.name = name;
    this.capabilities = {
      carries: options.carries ?? 'ethernet',
      mtu,
      train,
      trainSegments: train > 0 ? TRAIN_SEGMENTS : 0,
      sctpCrc: false,
      carrier: true,
      ...(options.speed === undefined ? {} : { speed: options.speed }),
    };
    this.#longest = this.capabilities.carries === 'ethernet' ? mtu + L2 : mtu;
    const bytes = options.bytes ?? Math.max(slots * this.#longest, 32 * train);
    // Twice the longest: an entry always fits an empty queue, wherever its bytes begin.
    this.#queue = new PacketRing(slots, Math.max(bytes, 2 * this.#longest, 2 * train));
  }

  /** Joins two ends; called by createWire, once. */
  join(peer: WirePort): void {
    this.#peer = peer;
  }

  get carrier(): boolean {
    return this.#carrier;
  }

  open(memory: Memory): void {
    if (this.#memory !== undefined) throw new Error(`${this.name} is open already`);
    this.#memory = memory;
    this.#halves = new Uint16Array(memory.buffer, 0, memory.buffer.byteLength >>> 1);
    this.#update();
    this.#peer.#update();
  }

  /** Pulls the cable: both ends lose carrier, and what was in flight is lost. */
  pull(): void {
    this.#plug(false);
    this.#peer.#plug(false);
  }

  plug(): void {
    this.#plug(true);
    this.#peer.#plug(true);
  }

  /** Another cable takes its place, as good as `speed` Mb/s. */
  setSpeed(speed: number | undefined): void {
    for (const end of [this, this.#peer]) {
      end.capabilities = { ...end.capabilities, speed };
      end.#news = true;
      end.onChange?.();
      end.#ready.signal();
    }
  }

  #plug(plugged: boolean): void {
    this.#plugged = plugged;
    this.#update();
  }

  #update(): void {
    const up = this.#plugged && this.#memory !== undefined && this.#peer.#memory !== undefined;
    if (up === this.#carrier) return;
    this.#carrier = up;
    if (!up) {
      this.counters.rx_unplugged += this.#queue.count;
      this.#queue.clear();
      this.#refused = false;
    }
    if (this.#memory === undefined) return;
    this.#news = true;
    this.#ready.signal();
    this.onCarrier?.(up);
  }

  transmit(batch: Batch, _now: number): number {
    const memory = this.#memory;
    const peer = this.#peer;
    if (memory === undefined) return 0;
    this.#refused = false;
    const queue = peer.#queue;
    const c = this.counters;
    const count = batch.count;
    const size = memory.u8.length;
    const carrier = this.#carrier;
    queue.begin(batch);
    let packets = 0;
    let bytes = 0;
    let i = 0;
    while (i < count) {
      if (carrier) {
        const run = queue.placeRun(batch, i, count, this.#longest, size);
        packets += run;
        bytes += queue.runBytes;
        i += run;
        if (i === count) break;
      }
      if (!carrier) {
        c.tx_no_carrier++;
        queue.skip(i);
      } else if (!this.#sendable(batch, i, size)) {
        c.tx_oversize++;
        queue.skip(i);
      } else if (queue.place(batch, i)) {
        packets += segments(batch, i);
        bytes += batch.len[i]!;
      } else {
        c.tx_full++;
        this.#refused = true;
        break;
      }
      i++;
    }
    if (packets > 0) {
      queue.copyIn(memory.u8, this.#halves, batch, i);
      c.tx_packets += packets;
      c.tx_bytes += bytes;
    }
    if (queue.count > 0) peer.#ready.signal();
    return i;
  }

  #sendable(batch: Batch, i: number, size: number): boolean {
    const len = batch.len[i]!;
    const off = batch.off[i]!;
    const segsz = batch.segsz[i]!;
    if (len <= 0 || off < 0 || off + len > size) return false;
    if (segsz === 0) return len <= this.#longest;
    const h = batch.hdrlen[i]!;
    return segsz > 0 && h >= 0 && h < len && len <= this.capabilities.train && h + segsz <= this.#longest;
  }

  receive(batch: Batch, posted: number, _now: number): number {
    batch.count = 0;
    const memory = this.#memory;
    if (memory === undefined) return 0;
    const queue = this.#queue;
    const c = this.counters;
    this.#news = false;
    if (queue.count === 0 && !this.#peer.#refused) return 0;
    const room = Math.min(posted, batch.capacity);
    queue.begin(batch);
    let bytes = 0;
    let trains = 0;
    let n = 0;
    while (n < room && queue.count > 0) {
      n += queue.takeRun(batch, n, room);
      bytes += queue.runBytes;
      trains += queue.runTrains;
      if (n === room || queue.count === 0) break;
      queue.drop();
      c.rx_truncated++;
    }
    if (n > 0) {
      queue.copyOut(memory.u8, this.#halves, batch, n);
      c.rx_packets += trains === 0 ? n : packetsOf(batch, n);
      c.rx_bytes += bytes;
    }
    batch.count = n;
    if (this.#peer.#refused && this.#peer.#writable()) this.#peer.#ready.signal();
    return n;
  }

  /** Transmit refused, and there is room now for the longest entry. */
  #writable(): boolean {
    return this.#refused && this.#peer.#queue.fits(this.capabilities.train || this.#longest);
  }

  deadline(): number {
    return Number.POSITIVE_INFINITY;
  }

  arm(wake: () => void): void {
    if (this.#memory === undefined) return;
    const ready = this.#queue.count > 0 || this.#news || this.#writable();
    if (ready) {
      // Told once: a caller that has nothing more to send must not be woken again and again.
      this.#refused = false;
      this.#news = false;
    }
    this.#ready.arm(wake, ready);
  }

  disarm(): void {
    this.#ready.disarm();
  }

  close(): void {
    if (this.#memory === undefined) return;
    this.#memory = undefined;
    this.#halves = new Uint16Array(0);
    this.#ready.close();
    this.#queue.clear();
    this.#update();
    this.#peer.#update();
  }
}

function packetsOf(batch: Batch, n: number): number {
  let packets = 0;
  for (let i = 0; i < n; i++) packets += segments(batch, i);
  return packets;
}

/** A cable and its two ends. */
export function createWire(options: WireOptions = {}): [WirePort, WirePort] {
  const name = `wire:${options.name ?? 'wire'}`;
  const a = new WirePort(`${name}/0`, options);
  const b = new WirePort(`${name}/1`, options);
  a.join(b);
  b.join(a);
  return [a, b];
}
