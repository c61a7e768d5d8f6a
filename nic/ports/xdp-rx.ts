/**
 * Receive side of an XDP port: out of the frames that the kernel has filled into the caller's rooms, packets of one flow as
 * trains (coalesce.ts), and the frames back to the kernel through the fill ring (Documentation/networking/af_xdp.rst).
 */
import type { Native } from '../native.js';
import { Coalescer } from './coalesce.js';
import type { Batch, Memory } from './port.js';
import { XDP_PKT_CONTD, type XskQueue } from './xsk.js';

export interface XdpRxCounters {
  rx_packets: number;
  rx_bytes: number;
  rx_truncated: number;
  rx_errors: number;
}

export class XdpRx {
  readonly #coalescer: Coalescer;
  readonly #queues: readonly XskQueue[];
  readonly #pieces: boolean;
  readonly #trains: boolean;
  readonly #counters: XdpRxCounters;
  #first = 0;

  /** `queues` may still grow. `pieces`: packets may be longer than a frame; there are no trains then. */
  constructor(
    native: Native,
    queues: readonly XskQueue[],
    umem: Uint8Array,
    pieces: boolean,
    trains: boolean,
    counters: XdpRxCounters,
  ) {
    this.#coalescer = new Coalescer(umem.buffer, umem.length, native);
    this.#queues = queues;
    this.#pieces = pieces;
    this.#trains = trains;
    this.#counters = counters;
  }

  /** Port.receive: fills entries [0, room) of the batch. */
  receive(memory: Memory, batch: Batch, room: number): number {
    const queues = this.#queues;
    this.#coalescer.begin(memory, batch, room);
    // Each call begins with another queue, so that none starves.
    for (let k = 0; k < queues.length; k++) {
      const q = queues[(this.#first + k) % queues.length]!;
      if (this.#pieces) this.#drainPieces(q, memory, batch);
      else this.#drain(q, memory, batch);
    }
    if (queues.length > 1) this.#first = (this.#first + 1) % queues.length;
    const n = this.#coalescer.end();
    // All that was read has been copied: the frames go back.
    for (const q of queues) if (q.rxNext !== q.rx.consumed) q.giveBack();
    return n;
  }

  /** Moves packets of one queue, each in one frame, into the rooms that are left. */
  #drain(q: XskQueue, memory: Memory, batch: Batch): void {
    const c = this.#counters;
    const out = this.#coalescer;
    const { rx } = q;
    const { w } = rx;
    const end = rx.produced;
    for (; q.rxNext !== end; q.rxNext = (q.rxNext + 1) | 0) {
      const at = rx.desc(q.rxNext);
      // Unaligned chunks: the frame's address below, the packet's offset in it in the upper 16 bits.
      const mac = w[at]! + (w[at + 1]! >>> 16);
      const len = w[at + 2]!;
      const hdr = this.#trains ? out.flow(mac, len) : 0;
      let taken = out.extend(mac, len, hdr);
      if (!taken) {
        if (out.full) return;
        taken = this.#fits(memory, batch, len);
        if (taken) out.row(mac, out.entry(mac, len, hdr, 0), len);
      }
      if (taken) {
        c.rx_packets++;
        c.rx_bytes += len;
      }
      q.pushFill(w[at]!);
    }
  }

  /** The same for packets that may be in several frames. */
  #drainPieces(q: XskQueue, memory: Memory, batch: Batch): void {
    const c = this.#counters;
    const out = this.#coalescer;
    const { rx } = q;
    const { w } = rx;
    const end = rx.produced;
    while (q.rxNext !== end && !out.full) {
      let next = q.rxNext;
      let len = 0;
      for (let more = true; more; next = (next + 1) | 0) {
        if (next === end) return; // its end is not there yet
        const at = rx.desc(next);
        len += w[at + 2]!;
        more = (w[at + 3]! & XDP_PKT_CONTD) !== 0;
      }
      const taken = this.#fits(memory, batch, len);
      let to = taken ? out.entry(0, len, 0, 0) : 0;
      for (; q.rxNext !== next; q.rxNext = (q.rxNext + 1) | 0) {
        const at = rx.desc(q.rxNext);
        const part = w[at + 2]!;
        if (taken) out.row(w[at]! + (w[at + 1]! >>> 16), to, part);
        to += part;
        q.pushFill(w[at]!);
      }
      if (!taken) continue;
      c.rx_packets++;
      c.rx_bytes += len;
    }
  }

  /** True when the next room holds a packet of `len` bytes; it is counted when not. */
  #fits(memory: Memory, batch: Batch, len: number): boolean {
    const k = this.#coalescer.entries;
    const off = batch.off[k]!;
    const cap = batch.cap[k]!;
    if (len > cap) this.#counters.rx_truncated++;
    else if (off < 0 || off + cap > memory.u8.length) this.#counters.rx_errors++;
    else return true;
    return false;
  }
}
