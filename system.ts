/** Time and chance of a live appliance: the machine's monotonic clock, and its random source. */

import { randomFillSync } from 'node:crypto';
import type { Nanos, Random } from './stack/kern/clock.js';

/** Nanoseconds of the machine's monotonic clock since this process began; exact for 104 days. */
export function systemNow(): Nanos {
  return Math.round(performance.now() * 1e6);
}

/**
 * The clock of a live appliance. While the loop is awake it stands, as the contract says: one reading a turn, the same for
 * all that the turn causes. While the loop sleeps a program may call a socket out of the blue, and the timers which that
 * call arms must count from the true time: then every reading looks at the machine's clock. Has the shape of Clock.
 */
export class LiveClock {
  #now = systemNow();
  asleep = false;

  get now(): Nanos {
    return this.asleep ? systemNow() : this.#now;
  }
  set now(at: Nanos) {
    this.#now = at;
  }
}

/**
 * A host's own time: that of the clock below it, less what the host has slept. While it sleeps its time stands still: nothing
 * falls due, and nothing has grown old when it wakes. Has the shape of Clock.
 */
export class HostClock {
  readonly #base: { now: Nanos };
  /** What has been slept so far; and the host's time at which it stands, -1 while it goes. */
  #slept: Nanos = 0;
  #stands: Nanos = -1;

  constructor(base: { now: Nanos }) {
    this.#base = base;
  }
  get now(): Nanos {
    return this.#stands >= 0 ? this.#stands : this.#base.now - this.#slept;
  }
  /** Whoever runs a turn says what time it is; that is the base's to know. */
  set now(at: Nanos) {
    if (this.#stands < 0) this.#base.now = at + this.#slept;
  }
  get asleep(): boolean {
    return this.#stands >= 0;
  }
  sleep(): void {
    if (this.#stands < 0) this.#stands = this.now;
  }
  /** Goes on. Returns how long it stood. */
  wake(): Nanos {
    if (this.#stands < 0) return 0;
    const slept = this.#base.now - this.#slept - this.#stands;
    this.#slept += slept;
    this.#stands = -1;
    return slept;
  }
  /** A moment of the host's time on the clock below; Infinity when it does not come before the host wakes. */
  below(at: Nanos): Nanos {
    if (this.#stands < 0) return at + this.#slept;
    return at <= this.#stands ? this.#base.now : Number.POSITIVE_INFINITY;
  }
}

/** The system's random source, a page at a time: no call of the system and no allocation per number. */
export class SystemRandom implements Random {
  readonly #words = new Uint32Array(1024);
  #next = this.#words.length;

  u32(): number {
    if (this.#next === this.#words.length) this.#refill();
    const word = this.#words[this.#next]!;
    // What has been handed out (it may be a tag or a key) does not stay in memory.
    this.#words[this.#next++] = 0;
    return word;
  }
  fill(out: Uint8Array): void {
    if (out.length > 64) {
      randomFillSync(out);
      return;
    }
    for (let i = 0; i < out.length; i += 4) {
      const w = this.u32();
      for (let j = 0; j < 4 && i + j < out.length; j++) out[i + j] = (w >>> (8 * j)) & 255;
    }
  }
  #refill(): void {
    randomFillSync(this.#words);
    this.#next = 0;
  }
}
