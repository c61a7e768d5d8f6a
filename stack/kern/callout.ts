/**
 * callout: timers of the stack, after BSD's callout(9), on a hierarchical timing wheel (Varghese and Lauck, SOSP 1987,
 * scheme 7). A Callout is made once, with the object that owns it; arming and stopping only relink it.
 *
 * Level k has 32 slots of 32^k ticks. A callout lies on the lowest level whose block of 32 slots also holds the wheel's
 * present tick, so everything on level k is due before anything on level k+1 and the earliest one is found from the
 * levels' occupancy words alone. Slots of level 0 are kept in order of deadline; deadlines are exact, never rounded.
 */

import type { Clock, Nanos } from './clock.js';
import { MSEC } from './clock.js';

const SLOT_BITS = 5;
const SLOTS = 1 << SLOT_BITS;
/** A slot of a higher level is searched for its exact earliest deadline up to this many entries. */
const EXACT_ENTRIES = 64;

/**
 * One timer. `fn` and what it is called with are fixed for life; everything else is the wheel's. Owners of many timers give
 * one function and themselves, as callout_reset(9) does, and so need no closure for each.
 */
export class Callout {
  readonly fn: (arg: never) => void;
  readonly arg: unknown;
  /** When it fires, while pending; else Infinity. */
  deadline: Nanos = Number.POSITIVE_INFINITY;

  // The wheel's own links: slot number (level * 32 + slot) or -1, neighbours in the slot, and order of arming.
  slot = -1;
  prev: Callout | undefined = undefined;
  next: Callout | undefined = undefined;
  serial = 0;

  constructor(fn: (arg: never) => void, arg: unknown = undefined) {
    this.fn = fn;
    this.arg = arg;
  }
  /** A timer that calls fn(arg). */
  static of<T>(fn: (arg: T) => void, arg: T): Callout {
    return new Callout(fn, arg);
  }
  get pending(): boolean {
    return this.slot >= 0;
  }
}

export class CalloutWheel {
  readonly #clock: Clock;
  readonly #tickLength: Nanos;
  readonly #levels: number;
  /** 32^-(k+1): a tick times this, floored, is the number of level k's block. A power of two, so exact. */
  readonly #block: Float64Array;
  readonly #head: (Callout | undefined)[];
  readonly #tail: (Callout | undefined)[];
  readonly #occupied: Int32Array; // one bit per slot
  #now = 0; // present tick
  #serial = 0;
  #pending = 0;
  #earliest: Nanos = Number.POSITIVE_INFINITY;
  #stale = false; // #earliest must be searched for

  constructor(clock: Clock, tick: Nanos = MSEC) {
    if (!(tick >= 1)) throw new RangeError('a callout wheel needs a tick of at least 1 ns');
    this.#clock = clock;
    this.#tickLength = tick;
    this.#levels = Math.ceil(Math.log2(2 ** 53 / tick) / SLOT_BITS);
    this.#block = Float64Array.from({ length: this.#levels }, (_, k) => 2 ** (-SLOT_BITS * (k + 1)));
    this.#head = new Array(this.#levels * SLOTS).fill(undefined);
    this.#tail = new Array(this.#levels * SLOTS).fill(undefined);
    this.#occupied = new Int32Array(this.#levels);
    this.#now = Math.floor(clock.now / tick);
  }

  /** Callouts armed now. */
  get pending(): number {
    return this.#pending;
  }

  /** (Re)arms c for clock.now + delay; a negative delay counts as 0 and Infinity stops it. It never fires early. */
  reset(c: Callout, delay: Nanos): void {
    if (Number.isNaN(delay)) throw new RangeError('callout delay is not a number');
    if (c.slot >= 0) this.#remove(c);
    if (delay === Number.POSITIVE_INFINITY) return;
    c.deadline = this.#clock.now + (delay > 0 ? delay : 0);
    c.serial = ++this.#serial;
    this.#pending++;
    this.#insert(c);
    if (c.deadline < this.#earliest) {
      this.#earliest = c.deadline;
      this.#stale = false;
    }
  }

  /** Stops c; stopping one that is not armed does nothing. */
  stop(c: Callout): void {
    if (c.slot >= 0) this.#remove(c);
  }

  /**
   * Fires everything due at clock.now, in order of deadline, then of arming. Returns how many fired. What is armed by a
   * callout during this run fires in a later run at the earliest, so a callout that re-arms itself with 0 cannot hang.
   */
  run(): number {
    const now = this.#clock.now;
    const last = Math.floor(now / this.#tickLength);
    if (this.deadline() > now) {
      this.#advance(last);
      return 0;
    }
    const limit = this.#serial;
    let fired = 0;
    for (;;) {
      const slot = this.#first();
      if (slot < 0) break;
      const level = slot >>> SLOT_BITS;
      if (level > 0) {
        const start = this.#start(level, slot & (SLOTS - 1));
        if (start > last) break;
        this.#now = start;
        this.#cascade(slot);
        continue;
      }
      const c = this.#head[slot]!;
      if (c.deadline > now || c.serial > limit) break;
      const tick = this.#start(0, slot & (SLOTS - 1));
      if (tick > this.#now) this.#now = tick;
      this.#remove(c);
      fired++;
      c.fn(c.arg as never);
    }
    this.#advance(last);
    this.#stale = true; // #earliest may have been a lower bound
    return fired;
  }

  /**
   * When run() next has something to fire; Infinity if nothing is armed. Exact, except when the earliest slot is a far
   * one with more than 64 entries: then the time at which that slot is spread over finer ones, which is never late.
   */
  deadline(): Nanos {
    if (!this.#stale) return this.#earliest;
    this.#stale = false;
    const slot = this.#first();
    if (slot < 0) return (this.#earliest = Number.POSITIVE_INFINITY);
    const level = slot >>> SLOT_BITS;
    if (level === 0) return (this.#earliest = this.#head[slot]!.deadline);
    let least = Number.POSITIVE_INFINITY;
    let n = 0;
    for (let c = this.#head[slot]; c !== undefined; c = c.next) {
      if (c.deadline < least) least = c.deadline;
      if (++n > EXACT_ENTRIES) return (this.#earliest = this.#start(level, slot & (SLOTS - 1)) * this.#tickLength);
    }
    return (this.#earliest = least);
  }

  /** First tick of a slot of the present block of its level. */
  #start(level: number, slot: number): number {
    const width = level === 0 ? 1 : 1 / this.#block[level - 1]!;
    return (Math.floor(this.#now * this.#block[level]!) * SLOTS + slot) * width;
  }

  /** The slot due first, or -1. All slots in use lie at or after the present one of their level. */
  #first(): number {
    for (let k = 0; k < this.#levels; k++) {
      const bits = this.#occupied[k]!;
      if (bits !== 0) return (k << SLOT_BITS) | (31 - Math.clz32(bits & -bits));
    }
    return -1;
  }

  /** Moves the present tick on, unless a slot that would then lie behind it is still in use. */
  #advance(tick: number): void {
    if (tick <= this.#now) return;
    const slot = this.#first();
    if (slot >= 0) {
      const level = slot >>> SLOT_BITS;
      const start = this.#start(level, slot & (SLOTS - 1));
      if (level === 0 ? start < tick : start <= tick) return;
    }
    this.#now = tick;
  }

  #insert(c: Callout): void {
    let tick = Math.floor(c.deadline / this.#tickLength);
    if (tick < this.#now) tick = this.#now;
    let level = 0;
    while (
      level < this.#levels - 1 &&
      Math.floor(tick * this.#block[level]!) !== Math.floor(this.#now * this.#block[level]!)
    )
      level++;
    const index = Math.floor(level === 0 ? tick : tick * this.#block[level - 1]!) % SLOTS;
    const slot = (level << SLOT_BITS) | index;
    c.slot = slot;
    this.#occupied[level]! |= 1 << index;
    // Only level 0 is ordered; new deadlines are mostly the latest, so look from the tail.
    let before = this.#tail[slot];
    if (level === 0)
      while (
        before !== undefined &&
        (before.deadline > c.deadline || (before.deadline === c.deadline && before.serial > c.serial))
      )
        before = before.prev;
    c.prev = before;
    c.next = before === undefined ? this.#head[slot] : before.next;
    if (c.next === undefined) this.#tail[slot] = c;
    else c.next.prev = c;
    if (before === undefined) this.#head[slot] = c;
    else before.next = c;
  }

  #unlink(c: Callout): void {
    const slot = c.slot;
    if (c.prev === undefined) this.#head[slot] = c.next;
    else c.prev.next = c.next;
    if (c.next === undefined) this.#tail[slot] = c.prev;
    else c.next.prev = c.prev;
    if (this.#head[slot] === undefined) this.#occupied[slot >>> SLOT_BITS]! &= ~(1 << (slot & (SLOTS - 1)));
    c.prev = undefined;
    c.next = undefined;
    c.slot = -1;
  }

  #remove(c: Callout): void {
    this.#unlink(c);
    this.#pending--;
    // Not only on equality: #earliest may be a lower bound taken from a crowded slot.
    if (c.deadline <= this.#earliest || this.#pending === 0) this.#stale = true;
    c.deadline = Number.POSITIVE_INFINITY;
  }

  /** Spreads a slot of a higher level over the levels below, now that its block is the present one. */
  #cascade(slot: number): void {
    let c = this.#head[slot];
    while (c !== undefined) {
      const next: Callout | undefined = c.next;
      this.#unlink(c);
      this.#insert(c);
      c = next;
    }
    this.#stale = true;
  }
}
