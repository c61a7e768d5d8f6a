/**
 * What worker appliances share: one SharedArrayBuffer with, for N queues,
 *
 *   state      N words        1 while the worker runs
 *   held       N tables       how many paths of a worker have a key that falls into a slot (a counting filter: each table has
 *                             one writer, the others only read)
 *   ways       N x N rings    packets from one worker to another, one writer and one reader each
 *
 * A record of a ring: length of the packet, STEER_WORDS words about it, its bytes, padded to 4. Who writes into an empty ring
 * rings the reader's bell; the reader takes all that is there. The first word of an SCTP packet is its address family; 0 is a
 * frame that one card's port tells to those of the other workers (nic/ports/share.ts), and the card's number follows.
 */

import type { FrameExchange } from '../nic/ports/share.js';
import { QUEUES_MAX, STEER_WORDS, type Steering } from '../stack/kern/steering.js';

/** log2 of the slots of a table: 256 Ki, so that 100,000 paths of a worker fill a third. */
const SLOT_BITS = 18;
const SLOTS = 1 << SLOT_BITS;
/** Bytes of one ring. */
const RING_BYTES = 1 << 17;
const RING_WORDS = RING_BYTES / 4;
const GOLDEN = 0x9e3779b1;
/** Of a ring, in words: words written, modulo 2^32; words read; both on cache lines of their own; then the records. */
const HEAD = 0;
const TAIL = 16;
const WAY_HEADER = 32;
const RECORD = 1 + STEER_WORDS;

const wayWords = WAY_HEADER + RING_WORDS;
const stateWords = QUEUES_MAX;
const words = (queues: number) => stateWords + queues * SLOTS + queues * queues * wayWords;

/** Memory for so many workers. Pages that nobody touches cost nothing. */
export function sharedMemory(queues: number): SharedArrayBuffer {
  return new SharedArrayBuffer(words(queues) * 4);
}

/** Called by who starts workers: a worker's state and what it held are wiped, for the next one. */
export function wipe(shared: SharedArrayBuffer, queues: number, queue: number): void {
  const w = new Int32Array(shared);
  Atomics.store(w, queue, 0);
  w.fill(0, stateWords + queue * SLOTS, stateWords + (queue + 1) * SLOTS);
  // What waited for it is lost with it: the reader's place is moved to the writers'.
  for (let from = 0; from < queues; from++) {
    const way = stateWords + queues * SLOTS + (from * queues + queue) * wayWords;
    Atomics.store(w, way + TAIL, Atomics.load(w, way + HEAD));
  }
}

/** Called by who starts workers: how many paths a worker has. */
export function pathsHeld(shared: SharedArrayBuffer, queue: number): number {
  const w = new Int32Array(shared);
  let n = 0;
  for (let i = stateWords + queue * SLOTS, end = i + SLOTS; i < end; i++) n += w[i]!;
  return n;
}

/** One worker's view of the shared memory. */
export class SharedSteering implements Steering {
  readonly queue: number;
  readonly queues: number;
  readonly counters = { passed: 0, told: 0, full: 0, taken: 0, bells: 0 };
  receive: Steering['receive'];
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #ring: (queue: number) => void;
  readonly #info = new Int32Array(STEER_WORDS);
  readonly #telling = new Int32Array(STEER_WORDS);
  /** By card. */
  readonly #exchanges: FrameExchange[] = [];

  /** `bell`: makes worker `queue` call `take` soon. From now on this worker counts as running. */
  constructor(shared: SharedArrayBuffer, queue: number, queues: number, bell: (queue: number) => void) {
    if (shared.byteLength !== words(queues) * 4) throw new RangeError('memory for another number of queues');
    this.queue = queue;
    this.queues = queues;
    this.#words = new Int32Array(shared);
    this.#bytes = new Uint8Array(shared);
    this.#ring = bell;
    Atomics.store(this.#words, queue, 1);
  }

  #slot(queue: number, key: number): number {
    return stateWords + queue * SLOTS + (Math.imul(key, GOLDEN) >>> (32 - SLOT_BITS));
  }
  claim(key: number): void {
    Atomics.add(this.#words, this.#slot(this.queue, key), 1);
  }
  release(key: number): void {
    Atomics.sub(this.#words, this.#slot(this.queue, key), 1);
  }
  holder(key: number, asked: number): number {
    for (let q = 0; q < this.queues; q++)
      if (
        q !== this.queue &&
        (asked & (1 << q)) === 0 &&
        Atomics.load(this.#words, this.#slot(q, key)) > 0 &&
        this.#runs(q)
      )
        return q;
    return -1;
  }
  #runs(queue: number): boolean {
    return Atomics.load(this.#words, queue) === 1;
  }
  #way(from: number, to: number): number {
    return stateWords + this.queues * SLOTS + (from * this.queues + to) * wayWords;
  }

  pass(queue: number, u8: Uint8Array, off: number, len: number, info: Int32Array): boolean {
    const w = this.#words;
    const way = this.#way(this.queue, queue);
    const head = Atomics.load(w, way + HEAD);
    const tail = Atomics.load(w, way + TAIL);
    const need = RECORD + ((len + 3) >>> 2);
    // A record does not wrap: a length of -1 sends the reader to the ring's beginning.
    const at = (head >>> 0) % RING_WORDS;
    const skip = at + need > RING_WORDS ? RING_WORDS - at : 0;
    if (!this.#runs(queue) || ((head - tail) >>> 0) + skip + need > RING_WORDS) {
      this.counters.full++;
      return false;
    }
    const data = way + WAY_HEADER;
    if (skip > 0) w[data + at] = -1;
    const to = data + ((at + skip) % RING_WORDS);
    w[to] = len;
    for (let i = 0; i < STEER_WORDS; i++) w[to + 1 + i] = info[i]!;
    const bytes = this.#bytes;
    for (let i = 0, b = (to + RECORD) * 4; i < len; i++) bytes[b + i] = u8[off + i]!;
    Atomics.store(w, way + HEAD, (head + skip + need) | 0);
    if (info[0] !== 0) this.counters.passed++;
    // The reader was through with everything before: it may be asleep.
    if (Atomics.load(w, way + TAIL) === head) {
      this.counters.bells++;
      this.#ring(queue);
    }
    return true;
  }

  /** The way from a card of this worker to the same card of the others. */
  exchange(card: number): FrameExchange {
    const made: FrameExchange = { tell: (u8, off, len) => this.#tell(card, u8, off, len), hear: undefined };
    this.#exchanges[card] = made;
    return made;
  }
  #tell(card: number, u8: Uint8Array, off: number, len: number): void {
    this.#telling[1] = card;
    for (let q = 0; q < this.queues; q++) {
      if (q === this.queue || !this.#runs(q)) continue;
      if (this.pass(q, u8, off, len, this.#telling)) this.counters.told++;
    }
  }

  /** Takes what the others have passed here. Returns how many packets. */
  take(): number {
    let n = 0;
    for (let from = 0; from < this.queues; from++)
      if (from !== this.queue) n += this.#takeFrom(this.#way(from, this.queue));
    this.counters.taken += n;
    return n;
  }
  #takeFrom(way: number): number {
    const w = this.#words;
    const data = way + WAY_HEADER;
    let n = 0;
    // Bounded by the ring: what is written meanwhile rings again only when it found us through, so look until it is empty.
    for (;;) {
      const tail = Atomics.load(w, way + TAIL);
      if (Atomics.load(w, way + HEAD) === tail) return n;
      let at = (tail >>> 0) % RING_WORDS;
      let used = 0;
      if (w[data + at] === -1) {
        used = RING_WORDS - at;
        at = 0;
      }
      const record = data + at;
      const len = w[record]!;
      for (let i = 0; i < STEER_WORDS; i++) this.#info[i] = w[record + 1 + i]!;
      if (this.#info[0] !== 0) this.receive?.(this.#bytes, (record + RECORD) * 4, len, this.#info);
      else this.#exchanges[this.#info[1]!]?.hear?.(this.#bytes, (record + RECORD) * 4, len);
      Atomics.store(w, way + TAIL, (tail + used + RECORD + ((len + 3) >>> 2)) | 0);
      n++;
    }
  }

  /** This worker ends in good order: nothing is passed to it any more. */
  close(): void {
    Atomics.store(this.#words, this.queue, 0);
  }
}
