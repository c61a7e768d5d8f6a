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
